//! Every route and every call of gRPC, asked by every kind of caller: generated from the tables.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use dalsegno_core::InstanceId;
use dalsegno_core::limits::Limits;
use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::HubOptions;
use dalsegno_engine::request::{CallScopes, SecondScope, StartOptions};
use dalsegno_host::keys::{KeyHubs, KeyRing, LinkOperation, LinkSigner, LinkTarget, Scope};
use dalsegno_host::server::{Access, HttpSettings};
use dalsegno_host::{AppRoutes, HubList, openapi_document};
use dalsegno_store_memory::MemoryStore;
use serde_json::Value;

use crate::app::App;
use crate::world::{Reply, World, world_on};

/// The instance that links are made for.
const ID: &str = "order-1";

/// What a route demands, as the OpenAPI document says.
struct Demand {
    method: String,
    /// With `order-1` as the instance and `default` as the hub in the path.
    path: String,
    scope: Scope,
    hub: String,
    link: Option<String>,
    /// Second scopes, and the requests that need them.
    also: Vec<(Scope, Value)>,
}

fn demands() -> Vec<Demand> {
    let document = openapi_document(&HttpSettings::default());
    let paths = document["paths"].as_object().unwrap();
    let mut demands = Vec::new();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            let Some(scope) = operation.get("x-scope") else {
                assert_eq!(path, "/healthz", "only health is open");
                continue;
            };
            let text = |name: &str| operation[name].as_str().map(str::to_owned);
            let also = operation.get("x-also").and_then(Value::as_array);
            let also = also.into_iter().flatten().map(|also| {
                let scope = serde_json::from_value(also["scope"].clone()).unwrap();
                (scope, also["when"].clone())
            });
            demands.push(Demand {
                method: method.to_uppercase(),
                path: path
                    .replace("{instanceId}", ID)
                    .replace("{hub}", "default")
                    .replace("{orchestrator}", "Echo")
                    .replace(['{', '}'], ""),
                scope: serde_json::from_value(scope.clone()).unwrap(),
                hub: text("x-hub").unwrap(),
                link: text("x-link"),
                also: also.collect(),
            });
        }
    }
    demands
}

/// A host with two hubs, a key for each scope, and the secret of its links.
struct Guarded {
    world: World,
    /// By scope: of the default hub, of the hub `orders`, of all hubs.
    keys: BTreeMap<String, [String; 3]>,
    /// By two scopes: of all hubs.
    pairs: BTreeMap<[String; 2], String>,
    signer: LinkSigner,
}

async fn guarded() -> Guarded {
    let mut ring = KeyRing::new().unwrap();
    let mut keys = BTreeMap::new();
    for scope in Scope::ALL {
        let hubs = [KeyHubs::Default, KeyHubs::Named("orders".into()), KeyHubs::All];
        let secrets = hubs.map(|hubs| {
            let name = format!("{scope}-{hubs}");
            ring.create(&name, &[scope], hubs, None).unwrap()
        });
        keys.insert(scope.to_string(), secrets);
    }
    let mut pairs = BTreeMap::new();
    for first in Scope::ALL {
        for second in Scope::ALL.into_iter().filter(|second| *second != first) {
            let name = format!("{first}-and-{second}");
            let secret = ring.create(&name, &[first, second], KeyHubs::All, None);
            pairs.insert([first.to_string(), second.to_string()], secret.unwrap());
        }
    }
    let signer = ring.link_signer();
    let access = Access::with_keys(ring);
    let world = world_on(MemoryStore::new(2), Limits::default(), |server| {
        server
            .access(access)
            .routes("api", AppRoutes::new())
            .grpc(Router::new().fallback(admitted))
    })
    .await;
    Guarded {
        world,
        keys,
        pairs,
        signer,
    }
}

