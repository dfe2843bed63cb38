//! What clients ask of a hub: checked at the edge, sent to a partition, answered when durable.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dalsegno_core::event::{CANCEL_EVENT, Event, is_reserved_event_name};
use dalsegno_core::limiter::LimiterRule;
use dalsegno_core::limits::{TOO_FAR_AHEAD, is_too_far_ahead};
use dalsegno_core::message::ReusePolicy;
use dalsegno_core::query::{EntityPage, EntityQuery, InstancePage, InstanceQuery, LargeValues, Status};
use dalsegno_core::store::{EntityRow, InstanceRow, ReadError, Store};
use dalsegno_core::{
    EntityId, EventKind, ExecutionKey, InstanceId, Message, PartitionId, Payload, TaskId, Timestamp, hash,
};
use tokio::sync::oneshot;

use super::runtime::{LIMITER_META, OFFERED_META, Runtime};
use super::{NewId, TaskHub, size_of};
use crate::executor::{TurnAddress, TurnAnswer};
use crate::input::{Command, EntityInMemory, IdOrigin, InMemory, Input, WaitFor};
use crate::loader;
use crate::noted::{self, Noted};
use crate::partition::{in_words, parked};
use crate::record;
use crate::request::{
    Answer, EntityQueue, InstanceStatus, LimiterChange, LimiterOffer, LimiterStatus, LivingHolder, Outline,
    PurgeQuery, Purged, RaisedEvent, RequestError, RequestErrorKind, Scope, Signal, StartOptions, Started,
    check_idempotency_key,
};
use crate::seen::Seen;
use crate::task::EventMark;
use crate::turn::Reply;
use crate::webhooks::{DeliveryStatus, WebhookSubscription};

/// Instances looked at in one step of a purge by filter.
const PURGE_PAGE: usize = 1_000;

/// Instances purged between two looks at the clock, by a purge whose time is limited.
const TIMED_PURGE_BATCH: usize = 100;

/// Children followed by a recursive purge, to guard against a circle.
const FAMILY_MAX: usize = 100_000;

/// Sends a command and waits for its answer.
pub(super) async fn ask<T: Send + 'static>(
    runtime: &Runtime,
    partition: PartitionId,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Answer<T> {
    let (sender, receiver) = oneshot::channel();
    let reply = Reply::new(move |answer| {
        // Whoever asked may have gone away; the answer is then nobody's.
        let _ = sender.send(answer);
    });
    runtime.send(partition, command(reply));
    receiver.await.unwrap_or_else(|_| Err(runtime.why_closed()))
}

impl Runtime {
    /// Why a question has no answer: for good, or until the next start.
    fn why_closed(&self) -> RequestError {
        match &*self.retired.borrow() {
            Some(reason) => RequestError::new(RequestErrorKind::NotFound, reason.to_string()),
            None => RequestError::new(
                RequestErrorKind::Unavailable,
                "the hub is going down: try again in a moment",
            ),
        }
    }
}

fn unread(error: &ReadError) -> RequestError {
    match error.is_damage() {
        true => RequestError::damaged(error.to_string()),
        false => RequestError::new(RequestErrorKind::Internal, error.to_string()),
    }
}

fn no_limiter(name: &str) -> RequestError {
    let detail = format!("the hub has no limiter \"{name}\"");
    RequestError::new(RequestErrorKind::NotFound, detail).about(name)
}

fn over_limit(detail: String) -> RequestError {
    RequestError::new(RequestErrorKind::OverLimit, detail)
}

fn invalid(detail: impl Into<String>) -> RequestError {
    RequestError::new(RequestErrorKind::Invalid, detail)
}

/// Refuses two bounds between which no time lies.
fn check_span(from: Option<Timestamp>, to: Option<Timestamp>) -> Answer<()> {
    match (from, to) {
        (Some(from), Some(to)) if from > to => Err(invalid(
            "created_from is after created_to: no time lies between them",
        )),
        _ => Ok(()),
    }
}

impl Runtime {
    pub(super) async fn barrier_all(&self) {
        let all = (0..self.mailboxes.partitions())
            .map(|partition| ask(self, PartitionId(partition), |reply| Command::Barrier { reply }));
        futures::future::join_all(all).await;
    }

    /// For what is new; commands that end or delete work go on when the disk is full.
    fn check_disk(&self) -> Answer<()> {
        self.disk_space.check(&*self.store, self.clock.now())
    }

    fn check_payload(&self, what: &str, payload: Option<&Payload>) -> Answer<()> {
        let (bytes, most) = (size_of(payload), self.limits.payload_bytes_max);
        if bytes > most {
            return Err(over_limit(format!(
                "{what} has {bytes} bytes, payload_bytes_max is {most}: store it elsewhere and pass a reference"
            )));
        }
        Ok(())
    }

    fn check_ahead(&self, what: &str, at: Option<Timestamp>) -> Answer<()> {
        match at.is_some_and(|at| is_too_far_ahead(at, self.clock.now())) {
            true => Err(invalid(format!("{what} {TOO_FAR_AHEAD}: choose an earlier time"))),
            false => Ok(()),
        }
    }

    fn check_name(&self, what: &str, name: &str) -> Answer<()> {
        let most = self.limits.name_bytes_max;
        if name.len() > most {
            return Err(over_limit(format!(
                "{what} has {} bytes, name_bytes_max is {most}",
                name.len()
            )));
        }
        Ok(())
    }

