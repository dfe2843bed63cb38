//! Keys, scopes and links, on a server that wants keys.

use dalsegno_core::InstanceId;
use dalsegno_host::keys::{KeyRing, Scope};
use dalsegno_host::server::Access;

use crate::tables::ROUTES;
use crate::world::{P, Reply, World, world_with_keys};

/// The scope that a route needs.
fn scope(method: &str, path: &str) -> Scope {
    match (method, path) {
        ("PUT" | "PATCH", _) => Scope::Admin,
        ("POST", path) if path.contains("/workers/") => Scope::Admin,
        ("GET", path) if path.ends_with("/backup") => Scope::Admin,
        ("DELETE", path) if path.contains("/hubs/") => Scope::Admin,
        ("GET", _) => Scope::Read,
        // And what the verb in the body needs.
        (_, path) if path.contains("/operations") => Scope::Read,
        ("POST" | "DELETE", path) if path.contains("/entities") => Scope::Entity,
        ("POST", path) if path.contains("/orchestrators") => Scope::Start,
        ("POST", path) if path.contains("/raiseEvent") || path.contains("/events") => Scope::Signal,
        ("POST", path) if path.ends_with("/purge") => Scope::Purge,
        ("POST", _) => Scope::Control,
        _ => Scope::Purge,
    }
}

async fn guarded() -> (World, Vec<(Scope, String)>) {
    let mut ring = KeyRing::new().unwrap();
    let keys = Scope::ALL.map(|scope| (scope, ring.create(&format!("{scope:?}"), &[scope], None).unwrap()));
    (world_with_keys(Access::Keys(ring.into())).await, keys.to_vec())
}

async fn ask(world: &World, method: &str, path: &str, key: &str) -> Reply {
    world.send(method, path, &[("x-functions-key", key)], b"").await
}

#[tokio::test]
async fn route_by_key() {
    let (world, keys) = guarded().await;
    for (method, path, _) in ROUTES {
        let none = world.send(method, path, &[], b"").await;
        assert_eq!((none.status, none.body.as_str()), (401, ""), "{method} {path}");
        for (held, key) in &keys {
            let reply = ask(&world, method, path, key).await;
            let wanted = *held == scope(method, path);
            assert_eq!(
                reply.status == 403,
                !wanted,
                "{method} {path} with {held:?}: {reply:?}"
            );
            assert_ne!(reply.status, 401, "{method} {path} with {held:?}");
        }
    }
    assert_eq!(
        ask(&world, "GET", &format!("{P}/instances"), "dsk_wrong")
            .await
            .status,
        401
    );
    let in_query = world.get(&format!("{P}/instances?code={}", keys[0].1)).await;
    assert_eq!(in_query.status, 200);
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
async fn twenty_bad_keys_close_the_door_for_a_minute() {
    let (world, keys) = guarded().await;
    let list = format!("{P}/instances");
    for _ in 0..20 {
        assert_eq!(ask(&world, "GET", &list, "dsk_wrong").await.status, 401);
    }
    let shut = ask(&world, "GET", &list, &keys[0].1).await;
    assert_eq!(shut.status, 429);
    let seconds: u32 = shut.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=60).contains(&seconds), "{shut:?}");
    assert!(shut.body.contains(&format!("wait {seconds} s")), "{shut:?}");
}