/// What stands for the service: it answers OK to whatever was admitted, and says which second scopes
/// the endpoint found.
async fn admitted(request: Request<Body>) -> Response<Body> {
    let scopes = request.extensions().get::<CallScopes>().copied();
    let scopes = scopes.expect("the endpoint says which second scopes a caller has");
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    for (name, scope) in [("control", SecondScope::Control), ("entity", SecondScope::Entity)] {
        headers.insert(name, scopes.has(scope).to_string().parse().unwrap());
    }
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("grpc-status", "0".parse().unwrap());
    response
}

impl Guarded {
    fn key(&self, scope: Scope, hub: usize) -> &str {
        &self.keys[&scope.to_string()][hub]
    }

    fn pair(&self, first: Scope, second: Scope) -> &str {
        &self.pairs[&[first.to_string(), second.to_string()]]
    }

    /// A request that needs a second scope.
    async fn ask_for_more(&self, demand: &Demand, when: &Value, key: &str) -> Reply {
        let mut path = demand.path.clone();
        let mut body = String::new();
        if when["path"].is_object() {
            path = path.replace(ID, "@counter@a");
        }
        if let Some(query) = when["query"].as_object() {
            let pairs = query
                .iter()
                .map(|(name, value)| format!("{name}={}", value.as_str().unwrap()));
            path = format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"));
        }
        if when["member"]["verb"].is_string() && demand.method == "DELETE" {
            path = path.replace("operationId", &self.begun(&when["member"]["verb"]).await);
        } else if let Some(members) = when["member"].as_object() {
            let mut members = members.clone();
            if let Some(verb) = members.get("verb").cloned() {
                members = operation_body(&verb);
            }
            body = Value::Object(members).to_string();
        }
        let headers = [("x-functions-key", key), ("content-type", "application/json")];
        self.world
            .send(&demand.method, &path, &headers, body.as_bytes())
            .await
    }

    /// The id of a bulk operation of this verb that has ended.
    async fn begun(&self, verb: &Value) -> String {
        let all = self.pair(Scope::Read, serde_json::from_value(verb_scope(verb)).unwrap());
        let key = [("x-functions-key", all)];
        let path = "/runtime/dalsegno/v1/operations";
        let body = Value::Object(operation_body(verb)).to_string();
        let begun = self.world.send("POST", path, &key, body.as_bytes()).await;
        let begun: Value = serde_json::from_str(&begun.body).unwrap();
        let id = begun["id"].as_str().unwrap().to_owned();
        loop {
            let shown = self.world.send("GET", &format!("{path}/{id}"), &key, b"").await;
            if !shown.body.contains(r#""state":"running""#) {
                return id;
            }
        }
    }

    fn link(&self, operation: LinkOperation, id: &str, lifetime_seconds: i64) -> String {
        let id = InstanceId::trusted(id);
        let hub = self.world.hub.name();
        let target = LinkTarget {
            hub,
            operation,
            id: &id,
        };
        let issued = self.world.hub.now();
        let expires =
            dalsegno_core::Timestamp::from_micros(issued.as_micros() + lifetime_seconds * 1_000_000);
        self.signer.sign(target, issued, expires)
    }