    /// Who starts something of a name that is not here is answered before anybody could say that
    /// nothing is called so.
    fn check_orchestrator(&self, name: &str) -> Answer<()> {
        self.check_name("the orchestrator's name", name)?;
        if name.chars().any(char::is_control) {
            let shown = name.escape_debug();
            return Err(invalid(format!(
                "the orchestrator's name \"{shown}\" has control characters"
            )));
        }
        Ok(())
    }

    fn check_key(&self, key: Option<&str>) -> Answer<()> {
        check_idempotency_key(key)?;
        key.map_or(Ok(()), |key| self.check_name("the idempotency key", key))
    }

    fn check_reason(&self, reason: Option<&String>) -> Answer<()> {
        let most = self.limits.reason_bytes_max;
        match reason {
            Some(reason) if reason.len() > most => Err(over_limit(format!(
                "the reason has {} bytes, reason_bytes_max is {most}",
                reason.len()
            ))),
            _ => Ok(()),
        }
    }

    fn check_webhook(&self, webhook: &WebhookSubscription) -> Answer<()> {
        self.check_name("the webhook's URL", &webhook.url)?;
        let refused = match &self.webhooks {
            Some(webhooks) => webhooks.check(webhook).err(),
            None => Some("this hub sends no webhooks".to_owned()),
        };
        refused.map_or(Ok(()), |reason| Err(invalid(format!("webhook: {reason}"))))
    }

    /// The registered name that the caller meant: as written, else in any case.
    fn orchestrator_named(&self, name: &str) -> Answer<Arc<str>> {
        self.executor.orchestrator_named(name).ok_or_else(|| {
            let known = self.executor.orchestrators();
            let names: Vec<&str> = known.iter().map(|known| &**known).collect();
            let detail = format!(
                "no orchestrator \"{name}\" is registered; known: {}",
                names.join(", ")
            );
            RequestError::new(RequestErrorKind::OrchestratorNotFound, detail)
        })
    }

    fn random_id(&self) -> InstanceId {
        let mut entropy = self.entropy.lock().unwrap_or_else(PoisonError::into_inner);
        InstanceId::trusted(format!("{:016x}{:016x}", entropy.next_u64(), entropy.next_u64()))
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, ReadError> + Send + 'static,
    ) -> Answer<T> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || read(&*store)).await;
        done.map_err(|_| self.why_closed())?
            .map_err(|error| match self.retired.borrow().is_some() {
                true => self.why_closed(),
                false => unread(&error),
            })
    }
}

impl TaskHub {
    /// Starts an orchestration.
    ///
    /// # Errors
    /// `OrchestratorNotFound`, `InstanceExists`, `IdempotencyConflict`, `OverLimit`, `InsufficientStorage`.
    pub async fn start(&self, mut options: StartOptions) -> Answer<Started> {
        let runtime = &self.runtime;
        if runtime.is_draining() {
            return Err(runtime.why_closed());
        }
        let name = runtime.orchestrator_named(&options.name)?;
        name.as_ref().clone_into(&mut options.name);
        // The protocol of workers says so that there is none.
        options.version = options.version.filter(|version| !version.is_empty());
        self.check_start(&options)?;
        runtime.check_disk()?;
        let (id, is_new_id) = match (options.id.take(), &options.idempotency_key) {
            (Some(id), _) => (id, IdOrigin::Given),
            (None, Some(key)) => (id_from_key(key), IdOrigin::Given),
            (None, None) => (runtime.random_id(), IdOrigin::Generated),
        };
        let partition = runtime.partition_of(id.as_str());
        let options = Box::new(options);
        ask(runtime, partition, |reply| Command::Start {
            id,
            is_new_id,
            options,
            reply,
        })
        .await
    }

    fn check_start(&self, options: &StartOptions) -> Answer<()> {
        let runtime = &self.runtime;
        runtime.check_orchestrator(&options.name)?;
        runtime.check_payload("the input", options.input.as_ref())?;
        runtime.check_key(options.idempotency_key.as_deref())?;
        if let Some(version) = &options.version {
            runtime.check_name("the version", version)?;
        }
        if let Some(webhook) = &options.webhook {
            runtime.check_webhook(webhook)?;
        }
        let most = runtime.limits.tags_max;
        if options.tags.len() > most {
            return Err(over_limit(format!(
                "{} tags were given, tags_max is {most}",
                options.tags.len()
            )));
        }
        for (name, value) in &options.tags {
            runtime.check_name("a tag's name", name)?;
            runtime.check_name("a tag's value", value)?;
        }
        runtime.check_ahead("the start is scheduled", options.scheduled_start)
    }

    /// Raises an external event. The instance must not be finished.
    ///
    /// # Errors
    /// `NotFound`, `Finished`, `Busy`, `OverLimit`, `EventIdReused`, `InsufficientStorage`.
    pub async fn raise_event(&self, id: &InstanceId, event: RaisedEvent) -> Answer<()> {
        if event.name.is_empty() {
            return Err(invalid(
                "the event has no name: name the event that the code waits for",
            ));
        }
        if is_reserved_event_name(&event.name) {
            return Err(invalid(format!(
                "events named {CANCEL_EVENT} are reserved: use the command cancel"
            )));
        }
        self.runtime.check_name("the event's name", &event.name)?;
        self.runtime.check_payload("the event", event.input.as_ref())?;
        self.runtime.check_key(event.idempotency_key.as_deref())?;
        self.runtime.check_disk()?;
        let mark = mark(&event);
        let message = Message::EventRaised {
            name: event.name.into(),
            input: event.input,
            trace: event.trace,
        };
        self.ask(id, |id, reply| Command::Raise {
            id,
            message,
            mark,
            reply,
        })
        .await
    }

