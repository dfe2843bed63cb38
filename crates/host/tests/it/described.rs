//! Whatever a server answers in these tests is what its OpenAPI document tells of: status, headers,
//! media type, and a body that fits its schema and has no member beside it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use dalsegno_host::keys::{KeyHubs, KeyRing, Scope};
use dalsegno_host::openapi_document;
use dalsegno_host::server::{Access, HttpSettings};
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::world::{P, Reply, world, world_with_keys};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = openapi_document(&HttpSettings::default());
    close(&mut document["components"]);
    document
});

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Refuses members that a schema does not name.
fn close(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(close),
        Value::Object(members) => {
            if members.contains_key("properties") {
                members.insert("additionalProperties".into(), json!(false));
            }
            members.values_mut().for_each(close);
        }
        _ => {}
    }
}

/// Panics when an answer is not described.
pub(crate) fn check(method: &str, path: &str, reply: &Reply) {
    if method == "HEAD" {
        return;
    }
    let Some((template, operation)) = operation(method, path) else {
        return;
    };
    let place = format!("{method} {template} {}", reply.status);
    let Some(told) = operation["responses"].get(reply.status.to_string()) else {
        panic!("{place} is not described: {reply:?}");
    };
    for header in told["headers"].as_object().into_iter().flat_map(|all| all.keys()) {
        // Of what may be a success or a refusal, the headers of one are told.
        let is_there = reply.header(header).is_some();
        assert!(
            is_there || is_refusal(reply),
            "{place} has no {header}: {reply:?}"
        );
    }
    let media = reply
        .header("content-type")
        .map(|kind| kind.split(';').next().unwrap_or_default());
    match (media, told.get("content")) {
        (None, None) => assert_eq!(reply.body, "", "{place}"),
        // The key is not good for it, or the host only shows, which it says.
        (None, Some(_)) => assert!(reply.status == 403 && reply.body.is_empty(), "{place}: {reply:?}"),
        (Some(media), Some(content)) => {
            let schema = &content[media]["schema"];
            assert!(!schema.is_null(), "{place} is not told to be {media}");
            if media.ends_with("json") {
                check_body(&format!("{place} {media}"), schema, &reply.body);
            }
        }
        (Some(media), None) => panic!("{place} is told to be empty and is {media}: {reply:?}"),
    }
}

fn is_refusal(reply: &Reply) -> bool {
    reply
        .header("content-type")
        .is_some_and(|kind| kind.contains("problem"))
}

fn check_body(place: &str, schema: &Value, body: &str) {
    let body: Value = serde_json::from_str(body).unwrap();
    let validator = validator(place, schema);
    let mistakes: Vec<String> = validator
        .iter_errors(&body)
        .map(|mistake| format!("{}: {mistake}", mistake.instance_path()))
        .collect();
    assert!(mistakes.is_empty(), "{place}: {}\n{body}", mistakes.join("\n"));
}

fn validator(place: &str, schema: &Value) -> Arc<Validator> {
    let mut known = VALIDATORS.lock().unwrap();
    let made = known.entry(place.to_owned()).or_insert_with(|| {
        let whole = json!({"allOf": [schema], "components": DOCUMENT["components"]});
        let options = jsonschema::options().should_validate_formats(true);
        Arc::new(options.build(&whole).unwrap())
    });
    Arc::clone(made)
}

/// The operation that a path is for, with its path in the document. What stands alone is matched
/// exactly, the rest in any case and with a slash behind it.
fn operation(method: &str, path: &str) -> Option<(&'static str, &'static Value)> {
    let path = path.split('?').next().unwrap_or_default();
    let asked: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let fits = |template: &str| {
        let own: Vec<&str> = template.split('/').collect();
        let is_part = |(own, asked): (&&str, &&str)| own.starts_with('{') || own.eq_ignore_ascii_case(asked);
        match template.starts_with("/runtime/") {
            true => own.len() == asked.len() && own.iter().zip(&asked).all(is_part),
            false => template == path,
        }
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let (template, told) = paths.iter().find(|(template, _)| fits(template))?;
    Some((template, told.get(method.to_ascii_lowercase())?))
}

#[tokio::test]
async fn the_document_is_served_and_says_what_it_is() {
    let world = world().await;
    let reply = world.get("/openapi.json").await;
    assert_eq!(reply.status, 200);
    let document: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(document, openapi_document(&HttpSettings::default()));
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(world.get("/openapi.json?x=1").await.code(), "unknown_parameter");
}

/// The key a route asks for is the one that the document names: neither more nor less.
#[tokio::test]
async fn every_route_asks_for_the_scope_that_is_told() {
    let mut ring = KeyRing::new().unwrap();
    let mut keys = Vec::new();
    for scope in Scope::ALL {
        let others: Vec<Scope> = Scope::ALL.into_iter().filter(|other| *other != scope).collect();
        let word = serde_json::to_value(scope).unwrap();
        let own = ring
            .create(&format!("only-{word}"), &[scope], KeyHubs::All, None)
            .unwrap();
        let rest = ring
            .create(&format!("all-but-{word}"), &others, KeyHubs::All, None)
            .unwrap();
        keys.push((word, own, rest));
    }
    let world = world_with_keys(Access::with_keys(ring)).await;
    let (mut asked, mut open) = (0, 0);
    for (template, told) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in told.as_object().unwrap() {
            let (method, path) = (method.to_uppercase(), template.replace(['{', '}'], ""));
            let bare = world.send(&method, &path, &[], b"").await;
            let Some(scope) = operation.get("x-scope") else {
                assert_eq!(bare.status, 200, "{method} {path}");
                open += 1;
                continue;
            };
            assert_eq!(bare.status, 401, "{method} {path} without a key");
            let (_, own, rest) = keys.iter().find(|(word, _, _)| word == scope).unwrap();
            let refused = world
                .send(&method, &path, &[("x-functions-key", rest)], b"")
                .await;
            assert_eq!(refused.status, 403, "{method} {path} with all but {scope}");
            if template.ends_with("/stream") && !template.contains('{') {
                // It would never end.
                continue;
            }
            let allowed = world.send(&method, &path, &[("x-functions-key", own)], b"").await;
            assert!(
                ![401, 403].contains(&allowed.status),
                "{method} {path} with {scope}: {allowed:?}"
            );
            asked += 1;
        }
    }
    assert!(asked > 50 && open == 1, "{asked} asked for keys, {open} did not");
}

/// A fuzzer found that the one route without effect took any query, where all others refuse what
/// they do not know.
#[tokio::test]
async fn the_route_without_effect_reads_its_query_too() {
    let world = world().await;
    for (query, wanted) in [
        ("", 200),
        ("?taskHub=default", 200),
        ("?connection=", 400),
        ("?x=1", 400),
    ] {
        let reply = world.get(&format!("{P}/makePrimary{query}")).await;
        assert_eq!(reply.status, wanted, "{query}: {reply:?}");
    }
}
