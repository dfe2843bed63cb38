//! Durable operations in progress.
//!
//! A task is asked for when it is created, not when it is first polled, so two calls run in parallel
//! and numbers follow the program's order. Dropping one means that its outcome is of no interest:
//! a timer is cancelled, anything else runs on.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dalsegno_core::event::ParentClosePolicy;
use dalsegno_core::message::Outcome;
use dalsegno_core::retry::RetryPolicy;
use dalsegno_core::{Action, EntityId, Failure, InstanceId, Payload, TaskId, Timestamp};
use futures::future::FusedFuture;
use serde::de::DeserializeOwned;

use crate::codec::decode;
use crate::error::{Elapsed, Result, TaskError};
use crate::state::{Shared, TaskKind};

/// A task of any kind: its number, and whether it ended.
struct Handle {
    shared: Arc<Shared>,
    task: TaskId,
    ended: bool,
}

impl Handle {
    fn new(shared: &Arc<Shared>, task: TaskId) -> Self {
        Self {
            shared: shared.clone(),
            task,
            ended: false,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let polled = self.shared.poll_task(self.task, context.waker());
        self.ended = polled.is_ready();
        polled
    }

    fn edit(&self, option: &str, change: impl FnOnce(&mut Action)) {
        self.shared.edit(self.task, option, change);
    }

    /// Says whether it was dropped while still open.
    fn forget(&mut self) -> bool {
        !std::mem::replace(&mut self.ended, true) && self.shared.forget_task(self.task)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.forget();
    }
}

fn typed<Out: DeserializeOwned>(outcome: Outcome, task: impl FnOnce() -> String) -> Result<Out, TaskError> {
    let value = outcome.and_then(|result| {
        decode(result.as_ref()).map_err(|error| Failure::new("Decode", error.to_string()).permanent())
    });
    value.map_err(|failure| TaskError::new(task(), failure))
}

macro_rules! impl_task_future {
    ($name:ident, $words:literal) => {
        impl<Out: DeserializeOwned> Future for $name<Out> {
            type Output = Result<Out, TaskError>;

            fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
                let polled = self.handle.poll(context);
                polled.map(|outcome| typed(outcome, || format!(concat!($words, " {:?}"), &*self.name)))
            }
        }

        impl<Out: DeserializeOwned> FusedFuture for $name<Out> {
            fn is_terminated(&self) -> bool {
                self.handle.ended
            }
        }

        impl<Out> fmt::Debug for $name<Out> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    concat!($words, " {:?}, task {}"),
                    &*self.name, self.handle.task
                )
            }
        }
    };
}

/// An activity in progress.
#[must_use = "the activity runs anyway; await it to learn its outcome"]
pub struct ActivityTask<Out> {
    handle: Handle,
    name: Arc<str>,
    out: PhantomData<fn() -> Out>,
}

impl_task_future!(ActivityTask, "activity");

impl<Out> ActivityTask<Out> {
    #[track_caller]
    pub(crate) fn schedule(shared: &Arc<Shared>, name: Arc<str>, input: Option<Payload>) -> Self {
        Self::schedule_at(shared, name, input, Location::caller())
    }

    pub(crate) fn schedule_at(
        shared: &Arc<Shared>,
        name: Arc<str>,
        input: Option<Payload>,
        location: &'static Location<'static>,
    ) -> Self {
        let task = shared.schedule(TaskKind::Activity, location, |task, _| Action::ScheduleTask {
            task,
            name: name.clone(),
            input,
            options: Default::default(),
        });
        Self {
            handle: Handle::new(shared, task),
            name,
            out: PhantomData,
        }
    }

    /// Retries by this policy instead of the activity's own. Not part of history.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        self.handle.edit("retry", |action| {
            if let Action::ScheduleTask { options, .. } = action {
                options.retry = Some(policy);
            }
        });
        self
    }

    /// Marks it as one that undoes, so that a request to cancel does not reach it.
    pub(crate) fn undoing(self, policy: Option<RetryPolicy>) -> Self {
        self.handle.edit("undoing", |action| {
            if let Action::ScheduleTask { options, .. } = action {
                options.undo = true;
                options.retry = policy;
            }
        });
        self
    }

    /// One attempt takes no longer than this. Not part of history.
    pub fn timeout(self, limit: Duration) -> Self {
        self.handle.edit("timeout", |action| {
            if let Action::ScheduleTask { options, .. } = action {
                options.timeout = Some(limit);
            }
        });
        self
    }
}

/// A sub-orchestration in progress.
#[must_use = "the sub-orchestration runs anyway; await it to learn its outcome"]
pub struct OrchestrationTask<Out> {
    handle: Handle,
    name: Arc<str>,
    out: PhantomData<fn() -> Out>,
}

impl_task_future!(OrchestrationTask, "orchestration");