    /// Takes what code that runs elsewhere made of a turn. `false`: nobody waits for it any more.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn end_turn(&self, turn: TurnAddress, answer: TurnAnswer) -> Answer<bool> {
        let (sender, receiver) = oneshot::channel();
        self.end_turn_then(turn, answer, move |answer| {
            // Whoever asked may have gone away; the answer is then nobody's.
            let _ = sender.send(answer);
        });
        receiver.await.unwrap_or_else(|_| Err(self.runtime.why_closed()))
    }

    /// The same for who does not wait: calls `tell` with what [`TaskHub::end_turn`] answers, on a
    /// thread of the hub, and drops it uncalled when the hub goes down first.
    pub fn end_turn_then(
        &self,
        turn: TurnAddress,
        answer: TurnAnswer,
        tell: impl FnOnce(Answer<bool>) + Send + 'static,
    ) {
        let partition = self.runtime.partition_of(turn.instance.as_str());
        let reply = Reply::new(tell);
        let input = Input::TurnEnded { turn, answer, reply };
        self.runtime.mailboxes.send(partition, input);
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        id: &InstanceId,
        command: impl FnOnce(InstanceId, Reply<T>) -> Command,
    ) -> Answer<T> {
        let partition = self.runtime.partition_of(id.as_str());
        ask(&self.runtime, partition, |reply| command(id.clone(), reply)).await
    }

    /// Ends an instance and cancels its activities.
    ///
    /// # Errors
    /// `NotFound`, `Finished`, `OverLimit`.
    pub async fn terminate(&self, id: &InstanceId, reason: Option<String>, scope: Scope) -> Answer<()> {
        self.runtime.check_reason(reason.as_ref())?;
        self.terminate_with(id, (reason, None), scope).await
    }

    /// The same with a value of the caller's as the output, instead of the reason as a string.
    ///
    /// # Errors
    /// As [`TaskHub::terminate`].
    pub async fn terminate_with_output(
        &self,
        id: &InstanceId,
        output: Option<Payload>,
        scope: Scope,
    ) -> Answer<()> {
        self.runtime.check_payload("the output", output.as_ref())?;
        self.terminate_with(id, (None, output), scope).await
    }

    async fn terminate_with(
        &self,
        id: &InstanceId,
        (reason, output): (Option<String>, Option<Payload>),
        scope: Scope,
    ) -> Answer<()> {
        let children = scope.parent_close();
        self.ask(id, |id, reply| Command::Terminate {
            id,
            reason,
            output,
            children,
            reply,
        })
        .await
    }

    /// Asks an instance to end by its own code. Its activities and, by their policy, its children are
    /// told too. Asking again changes nothing; one that has not begun ends at once.
    ///
    /// # Errors
    /// `NotFound`, `Finished`, `OverLimit`.
    pub async fn cancel(&self, id: &InstanceId, reason: Option<String>) -> Answer<()> {
        self.runtime.check_reason(reason.as_ref())?;
        self.ask(id, |id, reply| Command::Cancel { id, reason, reply })
            .await
    }

    /// Stops an instance from taking messages. Activities and their retries go on.
    ///
    /// # Errors
    /// `NotFound`, `Finished`, `WrongState`.
    pub async fn suspend(&self, id: &InstanceId, reason: Option<String>) -> Answer<()> {
        self.runtime.check_reason(reason.as_ref())?;
        self.ask(id, |id, reply| Command::Suspend { id, reason, reply })
            .await
    }

    /// Lets it take messages again, in the order they came.
    ///
    /// # Errors
    /// `NotFound`, `Finished`, `WrongState`.
    pub async fn resume(&self, id: &InstanceId, reason: Option<String>) -> Answer<()> {
        self.runtime.check_reason(reason.as_ref())?;
        self.ask(id, |id, reply| Command::Resume { id, reason, reply })
            .await
    }

    /// Sets a failed or parked instance going again.
    ///
    /// # Errors
    /// `NotFound`, `Finished` (completed or terminated), `WrongState` (it runs).
    pub async fn rewind(&self, id: &InstanceId, reason: Option<String>) -> Answer<()> {
        self.runtime.check_reason(reason.as_ref())?;
        self.ask(id, |id, reply| Command::Rewind { id, reason, reply })
            .await
    }

    /// Begins the next attempt now, of one activity or of all that wait for theirs. It counts like
    /// any other attempt.
    ///
    /// # Errors
    /// `NotFound`, `Finished`, `WrongState` when none waits for its next attempt.
    pub async fn retry_now(&self, id: &InstanceId, task: Option<TaskId>) -> Answer<()> {
        self.ask(id, |id, reply| Command::RetryNow { id, task, reply })
            .await
    }

    /// Starts a finished orchestration again: same name, input, version, tags and trace.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` when it is not finished.
    pub async fn restart(&self, id: &InstanceId, new_id: NewId) -> Answer<Started> {
        let status = self
            .status(id)
            .await?
            .ok_or_else(|| RequestError::not_found(id))?;
        let row = status.row;
        if !row.status.is_final() {
            let detail = format!(
                "instance {id} is {}: only a finished one can be restarted",
                row.status.as_str()
            );
            return Err(RequestError::new(RequestErrorKind::WrongState, detail).about(id));
        }
        let options = StartOptions {
            name: row.name.to_string(),
            version: row.version.as_ref().map(ToString::to_string),
            id: (new_id == NewId::Same).then(|| id.clone()),
            idempotency_key: match new_id {
                NewId::OfKey(key) => Some(key),
                NewId::Generated | NewId::Same => None,
            },
            input: row.input,
            tags: row.tags,
            reuse: ReusePolicy::RejectRunning,
            trace: status.trace,
            webhook: record::decode_extra(&row.extra).unwrap_or_default().webhook,
            ..StartOptions::default()
        };
        self.start(options).await
    }

    /// Deletes a finished instance; says how many went, children included.
    ///
    /// # Errors
    /// `NotFound`, `InstanceRunning`.
    pub async fn purge(&self, id: &InstanceId, scope: Scope) -> Answer<u64> {
        if scope == Scope::Instance {
            return self.purge_one(id, None).await.map(|()| 1);
        }
        let status = self.status_as_stored(id).await?;
        let row = status.ok_or_else(|| RequestError::not_found(id))?.row;
        self.purge_family(id, row.key).await
    }

    /// Deletes this execution of an instance, with all its children, if it is finished.
    ///
    /// # Errors
    /// As [`TaskHub::purge`]; `NotFound` when the instance has another execution by now.
    pub async fn purge_family(&self, id: &InstanceId, key: ExecutionKey) -> Answer<u64> {
        let mut family = vec![(id.clone(), key)];
        self.collect_children(&mut family).await?;
        self.purge_one(id, Some(key)).await?;
        let mut purged = 1;
        for (child, key) in family.iter().skip(1) {
            purged += u64::from(self.purge_one(child, Some(*key)).await.is_ok());
        }
        Ok(purged)
    }

    async fn purge_one(&self, id: &InstanceId, key: Option<ExecutionKey>) -> Answer<()> {
        self.ask(id, |id, reply| Command::Purge { id, key, reply }).await
    }

    /// Adds the children of all that are in it. An id in a history may by now be that of an instance
    /// which somebody else started: that one is no child.
    async fn collect_children(&self, family: &mut Vec<(InstanceId, ExecutionKey)>) -> Answer<()> {
        let mut next = 0;
        while next < family.len() && family.len() < FAMILY_MAX {
            let (id, key) = family[next].clone();
            next += 1;
            let Ok(history) = self.history_with(&id, LargeValues::LeaveOut).await else {
                continue;
            };
            // Children that had ended before a rewind have the execution before it as their parent.
            let is_rewound = |event: &Event| matches!(event.kind, EventKind::ExecutionRewound { .. });
            let was_rewound = history.iter().any(is_rewound);
            for event in history {
                let EventKind::SubOrchestrationInstanceCreated { task, instance, .. } = event.kind else {
                    continue;
                };
                let Some(child) = self.status_as_stored(&instance).await? else {
                    continue;
                };
                let is_child = child.row.parent.is_some_and(|parent| {
                    parent.instance == id && parent.task == task && (parent.execution == key || was_rewound)
                });
                if is_child && !family.iter().any(|(known, _)| *known == instance) {
                    family.push((instance, child.row.key));
                }
            }
        }
        Ok(())
    }

    /// Deletes finished instances by filter, in batches; says how many went. Dropping the future
    /// stops it between two batches.
    ///
    /// # Errors
    /// `Invalid` without a lower bound or with a status that is not final.
    pub async fn purge_many(&self, query: PurgeQuery) -> Answer<u64> {
        let purged = self.purge_matching(query, Scope::Instance, None).await?;
        Ok(purged.count)
    }

    /// The same with children, if they are to go too, and for a time: once it is over, no further batch
    /// begins. There is always a first one.
    ///
    /// # Errors
    /// As [`TaskHub::purge_many`].
    pub async fn purge_matching(
        &self,
        query: PurgeQuery,
        scope: Scope,
        time_max: Option<Duration>,
    ) -> Answer<Purged> {
        let end = time_max.map(|time| self.now() + time);
        if query.created_from.is_none() {
            return Err(invalid(
                "a purge needs created_from, so that nobody purges everything by omission",
            ));
        }
        check_span(query.created_from, query.created_to)?;
        if let Some(status) = query.statuses.iter().find(|status| !status.is_final()) {
            return Err(invalid(format!(
                "{} instances are not finished and cannot be purged",
                status.as_str()
            )));
        }
        let all = Status::ALL
            .into_iter()
            .filter(|status| status.is_final())
            .collect();
        let mut page = InstanceQuery {
            statuses: if query.statuses.is_empty() {
                all
            } else {
                query.statuses
            },
            created_from: query.created_from,
            created_to: Some(query.created_to.unwrap_or_else(|| self.now())),
            limit: PURGE_PAGE,
            large: LargeValues::LeaveOut,
            ..InstanceQuery::default()
        };
        let batch_rows = match (scope, end) {
            // A family may be large.
            (Scope::Recursive, _) => 1,
            (Scope::Instance, Some(_)) => TIMED_PURGE_BATCH,
            (Scope::Instance, None) => PURGE_PAGE,
        };
        let mut count = 0;
        loop {
            let found = self.list(page.clone()).await?;
            let mut batches = found.rows.chunks(batch_rows).peekable();
            while let Some(batch) = batches.next() {
                count += self.purge_batch(batch, scope).await?;
                let is_last = batches.peek().is_none() && found.next.is_none();
                if !is_last && end.is_some_and(|end| self.now() >= end) {
                    let is_complete = false;
                    return Ok(Purged { count, is_complete });
                }
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => {
                    let is_complete = true;
                    return Ok(Purged { count, is_complete });
                }
            }
        }
    }

    /// How many went. One that is gone or runs again counts as none.
    async fn purge_batch(&self, rows: &[InstanceRow], scope: Scope) -> Answer<u64> {
        if scope == Scope::Instance {
            let deletions = rows.iter().map(|row| self.purge_one(&row.id, Some(row.key)));
            let done = futures::future::join_all(deletions).await;
            return Ok(done.iter().filter(|answer| answer.is_ok()).count() as u64);
        }
        let mut count = 0;
        for row in rows {
            count += match self.purge_family(&row.id, row.key).await {
                Err(error)
                    if matches!(
                        error.kind,
                        RequestErrorKind::NotFound | RequestErrorKind::InstanceRunning
                    ) =>
                {
                    0
                }
                purged => purged?,
            };
        }
        Ok(count)
    }

    /// The status of an instance, if there is one.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn status(&self, id: &InstanceId) -> Answer<Option<InstanceStatus>> {
        self.status_with(id, LargeValues::Read).await
    }

    /// The same, with the values that are wanted. Others may be there too.
    ///
    /// # Errors
    /// As [`TaskHub::status`].
    pub async fn status_with(&self, id: &InstanceId, large: LargeValues) -> Answer<Option<InstanceStatus>> {
        match self.status_as_stored(id).await? {
            Some(status) => self.complete(status, large).await,
            None => Ok(None),
        }
    }

    /// Without the values that are stored apart and not in memory.
    async fn status_as_stored(&self, id: &InstanceId) -> Answer<Option<InstanceStatus>> {
        match self.ask(id, |id, reply| Command::Status { id, reply }).await? {
            InMemory::Resident(status) => Ok(Some(*status)),
            InMemory::Elsewhere => {
                let id = id.clone();
                let row = self.runtime.blocking(move |store| store.instance(&id)).await?;
                Ok(row.map(|row| {
                    let reasons = stored_reasons(&row);
                    InstanceStatus::new(row, reasons)
                }))
            }
        }
    }

    /// With the values that are wanted; `None` when the execution is gone meanwhile.
    async fn complete(
        &self,
        mut status: InstanceStatus,
        large: LargeValues,
    ) -> Answer<Option<InstanceStatus>> {
        if status.row.missing().next().is_none() {
            return Ok(Some(status));
        }
        self.runtime
            .blocking(move |store| {
                let is_there = loader::complete(store, &mut status.row, large)?;
                Ok(is_there.then_some(status))
            })
            .await
    }

    /// Waits until it is final: for the completion itself, without polling.
    ///
    /// # Errors
    /// `NotFound`; `TimedOut` when the time is over, the instance goes on; `Busy` when too many wait.
    pub async fn wait_for_completion(
        &self,
        id: &InstanceId,
        timeout: Option<Duration>,
    ) -> Answer<InstanceStatus> {
        self.wait(id, WaitFor::Completion, timeout).await
    }

    /// Waits until it has left Pending.
    ///
    /// # Errors
    /// As [`TaskHub::wait_for_completion`].
    pub async fn wait_for_start(&self, id: &InstanceId, timeout: Option<Duration>) -> Answer<InstanceStatus> {
        self.wait(id, WaitFor::Start, timeout).await
    }

    async fn wait(
        &self,
        id: &InstanceId,
        until: WaitFor,
        timeout: Option<Duration>,
    ) -> Answer<InstanceStatus> {
        let waiting = Waiting::new(self.runtime.clone(), id.clone())?;
        let ticket = waiting.ticket;
        let answer = self.ask(id, |id, reply| Command::Wait {
            id,
            until,
            ticket,
            reply,
        });
        let answered = match timeout {
            None => answer.await,
            Some(timeout) => tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| {
                let detail = format!(
                    "instance {id} has not got that far within {}; it goes on",
                    in_words(timeout)
                );
                Err(RequestError::new(RequestErrorKind::TimedOut, detail).about(id))
            }),
        };
        let status = answered?.ok_or_else(|| RequestError::not_found(id))?;
        let complete = self.complete(status, LargeValues::Read).await?;
        complete.ok_or_else(|| RequestError::not_found(id))
    }

    /// Waits until there is more of it than was seen, or it is final. Without its input, if that is
    /// stored apart.
    pub(super) async fn changed(&self, id: &InstanceId, seen: Seen) -> Answer<InstanceStatus> {
        let waiting = Waiting::new(self.runtime.clone(), id.clone())?;
        let ticket = waiting.ticket;
        let until = WaitFor::Change(seen);
        let answer = self.ask(id, |id, reply| Command::Wait {
            id,
            until,
            ticket,
            reply,
        });
        let status = answer.await?.ok_or_else(|| RequestError::not_found(id))?;
        let complete = self.complete(status, LargeValues::LeaveOutInputs).await?;
        complete.ok_or_else(|| RequestError::not_found(id))
    }

    /// The current execution's history.
    ///
    /// # Errors
    /// `NotFound`; `Internal` when the history cannot be read.
    pub async fn history(&self, id: &InstanceId) -> Answer<Vec<Event>> {
        self.history_with(id, LargeValues::Read).await
    }

    /// The current execution's history, with the values that are wanted: without the large ones
    /// they are not read.
    ///
    /// # Errors
    /// As [`TaskHub::history`].
    pub async fn history_with(&self, id: &InstanceId, large: LargeValues) -> Answer<Vec<Event>> {
        let status = self
            .status_as_stored(id)
            .await?
            .ok_or_else(|| RequestError::not_found(id))?;
        self.runtime
            .blocking(move |store| loader::read_history_with(store, &status.row, large))
            .await
    }

    /// The history without its large values, and length and hash of each, by the place of its event.
    /// None of them is read for it.
    ///
    /// # Errors
    /// As [`TaskHub::history`].
    pub async fn history_outline(&self, id: &InstanceId) -> Answer<Outline> {
        let status = self
            .status_as_stored(id)
            .await?
            .ok_or_else(|| RequestError::not_found(id))?;
        self.runtime
            .blocking(move |store| loader::read_outline(store, &status.row))
            .await
    }

    /// A page of instances, newest first. Sees every commit made before the call.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn list(&self, query: InstanceQuery) -> Answer<InstancePage> {
        self.runtime.barrier_all().await;
        let bytes_max = self.limits().page_bytes_max;
        let Some(noted) = self.noted(&query).await? else {
            return self
                .runtime
                .blocking(move |store| loader::list(store, &query, bytes_max))
                .await;
        };
        self.runtime
            .blocking(move |store| noted::list(store, query, &noted, bytes_max))
            .await
    }

    /// What of a query the hub looks at itself, if there is something of that kind.
    async fn noted(&self, query: &InstanceQuery) -> Answer<Option<Noted>> {
        let mut retrying = HashSet::new();
        if let Some(activity) = &query.failed_activity {
            for partition in 0..self.runtime.mailboxes.partitions() {
                let here = ask(&self.runtime, PartitionId(partition), |reply| Command::Retrying {
                    activity: activity.as_str().into(),
                    reply,
                });
                retrying.extend(here.await?);
            }
        }
        Ok(Noted::new(query, retrying))
    }

    /// How many instances are in each status.
    ///
    /// # Errors
    /// None at present.
    pub async fn counts(&self) -> Answer<Vec<(Status, u64)>> {
        self.runtime.barrier_all().await;
        Ok(self.runtime.counts.snapshot())
    }

    /// An entity's row, if it has state, a queue or a lock.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn entity(&self, id: &EntityId) -> Answer<Option<EntityRow>> {
        let partition = self.runtime.partition_of_entity(id);
        let entity = id.clone();
        match ask(&self.runtime, partition, |reply| Command::EntityRow {
            entity,
            reply,
        })
        .await?
        {
            EntityInMemory::Resident(row) => Ok(row.map(|row| *row)),
            EntityInMemory::Elsewhere => {
                let id = id.clone();
                self.runtime
                    .blocking(move |store| loader::read_entity(store, &id))
                    .await
            }
        }
    }

    /// What stands before an entity: operations that wait or run, and who wants its lock.
    ///
    /// # Errors
    /// `Unavailable` when the hub goes down.
    pub async fn entity_queue(&self, id: &EntityId) -> Answer<EntityQueue> {
        let partition = self.runtime.partition_of_entity(id);
        let entity = id.clone();
        ask(&self.runtime, partition, |reply| Command::EntityQueue {
            entity,
            reply,
        })
        .await
    }

    /// The row of an entity that has no state, as long as it has none.
    pub fn vacant_entity(&self, id: &EntityId) -> EntityRow {
        EntityRow::vacant(id.clone(), self.runtime.partition_of_entity(id))
    }

    /// A page of entities that have state.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn list_entities(&self, query: EntityQuery) -> Answer<EntityPage> {
        self.runtime.barrier_all().await;
        let bytes_max = self.limits().page_bytes_max;
        self.runtime
            .blocking(move |store| loader::list_entities(store, &query, bytes_max))
            .await
    }

    /// Signals an entity, at once or at a time.
    ///
    /// # Errors
    /// `EntityNotFound`, `OverLimit`, `InsufficientStorage`.
    pub async fn signal_entity(&self, id: &EntityId, signal: Signal) -> Answer<()> {
        let Signal {
            operation,
            input,
            at,
            trace,
        } = signal;
        self.check_entity(id)?;
        self.runtime.check_name("the operation's name", &operation)?;
        self.runtime.check_payload("the input", input.as_ref())?;
        self.runtime.check_ahead("the signal is scheduled", at)?;
        self.runtime.check_disk()?;
        let (entity, operation) = (id.clone(), Arc::from(operation));
        let partition = self.runtime.partition_of_entity(id);
        ask(&self.runtime, partition, |reply| Command::Signal {
            entity,
            operation,
            input,
            at,
            trace,
            reply,
        })
        .await
    }

    fn check_entity(&self, id: &EntityId) -> Answer<()> {
        let executor = &self.runtime.executor;
        let known = executor.entities();
        if executor.is_remote_entity(id.name()) || known.iter().any(|name| **name == *id.name()) {
            return Ok(());
        }
        let names: Vec<&str> = known.iter().map(|name| &**name).collect();
        let detail = format!(
            "no entity \"{}\" is registered; known: {}",
            id.name(),
            names.join(", ")
        );
        Err(RequestError::new(RequestErrorKind::EntityNotFound, detail).about(id))
    }

    /// Deletes an entity with its state; says whether it had any.
    ///
    /// # Errors
    /// `WrongState` while it is locked.
    pub async fn delete_entity(&self, id: &EntityId) -> Answer<bool> {
        let partition = self.runtime.partition_of_entity(id);
        let entity = id.clone();
        ask(&self.runtime, partition, |reply| Command::DeleteEntity {
            entity,
            reply,
        })
        .await
    }

    /// Frees an entity of a lock whose holder will not do so: it was purged, or ended without a
    /// release. Other entities of the same lock stay locked.
    ///
    /// # Errors
    /// `WrongState` when that instance does not hold it, or holds it and lives, unless it is to lose it.
    pub async fn unlock_entity(
        &self,
        id: &EntityId,
        holder: &InstanceId,
        living: LivingHolder,
    ) -> Answer<()> {
        let refused = |detail| RequestError::new(RequestErrorKind::WrongState, detail).about(id);
        let row = self.entity(id).await?;
        let held = row.and_then(|row| record::decode_holder(&row.queue).ok()?.0);
        let Some(held) = held else {
            return Err(refused(format!("entity {id} is not locked")));
        };
        if held.instance != *holder {
            let other = &held.instance;
            return Err(refused(format!(
                "entity {id} is locked by instance {other}, not by {holder}"
            )));
        }
        let status = self.status_with(holder, LargeValues::LeaveOut).await?;
        let lives = status.filter(|status| status.row.key == held.execution && !status.row.status.is_final());
        if let Some(status) = lives.filter(|_| living == LivingHolder::Keeps) {
            let state = status.row.status.as_str();
            return Err(refused(format!(
                "instance {holder} has the lock of {id} and is {state}: end it, or take the lock from it by force"
            )));
        }
        let partition = self.runtime.partition_of_entity(id);
        let entity = id.clone();
        ask(&self.runtime, partition, |reply| Command::UnlockEntity {
            entity,
            holder: Box::new(held),
            reply,
        })
        .await
    }

    /// All limiter buckets that were used, and the limiters that were not.
    ///
    /// # Errors
    /// None at present.
    pub async fn limiters(&self) -> Answer<Vec<LimiterStatus>> {
        let mut all = Vec::new();
        for partition in 0..self.runtime.mailboxes.partitions() {
            all.extend(
                ask(&self.runtime, PartitionId(partition), |reply| Command::Limiters {
                    reply,
                })
                .await?,
            );
        }
        for (name, rule) in self.runtime.dispatcher.limiters().rules() {
            if !all.iter().any(|status| status.name == name) {
                all.push(LimiterStatus {
                    name,
                    key: "".into(),
                    rate: rule.rate,
                    burst: rule.burst_tokens(),
                    concurrency: rule.concurrency,
                    tokens: f64::from(rule.burst_tokens()),
                    running: 0,
                    waiting: 0,
                    blocked_until: None,
                    next_grant: None,
                    waiters: Vec::new(),
                });
            }
        }
        all.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
        Ok(all)
    }

    /// Deliveries to webhooks that wait or were given up, oldest first.
    ///
    /// # Errors
    /// `Unavailable` when the hub goes down.
    pub async fn deliveries(&self) -> Answer<Vec<DeliveryStatus>> {
        let mut all = Vec::new();
        for partition in 0..self.runtime.mailboxes.partitions() {
            let of_partition = ask(&self.runtime, PartitionId(partition), |reply| {
                Command::Deliveries { reply }
            });
            all.extend(of_partition.await?);
        }
        all.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        Ok(all)
    }

    /// Changes what a limiter allows, at once and for good: the code's definition is then only
    /// where it was.
    ///
    /// # Errors
    /// `NotFound` when the hub has no limiter of that name; `Invalid` when it would limit nothing or all.
    pub async fn set_limiter(&self, name: &str, rule: LimiterRule) -> Answer<()> {
        if let Some(problem) = rule.problem() {
            return Err(invalid(format!("limiter {name}: {problem}")));
        }
        if self.runtime.dispatcher.limiters().rule(name).is_none() {
            return Err(no_limiter(name));
        }
        let data = record::encode_limiter_rule(&rule);
        self.set_meta(&format!("{LIMITER_META}{name}"), Some(data))
            .await?;
        self.change_rule(name, &rule);
        Ok(())
    }

    /// Changes some of what a limiter allows, as [`TaskHub::set_limiter`] does; what is not named stays.
    ///
    /// # Errors
    /// As [`TaskHub::set_limiter`]; `Invalid` for a burst where there is no rate.
    pub async fn change_limiter(&self, name: &str, change: LimiterChange) -> Answer<()> {
        let rule = self.runtime.dispatcher.limiters().rule(name);
        let rule = change.apply(&rule.ok_or_else(|| no_limiter(name))?);
        if rule.rate.is_none() && matches!(change.burst, Some(Some(_))) {
            return Err(invalid(format!(
                "limiter {name}: a burst is of a rate, and it has none: give the rate too"
            )));
        }
        self.set_limiter(name, rule).await
    }

    /// Takes limiters that the app of a worker defines, and stores them. One that an operator, the
    /// configuration or code of this process defines stays as it is. The names of those that differ
    /// from what was offered before are recorded by `record`, each before it is stored.
    ///
    /// # Errors
    /// `Invalid` when one would limit nothing or all; `Unavailable` when the hub closes.
    pub async fn offer_limiters(&self, offers: Vec<LimiterOffer>, record: impl Fn(&str)) -> Answer<()> {
        for offer in offers {
            if let Some(problem) = offer.rule.problem() {
                return Err(invalid(format!("limiter {}: {problem}", offer.name)));
            }
            self.offer_limiter(offer, &record).await?;
        }
        Ok(())
    }

    async fn offer_limiter(&self, offer: LimiterOffer, record: &impl Fn(&str)) -> Answer<()> {
        let name = format!("{OFFERED_META}{}", offer.name);
        let data = record::encode_limiter_offer(&offer);
        let known = self.meta(&name).await?;
        if known.as_ref() == Some(&data) {
            return Ok(());
        }
        let limiters = self.runtime.dispatcher.limiters();
        // What was offered before may be changed by who offers; all else is not the worker's.
        let is_open = match limiters.rule(&offer.name) {
            None => true,
            Some(rule) => {
                let before = known.map(|data| record::decode_limiter_offer(&offer.name, &data));
                matches!(before, Some(Ok(before)) if before.rule == rule)
            }
        };
        // Before it is stored: who offers may disconnect meanwhile.
        record(&offer.name);
        self.set_meta(&name, Some(data)).await?;
        for activity in &offer.activities {
            limiters.limit(activity.clone(), offer.name.clone());
        }
        if is_open {
            self.change_rule(&offer.name, &offer.rule);
        }
        Ok(())
    }

    fn change_rule(&self, name: &str, rule: &LimiterRule) {
        let limiter: Arc<str> = name.into();
        self.runtime
            .dispatcher
            .limiters()
            .set_rule(limiter.clone(), rule.clone());
        for partition in 0..self.runtime.mailboxes.partitions() {
            let input = Input::RuleChanged {
                limiter: limiter.clone(),
                rule: rule.clone(),
            };
            self.runtime.mailboxes.send(PartitionId(partition), input);
        }
    }

    /// A small record kept by name.
    ///
    /// # Errors
    /// None at present.
    #[expect(clippy::unused_async, reason = "other stores will have to ask")]
    pub async fn meta(&self, name: &str) -> Answer<Option<Vec<u8>>> {
        Ok(self
            .runtime
            .meta
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned())
    }

    /// All whose names begin so, with the rest of their names.
    pub fn metas(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let meta = self.runtime.meta.lock().unwrap_or_else(PoisonError::into_inner);
        let named = meta
            .iter()
            .filter_map(|(name, data)| Some((name.strip_prefix(prefix)?.to_owned(), data.clone())));
        named.collect()
    }

    /// Stores or removes it; durable when answered.
    ///
    /// # Errors
    /// `Unavailable` when the hub goes down.
    pub async fn set_meta(&self, name: &str, data: Option<Vec<u8>>) -> Answer<()> {
        let partition = self.runtime.partition_of(name);
        let (key, stored): (Arc<str>, _) = (name.into(), data.clone());
        ask(&self.runtime, partition, |reply| Command::SetMeta {
            name: key.clone(),
            data: stored,
            reply,
        })
        .await?;
        let mut meta = self.runtime.meta.lock().unwrap_or_else(PoisonError::into_inner);
        match data {
            Some(data) => meta.insert(key, data),
            None => meta.remove(&key),
        };
        Ok(())
    }
}

