//! Entities: small pieces of state, addressed by name and key, one operation at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dalsegno_core::{EntityId, Failure, InstanceId, Payload, Timestamp, TraceContext};
use dalsegno_engine::executor::{EntityEffect, OperationOutcome, OperationRequest, OperationRun};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::activity::panicked;
use crate::codec::{decode, encode};
use crate::context::parse_entity;
use crate::error::{Error, Result};
use crate::orchestrator::Orchestrator;

/// The operation every entity has unless it defines one of that name: removes the state.
const DELETE: &str = "delete";

/// A type whose values are the states of entities. What `#[entity]` implements.
pub trait Entity: Sized {
    /// The entity's name, lower case.
    const NAME: &'static str;
    /// Its operations as methods, for whoever may call them.
    type Proxy<C: EntityCaller>;

    /// The proxy of one entity.
    fn proxy<C: EntityCaller>(caller: C, id: EntityId) -> Self::Proxy<C>;

    /// The operations.
    fn definition() -> EntityDefinition<Self>;
}

/// Somebody who reaches entities: an orchestrator calls, an entity signals, a client does either.
pub trait EntityCaller: Clone {
    /// An operation on its way, whose result has the type `Out`.
    type Call<Out>;

    /// Asks for an operation.
    #[doc(hidden)]
    #[track_caller]
    fn operation<Out>(
        &self,
        entity: &EntityId,
        operation: &'static str,
        input: &impl Serialize,
    ) -> Self::Call<Out>;
}

/// What all proxies have: whom they stand for.
#[derive(Clone, Debug)]
pub struct EntityProxy<C> {
    caller: C,
    id: EntityId,
}

impl<C: EntityCaller> EntityProxy<C> {
    /// A proxy.
    pub fn new(caller: C, id: EntityId) -> Self {
        Self { caller, id }
    }

    /// The entity.
    pub fn id(&self) -> EntityId {
        self.id.clone()
    }

    /// Who calls.
    pub(crate) fn caller(&self) -> &C {
        &self.caller
    }

    /// Asks for an operation.
    #[track_caller]
    pub fn call<Out>(&self, operation: &'static str, input: &impl Serialize) -> C::Call<Out> {
        self.caller.operation(&self.id, operation, input)
    }
}

type Now<S> = dyn Fn(&mut S, &EntityContext, Option<&Payload>) -> Result<Option<Payload>> + Send + Sync;
type Later<S> = dyn Fn(S, EntityContext, Option<Payload>) -> BoxFuture<'static, (S, Result<Option<Payload>>)>
    + Send
    + Sync;

enum Operation<S> {
    Now(Box<Now<S>>),
    Later(Box<Later<S>>),
}

/// The operations of an entity. A state that is not there yet is `Default`.
///
/// What `#[entity]` makes of an `impl` block. By hand:
///
/// ```
/// use dalsegno::EntityDefinition;
///
/// let counter = EntityDefinition::<u64>::new("counter")
///     .operation("add", |state, _ctx, amount: u64| {
///         *state += amount;
///         Ok(*state)
///     })
///     .operation("get", |state, _ctx, (): ()| Ok(*state));
/// assert_eq!(counter.name(), "counter");
/// ```
pub struct EntityDefinition<S> {
    name: String,
    operations: BTreeMap<String, Operation<S>>,
}

impl<S> EntityDefinition<S> {
    /// An entity without operations, but for `delete`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_lowercase(),
            operations: BTreeMap::new(),
        }
    }

    /// An operation that changes nothing but the state. Runs inside the turn.
    #[must_use]
    pub fn operation<In, Out, F>(mut self, name: &str, run: F) -> Self
    where
        In: DeserializeOwned,
        Out: Serialize,
        F: Fn(&mut S, &EntityContext, In) -> Result<Out> + Send + Sync + 'static,
    {
        let run = move |state: &mut S, context: &EntityContext, input: Option<&Payload>| {
            let input = decode::<In>(input).map_err(undecodable)?;
            encode(&run(state, context, input)?).map_err(Error::from)
        };
        let operation = Operation::Now(Box::new(run));
        self.operations.insert(name.to_lowercase(), operation);
        self
    }

    /// An operation that does I/O. Runs after the commit that queued it, at least once.
    #[must_use]
    pub fn async_operation<In, Out, F>(mut self, name: &str, run: F) -> Self
    where
        S: Send + 'static,
        In: DeserializeOwned,
        Out: Serialize + 'static,
        F: Fn(S, EntityContext, In) -> BoxFuture<'static, (S, Result<Out>)> + Send + Sync + 'static,
    {
        let run = move |state: S, context, input: Option<Payload>| -> BoxFuture<'static, _> {
            let input = match decode::<In>(input.as_ref()) {
                Ok(input) => input,
                Err(error) => return futures::future::ready((state, Err(undecodable(error)))).boxed(),
            };
            let future = run(state, context, input);
            let encoded = |output| encode(&output).map_err(Error::from);
            future
                .map(move |(state, result)| (state, result.and_then(encoded)))
                .boxed()
        };
        let operation = Operation::Later(Box::new(run));
        self.operations.insert(name.to_lowercase(), operation);
        self
    }

    /// The name, lower case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the operations, lower case.
    pub fn operations(&self) -> impl Iterator<Item = &str> {
        self.operations.keys().map(String::as_str)
    }
}

