//! Jobs: one command given to all instances that a filter finds.
//!
//! A job walks the list page by page and goes on when its client has left, and after a restart of the
//! host: it is stored with its hub before it begins, after each page, and at its end. What is between two
//! pages when the host dies is met again. Most of it has then left the filter, which asks for the states
//! that the verb is for; a raised event and a restart carry a key of the job, so that a repeat does
//! nothing. Only what existed when it began is found, so a job that starts instances never meets its own.
//!
//! What is shown of a job is its last record that is durable, so nothing that a response shows is taken
//! back by a crash: neither the job, nor its counts, nor its end. A request to cancel is a record of its
//! own, since the walk writes the other one.
//!
//! A dry run changes nothing, so nothing of it is stored.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use dalsegno_core::query::{InstanceQuery, Status};
use dalsegno_core::store::InstanceRow;
use dalsegno_core::{InstanceId, TraceContext};
use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::NewId;
use dalsegno_engine::request::{Answer, RaisedEvent, RequestErrorKind, Scope as Family};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::instances::{cursor, cursor_text};
use super::operations::{
    OperationBody, OperationState as Progress, OperationVerb as Verb, OperationWire, RefusalWire,
};
use super::wire::{instant, payload};
use crate::http::problem::Problem;
use crate::http::purge::purge;
use crate::http::request::State;
use crate::http::time;
use crate::http::wire::to_json;

/// Jobs of a hub that run at once; one more is 429.
const RUNNING_MAX: usize = 4;
/// Jobs of a hub that are remembered; the oldest that has ended is forgotten.
const KEPT_MAX: usize = 100;
/// Instances that a job commands at once.
const AT_ONCE_MAX: usize = 32;
/// Rows that a job reads at once: a dry run, and one that commands, which is stored after each page.
const ROWS_LOOKED_AT: usize = 500;
const PAGE_ROWS: usize = 100;
/// Ids that a job shows, and refusals.
const EXAMPLES_MAX: usize = 5;
const REFUSALS_MAX: usize = 20;

/// How the records of jobs are named in a hub, and those of requests to cancel them.
const META: &str = "operation/";
const CANCEL_META: &str = "operation-cancel/";

/// Commands to many instances that run in a host, and the last that ran.
#[derive(Debug, Default)]
pub struct Operations {
    jobs: Mutex<VecDeque<Arc<Job>>>,
    /// Hubs whose stored jobs were taken up.
    taken_up: Mutex<BTreeSet<String>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Job {
    hub: TaskHub,
    id: String,
    /// How far it is, beyond what is stored.
    told: Mutex<OperationWire>,
    /// Its last record that is durable; none before the first.
    shown: Mutex<Option<OperationWire>>,
    body: OperationBody,
    query: InstanceQuery,
    is_canceled: watch::Sender<bool>,
}

/// What is stored of a job.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    told: OperationWire,
    body: OperationBody,
    /// What was created later is not meant.
    until: String,
    /// Where it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// The command that each instance gets.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    verb: Verb,
    reason: Option<String>,
    event: Option<RaisedEvent>,
    family: Family,
    /// The same in each of its repeats.
    key: String,
}

/// How a walk ended.
#[derive(Debug)]
enum Walked {
    Ended(Progress),
    /// The hub or the host goes down: it goes on after the next start.
    Interrupted,
}

impl Operations {
    /// Newest first.
    pub(super) fn all(&self, hub: &TaskHub) -> Vec<OperationWire> {
        let own = self.lock();
        let own = own.iter().rev().filter(|job| job.is_of(hub));
        own.filter_map(|job| job.shown()).collect()
    }

    pub(super) fn find(&self, hub: &TaskHub, id: &str) -> Result<Arc<Job>, Problem> {
        let jobs = self.lock();
        let mut own = jobs.iter().filter(|job| job.is_of(hub));
        let found = own.find(|job| job.id == id && job.shown().is_some());
        found.cloned().ok_or_else(|| {
            Problem::not_found().saying(format!(
                "there is no operation {id}: the last {KEPT_MAX} are kept, dry runs until the host ends"
            ))
        })
    }

    /// Stores a job and sets it going.
    pub(super) async fn begin(&self, state: &Arc<State>, job: Job, order: Order) -> Result<(), Problem> {
        let job = Arc::new(job);
        let surplus = self.add(&job)?;
        if let Err(error) = job.store(job.snapshot(), None).await {
            self.lock().retain(|kept| !Arc::ptr_eq(kept, &job));
            return Err(error.into());
        }
        if let Some(surplus) = surplus {
            surplus.forget().await;
            self.lock().retain(|kept| !Arc::ptr_eq(kept, &surplus));
        }
        spawn(state, job, order);
        Ok(())
    }

