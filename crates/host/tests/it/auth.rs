//! Keys, scopes and links, on a server that wants keys.

use axum::Router;
use axum::routing::get;
use dalsegno_core::event::{Event, EventKind};
use dalsegno_core::limits::Limits;
use dalsegno_core::{InstanceId, Timestamp};
use dalsegno_engine::request::Scope as Family;
use dalsegno_host::app_routes::RouteInfo;
use dalsegno_host::key_file::Keys;
use dalsegno_host::keys::{KeyHubs, KeyRing, LinkOperation, LinkSigner, LinkTarget, Scope};
use dalsegno_host::server::{Access, HttpSettings, KeysInQuery};
use dalsegno_host::{AppRoutes, AuthLevel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{P, Reply, World, world, world_with, world_with_keys};

async fn guarded() -> (World, Vec<(Scope, String)>) {
    let mut ring = KeyRing::new().unwrap();
    let keys = Scope::ALL.map(|scope| {
        (
            scope,
            ring.create(&format!("{scope:?}"), &[scope], KeyHubs::All, None)
                .unwrap(),
        )
    });
    (world_with_keys(Access::with_keys(ring)).await, keys.to_vec())
}

async fn ask(world: &World, method: &str, path: &str, key: &str) -> Reply {
    world.send(method, path, &[("x-functions-key", key)], b"").await
}

#[tokio::test]
async fn a_key_in_the_query_counts_only_where_the_operator_says_so() {
    let mut ring = KeyRing::new().unwrap();
    let key = ring.create("k", &[Scope::Read], KeyHubs::All, None).unwrap();
    let access = Access::with_keys(ring);
    for (accepted, wanted) in [(KeysInQuery::Ignored, 401), (KeysInQuery::Accepted, 200)] {
        let world = world_with_keys(access.clone().keys_in_query(accepted)).await;
        let reply = world.get(&format!("{P}/instances?code={key}")).await;
        assert_eq!(reply.status, wanted, "{accepted:?}");
    }
}

#[tokio::test]
async fn only_healthz_and_the_files_of_the_dashboard_are_exempt() {
    let (world, keys) = guarded().await;
    assert_eq!(world.get("/healthz").await.status, 200);
    for path in [
        "//healthz",
        "/x/../healthz",
        "/HEALTHZ",
        "/healthz/",
        "/metrics",
        "/openapi.json",
        "/dashboards",
        "/DASHBOARD/",
        "/api/x",
        "/runtime/%zz",
    ] {
        let reply = world.get(path).await;
        assert_eq!((reply.status, reply.body.as_str()), (401, ""), "{path}");
    }
    assert_eq!(world.get(&format!("{P}/instances/healthz")).await.status, 401);
    for (held, key) in &keys {
        let wanted = if *held == Scope::Read { 200 } else { 403 };
        assert_eq!(
            ask(&world, "GET", "/metrics", key).await.status,
            wanted,
            "{held:?}"
        );
    }
    let page = world.get("/dashboard/").await;
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'self';"), "{page:?}");
    assert_eq!(
        (page.status, page.header("x-content-type-options")),
        (200, Some("nosniff"))
    );
    // Who has no key yet finds the page that asks for one.
    let browser = world.send("GET", "/", &[("Accept", "text/html,*/*")], b"").await;
    assert_eq!(
        (browser.status, browser.header("location")),
        (302, Some("/dashboard/"))
    );
}

#[tokio::test]
async fn links_carry_a_capability_for_status_and_events_alone() {
    let (world, keys) = guarded().await;
    let key = |scope| &keys.iter().find(|(held, _)| *held == scope).unwrap().1;
    let started = ask(
        &world,
        "POST",
        &format!("{P}/orchestrators/Wait/order-1"),
        key(Scope::Start),
    )
    .await;
    assert_eq!(started.status, 202, "{started:?}");
    let links: serde_json::Value = serde_json::from_str(&started.body).unwrap();
    let link = |name: &str| {
        links[name]
            .as_str()
            .unwrap()
            .strip_prefix(&world.origin())
            .unwrap()
            .to_owned()
    };
    assert!(!link("terminatePostUri").contains("code="));

    let status = link("statusQueryGetUri");
    assert_eq!(world.get(&status).await.status, 202);
    let code = status.split("code=").nth(1).unwrap();
    for (method, path) in [
        ("GET", format!("{P}/instances/order-2?code={code}")),
        ("GET", format!("{P}/instances?code={code}")),
        ("POST", format!("{P}/instances/order-1/raiseEvent/go?code={code}")),
        ("POST", format!("{P}/instances/order-1/terminate?code={code}")),
        ("DELETE", format!("{P}/instances/order-1?code={code}")),
        (
            "GET",
            format!("/runtime/dalsegno/v1/instances/order-1?code={code}"),
        ),
        ("GET", format!("{P}/instances/order-1?code={code}0")),
    ] {
        assert_eq!(
            world.send(method, &path, &[], b"").await.status,
            403,
            "{method} {path}"
        );
    }
    let event = link("sendEventPostUri").replace("{eventName}", "go");
    assert_eq!(world.post(&event, "1").await.status, 202);
    world
        .hub
        .wait_for_completion(&InstanceId::trusted("order-1"), None)
        .await
        .unwrap();
    assert_eq!(world.get(&status).await.status, 200);
    let stream = |id: &str| format!("/runtime/dalsegno/v1/instances/{id}/stream?code={code}");
    let told = world.get(&stream("order-1")).await;
    assert!(told.status == 200 && told.body.contains("event: end"), "{told:?}");
    assert_eq!(world.get(&stream("order-2")).await.status, 403);
}

#[tokio::test]
async fn a_link_does_not_open_a_later_instance_of_the_same_id() {
    let (world, keys) = guarded().await;
    let key = |scope| &keys.iter().find(|(held, _)| *held == scope).unwrap().1;
    let start = format!("{P}/orchestrators/Wait/order-1");
    let started = ask(&world, "POST", &start, key(Scope::Start)).await;
    let links: serde_json::Value = serde_json::from_str(&started.body).unwrap();
    let path = |name: &str| links[name].as_str().unwrap()[world.origin().len()..].to_owned();
    let (status, event) = (path("statusQueryGetUri"), path("sendEventPostUri"));
    assert_eq!(world.get(&status).await.status, 202);
    let id = InstanceId::trusted("order-1");
    world.hub.terminate(&id, None, Family::Instance).await.unwrap();
    world.hub.wait_for_completion(&id, None).await.unwrap();
    assert_eq!(world.get(&status).await.status, 200);
    let again = ask(&world, "POST", &start, key(Scope::Start)).await;
    assert_eq!(again.status, 202, "{again:?}");
    assert_eq!(world.get(&status).await.status, 403);
    let event = event.replace("{eventName}", "go");
    assert_eq!(world.post(&event, "1").await.status, 403);
    // Its own link opens it.
    let links: serde_json::Value = serde_json::from_str(&again.body).unwrap();
    let own = links["statusQueryGetUri"].as_str().unwrap()[world.origin().len()..].to_owned();
    assert_eq!(world.get(&own).await.status, 202);
}

/// The links of a start with this body, as paths.
async fn started_by_key(world: &World, key: &str, body: &str) -> serde_json::Value {
    let path = "/runtime/dalsegno/v1/orchestrators/Wait";
    let headers = [("x-functions-key", key), ("content-type", "application/json")];
    let started = world.send("POST", path, &headers, body.as_bytes()).await;
    assert_eq!(started.status, 202, "{started:?}");
    serde_json::from_str(&started.body).unwrap()
}

fn link(world: &World, signer: &LinkSigner, operation: LinkOperation) -> String {
    let id = InstanceId::trusted("order-1");
    let hub = world.hub.name();
    let target = LinkTarget {
        hub,
        operation,
        id: &id,
    };
    let now = world.hub.now();
    signer.sign(target, now, Timestamp::MAX)
}

#[tokio::test]
async fn a_link_that_is_under_way_does_not_reach_a_later_instance() {
    let mut ring = KeyRing::new().unwrap();
    let key = ring.create("k", &Scope::ALL, KeyHubs::All, None).unwrap();
    let signer = ring.link_signer();
    let world = world_with_keys(Access::with_keys(ring)).await;
    started_by_key(&world, &key, r#"{"id":"order-1"}"#).await;
    let open = async |head: String| {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let host = format!("Host: {}\r\n", world.address);
        stream
            .write_all(format!("{head}{host}\r\n").as_bytes())
            .await
            .unwrap();
        stream
    };
    // A reader of its changes, and an event whose body is still to come.
    let code = link(&world, &signer, LinkOperation::Status);
    let mut reader = open(format!(
        "GET /runtime/dalsegno/v1/instances/order-1/stream?code={code} HTTP/1.1\r\nConnection: close\r\n"
    ))
    .await;
    let mut first = [0; 12];
    reader.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let code = link(&world, &signer, LinkOperation::RaiseEvent);
    let mut event = open(format!(
        "POST {P}/instances/order-1/raiseEvent/go?code={code} HTTP/1.1\r\nContent-Length: 4\r\n\
         Content-Type: application/json\r\n"
    ))
    .await;
    started_by_key(
        &world,
        &key,
        r#"{"id":"order-1","reuse":"terminateAndStart","input":"of the later one"}"#,
    )
    .await;
    event.write_all(b"true").await.unwrap();
    event.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 403");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).await.unwrap();
    assert!(!rest.contains("of the later one"), "{rest}");
}

/// A link was verified once, when the head of its request came: an event whose body came after the
/// link had ended was raised.
#[tokio::test]
async fn a_link_that_ends_before_its_body_is_whole_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let mut ring = KeyRing::new().unwrap();
    let key = ring.create("k", &Scope::ALL, KeyHubs::All, None).unwrap();
    ring.save(&path).unwrap();
    let world = world_with_keys(Access::with_keys(Keys::of_file(&path).unwrap())).await;
    started_by_key(&world, &key, r#"{"id":"order-1"}"#).await;
    let code = link(&world, &ring.link_signer(), LinkOperation::RaiseEvent);
    let open = async || {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let head = format!(
            "POST {P}/instances/order-1/raiseEvent/go?code={code} HTTP/1.1\r\nHost: {}\r\n\
             Content-Length: 4\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n",
            world.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The host asks for the body once it has verified the link.
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    };
    let (mut late, mut never) = (open().await, open().await);
    let status = link(&world, &ring.link_signer(), LinkOperation::Status);
    ring.rotate_link_secret().unwrap();
    ring.save(&path).unwrap();
    let status = format!("{P}/instances/order-1?code={status}");
    while world.get(&status).await.status != 403 {}
    late.write_all(b"true").await.unwrap();
    let mut reply = Vec::new();
    // On a slow machine the host has refused it and closed the connection before the body came.
    let is_read = late.read_to_end(&mut reply).await.is_ok();
    assert!(!is_read || reply.starts_with(b"HTTP/1.1 403"), "{reply:?}");
    let mut first = [0; 12];
    never.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 403");
    let id = InstanceId::trusted("order-1");
    let events = world.hub.history(&id).await.unwrap();
    let is_raised = |event: &Event| matches!(event.kind, EventKind::EventRaised { .. });
    assert!(!events.iter().any(is_raised), "{events:?}");
}

#[tokio::test]
async fn only_unknown_keys_are_throttled() {
    let (world, keys) = guarded().await;
    let list = format!("{P}/instances");
    for _ in 0..20 {
        assert_eq!(ask(&world, "GET", &list, "dsk_wrong").await.status, 401);
    }
    let throttled = ask(&world, "GET", &list, "dsk_wrong").await;
    assert_eq!(throttled.status, 429);
    let seconds: u32 = throttled.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=60).contains(&seconds), "{throttled:?}");
    assert!(
        throttled.body.contains(&format!("wait {seconds} s")),
        "{throttled:?}"
    );
    // Workers behind the same proxy or NAT keep working.
    let read = keys.iter().find(|(held, _)| *held == Scope::Read).unwrap();
    assert_eq!(ask(&world, "GET", &list, &read.1).await.status, 200);
    assert_eq!(world.get(&list).await.status, 401, "no key is not a wrong one");
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_is_throttled_for_itself() {
    let mut ring = KeyRing::new().unwrap();
    ring.create("k", &[Scope::Read], KeyHubs::All, None).unwrap();
    let access = Access::with_keys(ring);
    let world = world_with(Limits::default(), |server| {
        let settings = HttpSettings {
            trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
            ..HttpSettings::default()
        };
        server.settings(settings).access(access)
    })
    .await;
    let list = format!("{P}/instances");
    let from = async |client: &str| {
        let headers = [("x-functions-key", "dsk_wrong"), ("x-forwarded-for", client)];
        world.send("GET", &list, &headers, b"").await.status
    };
    for _ in 0..20 {
        assert_eq!(from("198.51.100.7").await, 401);
    }
    assert_eq!(from("198.51.100.7").await, 429);
    assert_eq!(from("198.51.100.8").await, 401);
}

#[tokio::test]
async fn responses_are_sniffed_and_stored_by_nobody() {
    let world = world().await;
    for path in [
        "/runtime/dalsegno/v1/instances",
        "/openapi.json",
        "/healthz",
        "/runtime/x",
    ] {
        let reply = world.get(path).await;
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
    }
    for (method, wanted) in [("GET", 200), ("HEAD", 200), ("POST", 405), ("DELETE", 405)] {
        let reply = world.send(method, "/healthz", &[], b"").await;
        assert_eq!(reply.status, wanted, "{method}");
        assert!(wanted == 200 || reply.header("allow") == Some("GET, HEAD"));
    }
}

#[tokio::test]
async fn refusals_on_the_paths_of_the_app_and_answers_of_grpc_are_sniffed_and_stored_by_nobody() {
    let mut ring = KeyRing::new().unwrap();
    let key = ring.create("k", &[Scope::Function], KeyHubs::All, None).unwrap();
    let info = |path: &str, level| RouteInfo {
        name: path.into(),
        path: path.into(),
        methods: Vec::new(),
        level,
    };
    let routes = AppRoutes::new()
        .route(info("/own", AuthLevel::Function), get(|| async { "own" }))
        .route(info("/admin", AuthLevel::Admin), get(|| async { "own" }));
    let service = Router::new().fallback(|| async { [("content-type", "application/grpc")] });
    let access = Access::with_keys(ring);
    let world = world_with(Limits::default(), |server| {
        server.access(access).routes("api", routes).grpc(service)
    })
    .await;
    let call = ("content-type", "application/grpc");
    let hello = "/TaskHubSidecarService/Hello";
    let key = ("x-functions-key", key.as_str());
    for (method, path, headers, status) in [
        ("GET", "/api/own", &[][..], 401),
        ("GET", "/api/admin", &[key][..], 403),
        ("GET", "/api/nothing", &[][..], 401),
        ("GET", "/api/nothing", &[key][..], 404),
        ("POST", "/api/own", &[key][..], 404),
        ("GET", "/", &[key][..], 302),
        ("POST", hello, &[call][..], 200),
        ("POST", hello, &[call, key][..], 200),
        (
            "POST",
            "/TaskHubSidecarService/CreateTaskHub",
            &[call, key][..],
            200,
        ),
    ] {
        let reply = world.send(method, path, headers, b"").await;
        assert_eq!(reply.status, status, "{method} {path} {headers:?}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
    }
    let own = world.send("GET", "/api/own", &[key], b"").await;
    assert_eq!((own.status, own.body.as_str()), (200, "own"));
    assert_eq!(own.header("cache-control"), None, "the app's answer is the app's");
}
