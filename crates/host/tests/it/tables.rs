//! Generated tables: route × parameter, status × command, odd ids.

use crate::world::{P, World, world};

/// Every route of both APIs with the query names it takes.
pub(crate) const ROUTES: &[(&str, &str, &[&str])] = &[
    (
        "POST",
        "/runtime/webhooks/durabletask/orchestrators/Echo",
        &[
            "timeout",
            "pollingInterval",
            "version",
            "returnInternalServerErrorOnFailure",
        ],
    ),
    (
        "POST",
        "/runtime/webhooks/durabletask/orchestrators/Echo/i",
        &[
            "timeout",
            "pollingInterval",
            "version",
            "returnInternalServerErrorOnFailure",
        ],
    ),
    (
        "GET",
        "/runtime/webhooks/durabletask/instances/i",
        &[
            "showInput",
            "showHistory",
            "showHistoryOutput",
            "returnInternalServerErrorOnFailure",
        ],
    ),
    (
        "GET",
        "/runtime/webhooks/durabletask/instances",
        &[
            "instanceIdPrefix",
            "createdTimeFrom",
            "createdTimeTo",
            "runtimeStatus",
            "showInput",
            "top",
        ],
    ),
    ("DELETE", "/runtime/webhooks/durabletask/instances/i", &["force"]),
    (
        "DELETE",
        "/runtime/webhooks/durabletask/instances",
        &["createdTimeFrom", "createdTimeTo", "runtimeStatus"],
    ),
    (
        "POST",
        "/runtime/webhooks/durabletask/instances/i/raiseEvent/go",
        &[],
    ),
    (
        "POST",
        "/runtime/webhooks/durabletask/instances/i/terminate",
        &["reason"],
    ),
    (
        "POST",
        "/runtime/webhooks/durabletask/instances/i/suspend",
        &["reason"],
    ),
    (
        "POST",
        "/runtime/webhooks/durabletask/instances/i/resume",
        &["reason"],
    ),
    (
        "POST",
        "/runtime/webhooks/durabletask/instances/i/rewind",
        &["reason"],
    ),
    (
        "POST",
        "/runtime/webhooks/durabletask/instances/i/restart",
        &[
            "restartWithNewInstanceId",
            "timeout",
            "pollingInterval",
            "returnInternalServerErrorOnFailure",
        ],
    ),
    (
        "GET",
        "/runtime/webhooks/durabletask/entities",
        &[
            "lastOperationTimeFrom",
            "lastOperationTimeTo",
            "fetchState",
            "top",
        ],
    ),
    (
        "GET",
        "/runtime/webhooks/durabletask/entities/counter",
        &[
            "lastOperationTimeFrom",
            "lastOperationTimeTo",
            "fetchState",
            "top",
        ],
    ),
    ("GET", "/runtime/webhooks/durabletask/entities/counter/a", &[]),
    (
        "POST",
        "/runtime/webhooks/durabletask/entities/counter/a",
        &["op"],
    ),
    ("DELETE", "/runtime/webhooks/durabletask/entities/counter/a", &[]),
    ("GET", "/runtime/dalsegno/v1/hub", &[]),
    ("POST", "/runtime/dalsegno/v1/orchestrators/Echo", &[]),
    (
        "GET",
        "/runtime/dalsegno/v1/instances",
        &[
            "status",
            "name",
            "tag",
            "prefix",
            "createdFrom",
            "createdTo",
            "top",
            "after",
        ],
    ),
    ("GET", "/runtime/dalsegno/v1/instances/i", &[]),
    (
        "DELETE",
        "/runtime/dalsegno/v1/instances/i",
        &["recursive", "force"],
    ),
    (
        "GET",
        "/runtime/dalsegno/v1/instances/i/wait",
        &["for", "timeout"],
    ),
    ("GET", "/runtime/dalsegno/v1/instances/i/history", &[]),
    ("POST", "/runtime/dalsegno/v1/instances/i/events/go", &[]),
    (
        "POST",
        "/runtime/dalsegno/v1/instances/i/terminate",
        &["reason", "recursive"],
    ),
    ("POST", "/runtime/dalsegno/v1/instances/i/cancel", &["reason"]),
    ("POST", "/runtime/dalsegno/v1/instances/i/suspend", &["reason"]),
    ("POST", "/runtime/dalsegno/v1/instances/i/resume", &["reason"]),
    ("POST", "/runtime/dalsegno/v1/instances/i/rewind", &["reason"]),
    ("POST", "/runtime/dalsegno/v1/instances/i/retry-now", &["task"]),
    ("POST", "/runtime/dalsegno/v1/instances/i/restart", &["newId"]),
    ("GET", "/runtime/dalsegno/v1/counts", &[]),
    ("POST", "/runtime/dalsegno/v1/purge", &[]),
    (
        "GET",
        "/runtime/dalsegno/v1/entities",
        &["name", "lastOperationFrom", "lastOperationTo", "top", "after"],
    ),
    ("GET", "/runtime/dalsegno/v1/entities/counter/a", &[]),
    ("POST", "/runtime/dalsegno/v1/entities/counter/a/signal", &[]),
    ("POST", "/runtime/dalsegno/v1/entities/counter/a/unlock", &[]),
    ("POST", "/runtime/dalsegno/v1/workers/w/drain", &[]),
    ("DELETE", "/runtime/dalsegno/v1/entities/counter/a", &[]),
    ("GET", "/runtime/dalsegno/v1/log-level", &[]),
    ("PUT", "/runtime/dalsegno/v1/log-level", &[]),
    ("GET", "/runtime/dalsegno/v1/limiters", &[]),
    ("PUT", "/runtime/dalsegno/v1/limiters/github", &[]),
    ("PATCH", "/runtime/dalsegno/v1/limiters/github", &[]),
    (
        "GET",
        "/runtime/dalsegno/v1/overview",
        &["from", "to", "buckets", "name", "tag", "prefix"],
    ),
    ("GET", "/runtime/dalsegno/v1/schedules", &[]),
    ("POST", "/runtime/dalsegno/v1/schedules/x/run", &[]),
    ("GET", "/runtime/dalsegno/v1/operations", &[]),
    ("POST", "/runtime/dalsegno/v1/operations", &[]),
    ("GET", "/runtime/dalsegno/v1/operations/x", &[]),
    ("DELETE", "/runtime/dalsegno/v1/operations/x", &[]),
    ("GET", "/runtime/dalsegno/v1/hubs", &[]),
    ("PUT", "/runtime/dalsegno/v1/hubs/orders", &[]),
    ("DELETE", "/runtime/dalsegno/v1/hubs/orders", &["confirm"]),
    ("GET", "/runtime/dalsegno/v1/hubs/orders/stats", &[]),
    ("GET", "/runtime/dalsegno/v1/hubs/orders/backup", &[]),
];

