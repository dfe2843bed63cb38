//! Links of bytes that break: cut after so many, held back, handed on in pieces, dead in one direction.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::http::Uri;
use dalsegno_grpc::tonic::codegen::Service;
use dalsegno_grpc::tonic::transport::{Channel, Endpoint};
use dalsegno_store_tests::Random;
use futures::future::BoxFuture;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex};
use tokio::task::yield_now;

/// Bytes that go through a link before it is cut, at most: some dozen messages.
const BYTES_MAX: u64 = 6_000;

/// How often others go on while bytes are held back, at most.
const HELD_MAX: u64 = 100;

/// Makes links to a server; the first of them break.
#[derive(Clone)]
pub(crate) struct Links(Arc<Plan>);

struct Plan {
    routes: axum::Router,
    random: Mutex<Random>,
    /// Links that will break.
    left: AtomicUsize,
    /// Links that have broken.
    cut: AtomicUsize,
}

impl Links {
    /// Of which so many break.
    pub(crate) fn new(routes: axum::Router, random: Random, broken: usize) -> Self {
        Self(Arc::new(Plan {
            routes,
            random: Mutex::new(random),
            left: AtomicUsize::new(broken),
            cut: AtomicUsize::new(0),
        }))
    }

    /// How many were cut so far.
    pub(crate) fn cut(&self) -> usize {
        self.0.cut.load(Ordering::SeqCst)
    }

    /// A connection over a link of its own; it may break before it is made.
    pub(crate) async fn connect(&self) -> Option<Channel> {
        let endpoint = Endpoint::from_static("http://hub");
        endpoint
            .connect_with_connector(Once(Some(self.clone())))
            .await
            .ok()
    }

    fn open(&self) -> DuplexStream {
        let plan = &self.0;
        let mut random = plan.random.lock().unwrap_or_else(PoisonError::into_inner);
        let room = 64 << random.below(10);
        let take = |left: usize| left.checked_sub(1);
        let breaks = plan
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .is_ok();
        let mut direction = || {
            let bytes = breaks.then(|| random.below(BYTES_MAX) as usize);
            (Random::new(random.below(1 << 40)), bytes)
        };
        let (there, back) = (direction(), direction());
        let (near, far) = duplex(room);
        let (into, server) = duplex(room);
        tokio::spawn(link(far, into, there, back, plan.clone()));
        let service = TowerToHyperService::new(plan.routes.clone());
        tokio::spawn(async move {
            // A link that breaks ends it.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(server), service)
                .await;
        });
        near
    }
}

/// Bytes go both ways until one way ends; the other may go on for a while.
async fn link(
    near: DuplexStream,
    far: DuplexStream,
    (there, there_bytes): (Random, Option<usize>),
    (mut back, back_bytes): (Random, Option<usize>),
    plan: Arc<Plan>,
) {
    let lag = back.below(HELD_MAX);
    let (near_reads, near_writes) = tokio::io::split(near);
    let (far_reads, far_writes) = tokio::io::split(far);
    let there = carry(near_reads, far_writes, there, there_bytes);
    let back = carry(far_reads, near_writes, back, back_bytes);
    tokio::pin!(there, back);
    let is_cut = tokio::select! {
        is_cut = &mut there => {
            tokio::select! { _ = &mut back => {}, () = hold(lag) => {} }
            is_cut
        }
        is_cut = &mut back => {
            tokio::select! { _ = &mut there => {}, () = hold(lag) => {} }
            is_cut
        }
    };
    plan.cut.fetch_add(usize::from(is_cut), Ordering::SeqCst);
}

/// True when it was cut rather than closed.
async fn carry(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    mut random: Random,
    mut left: Option<usize>,
) -> bool {
    let mut buffer = vec![0; 4096];
    loop {
        let most = 1 + random.below(buffer.len() as u64) as usize;
        let count = match from.read(&mut buffer[..most]).await {
            Ok(count) if count > 0 => count,
            _ => return false,
        };
        if random.one_in(4) {
            hold(random.below(HELD_MAX)).await;
        }
        let count = left.map_or(count, |left| count.min(left));
        if to.write_all(&buffer[..count]).await.is_err() {
            return false;
        }
        left = left.map(|left| left - count);
        if left == Some(0) {
            return true;
        }
    }
}

/// Lets others go on so many times.
pub(crate) async fn hold(times: u64) {
    for _ in 0..times {
        yield_now().await;
    }
}

/// Connects once: a channel that is broken stays so, and its owner makes another.
struct Once(Option<Links>);

impl Service<Uri> for Once {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let stream = self.0.take().map(|links| TokioIo::new(links.open()));
        let stream = stream.ok_or_else(|| io::ErrorKind::NotConnected.into());
        Box::pin(std::future::ready(stream))
    }
}
