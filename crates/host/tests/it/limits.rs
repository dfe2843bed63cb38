//! What is too big, too deep, too much.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::InstanceId;
use dalsegno_core::limits::Limits;
use dalsegno_engine::request::{RaisedEvent, RequestErrorKind, StartOptions};
use dalsegno_host::keys::{KeyHubs, KeyRing, Scope};
use dalsegno_host::server::{Access, HttpSettings};

use crate::world::{P, Reply, World, world, world_on, world_with};

/// Long enough for anything that happens at all.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let limits = Limits {
        payload_bytes_max: 100,
        reason_bytes_max: 10,
        ..Limits::default()
    };
    let settings = HttpSettings {
        body_bytes_max: 1_000,
        ..HttpSettings::default()
    };
    let world = world_with(limits, |server| server.settings(settings)).await;
    let start = format!("{P}/orchestrators/Echo");
    let string = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    assert_eq!(world.post(&start, &string(100)).await.status, 202);
    let over = world.post(&start, &string(101)).await;
    assert_eq!((over.status, over.code().as_str()), (413, "over_limit"));
    let body = world.post(&start, &string(1_001)).await;
    assert_eq!((body.status, body.code().as_str()), (413, "body_too_large"));
    let announced = world
        .send("POST", &start, &[("Content-Length", "99999999")], b"")
        .await;
    assert_eq!(announced.status, 413);
    let zipped = world
        .send("POST", &start, &[("Content-Encoding", "gzip")], b"x")
        .await;
    assert_eq!((zipped.status, zipped.code().as_str()), (415, "unknown_encoding"));

    world.running("Wait", "w", "1").await;
    let reason = world
        .post(&format!("{P}/instances/w/suspend?reason=01234567890"), "")
        .await;
    assert_eq!((reason.status, reason.code().as_str()), (400, "reason_too_long"));
}

#[tokio::test]
async fn whoever_sends_too_much_gets_the_answer_and_not_a_broken_pipe() {
    let limits = Limits {
        payload_bytes_max: 1 << 30,
        ..Limits::default()
    };
    let settings = HttpSettings {
        body_bytes_max: 1_000,
        ..HttpSettings::default()
    };
    let world = world_with(limits, |server| server.settings(settings)).await;
    // More than the buffers of two sockets hold.
    let large = format!("\"{}\"", "x".repeat(20 << 20));
    let paths = [
        (format!("{P}/orchestrators/Echo"), 413),
        (format!("{P}/nothing"), 404),
        (format!("{P}/orchestrators/Echo?unknown=1"), 400),
    ];
    for (path, status) in paths {
        let reply = world.send_all("POST", &path, large.as_bytes()).await;
        assert_eq!(
            reply.map(|reply| reply.status).map_err(|error| error.kind()),
            Ok(status),
            "{path}"
        );
    }
    let mut options = StartOptions {
        name: "Echo".into(),
        ..StartOptions::default()
    };
    options.input = Some(large.into());
    let refused = world.remote().start(options).await.unwrap_err();
    assert_eq!(refused.kind, RequestErrorKind::OverLimit, "{refused:?}");
}

#[tokio::test]
async fn what_is_no_json_is_named_with_its_place() {
    let world = world().await;
    let start = format!("{P}/orchestrators/Echo");
    for (body, code) in [
        (&b"{\"a\":1,}"[..], "invalid_json"),
        (b"NaN", "invalid_json"),
        (b"\xEF\xBB\xBF1", "invalid_json"),
        (b"\"\xFF\"", "invalid_utf8"),
        ("[".repeat(100_000).as_bytes(), "too_deep"),
    ] {
        let reply = world.send("POST", &start, &[], body).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, code));
        assert!(reply.body.contains("\"Message\":") && reply.body.contains("\"ExceptionMessage\":"));
    }
    let unknown = world.post(&format!("{P}/orchestrators/Ecco"), "1").await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (400, "orchestrator_not_found")
    );

    world.running("Wait", "w", "1").await;
    let event = format!("{P}/instances/w/raiseEvent/x");
    let text = world
        .send("POST", &event, &[("Content-Type", "text/plain")], b"1")
        .await;
    assert_eq!((text.status, text.code().as_str()), (400, "content_type"));
    assert_eq!(
        world
            .send("POST", &event, &[("Content-Type", "text/plain")], b"")
            .await
            .status,
        202
    );
    assert_eq!(world.post(&event, "{").await.status, 400);
    let named = world
        .post(&format!("{P}/instances/w/raiseEvent/{{eventName}}"), "1")
        .await;
    assert_eq!((named.status, named.code().as_str()), (400, "invalid_event_name"));
}

