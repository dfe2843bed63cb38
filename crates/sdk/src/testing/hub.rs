//! The handle that tests hold.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::{EntityId, Payload, Timestamp};
use dalsegno_engine::executor::AttemptOutcome;
use dalsegno_engine::input::{Command, IdOrigin};
use dalsegno_engine::loader::read_entity;
use dalsegno_engine::request::{RequestError, RequestErrorKind, StartOptions, Started};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::executor::Stub;
use super::instance::TestInstance;
use super::memory::Memory;
use super::world::{Setup, World};
use crate::InstanceId;
use crate::activity::Activity;
use crate::app::App;
use crate::codec::{decode, encode};
use crate::entity::{Entity, EntityCaller};
use crate::error::{Error, Result};
use crate::orchestrator::Orchestrator;

/// A whole hub for tests: synchronous, on one thread, with a virtual clock. Clones are the same hub.
///
/// What may happen next (a message arrives, a turn runs, an activity ends, a batch is synced) is
/// chosen by a seed. The end of an attempt is now and then reported twice. Time passes only in
/// [`run`](Self::run), [`run_until`](Self::run_until) and [`advance`](Self::advance).
///
/// Must not be used inside an async runtime: a test of it is a plain `#[test]`. Activities run on a
/// runtime of the hub's own and may take 30 s of real time. [`ActivityContext::client`] panics in them.
///
/// [`ActivityContext::client`]: crate::ActivityContext::client
///
/// # Example
/// ```
/// use dalsegno::testing::TestHub;
/// use dalsegno::{App, OrchestrationContext, Result, RetryPolicy, SECOND, activity, orchestrator};
///
/// #[activity]
/// async fn charge(cents: u32) -> Result<String> {
///     Ok(format!("paid {cents}"))
/// }
///
/// #[orchestrator]
/// async fn order(ctx: &OrchestrationContext) -> Result<String> {
///     Ok(ctx.call(charge, 250).retry(RetryPolicy::exponential(5, SECOND)).await?)
/// }
///
/// let hub = TestHub::new(App::new().register(order).register(charge));
/// hub.fail_next(charge, 2, "card network down");
/// let instance = hub.start(order, ());
/// hub.run();
/// assert_eq!(instance.output().unwrap(), "paid 250");
/// assert_eq!(hub.attempts(charge), 3);
/// ```
#[derive(Clone)]
pub struct TestHub {
    world: Rc<RefCell<World>>,
}

impl TestHub {
    /// A hub with seed 0 that keeps everything in memory.
    ///
    /// # Panics
    /// When a registration of the app was refused.
    pub fn new(app: App) -> Self {
        Self::seeded(app, 0)
    }

    /// A hub with a seed: the same seed gives the same run.
    ///
    /// # Panics
    /// When a registration of the app was refused.
    pub fn seeded(app: App, seed: u64) -> Self {
        Self::with(
            app,
            Setup {
                seed,
                memory: Memory::Keep,
                choices: None,
            },
        )
    }

    pub(super) fn with(app: App, setup: Setup) -> Self {
        let world = World::new(app, setup).unwrap_or_else(|error| panic!("cannot make a test hub: {error}"));
        Self {
            world: Rc::new(RefCell::new(world)),
        }
    }

    pub(super) fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    /// Puts code in the place of an activity's, also of one that is not registered here.
    ///
    /// ```
    /// # use dalsegno::{Activity, App, OrchestrationContext, Result, orchestrator, testing::TestHub};
    /// fn render() -> Activity<u32, String> {
    ///     Activity::remote("render")
    /// }
    /// #[orchestrator]
    /// async fn print(ctx: &OrchestrationContext) -> Result<String> {
    ///     Ok(ctx.call(render, 7).await?)
    /// }
    /// let hub = TestHub::new(App::new().register(print));
    /// hub.stub(render, |page| Ok(format!("page {page}")));
    /// let instance = hub.start(print, ());
    /// hub.run();
    /// assert_eq!(instance.output().unwrap(), "page 7");
    /// ```
    pub fn stub<In, Out, F>(&self, activity: fn() -> Activity<In, Out>, code: F)
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        F: Fn(In) -> Result<Out> + Send + Sync + 'static,
    {
        let run =
            move |input: Option<&Payload>| -> Result<Option<Payload>> { Ok(encode(&code(decode(input)?)?)?) };
        let stub: Stub = Arc::new(move |input| match run(input) {
            Ok(output) => AttemptOutcome::Completed(output),
            Err(error) => error.into_outcome(),
        });
        self.world().executor().stub(activity().name(), stub);
    }

    /// Lets the next `count` attempts of an activity fail with a text, before its code runs.
    pub fn fail_next<In, Out>(&self, activity: fn() -> Activity<In, Out>, count: u32, message: &str) {
        self.world()
            .executor()
            .fail_next(activity().name(), count, message);
    }

    /// How many attempts of an activity were run, those that failed and those of stubs included.
    pub fn attempts<In, Out>(&self, activity: fn() -> Activity<In, Out>) -> u64 {
        self.world().executor().attempts(activity().name())
    }

    /// Starts an orchestration with a generated id, `test-1` and so on.
    ///
    /// # Panics
    /// When it is not registered, or a limit refuses the start.
    #[track_caller]
    pub fn start<In: Serialize, Out>(
        &self,
        orchestrator: fn() -> Orchestrator<In, Out>,
        input: In,
    ) -> TestInstance<Out> {
        let id = self.world().next_id();
        let started = self.start_as(id.as_str(), orchestrator, input);
        started.unwrap_or_else(|error| panic!("cannot start: {error}"))
    }

