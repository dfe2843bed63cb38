//! Runs activities on the async runtime, as many at once as limits allow.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dalsegno_core::{ExecutionKey, Failure, InstanceId, PartitionId, Payload, TaskId};
use futures::FutureExt;
use hashbrown::HashMap;
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::attempt::{AttemptLimits, run_attempt};
use crate::executor::{
    ActivityRequest, ActivitySettings, AttemptOutcome, CancelReason, Cancellation, Canceller, Executor,
    Heartbeats, Receipt, cancellation, panic_text,
};
use crate::input::{AttemptRun, Input};
use crate::limiters::{Admitted, BucketName, Limiters};
use crate::mailbox::Mailboxes;
use crate::marks::{Mark, Marks};
use crate::task::TaskRecord;

/// So many deaths of the process while it ran make an activity suspected: the first ones may be
/// the fault of any that ran at the time.
const SUSPECT_KILLS: u32 = 3;

/// Characters of the host's name that histories keep.
const HOST_CHARS_MAX: usize = 64;

/// Instances remembered that asked for an activity that nobody here has registered.
const UNREGISTERED_TOLD_MAX: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub struct Dispatcher {
    /// The hub, in what attempts log.
    span: tracing::Span,
    runtime: Handle,
    executor: Arc<dyn Executor>,
    mailboxes: Arc<Mailboxes>,
    marks: Marks,
    limiters: Limiters,
    running_max: usize,
    /// How this process is named in histories.
    worker: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Asked for and not ended: running, in line here, or waiting for a limiter.
    active: HashMap<(ExecutionKey, TaskId), Active>,
    running: usize,
    running_by_name: HashMap<Arc<str>, usize>,
    /// One that is suspected of having killed the process runs.
    is_suspect_running: bool,
    /// Let go by their limiters, in line for a slot of this host.
    waiting: VecDeque<Admitted>,
    /// Instances that asked for an activity that nobody here has registered, so many as are told of.
    unregistered: BTreeSet<InstanceId>,
    is_stopping: bool,
}

/// Where a task is that was dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In line for a slot of this host, behind so many.
    Waits { before: usize },
    /// An attempt runs.
    Runs,
}

impl State {
    fn place_in_line(&self, key: ExecutionKey, task: TaskId) -> Option<usize> {
        let is_it = |admitted: &Admitted| (admitted.record.key, admitted.record.task) == (key, task);
        self.waiting.iter().position(is_it)
    }
}

#[derive(Debug)]
struct Active {
    canceller: Option<Canceller>,
}

/// Where an attempt runs, and who counts it.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// At a worker: it takes no slot.
    is_elsewhere: bool,
    /// Its name has a limit of its own here.
    is_counted: bool,
}

impl Place {
    fn of(settings: &ActivitySettings) -> Self {
        Self {
            is_elsewhere: settings.is_remote,
            is_counted: settings.concurrency_per_host.is_some(),
        }
    }
}

/// Host and process, as histories name who ran an attempt.
fn worker_name() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = told
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default();
    let host: String = host.trim().chars().take(HOST_CHARS_MAX).collect();
    let host = if host.is_empty() { "localhost" } else { &host };
    format!("{host}/{}", std::process::id())
}