    /// Starts the instance that links are made for, in place of the one that there is, and brings it
    /// into a state in which the operation is possible.
    async fn start_for(&self, operation: LinkOperation) {
        use LinkOperation as Op;
        let orchestrator = match operation {
            Op::Purge | Op::Restart => "Echo",
            Op::Rewind => "Fail",
            Op::Status | Op::RaiseEvent | Op::Terminate | Op::Suspend | Op::Resume => "Wait",
        };
        let headers = [
            ("x-functions-key", self.pair(Scope::Start, Scope::Control)),
            ("content-type", "application/json"),
        ];
        let path = format!("/runtime/dalsegno/v1/orchestrators/{orchestrator}");
        let body = format!(r#"{{"id":"{ID}","reuse":"terminateAndStart"}}"#);
        let reply = self.world.send("POST", &path, &headers, body.as_bytes()).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let (hub, id) = (&self.world.hub, InstanceId::trusted(ID));
        match orchestrator {
            "Wait" => drop(hub.wait_for_start(&id, None).await.unwrap()),
            _ => drop(hub.wait_for_completion(&id, None).await.unwrap()),
        }
        if operation == Op::Resume {
            hub.suspend(&id, None).await.unwrap();
        }
    }

    async fn ask(&self, demand: &Demand, key: &str) -> Reply {
        let headers = [("x-functions-key", key)];
        let headers = if key.is_empty() { &[][..] } else { &headers[..] };
        self.world.head(&demand.method, &demand.path, headers).await
    }
}

fn operation_body(verb: &Value) -> serde_json::Map<String, Value> {
    let mut body = serde_json::Map::new();
    body.insert("verb".into(), verb.clone());
    body.insert("where".into(), serde_json::json!({"all": true}));
    if verb == "raise" {
        body.insert("event".into(), "go".into());
    }
    body
}

/// The scope of a verb, which this test does not read from the table.
fn verb_scope(verb: &Value) -> Value {
    match verb.as_str().unwrap() {
        "purge" => "purge".into(),
        "raise" => "signal".into(),
        _ => "control".into(),
    }
}

fn operation(word: &str) -> LinkOperation {
    use LinkOperation as Op;
    match word {
        "status" => Op::Status,
        "raiseEvent" => Op::RaiseEvent,
        "terminate" => Op::Terminate,
        "purge" => Op::Purge,
        "restart" => Op::Restart,
        "suspend" => Op::Suspend,
        "resume" => Op::Resume,
        "rewind" => Op::Rewind,
        other => panic!("{other} is not an operation of links"),
    }
}

/// Neither refused nor handled: the statuses of a caller that may not pass.
fn is_refusal(reply: &Reply) -> bool {
    matches!(reply.status, 401 | 403)
}

#[tokio::test]
async fn every_route_admits_the_right_key_and_the_right_link_and_nobody_else() {
    let guarded = guarded().await;
    let mut links = 0;
    for demand in demands() {
        let told = format!("{} {}", demand.method, demand.path);
        assert_eq!(guarded.ask(&demand, "").await.status, 401, "{told}: nothing");
        for forged in ["dsl1_x", "dsl2_x", "dsl1_7fffffff_00", "dsl2_0_7fffffff_00"] {
            assert_eq!(guarded.ask(&demand, forged).await.status, 403, "{told}: {forged}");
        }
        for scope in Scope::ALL.into_iter().filter(|scope| *scope != demand.scope) {
            for hub in 0..3 {
                let reply = guarded.ask(&demand, guarded.key(scope, hub)).await;
                assert_eq!(reply.status, 403, "{told}: the scope {scope}");
            }
        }
        let own = guarded.ask(&demand, guarded.key(demand.scope, 0)).await;
        assert_eq!(is_refusal(&own), demand.hub == "all", "{told}: own hub: {own:?}");
        let all = guarded.ask(&demand, guarded.key(demand.scope, 2)).await;
        assert!(!is_refusal(&all), "{told}: all hubs: {all:?}");
        let other = guarded.ask(&demand, guarded.key(demand.scope, 1)).await;
        match demand.hub.as_str() {
            "any" => assert!(!is_refusal(&other), "{told}: {other:?}"),
            // As if it were not there.
            "path" if demand.method != "PUT" => assert_eq!(
                (other.status, other.code().as_str()),
                (404, "unknown_hub"),
                "{told}"
            ),
            _ => assert_eq!(other.status, 403, "{told}: another hub's key"),
        }
        for made_for in [
            "status",
            "raiseEvent",
            "terminate",
            "purge",
            "restart",
            "suspend",
            "resume",
            "rewind",
        ] {
            let wanted = demand.link.as_deref() == Some(made_for);
            if wanted {
                guarded.start_for(operation(made_for)).await;
                let right = guarded.link(operation(made_for), ID, 60);
                // A link for an instance does not open the one that has its id later.
                guarded.start_for(operation(made_for)).await;
                let reply = guarded.ask(&demand, &right).await;
                assert_eq!(reply.status, 403, "{told}: the link of an earlier instance");
            }
            let right = guarded.link(operation(made_for), ID, 60);
            let reply = guarded.ask(&demand, &right).await;
            match wanted {
                true => assert!(
                    matches!(reply.status, 200..=299),
                    "{told}: a link to {made_for}: {reply:?}"
                ),
                false => assert_eq!(reply.status, 403, "{told}: a link to {made_for}"),
            }
            links += usize::from(wanted);
            for (wrong, name) in [
                (guarded.link(operation(made_for), ID, -60), "an expired link"),
                (
                    guarded.link(operation(made_for), "order-2", 60),
                    "another instance's link",
                ),
            ] {
                assert_eq!(guarded.ask(&demand, &wrong).await.status, 403, "{told}: {name}");
            }
        }
    }
    assert_eq!(links, 9, "eight operations, and the stream of an instance");
}

#[tokio::test]
async fn a_request_that_asks_for_more_than_its_route_is_for_needs_a_second_scope() {
    // A key that may only start or purge ended running instances and deleted entities.
    let guarded = guarded().await;
    let mut asked = BTreeMap::new();
    for demand in demands() {
        for (scope, when) in &demand.also {
            let told = format!("{} {} {when}", demand.method, demand.path);
            let ask = async |key: &str| guarded.ask_for_more(&demand, when, key).await;
            for one in [demand.scope, *scope] {
                let reply = ask(guarded.key(one, 2)).await;
                assert_eq!(reply.status, 403, "{told}: the scope {one} alone");
            }
            for other in Scope::ALL {
                if other != demand.scope && other != *scope {
                    let reply = ask(guarded.pair(demand.scope, other)).await;
                    assert_eq!(reply.status, 403, "{told}: the scope {other} beside its own");
                }
            }
            let reply = ask(guarded.pair(demand.scope, *scope)).await;
            assert!(!is_refusal(&reply), "{told}: both scopes: {reply:?}");
            if let Some(word) = &demand.link {
                let id = InstanceId::trusted(ID);
                let running = StartOptions {
                    name: "Wait".into(),
                    id: Some(id.clone()),
                    ..StartOptions::default()
                };
                guarded.world.hub.start(running).await.unwrap();
                let link = guarded.link(operation(word), ID, 60);
                let reply = ask(&link).await;
                assert_eq!(reply.status, 403, "{told}: a link to {word}");
                let status = guarded.world.hub.status(&id).await.unwrap().unwrap();
                assert!(!status.row.status.is_final(), "{told}: {status:?}");
                let both = guarded.pair(Scope::Purge, Scope::Control);
                let path = format!("/runtime/dalsegno/v1/instances/{ID}?force=true");
                let purged = guarded
                    .world
                    .send("DELETE", &path, &[("x-functions-key", both)], b"")
                    .await;
                assert_eq!(purged.status, 200, "{purged:?}");
            }
            *asked.entry(scope.to_string()).or_insert(0) += 1;
        }
    }
    // A start and two purges by force, six verbs twice; the deletion of an entity; two verbs twice.
    let wanted = [("control", 15), ("entity", 1), ("purge", 2), ("signal", 2)];
    let asked: Vec<(&str, i32)> = asked
        .iter()
        .map(|(scope, count)| (scope.as_str(), *count))
        .collect();
    assert_eq!(asked, wanted);
}

#[tokio::test]
async fn a_start_that_the_configuration_lets_replace_ends_nothing_without_the_scope_for_it() {
    let mut ring = KeyRing::new().unwrap();
    let mut key = |scopes: &[Scope]| {
        ring.create(&format!("{scopes:?}"), scopes, KeyHubs::All, None)
            .unwrap()
    };
    let (starts, ends) = (key(&[Scope::Start]), key(&[Scope::Start, Scope::Control]));
    let settings = HttpSettings {
        start_replaces_unfinished: true,
        ..HttpSettings::default()
    };
    let access = Access::with_keys(ring);
    let world = world_on(MemoryStore::new(2), Limits::default(), |server| {
        server.access(access).settings(settings)
    })
    .await;
    let start = async |key: &str| {
        let path = format!("/runtime/webhooks/durabletask/orchestrators/Wait/{ID}");
        world.send("POST", &path, &[("x-functions-key", key)], b"").await
    };
    assert_eq!(start(&starts).await.status, 202);
    let refused = start(&starts).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (409, "instance_exists")
    );
    assert_eq!(start(&ends).await.status, 202);
}