    /// Starts an orchestration with an id.
    ///
    /// # Errors
    /// When the id is none or in use, the orchestrator is not registered, or a limit refuses the start.
    pub fn start_as<In: Serialize, Out>(
        &self,
        id: impl AsRef<str>,
        orchestrator: fn() -> Orchestrator<In, Out>,
        input: In,
    ) -> Result<TestInstance<Out>> {
        let definition = orchestrator();
        let mut world = self.world();
        let name = definition.name().to_owned();
        let known = dalsegno_engine::Executor::orchestrators(world.executor());
        if !known.iter().any(|known| **known == *name) {
            let text = format!("no orchestrator {name:?} is registered: say `App::register({name})`");
            return Err(RequestError::new(RequestErrorKind::OrchestratorNotFound, text).into());
        }
        let options = Box::new(StartOptions {
            name,
            version: definition.version_text().map(str::to_owned),
            input: encode(&input)?,
            ..StartOptions::default()
        });
        let id = InstanceId::parse(id.as_ref())?;
        let started: Started = world.ask(id.as_str(), |reply| Command::Start {
            id: id.clone(),
            is_new_id: IdOrigin::Given,
            options,
            reply,
        })?;
        drop(world);
        Ok(TestInstance::new(self, started.id))
    }

    /// An instance that something else has started, such as a parent.
    ///
    /// # Errors
    /// When `id` is no instance id.
    pub fn instance<In, Out>(
        &self,
        _: fn() -> Orchestrator<In, Out>,
        id: impl AsRef<str>,
    ) -> Result<TestInstance<Out>> {
        Ok(TestInstance::new(self, InstanceId::parse(id.as_ref())?))
    }

    /// An entity, to be signalled: `hub.entity::<Account>("ada").deposit(5).signal()`.
    ///
    /// # Panics
    /// When `key` is no key.
    #[track_caller]
    pub fn entity<E: Entity>(&self, key: impl AsRef<str>) -> E::Proxy<Self> {
        E::proxy(self.clone(), entity_id::<E>(key.as_ref()))
    }

    /// The state of an entity, as far as it is durable.
    ///
    /// # Panics
    /// When `key` is no key, or the state does not fit the type.
    #[track_caller]
    pub fn entity_state<E: Entity + DeserializeOwned>(&self, key: impl AsRef<str>) -> Option<E> {
        let id = entity_id::<E>(key.as_ref());
        let row = read_entity(self.world().store(), &id);
        let state = row.expect("a store in memory can be read")?.state?;
        Some(decode(Some(&state)).unwrap_or_else(|error| panic!("the state of {id} does not fit: {error}")))
    }

    /// The virtual time.
    pub fn now(&self) -> Timestamp {
        self.world().now()
    }

    /// Lets everything happen that will happen by itself; the clock jumps to what is due.
    ///
    /// # Panics
    /// After 1,000,000 steps: something goes on for ever.
    #[track_caller]
    pub fn run(&self) {
        self.world().run(Timestamp::MAX);
    }

    /// Lets everything happen that happens up to a time, which it then is.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_until(&self, time: Timestamp) {
        self.world().advance_to(time);
    }

    /// Lets a time pass, with everything that happens in it.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn advance(&self, duration: Duration) {
        let time = self.now() + duration;
        self.run_until(time);
    }

    /// Lets so many things happen, without any time passing. For crashes in the middle.
    pub fn steps(&self, count: usize) {
        for _ in 0..count {
            self.world().step();
        }
    }

    /// The host dies and starts again: what was not durable is gone, activities that ran run again.
    ///
    /// # Panics
    /// When the store cannot be opened again.
    #[track_caller]
    pub fn crash(&self) {
        let crashed = self.world().crash();
        crashed.unwrap_or_else(|error| panic!("cannot open the hub again: {error}"));
    }
}

impl fmt::Debug for TestHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestHub").finish_non_exhaustive()
    }
}

#[track_caller]
fn entity_id<E: Entity>(key: &str) -> EntityId {
    EntityId::new(E::NAME, key).unwrap_or_else(|error| panic!("{key:?} is no key of an entity: {error}"))
}

impl EntityCaller for TestHub {
    type Call<Out> = TestOperation<Out>;

    fn operation<Out>(
        &self,
        entity: &EntityId,
        operation: &'static str,
        input: &impl Serialize,
    ) -> TestOperation<Out> {
        TestOperation {
            hub: self.clone(),
            entity: entity.clone(),
            operation,
            input: encode(input).map_err(Error::from),
            out: PhantomData,
        }
    }
}

/// An operation that a test has not sent yet.
#[must_use = "nothing is sent without `.signal()`"]
pub struct TestOperation<Out> {
    hub: TestHub,
    entity: EntityId,
    operation: &'static str,
    input: Result<Option<Payload>>,
    out: PhantomData<fn() -> Out>,
}

impl<Out> TestOperation<Out> {
    /// Sends it; [`TestHub::run`] lets it be done.
    ///
    /// # Errors
    /// When its input cannot be encoded, or a limit refuses the signal.
    pub fn signal(self) -> Result<()> {
        self.send(None)
    }

    /// Sends it, to be done after a time.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub fn signal_after(self, delay: Duration) -> Result<()> {
        let at = self.hub.now() + delay;
        self.send(Some(at))
    }

    fn send(self, at: Option<Timestamp>) -> Result<()> {
        let (entity, input) = (self.entity, self.input?);
        let sent = self
            .hub
            .world()
            .ask(&entity.to_string(), |reply| Command::Signal {
                entity: entity.clone(),
                operation: self.operation.into(),
                input,
                at,
                trace: None,
                reply,
            });
        Ok(sent?)
    }
}

impl<Out> fmt::Debug for TestOperation<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {:?} of {}", self.operation, self.entity)
    }
}
