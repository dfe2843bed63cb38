//! What an orchestrator may ask for.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::event::{ChildLink, is_reserved_event_name};
use dalsegno_core::{
    Action, EntityId, ExecutionId, FaultKind, InstanceId, Payload, TaskId, Timestamp, TraceContext,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::cancel::Cancellation;
use crate::codec::encode;
use crate::compensation::{self, Compensations};
use crate::entity::{Entity, EntityCaller};
use crate::error::Result;
use crate::event::{EventTask, ExternalEvent};
use crate::guard::LockTask;
use crate::orchestrator::Orchestrator;
use crate::state::Shared;
use crate::task::{
    ActivityTask, ContinueAsNew, DetachedStart, EntityTask, OrchestrationTask, Timeout, Timer,
};
use crate::version::Version;

/// The world as an orchestrator sees it: everything here is the same in every replay.
///
/// Handed to the orchestrator by reference. Using it from another thread, task or execution panics.
pub struct OrchestrationContext {
    shared: Arc<Shared>,
}

/// What [`OrchestrationContext::call`] can call: an activity or an orchestrator.
pub trait Callable {
    /// What it takes.
    type Input: Serialize;
    /// What it gives.
    type Output: DeserializeOwned;
    /// The operation in progress.
    type Task: Future;

    /// Asks for it.
    #[doc(hidden)]
    #[track_caller]
    fn call(self, context: &OrchestrationContext, input: Self::Input) -> Self::Task;
}

impl OrchestrationContext {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs an activity or a sub-orchestration. It is asked for at once, also before it is awaited.
    #[track_caller]
    pub fn call<C: Callable>(&self, callee: fn() -> C, input: C::Input) -> C::Task {
        callee().call(self, input)
    }

    /// Runs an activity whose name is known only at run time.
    #[track_caller]
    pub fn call_named<Out: DeserializeOwned>(
        &self,
        name: impl Into<Arc<str>>,
        input: impl Serialize,
    ) -> ActivityTask<Out> {
        self.call_activity(name.into(), &input)
    }

    /// Runs an orchestration whose name is known only at run time; the highest version, unless said otherwise.
    #[track_caller]
    pub fn call_orchestrator_named<Out: DeserializeOwned>(
        &self,
        name: impl Into<Arc<str>>,
        input: impl Serialize,
    ) -> OrchestrationTask<Out> {
        self.call_orchestrator(name.into(), None, &input)
    }

    /// Starts another orchestration and does not wait for it.
    #[track_caller]
    pub fn start<In: Serialize, Out>(
        &self,
        orchestrator: fn() -> Orchestrator<In, Out>,
        input: In,
    ) -> DetachedStart {
        let orchestrator = orchestrator();
        self.start_detached(
            orchestrator.name().into(),
            orchestrator.version_text().map(Into::into),
            &input,
        )
    }

    /// Starts another orchestration, whose name is known only at run time, and does not wait for it.
    #[track_caller]
    pub fn start_named(&self, name: impl Into<Arc<str>>, input: impl Serialize) -> DetachedStart {
        self.start_detached(name.into(), None, &input)
    }

    /// A timer. Durable: it fires also when the host was down meanwhile. Dropping it cancels it.
    ///
    /// It is due at most 100 years ahead; a later one parks the instance.
    #[track_caller]
    pub fn timer(&self, after: Duration) -> Timer {
        Timer::schedule(&self.shared, |now| now + after)
    }

    /// A timer that fires at a time, at most 100 years ahead; a later one parks the instance.
    #[track_caller]
    pub fn timer_at(&self, at: Timestamp) -> Timer {
        Timer::schedule(&self.shared, |_| at)
    }

    /// Gives a future a durable time limit.
    #[track_caller]
    pub fn timeout<F: Future>(&self, limit: Duration, future: F) -> Timeout<F> {
        Timeout::new(future, self.timer(limit))
    }

    /// Waits for an external event; one that came before is taken at once.
    pub fn wait_for_event<T: DeserializeOwned>(&self, event: ExternalEvent<T>) -> EventTask<T> {
        EventTask::new(self.shared.clone(), event.name())
    }

    /// Waits until somebody asks this orchestration to end, and gives the reason.
    ///
    /// Who never looks is told by what it waits for: events, activities and children fail with
    /// [`is_cancelled`](crate::TaskError::is_cancelled), once, and everything asked for after that works as
    /// always. Whoever waits for this hears of it in the same turn; what it waited for besides is
    /// cancelled all the same. Carried over continue-as-new.
    pub fn cancelled(&self) -> Cancellation {
        Cancellation::new(&self.shared)
    }

    /// Was this orchestration asked to end? Who looks has been told.
    pub fn is_cancelled(&self) -> bool {
        self.shared.enter().hear_of_cancel().is_some()
    }

    /// Runs code that registers, after each step, what undoes it. When the code fails, or is to end because
    /// the orchestration was cancelled, everything is undone, newest first; then the error is given on.
    ///
    /// An undo that fails for good does not stop the older ones; the error is then of the kind
    /// `CompensationFailed` and tells both. A termination undoes nothing. While it undoes, the status says so.
    ///
    /// ```
    /// # use dalsegno::{OrchestrationContext, Result, activity, orchestrator};
    /// # #[activity] async fn charge(cents: u64) -> Result<String> { Ok(cents.to_string()) }
    /// # #[activity] async fn refund(payment: String) -> Result<()> { Ok(()) }
    /// # #[activity] async fn ship() -> Result<String> { Ok("parcel".into()) }
    /// #[orchestrator]
    /// async fn order(ctx: &OrchestrationContext, cents: u64) -> Result<String> {
    ///     ctx.compensating(|undo| async move {
    ///         let payment = ctx.call(charge, cents).await?;
    ///         undo.push(refund, payment);
    ///         Ok(ctx.call(ship, ()).await?)
    ///     })
    ///     .await
    /// }
    /// ```
    pub async fn compensating<T, F, Fut>(&self, body: F) -> Result<T>
    where
        F: FnOnce(Compensations) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        compensation::compensating(&self.shared, body).await
    }

    /// A stack of undos that you run yourself; [`OrchestrationContext::compensating`] cannot be forgotten.
    pub fn compensations(&self) -> Compensations {
        Compensations::new(&self.shared)
    }

    /// Sends an event to another instance. Parks the orchestration when `instance` is not an id, or when
    /// the name is reserved (`dalsegno.cancel`).
    #[track_caller]
    pub fn send_event<T: Serialize>(&self, instance: impl AsRef<str>, event: ExternalEvent<T>, data: T) {
        let instance = parse_id(instance.as_ref());
        if is_reserved_event_name(event.name()) {
            panic!("events named {} are reserved: use `cancel`", event.name());
        }
        let input = must_encode(&data, event.name());
        self.shared.emit(Location::caller(), |task, _| Action::SendEvent {
            task,
            instance,
            name: event.name().into(),
            input,
        });
    }

    /// An entity: its operations are methods.
    pub fn entity<E: Entity>(&self, key: impl AsRef<str>) -> E::Proxy<OrchestrationEntities> {
        let caller = OrchestrationEntities {
            shared: self.shared.clone(),
        };
        E::proxy(caller, parse_entity(E::NAME, key.as_ref()))
    }

    /// Calls an operation of an entity whose name is known only at run time.
    #[track_caller]
    pub fn call_entity_named<Out: DeserializeOwned>(
        &self,
        entity: EntityId,
        operation: &str,
        input: impl Serialize,
    ) -> EntityTask<Out> {
        let input = must_encode(&input, operation);
        EntityTask::schedule(&self.shared, entity, operation.into(), input)
    }

    /// Locks entities until the returned guard is dropped.
    ///
    /// They are taken one after the other, in the order of their ids, so two orchestrations cannot
    /// deadlock over them. Any end of the orchestration releases them; eviction from memory does not.
    ///
    /// # Limits
    /// At most `locked_entities_max` ids (default 32). A second lock while a guard lives is a fault.
    #[track_caller]
    pub fn lock(&self, entities: impl IntoIterator<Item = EntityId>) -> LockTask {
        LockTask::schedule(&self.shared, entities.into_iter().collect())
    }

    /// Ends this execution and begins the next one with a new input and an empty history.
    ///
    /// External events that nobody took go along; answers to this execution do not. Locks are released.
    #[track_caller]
    pub fn continue_as_new<In: Serialize, Out>(
        &self,
        orchestrator: fn() -> Orchestrator<In, Out>,
        input: In,
    ) -> ContinueAsNew<Out> {
        let orchestrator = orchestrator();
        if orchestrator.name() != &*self.shared.info.name {
            let message = format!(
                "{:?} continues as {:?} at {}: continue-as-new keeps the name; start the other one instead",
                &*self.shared.info.name,
                orchestrator.name(),
                Location::caller()
            );
            self.shared.fault(FaultKind::Diverged, message);
        }
        let input = must_encode(&input, orchestrator.name());
        let version = orchestrator.version_text().map(Into::into);
        self.shared
            .emit_plain(Location::caller(), Action::ContinueAsNew { version, input });
        let mut state = self.shared.lock();
        state.continued = true;
        state.closed = true;
        ContinueAsNew::new()
    }

    /// The time of this turn, the same in every replay. Does not move while the code runs.
    pub fn now(&self) -> Timestamp {
        self.shared.enter().now
    }

    /// A new UUID in its usual form, the same in every replay.
    pub fn new_uuid(&self) -> String {
        let number = self.shared.next_uuid();
        let namespace = Uuid::from_u128(self.shared.info.execution_id.0);
        Uuid::new_v5(&namespace, format!("uuid {number}").as_bytes()).to_string()
    }

    /// The instance that runs this code.
    pub fn instance_id(&self) -> &InstanceId {
        &self.shared.info.instance
    }

    /// The trace that it is part of, if whoever started it said so: the same in every replay and in
    /// every execution. Activities, children and events sent from here are part of it too.
    pub fn trace_context(&self) -> Option<&TraceContext> {
        self.shared.info.trace.as_ref()
    }

    /// The execution that runs this code; continue-as-new begins another one.
    pub fn execution_id(&self) -> ExecutionId {
        self.shared.info.execution_id
    }

    /// Does the code run through what was recorded before? For logs, never for decisions.
    pub fn is_replaying(&self) -> bool {
        self.shared.enter().replaying
    }

    /// The version this instance was started with.
    pub fn version(&self) -> Version {
        Version::new(self.shared.info.version.clone())
    }

    /// Shows how far it is. The last one of a turn is stored with the turn; it is not in history.
    #[track_caller]
    pub fn set_custom_status(&self, status: impl Serialize) {
        let status = must_encode(&status, "custom status");
        self.shared
            .emit_plain(Location::caller(), Action::SetCustomStatus { status });
    }

    #[track_caller]
    pub(crate) fn call_activity<Out>(&self, name: Arc<str>, input: &impl Serialize) -> ActivityTask<Out> {
        let input = must_encode(input, &name);
        ActivityTask::schedule(&self.shared, name, input)
    }

    #[track_caller]
    pub(crate) fn call_orchestrator<Out>(
        &self,
        name: Arc<str>,
        version: Option<Arc<str>>,
        input: &impl Serialize,
    ) -> OrchestrationTask<Out> {
        let input = must_encode(input, &name);
        self.call_orchestrator_at(name, version, input, Location::caller())
    }

    pub(crate) fn call_orchestrator_at<Out>(
        &self,
        name: Arc<str>,
        version: Option<Arc<str>>,
        input: Option<Payload>,
        location: &'static Location<'static>,
    ) -> OrchestrationTask<Out> {
        let start = |task| self.start_action(task, name.clone(), version, input, ChildLink::Awaited);
        OrchestrationTask::schedule_at(&self.shared, start, name.clone(), location)
    }

    #[track_caller]
    fn start_detached(
        &self,
        name: Arc<str>,
        version: Option<Arc<str>>,
        input: &impl Serialize,
    ) -> DetachedStart {
        let input = must_encode(input, &name);
        DetachedStart::emit(&self.shared, |task| {
            let action = self.start_action(task, name, version, input, ChildLink::Detached);
            (self.child_id(task), action)
        })
    }

    fn start_action(
        &self,
        task: TaskId,
        name: Arc<str>,
        version: Option<Arc<str>>,
        input: Option<Payload>,
        link: ChildLink,
    ) -> Action {
        Action::StartOrchestration {
            task,
            name,
            version,
            instance: self.child_id(task),
            input,
            link,
            options: Default::default(),
        }
    }

    /// Numbers restart with every execution, so the execution is part of a child's id.
    fn child_id(&self, task: TaskId) -> InstanceId {
        InstanceId::trusted(format!("{}-{}", self.shared.info.execution_id, task))
    }
}

