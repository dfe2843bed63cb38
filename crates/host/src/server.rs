//! The server: one listener, one hub, the app's routes.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use dalsegno_engine::TaskHub;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::app_routes::AppRoutes;
pub use crate::http::auth::{Access, KeysInQuery};
use crate::http::dispatch::{Connection, dispatch};
use crate::http::grpc;
use crate::http::links::Links;
pub use crate::http::request::HttpSettings;
use crate::http::request::State;
use crate::http::unread::Unread;
use crate::http::waits::Waits;
use crate::hubs::{HubKeeper, HubList};
use crate::observer::Observer;
use crate::schedule::Schedules;
use crate::tls::Tls;
use crate::v1::jobs::Operations;

/// Bytes and number of headers taken; more is 431.
pub(crate) const HEADER_BYTES_MAX: usize = 32 * 1024;
const HEADERS_MAX: usize = 100;
/// Calls in progress on one connection of HTTP/2: clients of gRPC hold their waits open.
const STREAMS_MAX: u32 = 100_000;
/// A peer of HTTP/2 is asked whether it lives so often, and is cut off when it does not answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that has not finished the handshake of TLS by then is cut off.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Why a connection ended early.
type ConnectionError = Box<dyn std::error::Error + Send + Sync>;
/// How long answers in progress may take after the end was ordered.
const ANSWERS_GRACE: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a hub over HTTP.
#[derive(Debug)]
pub struct Server {
    hubs: HubList,
    keeper: Option<Arc<dyn HubKeeper>>,
    settings: HttpSettings,
    access: Access,
    routes: AppRoutes,
    route_prefix: String,
    grpc: Option<Router>,
    tls: Option<Tls>,
    allows_plaintext: bool,
    schedules: Arc<Schedules>,
    observer: Arc<Observer>,
    operations: Arc<Operations>,
}

impl Server {
    /// A server of a hub: without app routes, for loopback.
    pub fn new(hub: TaskHub) -> Self {
        Self {
            hubs: HubList::new(hub),
            keeper: None,
            settings: HttpSettings::default(),
            access: Access::loopback(),
            routes: AppRoutes::new(),
            route_prefix: "api".into(),
            grpc: None,
            tls: None,
            allows_plaintext: false,
            schedules: Arc::default(),
            observer: Arc::default(),
            operations: Arc::default(),
        }
    }

    /// Serves all hubs of a list, instead of one.
    #[must_use]
    pub fn hubs(mut self, hubs: HubList) -> Self {
        self.hubs = hubs;
        self
    }

    /// The default hub.
    pub fn main_hub(&self) -> &TaskHub {
        self.hubs.main()
    }

    /// Who makes and deletes hubs; without, nobody does.
    #[must_use]
    pub fn keeper(mut self, keeper: Arc<dyn HubKeeper>) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// How HTTP is answered.
    #[must_use]
    pub fn settings(mut self, settings: HttpSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Who may call.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The app's routes, below a prefix.
    #[must_use]
    pub fn routes(mut self, prefix: &str, routes: AppRoutes) -> Self {
        prefix.clone_into(&mut self.route_prefix);
        self.routes = routes;
        self
    }

    /// The service that answers calls of gRPC, by their paths. They share the listener, over HTTP/2.
    #[must_use]
    pub fn grpc(mut self, service: Router) -> Self {
        self.grpc = Some(service);
        self
    }

    /// The timer triggers that it tells of and runs when asked.
    #[must_use]
    pub fn schedules(mut self, schedules: Arc<Schedules>) -> Self {
        self.schedules = schedules;
        self
    }

    /// What is shared with other listeners of the same host: who measures and records, and the
    /// commands to many instances that run.
    #[must_use]
    pub fn shared_with(mut self, observer: Arc<Observer>, operations: Arc<Operations>) -> Self {
        self.observer = observer;
        self.operations = operations;
        self
    }

    /// Speaks TLS and nothing else.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.settings.is_tls = true;
        self.tls = Some(tls);
        self
    }

    /// Speaks without TLS beyond loopback too: behind a proxy that ends TLS, or in a network that is trusted.
    #[must_use]
    pub fn allow_plaintext(mut self, is_allowed: bool) -> Self {
        self.allows_plaintext = is_allowed;
        self
    }

    /// Links as they look without a request: from the configured URL, or the listener's address.
    pub fn links(&self, listening: SocketAddr) -> Links {
        let origin = self.settings.public_url.clone();
        let scheme = self.settings.scheme();
        let origin = origin.unwrap_or_else(|| format!("{scheme}://{listening}"));
        self.shared()
            .links(self.hubs.main(), origin.trim_end_matches('/').to_owned())
    }