    /// Takes up what an earlier process stored, once for each hub; what had not ended goes on.
    pub(crate) fn take_up(&self, state: &Arc<State>, hub: &TaskHub) {
        if state.settings.is_read_only || !lock(&self.taken_up).insert(hub.name().to_owned()) {
            return;
        }
        let mut stored = Vec::new();
        for (name, data) in hub.metas(META) {
            match serde_json::from_slice::<Stored>(&data) {
                Ok(one) => stored.push(one),
                Err(error) => {
                    tracing::warn!(hub = hub.name(), %name, %error, "a stored operation cannot be read")
                }
            }
        }
        stored.sort_by(|a, b| a.told.started.cmp(&b.told.started));
        let canceled: BTreeSet<String> = hub.metas(CANCEL_META).into_iter().map(|(id, _)| id).collect();
        for one in stored {
            let is_running = one.told.state == Progress::Running;
            let id = one.told.id.clone();
            let Some(job) = Job::restored(hub, one) else {
                tracing::warn!(hub = hub.name(), id, "a stored operation cannot be read");
                continue;
            };
            let order = Order::new(&id, &job.body, None);
            if canceled.contains(&id) {
                job.is_canceled.send_replace(true);
            }
            let job = Arc::new(job);
            // What ran before goes on, however many there are.
            self.lock().push_back(Arc::clone(&job));
            if is_running {
                tracing::info!(hub = hub.name(), id, "an operation goes on");
                spawn(state, job, order);
            }
        }
    }

    /// Makes room for a job, and returns the one that is to be forgotten for it. Hubs share no room, so
    /// that the callers of one do not hold up those of another.
    fn add(&self, job: &Arc<Job>) -> Result<Option<Arc<Job>>, Problem> {
        let mut jobs = self.lock();
        // Those of a hub that was deleted are of none that is there, also when one of its name was made.
        jobs.retain(|kept| kept.hub.retired().is_none());
        let is_running = |job: &Arc<Job>| job.snapshot().state == Progress::Running;
        let own: Vec<&Arc<Job>> = jobs.iter().filter(|kept| kept.is_of(&job.hub)).collect();
        if own.iter().filter(|kept| is_running(kept)).count() >= RUNNING_MAX {
            return Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "busy",
                format!(
                    "{RUNNING_MAX} operations run in the task hub {} already: wait for one, or cancel it",
                    job.hub.name()
                ),
            ));
        }
        let surplus = own.iter().find(|kept| !is_running(kept));
        let surplus = surplus
            .filter(|_| own.len() >= KEPT_MAX)
            .map(|kept| Arc::clone(kept));
        jobs.push_back(Arc::clone(job));
        Ok(surplus)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        lock(&self.jobs)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(state: &Arc<State>, job: Arc<Job>, order: Order) {
    let state = Arc::clone(state);
    tokio::spawn(async move { job.run(&state, &order).await });
}

impl Job {
    /// One that has not begun, for what a query finds.
    pub(super) fn new(hub: &TaskHub, told: OperationWire, body: OperationBody, query: InstanceQuery) -> Self {
        let limit = match (body.dry_run, body.rate) {
            (true, _) => ROWS_LOOKED_AT,
            (false, None) => PAGE_ROWS,
            // What a second allows, so that it is stored often enough.
            (false, Some(rate)) => rate.in_a_second().clamp(1, PAGE_ROWS),
        };
        Self {
            hub: hub.clone(),
            id: told.id.clone(),
            told: Mutex::new(told),
            shown: Mutex::new(None),
            body,
            query: InstanceQuery { limit, ..query },
            is_canceled: watch::Sender::new(false),
        }
    }

    fn restored(hub: &TaskHub, stored: Stored) -> Option<Self> {
        let Stored {
            told,
            body,
            until,
            after,
        } = stored;
        let until = instant(&until).ok()?;
        let mut query = body.r#where.query(body.verb, until).ok()?;
        query.after = after.map(|after| cursor(&after)).transpose().ok()?;
        let job = Self::new(hub, told, body, query);
        *lock(&job.shown) = Some(job.snapshot());
        Some(job)
    }

    pub(super) fn verb(&self) -> Verb {
        self.body.verb
    }

    fn is_of(&self, hub: &TaskHub) -> bool {
        self.hub.name() == hub.name() && self.hub.retired().is_none()
    }

