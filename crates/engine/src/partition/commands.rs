//! What clients ask of an instance, answered against the state it is in when its turn comes.

use dalsegno_core::event::ParentClosePolicy;
use dalsegno_core::message::ReusePolicy;
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::query::Status;
use dalsegno_core::store::{InstanceRow, Op};
use dalsegno_core::{ExecutionKey, InstanceId, Message, Payload, TaskId, hash};

use super::Partition;
use super::slot::{Item, Slot, SlotState, Waiter};
use super::starts::delayed_start;
use crate::input::{Command, Explained, IdOrigin, InMemory, WaitFor};
use crate::record;
use crate::request::{Answer, InstanceStatus, RequestError, RequestErrorKind, StartOptions, Started};
use crate::task::{EventMark, RowExtra};
use crate::turn::{Effect, Reply, Turn};

impl Partition {
    /// Queues a command for its instance. What memory alone answers is answered here.
    pub(super) fn take_instance_command(&mut self, command: Command) {
        let id = match &command {
            Command::Start { id, .. }
            | Command::Raise { id, .. }
            | Command::Terminate { id, .. }
            | Command::Cancel { id, .. }
            | Command::Suspend { id, .. }
            | Command::Resume { id, .. }
            | Command::Rewind { id, .. }
            | Command::RetryNow { id, .. }
            | Command::Purge { id, .. }
            | Command::Status { id, .. }
            | Command::Explain { id, .. }
            | Command::Wait { id, .. } => id.clone(),
            _ => return,
        };
        match command {
            Command::Status { reply, .. } if !self.slots.contains_key(&id) => {
                self.answer_now(reply.with(Ok(InMemory::Elsewhere)));
            }
            Command::Start {
                is_new_id: IdOrigin::Generated,
                ..
            } if !self.slots.contains_key(&id) => {
                self.slots.insert(id.clone(), Slot::new(SlotState::Vacant));
                self.push_item(id, Item::Command(command));
            }
            command => self.push_item(id, Item::Command(command)),
        }
    }

    /// Carries out a command whose turn has come.
    pub(super) fn execute(&mut self, id: &InstanceId, command: Command) {
        match command {
            Command::Start { options, reply, .. } => self.start(id, &options, reply),
            Command::Status { reply, .. } => {
                let status = self
                    .status_of(id)
                    .map_or(InMemory::Elsewhere, |status| InMemory::Resident(Box::new(status)));
                self.answer_slot(id, reply.with(Ok(status)));
            }
            Command::Explain { reply, .. } => {
                let explained = self
                    .slots
                    .get(id)
                    .and_then(Slot::resident)
                    .map(|resident| Explained {
                        row: resident.orchestration.row.clone(),
                        reasons: self.explain(resident),
                        has_code: resident.live.is_some(),
                    });
                self.answer_slot(id, reply.with(Ok(explained)));
            }
            Command::Wait {
                until, ticket, reply, ..
            } => self.wait(id, Waiter { until, ticket, reply }),
            Command::Purge { key, reply, .. } => self.purge(id, key, reply),
            Command::Rewind { reason, reply, .. } => self.rewind(id, reason, reply),
            Command::RetryNow { task, reply, .. } => self.retry_now(id, task, reply),
            Command::Raise {
                message, mark, reply, ..
            } => self.raise(id, message, mark, reply),
            Command::Terminate {
                reason,
                output,
                children,
                reply,
                ..
            } => {
                let terminate = Message::Terminate {
                    reason,
                    output,
                    children,
                    parent: None,
                };
                self.message_unless_final(id, terminate, reply);
            }
            Command::Cancel { reason, reply, .. } => self.cancel(id, reason, reply),
            Command::Suspend { reason, reply, .. } => match self.living_status(id) {
                Ok(Status::Suspended) => {
                    self.answer_slot(id, reply.with(Err(wrong_state(id, "suspend", "Suspended"))))
                }
                _ => self.message_unless_final(id, Message::Suspend { reason }, reply),
            },
            Command::Resume { reason, reply, .. } => match self.living_status(id) {
                Ok(status) if status != Status::Suspended => {
                    self.answer_slot(id, reply.with(Err(wrong_state(id, "resume", status.as_str()))));
                }
                _ => self.message_unless_final(id, Message::Resume { reason }, reply),
            },
            _ => {}
        }
    }

    pub(super) fn answer_slot(&mut self, id: &InstanceId, answer: Effect) {
        let turn = Turn {
            effects: vec![answer],
            ..Turn::default()
        };
        self.commit_slot(id, turn);
    }

