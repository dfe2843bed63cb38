//! What a host tells of itself: metrics, and who changed what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use dalsegno_core::limits::Limits;
use dalsegno_engine::request::CalledHub;
use dalsegno_host::audit::AuditLimits;
use dalsegno_host::keys::{KeyHubs, KeyRing, Scope};
use dalsegno_host::server::{Access, HttpSettings};
use dalsegno_host::{Observer, Operations};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::world::{P, World, world, world_with, world_with_keys};

/// What a hub without activities, workers and a disk does not tell of.
const NOT_HERE: [&str; 5] = [
    "dalsegno_activity_attempts",
    "dalsegno_activity_schedule_to_start_seconds",
    "dalsegno_activity_seconds",
    "dalsegno_disk_free_bytes",
    "dalsegno_grpc_calls",
];

const V1: &str = "/runtime/dalsegno/v1";

/// Families by name, with their types, as OpenMetrics has them; every sample is of one of them.
fn families(text: &str) -> BTreeMap<String, String> {
    let mut families = BTreeMap::new();
    let mut samples = BTreeSet::new();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "TYPE", name, kind] => {
                let before = families.insert((*name).to_owned(), (*kind).to_owned());
                assert_eq!(before, None, "{name} is told of twice");
            }
            ["#", "HELP", _, help] => assert!(help.ends_with('.'), "{line}"),
            ["#", ..] => {}
            _ => {
                assert!(samples.insert(line.rsplit_once(' ').unwrap().0), "{line} twice");
                let name = line.split(['{', ' ']).next().unwrap();
                let is_of = |family: &String| {
                    let rest = name.strip_prefix(family.as_str());
                    rest.is_some_and(|rest| {
                        ["", "_total", "_bucket", "_sum", "_count", "_info"].contains(&rest)
                    })
                };
                assert!(families.keys().any(is_of), "{line} is of no family");
            }
        }
    }
    families
}

async fn metrics(world: &World) -> String {
    let reply = world.get("/metrics").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let form = reply.header("content-type").unwrap_or_default();
    assert!(
        form.starts_with("application/openmetrics-text; version=1.0.0"),
        "{form}"
    );
    reply.body
}

async fn ran() -> World {
    let world = world().await;
    let path = format!("{V1}/orchestrators/Echo");
    let started = world.send("POST", &path, &[], br#"{"id":"e","input":1}"#).await;
    assert_eq!(started.status, 202, "{started:?}");
    assert_eq!(world.get(&format!("{V1}/instances/e/wait")).await.status, 200);
    world
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let world = ran().await;
    let text = metrics(&world).await;
    families(&text);
    for line in [
        r#"dalsegno_instances{status="Completed",hub="default"} 1"#,
        r#"dalsegno_orchestrations_started_total{hub="default"} 1"#,
        r#"dalsegno_orchestrations_ended_total{name="Echo",status="Completed",hub="default"} 1"#,
        r#"dalsegno_orchestration_seconds_count{name="Echo",hub="default"} 1"#,
        r#"dalsegno_http_requests_total{face="v1",method="POST",code="202",hub="default"} 1"#,
        r#"dalsegno_unhealthy{hub="default"} 0"#,
    ] {
        let turned = |known: &str| {
            let sorted = |line: &str| {
                let mut parts: Vec<String> = line.split(['{', '}', ',', ' ']).map(str::to_owned).collect();
                parts.sort();
                parts
            };
            sorted(known) == sorted(line)
        };
        assert!(text.lines().any(turned), "{line} is not in\n{text}");
    }
    assert!(!text.contains("\"e\""), "ids are no labels");
}

/// The documented list is the list, and what is asked for in what we ship is in it.
#[tokio::test]
async fn what_is_measured_is_documented_and_what_is_shipped_asks_for_it() {
    let families = families(&metrics(&ran().await).await);
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let text = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let document = text("docs/metrics.md");
    let documented: BTreeMap<String, String> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| (name.to_owned(), rest.split(" |").next().unwrap().to_owned()))
        .collect();
    let missing: Vec<_> = families
        .iter()
        .filter(|family| !documented.contains_key(family.0))
        .collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");
    for (name, kind) in &documented {
        if !NOT_HERE.contains(&name.as_str()) {
            assert_eq!(families.get(name), Some(kind), "docs/metrics.md tells of {name}");
        }
    }
    for path in [
        "operations/grafana/dalsegno.json",
        "operations/prometheus/alerts.yml",
    ] {
        let text = text(path);
        let mut asked = 0;
        for rest in text.split("dalsegno_").skip(1) {
            let letters = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '_');
            let name = format!("dalsegno_{}", rest.split(letters).next().unwrap());
            let suffixes = ["", "_total", "_bucket", "_sum", "_count", "_info"];
            let is_known = suffixes.iter().any(|suffix| {
                name.strip_suffix(suffix)
                    .is_some_and(|name| documented.contains_key(name))
            });
            assert!(is_known, "{path} asks for {name}");
            asked += 1;
        }
        assert!(asked > 5, "{path} asks for something");
    }
    let dashboard: Value = serde_json::from_str(&text("operations/grafana/dalsegno.json")).unwrap();
    assert!(
        dashboard["panels"]
            .as_array()
            .is_some_and(|panels| panels.len() > 5)
    );
}