impl<S> fmt::Debug for EntityDefinition<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntityDefinition")
            .field("name", &self.name)
            .field("operations", &self.operations.keys())
            .finish()
    }
}

fn undecodable(error: serde_json::Error) -> Error {
    let text = format!("the operation cannot read its input: {error}");
    Error::from_failure(Failure::new("Decode", text).permanent())
}

/// What an entity's operation may ask for. Entities signal and start, they never wait.
#[derive(Clone, Debug)]
pub struct EntityContext {
    id: EntityId,
    now: Timestamp,
    trace: Option<TraceContext>,
    wishes: Arc<Mutex<Wishes>>,
}

#[derive(Debug, Default)]
struct Wishes {
    effects: Vec<EntityEffect>,
    delete: bool,
}

impl EntityContext {
    /// A context, also for unit tests of operations.
    pub fn new(id: EntityId, now: Timestamp) -> Self {
        Self {
            id,
            now,
            trace: None,
            wishes: Arc::default(),
        }
    }

    /// The same within a trace.
    pub(crate) fn traced(self, trace: Option<TraceContext>) -> Self {
        Self { trace, ..self }
    }

    /// The trace that the operation is part of, if its caller or sender said so. What it signals and
    /// starts is part of it too.
    pub fn trace_context(&self) -> Option<&TraceContext> {
        self.trace.as_ref()
    }

    /// The entity.
    pub fn id(&self) -> &EntityId {
        &self.id
    }

    /// The entity's key.
    pub fn key(&self) -> &str {
        self.id.key()
    }

    /// The time of the operation.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Removes the state when the operation ends well.
    pub fn delete(&self) {
        self.wishes().delete = true;
    }

    /// Another entity: its operations are signals.
    pub fn entity<E: Entity>(&self, key: impl AsRef<str>) -> E::Proxy<EntityContext> {
        E::proxy(self.clone(), parse_entity(E::NAME, key.as_ref()))
    }

    /// Signals an entity whose name is known only at run time.
    ///
    /// # Errors
    /// When the input cannot be written as JSON.
    pub fn signal_named(
        &self,
        entity: EntityId,
        operation: &str,
        input: impl Serialize,
    ) -> Result<EntitySignal> {
        let input = encode(&input)?;
        Ok(self.push_signal(entity, operation, input))
    }

    /// Starts an orchestration under a generated id, when the operation ends well.
    ///
    /// # Errors
    /// When the input cannot be written as JSON.
    pub fn start<In: Serialize, Out>(
        &self,
        orchestrator: fn() -> Orchestrator<In, Out>,
        input: In,
    ) -> Result<InstanceId> {
        let id = InstanceId::trusted(Uuid::new_v4().simple().to_string());
        self.start_as(id, orchestrator, input)
    }

    /// Starts an orchestration under this id, when the operation ends well.
    ///
    /// # Errors
    /// When the input cannot be written as JSON.
    pub fn start_as<In: Serialize, Out>(
        &self,
        instance: InstanceId,
        orchestrator: fn() -> Orchestrator<In, Out>,
        input: In,
    ) -> Result<InstanceId> {
        let orchestrator = orchestrator();
        self.wishes().effects.push(EntityEffect::Start {
            name: orchestrator.name().into(),
            version: orchestrator.version_text().map(Into::into),
            instance: instance.clone(),
            input: encode(&input)?,
        });
        Ok(instance)
    }

    /// What the operation asked of others so far.
    pub fn effects(&self) -> Vec<EntityEffect> {
        self.wishes().effects.clone()
    }

    fn push_signal(&self, entity: EntityId, operation: &str, input: Option<Payload>) -> EntitySignal {
        let mut wishes = self.wishes();
        wishes.effects.push(EntityEffect::Signal {
            entity,
            operation: operation.into(),
            input,
            at: None,
        });
        EntitySignal {
            context: self.clone(),
            index: wishes.effects.len() - 1,
        }
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What follows from an operation that ended: a failed one changes nothing.
    fn conclude(
        &self,
        before: Option<Payload>,
        state: impl Serialize,
        result: Result<Option<Payload>>,
    ) -> OperationOutcome {
        let wishes = std::mem::take(&mut *self.wishes());
        let ended = result.and_then(|result| {
            let state = if wishes.delete {
                None
            } else {
                encode(&state)?.or_else(null)
            };
            Ok((result, state))
        });
        match ended {
            Ok((result, state)) => OperationOutcome {
                outcome: Ok(result),
                state,
                effects: wishes.effects,
            },
            Err(error) => failed(error.into_failure(), before),
        }
    }
}

/// A state that is `null` is a state, not the lack of one.
fn null() -> Option<Payload> {
    Some(Payload::from("null"))
}

impl EntityCaller for EntityContext {
    type Call<Out> = EntitySignal;

