//! The seam between engine and user code.
//!
//! The engine sees only [`Executor`]: in-process Rust today, workers in other languages beside it.
//! Orchestrations and entity operations that are pure state run on the partition's thread;
//! activities are futures that run on the async runtime.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::action::TaskOptions;
use dalsegno_core::event::{Event, EventKind};
use dalsegno_core::message::Outcome;
use dalsegno_core::retry::RetryPolicy;
use dalsegno_core::span::SpanElsewhere;
use dalsegno_core::{
    Action, EntityId, ExecutionId, Failure, Fault, InstanceId, Payload, TaskId, Timestamp, TraceContext,
};
use futures::future::BoxFuture;
use hashbrown::HashMap;

use crate::explain::{AttemptElsewhere, Reason};
use crate::request::WorkerStatus;
use crate::task::TaskRecord;

/// What a new live execution is told about itself.
#[derive(Clone, Debug)]
pub struct ExecutionInfo {
    /// The instance.
    pub instance: InstanceId,
    /// Public name of the execution; seeds everything that must be the same in each replay.
    pub execution_id: ExecutionId,
    /// Orchestrator name.
    pub name: Arc<str>,
    /// Pinned version.
    pub version: Option<Arc<str>>,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
    /// The span that its code elsewhere tells of itself, as it said before.
    pub span: Option<SpanElsewhere>,
    /// Names and values given at its start.
    pub tags: Vec<(String, String)>,
    /// Most entities it may lock at once: the hub's `locked_entities_max`.
    pub locked_entities_max: usize,
}

/// Names one turn whose code runs elsewhere: its answer, and its withdrawal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TurnAddress {
    /// The instance.
    pub instance: InstanceId,
    /// Which of its partition's turns; never used twice in a process.
    pub number: u64,
}

/// Sends a turn to where its code runs. Called once all that the turn tells of is durable.
pub struct TurnSender(Box<dyn FnOnce() + Send>);

impl TurnSender {
    /// Sends by calling this.
    pub fn new(send: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(send))
    }

    /// Sends it.
    pub fn send(self) {
        (self.0)();
    }
}

impl fmt::Debug for TurnSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnSender")
    }
}

/// What code that runs elsewhere made of the turn it was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnAnswer {
    /// It ran.
    Ran {
        /// What it asks for.
        actions: Vec<Action>,
        /// After continue-as-new: events it has not taken, for the next execution.
        unread: Vec<EventKind>,
        /// How many of the new events it took, from the first; `None`: all.
        events_taken: Option<usize>,
        /// The span of the execution, if the code tells of its spans itself.
        span: Option<SpanElsewhere>,
    },
    /// It cannot run: parks the instance.
    Fault(Fault),
}

/// The user's orchestrator for one execution, alive between turns.
///
/// Dropping it is eviction: nothing may be emitted from there.
pub trait Execution: Send {
    /// Takes the events of past turns, with everything they led to, and checks the code against them.
    ///
    /// # Errors
    /// A fault when the code asks for something else than what is recorded.
    fn replay(&mut self, history: &[Event]) -> Result<(), Fault>;

    /// Takes the new events of one turn (the first is `OrchestratorStarted`) and returns what the code asks for.
    ///
    /// # Errors
    /// A fault when the code does not fit; the execution is then dropped.
    fn advance(&mut self, events: &[Event]) -> Result<Vec<Action>, Fault>;

    /// For code that runs elsewhere: what sends it the new events of one turn, instead of
    /// [`Execution::advance`]. Its [`TurnAnswer`] comes later, by [`TaskHub::end_turn`](crate::TaskHub::end_turn).
    fn send(&mut self, _turn: &TurnAddress, _events: &[Event]) -> Option<TurnSender> {
        None
    }

    /// For code that runs elsewhere: the turn is over, and this is all that it added to the history.
    fn record(&mut self, _events: &[Event]) {}

