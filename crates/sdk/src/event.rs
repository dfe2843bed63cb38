//! External events: typed names, and who gets which.
//!
//! Names match in any case. Events of a name go to its waits first in, first out, on either side;
//! what nobody waits for is kept in order of arrival.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use dalsegno_core::{EventKind, Failure, Payload, TraceContext};
use dalsegno_engine::explain::{Reason, ReasonKind};
use futures::future::FusedFuture;
use serde::de::DeserializeOwned;

use crate::codec::decode;
use crate::error::TaskError;
use crate::state::Shared;

/// The name of an external event and the type of its data, for both sides.
///
/// ```
/// use dalsegno::ExternalEvent;
/// const APPROVAL: ExternalEvent<bool> = ExternalEvent::new("Approval");
/// assert_eq!(APPROVAL.name(), "Approval");
/// ```
pub struct ExternalEvent<T> {
    name: Cow<'static, str>,
    data: PhantomData<fn() -> T>,
}

impl<T> ExternalEvent<T> {
    /// An event with a name. Names match in any case.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            data: PhantomData,
        }
    }

    /// An event whose name is made at run time.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: Cow::Owned(name.into()),
            data: PhantomData,
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T> Clone for ExternalEvent<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            data: PhantomData,
        }
    }
}

impl<T> fmt::Debug for ExternalEvent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExternalEvent").field(&self.name).finish()
    }
}

/// Waits for one external event. Dropped before it came, it leaves the event to others.
#[must_use = "a wait does nothing unless it is awaited"]
pub struct EventTask<T> {
    shared: Arc<Shared>,
    wait: Option<u32>,
    data: PhantomData<fn() -> T>,
}

impl<T> EventTask<T> {
    pub(crate) fn new(shared: Arc<Shared>, name: &str) -> Self {
        let mut state = shared.enter();
        let refusal = state.refusal();
        let wait = state.events.wait(name, refusal);
        drop(state);
        Self {
            shared,
            wait: Some(wait),
            data: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Future for EventTask<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let wait = self.wait.expect("an event is not polled after it came");
        let mut state = self.shared.lock();
        let state_ref = &mut *state;
        let (polled, old) = state_ref
            .events
            .poll(wait, context.waker(), &mut state_ref.awaited);
        drop(state);
        drop(old);
        let Poll::Ready(arrived) = polled else {
            return Poll::Pending;
        };
        self.wait = None;
        let arrived = match arrived {
            Ok(arrived) => arrived,
            Err((name, failure)) => {
                self.shared.lock().hear_of_cancel();
                return Poll::Ready(Err(TaskError::new(format!("event {:?}", &*name), *failure)));
            }
        };
        let value = decode(arrived.input.as_ref());
        Poll::Ready(value.map_err(|error| {
            let failure = Failure::new("Decode", error.to_string()).permanent();
            TaskError::new(format!("event {:?}", &*arrived.name), failure)
        }))
    }
}

impl<T: DeserializeOwned> FusedFuture for EventTask<T> {
    fn is_terminated(&self) -> bool {
        self.wait.is_none()
    }
}

impl<T> Drop for EventTask<T> {
    fn drop(&mut self) {
        let Some(wait) = self.wait else { return };
        let mut state = self.shared.lock();
        let state_ref = &mut *state;
        let (waker, dropped) = state_ref.events.leave(wait, &mut state_ref.awaited);
        drop(state);
        drop(dropped);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> fmt::Debug for EventTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventTask")
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

/// External events of one execution.
#[derive(Debug, Default)]
pub(crate) struct Events {
    unread: VecDeque<Arrived>,
    /// By number, which is the order in which they came. Few: most executions wait for one event
    /// or none, and hundreds of thousands of executions wait at once.
    waits: Vec<Wait>,
    waits_created: u32,
    arrivals: u64,
}

/// An event that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    number: u64,
    pub(crate) name: Arc<str>,
    pub(crate) input: Option<Payload>,
    /// Goes on to the next execution with the event.
    trace: Option<TraceContext>,
}

#[derive(Debug)]
struct Wait {
    number: u32,
    /// In lower case.
    name: Arc<str>,
    arrived: Option<Arrived>,
    waker: Option<Waker>,
    /// No event comes any more: the orchestration is to end.
    failure: Option<Box<Failure>>,
}

/// What a wait came to; the name of the event that did not come, and why.
type Came = Result<Arrived, (Arc<str>, Box<Failure>)>;

impl Events {
    /// A new wait; takes the first unread event of the name at once, unless it is refused.
    fn wait(&mut self, name: &str, refusal: Option<Failure>) -> u32 {
        let wait = self.waits_created;
        self.waits_created += 1;
        let name: Arc<str> = name.to_lowercase().into();
        let unread = self
            .unread
            .iter()
            .position(|event| event.name.to_lowercase() == *name)
            .filter(|_| refusal.is_none());
        let arrived = unread.and_then(|at| self.unread.remove(at));
        if self.waits.is_empty() {
            self.waits.reserve_exact(1);
        }
        self.waits.push(Wait {
            number: wait,
            name,
            arrived,
            waker: None,
            failure: refusal.map(Box::new),
        });
        wait
    }

