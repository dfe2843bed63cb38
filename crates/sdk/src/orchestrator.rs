//! The definition of an orchestrator.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use dalsegno_core::{Failure, Payload};
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{decode, encode};
use crate::context::{Callable, OrchestrationContext};
use crate::error::{Error, Result};
use crate::execution::Body;
use crate::task::OrchestrationTask;

type Run<In, Out> = dyn for<'a> Fn(&'a OrchestrationContext, In) -> BoxFuture<'a, Result<Out>> + Send + Sync;

/// An orchestrator: its name, its version and, unless it runs elsewhere, its code.
///
/// What `#[orchestrator]` makes of a function. By hand:
///
/// ```
/// use dalsegno::{Orchestrator, OrchestrationContext, Result};
///
/// fn double() -> Orchestrator<u32, u32> {
///     async fn body(_: &OrchestrationContext, number: u32) -> Result<u32> {
///         Ok(2 * number)
///     }
///     Orchestrator::new("double", |ctx, number| Box::pin(body(ctx, number)))
/// }
/// assert_eq!(double().name(), "double");
/// ```
pub struct Orchestrator<In, Out> {
    name: Cow<'static, str>,
    version: Option<Cow<'static, str>>,
    run: Option<Box<Run<In, Out>>>,
    location: &'static Location<'static>,
}

impl<In, Out> Orchestrator<In, Out> {
    /// An orchestrator with its code.
    #[track_caller]
    pub fn new<F>(name: impl Into<Cow<'static, str>>, run: F) -> Self
    where
        F: for<'a> Fn(&'a OrchestrationContext, In) -> BoxFuture<'a, Result<Out>> + Send + Sync + 'static,
    {
        Self {
            name: name.into(),
            version: None,
            run: Some(Box::new(run)),
            location: Location::caller(),
        }
    }

    /// An orchestrator whose code is elsewhere: in another process or language.
    #[track_caller]
    pub fn remote(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            version: None,
            run: None,
            location: Location::caller(),
        }
    }

    /// Its version: numbers between dots. Instances keep the version they started with.
    #[must_use]
    pub fn version(mut self, version: impl Into<Cow<'static, str>>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, if it has one.
    pub fn version_text(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Is the code here?
    pub fn is_remote(&self) -> bool {
        self.run.is_none()
    }
}

impl<In: Serialize, Out: DeserializeOwned> Callable for Orchestrator<In, Out> {
    type Input = In;
    type Output = Out;
    type Task = OrchestrationTask<Out>;

    #[track_caller]
    fn call(self, context: &OrchestrationContext, input: In) -> Self::Task {
        let version = self.version.as_deref().map(Into::into);
        context.call_orchestrator(self.name.as_ref().into(), version, &input)
    }
}

impl<In, Out> fmt::Debug for Orchestrator<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orchestrator")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// An orchestrator without its types: makes the future of one execution.
pub(crate) trait Begin: Send + Sync {
    /// Where the orchestrator is defined.
    fn location(&self) -> &'static Location<'static>;
    fn begin(self: Arc<Self>, context: OrchestrationContext, input: Option<Payload>) -> Body;
}

impl<In, Out> Begin for Orchestrator<In, Out>
where
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + 'static,
{
    fn location(&self) -> &'static Location<'static> {
        self.location
    }

    fn begin(self: Arc<Self>, context: OrchestrationContext, input: Option<Payload>) -> Body {
        let input = decode::<In>(input.as_ref());
        Box::pin(async move {
            let input = input.map_err(|error| undecodable(&self.name, &error))?;
            let run = self
                .run
                .as_ref()
                .expect("only orchestrators with code are registered");
            let future = run(&context, input);
            let output = future.await?;
            encode(&output).map_err(Error::from)
        })
    }
}

fn undecodable(name: &str, error: &serde_json::Error) -> Error {
    let text = format!("orchestrator {name:?} cannot read its input: {error}");
    Error::from_failure(Failure::new("Decode", text).permanent())
}