#[tokio::test]
async fn every_change_is_recorded_with_who_and_what_came_of_it() {
    let mut ring = KeyRing::new().unwrap();
    let starter = ring
        .create("starter", &[Scope::Start], KeyHubs::All, None)
        .unwrap();
    let admin = ring
        .create("admin", &[Scope::Admin, Scope::Read], KeyHubs::All, None)
        .unwrap();
    let world = world_with_keys(Access::with_keys(ring)).await;
    let send = async |method, path: String, key: &str, body: &[u8]| {
        world.send(method, &path, &[("x-functions-key", key)], body).await
    };
    send("POST", format!("{P}/orchestrators/Wait"), &starter, b"").await;
    send(
        "POST",
        format!("{V1}/orchestrators/Wait"),
        &starter,
        br#"{"id":"w","input":"secret"}"#,
    )
    .await;
    send("POST", format!("{V1}/instances/w/terminate"), &starter, b"").await;
    send("GET", format!("{V1}/instances/w"), &starter, b"").await;
    send("POST", format!("{V1}/instances/w/terminate"), "dsk_wrong", b"").await;
    let refused = send("GET", format!("{V1}/audit"), &starter, b"").await;
    assert_eq!(refused.status, 403);

    let all = send("GET", format!("{V1}/audit"), &admin, b"").await;
    assert!(!all.body.contains("secret"), "{}", all.body);
    let records: Vec<Value> = serde_json::from_str(&all.body).unwrap();
    let told: Vec<(&str, &str, u64)> = records
        .iter()
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap();
            assert_eq!((text("hub"), text("address")), ("default", "127.0.0.1"));
            (text("caller"), text("action"), record["result"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("invalid key", "terminate", 401),
            ("starter", "terminate", 403),
            ("starter", "start/Wait", 202),
            ("starter", "start/Wait", 202),
        ]
    );
    assert_eq!(
        records[3]["subject"].as_str().map(str::len),
        Some(32),
        "the id that it was given"
    );
    let token = format!("Bearer {admin}");
    let scraped = world
        .send("GET", "/metrics", &[("authorization", &token)], b"")
        .await;
    assert_eq!(scraped.status, 200);

    let of_one = send("GET", format!("{V1}/audit?subject=w&top=2"), &admin, b"").await;
    let of_one: Vec<Value> = serde_json::from_str(&of_one.body).unwrap();
    assert_eq!((of_one.len(), of_one[1]["caller"].as_str()), (2, Some("starter")));
}

