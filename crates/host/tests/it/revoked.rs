//! A key that is revoked while its responses are under way.

use axum::routing::get;
use dalsegno_core::limits::Limits;
use dalsegno_host::app_routes::RouteInfo;
use dalsegno_host::key_file::Keys;
use dalsegno_host::keys::{KeyHubs, KeyRing, Scope};
use dalsegno_host::server::Access;
use dalsegno_host::{AppRoutes, AuthLevel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::world::{P, World, world_with};

/// A server with a key file, and a way to revoke its only key.
struct Revocable {
    world: World,
    ring: KeyRing,
    key: String,
    folder: tempfile::TempDir,
}

async fn revocable() -> Revocable {
    revocable_with(AppRoutes::new()).await
}

async fn revocable_with(routes: AppRoutes) -> Revocable {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let mut ring = KeyRing::new().unwrap();
    let key = ring.create("k", &Scope::ALL, KeyHubs::All, None).unwrap();
    ring.save(&path).unwrap();
    let access = Access::with_keys(Keys::of_file(&path).unwrap());
    let world = world_with(Limits::default(), |server| {
        server.access(access).routes("api", routes)
    })
    .await;
    Revocable {
        world,
        ring,
        key,
        folder,
    }
}

impl Revocable {
    fn revoke(&mut self) {
        self.ring.revoke("k");
        self.ring.save(&self.folder.path().join("keys.json")).unwrap();
    }

    async fn open(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.world.address).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nx-functions-key: {}\r\n\r\n",
            self.world.address, self.key
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_key_is_revoked() {
    let mut host = revocable().await;
    let headers = [("x-functions-key", host.key.as_str())];
    let start = format!("{P}/orchestrators/Wait/order-1");
    assert_eq!(host.world.send("POST", &start, &headers, b"").await.status, 202);
    let mut streams = vec![
        host.open("/runtime/dalsegno/v1/stream").await,
        host.open("/runtime/dalsegno/v1/instances/order-1/stream").await,
    ];
    for stream in &mut streams {
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    host.revoke();
    for stream in &mut streams {
        // Without the check nothing ends it.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "it is cut, not completed");
    }
}

#[tokio::test]
async fn a_wait_ends_with_401_when_its_key_is_revoked() {
    let mut host = revocable().await;
    let headers = [("x-functions-key", host.key.as_str())];
    let start = format!("{P}/orchestrators/Wait/order-1");
    assert_eq!(host.world.send("POST", &start, &headers, b"").await.status, 202);
    let wait = "/runtime/dalsegno/v1/instances/order-1/wait?timeout=200";
    let mut waiting = host.open(wait).await;
    while host.world.hub.measure().await.unwrap().waiters == 0 {
        tokio::task::yield_now().await;
    }
    host.revoke();
    let mut first = [0; 12];
    waiting.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 401");
}

/// A route of the app whose handler never ends. For each call it sends what notices when the handler is
/// dropped.
fn endless(
    level: AuthLevel,
) -> (
    RouteInfo,
    axum::routing::MethodRouter,
    mpsc::UnboundedReceiver<Drops>,
) {
    let (begun, handlers) = mpsc::unbounded_channel();
    let handler = move || {
        let begun = begun.clone();
        async move {
            let (held, dropped) = oneshot::channel::<()>();
            begun.send(dropped).unwrap();
            std::future::pending::<()>().await;
            drop(held);
        }
    };
    let info = RouteInfo {
        name: format!("{level:?}"),
        path: format!("/{level:?}"),
        methods: vec!["GET".into()],
        level,
    };
    (info, get(handler), handlers)
}

type Drops = oneshot::Receiver<()>;

#[tokio::test]
async fn a_handler_of_the_app_ends_when_the_key_of_its_caller_is_revoked() {
    // Only the body of its response did.
    let (open_info, open_route, mut open_handlers) = endless(AuthLevel::Anonymous);
    let (info, route, mut handlers) = endless(AuthLevel::Function);
    let routes = AppRoutes::new().route(open_info, open_route).route(info, route);
    let mut host = revocable_with(routes).await;
    let _open = host.open("/api/Anonymous").await;
    let mut for_everybody = open_handlers.recv().await.unwrap();
    let mut guarded = host.open("/api/Function").await;
    let for_keys = handlers.recv().await.unwrap();
    host.revoke();
    let mut first = [0; 12];
    guarded.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 401");
    assert!(for_keys.await.is_err(), "the handler is dropped");
    let empty = Err(oneshot::error::TryRecvError::Empty);
    assert_eq!(for_everybody.try_recv(), empty, "it needs no key");
}