    /// External events that the code has not taken, as `EventRaised`, in order of arrival: what the
    /// next execution gets after continue-as-new.
    fn unconsumed_events(&self) -> Vec<EventKind> {
        Vec::new()
    }

    /// Names of the external events that the code waits for, in lower case and in order, each once.
    /// Asked after each turn, so it has to be cheap.
    fn awaited_events(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// What the code waits for, for people: filled when the status of an instance is explained.
    fn waits_for(&self) -> Vec<Reason> {
        Vec::new()
    }

    /// Memory it holds, in bytes, roughly; what the cache of live futures counts.
    fn size_bytes(&self) -> usize {
        1024
    }
}

impl fmt::Debug for dyn Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Execution")
    }
}

/// What the code that registered an activity wants for it.
#[derive(Clone, Debug, Default)]
pub struct ActivitySettings {
    /// One attempt takes no longer.
    pub timeout: Option<Duration>,
    /// Silence longer than this fails the attempt.
    pub heartbeat: Option<Duration>,
    /// Used unless the call says otherwise.
    pub retry: Option<RetryPolicy>,
    /// Name of the limiter, if any; its key comes from [`Executor::limiter_key`].
    pub limiter: Option<Arc<str>>,
    /// At most so many of this name at once in this process.
    pub concurrency_per_host: Option<usize>,
    /// It runs elsewhere: an attempt takes none of this host's slots.
    pub is_remote: bool,
}

/// One attempt of an activity.
#[derive(Clone, Debug)]
pub struct ActivityRequest {
    /// Who asked.
    pub instance: InstanceId,
    /// In which execution.
    pub execution_id: ExecutionId,
    /// As which task.
    pub task: TaskId,
    /// Activity name.
    pub name: Arc<str>,
    /// Input.
    pub input: Option<Payload>,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// What the attempt before reported last.
    pub last_heartbeat: Option<Payload>,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
    /// Tells the attempt that it should end.
    pub cancelled: Cancellation,
    /// Where it reports that it is alive.
    pub heartbeats: Heartbeats,
    /// How it is run, as asked for.
    pub options: TaskOptions,
    /// For who wants to know when the outcome is durable.
    pub receipt: Receipt,
}

impl ActivityRequest {
    /// The next attempt of a task.
    pub fn new(record: &TaskRecord, cancelled: Cancellation, heartbeats: Heartbeats) -> Self {
        Self {
            instance: record.instance.clone(),
            execution_id: record.execution_id,
            task: record.task,
            name: record.name.clone(),
            input: record.input.clone(),
            attempt: record.failed_attempts + 1,
            last_heartbeat: record.last_heartbeat.clone(),
            trace: record.trace.clone(),
            cancelled,
            heartbeats,
            options: record.options.clone(),
            receipt: Receipt::default(),
        }
    }

    /// The same in every attempt: `instance/execution/task`.
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}/{}", self.instance, self.execution_id, self.task)
    }
}

/// Why an attempt should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// The orchestration was terminated.
    Terminated,
    /// The orchestration was asked to end. The outcome of the attempt still counts.
    Requested,
    /// The attempt took longer than its limit.
    TimedOut,
    /// The host goes down.
    Shutdown,
}

/// Told to a running attempt; clones see the same.
#[derive(Clone, Debug)]
pub struct Cancellation(tokio::sync::watch::Receiver<Option<CancelReason>>);

/// The other end of [`Cancellation`].
#[derive(Debug)]
pub struct Canceller(tokio::sync::watch::Sender<Option<CancelReason>>);

/// A pair: who cancels, and who is told.
pub fn cancellation() -> (Canceller, Cancellation) {
    let (sender, receiver) = tokio::sync::watch::channel(None);
    (Canceller(sender), Cancellation(receiver))
}

impl Canceller {
    /// Tells the attempt to end.
    pub fn cancel(&self, reason: CancelReason) {
        self.0.send_replace(Some(reason));
    }
}

