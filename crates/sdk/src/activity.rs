//! The definition of an activity, and what its code is told.

use std::borrow::Cow;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::retry::RetryPolicy;
use dalsegno_core::{ExecutionId, Failure, InstanceId, Payload, TraceContext};
use dalsegno_engine::executor::{ActivityRequest, ActivitySettings, AttemptOutcome};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::codec::{decode, encode};
use crate::context::{Callable, OrchestrationContext};
use crate::data::Data;
use crate::error::{Cancelled, Error, Result};
use crate::limiter::{KeyedLimiter, Limiter};
use crate::task::ActivityTask;

type Run<In, Out> = dyn Fn(ActivityContext, In) -> BoxFuture<'static, Result<Out>> + Send + Sync;

/// An activity: its name, how it wants to be run and, unless it runs elsewhere, its code.
///
/// What `#[activity]` makes of a function. By hand:
///
/// ```
/// use dalsegno::{Activity, MINUTE};
///
/// fn greet() -> Activity<String, String> {
///     Activity::new("greet", |_ctx, name: String| Box::pin(async move { Ok(format!("Hello {name}!")) }))
///         .timeout(MINUTE)
/// }
/// assert_eq!(greet().name(), "greet");
/// ```
pub struct Activity<In, Out> {
    name: Cow<'static, str>,
    run: Option<Box<Run<In, Out>>>,
    timeout: Option<Duration>,
    heartbeat: Option<Duration>,
    retry: Option<RetryPolicy>,
    limiter: Option<KeyedLimiter<In>>,
    concurrency_per_host: Option<usize>,
}

impl<In, Out> Activity<In, Out> {
    /// An activity with its code.
    pub fn new<F>(name: impl Into<Cow<'static, str>>, run: F) -> Self
    where
        F: Fn(ActivityContext, In) -> BoxFuture<'static, Result<Out>> + Send + Sync + 'static,
    {
        Self {
            run: Some(Box::new(run)),
            ..Self::remote(name)
        }
    }

    /// An activity whose code is elsewhere: in another process or language.
    pub fn remote(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            run: None,
            timeout: None,
            heartbeat: None,
            retry: None,
            limiter: None,
            concurrency_per_host: None,
        }
    }

    /// One attempt takes no longer than this.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// An attempt that is silent for longer than this fails.
    #[must_use]
    pub fn heartbeat(mut self, silence_max: Duration) -> Self {
        self.heartbeat = Some(silence_max);
        self
    }

    /// Does it say itself how it is tried again?
    pub(crate) fn has_retry(&self) -> bool {
        self.retry.is_some()
    }

    /// How failed attempts are repeated, unless the call says otherwise.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Every attempt passes this limiter first. Waiting for it holds no slot and burns no attempt.
    #[must_use]
    pub fn limiter(mut self, limiter: impl Into<KeyedLimiter<In>>) -> Self {
        self.limiter = Some(limiter.into());
        self
    }

    /// At most so many at once in one process.
    #[must_use]
    pub fn concurrency_per_host(mut self, count: usize) -> Self {
        self.concurrency_per_host = Some(count);
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Is the code elsewhere?
    pub fn is_remote(&self) -> bool {
        self.run.is_none()
    }

    /// Runs the code, for a unit test of it.
    ///
    /// # Errors
    /// What the code fails with.
    pub async fn run(&self, context: ActivityContext, input: In) -> Result<Out> {
        match &self.run {
            Some(run) => run(context, input).await,
            None => Err(Error::msg(format!("activity {:?} runs elsewhere", self.name)).permanent()),
        }
    }
}

impl<In: Serialize, Out: DeserializeOwned> Callable for Activity<In, Out> {
    type Input = In;
    type Output = Out;
    type Task = ActivityTask<Out>;

    #[track_caller]
    fn call(self, context: &OrchestrationContext, input: In) -> Self::Task {
        context.call_activity(self.name.as_ref().into(), &input)
    }
}

impl<In, Out> fmt::Debug for Activity<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activity")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What an activity's code is told about its attempt. Clones are the same.
#[derive(Clone, Debug)]
pub struct ActivityContext {
    request: Arc<ActivityRequest>,
    data: Arc<Data>,
}

impl ActivityContext {
    pub(crate) fn new(request: ActivityRequest, data: Arc<Data>) -> Self {
        Self {
            request: Arc::new(request),
            data,
        }
    }

    /// A context for unit tests of activities that need no data: attempt 1 of task 0.
    pub fn for_test() -> Self {
        let request = ActivityRequest {
            instance: InstanceId::trusted("test"),
            execution_id: ExecutionId::default(),
            task: Default::default(),
            name: "test".into(),
            input: None,
            attempt: 1,
            last_heartbeat: None,
            trace: None,
            cancelled: dalsegno_engine::executor::Cancellation::never(),
            heartbeats: Default::default(),
            options: Default::default(),
            receipt: Default::default(),
        };
        Self::new(request, Arc::default())
    }