impl Dispatcher {
    /// One that runs at most so many attempts at once.
    pub fn new(
        runtime: Handle,
        executor: Arc<dyn Executor>,
        mailboxes: Arc<Mailboxes>,
        marks: Marks,
        running_max: usize,
    ) -> Self {
        Self {
            span: tracing::Span::current(),
            runtime,
            executor,
            mailboxes,
            marks,
            limiters: Limiters::default(),
            running_max: running_max.max(1),
            worker: worker_name().into(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limiters of the hub.
    pub fn limiters(&self) -> &Limiters {
        &self.limiters
    }

    /// A task was asked for, or is due again: it goes to its limiter, or into the line.
    pub fn dispatch(self: &Arc<Self>, record: Arc<TaskRecord>) {
        let Some(settings) = self.executor.activity_settings(&record.name) else {
            tracing::warn!(activity = %record.name, instance_id = %record.instance, "nobody here has registered this activity; the task waits for a start that has");
            let mut state = self.lock();
            if state.unregistered.len() < UNREGISTERED_TOLD_MAX {
                state.unregistered.insert(record.instance.clone());
            }
            return;
        };
        self.lock()
            .active
            .insert((record.key, record.task), Active { canceller: None });
        match self.limiters.ask(&*self.executor, settings, &record) {
            Some(ask) => self.send_to_limiter(&ask.bucket.clone(), Input::Acquire(ask)),
            None => self.run(Admitted { record, bucket: None }),
        }
    }

    /// Instances that asked for an activity that nobody here has registered. Some may have ended since.
    pub fn unregistered(&self) -> Vec<InstanceId> {
        self.lock().unregistered.iter().cloned().collect()
    }

    /// Where a task is, if it is neither in a limiter's line nor elsewhere.
    pub fn standing(&self, key: ExecutionKey, task: TaskId) -> Option<Standing> {
        let state = self.lock();
        let active = state.active.get(&(key, task))?;
        if active.canceller.is_some() {
            return Some(Standing::Runs);
        }
        let before = state.place_in_line(key, task)?;
        Some(Standing::Waits { before })
    }

    fn send_to_limiter(&self, bucket: &BucketName, input: Input) {
        let partition = bucket.partition(self.mailboxes.partitions());
        self.mailboxes.send(partition, input);
    }

    /// A task that its limiter let go, or that has none: takes a slot or waits for one. What runs
    /// elsewhere needs none.
    pub fn run(self: &Arc<Self>, admitted: Admitted) {
        let record = &admitted.record;
        let settings = self.executor.activity_settings(&record.name);
        let mut state = self.lock();
        if !state.active.contains_key(&(record.key, record.task)) || state.is_stopping {
            drop(state);
            return self.give_back(admitted.bucket);
        }
        if let Some(settings) = settings.filter(|settings| settings.is_remote) {
            return self.spawn(&mut state, admitted, settings);
        }
        state.waiting.push_back(admitted);
        self.fill(&mut state);
    }

    /// Starts what may start, oldest first; a name at its limit does not hold up the others.
    fn fill(self: &Arc<Self>, state: &mut State) {
        let mut passed = 0;
        while state.running < self.running_max && passed < state.waiting.len() {
            let Some(admitted) = state.waiting.get(passed).cloned() else {
                return;
            };
            let record = &admitted.record;
            let Some(settings) = self.executor.activity_settings(&record.name) else {
                state.waiting.remove(passed);
                continue;
            };
            if is_suspect(record) && state.is_suspect_running {
                passed += 1;
                continue;
            }
            if let Some(most) = settings.concurrency_per_host {
                let running = state.running_by_name.entry(record.name.clone()).or_default();
                if *running >= most {
                    passed += 1;
                    continue;
                }
                *running += 1;
            }
            state.waiting.remove(passed);
            state.is_suspect_running |= is_suspect(record);
            state.running += 1;
            self.spawn(state, admitted, settings);
        }
    }

    fn spawn(self: &Arc<Self>, state: &mut State, admitted: Admitted, settings: ActivitySettings) {
        let Admitted { record, bucket } = admitted;
        let (canceller, cancelled) = cancellation();
        if let Some(active) = state.active.get_mut(&(record.key, record.task)) {
            active.canceller = Some(canceller);
        }
        let place = Place::of(&settings);
        let limits = AttemptLimits {
            timeout: record.options.timeout.or(settings.timeout),
            heartbeat: settings.heartbeat,
        };
        let this = self.clone();
        // An attempt elsewhere does not end this process.
        let slot = (!place.is_elsewhere).then(|| self.marks.slot());
        // It is as small as can be, for there may be very many attempts elsewhere.
        let attempts = async move {
            if let Some(slot) = &slot {
                slot.set(&Mark::Attempt(record.key, record.task));
            }
            let begin = Instant::now();
            let (heartbeats, receipt) = (Heartbeats::default(), Receipt::default());
            let attempt = this.attempt(&record, &cancelled, &heartbeats, &receipt);
            let attempt = std::panic::AssertUnwindSafe(attempt).catch_unwind();
            let attempt = attempt.map(|result| result.unwrap_or_else(|panic| panicked(panic.as_ref())));
            let tell_it = || this.cancel_running(&record);
            let outcome = run_attempt(attempt, &limits, &heartbeats, cancelled.clone(), tell_it).await;
            if let Some(slot) = &slot {
                slot.clear();
            }
            let run = AttemptRun {
                worker: this.worker.clone(),
                took: begin.elapsed(),
                receipt,
            };
            let admitted = Admitted { record, bucket };
            this.end(admitted, place, outcome, heartbeats.latest().details, run);
        };
        self.runtime.spawn(attempts.instrument(self.span.clone()));
    }

    async fn attempt(
        &self,
        record: &TaskRecord,
        cancelled: &Cancellation,
        heartbeats: &Heartbeats,
        receipt: &Receipt,
    ) -> AttemptOutcome {
        let running = {
            let request = ActivityRequest {
                receipt: receipt.clone(),
                ..ActivityRequest::new(record, cancelled.clone(), heartbeats.clone())
            };
            self.executor.run_activity(request)
        };
        running.await
    }

    /// Tells a running attempt that its time is over.
    fn cancel_running(&self, record: &TaskRecord) {
        if let Some(Active {
            canceller: Some(canceller),
        }) = self.lock().active.get(&(record.key, record.task))
        {
            canceller.cancel(CancelReason::TimedOut);
        }
    }

    fn end(
        self: &Arc<Self>,
        admitted: Admitted,
        place: Place,
        outcome: Option<AttemptOutcome>,
        heartbeat: Option<Payload>,
        run: AttemptRun,
    ) {
        let record = &admitted.record;
        let mut state = self.lock();
        if !place.is_elsewhere {
            state.running -= 1;
            state.is_suspect_running &= !is_suspect(record);
        }
        if place.is_counted
            && let Some(running) = state.running_by_name.get_mut(&record.name)
        {
            *running = running.saturating_sub(1);
        }
        let was_wanted = state.active.remove(&(record.key, record.task)).is_some();
        self.fill(&mut state);
        drop(state);
        match outcome {
            Some(outcome) if was_wanted => self.report(admitted, outcome, heartbeat, run),
            _ => {
                run.receipt.give();
                self.give_back(admitted.bucket);
            }
        }
    }

    /// Tells the limiter and the instance how it went.
    fn report(
        &self,
        admitted: Admitted,
        outcome: AttemptOutcome,
        heartbeat: Option<Payload>,
        run: AttemptRun,
    ) {
        let record = &admitted.record;
        if let AttemptOutcome::Limited { retry_after } = outcome
            && let Some(ask) = self.limiters.ask_again(&admitted)
        {
            run.receipt.give();
            self.lock()
                .active
                .insert((record.key, record.task), Active { canceller: None });
            return self.send_to_limiter(&ask.bucket.clone(), Input::Shut { ask, retry_after });
        }
        self.give_back(admitted.bucket);
        let partition = PartitionId::of(record.instance.as_str(), self.mailboxes.partitions());
        let input = Input::AttemptEnded {
            record: admitted.record,
            outcome,
            heartbeat,
            run,
        };
        self.mailboxes.send(partition, input);
    }

    fn give_back(&self, bucket: Option<BucketName>) {
        if let Some(bucket) = bucket {
            self.send_to_limiter(&bucket, Input::GiveBack(bucket.clone()));
        }
    }

    /// The orchestration was terminated: its task is not wanted any more. One that stood in line
    /// here gives back what its limiter let it have.
    pub fn cancel(&self, key: ExecutionKey, task: TaskId) {
        let mut state = self.lock();
        if let Some(Active {
            canceller: Some(canceller),
        }) = state.active.remove(&(key, task))
        {
            canceller.cancel(CancelReason::Terminated);
        }
        let withdrawn = state
            .place_in_line(key, task)
            .and_then(|at| state.waiting.remove(at));
        drop(state);
        self.give_back(withdrawn.and_then(|admitted| admitted.bucket));
    }

    /// The orchestration was asked to end. A running attempt is told, and its outcome counts; what
    /// does not run is withdrawn.
    pub fn tell(&self, instance: InstanceId, key: ExecutionKey, task: TaskId) {
        let mut state = self.lock();
        if let Some(Active {
            canceller: Some(canceller),
        }) = state.active.get(&(key, task))
        {
            return canceller.cancel(CancelReason::Requested);
        }
        state.active.remove(&(key, task));
        let withdrawn = state
            .place_in_line(key, task)
            .and_then(|at| state.waiting.remove(at));
        drop(state);
        self.give_back(withdrawn.and_then(|admitted| admitted.bucket));
        let partition = PartitionId::of(instance.as_str(), self.mailboxes.partitions());
        let input = Input::TaskWithdrawn { instance, key, task };
        self.mailboxes.send(partition, input);
    }

    /// How many attempts run now, and how many wait for a slot.
    pub fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running, state.waiting.len())
    }

    /// Starts nothing more. What has not begun is begun after the next start of the host.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_stopping = true;
        state.waiting.clear();
    }

    /// Tells all running attempts that the host goes down.
    pub fn cancel_all(&self) {
        for active in self.lock().active.values() {
            if let Some(canceller) = &active.canceller {
                canceller.cancel(CancelReason::Shutdown);
            }
        }
    }
}

/// Those that are suspected run one at a time: then the next death of the process tells which it was.
fn is_suspect(record: &TaskRecord) -> bool {
    record.kills >= SUSPECT_KILLS
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> AttemptOutcome {
    let failure = Failure::new("Panic", panic_text(panic));
    AttemptOutcome::Failed {
        failure,
        retry_after: None,
    }
}
