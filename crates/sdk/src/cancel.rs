//! How a request to end reaches an orchestrator.
//!
//! It is told once. Waits for events and for children that go on fail with it at once; activities
//! and other children are told and answer by themselves; what is asked for before the code has heard
//! of it is refused. From then on everything works again, so that the code can undo what it did.
//!
//! A timer and a lock cannot fail. While the code waits for nothing but timers they end early, once,
//! and what the code asks for then is not done: it hears of the cancellation in the next answer it
//! waits for. If it waits for another timer instead, or returns, it ends there.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use dalsegno_core::Failure;
use futures::future::FusedFuture;

use crate::state::Shared;

/// Somebody asked this orchestration to end.
///
/// Returned as an error it ends the orchestration as `Canceled`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelRequested {
    reason: Option<String>,
}

impl CancelRequested {
    pub(crate) fn new(reason: Option<String>) -> Self {
        Self { reason }
    }

    /// Why, if whoever asked said so.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    pub(crate) fn to_failure(&self) -> Failure {
        Failure::cancelled(self.reason())
    }
}

impl fmt::Display for CancelRequested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_failure().message)
    }
}

impl StdError for CancelRequested {}

/// Waits until somebody asks the orchestration to end. A clone waits by itself.
#[must_use = "a wait does nothing unless it is awaited"]
pub struct Cancellation {
    shared: Arc<Shared>,
    wait: Option<u32>,
    ended: bool,
}

impl Cancellation {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: shared.clone(),
            wait: None,
            ended: false,
        }
    }
}

impl Future for Cancellation {
    type Output = CancelRequested;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CancelRequested> {
        let mut state = self.shared.lock();
        if let Some(reason) = state.hear_of_cancel() {
            drop(state);
            self.wait = None;
            self.ended = true;
            return Poll::Ready(CancelRequested::new(reason));
        }
        let (wait, old) = state.wait_for_cancel(self.wait, context.waker());
        drop(state);
        drop(old);
        self.wait = Some(wait);
        Poll::Pending
    }
}

impl FusedFuture for Cancellation {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Clone for Cancellation {
    fn clone(&self) -> Self {
        let mut clone = Self::new(&self.shared);
        clone.ended = self.ended;
        clone
    }
}

impl Drop for Cancellation {
    fn drop(&mut self) {
        let Some(wait) = self.wait else { return };
        let old = self.shared.lock().leave_cancel(wait);
        drop(old);
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// The request to end as the code of one execution meets it, and who waits for one.
#[derive(Debug, Default)]
pub(crate) struct Cancel {
    pub(crate) request: Option<Request>,
    waits: Vec<(u32, Waker)>,
    waits_created: u32,
    /// Undoing is under way: what it asks for is done, whatever was asked of the orchestration.
    pub(crate) undoing: u32,
    /// Code with a stack of undos, the innermost last.
    scopes: Vec<ScopeEntry>,
    scopes_created: u32,
}

#[derive(Debug)]
struct ScopeEntry {
    number: u32,
    is_ended: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) reason: Option<String>,
    /// The code knows.
    pub(crate) is_heard: bool,
    /// Its timers ended early.
    pub(crate) is_cut: bool,
}

impl Cancel {
    /// The request that the code has not heard of and has to.
    fn unheard(&self) -> Option<&Request> {
        let request = self.request.as_ref()?;
        (!request.is_heard && self.undoing == 0).then_some(request)
    }

    /// Why what is asked for now is refused, if it is.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        self.unheard()
            .map(|request| Failure::cancelled(request.reason.as_deref()))
    }

    /// Did timers end early, without the code having heard why? Then nothing it asks for is done.
    pub(crate) fn is_cut(&self) -> bool {
        self.unheard().is_some_and(|request| request.is_cut)
    }

    /// The request came: returns whom to wake.
    pub(crate) fn arrive(&mut self, reason: Option<String>) -> Vec<(u32, Waker)> {
        self.request = Some(Request {
            reason,
            is_heard: false,
            is_cut: false,
        });
        std::mem::take(&mut self.waits)
    }

    pub(crate) fn wait(&mut self, wait: Option<u32>, waker: &Waker) -> (u32, Option<Waker>) {
        if let Some((number, old)) = self.waits.iter_mut().find(|(number, _)| Some(*number) == wait) {
            return (*number, Some(std::mem::replace(old, waker.clone())));
        }
        self.waits_created += 1;
        self.waits.push((self.waits_created, waker.clone()));
        (self.waits_created, None)
    }

    pub(crate) fn leave(&mut self, wait: u32) -> Option<Waker> {
        let place = self.waits.iter().position(|(number, _)| *number == wait)?;
        Some(self.waits.remove(place).1)
    }

    pub(crate) fn enter_scope(&mut self) -> u32 {
        self.scopes_created += 1;
        self.scopes.push(ScopeEntry {
            number: self.scopes_created,
            is_ended: false,
            waker: None,
        });
        self.scopes_created
    }

    /// Ends the innermost code that has a stack of undos; says whom to wake, if there is any.
    pub(crate) fn end_scope(&mut self) -> Option<Waker> {
        let scope = self.scopes.iter_mut().rev().find(|scope| !scope.is_ended)?;
        scope.is_ended = true;
        scope.waker.clone()
    }

    /// Says whether that scope has ended, or keeps the waker; gives the old one.
    pub(crate) fn poll_scope(&mut self, number: u32, waker: &Waker) -> (bool, Option<Waker>) {
        let Some(scope) = self.scopes.iter_mut().find(|scope| scope.number == number) else {
            return (false, None);
        };
        (scope.is_ended, scope.waker.replace(waker.clone()))
    }

    pub(crate) fn leave_scope(&mut self, number: u32) -> Option<Waker> {
        let place = self.scopes.iter().position(|scope| scope.number == number)?;
        self.scopes.remove(place).waker
    }

    pub(crate) fn is_waited_for(&self) -> bool {
        !self.waits.is_empty()
    }
}