impl<Out> OrchestrationTask<Out> {
    pub(crate) fn schedule_at(
        shared: &Arc<Shared>,
        action: impl FnOnce(TaskId) -> Action,
        name: Arc<str>,
        location: &'static Location<'static>,
    ) -> Self {
        let task = shared.schedule(TaskKind::Orchestration, location, |task, _| action(task));
        Self {
            handle: Handle::new(shared, task),
            name,
            out: PhantomData,
        }
    }

    /// Takes this instance id instead of one made from this execution's id and the task's number.
    ///
    /// Parks the orchestration when the text is no id.
    pub fn instance_id(self, id: impl AsRef<str>) -> Self {
        edit_instance(&self.handle, id.as_ref());
        self
    }

    /// Starts this version instead of the handle's. Recorded, not compared.
    pub fn version(self, wanted: impl Into<Arc<str>>) -> Self {
        edit_version(&self.handle, wanted.into());
        self
    }

    /// Starts it again when it fails: same instance, next execution. Not part of history.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        self.handle.edit("retry", |action| {
            if let Action::StartOrchestration { options, .. } = action {
                options.retry = Some(policy);
            }
        });
        self
    }

    /// Marks it as one that undoes, so that a request to cancel does not reach it.
    pub(crate) fn undoing(self, policy: Option<RetryPolicy>) -> Self {
        self.handle.edit("undoing", |action| {
            if let Action::StartOrchestration { options, .. } = action {
                options.undo = true;
                options.retry = policy;
            }
        });
        self
    }

    /// Cancelled when this orchestration is cancelled or terminated. Not compared with history.
    ///
    /// A cancelled orchestration waits for its end; without a policy a child goes on and nobody waits.
    pub fn cancel_with_parent(self) -> Self {
        self.close_with_parent("cancel_with_parent", ParentClosePolicy::Cancel)
    }

    /// Terminated when this orchestration is terminated or cancelled. Not compared with history.
    pub fn terminate_with_parent(self) -> Self {
        self.close_with_parent("terminate_with_parent", ParentClosePolicy::Terminate)
    }

    fn close_with_parent(self, option: &str, policy: ParentClosePolicy) -> Self {
        self.handle.edit(option, |action| {
            if let Action::StartOrchestration { options, .. } = action {
                options.parent_close = policy;
            }
        });
        self
    }
}

/// An orchestration that was started and is not waited for.
pub struct DetachedStart {
    shared: Arc<Shared>,
    task: TaskId,
    id: InstanceId,
}

impl DetachedStart {
    #[track_caller]
    pub(crate) fn emit(shared: &Arc<Shared>, id: impl FnOnce(TaskId) -> (InstanceId, Action)) -> Self {
        let mut chosen = None;
        let task = shared.emit(Location::caller(), |task, _| {
            let (instance, action) = id(task);
            chosen = Some(instance);
            action
        });
        Self {
            shared: shared.clone(),
            task,
            id: chosen.expect("the action was made"),
        }
    }

    /// Takes this instance id instead of one made from this execution's id and the task's number.
    #[must_use]
    pub fn instance_id(mut self, id: impl AsRef<str>) -> Self {
        let handle = Handle {
            shared: self.shared.clone(),
            task: self.task,
            ended: true,
        };
        self.id = edit_instance(&handle, id.as_ref());
        self
    }

    /// Starts this version instead of the handle's.
    #[must_use]
    pub fn version(self, wanted: impl Into<Arc<str>>) -> Self {
        let handle = Handle {
            shared: self.shared.clone(),
            task: self.task,
            ended: true,
        };
        edit_version(&handle, wanted.into());
        self
    }

    /// The instance that was started.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }
}

impl fmt::Debug for DetachedStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "orchestration {}", self.id)
    }
}

fn edit_instance(handle: &Handle, id: &str) -> InstanceId {
    let id = InstanceId::parse(id).unwrap_or_else(|error| panic!("{id:?} is no instance id: {error}"));
    handle.edit("instance_id", |action| {
        if let Action::StartOrchestration { instance, .. } = action {
            *instance = id.clone();
        }
    });
    id
}

fn edit_version(handle: &Handle, wanted: Arc<str>) {
    handle.edit("version", |action| {
        if let Action::StartOrchestration { version, .. } = action {
            *version = Some(wanted);
        }
    });
}

/// A call of an entity, waiting for its answer; or, after [`EntityTask::signal`], none at all.
#[must_use = "the operation runs anyway; await it, or say `.signal()` when no answer is wanted"]
pub struct EntityTask<Out> {
    handle: Handle,
    /// Another lock was held when it was asked for.
    outside: bool,
    name: Arc<str>,
    out: PhantomData<fn() -> Out>,
}

