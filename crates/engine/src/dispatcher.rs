//! Runs activities on the async runtime, as many at once as limits allow.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use dalsegno_core::limiter::LimiterRule;
use dalsegno_core::{ExecutionKey, Failure, InstanceId, PartitionId, Payload, TaskId};
use futures::FutureExt;
use hashbrown::HashMap;
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::attempt::{AttemptLimits, run_attempt};
use crate::executor::{
    ActivityRequest, ActivitySettings, AttemptOutcome, CancelReason, Canceller, Executor, Heartbeats,
    cancellation, panic_text,
};
use crate::input::{AttemptRun, Input, LimiterAsk};
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

/// Limiters that the hub has not and that are told of in the log.
const UNKNOWN_LIMITERS_TOLD_MAX: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub struct Dispatcher {
    /// The hub, in what attempts log.
    span: tracing::Span,
    runtime: Handle,
    executor: Arc<dyn Executor>,
    mailboxes: Arc<Mailboxes>,
    marks: Marks,
    rules: RwLock<HashMap<Arc<str>, LimiterRule>>,
    /// The limiters of activities that say nothing of it themselves.
    limited: RwLock<HashMap<Arc<str>, Arc<str>>>,
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
    waiting: VecDeque<Arc<TaskRecord>>,
    /// Instances that asked for an activity that nobody here has registered, so many as are told of.
    unregistered: BTreeSet<InstanceId>,
    /// Limiters that were asked for and that the hub has not: each is told of once.
    unknown_limiters: Told,
    is_stopping: bool,
}

/// Names that were told of: so many at most, for they may come from data of users. Those beyond are not
/// told of, since what would be told is the same.
#[derive(Debug, Default)]
struct Told(BTreeSet<Arc<str>>);

impl Told {
    fn is_first(&mut self, name: &Arc<str>) -> bool {
        self.0.len() < UNKNOWN_LIMITERS_TOLD_MAX && self.0.insert(name.clone())
    }
}

/// Where a task is that was dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In line for a slot of this host, behind so many.
    Waits { before: usize },
    /// An attempt runs.
    Runs,
}

#[derive(Debug)]
struct Active {
    canceller: Option<Canceller>,
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
            rules: RwLock::default(),
            limited: RwLock::default(),
            running_max: running_max.max(1),
            worker: worker_name().into(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a limiter allows.
    pub fn rule(&self, limiter: &str) -> Option<LimiterRule> {
        self.rules
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(limiter)
            .cloned()
    }

    /// All limiters the hub has.
    pub fn rules(&self) -> Vec<(Arc<str>, LimiterRule)> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules
            .iter()
            .map(|(name, rule)| (name.clone(), rule.clone()))
            .collect()
    }

    /// Sets what a limiter allows.
    pub fn set_rule(&self, limiter: Arc<str>, rule: LimiterRule) {
        self.rules
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(limiter, rule);
    }

