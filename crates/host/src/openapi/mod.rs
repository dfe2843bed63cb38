//! The OpenAPI 3.1 document of a host, made from the tables that requests are matched with.
//!
//! It tells of the management API, of `/runtime/dalsegno/v1` and of the paths that stand alone; the
//! app's own routes are the app's to tell of. What it says of bodies comes from the types in the
//! `wire` files.

pub(crate) mod schemas;

use axum::http::StatusCode;
use axum::response::Response;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::http::body;
use crate::http::path::{MANAGEMENT, OURS, PAGES};
use crate::http::problem::{Bodies, ProblemWire, is_silent};
use crate::http::query;
use crate::http::request::{Call, HttpSettings};
use crate::http::route::{Also, Answer, Content, Header, Parameter, RequestBody, Route, When};
use crate::http::routes;
use crate::v1;

/// What every route that takes a key may answer.
const REFUSALS: [u16; 8] = [400, 401, 403, 421, 429, 431, 500, 503];
/// What one that takes none may.
const OPEN_REFUSALS: [u16; 2] = [400, 431];
/// What one that takes a body may besides.
const BODY_REFUSALS: [u16; 2] = [413, 415];

pub(crate) fn answer(call: &Call) -> Result<Response, crate::http::problem::Problem> {
    call.query()?;
    let document = document(&call.state.settings);
    Ok(body::json(StatusCode::OK, document.to_string()))
}

/// The document of a host with these settings.
pub fn document(settings: &HttpSettings) -> Value {
    Writer::new(settings).write()
}

struct Writer<'a> {
    settings: &'a HttpSettings,
    /// Of what is taken: written where it is used.
    asked: SchemaGenerator,
    /// Of what is answered: components.
    answered: SchemaGenerator,
    paths: Map<String, Value>,
}

impl<'a> Writer<'a> {
    fn new(settings: &'a HttpSettings) -> Self {
        let asked = SchemaSettings::draft2020_12().with(|settings| {
            settings.meta_schema = None;
            settings.inline_subschemas = true;
        });
        let answered = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.meta_schema = None;
            settings.definitions_path = "/components/schemas".into();
        });
        Self {
            settings,
            asked: asked.into_generator(),
            answered: answered.into_generator(),
            paths: Map::new(),
        }
    }

    fn write(mut self) -> Value {
        self.routes("", "host", Bodies::Full, PAGES);
        let prefix = format!("/{}", MANAGEMENT.join("/"));
        self.routes(&prefix, "management", Bodies::Classic, routes::ROUTES);
        let prefix = format!("/{}", OURS.join("/"));
        self.routes(&prefix, "v1", Bodies::Full, v1::routes::ROUTES);
        self.answered.subschema_for::<ProblemWire<'static>>();
        let mut components = Value::Object(self.answered.take_definitions(false));
        let mut paths = Value::Object(self.paths);
        schemas::without_nulls(&mut components);
        for told in [&mut components, &mut paths] {
            schemas::rename(told);
            schemas::limit_numbers(told);
        }
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "dalsegno",
                "version": env!("CARGO_PKG_VERSION"),
                "summary": "Durable functions, self-hosted.",
                "description": "Literal segments of paths match in any case, names in queries too. What a query holds beside the names told here is refused.",
                "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": [
                {"name": "host", "description": "Paths that stand alone."},
                {"name": "management", "description": "The management API of Durable Functions."},
                {"name": "v1", "description": "What that API cannot say."},
            ],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "key": {
                        "type": "apiKey", "in": "header", "name": "x-functions-key",
                        "description": "A key of the host. It wins over one in the query.",
                    },
                    "code": {
                        "type": "apiKey", "in": "query", "name": "code",
                        "description": "The key of a link, valid for the operation of the link on its instance; with `auth.keys_in_query` also a key of the host.",
                    },
                    "token": {
                        "type": "http", "scheme": "bearer",
                        "description": "A key of the host, as Prometheus and gRPC send it.",
                    },
                },
            },
        })
    }

    fn routes<T>(&mut self, prefix: &str, tag: &str, bodies: Bodies, routes: &'static [Route<T>]) {
        for route in routes {
            let path = format!("{prefix}/{}", route.path);
            for method in route.verb.methods() {
                let operation = self.operation(route, tag, bodies, method);
                let told = self.paths.entry(&path).or_insert_with(|| json!({}));
                told[method] = operation;
            }
        }
    }

    fn operation<T>(&mut self, route: &Route<T>, tag: &str, bodies: Bodies, method: &str) -> Value {
        let mut name = format!("{tag}.{}", route.operation);
        if route.verb.methods().len() > 1 {
            name += &format!(".{method}");
        }
        let mut operation = json!({
            "operationId": name,
            "tags": [tag],
            "summary": route.summary,
            "security": security(route, tag),
            "parameters": self.parameters(route),
            "responses": self.responses(route, bodies),
        });
        if let Some(scope) = route.scope {
            operation["x-scope"] = json!(scope);
            operation["x-hub"] = json!(route.reach.word());
            if !route.also.is_empty() {
                operation["x-also"] = route.also.iter().map(also).collect();
            }
            if let Some(link) = route.link {
                operation["x-link"] = json!(link.as_str());
            }
        }
        if let Some(body) = self.request_body(route.body) {
            operation["requestBody"] = body;
        }
        operation
    }

    fn parameters<T>(&self, route: &Route<T>) -> Vec<Value> {
        let in_path = route.path.split('/').filter_map(|part| {
            let name = part.strip_prefix('{')?.strip_suffix('}')?;
            Some(json!({"name": name, "in": "path", "required": true, "schema": schemas::segment(name)}))
        });
        let in_query = route.query.iter().map(|parameter| self.in_query(parameter));
        let in_headers = route.headers.iter().flat_map(|header| headers(*header));
        let common = route.scope.map(|_| common_parameters());
        in_path
            .chain(in_query)
            .chain(common.into_iter().flatten())
            .chain(in_headers)
            .collect()
    }

    fn in_query(&self, parameter: &Parameter) -> Value {
        let Parameter { name, text, .. } = parameter;
        let one = schemas::parameter(parameter, self.settings.page_max);
        let schema = match query::may_repeat(name) {
            true => json!({"type": "array", "items": one, "minItems": 1}),
            false => one,
        };
        json!({
            "name": name,
            "in": "query",
            "required": parameter.is_required,
            "description": text,
            "schema": schema,
        })
    }

    fn request_body(&mut self, body: RequestBody) -> Option<Value> {
        let any = json!({"description": "One JSON value; without one there is none."});
        let (content, is_required) = match body {
            RequestBody::None => return None,
            RequestBody::Value => (json!({"application/json": {"schema": any}}), false),
            RequestBody::ValueOrText => {
                let text = json!({"type": "string"});
                let both = json!({"application/json": {"schema": any}, "text/plain": {"schema": text}});
                (both, false)
            }
            RequestBody::MayBe(schema) => (
                json!({"application/json": {"schema": schema(&mut self.asked)}}),
                false,
            ),
            RequestBody::Is(schema) => (
                json!({"application/json": {"schema": schema(&mut self.asked)}}),
                true,
            ),
        };
        Some(json!({"content": content, "required": is_required}))
    }

    fn responses<T>(&mut self, route: &Route<T>, bodies: Bodies) -> Value {
        let mut told = json!({});
        let common = match route.scope {
            Some(_) => &REFUSALS[..],
            None => &OPEN_REFUSALS[..],
        };
        let of_body = match route.body {
            RequestBody::None => &[][..],
            _ => &BODY_REFUSALS[..],
        };
        for status in common.iter().chain(of_body).chain(route.refusals) {
            told[status.to_string()] = refusal(*status, bodies);
        }
        for answer in route.answers {
            self.add(answer, &mut told[answer.status.to_string()]);
        }
        told
    }

    /// Beside a refusal of the same status, if there is one.
    fn add(&mut self, answer: &Answer, told: &mut Value) {
        let text = match told["description"].as_str() {
            Some(refusal) => format!("{} Or: {refusal}", answer.text),
            None => answer.text.to_owned(),
        };
        told["description"] = json!(text);
        match answer.content {
            Content::Empty => {}
            Content::Json(schema) => {
                told["content"]["application/json"] = json!({"schema": schema(&mut self.answered)});
            }
            Content::Text(media) => told["content"][media] = json!({"schema": {"type": "string"}}),
        }
        for header in answer.headers {
            told["headers"][header] = schemas::header(header);
        }
    }
}