const NAMES: [&str; 12] = [
    "showInput",
    "top",
    "reason",
    "op",
    "force",
    "timeout",
    "runtimeStatus",
    "status",
    "recursive",
    "showHistry",
    "fetchState",
    "x",
];

/// Values that no parameter but free text takes.
const FREE: [&str; 8] = [
    "reason",
    "op",
    "instanceIdPrefix",
    "prefix",
    "name",
    "version",
    "tag",
    "after",
];

#[tokio::test]
async fn route_by_parameter() {
    let world = world().await;
    for (method, path, known) in ROUTES {
        for name in NAMES.iter().filter(|name| !known.contains(name)) {
            let reply = world.send(method, &format!("{path}?{name}=1"), &[], b"").await;
            assert_eq!(
                (reply.status, reply.code().as_str()),
                (400, "unknown_parameter"),
                "{method} {path} {name} {reply:?}"
            );
        }
        for name in known.iter().filter(|name| !FREE.contains(name)) {
            let reply = world
                .send(method, &format!("{path}?{name}=%7Bnonsense"), &[], b"")
                .await;
            assert_eq!(reply.status, 400, "{method} {path} {name} {reply:?}");
        }
        let other = world
            .send(method, &format!("{path}?taskHub=other"), &[], b"")
            .await;
        assert_eq!(
            (other.status, other.code().as_str()),
            (400, "unknown_hub"),
            "{method} {path}"
        );
        let is_taken = |odd: &&str| ROUTES.iter().any(|(taken, at, _)| taken == odd && at == path);
        for odd in ["TRACE", "PATCH"].iter().filter(|odd| !is_taken(odd)) {
            let reply = world.send(odd, path, &[], b"").await;
            assert_eq!((reply.status, reply.header("allow")), (404, None), "{odd} {path}");
        }
    }
}

