//! What a caller proved, checked again while a response is under way.
//!
//! A stream may last for days. It ends soon after its key is revoked or expires, and so does a
//! request that waits.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue};
use dalsegno_engine::TaskHub;
use hyper::body::{Body as _, Frame};

use super::{Access, Principal};
use crate::keys::LinkTarget;

/// How often a response under way checks its credential. The key file is read at most one second
/// later, so that a stream ends within five seconds of the change.
const RECHECK: Duration = Duration::from_secs(2);

/// gRPC's code for a caller that is not authenticated.
const UNAUTHENTICATED: HeaderValue = HeaderValue::from_static("16");

/// Whether something is still valid.
type Check = dyn Fn() -> bool + Send + Sync;

/// What a caller proved for one request; nothing that can end where no key was needed.
#[derive(Clone)]
pub(crate) struct Credential(Option<Arc<Check>>);

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(***)")
    }
}

/// The key of a request was revoked or expired before the response was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revoked;

impl Credential {
    /// Of a key; other callers have nothing that ends.
    pub(crate) fn of(principal: &Principal, access: &Access, clock: &TaskHub) -> Self {
        let (Principal::Key(key), Some(keys)) = (principal, access.keys()) else {
            return Self(None);
        };
        let (key, keys, clock) = (key.clone(), keys.clone(), clock.clone());
        Self(Some(Arc::new(move || {
            let now = clock.now();
            keys.ring(now).still_has(&key, now)
        })))
    }

    /// Of a link that was verified for this target.
    pub(crate) fn of_link(code: &Arc<str>, target: LinkTarget<'_>, access: &Access, clock: &TaskHub) -> Self {
        let Some(keys) = access.keys().cloned() else {
            return Self(None);
        };
        let (code, clock) = (code.clone(), clock.clone());
        let (hub, operation, id) = (target.hub.to_owned(), target.operation, target.id.clone());
        Self(Some(Arc::new(move || {
            let (hub, id) = (hub.as_str(), &id);
            let target = LinkTarget { hub, operation, id };
            let now = clock.now();
            keys.ring(now).link_signer().verify(&code, target, now).is_some()
        })))
    }

    /// Does the work, unless the credential ends meanwhile.
    pub(crate) async fn guard<T>(&self, work: impl Future<Output = T>) -> Result<T, Revoked> {
        let Some(is_valid) = &self.0 else {
            return Ok(work.await);
        };
        let mut work = pin!(work);
        loop {
            match tokio::time::timeout(RECHECK, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) if is_valid() => {}
                Err(_) => return Err(Revoked),
            }
        }
    }
}

/// How a body ends when its credential does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a status of gRPC.
    Status,
    /// By cutting the connection, so that no client takes the beginning for the whole.
    Cut,
}

/// A body that ends when the credential of its request does. A task drops the inner body, so that what
/// stands behind it ends although the client reads nothing any more, and asks for nothing.
#[derive(Debug)]
pub(crate) struct UntilRevoked {
    shared: Arc<Shared>,
    ending: Ending,
    is_over: bool,
}

#[derive(Debug)]
struct Shared(Mutex<State>);

#[derive(Debug)]
struct State {
    /// None once it was revoked.
    inner: Option<Body>,
    waker: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UntilRevoked {
    /// The body itself where nothing can end: without keys, or complete already.
    pub(crate) fn wrap(inner: Body, credential: &Credential, ending: Ending) -> Body {
        let Some(is_valid) = credential.0.clone() else {
            return inner;
        };
        if inner.size_hint().exact().is_some() {
            return inner;
        }
        let shared = Arc::new(Shared(Mutex::new(State {
            inner: Some(inner),
            waker: None,
        })));
        tokio::spawn(watch(Arc::downgrade(&shared), is_valid));
        Body::new(Self {
            shared,
            ending,
            is_over: false,
        })
    }

    fn end(&self) -> Result<Frame<Bytes>, axum::Error> {
        if self.ending == Ending::Cut {
            let text = "the key of this request was revoked or expired";
            return Err(axum::Error::new(std::io::Error::other(text)));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", UNAUTHENTICATED);
        trailers.insert(
            "grpc-message",
            HeaderValue::from_static("the key of this call was revoked or has expired"),
        );
        Ok(Frame::trailers(trailers))
    }
}

/// Drops the inner body when the credential ends; ends itself when the response does.
async fn watch(shared: Weak<Shared>, is_valid: Arc<Check>) {
    loop {
        tokio::time::sleep(RECHECK).await;
        let Some(shared) = shared.upgrade() else { return };
        if is_valid() {
            continue;
        }
        let mut state = shared.lock();
        let (inner, waker) = (state.inner.take(), state.waker.take());
        drop(state);
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        return;
    }
}

impl hyper::body::Body for UntilRevoked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let Some(inner) = state.inner.as_mut() else {
            self.is_over = true;
            return Poll::Ready(Some(self.end()));
        };
        let polled = Pin::new(inner).poll_frame(context);
        if polled.is_pending() {
            state.waker = Some(context.waker().clone());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.shared.lock().inner.as_ref().is_some_and(Body::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::stream;
    use http_body_util::BodyExt;
    use tokio::sync::oneshot;

    use super::*;

    /// A body that never ends, and a receiver that notices when it is dropped.
    fn endless() -> (Body, oneshot::Receiver<()>) {
        let (held, dropped) = oneshot::channel::<()>();
        let frames = stream::unfold(held, |held| async move {
            std::future::pending::<()>().await;
            Some((Ok::<_, std::io::Error>(Bytes::new()), held))
        });
        (Body::from_stream(frames), dropped)
    }

    fn revocable() -> (Credential, Arc<AtomicBool>) {
        let valid = Arc::new(AtomicBool::new(true));
        let check = valid.clone();
        let credential = Credential(Some(Arc::new(move || check.load(Ordering::Relaxed))));
        (credential, valid)
    }

    #[tokio::test]
    async fn what_stands_behind_a_body_ends_although_nobody_reads_it() {
        // A worker that stopped reading kept its work, and went on answering it, after its key was revoked.
        let (inner, dropped) = endless();
        let (credential, valid) = revocable();
        let _unread = UntilRevoked::wrap(inner, &credential, Ending::Status);
        valid.store(false, Ordering::Relaxed);
        assert!(dropped.await.is_err());
    }

    #[tokio::test]
    async fn a_reader_learns_of_the_end() {
        for ending in [Ending::Status, Ending::Cut] {
            let (credential, valid) = revocable();
            let mut body = UntilRevoked::wrap(endless().0, &credential, ending);
            valid.store(false, Ordering::Relaxed);
            let last = body.frame().await.unwrap();
            match ending {
                Ending::Status => {
                    let trailers = last.unwrap().into_trailers().unwrap();
                    assert_eq!(trailers["grpc-status"], "16");
                }
                Ending::Cut => assert!(last.is_err()),
            }
            assert!(body.frame().await.is_none());
        }
    }

    #[tokio::test]
    async fn a_body_that_is_complete_is_as_it_was() {
        let (credential, _) = revocable();
        let whole = UntilRevoked::wrap(Body::from("whole"), &credential, Ending::Cut);
        assert_eq!(whole.size_hint().exact(), Some(5));
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "whole");
    }
}
