//! Locks of entities, held by a guard.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use dalsegno_core::{Action, EntityId, TaskId};
use futures::future::FusedFuture;

use crate::state::{Locked, Shared, TaskKind};

/// Waits until all of some entities are locked. Dropped before, it withdraws the request.
#[must_use = "nothing is locked unless it is awaited and the guard is kept"]
pub struct LockTask {
    guard: Option<LockGuard>,
}

impl LockTask {
    #[track_caller]
    pub(crate) fn schedule(shared: &Arc<Shared>, mut entities: Vec<EntityId>) -> Self {
        entities.sort_unstable();
        entities.dedup();
        check(shared, &entities);
        let location = Location::caller();
        let task = shared.schedule(TaskKind::Lock, location, |task, _| Action::LockEntities {
            task,
            entities: entities.clone(),
            request: None,
        });
        shared.lock().locked = Some(Locked { task, entities });
        Self {
            guard: Some(LockGuard {
                shared: shared.clone(),
                task,
                location,
            }),
        }
    }
}

#[track_caller]
fn check(shared: &Arc<Shared>, entities: &[EntityId]) {
    let most = shared.info.locked_entities_max;
    let held = shared.enter().locked.is_some();
    assert!(
        !held,
        "a lock is asked for while another is held or asked for: two orchestrations could wait for each other \
         for ever. Lock all entities at once, or drop the first guard before"
    );
    assert!(!entities.is_empty(), "a lock of no entities: name at least one");
    assert!(
        entities.len() <= most,
        "{} entities in one lock, locked_entities_max is {most}",
        entities.len()
    );
}

impl Future for LockTask {
    type Output = LockGuard;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<LockGuard> {
        let guard = self
            .guard
            .as_ref()
            .expect("a lock is not polled after it was granted");
        match guard.shared.poll_task(guard.task, context.waker()) {
            Poll::Ready(_) => Poll::Ready(self.guard.take().expect("it is there")),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl FusedFuture for LockTask {
    fn is_terminated(&self) -> bool {
        self.guard.is_none()
    }
}

impl fmt::Debug for LockTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockTask").field(&self.guard).finish()
    }
}

/// Holds entities locked until it is dropped.
///
/// Any end of the orchestration releases them; eviction from memory does not.
#[must_use = "dropping the guard releases the lock"]
pub struct LockGuard {
    shared: Arc<Shared>,
    task: TaskId,
    location: &'static Location<'static>,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.shared.forget_task(self.task);
        let mut state = self.shared.lock();
        state.locked = state.locked.take().filter(|lock| lock.task != self.task);
        let lock = self.task;
        state.ask(Action::UnlockEntities { lock, only: None }, self.location);
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lock {}", self.task)
    }
}