impl Cancellation {
    /// One that never comes.
    pub fn never() -> Self {
        Self(tokio::sync::watch::channel(None).1)
    }

    /// The reason, if it was told already.
    pub fn reason(&self) -> Option<CancelReason> {
        *self.0.borrow()
    }

    /// Waits until the attempt is told to end; for ever if that never happens.
    pub async fn wait(&mut self) -> CancelReason {
        loop {
            if let Some(reason) = *self.0.borrow_and_update() {
                return reason;
            }
            if self.0.changed().await.is_err() {
                futures::future::pending::<()>().await;
            }
        }
    }
}

/// Where an attempt reports; the engine looks at the last report and its time.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats(Arc<std::sync::Mutex<HeartbeatState>>);

/// What was reported last.
#[derive(Clone, Debug, Default)]
pub struct HeartbeatState {
    /// How many reports there were.
    pub count: u64,
    /// The last details.
    pub details: Option<Payload>,
}

impl Heartbeats {
    /// Reports that the attempt is alive, with details for the next attempt.
    pub fn report(&self, details: Option<Payload>) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.count += 1;
        state.details = details;
    }

    /// The last report.
    pub fn latest(&self) -> HeartbeatState {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

/// Who reports from elsewhere is answered when its report is durable, or wanted by nobody.
#[derive(Clone, Default)]
pub struct Receipt(Arc<std::sync::Mutex<Option<GiveReceipt>>>);

/// What gives a receipt to who waits for it.
type GiveReceipt = Box<dyn FnOnce() + Send>;

impl Receipt {
    /// Calls this, once, when the outcome is durable.
    pub fn request(&self, give: impl FnOnce() + Send + 'static) {
        *self.lock() = Some(Box::new(give));
    }

    /// The outcome is durable.
    pub fn give(&self) {
        let requested = self.lock().take();
        if let Some(give) = requested {
            give();
        }
    }

    /// Does somebody wait for it?
    pub fn is_requested(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<GiveReceipt>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptOutcome {
    /// It returned.
    Completed(Option<Payload>),
    /// It failed; `retry_after` delays the next attempt of this task only.
    Failed {
        failure: Failure,
        retry_after: Option<Duration>,
    },
    /// The service it calls is at its limit: lowers the shared bucket, burns no attempt.
    Limited { retry_after: Duration },
}

/// One operation for an entity.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationRequest {
    /// Operation name.
    pub operation: Arc<str>,
    /// Its input.
    pub input: Option<Payload>,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
}

/// What an operation asks of others. Entities only signal and start, they never wait.
#[derive(Clone, Debug, PartialEq)]
pub enum EntityEffect {
    /// Signal an entity, at once or at a time.
    Signal {
        entity: EntityId,
        operation: Arc<str>,
        input: Option<Payload>,
        at: Option<Timestamp>,
    },
    /// Start an orchestration.
    Start {
        name: Arc<str>,
        version: Option<Arc<str>>,
        instance: InstanceId,
        input: Option<Payload>,
    },
}

/// How one operation ended. A failed one leaves the state as it was and has no effects.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationOutcome {
    /// What the caller gets.
    pub outcome: Outcome,
    /// The state after it; `None` when the entity has none (deleted).
    pub state: Option<Payload>,
    /// What it asked of others.
    pub effects: Vec<EntityEffect>,
}

/// How operations of an entity ended that ran elsewhere.
#[derive(Debug, Default)]
pub struct OperationsEnded {
    /// Their outcomes, from the first; those behind them were not run, and come again.
    pub outcomes: Vec<OperationOutcome>,
    /// For who wants to know when the outcomes are durable.
    pub receipt: Receipt,
}

impl From<OperationOutcome> for OperationsEnded {
    fn from(outcome: OperationOutcome) -> Self {
        Self {
            outcomes: vec![outcome],
            receipt: Receipt::default(),
        }
    }
}

/// How an entity operation is to be run.
pub enum OperationRun {
    /// It is pure state: here is the outcome.
    Done(OperationOutcome),
    /// It does I/O: runs after the commit that queued it.
    Later(BoxFuture<'static, OperationOutcome>),
}

impl fmt::Debug for OperationRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(outcome) => f.debug_tuple("Done").field(outcome).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// User code, wherever it runs.
pub trait Executor: Send + Sync + fmt::Debug + 'static {
    /// A fresh execution of an orchestrator, or `None` when none of that name and version is here.
    fn execution(&self, info: &ExecutionInfo) -> Option<Box<dyn Execution>>;

    /// The version a start by name alone takes; `None` when the name is unknown or has no version.
    fn default_version(&self, orchestrator: &str) -> Option<Arc<str>>;

    /// Names of the orchestrators here, as registered.
    fn orchestrators(&self) -> Vec<Arc<str>>;

    /// The orchestrator that a client means: as written, else in any case.
    fn orchestrator_named(&self, name: &str) -> Option<Arc<str>> {
        let known = self.orchestrators();
        let exact = known.iter().find(|known| ***known == *name);
        let found = exact.or_else(|| {
            let lower = name.to_lowercase();
            known.iter().find(|known| known.to_lowercase() == lower)
        });
        found.cloned()
    }

    /// Does the code of this orchestrator run elsewhere? Then only what it has to see is sent there.
    fn is_remote(&self, _orchestrator: &str, _version: Option<&str>) -> bool {
        false
    }

    /// Do the operations of this entity run elsewhere?
    fn is_remote_entity(&self, _entity: &str) -> bool {
        false
    }

    /// Workers elsewhere that are connected now.
    fn workers(&self) -> Vec<WorkerStatus> {
        Vec::new()
    }

    /// Answers of workers elsewhere that came too late and were dropped.
    fn answers_dropped(&self) -> u64 {
        0
    }

    /// Gives no more work to workers of this name, which finish what they have; says how many those are.
    fn drain_worker(&self, _name: &str) -> usize {
        0
    }

    /// Why an activity that runs elsewhere is not at work, in words; `None` when there is nothing to say.
    fn explain_activity(&self, _name: &str) -> Option<String> {
        None
    }

    /// Where the attempts of an instance's activities are that run elsewhere.
    fn attempts_elsewhere(&self, _instance: &InstanceId) -> HashMap<TaskId, AttemptElsewhere> {
        HashMap::new()
    }

    /// A turn that was sent is wanted no more.
    fn withdraw(&self, _turn: &TurnAddress) {}

    /// Names of the activities here.
    fn activities(&self) -> Vec<Arc<str>>;

    /// Names of the entities here, lower case.
    fn entities(&self) -> Vec<Arc<str>>;

    /// How an activity wants to be run, or `None` when it is not here: then the task waits, visibly.
    fn activity_settings(&self, name: &str) -> Option<ActivitySettings>;

    /// The key of an activity's limiter bucket for an input; empty when it has one bucket only.
    fn limiter_key(&self, activity: &str, input: Option<&Payload>) -> Arc<str>;

    /// Runs one attempt. Dropping the future abandons it.
    fn run_activity(&self, request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome>;

    /// Runs one operation, or `None` when no such entity is here: then it waits, visibly.
    fn run_operation(
        &self,
        entity: &EntityId,
        state: Option<&Payload>,
        request: OperationRequest,
        now: Timestamp,
    ) -> Option<OperationRun>;

    /// Runs operations of an entity that is elsewhere, one after the other: `None` when it is here.
    fn run_operations(
        &self,
        _entity: &EntityId,
        _state: Option<&Payload>,
        _requests: Vec<OperationRequest>,
        _now: Timestamp,
    ) -> Option<BoxFuture<'static, OperationsEnded>> {
        None
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