    /// Lets an activity pass a limiter, whoever runs it.
    pub fn limit(&self, activity: Arc<str>, limiter: Arc<str>) {
        self.limited
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(activity, limiter);
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
        match self.limiter_ask(&settings, &record) {
            Some(ask) => self.send_to_limiter(&ask.clone(), Input::Acquire(ask)),
            None => self.run(record),
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
        let is_it = |record: &Arc<TaskRecord>| record.key == key && record.task == task;
        let before = state.waiting.iter().position(is_it)?;
        Some(Standing::Waits { before })
    }

    fn limiter_ask(&self, settings: &ActivitySettings, record: &Arc<TaskRecord>) -> Option<LimiterAsk> {
        let of_code = settings.limiter.clone();
        let is_of_code = of_code.is_some();
        let of_call = || record.options.limiter().map(Into::into);
        let limiter: Arc<str> = of_code
            .or_else(of_call)
            .or_else(|| self.limiter_of(&record.name))?;
        let Some(rule) = self.rule(&limiter) else {
            if self.lock().unknown_limiters.is_first(&limiter) {
                tracing::warn!(%limiter, activity = %record.name, "the hub has no limiter of this name; what asks for it runs without, which is not told again");
            }
            return None;
        };
        // On the committer's thread, which must outlive it: the attempt will tell of the panic.
        let key = || self.executor.limiter_key(&record.name, record.input.as_ref());
        let key = match is_of_code {
            true => std::panic::catch_unwind(std::panic::AssertUnwindSafe(key)).unwrap_or_default(),
            false => record.options.limiter_key().into(),
        };
        Some(LimiterAsk {
            limiter,
            key,
            rule,
            record: record.clone(),
        })
    }

    fn limiter_of(&self, activity: &str) -> Option<Arc<str>> {
        let limited = self.limited.read().unwrap_or_else(PoisonError::into_inner);
        limited.get(activity).cloned()
    }

    fn send_to_limiter(&self, ask: &LimiterAsk, input: Input) {
        self.mailboxes
            .send(self.limiter_partition(&ask.limiter, &ask.key), input);
    }

    /// The partition a bucket belongs to.
    pub fn limiter_partition(&self, limiter: &str, key: &str) -> PartitionId {
        PartitionId::of(&format!("{limiter}/{key}"), self.mailboxes.partitions())
    }

    /// A task that its limiter let go, or that has none: takes a slot or waits for one. What runs
    /// elsewhere needs none.
    pub fn run(self: &Arc<Self>, record: Arc<TaskRecord>) {
        let settings = self.executor.activity_settings(&record.name);
        let mut state = self.lock();
        if !state.active.contains_key(&(record.key, record.task)) || state.is_stopping {
            drop(state);
            return self.give_back(&record);
        }
        if let Some(settings) = settings.filter(|settings| settings.is_remote) {
            return self.spawn(&mut state, record, settings);
        }
        state.waiting.push_back(record);
        self.fill(&mut state);
    }

    /// Starts what may start, oldest first; a name at its limit does not hold up the others.
    fn fill(self: &Arc<Self>, state: &mut State) {
        let mut passed = 0;
        while state.running < self.running_max && passed < state.waiting.len() {
            let Some(record) = state.waiting.get(passed).cloned() else {
                return;
            };
            let Some(settings) = self.executor.activity_settings(&record.name) else {
                state.waiting.remove(passed);
                continue;
            };
            if is_suspect(&record) && state.is_suspect_running {
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
            state.is_suspect_running |= is_suspect(&record);
            state.running += 1;
            self.spawn(state, record, settings);
        }
    }

    fn spawn(self: &Arc<Self>, state: &mut State, record: Arc<TaskRecord>, settings: ActivitySettings) {
        let (canceller, cancelled) = cancellation();
        if let Some(active) = state.active.get_mut(&(record.key, record.task)) {
            active.canceller = Some(canceller);
        }
        let heartbeats = Heartbeats::default();
        let request = ActivityRequest::new(&record, cancelled.clone(), heartbeats.clone());
        let receipt = request.receipt.clone();
        let this = self.clone();
        let slot = self.marks.slot();
        let attempts = async move {
            // An attempt elsewhere does not end this process.
            if !settings.is_remote {
                slot.set(&Mark::Attempt(record.key, record.task));
            }
            let begin = Instant::now();
            let timeout = record.options.timeout.or(settings.timeout);
            let attempt = async { this.executor.run_activity(request).await };
            let attempt = std::panic::AssertUnwindSafe(attempt).catch_unwind();
            let attempt = attempt.map(|result| result.unwrap_or_else(|panic| panicked(panic.as_ref())));
            let limits = AttemptLimits {
                timeout,
                heartbeat: settings.heartbeat,
            };
            let outcome = run_attempt(attempt, &limits, &heartbeats, cancelled, || {
                this.cancel_running(&record)
            })
            .await;
            slot.clear();
            let run = AttemptRun {
                worker: this.worker.clone(),
                took: begin.elapsed(),
                receipt,
            };
            this.end(&record, &settings, outcome, heartbeats.latest().details, run);
        };
        self.runtime.spawn(attempts.instrument(self.span.clone()));
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
        record: &Arc<TaskRecord>,
        settings: &ActivitySettings,
        outcome: Option<AttemptOutcome>,
        heartbeat: Option<Payload>,
        run: AttemptRun,
    ) {
        let mut state = self.lock();
        if !settings.is_remote {
            state.running -= 1;
        }
        if is_suspect(record) && !settings.is_remote {
            state.is_suspect_running = false;
        }
        if settings.concurrency_per_host.is_some()
            && let Some(running) = state.running_by_name.get_mut(&record.name)
        {
            *running = running.saturating_sub(1);
        }
        let was_wanted = state.active.remove(&(record.key, record.task)).is_some();
        self.fill(&mut state);
        drop(state);
        match outcome {
            Some(outcome) if was_wanted => self.report(record, settings, outcome, heartbeat, run),
            _ => {
                run.receipt.give();
                self.give_back(record);
            }
        }
    }

    /// Tells the limiter and the instance how it went.
    fn report(
        &self,
        record: &Arc<TaskRecord>,
        settings: &ActivitySettings,
        outcome: AttemptOutcome,
        heartbeat: Option<Payload>,
        run: AttemptRun,
    ) {
        let ask = self.limiter_ask(settings, record);
        match (ask, outcome) {
            (Some(ask), AttemptOutcome::Limited { retry_after }) => {
                run.receipt.give();
                self.lock()
                    .active
                    .insert((record.key, record.task), Active { canceller: None });
                self.send_to_limiter(&ask.clone(), Input::Shut { ask, retry_after });
            }
            (ask, outcome) => {
                if let Some(ask) = ask {
                    self.give_back_to(&ask);
                }
                let partition = PartitionId::of(record.instance.as_str(), self.mailboxes.partitions());
                let input = Input::AttemptEnded {
                    record: record.clone(),
                    outcome,
                    heartbeat,
                    run,
                };
                self.mailboxes.send(partition, input);
            }
        }
    }

    fn give_back(&self, record: &Arc<TaskRecord>) {
        let settings = self.executor.activity_settings(&record.name);
        if let Some(ask) = settings.and_then(|settings| self.limiter_ask(&settings, record)) {
            self.give_back_to(&ask);
        }
    }

    fn give_back_to(&self, ask: &LimiterAsk) {
        let input = Input::GiveBack {
            limiter: ask.limiter.clone(),
            key: ask.key.clone(),
        };
        self.send_to_limiter(ask, input);
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
        let in_line = state
            .waiting
            .iter()
            .position(|record| (record.key, record.task) == (key, task));
        let withdrawn = in_line.and_then(|at| state.waiting.remove(at));
        drop(state);
        if let Some(record) = withdrawn {
            self.give_back(&record);
        }
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
        let in_line = state
            .waiting
            .iter()
            .position(|record| (record.key, record.task) == (key, task));
        let withdrawn = in_line.and_then(|at| state.waiting.remove(at));
        drop(state);
        if let Some(record) = withdrawn {
            self.give_back(&record);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each attempt wrote two warnings, for as long as the name was wrong.
    #[test]
    fn a_limiter_that_is_not_there_is_told_of_once() {
        let mut told = Told::default();
        let is_first: Vec<bool> = ["a", "a", "b", "a", "b"]
            .map(|name| told.is_first(&name.into()))
            .into();
        assert_eq!(is_first, [true, false, true, false, false]);
        let most = UNKNOWN_LIMITERS_TOLD_MAX;
        let more = (0..2 * most).filter(|number| told.is_first(&format!("{number}").into()));
        assert_eq!(more.count(), most - 2);
    }
}
