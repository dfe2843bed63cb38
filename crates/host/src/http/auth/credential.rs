//! What a caller proved, checked again while a response is under way.
//!
//! A stream may last for days. It ends soon after its key is revoked or expires, and so does a
//! request that waits.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use dalsegno_core::{InstanceId, Timestamp};
use dalsegno_engine::TaskHub;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::{Access, Principal};
use crate::keys::{LinkOperation, LinkTarget};

/// How often a response under way checks its credential. The key file is read at most one second
/// later, so that a stream ends within five seconds of the change.
const RECHECK: Duration = Duration::from_secs(2);

/// gRPC's code for a caller that is not authenticated.
const UNAUTHENTICATED: HeaderValue = HeaderValue::from_static("16");

/// What a caller proved for one request.
#[derive(Clone, Debug)]
pub(crate) struct Credential(Option<Arc<Proof>>);

#[derive(Debug)]
struct Proof {
    access: Access,
    clock: TaskHub,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Principal(Principal),
    Link {
        code: Arc<str>,
        hub: String,
        operation: LinkOperation,
        id: InstanceId,
    },
}

/// The key of a request was revoked or expired before the response was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revoked;

impl Credential {
    /// Of a key; other callers have nothing that ends.
    pub(crate) fn of(principal: &Principal, access: &Access, clock: &TaskHub) -> Self {
        Self(matches!(principal, Principal::Key(_)).then(|| {
            Arc::new(Proof {
                access: access.clone(),
                clock: clock.clone(),
                kind: Kind::Principal(principal.clone()),
            })
        }))
    }

    /// Of a link that was verified for this target.
    pub(crate) fn of_link(code: &Arc<str>, target: LinkTarget<'_>, access: &Access, clock: &TaskHub) -> Self {
        Self(Some(Arc::new(Proof {
            access: access.clone(),
            clock: clock.clone(),
            kind: Kind::Link {
                code: code.clone(),
                hub: target.hub.to_owned(),
                operation: target.operation,
                id: target.id.clone(),
            },
        })))
    }

    fn is_valid(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|proof| proof.is_valid(proof.clock.now()))
    }

    /// Does the work, unless the credential ends meanwhile.
    pub(crate) async fn guard<T>(&self, work: impl Future<Output = T>) -> Result<T, Revoked> {
        if self.0.is_none() {
            return Ok(work.await);
        }
        let mut work = pin!(work);
        loop {
            match tokio::time::timeout(RECHECK, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) if self.is_valid() => {}
                Err(_) => return Err(Revoked),
            }
        }
    }
}

impl Proof {
    fn is_valid(&self, now: Timestamp) -> bool {
        let Some(keys) = self.access.keys() else {
            return true;
        };
        let ring = keys.ring(now);
        match &self.kind {
            Kind::Principal(Principal::Key(key)) => ring.still_has(key, now),
            Kind::Principal(_) => true,
            Kind::Link {
                code,
                hub,
                operation,
                id,
            } => {
                let (operation, hub) = (*operation, hub.as_str());
                let target = LinkTarget { hub, operation, id };
                ring.link_signer().verify(code, target, now).is_some()
            }
        }
    }
}

/// A body that ends when the credential of its request does: with a status of gRPC, or by cutting
/// the connection, so that no client takes the beginning for the whole.
#[derive(Debug)]
pub(crate) struct UntilRevoked {
    inner: Body,
    credential: Credential,
    is_grpc: bool,
    recheck: Pin<Box<Sleep>>,
    is_over: bool,
}

impl UntilRevoked {
    /// The body itself where nothing can end: without keys, or complete already.
    pub(crate) fn wrap(inner: Body, credential: &Credential, is_grpc: bool) -> Body {
        if credential.0.is_none() || inner.size_hint().exact().is_some() {
            return inner;
        }
        Body::new(Self {
            inner,
            credential: credential.clone(),
            is_grpc,
            recheck: Box::pin(sleep(RECHECK)),
            is_over: false,
        })
    }

    fn end(&mut self) -> Option<Result<Frame<Bytes>, axum::Error>> {
        self.is_over = true;
        self.inner = Body::empty();
        if !self.is_grpc {
            return Some(Err(axum::Error::new(std::io::Error::other(
                "the key of this request was revoked or expired",
            ))));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", UNAUTHENTICATED);
        trailers.insert(
            "grpc-message",
            HeaderValue::from_static("the key of this call was revoked or has expired"),
        );
        Some(Ok(Frame::trailers(trailers)))
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
        while self.recheck.as_mut().poll(context).is_ready() {
            if !self.credential.is_valid() {
                return Poll::Ready(self.end());
            }
            self.recheck.as_mut().reset(Instant::now() + RECHECK);
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}
