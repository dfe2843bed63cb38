//! The tables are what is served, and the document is what the tables say.

use std::collections::BTreeSet;

use axum::http::Method;

use super::*;
use crate::http::path::{Face, face};
use crate::http::route::find;

fn told() -> Value {
    document(&HttpSettings::default())
}

/// Path, method and name of each operation of the document.
fn operations(document: &Value) -> Vec<(String, String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, told): (&String, &Value)| {
        let methods = told.as_object().unwrap().iter();
        let all = methods.map(|(method, operation)| {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            (path.clone(), method.clone(), name)
        });
        all.collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

fn served<T>(prefix: &str, routes: &'static [Route<T>]) -> Vec<(String, String)> {
    let of_route = |route: &Route<T>| {
        let path = format!("{prefix}/{}", route.path);
        let methods = route.verb.methods().iter();
        methods
            .map(|method| (path.clone(), (*method).to_owned()))
            .collect::<Vec<_>>()
    };
    routes.iter().flat_map(of_route).collect()
}

/// The name of the route that a request is answered by.
fn answered_by(method: &str, path: &str) -> Option<&'static str> {
    let method: Method = method.to_uppercase().parse().unwrap();
    match face(path) {
        Face::Management(segments) => {
            find(routes::ROUTES, &method, &segments).map(|(route, _)| route.operation)
        }
        Face::Ours(segments) => {
            find(v1::routes::ROUTES, &method, &segments).map(|(route, _)| route.operation)
        }
        Face::Health => Some("health"),
        Face::Metrics => Some("metrics"),
        Face::OpenApi => Some("openapi"),
        Face::Reserved | Face::Unreadable | Face::App => None,
    }
}

#[test]
fn every_route_is_in_the_document_and_nothing_else() {
    let mut routes = served("", PAGES);
    routes.extend(served(
        "/runtime/webhooks/durabletask",
        crate::http::routes::ROUTES,
    ));
    routes.extend(served("/runtime/dalsegno/v1", v1::routes::ROUTES));
    let document = told();
    let operations = operations(&document);
    let described: BTreeSet<_> = operations
        .iter()
        .map(|(path, method, _)| (path.clone(), method.clone()))
        .collect();
    assert_eq!(routes.len(), described.len(), "two routes are the same");
    assert_eq!(routes.into_iter().collect::<BTreeSet<_>>(), described);
    for (path, method, name) in operations {
        // A request as the document says is answered by the route that it tells of.
        let asked = path.replace(['{', '}'], "");
        let route = answered_by(&method, &asked).unwrap_or_else(|| panic!("{method} {path} is not served"));
        assert_eq!(name.split('.').nth(1), Some(route), "{method} {path}");
    }
}

#[test]
fn names_are_given_once_and_everything_is_said() {
    let document = told();
    let mut names = BTreeSet::new();
    for (path, method, name) in operations(&document) {
        assert!(names.insert(name.clone()), "{name} is the name of two");
        let operation = &document["paths"][&path][&method];
        let said = |member: &str| !operation[member].as_str().unwrap_or_default().is_empty();
        assert!(said("summary"), "{name} says nothing");
        let answers = operation["responses"].as_object().unwrap();
        let is_success = |status: &String| status.starts_with('2');
        assert!(answers.keys().any(is_success), "{name} never succeeds");
        assert!(answers.contains_key("400"), "{name} refuses nothing");
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_can_be_used() {
    let document = told();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    assert!(references.contains("#/components/schemas/Problem"));
    for reference in &references {
        let place = reference.trim_start_matches('#');
        assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(!name.contains("Wire"), "{name}");
        let whole = json!({"allOf": [schema], "components": document["components"]});
        jsonschema::options()
            .build(&whole)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get("$ref") {
                references.insert(target.clone());
            }
            members.values().for_each(|value| collect(value, references));
        }
        _ => {}
    }
}

#[test]
fn members_that_are_left_out_are_never_null_and_others_may_be() {
    let document = told();
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["Instance"]["properties"]["version"]["type"],
        json!(["string"])
    );
    assert_eq!(
        schemas["FailureDetails"]["properties"]["StackTrace"]["type"],
        json!(["string", "null"])
    );
    assert_eq!(
        schemas["Instance"]["properties"]["created"]["format"],
        "date-time"
    );
}

#[test]
fn the_page_limit_is_that_of_the_host() {
    let settings = HttpSettings {
        page_max: 7,
        ..HttpSettings::default()
    };
    let document = document(&settings);
    let parameters = &document["paths"]["/runtime/dalsegno/v1/instances"]["get"]["parameters"];
    let top = parameters
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "top")
        .unwrap();
    assert_eq!(top["schema"]["maximum"], 7);
}

/// A fuzzer sent what the document allowed and these refuse.
#[test]
fn what_a_body_has_to_say_is_told() {
    let document = told();
    let body = |path: &str, method: &str| {
        let operation = &document["paths"][format!("/runtime/dalsegno/v1/{path}")][method];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        jsonschema::validator_for(schema).unwrap()
    };
    for (path, method, text, fits) in [
        (
            "purge",
            "post",
            json!({"createdFrom": "2026-03-01T00:00:00Z"}),
            true,
        ),
        ("purge", "post", json!({}), false),
        ("purge", "post", json!({"createdFrom": null}), false),
        ("limiters/{limiter}", "put", json!({"concurrency": 1}), true),
        (
            "limiters/{limiter}",
            "put",
            json!({"rate": {"count": 1, "periodMs": 1}}),
            true,
        ),
        ("limiters/{limiter}", "put", json!({"burst": 1}), false),
        ("limiters/{limiter}", "put", json!({"concurrency": null}), false),
        ("limiters/{limiter}", "put", json!({"concurrency": 0}), false),
        (
            "limiters/{limiter}",
            "put",
            json!({"concurrency": 4_294_967_296_u64}),
            false,
        ),
    ] {
        assert_eq!(body(path, method).is_valid(&text), fits, "{method} {path} {text}");
    }
}