impl fmt::Debug for OrchestrationContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OrchestrationContext of {}", self.shared.info.instance)
    }
}

/// Entities as an orchestrator reaches them: operations are tasks.
#[derive(Clone, Debug)]
pub struct OrchestrationEntities {
    shared: Arc<Shared>,
}

impl EntityCaller for OrchestrationEntities {
    type Call<Out> = EntityTask<Out>;

    #[track_caller]
    fn operation<Out>(
        &self,
        entity: &EntityId,
        operation: &'static str,
        input: &impl Serialize,
    ) -> EntityTask<Out> {
        let input = must_encode(input, operation);
        EntityTask::schedule(&self.shared, entity.clone(), operation.into(), input)
    }
}

/// A value that cannot be JSON is a mistake of the code, found at the first run.
#[track_caller]
pub(crate) fn must_encode<T: Serialize + ?Sized>(value: &T, what: &str) -> Option<Payload> {
    encode(value).unwrap_or_else(|error| panic!("the data for {what:?} cannot be written as JSON: {error}"))
}

#[track_caller]
fn parse_id(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap_or_else(|error| panic!("{text:?} is no instance id: {error}"))
}

#[track_caller]
pub(crate) fn parse_entity(name: &str, key: &str) -> EntityId {
    EntityId::new(name, key).unwrap_or_else(|error| panic!("{key:?} is no key of entity {name:?}: {error}"))
}
