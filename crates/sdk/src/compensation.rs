//! Undoing what was done, newest first, when what follows fails or the orchestration is to end.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use dalsegno_core::retry::RetryPolicy;
use dalsegno_core::{Failure, Payload};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::activity::Activity;
use crate::context::{OrchestrationContext, must_encode};
use crate::error::{Error, Result, TaskError};
use crate::orchestrator::Orchestrator;
use crate::state::Shared;
use crate::task::{ActivityTask, OrchestrationTask};
use crate::time::{MINUTE, SECOND};

/// How an undo is tried again that says nothing itself: ten times, over some minutes.
const UNDO_RETRY: RetryPolicy = RetryPolicy::exponential(10, SECOND).interval_max(MINUTE);

/// The kind of failure that says that something was not undone.
const COMPENSATION_FAILED: &str = "CompensationFailed";

/// What can undo: an activity or an orchestrator.
pub trait Undo {
    /// What it takes.
    type Input: Serialize;

    #[doc(hidden)]
    fn step(self, input: Option<Payload>, location: &'static Location<'static>) -> Step;

    #[doc(hidden)]
    fn undo_name(&self) -> &str;
}

impl<In: Serialize, Out: DeserializeOwned> Undo for Activity<In, Out> {
    type Input = In;

    fn step(self, input: Option<Payload>, location: &'static Location<'static>) -> Step {
        Step {
            kind: StepKind::Activity,
            name: self.name().into(),
            input,
            retry: (!self.has_retry()).then_some(UNDO_RETRY),
            location,
        }
    }

    fn undo_name(&self) -> &str {
        self.name()
    }
}

impl<In: Serialize, Out: DeserializeOwned> Undo for Orchestrator<In, Out> {
    type Input = In;

    fn step(self, input: Option<Payload>, location: &'static Location<'static>) -> Step {
        Step {
            kind: StepKind::Orchestrator(self.version_text().map(Into::into)),
            name: self.name().into(),
            input,
            retry: Some(UNDO_RETRY),
            location,
        }
    }

    fn undo_name(&self) -> &str {
        self.name()
    }
}

/// One undo that is registered.
#[doc(hidden)]
#[derive(Debug)]
pub struct Step {
    kind: StepKind,
    name: Arc<str>,
    input: Option<Payload>,
    retry: Option<RetryPolicy>,
    location: &'static Location<'static>,
}

#[derive(Debug)]
enum StepKind {
    Activity,
    /// Of this version.
    Orchestrator(Option<Arc<str>>),
}

/// What has to be undone should the rest fail. Clones are the same stack.
///
/// Given by [`OrchestrationContext::compensating`], which runs it; or by
/// [`OrchestrationContext::compensations`], and then you do.
#[derive(Clone)]
pub struct Compensations {
    shared: Arc<Shared>,
    steps: Arc<Mutex<Vec<Step>>>,
}