/// What each command answers to an instance in each state; `…` states are made fresh every time.
#[tokio::test]
async fn status_by_command() {
    let world = world().await;
    let commands = [
        "raiseEvent/other",
        "terminate",
        "suspend",
        "resume",
        "rewind",
        "restart",
    ];
    for (state, wanted) in [
        ("unknown", [404, 404, 404, 404, 404, 404]),
        ("running", [202, 202, 202, 409, 409, 409]),
        ("suspended", [202, 202, 409, 202, 409, 409]),
        ("completed", [410, 410, 410, 410, 410, 202]),
        ("failed", [410, 410, 410, 410, 202, 202]),
        ("terminated", [410, 410, 410, 410, 410, 202]),
    ] {
        for (command, wanted) in commands.into_iter().zip(wanted) {
            let id = format!("{state}-{}", command.replace('/', "-"));
            in_state(&world, state, &id).await;
            let reply = world.post(&format!("{P}/instances/{id}/{command}"), "").await;
            assert_eq!(reply.status, wanted, "{command} of {state}: {reply:?}");
            assert_eq!(
                reply.body.is_empty(),
                matches!(wanted, 404 | 410) || (wanted == 202 && command != "restart"),
                "{command} of {state}"
            );
        }
    }
}

async fn in_state(world: &World, state: &str, id: &str) {
    match state {
        "running" => drop(world.running("Wait", id, "1").await),
        "suspended" => {
            let id = world.running("Wait", id, "1").await;
            world.hub.suspend(&id, None).await.unwrap();
        }
        "completed" => drop(world.finished("Echo", id, "1").await),
        "failed" => drop(world.finished("Fail", id, "1").await),
        "terminated" => {
            let id = world.running("Wait", id, "1").await;
            world.hub.terminate(&id, None, Default::default()).await.unwrap();
            world.hub.wait_for_completion(&id, None).await.unwrap();
        }
        _ => {}
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[tokio::test]
async fn odd_ids_go_through_start_link_status_and_purge() {
    let world = world().await;
    let long = "x".repeat(256);
    let odd = [
        "a b",
        "ünï-код",
        "a%b",
        "a%2Fb",
        "a+b",
        "a&b=c",
        "'; DROP TABLE instances; --",
        "a@b",
        "{id}",
        "...",
        "\"",
        "~",
        &long,
    ];
    for id in odd {
        let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let reply = world
            .post(&format!("{P}/orchestrators/Echo/{encoded}?timeout=60"), "1")
            .await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "1"), "{id}");
        let links = world
            .hub
            .status(&dalsegno_core::InstanceId::parse(id).unwrap())
            .await
            .unwrap();
        assert!(links.is_some(), "{id}");
        let again = world
            .post(&format!("{P}/orchestrators/Wait/{encoded}"), "1")
            .await;
        let links: serde_json::Value = serde_json::from_str(&again.body).unwrap();
        assert_eq!(links["id"], id);
        let link = |name: &str| {
            links[name]
                .as_str()
                .unwrap()
                .strip_prefix(&world.origin())
                .unwrap()
                .to_owned()
        };
        let status = world.get(&link("statusQueryGetUri")).await;
        let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
        assert_eq!(status["instanceId"], id);
        assert_eq!(
            world
                .post(&link("sendEventPostUri").replace("{eventName}", "go"), "2")
                .await
                .status,
            202,
            "{id}"
        );
        world
            .hub
            .wait_for_completion(&dalsegno_core::InstanceId::trusted(id), None)
            .await
            .unwrap();
        assert_eq!(
            world.delete(&link("purgeHistoryDeleteUri")).await.status,
            200,
            "{id}"
        );
    }
    for id in [
        "%40x",
        "a%2Fb",
        "a%5Cb",
        "a%23b",
        "a%3Fb",
        "a%00",
        "a%7F",
        ".",
        "..",
        "%2e%2e",
        &"x".repeat(257),
    ] {
        let reply = world.post(&format!("{P}/orchestrators/Echo/{id}"), "1").await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "invalid_instance_id"),
            "{id}"
        );
    }
    assert_eq!(world.get(&format!("{P}/instances/@counter@a")).await.status, 404);
}