#[tokio::test]
async fn what_selects_many_is_recorded_with_its_filter_and_how_many_it_changed() {
    let world = world().await;
    for id in ["a", "b", "c"] {
        world.finished("Echo", id, "1").await;
    }
    world
        .delete(&format!(
            "{P}/instances?createdTimeFrom=2020-01-01T00:00:00Z&runtimeStatus=Failed"
        ))
        .await;
    let body = r#"{"createdFrom":"2020-01-01T00:00:00Z","statuses":["Completed"]}"#;
    assert_eq!(world.post(&format!("{V1}/purge"), body).await.status, 200);
    let all = r#"{"verb":"terminate","where":{"all":true}}"#;
    let begun = world.post(&format!("{V1}/operations"), all).await;
    let operation: Value = serde_json::from_str(&begun.body).unwrap();
    let audit = world.get(&format!("{V1}/audit?top=3")).await;
    let records: Vec<Value> = serde_json::from_str(&audit.body).unwrap();
    assert_eq!(
        (records[0]["subject"].as_str(), records[0]["filter"].as_str()),
        (operation["id"].as_str(), Some(r#"terminate {"all":true}"#)),
    );
    assert_eq!(
        (records[1]["filter"].as_str(), records[1]["count"].as_u64()),
        (
            Some("createdFrom=2020-01-01T00:00:00Z&statuses=Completed"),
            Some(3)
        )
    );
    assert_eq!(
        (records[2]["filter"].as_str(), records[2]["count"].as_u64()),
        (Some("createdFrom=2020-01-01T00:00:00Z&statuses=Failed"), Some(0))
    );
}

#[tokio::test]
async fn a_change_is_recorded_though_its_caller_disconnects_before_the_answer() {
    // Whoever disconnected at once changed the hub without a trace.
    let world = world().await;
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST {P}/orchestrators/Wait/w?timeout=200 HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
        world.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    while world.hub.measure().await.unwrap().waiters == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    let records = async || {
        let audit = world.get(&format!("{V1}/audit")).await;
        serde_json::from_str::<Vec<Value>>(&audit.body).unwrap()
    };
    while records().await.is_empty() {
        tokio::task::yield_now().await;
    }
    let last = &records().await[0];
    assert_eq!(
        (
            last["action"].as_str(),
            last["subject"].as_str(),
            last["result"].as_u64()
        ),
        (Some("start/Wait"), Some("w"), Some(499))
    );
}

#[tokio::test]
async fn a_hub_that_a_call_creates_is_recorded_where_its_creation_ends() {
    // The record was made when the call was answered: without an answer there was none.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let observer = Arc::new(Observer::with_audit_file(&path, AuditLimits::default()).unwrap());
    let (created, creations) = tokio::sync::oneshot::channel();
    let created = Arc::new(Mutex::new(Some(created)));
    let service = Router::new().fallback(move |request: Request<Body>| async move {
        let called = request.extensions().get::<CalledHub>().cloned().unwrap();
        let created = created.lock().unwrap().take().unwrap();
        tokio::spawn(async move {
            called.record_created().await;
            created.send(()).unwrap();
        });
        std::future::pending::<()>().await;
    });
    let world = world_with(Limits::default(), |server| {
        server
            .grpc(service)
            .shared_with(observer, Arc::new(Operations::default()))
    })
    .await;
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /TaskHubSidecarService/GetWorkItems HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\
         content-type: application/grpc\r\ntaskhub: orders\r\n\r\n",
        world.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    creations.await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let record: Value = serde_json::from_str(text.trim_end()).unwrap();
    let told = ["caller", "hub", "action", "subject"].map(|name| record[name].as_str().unwrap());
    assert_eq!(told, ["local", "orders", "createHub", "orders"]);
    assert_eq!(
        (record["result"].as_u64(), record["grpc"].as_bool()),
        (Some(0), Some(true))
    );
}

/// A host whose service stores the limiters `one` and `two` when a worker connects, where it takes
/// any, and responds when it is notified.
async fn offered_limiters(is_read_only: bool, response: Arc<Notify>, stored: Arc<Notify>) -> World {
    let service = Router::new().fallback(async move |request: Request<Body>| {
        let called = request.extensions().get::<CalledHub>().unwrap();
        if called.takes_offers() {
            called.record_offer("one");
            called.record_offer("two");
        }
        stored.notify_one();
        response.notified().await;
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", "0".parse().unwrap());
        headers
    });
    let settings = HttpSettings {
        is_read_only,
        ..HttpSettings::default()
    };
    world_with(Limits::default(), |server| {
        server.settings(settings).grpc(service)
    })
    .await
}

/// The audit log of a host, as soon as it has a record.
async fn first_records(world: &World) -> Vec<Value> {
    loop {
        let audit = world.get(&format!("{V1}/audit")).await;
        let records: Vec<Value> = serde_json::from_str(&audit.body).unwrap();
        if !records.is_empty() {
            return records;
        }
        tokio::task::yield_now().await;
    }
}

const CONNECT: &str = "/TaskHubSidecarService/GetWorkItems";

/// The key of a worker changed limiters without a trace, also on a read-only host.
#[tokio::test]
async fn limiters_that_a_worker_offers_are_recorded() {
    for is_read_only in [false, true] {
        let response = Arc::new(Notify::new());
        response.notify_one();
        let world = offered_limiters(is_read_only, response, Arc::default()).await;
        let headers = [("content-type", "application/grpc")];
        let reply = world.send("POST", CONNECT, &headers, b"").await;
        assert_eq!(reply.header("grpc-status"), Some("0"));
        if is_read_only {
            let audit = world.get(&format!("{V1}/audit")).await;
            assert_eq!(audit.body, "[]");
            continue;
        }
        let records = first_records(&world).await;
        let [record] = &*records else {
            panic!("{records:?}")
        };
        assert_eq!(record["action"], "offerLimiters");
        assert_eq!(record["subject"], "one, two");
        assert_eq!(record["count"], 2);
        assert_eq!((&record["result"], &record["grpc"]), (&0.into(), &true.into()));
    }
}

#[tokio::test]
async fn limiters_are_recorded_though_the_worker_disconnects_before_the_response() {
    let stored = Arc::new(Notify::new());
    let world = offered_limiters(false, Arc::default(), stored.clone()).await;
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST {CONNECT} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n",
        world.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stored.notified().await;
    drop(stream);
    let record = &first_records(&world).await[0];
    assert_eq!(record["action"], "offerLimiters");
    assert_eq!(
        (&record["subject"], &record["result"]),
        (&"one, two".into(), &1.into())
    );
}
