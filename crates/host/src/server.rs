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
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::app_routes::AppRoutes;
pub use crate::http::auth::Access;
use crate::http::dispatch::dispatch;
use crate::http::links::Links;
pub use crate::http::request::HttpSettings;
use crate::http::request::State;
use crate::http::unread::Unread;
use crate::http::waits::Waits;

/// Bytes and number of headers taken; more is 431.
pub(crate) const HEADER_BYTES_MAX: usize = 32 * 1024;
const HEADERS_MAX: usize = 100;
/// How long answers in progress may take after the end was ordered.
const ANSWERS_GRACE: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a hub over HTTP.
#[derive(Debug)]
pub struct Server {
    hub: TaskHub,
    settings: HttpSettings,
    access: Access,
    routes: AppRoutes,
    route_prefix: String,
}

impl Server {
    /// A server of a hub: without app routes, for loopback.
    pub fn new(hub: TaskHub) -> Self {
        Self {
            hub,
            settings: HttpSettings::default(),
            access: Access::Loopback { hosts: Vec::new() },
            routes: AppRoutes::new(),
            route_prefix: "api".into(),
        }
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

    /// Links as they look without a request: from the configured URL, or the listener's address.
    pub fn links(&self, listening: SocketAddr) -> Links {
        let origin = self.settings.public_url.clone();
        let origin = origin.unwrap_or_else(|| format!("http://{listening}"));
        self.shared().links(origin.trim_end_matches('/').to_owned())
    }

    /// Serves until `shutdown` is ready, then finishes the answers in progress.
    ///
    /// # Errors
    /// When a listener beyond loopback has no keys to check: nothing is served then.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() && matches!(self.access, Access::Loopback { .. }) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{address} is reachable from elsewhere and no keys are configured: listen on 127.0.0.1, or set auth.keys_file"
                ),
            ));
        }
        let state = Arc::new(self.shared());
        let app = self
            .routes
            .into_router(&self.route_prefix, self.settings.body_bytes_max);
        accept_until(&listener, shutdown, &state, &app).await;
        Ok(())
    }

    fn shared(&self) -> State {
        State {
            hub: self.hub.clone(),
            settings: self.settings.clone(),
            access: self.access.clone(),
            bad_keys: Mutex::default(),
            waits: Waits::default(),
            closing: tokio::sync::watch::Sender::new(false),
        }
    }
}

async fn accept_until(
    listener: &TcpListener,
    shutdown: impl Future<Output = ()>,
    state: &Arc<State>,
    app: &Router,
) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(state.settings.connections_max));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, peer, slot)) => {
                let connection = graceful.watch(connection(stream, peer, Arc::clone(state), app.clone()));
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%peer, %error, "connection ended early");
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
}

/// Takes a slot first, so that more connections than allowed wait in the system's queue.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, slot))
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    state: Arc<State>,
    app: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send {
    let timeout = state.settings.header_timeout;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = dispatch(
            Arc::clone(&state),
            app.clone(),
            peer,
            request.map(|body| Body::new(Unread::new(body))),
        );
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
}