    #[track_caller]
    fn operation<Out>(
        &self,
        entity: &EntityId,
        operation: &'static str,
        input: &impl Serialize,
    ) -> EntitySignal {
        let input = encode(input)
            .unwrap_or_else(|error| panic!("the input of {operation:?} cannot be written as JSON: {error}"));
        self.push_signal(entity.clone(), operation, input)
    }
}

/// A signal from one entity to another; it goes out when the operation ends well.
#[derive(Clone, Debug)]
pub struct EntitySignal {
    context: EntityContext,
    index: usize,
}

impl EntitySignal {
    /// Nothing more than saying aloud that it is a signal.
    pub fn signal(self) {}

    /// Sends it to be done after a time.
    pub fn signal_after(self, delay: Duration) {
        let at = self.context.now + delay;
        self.signal_at(at);
    }

    /// Sends it to be done at a time.
    pub fn signal_at(self, due: Timestamp) {
        if let Some(EntityEffect::Signal { at, .. }) = self.context.wishes().effects.get_mut(self.index) {
            *at = Some(due);
        }
    }
}

/// An entity without its type.
pub(crate) trait RunEntity: Send + Sync {
    fn run(
        self: Arc<Self>,
        context: EntityContext,
        state: Option<&Payload>,
        request: OperationRequest,
    ) -> OperationRun;
}

/// The definition with what is known of the type only where it is registered.
pub(crate) struct Registered<S> {
    pub(crate) definition: EntityDefinition<S>,
    pub(crate) marker: PhantomData<fn() -> S>,
}

impl<S> RunEntity for Registered<S>
where
    S: Serialize + DeserializeOwned + Default + Send + 'static,
{
    fn run(
        self: Arc<Self>,
        context: EntityContext,
        state: Option<&Payload>,
        request: OperationRequest,
    ) -> OperationRun {
        let name = request.operation.to_lowercase();
        let before = state.cloned();
        let value = match state.map_or_else(|| Ok(S::default()), |state| decode(Some(state))) {
            Ok(value) => value,
            Err(error) => return OperationRun::Done(failed(unreadable_state(&error), before)),
        };
        match self.definition.operations.get(&name) {
            Some(Operation::Now(run)) => OperationRun::Done(run_now(
                run.as_ref(),
                value,
                &context,
                before,
                request.input.as_ref(),
            )),
            Some(Operation::Later(run)) => {
                OperationRun::Later(run_later(run.as_ref(), value, context, before, request.input))
            }
            None if name == DELETE => {
                context.delete();
                OperationRun::Done(context.conclude(before, (), Ok(None)))
            }
            None => {
                let known: Vec<&str> = self.definition.operations().collect();
                let text = format!(
                    "entity {:?} has no operation {:?}; it has {}",
                    self.definition.name(),
                    &*request.operation,
                    known.join(", ")
                );
                OperationRun::Done(failed(Failure::new("NotFound", text).permanent(), before))
            }
        }
    }
}

fn run_now<S: Serialize>(
    run: &Now<S>,
    mut state: S,
    context: &EntityContext,
    before: Option<Payload>,
    input: Option<&Payload>,
) -> OperationOutcome {
    match catch_unwind(AssertUnwindSafe(|| run(&mut state, context, input))) {
        Ok(result) => context.conclude(before, state, result),
        Err(panic) => failed(panicked(panic.as_ref()), before),
    }
}

fn run_later<S: Serialize + Send + 'static>(
    run: &Later<S>,
    state: S,
    context: EntityContext,
    before: Option<Payload>,
    input: Option<Payload>,
) -> BoxFuture<'static, OperationOutcome> {
    let running = AssertUnwindSafe(run(state, context.clone(), input)).catch_unwind();
    let ended = running.map(move |caught| match caught {
        Ok((state, result)) => context.conclude(before, state, result),
        Err(panic) => failed(panicked(panic.as_ref()), before),
    });
    ended.boxed()
}

fn failed(failure: Failure, state: Option<Payload>) -> OperationOutcome {
    OperationOutcome {
        outcome: Err(failure),
        state,
        effects: Vec::new(),
    }
}

fn unreadable_state(error: &serde_json::Error) -> Failure {
    Failure::new(
        "Decode",
        format!("the entity's state does not fit its type: {error}"),
    )
    .permanent()
}