/// A second scope, and the requests that need it.
fn also(also: &Also) -> Value {
    let when = match also.when {
        When::Flag(name) => json!({"query": {name: "true"}}),
        When::Member(name, value) => json!({"member": {name: value}}),
        When::Entity => json!({"path": {"instanceId": "@name@key"}}),
    };
    json!({"scope": also.scope, "when": when})
}

/// A key in one of the places where the host looks for it; none on a host without keys.
fn security<T>(route: &Route<T>, tag: &str) -> Value {
    match route.scope {
        None => json!([]),
        Some(_) if tag == "host" => json!([{"key": []}, {"code": []}, {"token": []}, {}]),
        Some(_) => json!([{"key": []}, {"code": []}, {}]),
    }
}

/// What every route with a key takes in its query, but for the key.
fn common_parameters() -> [Value; 2] {
    let text = |name: &str, description: &str| {
        json!({
            "name": name,
            "in": "query",
            "required": false,
            "description": description,
            "schema": {"type": "string", "minLength": usize::from(!query::may_be_empty(name))},
            "example": match name { "taskHub" => "", _ => "Storage" },
        })
    };
    [
        text(
            "taskHub",
            "A task hub of this host; none or an empty one is its own.",
        ),
        text("connection", "Taken and without effect."),
    ]
}

fn headers(header: Header) -> Vec<Value> {
    let told = |name: &str, text: &str, schema: Value| json!({"name": name, "in": "header", "required": false, "description": text, "schema": schema});
    match header {
        Header::IdempotencyKey => vec![told(
            "Idempotency-Key",
            "A repeat with the same key gets the first answer again.",
            json!({"type": "string", "pattern": schemas::IDEMPOTENCY_KEY}),
        )],
        Header::Trace => vec![
            told(
                "traceparent",
                "The trace that the caller works in; what is no W3C trace context is not looked at.",
                json!({"type": "string"}),
            ),
            told("tracestate", "Of the same trace.", json!({"type": "string"})),
        ],
        Header::ContinuationToken => vec![told(
            "x-ms-continuation-token",
            "What the page before answered with; empty begins with the first.",
            json!({"type": "string"}),
        )],
        Header::LastEventId => vec![told(
            "Last-Event-ID",
            "The id of an event: go on behind it.",
            json!({"type": "string"}),
        )],
    }
}

/// A refusal has a body that says why, or none.
fn refusal(status: u16, bodies: Bodies) -> Value {
    let mut told = json!({"description": schemas::refusal_text(status)});
    // The server's own words for it: the protocol's part of the host knows no problems.
    let is_empty = status == 431 || is_silent(status, bodies);
    if !is_empty || status == 403 {
        told["content"]["application/problem+json"] =
            json!({"schema": {"$ref": "#/components/schemas/ProblemWire"}});
    }
    if matches!(status, 429 | 503) {
        told["headers"]["Retry-After"] = schemas::header("Retry-After");
    }
    told
}

#[cfg(test)]
mod tests;