    pub(super) fn row(&self, id: &InstanceId) -> Option<&InstanceRow> {
        self.slots
            .get(id)
            .and_then(Slot::resident)
            .map(|resident| &resident.orchestration.row)
    }

    /// The status of an instance that commands may still reach.
    fn living_status(&self, id: &InstanceId) -> Answer<Status> {
        let Some(row) = self.row(id) else {
            return Err(RequestError::not_found(id));
        };
        if row.status.is_final() {
            return Err(finished(id, row.status));
        }
        Ok(row.status)
    }

    /// What waits for its next attempt is due now, and is so after a restart.
    fn retry_now(&mut self, id: &InstanceId, task: Option<TaskId>, reply: Reply<()>) {
        let ops = match self.living_status(id) {
            Ok(_) => self.make_retries_due(id, task),
            Err(error) => return self.answer_slot(id, reply.with(Err(error))),
        };
        let answer = match (ops.is_empty(), task) {
            (false, _) => Ok(()),
            (true, Some(task)) => Err(nothing_to_retry(id, &format!("task {task}"))),
            (true, None) => Err(nothing_to_retry(id, "no activity")),
        };
        let turn = Turn {
            ops,
            effects: vec![reply.with(answer)],
            ..Turn::default()
        };
        self.commit_slot(id, turn);
    }

    /// One request is enough: while one waits, another is answered and forgotten.
    fn cancel(&mut self, id: &InstanceId, reason: Option<String>, reply: Reply<()>) {
        let waits = self.slots.get(id).is_some_and(|slot| {
            let parent = slot
                .resident()
                .and_then(|resident| resident.orchestration.row.parent.as_ref());
            let is_cancel = |item: &Item| match item.as_message() {
                Some(message @ Message::Cancel { .. }) => message.is_for(parent),
                _ => false,
            };
            slot.held.iter().any(is_cancel)
        });
        match waits {
            true => self.answer_slot(id, reply.with(Ok(()))),
            false => {
                let cancel = Message::Cancel { reason, parent: None };
                self.message_unless_final(id, cancel, reply);
            }
        }
    }

    fn message_unless_final(&mut self, id: &InstanceId, message: Message, reply: Reply<()>) {
        match self.living_status(id) {
            Err(error) => self.answer_slot(id, reply.with(Err(error))),
            Ok(_) => self.queue_first(id, message, None, reply.with(Ok(()))),
        }
    }