    fn place_of(&self, wait: u32) -> Option<usize> {
        self.waits.binary_search_by_key(&wait, |wait| wait.number).ok()
    }

    /// An event arrived: the longest wait of its name gets it. Returns whom to wake.
    pub(crate) fn arrive(
        &mut self,
        name: &Arc<str>,
        input: Option<&Payload>,
        trace: Option<&TraceContext>,
        awaited: &mut usize,
    ) -> Option<Waker> {
        let number = self.arrivals;
        self.arrivals += 1;
        let arrived = Arrived {
            number,
            name: name.clone(),
            input: input.cloned(),
            trace: trace.cloned(),
        };
        self.hand_out(arrived, awaited)
    }

    fn hand_out(&mut self, arrived: Arrived, awaited: &mut usize) -> Option<Waker> {
        let name = arrived.name.to_lowercase();
        let first = self
            .waits
            .iter_mut()
            .find(|wait| wait.arrived.is_none() && wait.failure.is_none() && *wait.name == *name);
        let Some(wait) = first else {
            let at = self.unread.partition_point(|event| event.number < arrived.number);
            self.unread.insert(at, arrived);
            return None;
        };
        wait.arrived = Some(arrived);
        let waker = wait.waker.take();
        *awaited -= usize::from(waker.is_some());
        waker
    }

    fn poll(&mut self, wait: u32, waker: &Waker, awaited: &mut usize) -> (Poll<Came>, Option<Waker>) {
        let place = self.place_of(wait).expect("a wait exists until it is dropped");
        let entry = &mut self.waits[place];
        if let Some(arrived) = entry.arrived.take() {
            let old = self.waits.remove(place).waker;
            return (Poll::Ready(Ok(arrived)), old);
        }
        if let Some(failure) = entry.failure.take() {
            let wait = self.waits.remove(place);
            return (Poll::Ready(Err((wait.name, failure))), wait.waker);
        }
        let old = entry.waker.replace(waker.clone());
        *awaited += usize::from(old.is_none());
        (Poll::Pending, old)
    }

    /// No wait gets an event that it has not got already. Returns whom to wake.
    pub(crate) fn fail_all(&mut self, failure: &Failure, awaited: &mut usize) -> Vec<Waker> {
        let open = self.waits.iter_mut().filter(|wait| wait.arrived.is_none());
        let wakers = open.filter_map(|wait| {
            wait.failure = Some(Box::new(failure.clone()));
            wait.waker.take()
        });
        let wakers: Vec<Waker> = wakers.collect();
        *awaited -= wakers.len();
        wakers
    }

    /// A wait was dropped: it leaves its queue, and an event it had not taken goes to the next.
    /// Returns whom to wake, and the waker nobody needs any more.
    fn leave(&mut self, wait: u32, awaited: &mut usize) -> (Option<Waker>, Option<Waker>) {
        let Some(place) = self.place_of(wait) else {
            return (None, None);
        };
        let entry = self.waits.remove(place);
        *awaited -= usize::from(entry.waker.is_some());
        if let Some(arrived) = entry.arrived {
            return (self.hand_out(arrived, awaited), entry.waker);
        }
        (None, entry.waker)
    }

    /// What nobody took, in order of arrival.
    pub(crate) fn unread(&self) -> Vec<EventKind> {
        let waiting = self.waits.iter().filter_map(|wait| wait.arrived.as_ref());
        let mut unread: Vec<&Arrived> = self.unread.iter().chain(waiting).collect();
        unread.sort_unstable_by_key(|event| event.number);
        unread
            .into_iter()
            .map(|event| EventKind::EventRaised {
                name: event.name.clone(),
                input: event.input.clone(),
                trace: event.trace.clone(),
            })
            .collect()
    }

    /// Names that are waited for, each once, in order.
    pub(crate) fn awaited(&self) -> Vec<Arc<str>> {
        let open = self
            .waits
            .iter()
            .filter(|wait| wait.arrived.is_none() && wait.failure.is_none());
        let mut names: Vec<Arc<str>> = open.map(|wait| wait.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(crate) fn waits_for(&self) -> Vec<Reason> {
        let reason = |name: Arc<str>| Reason::new(ReasonKind::Event, format!("event {name:?}")).named(name);
        self.awaited().into_iter().map(reason).collect()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        let unread: usize = self
            .unread
            .iter()
            .filter_map(|event| event.input.as_ref())
            .map(Payload::len_bytes)
            .sum();
        unread + self.unread.capacity() * size_of::<Arrived>() + self.waits.capacity() * size_of::<Wait>()
    }
}