impl Compensations {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: shared.clone(),
            steps: Arc::default(),
        }
    }

    /// Registers what undoes a step that has just succeeded: an activity or an orchestrator, and its input.
    ///
    /// It is tried again by its activity's own policy; without one, ten times over some minutes. It may run
    /// twice, as every activity may. Register it *before* a step whose outcome may stay unknown.
    #[track_caller]
    pub fn push<U: Undo>(&self, undo: fn() -> U, input: U::Input) {
        self.push_step(undo, input, None, Location::caller());
    }

    /// The same, tried again by this policy.
    #[track_caller]
    pub fn push_with_retry<U: Undo>(&self, undo: fn() -> U, input: U::Input, policy: RetryPolicy) {
        self.push_step(undo, input, Some(policy), Location::caller());
    }

    fn push_step<U: Undo>(
        &self,
        undo: fn() -> U,
        input: U::Input,
        policy: Option<RetryPolicy>,
        location: &'static Location<'static>,
    ) {
        let undo = undo();
        let input = must_encode(&input, undo.undo_name());
        let mut step = undo.step(input, location);
        step.retry = policy.or(step.retry);
        self.lock().push(step);
    }

    /// How many are registered.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Is there nothing to undo?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Undoes everything now, newest first, one after the other, and forgets it.
    ///
    /// A request to cancel that comes meanwhile does not touch it. One that fails for good does not stop
    /// the older ones.
    ///
    /// # Errors
    /// Of the kind `CompensationFailed`, when some were not undone; it names all of them.
    pub async fn run(&self) -> Result<()> {
        match self.run_all().await {
            failed if failed.is_empty() => Ok(()),
            failed => Err(Error::from_failure(not_undone(&failed, None))),
        }
    }

    /// Undoes everything because of an error; gives that error, or one that tells both.
    async fn run_after(&self, error: Error) -> Error {
        let failed = self.run_all().await;
        match failed.is_empty() {
            true => error,
            false => Error::from_failure(not_undone(&failed, Some(error.into_failure()))),
        }
    }

    async fn run_all(&self) -> Vec<TaskError> {
        let _undoing = Undoing::begin(&self.shared);
        let mut failed = Vec::new();
        loop {
            let Some(step) = self.lock().pop() else {
                return failed;
            };
            failed.extend(self.undo(step).await.err());
        }
    }

    async fn undo(&self, step: Step) -> Result<(), TaskError> {
        let Step {
            kind,
            name,
            input,
            retry,
            location,
        } = step;
        match kind {
            StepKind::Activity => {
                let task: ActivityTask<IgnoredAny> =
                    ActivityTask::schedule_at(&self.shared, name, input, location);
                task.undoing(retry).await.map(drop)
            }
            StepKind::Orchestrator(version) => {
                let context = OrchestrationContext::new(self.shared.clone());
                let task: OrchestrationTask<IgnoredAny> =
                    context.call_orchestrator_at(name, version, input, location);
                task.undoing(retry).await.map(drop)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Compensations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.lock().iter().map(|step| &*step.name))
            .finish()
    }
}

/// The failure of what was to be undone; its cause is why.
fn not_undone(failed: &[TaskError], cause: Option<Failure>) -> Failure {
    let undone = failed
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    let message = match &cause {
        Some(cause) => format!("{}; and not undone: {undone}", cause.message),
        None => format!("not undone: {undone}"),
    };
    Failure {
        cause: cause.map(Box::new),
        ..Failure::new(COMPENSATION_FAILED, message).permanent()
    }
}

/// Counts as long as something is undone: a request to cancel refuses nothing meanwhile.
struct Undoing(Arc<Shared>);

impl Undoing {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.lock().count_undoing(true);
        Self(shared.clone())
    }
}

impl Drop for Undoing {
    fn drop(&mut self) {
        self.0.lock().count_undoing(false);
    }
}

/// Code with a stack of undos: it is not dropped without them.
struct Scope {
    shared: Arc<Shared>,
    number: u32,
}

impl Scope {
    fn enter(shared: &Arc<Shared>) -> Self {
        Self {
            number: shared.lock().enter_scope(),
            shared: shared.clone(),
        }
    }

    /// Is its code to end, though it waits for nothing that can tell it?
    fn poll_end(&self, context: &Context<'_>) -> Poll<Failure> {
        self.shared.lock().poll_scope(self.number, context.waker())
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let left = self.shared.lock().leave_scope(self.number);
        drop(left);
    }
}

/// See [`OrchestrationContext::compensating`].
pub(crate) async fn compensating<T, F, Fut>(shared: &Arc<Shared>, body: F) -> Result<T>
where
    F: FnOnce(Compensations) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let undo = Compensations::new(shared);
    let result = {
        let scope = Scope::enter(shared);
        let mut body = Box::pin(body(undo.clone()));
        poll_fn(|context| match body.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => scope
                .poll_end(context)
                .map(|failure| Err(Error::from_failure(failure))),
        })
        .await
    };
    let cut_short = shared.lock().cut_short();
    match (result, cut_short) {
        (Ok(value), None) => Ok(value),
        // Its timers ended early and it does not know: what it made of that does not count.
        (Ok(_), Some(failure)) => Err(undo.run_after(Error::from_failure(failure)).await),
        (Err(error), _) => Err(undo.run_after(error).await),
    }
}