#[tokio::test]
async fn too_many_headers_and_foreign_hosts() {
    let world = world().await;
    let many: Vec<(String, &str)> = (0..120).map(|index| (format!("X-{index}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(world.send("GET", "/healthz", &many, b"").await.status, 431);
    let big = "x".repeat(40_000);
    assert_eq!(
        world
            .send("GET", "/healthz", &[("X-Big", &big)], b"")
            .await
            .status,
        431
    );

    let list = format!("{P}/instances");
    assert_eq!(
        world
            .send("GET", &list, &[("Host", "evil.example")], b"")
            .await
            .status,
        421
    );
    assert_eq!(
        world
            .send("GET", &list, &[("Host", "localhost")], b"")
            .await
            .status,
        200
    );
    let start = format!("{P}/orchestrators/Echo");
    assert_eq!(
        world
            .send("POST", &start, &[("Origin", "https://evil.example")], b"1")
            .await
            .status,
        403
    );
    assert_eq!(
        world
            .send("POST", &start, &[("Sec-Fetch-Site", "cross-site")], b"1")
            .await
            .status,
        403
    );
    assert_eq!(
        world
            .send("POST", &start, &[("Origin", "http://localhost:3000")], b"1")
            .await
            .status,
        403
    );
    let own = [("Origin", world.origin())];
    let own = own.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(world.send("POST", &start, &own, b"1").await.status, 202);
    let forwarded = world
        .send("GET", &list, &[("X-Forwarded-For", "203.0.113.9")], b"")
        .await;
    assert_eq!(
        (forwarded.status, forwarded.code()),
        (403, "forwarded_without_keys".into())
    );
}

#[tokio::test]
async fn healthz_tells_progress_and_life() {
    let world = world().await;
    for (path, status, body) in [
        ("/healthz", 200, r#"{"status":"healthy","problems":[]}"#),
        ("/healthz?probe=live", 200, r#"{"status":"live","problems":[]}"#),
        ("/healthz?probe=ready", 200, r#"{"status":"ready","problems":[]}"#),
    ] {
        let reply = world.get(path).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, body), "{path}");
    }
    assert_eq!(world.get("/healthz?probe=x").await.status, 400);
    assert_eq!(world.get("/HEALTHZ").await.status, 404);
    assert_eq!(world.get("/").await.header("location"), Some("/dashboard/"));
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_nothing_else() {
    let world = world().await;
    // The first look at the disk is that of the first start: a second world begins full.
    world.running("Wait", "w", "1").await;
    let full = world_on(world.store.fork(), Limits::default(), |server| server).await;
    full.store.set_free_bytes(Some(1));
    for (path, body) in [
        (format!("{P}/orchestrators/Echo"), "1"),
        (format!("{P}/instances/w/raiseEvent/go"), "1"),
        (format!("{P}/entities/counter/a?op=add"), "1"),
        ("/runtime/dalsegno/v1/orchestrators/Echo".into(), "{}"),
        ("/runtime/dalsegno/v1/instances/w/events/go".into(), "1"),
        (
            "/runtime/dalsegno/v1/entities/counter/a/signal".into(),
            r#"{"operation":"add","input":1}"#,
        ),
    ] {
        let refused = full.post(&path, body).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (507, "insufficient_storage"),
            "{path}"
        );
        assert!(
            refused.body.contains("disk_free_bytes_min is 268435456"),
            "{}",
            refused.body
        );
    }
    let remote = full
        .remote()
        .raise_event(&InstanceId::trusted("w"), RaisedEvent::new("go", None))
        .await;
    assert_eq!(remote.unwrap_err().kind, RequestErrorKind::InsufficientStorage);
    assert_eq!(full.get(&format!("{P}/instances/w")).await.status, 202);
    for command in ["suspend", "resume", "terminate"] {
        let done = full.post(&format!("{P}/instances/w/{command}"), "").await;
        assert_eq!(done.status, 202, "{command}");
    }
    assert_eq!(full.delete(&format!("{P}/instances/w")).await.status, 200);

    full.store.set_free_bytes(Some(u64::MAX));
    let started = async {
        while full.post(&format!("{P}/orchestrators/Echo"), "1").await.status != 202 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, started)
        .await
        .expect("room is seen within a second");
}

#[tokio::test]
async fn one_caller_cannot_have_all_waits() {
    let mut ring = KeyRing::new().unwrap();
    let mut key = |id| ring.create(id, &Scope::ALL, KeyHubs::All, None).unwrap();
    let (own, other) = (key("own"), key("other"));
    let limits = Limits {
        waiters_per_key_max: 2,
        ..Limits::default()
    };
    let access = Access::with_keys(ring);
    let world = Arc::new(world_with(limits, |server| server.access(access)).await);
    let options = |id: &str| StartOptions {
        name: "Wait".into(),
        id: Some(InstanceId::trusted(id)),
        ..StartOptions::default()
    };
    world.hub.start(options("w")).await.unwrap();
    let wait = |seconds: u32| format!("/runtime/dalsegno/v1/instances/w/wait?timeout={seconds}");
    let start = format!("{P}/orchestrators/Wait/n?timeout=0");
    let [long, longer] = [(), ()].map(|()| tokio::spawn(insist(world.clone(), own.clone(), wait(200))));
    let asked = async {
        loop {
            let reply = ask(&world, &own, "GET", &wait(0)).await;
            match reply.status {
                408 => tokio::task::yield_now().await,
                _ => return reply,
            }
        }
    };
    let refused = tokio::time::timeout(SOON, asked).await.expect("two wait at last");
    assert_eq!((refused.status, refused.code().as_str()), (429, "busy"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(
        refused.body.contains("waiters_per_key_max is 2"),
        "{}",
        refused.body
    );
    assert_eq!(ask(&world, &own, "POST", &start).await.status, 429);
    let id = InstanceId::trusted("n");
    assert_eq!(
        world.hub.status(&id).await,
        Ok(None),
        "what is refused has started nothing"
    );
    let others = ask(&world, &other, "GET", &wait(0)).await;
    assert_eq!(others.status, 408, "another key has its own");
    let status = ask(&world, &own, "GET", &format!("{P}/instances/w")).await;
    assert_eq!(status.status, 202, "who does not wait needs no place");

    // Hanging up frees the place.
    long.abort();
    longer.abort();
    let freed = async {
        while ask(&world, &own, "POST", &start).await.status != 202 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, freed)
        .await
        .expect("who hangs up waits no more");
}

async fn ask(world: &World, key: &str, method: &str, path: &str) -> Reply {
    world.send(method, path, &[("x-functions-key", key)], b"").await
}

/// Waits; again while a short wait that is under way stands in its way.
async fn insist(world: Arc<World>, key: String, path: String) {
    while ask(&world, &key, "GET", &path).await.status == 429 {}
}