/// What a row alone tells about why its instance does not move.
fn stored_reasons(row: &dalsegno_core::store::InstanceRow) -> Vec<String> {
    let faults = row.parked.iter();
    faults.map(|fault| parked(row, fault).text).collect()
}

/// The same key gives the same id, so that a repeat meets its first start.
fn id_from_key(key: &str) -> InstanceId {
    InstanceId::trusted(format!("{:032x}", hash::wide(key)))
}

/// What an instance remembers of an event with a key.
fn mark(event: &RaisedEvent) -> Option<EventMark> {
    let key = event.idempotency_key.as_deref()?;
    let input = event.input.as_ref();
    // Without data is not the same as with an empty text, which is no JSON.
    let data = input.map_or("", Payload::as_str);
    Some(EventMark {
        key: hash::wide(key),
        fingerprint: hash::fingerprint(&[&event.name.to_lowercase(), data]),
    })
}

/// A client that waits; taken back when it hangs up.
struct Waiting {
    runtime: Arc<Runtime>,
    id: InstanceId,
    ticket: u64,
    waiters: Arc<AtomicU64>,
}

impl Waiting {
    fn new(runtime: Arc<Runtime>, id: InstanceId) -> Answer<Self> {
        let waiters = runtime.waiters.clone();
        let most = runtime.limits.waiters_max as u64;
        if waiters.fetch_add(1, Ordering::Relaxed) >= most {
            waiters.fetch_sub(1, Ordering::Relaxed);
            let detail = format!("{most} clients wait already, waiters_max is {most}: try again later");
            return Err(RequestError::new(RequestErrorKind::Busy, detail));
        }
        let ticket = runtime.tickets.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            runtime,
            id,
            ticket,
            waiters,
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        let partition = self.runtime.partition_of(self.id.as_str());
        self.runtime.send(
            partition,
            Command::StopWaiting {
                id: self.id.clone(),
                ticket: self.ticket,
            },
        );
    }
}