    fn snapshot(&self) -> OperationWire {
        lock(&self.told).clone()
    }

    /// What responses may show of it; `None` before it is stored.
    pub(super) fn shown(&self) -> Option<OperationWire> {
        lock(&self.shown).clone()
    }

    /// Ends it after the commands that are under way, also when the host crashes before.
    pub(super) async fn cancel(&self) -> Answer<()> {
        if !self.body.dry_run && self.snapshot().state == Progress::Running {
            let name = format!("{CANCEL_META}{}", self.id);
            self.hub.set_meta(&name, Some(b"true".to_vec())).await?;
        }
        self.is_canceled.send_replace(true);
        Ok(())
    }

    /// Deletes its records.
    async fn forget(&self) {
        for prefix in [CANCEL_META, META] {
            if let Err(error) = self.delete_meta(prefix).await {
                tracing::debug!(error = error.detail, "an operation is forgotten at another time");
            }
        }
    }

    async fn delete_meta(&self, prefix: &str) -> Answer<()> {
        let name = format!("{prefix}{}", self.id);
        match self.hub.meta(&name).await? {
            Some(_) => self.hub.set_meta(&name, None).await,
            None => Ok(()),
        }
    }

    fn tell(&self, change: impl FnOnce(&mut OperationWire)) {
        change(&mut lock(&self.told));
    }

    /// Writes the record, and shows it once it is durable.
    async fn store(&self, told: OperationWire, after: Option<String>) -> Answer<()> {
        if !self.body.dry_run {
            self.write(told.clone(), after).await?;
        }
        *lock(&self.shown) = Some(told);
        Ok(())
    }

    async fn write(&self, told: OperationWire, after: Option<String>) -> Answer<()> {
        let name = format!("{META}{}", self.id);
        let stored = Stored {
            told,
            body: self.body.clone(),
            until: time::exact(self.query.created_to.unwrap_or_else(|| self.hub.now())),
            after,
        };
        self.hub
            .set_meta(&name, Some(to_json(&stored).into_bytes()))
            .await
    }

    async fn run(&self, state: &State, order: &Order) {
        let (progress, problem) = match self.walk(state, order).await {
            Ok(Walked::Ended(progress)) => (progress, None),
            Ok(Walked::Interrupted) => return,
            Err(problem) => (Progress::Failed, Some(problem)),
        };
        let ended = OperationWire {
            state: progress,
            ended: Some(time::exact(self.hub.now())),
            problem,
            ..self.snapshot()
        };
        if let Err(error) = self.store(ended.clone(), None).await {
            tracing::debug!(
                error = error.detail,
                "the end of an operation is not stored: it ends again"
            );
            return;
        }
        self.tell(|told| *told = ended);
        // One that stays is deleted with the job.
        if let Err(error) = self.delete_meta(CANCEL_META).await {
            tracing::debug!(error = error.detail, "a request to cancel is deleted later");
        }
    }

    async fn walk(&self, state: &State, order: &Order) -> Result<Walked, String> {
        let mut query = self.query.clone();
        let pace = Pace::new(self.body.rate.map(|rate| rate.interval()));
        loop {
            let page = match self.hub.list(query.clone()).await {
                Err(error) if error.kind == RequestErrorKind::Unavailable => return Ok(Walked::Interrupted),
                page => page.map_err(|error| error.detail)?,
            };
            // Of those that run, only a parked one can be rewound.
            let fits = |row: &&InstanceRow| {
                order.verb != Verb::Rewind || row.status == Status::Failed || row.parked.is_some()
            };
            let found = page.rows.iter().filter(fits);
            let found: Vec<InstanceId> = found.map(|row| row.id.clone()).collect();
            self.note_found(&found);
            if !self.body.dry_run && !self.command_all(state, order, &pace, found).await {
                return Ok(Walked::Interrupted);
            }
            if *self.is_canceled.borrow() {
                return Ok(Walked::Ended(Progress::Canceled));
            }
            let Some(next) = page.next else {
                return Ok(Walked::Ended(Progress::Done));
            };
            let stored = self.store(self.snapshot(), Some(cursor_text(&next)));
            if *state.closing.borrow() || stored.await.is_err() {
                return Ok(Walked::Interrupted);
            }
            query.after = Some(next);
        }
    }

    fn note_found(&self, found: &[InstanceId]) {
        self.tell(|told| {
            told.matched += found.len() as u64;
            let room = EXAMPLES_MAX.saturating_sub(told.examples.len());
            told.examples
                .extend(found.iter().take(room).map(ToString::to_string));
        });
    }