    /// The command goes on as a message, answered when its turn is committed.
    fn queue_first(&mut self, id: &InstanceId, message: Message, mark: Option<EventMark>, answer: Effect) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.queue.push_front(Item::Message {
                sequence: None,
                message,
                answer: Some(answer),
                mark,
            });
        }
    }

    fn raise(&mut self, id: &InstanceId, message: Message, mark: Option<EventMark>, reply: Reply<()>) {
        if let Some(answer) = mark.and_then(|mark| self.answer_repeat(id, mark)) {
            return self.answer_slot(id, reply.with(answer));
        }
        let waiting = self.slots.get(id).map_or(0, |slot| slot.held.len());
        let most = self.config.limits.inbox_messages_max;
        if waiting >= most {
            let detail = format!(
                "{waiting} messages wait for instance {id}, inbox_messages_max is {most}: resume it, or try later"
            );
            let error = RequestError::new(RequestErrorKind::Busy, detail).about(id);
            return self.answer_slot(id, reply.with(Err(error)));
        }
        match self.living_status(id) {
            Err(error) => self.answer_slot(id, reply.with(Err(error))),
            Ok(_) => self.queue_first(id, message, mark, reply.with(Ok(()))),
        }
    }

    /// The first answer again for an event whose key the instance remembers, whatever became of the
    /// instance since; `None` for a key it does not know.
    fn answer_repeat(&self, id: &InstanceId, mark: EventMark) -> Option<Answer<()>> {
        let row = self.row(id).filter(|row| !row.extra.is_empty())?;
        let known = record::decode_extra(&row.extra).unwrap_or_default().events;
        let before = known.iter().find(|known| known.key == mark.key)?;
        Some(match before.fingerprint == mark.fingerprint {
            true => Ok(()),
            false => Err(event_id_reused(id)),
        })
    }

    fn start(&mut self, id: &InstanceId, options: &StartOptions, reply: Reply<Started>) {
        let extra = RowExtra {
            idempotency_key: options.idempotency_key.clone(),
            start_fingerprint: options
                .idempotency_key
                .as_ref()
                .map_or(0, |_| fingerprint(options)),
            trace: options.trace.clone(),
            webhook: options.webhook.clone(),
            ..RowExtra::default()
        };
        match self.start_conflict(id, options, &extra) {
            Some(answer) => self.answer_slot(id, reply.with(answer)),
            None => self.start_anew(id, options, &extra, reply),
        }
    }

    /// What stands in the way of a start: the answer, or `None` when it may go ahead.
    fn start_conflict(
        &self,
        id: &InstanceId,
        options: &StartOptions,
        extra: &RowExtra,
    ) -> Option<Answer<Started>> {
        let row = self.row(id)?;
        let existing = Started {
            id: id.clone(),
            existing: Some(row.status),
        };
        if options.idempotency_key.is_some() {
            let before = record::decode_extra(&row.extra).unwrap_or_default();
            if before.idempotency_key == extra.idempotency_key {
                let same = before.start_fingerprint == extra.start_fingerprint;
                return Some(if same { Ok(existing) } else { Err(other_data(id)) });
            }
        }
        let status = row.status;
        if options
            .replaceable
            .as_ref()
            .is_some_and(|listed| !listed.contains(&status))
        {
            return Some(Err(exists(id, status)));
        }
        match options.reuse {
            ReusePolicy::ReturnExisting => Some(Ok(existing)),
            ReusePolicy::Reject => Some(Err(exists(id, status))),
            ReusePolicy::RejectRunning | ReusePolicy::Replace if !status.is_final() => {
                Some(Err(exists(id, status)))
            }
            _ => None,
        }
    }

    fn start_anew(
        &mut self,
        id: &InstanceId,
        options: &StartOptions,
        extra: &RowExtra,
        reply: Reply<Started>,
    ) {
        let mut turn = Turn::default();
        if self.living_status(id).is_ok() {
            self.terminate_for_restart(id, &mut turn);
        }
        let row = self.client_row(id, options, extra);
        turn.effects.push(reply.with(Ok(Started {
            id: id.clone(),
            existing: None,
        })));
        self.create(id, row, turn);
    }

    /// Ends a living instance in the same commit that starts the next of its id.
    fn terminate_for_restart(&mut self, id: &InstanceId, turn: &mut Turn) {
        let reason = Some("replaced by a new start of the same id".to_owned());
        let terminate = Message::Terminate {
            reason,
            output: None,
            children: ParentClosePolicy::Abandon,
            parent: None,
        };
        let now = self.now;
        self.withdraw(id);
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let Some(resident) = slot.resident_mut() else {
            return;
        };
        let before = resident.orchestration.row.status;
        let delayed = delayed_start(&resident.orchestration.row);
        let draft = resident.orchestration.draft(std::iter::once(&terminate), now);
        let mut result = resident.orchestration.conclude(draft, Vec::new(), u64::MAX);
        let key = resident.orchestration.row.key;
        let after = resident.orchestration.row.status;
        self.forget_start(delayed, turn);
        self.write_tasks(id, key, &mut result, turn);
        self.note_trail(id, &result.events, true, turn);
        turn.moves.push((Some(before), Some(after)));
        for (target, message) in result.outgoing {
            if !planted::has(Bug::LocksKeptAtReplacement) {
                self.send(target, message, turn);
            }
        }
        self.drop_held(id, turn);
        self.answer_waiters(id, turn);
        self.notify(id, turn);
    }

    fn purge(&mut self, id: &InstanceId, key: Option<ExecutionKey>, reply: Reply<()>) {
        let answer = match self.row(id) {
            None => Err(RequestError::not_found(id)),
            Some(row) if key.is_some_and(|key| key != row.key) => Err(RequestError::not_found(id)),
            Some(row) if !row.status.is_final() => Err(running(id, row.status)),
            Some(row) => Ok((row.key, row.status)),
        };
        match answer {
            Err(error) => self.answer_slot(id, reply.with(Err(error))),
            Ok((key, status)) => {
                if let Some(slot) = self.slots.get_mut(id) {
                    slot.state = SlotState::Vacant;
                }
                self.keys.remove(&key);
                let deletion = Op::DeleteExecution { key, id: id.clone() };
                let turn = Turn {
                    ops: (!planted::has(Bug::PurgeNotStored))
                        .then_some(deletion)
                        .into_iter()
                        .collect(),
                    effects: vec![reply.with(Ok(()))],
                    moves: vec![(Some(status), None)],
                    ..Turn::default()
                };
                self.commit_slot(id, turn);
            }
        }
    }

    fn wait(&mut self, id: &InstanceId, waiter: Waiter) {
        match self.status_of(id) {
            None => self.answer_slot(id, waiter.reply.with(Ok(None))),
            Some(status) if is_reached(waiter.until, &status.row) => {
                self.answer_slot(id, waiter.reply.with(Ok(Some(status))));
            }
            Some(_) => self.waiters.entry(id.clone()).or_default().push(waiter),
        }
    }

    pub(super) fn stop_waiting(&mut self, id: &InstanceId, ticket: u64) {
        if let Some(waiters) = self.waiters.get_mut(id) {
            waiters.retain(|waiter| waiter.ticket != ticket);
            if waiters.is_empty() {
                self.waiters.remove(id);
            }
        }
    }

    /// Answers those who waited for what the instance has reached, with this turn's commit.
    pub(super) fn answer_waiters(&mut self, id: &InstanceId, turn: &mut Turn) {
        let Some(waiters) = self.waiters.get_mut(id) else {
            return;
        };
        let slot = self.slots.get(id);
        let row = slot
            .and_then(Slot::resident)
            .map(|resident| &resident.orchestration.row);
        let is_gone = slot.is_some_and(|slot| matches!(slot.state, SlotState::Vacant));
        if row.is_none() && !is_gone {
            return;
        }
        let reached: Vec<_> = waiters
            .extract_if(.., |waiter| row.is_none_or(|row| is_reached(waiter.until, row)))
            .collect();
        if waiters.is_empty() {
            self.waiters.remove(id);
        }
        if reached.is_empty() {
            return;
        }
        let status = self.status_of(id);
        turn.effects.extend(
            reached
                .into_iter()
                .map(|waiter| waiter.reply.with(Ok(status.clone()))),
        );
    }

    fn status_of(&self, id: &InstanceId) -> Option<InstanceStatus> {
        let resident = self.slots.get(id).and_then(Slot::resident)?;
        let reasons = self.explain(resident);
        let waits_for = reasons.into_iter().map(|reason| reason.text).collect();
        Some(InstanceStatus::new(resident.orchestration.row.clone(), waits_for))
    }
}