impl<Out> EntityTask<Out> {
    #[track_caller]
    pub(crate) fn schedule(
        shared: &Arc<Shared>,
        entity: EntityId,
        name: Arc<str>,
        input: Option<Payload>,
    ) -> Self {
        let outside = is_outside_critical_section(shared, &entity);
        let task = shared.schedule(TaskKind::Entity, Location::caller(), |task, _| {
            Action::CallEntity {
                task,
                entity,
                operation: name.clone(),
                input,
                request: None,
            }
        });
        Self {
            handle: Handle::new(shared, task),
            outside,
            name,
            out: PhantomData,
        }
    }

    /// Sends the operation without waiting for an answer.
    pub fn signal(self) {
        self.signal_when(None);
    }

    /// Sends the operation, to be done after a time.
    pub fn signal_after(self, delay: Duration) {
        let at = self.handle.shared.lock().now + delay;
        self.signal_when(Some(at));
    }

    /// Sends the operation, to be done at a time.
    pub fn signal_at(self, at: Timestamp) {
        self.signal_when(Some(at));
    }

    fn signal_when(self, at: Option<Timestamp>) {
        self.handle.edit("signal", |action| {
            if let Action::CallEntity {
                task,
                entity,
                operation,
                input,
                request,
            } = action.clone()
            {
                *action = Action::SignalEntity {
                    task,
                    entity,
                    operation,
                    input,
                    at,
                    request,
                };
            }
        });
    }
}

impl<Out: DeserializeOwned> Future for EntityTask<Out> {
    type Output = Result<Out, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(
            !self.outside,
            "operation {:?} of an entity is awaited while other entities are locked: two orchestrations could wait \
             for each other for ever. Lock that entity too, signal it, or call it after the guard is dropped",
            &*self.name
        );
        let polled = self.handle.poll(context);
        polled.map(|outcome| typed(outcome, || format!("operation {:?}", &*self.name)))
    }
}

impl<Out: DeserializeOwned> FusedFuture for EntityTask<Out> {
    fn is_terminated(&self) -> bool {
        self.handle.ended
    }
}

impl<Out> fmt::Debug for EntityTask<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {:?}, task {}", &*self.name, self.handle.task)
    }
}

fn is_outside_critical_section(shared: &Arc<Shared>, entity: &EntityId) -> bool {
    let state = shared.enter();
    state
        .locked
        .as_ref()
        .is_some_and(|lock| !lock.entities.contains(entity))
}

/// A durable timer. Dropping it cancels it.
#[must_use = "a timer does nothing unless it is awaited"]
pub struct Timer {
    handle: Handle,
    location: &'static Location<'static>,
}

impl Timer {
    #[track_caller]
    pub(crate) fn schedule(shared: &Arc<Shared>, due: impl FnOnce(Timestamp) -> Timestamp) -> Self {
        let location = Location::caller();
        let task = shared.schedule(TaskKind::Timer, location, |task, now| Action::CreateTimer {
            task,
            fire_at: due(now).min(Timestamp::MAX),
        });
        Self {
            handle: Handle::new(shared, task),
            location,
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.handle.poll(context).map(|_| ())
    }
}

impl FusedFuture for Timer {
    fn is_terminated(&self) -> bool {
        self.handle.ended
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.handle.forget() {
            let task = self.handle.task;
            let mut state = self.handle.shared.lock();
            state.ask(Action::CancelTimer { task }, self.location);
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timer, task {}", self.handle.task)
    }
}

/// A future with a durable time limit. When the time is over, the future is dropped.
#[must_use = "futures do nothing unless they are awaited"]
pub struct Timeout<F> {
    future: Option<Pin<Box<F>>>,
    timer: Timer,
}

impl<F: Future> Timeout<F> {
    pub(crate) fn new(future: F, timer: Timer) -> Self {
        Self {
            future: Some(Box::pin(future)),
            timer,
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self
            .future
            .as_mut()
            .expect("a timeout is not polled after it ended");
        let polled = match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => Pin::new(&mut self.timer).poll(context).map(|()| Err(Elapsed)),
        };
        if polled.is_ready() {
            self.future = None;
        }
        polled
    }
}

impl<F: Future> FusedFuture for Timeout<F> {
    fn is_terminated(&self) -> bool {
        self.future.is_none()
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("timer", &self.timer)
            .finish_non_exhaustive()
    }
}

/// The end of this execution: the next one begins, and this future never does.
#[must_use = "say `.await`: nothing after it runs"]
pub struct ContinueAsNew<Out>(PhantomData<fn() -> Out>);

impl<Out> ContinueAsNew<Out> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<Out> Future for ContinueAsNew<Out> {
    type Output = Result<Out>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}

impl<Out> fmt::Debug for ContinueAsNew<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContinueAsNew")
    }
}