#[tokio::test]
async fn the_endpoint_says_which_second_scopes_the_caller_of_a_call_has() {
    let guarded = guarded().await;
    let mut asked = 0;
    for (name, second, _) in dalsegno_host::grpc_second_scopes() {
        let (_, scopes) = dalsegno_host::grpc_scopes()
            .find(|(known, _)| *known == name)
            .expect("it is a call");
        for first in scopes {
            let found = async |key: &str| {
                let headers = [("content-type", "application/grpc"), ("x-functions-key", key)];
                let path = format!("/TaskHubSidecarService/{name}");
                let reply = guarded.world.send("POST", &path, &headers, b"").await;
                assert_eq!(reply.header("grpc-status"), Some("0"), "{name}");
                reply.header(&second.to_string()).map(str::to_owned)
            };
            assert_eq!(found(guarded.key(*first, 2)).await.as_deref(), Some("false"));
            let both = guarded.pair(*first, second);
            assert_eq!(found(both).await.as_deref(), Some("true"), "{name}: {second}");
            asked += 1;
        }
    }
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn every_call_admits_the_right_key_and_nobody_else() {
    let guarded = guarded().await;
    let call = async |name: &str, key: &str, hub: &str| {
        let path = format!("/TaskHubSidecarService/{name}");
        let headers = [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("x-functions-key", key),
            ("taskhub", hub),
        ];
        let given = |(_, value): &&(&str, &str)| !value.is_empty();
        let headers: Vec<_> = headers.iter().filter(given).copied().collect();
        let reply = guarded.world.send("POST", &path, &headers, b"").await;
        reply.header("grpc-status").unwrap().parse::<u32>().unwrap()
    };
    const OK: u32 = 0;
    const NOT_FOUND: u32 = 5;
    const DENIED: u32 = 7;
    const UNAUTHENTICATED: u32 = 16;
    for (name, scopes) in dalsegno_host::grpc_scopes() {
        assert_eq!(call(name, "", "").await, UNAUTHENTICATED, "{name}: nothing");
        let link = guarded.link(LinkOperation::Status, ID, 60);
        for link in ["dsl1_x", "dsl2_x", &link] {
            // With keys on, such a secret created hubs for good.
            assert_eq!(call(name, link, "new").await, UNAUTHENTICATED, "{name}: {link}");
        }
        for scope in Scope::ALL {
            let (own, other, all) = (
                guarded.key(scope, 0),
                guarded.key(scope, 1),
                guarded.key(scope, 2),
            );
            let wanted = if scopes.contains(&scope) { OK } else { DENIED };
            assert_eq!(call(name, own, "").await, wanted, "{name}: {scope}");
            assert_eq!(
                call(name, all, "orders").await,
                wanted,
                "{name}: {scope}, all hubs"
            );
            assert_eq!(
                call(name, other, "orders").await,
                wanted,
                "{name}: {scope}, orders"
            );
            let foreign = if wanted == OK { NOT_FOUND } else { DENIED };
            for (key, hub) in [(own, "orders"), (own, "new"), (other, ""), (other, "default")] {
                assert_eq!(
                    call(name, key, hub).await,
                    foreign,
                    "{name}: {scope} in \"{hub}\""
                );
            }
        }
    }
}

/// A host whose key `reader` opens the hub `orders`, one of three.
async fn of_orders() -> (World, String, String) {
    let mut ring = KeyRing::new().unwrap();
    let orders = KeyHubs::Named("orders".into());
    let own = ring.create("own", &[Scope::Read], orders, None).unwrap();
    let all = ring.create("all", &[Scope::Read], KeyHubs::All, None).unwrap();
    let access = Access::with_keys(ring);
    let world = world_on(MemoryStore::new(2), Limits::default(), |server| {
        let hubs = HubList::new(server.main_hub().clone());
        for name in ["orders", "secret"] {
            let options = HubOptions {
                name: name.into(),
                threads: 1,
                ..HubOptions::default()
            };
            let store = std::sync::Arc::new(MemoryStore::new(2));
            hubs.insert(TaskHub::open(store, std::sync::Arc::new(App), options).unwrap());
        }
        server.access(access).hubs(hubs)
    })
    .await;
    (world, own, all)
}

#[tokio::test]
async fn a_key_of_one_hub_learns_nothing_of_the_others() {
    let (world, own, all) = of_orders().await;
    let get = async |path: &str, key: &str| world.send("GET", path, &[("x-functions-key", key)], b"").await;
    let v1 = "/runtime/dalsegno/v1";
    let mine = get(&format!("{v1}/instances?taskHub=orders"), &own).await;
    assert_eq!(mine.status, 200, "{mine:?}");
    let masked = |reply: Reply, name: &str| (reply.status, reply.body.replace(name, "X"));
    for path in [
        format!("{v1}/instances?taskHub=NAME"),
        format!("{v1}/instances/i?taskHub=NAME"),
        "/runtime/webhooks/durabletask/instances?taskHub=NAME".into(),
        format!("{v1}/hubs/NAME/stats"),
        // Of no hub, but its answer must not depend on whether the hub exists.
        format!("{v1}/hubs?taskHub=NAME"),
        format!("{v1}/log-level?taskHub=NAME"),
        "/metrics?taskHub=NAME".into(),
    ] {
        let ask = async |name: &str| masked(get(&path.replace("NAME", name), &own).await, name);
        let (secret, unknown) = (ask("secret").await, ask("absent").await);
        assert_eq!(secret, unknown, "{path}");
        assert!(
            matches!(secret.0, 400 | 404) && !secret.1.contains("default"),
            "{secret:?}"
        );
        let wanted = match path.as_str() {
            path if path.contains("instances/i?") => 404,
            // A host of a test has no log of its own.
            path if path.contains("log-level") => 409,
            _ => 200,
        };
        let seen = get(&path.replace("NAME", "secret"), &all).await;
        assert_eq!(seen.status, wanted, "{path}: {seen:?}");
    }
    // The name of a parameter may be escaped too.
    for name in ["secret", "absent"] {
        let path = format!("{v1}/instances?taskHub=orders&task%48ub={name}");
        assert_eq!(get(&path, &own).await.status, 400, "{name}");
        let path = format!("{v1}/instances?task%48ub={name}");
        assert_eq!(get(&path, &own).await.status, 403, "{name}");
    }
    let names = async |key: &str| get(&format!("{v1}/hubs"), key).await.body;
    assert_eq!(names(&own).await, r#"["orders"]"#);
    assert_eq!(names(&all).await, r#"["default","orders","secret"]"#);
    // It names no hub, so it means the default hub.
    let unnamed = get(&format!("{v1}/instances"), &own).await;
    assert_eq!(
        (unnamed.status, unnamed.code().as_str()),
        (403, "key_of_another_hub")
    );
    let problem: Value = serde_json::from_str(&unnamed.body).unwrap();
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("the key opens orders"),
        "{problem}"
    );
}