fn is_reached(until: WaitFor, row: &InstanceRow) -> bool {
    match until {
        WaitFor::Start => row.status != Status::Pending,
        WaitFor::Completion => row.status.is_final(),
        WaitFor::Change(seen) => row.status.is_final() || !seen.is_all_of(row),
    }
}

/// A hash over what a start says, to tell a repeat from other data.
fn fingerprint(options: &StartOptions) -> u64 {
    let input = options.input.as_ref().map_or("", Payload::as_str);
    let version = options.version.as_deref().unwrap_or("");
    let parts: [&str; 3] = [options.name.as_str(), version, input];
    hash::fingerprint(&parts)
}

fn finished(id: &InstanceId, status: Status) -> RequestError {
    let detail = format!(
        "instance {id} is {}: restart it, or start another",
        status.as_str()
    );
    RequestError::new(RequestErrorKind::Finished, detail).about(id)
}

fn exists(id: &InstanceId, status: Status) -> RequestError {
    let detail = format!(
        "instance {id} exists and is {}: take another id, terminate it, or say what to do with it",
        status.as_str()
    );
    RequestError::new(RequestErrorKind::InstanceExists, detail).about(id)
}

fn running(id: &InstanceId, status: Status) -> RequestError {
    let detail = format!(
        "instance {id} is {}: terminate it first, or purge with force",
        status.as_str()
    );
    RequestError::new(RequestErrorKind::InstanceRunning, detail).about(id)
}

fn event_id_reused(id: &InstanceId) -> RequestError {
    let detail = format!(
        "the idempotency key raised another event for instance {id}: take another key, or send the same name and data"
    );
    RequestError::new(RequestErrorKind::EventIdReused, detail).about(id)
}

fn other_data(id: &InstanceId) -> RequestError {
    let detail = format!("the idempotency key started instance {id} with other data: take another key");
    RequestError::new(RequestErrorKind::IdempotencyConflict, detail).about(id)
}

fn nothing_to_retry(id: &InstanceId, what: &str) -> RequestError {
    let what = match what.starts_with("no ") {
        true => format!("{what} of instance {id} waits"),
        false => format!("{what} of instance {id} does not wait"),
    };
    let detail = format!("{what} for a next attempt");
    RequestError::new(RequestErrorKind::WrongState, detail).about(id)
}

pub(super) fn wrong_state(id: &InstanceId, command: &str, status: &str) -> RequestError {
    let detail = format!("cannot {command} instance {id}: it is {status}");
    RequestError::new(RequestErrorKind::WrongState, detail).about(id)
}