    /// Serves until `shutdown` is ready, then finishes the answers in progress.
    ///
    /// # Errors
    /// When a listener beyond loopback has no keys to check, or neither TLS nor leave to do without:
    /// nothing is served then.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let address = listener.local_addr()?;
        self.check_reach(address)?;
        let state = Arc::new(self.shared());
        let faces = Faces {
            app: self
                .routes
                .into_router(&self.route_prefix, self.settings.body_bytes_max),
            grpc: self.grpc,
            tls: self.tls,
        };
        let taking_up = tokio::spawn(take_up(Arc::clone(&state)));
        accept_until(&listener, shutdown, &state, &faces).await;
        taking_up.abort();
        Ok(())
    }

    /// Checks that a listener beyond loopback asks for keys, and that they do not travel unencrypted.
    ///
    /// # Errors
    /// What is missing, and what to set.
    pub fn check_reach(&self, address: SocketAddr) -> io::Result<()> {
        let refused = |text: &str| {
            let text = format!("{address} is reachable from other machines and {text}");
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        };
        match address.ip().is_loopback() {
            true => Ok(()),
            false if !self.access.needs_keys() => {
                refused("no keys are configured: listen on 127.0.0.1, or set auth.keys_file")
            }
            false if self.tls.is_none() && !self.allows_plaintext => refused(
                "keys would travel unencrypted: set tls.certificate_file and tls.key_file, \
                 or tls.allow_plaintext behind a proxy that ends TLS",
            ),
            false => Ok(()),
        }
    }

    fn shared(&self) -> State {
        State {
            hub: self.hubs.main().clone(),
            hubs: self.hubs.clone(),
            keeper: self.keeper.clone(),
            settings: self.settings.clone(),
            access: self.access.clone(),
            invalid_keys: Mutex::default(),
            waits: Waits::default(),
            schedules: Arc::clone(&self.schedules),
            operations: Arc::clone(&self.operations),
            observer: Arc::clone(&self.observer),
            closing: tokio::sync::watch::Sender::new(false),
        }
    }
}

/// Lets stored jobs go on: of the hubs that are open, and of each that is opened later.
async fn take_up(state: Arc<State>) {
    let mut opened = state.hubs.opened();
    loop {
        for hub in state.hubs.all() {
            state.operations.take_up(&state, &hub);
        }
        if opened.changed().await.is_err() {
            return;
        }
    }
}

/// What answers that is not the management API.
#[derive(Clone)]
struct Faces {
    app: Router,
    grpc: Option<Router>,
    tls: Option<Tls>,
}

async fn accept_until(
    listener: &TcpListener,
    shutdown: impl Future<Output = ()>,
    state: &Arc<State>,
    faces: &Faces,
) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(state.settings.connections_max));
    let mut shutdown = std::pin::pin!(shutdown);
    // Whoever drops the server drops its connections.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, from, slot)) => {
                let (state, faces, watcher) = (Arc::clone(state), faces.clone(), graceful.watcher());
                connections.spawn(async move {
                    let ended = match faces.tls.clone() {
                        None => watcher.watch(connection(stream, from, state, faces)).await,
                        Some(tls) => match shake_hands(&tls, stream).await {
                            Ok(stream) => watcher.watch(connection(stream, from, state, faces)).await,
                            Err(error) => Err(error.into()),
                        },
                    };
                    if let Err(error) = ended {
                        tracing::debug!(peer = %from.peer, %error, "connection ended early");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    state.closing.send_replace(true);
    if tokio::time::timeout(ANSWERS_GRACE, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some answers were not finished within {ANSWERS_GRACE:?} and are cut off");
    }
    // Past this nothing of a connection runs, so that what its calls leave behind is complete.
    connections.shutdown().await;
}

/// Takes a slot first, so that more connections than allowed wait in the system's queue.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Connection, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let listening = stream.local_addr()?;
    Ok((stream, Connection { peer, listening }, slot))
}

async fn shake_hands(tls: &Tls, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let shaken = tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.accept(stream)).await;
    shaken.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no TLS handshake in time",
        ))
    })
}

fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    from: Connection,
    state: Arc<State>,
    faces: Faces,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = ConnectionError> + Send {
    let timeout = state.settings.header_timeout;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (state, faces) = (Arc::clone(&state), faces.clone());
        async move {
            let answer = match grpc::is_call(&request) {
                true => grpc::answer(state, faces.grpc, from, request.map(Body::new)).await,
                false => {
                    let request = request.map(|body| Body::new(Unread::new(body)));
                    dispatch(state, faces.app, from, request).await
                }
            };
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
        .serve_connection(TokioIo::new(stream), service)
        .into_owned()
}