    /// Whether all had their turn, or were not to have it.
    async fn command_all(&self, state: &State, order: &Order, pace: &Pace, found: Vec<InstanceId>) -> bool {
        let is_interrupted = std::sync::atomic::AtomicBool::new(false);
        let interrupt = || is_interrupted.store(true, std::sync::atomic::Ordering::Relaxed);
        futures::stream::iter(found)
            .for_each_concurrent(AT_ONCE_MAX, |id| {
                let interrupt = &interrupt;
                async move {
                    let mut canceled = self.is_canceled.subscribe();
                    let mut closing = state.closing.subscribe();
                    tokio::select! {
                        biased;
                        _ = canceled.wait_for(|is| *is) => return,
                        _ = closing.wait_for(|is| *is) => return interrupt(),
                        _ = self.hub.until_retired() => return interrupt(),
                        () = pace.turn() => {}
                    }
                    match order.give(&self.hub, &id).await {
                        Err(error) if error.kind == RequestErrorKind::Unavailable => interrupt(),
                        outcome => self.note_outcome(&id, outcome),
                    }
                }
            })
            .await;
        !is_interrupted.into_inner()
    }

    fn note_outcome(&self, id: &InstanceId, outcome: Answer<()>) {
        use RequestErrorKind as Kind;
        self.tell(|told| match outcome {
            Ok(()) => told.applied += 1,
            Err(error) => {
                match error.kind {
                    // It changed between the page and the command.
                    Kind::NotFound | Kind::Finished | Kind::WrongState | Kind::InstanceRunning => {
                        told.skipped += 1;
                    }
                    _ => told.failed += 1,
                }
                if told.refusals.len() < REFUSALS_MAX {
                    told.refusals.push(RefusalWire {
                        id: id.to_string(),
                        code: error.code.to_owned(),
                        detail: error.detail,
                    });
                }
            }
        });
    }
}

/// Lets one go after the other, none earlier than the interval after the one before.
#[derive(Debug)]
struct Pace {
    interval: Option<Duration>,
    next: Mutex<Instant>,
}

impl Pace {
    fn new(interval: Option<Duration>) -> Self {
        Self {
            interval,
            next: Mutex::new(Instant::now()),
        }
    }

    async fn turn(&self) {
        let Some(interval) = self.interval else { return };
        let own = place(&mut lock(&self.next), interval, Instant::now());
        tokio::time::sleep_until(own).await;
    }
}

/// When the next one goes. What was not used is not saved up.
fn place(next: &mut Instant, interval: Duration, now: Instant) -> Instant {
    let own = (*next).max(now);
    *next = own + interval;
    own
}

impl Order {
    /// What a body orders, in the name of a job.
    pub(super) fn new(job: &str, body: &OperationBody, trace: Option<TraceContext>) -> Self {
        let key = format!("{META}{job}");
        let event = body.event.as_ref().map(|name| RaisedEvent {
            name: name.clone(),
            input: payload(body.input.clone()),
            idempotency_key: Some(key.clone()),
            trace,
        });
        Self {
            verb: body.verb,
            reason: body.reason.clone(),
            event,
            family: match body.recursive {
                true => Family::Recursive,
                false => Family::Instance,
            },
            key,
        }
    }

    async fn give(&self, hub: &TaskHub, id: &InstanceId) -> Answer<()> {
        let reason = self.reason.clone();
        match self.verb {
            Verb::Terminate => hub.terminate(id, reason, self.family).await,
            Verb::Cancel => hub.cancel(id, reason).await,
            Verb::Suspend => hub.suspend(id, reason).await,
            Verb::Resume => hub.resume(id, reason).await,
            Verb::Rewind => hub.rewind(id, reason).await,
            Verb::Restart => {
                let key = format!("{}/{id}", self.key);
                hub.restart(id, NewId::OfKey(key)).await.map(drop)
            }
            Verb::Purge => purge(hub, id, self.family, false).await.map(drop),
            Verb::Raise => match &self.event {
                Some(event) => hub.raise_event(id, event.clone()).await,
                None => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_lets_one_go_after_the_other_and_saves_nothing_up() {
        let begun = Instant::now();
        let millis = Duration::from_millis;
        let mut next = begun;
        for (now, wanted) in [
            (0, 0),
            (1, 100),
            (1, 200),
            (150, 300),
            (5_000, 5_000),
            (5_001, 5_100),
        ] {
            let own = place(&mut next, millis(100), begun + millis(now));
            assert_eq!(own - begun, millis(wanted), "{now}");
        }
    }
}