    /// What the app was given by `App::data`.
    ///
    /// # Panics
    /// When the app has no data of that type; the attempt then fails with that text.
    pub fn data<T: Send + Sync + 'static>(&self) -> &T {
        self.data.get::<T>().unwrap_or_else(|| {
            panic!(
                "the app has no data of type {}: say `App::data(..)`",
                std::any::type_name::<T>()
            )
        })
    }

    /// A client of the hub that runs this activity.
    ///
    /// # Panics
    /// When no hub runs: in a unit test of the activity alone.
    pub fn client(&self) -> Client {
        self.data.client().expect("a hub runs this activity")
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.request.attempt
    }

    /// `instance/execution/task`: the same in every attempt, never that of another task.
    pub fn idempotency_key(&self) -> String {
        self.request.idempotency_key()
    }

    /// The instance that asked.
    pub fn instance_id(&self) -> &InstanceId {
        &self.request.instance
    }

    /// The trace that the orchestration is part of: for requests that this activity sends. Of all its
    /// attempts the same.
    pub fn trace_context(&self) -> Option<&TraceContext> {
        self.request.trace.as_ref()
    }

    /// What the attempt before reported last, if it fits the type.
    pub fn last_heartbeat<T: DeserializeOwned>(&self) -> Option<T> {
        let details = self.request.last_heartbeat.as_ref()?;
        decode(Some(details)).ok()
    }

    /// Reports that the attempt is alive, and where it got to.
    pub fn heartbeat<T: Serialize + ?Sized>(&self, details: &T) {
        self.request
            .heartbeats
            .report(encode(details).unwrap_or_default());
    }

    /// Waits until the attempt is told to end: cancel, terminate, timeout or shutdown.
    pub async fn cancelled(&self) -> Cancelled {
        let mut cancellation = self.request.cancelled.clone();
        Cancelled(cancellation.wait().await)
    }

    /// The error of a service that is at its limit. Returned, it lowers the activity's shared bucket
    /// for that time and burns no attempt.
    pub fn limited(&self, retry_after: Duration) -> Error {
        Error::limited(retry_after)
    }
}

/// An activity without its types.
pub(crate) trait RunActivity: Send + Sync {
    fn settings(&self) -> ActivitySettings;
    fn limiter(&self) -> Option<&Limiter>;
    fn limiter_key(&self, input: Option<&Payload>) -> String;
    fn attempt(self: Arc<Self>, context: ActivityContext) -> BoxFuture<'static, AttemptOutcome>;
}

impl<In, Out> RunActivity for Activity<In, Out>
where
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + 'static,
{
    fn settings(&self) -> ActivitySettings {
        ActivitySettings {
            timeout: self.timeout,
            heartbeat: self.heartbeat,
            retry: self.retry,
            limiter: self.limiter().map(|limiter| limiter.name().into()),
            concurrency_per_host: self.concurrency_per_host,
            is_remote: false,
        }
    }

    fn limiter(&self) -> Option<&Limiter> {
        self.limiter.as_ref().map(|keyed| &keyed.limiter)
    }

    fn limiter_key(&self, input: Option<&Payload>) -> String {
        let key = self.limiter.as_ref().and_then(|keyed| keyed.key.as_ref());
        match (key, decode::<In>(input)) {
            (Some(key), Ok(input)) => key(&input),
            _ => String::new(),
        }
    }

    fn attempt(self: Arc<Self>, context: ActivityContext) -> BoxFuture<'static, AttemptOutcome> {
        let input = decode::<In>(context.request.input.as_ref());
        let attempt = async move {
            let input = input.map_err(|error| undecodable(&self.name, &error))?;
            let run = self
                .run
                .as_ref()
                .expect("only activities with code are registered");
            let future = run(context, input);
            drop(self);
            let output = future.await?;
            encode(&output).map_err(Error::from)
        };
        let caught = AssertUnwindSafe(attempt).catch_unwind();
        Box::pin(caught.map(|result| match result {
            Ok(Ok(output)) => AttemptOutcome::Completed(output),
            Ok(Err(error)) => error.into_outcome(),
            Err(panic) => Error::from_failure(panicked(panic.as_ref())).into_outcome(),
        }))
    }
}

fn undecodable(name: &str, error: &serde_json::Error) -> Error {
    let text = format!("activity {name:?} cannot read its input: {error}");
    Error::from_failure(Failure::new("Decode", text).permanent())
}

pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::new("Panic", text.unwrap_or_else(|| "the code panicked".into()))
}
