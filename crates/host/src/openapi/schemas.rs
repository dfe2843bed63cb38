//! Schemas of what is no object: words, times, parts of paths, parameters, headers.

use dalsegno_core::id::ID_CHARS_MAX;
use dalsegno_core::query::Status;
use serde_json::{Value, json};

use crate::error_codes::ERROR_CODES;
use crate::http::list::PAGE_ROWS;
use crate::http::query;
use crate::http::route::{Parameter, Shape};

/// Printable ASCII, without spaces at its ends.
pub(crate) const IDEMPOTENCY_KEY: &str = "^[!-~]([ -~]*[!-~])?$";
/// Not beginning with `@`, not `.` or `..`, without `/ \ # ?` and control characters.
pub(crate) const INSTANCE_ID: &str = concat!(
    r"^([^@./\\#?\u0000-\u001F\u007F-\u009F][^/\\#?\u0000-\u001F\u007F-\u009F]*",
    r"|\.[^./\\#?\u0000-\u001F\u007F-\u009F][^/\\#?\u0000-\u001F\u007F-\u009F]*",
    r"|\.\.[^/\\#?\u0000-\u001F\u007F-\u009F]+)$",
);
/// Without `/ \ # ?` and control characters.
const ENTITY_KEY: &str = r"^[^/\\#?\u0000-\u001F\u007F-\u009F]+$";
/// The same and without `@`, which ends it.
const ENTITY_NAME: &str = r"^[^@/\\#?\u0000-\u001F\u007F-\u009F]+$";
/// Anything but control characters.
const NO_CONTROLS: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$";
/// Longest name of an orchestrator or event that every host takes, in characters of ASCII.
const NAME_CHARS_MAX: usize = 256;

/// Words of all statuses.
pub(crate) fn statuses() -> Vec<&'static str> {
    Status::ALL.into_iter().map(Status::as_str).collect()
}

/// A status.
pub(crate) fn status() -> Value {
    json!({"type": "string", "enum": statuses()})
}

/// The status of a finished instance.
pub(crate) fn finished_status() -> Value {
    let finished = Status::ALL.into_iter().filter(|status| status.is_final());
    json!({"type": "string", "enum": finished.map(Status::as_str).collect::<Vec<_>>()})
}

/// A time as RFC 3339 writes it.
pub(crate) fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// One of these members is there and is not null.
pub(crate) fn one_is_given<const N: usize>(names: [&str; N]) -> Vec<Value> {
    let given = |name: &str| json!({"required": [name], "properties": {name: {"not": {"type": "null"}}}});
    names.map(given).to_vec()
}

/// Codes of refusals.
pub(crate) fn error_codes() -> Vec<&'static str> {
    ERROR_CODES.iter().map(|entry| entry.code).collect()
}

/// What a name in a path stands for.
pub(super) fn segment(name: &str) -> Value {
    match name {
        "instanceId" => json!({
            "type": "string", "pattern": INSTANCE_ID, "minLength": 1, "maxLength": ID_CHARS_MAX,
        }),
        "orchestrator" => json!({
            "type": "string", "pattern": NO_CONTROLS, "minLength": 1, "maxLength": NAME_CHARS_MAX,
        }),
        "entityName" => json!({
            "type": "string", "pattern": ENTITY_NAME, "minLength": 1,
            "description": format!("`@name@key` has at most {ID_CHARS_MAX} characters."),
        }),
        "entityKey" => json!({
            "type": "string", "pattern": ENTITY_KEY, "minLength": 1,
            "description": "`$` is the empty key.",
        }),
        _ => json!({"type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX}),
    }
}

/// One value of a parameter.
pub(super) fn parameter(parameter: &Parameter, page_max: usize) -> Value {
    let least = usize::from(!query::may_be_empty(parameter.name));
    match parameter.shape {
        Shape::InstanceId => segment("instanceId"),
        Shape::Text => json!({"type": "string", "minLength": least}),
        Shape::Flag(default) => json!({"type": "boolean", "default": default}),
        Shape::PageRows => {
            json!({"type": "integer", "minimum": 1, "maximum": page_max, "default": PAGE_ROWS.min(page_max)})
        }
        Shape::Count { default, most } => {
            json!({"type": "integer", "minimum": 1, "maximum": most, "default": default})
        }
        Shape::Task => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        Shape::Seconds { most } => json!({"type": "number", "minimum": 0, "maximum": most}),
        Shape::Time => time(),
        Shape::Statuses => {
            let mut words = statuses();
            words.push("ContinuedAsNew");
            json!({"type": "string", "enum": words})
        }
        Shape::FinishedStatuses => finished_status(),
        Shape::Words(words) => json!({"type": "string", "enum": words}),
        Shape::Tags => json!({"type": "string", "pattern": "^[^=]*=", "description": "name=value"}),
    }
}

/// A header that an answer has.
pub(super) fn header(name: &str) -> Value {
    let (text, schema) = match name {
        "Retry-After" => (
            "Seconds after which to ask again.",
            json!({"type": "integer", "minimum": 0}),
        ),
        "Location" => ("Where to look.", json!({"type": "string", "format": "uri"})),
        _ => (
            "Of the next page; empty when there is none.",
            json!({"type": "string"}),
        ),
    };
    json!({"description": text, "required": true, "schema": schema})
}

/// What a refusal of a status says.
pub(super) fn refusal_text(status: u16) -> &'static str {
    match status {
        400 => "The request cannot be understood: the answer says what, where, and what to do.",
        401 => "A key is needed.",
        403 => "The key is not good for this, or the host only shows.",
        404 => "Nothing of that name is here.",
        408 => "The time is over; the instance goes on.",
        409 => "It does not fit the state of what is there.",
        410 => "The instance has ended.",
        413 => "Something is larger than a limit allows.",
        415 => "Bodies are taken without an encoding only.",
        421 => "The name of another host.",
        429 => "Too many wait, or too many unknown keys came.",
        431 => "The headers are too large.",
        500 => "The host's own fault.",
        503 => "The host starts, drains, or its store is behind.",
        507 => "The disk has too little room.",
        _ => "Refused.",
    }
}

/// Takes `null` from members that are left out instead.
pub(super) fn without_nulls(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(without_nulls),
        Value::Object(members) => {
            let required: Vec<Value> = members
                .get("required")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            if let Some(Value::Object(properties)) = members.get_mut("properties") {
                let optional = properties
                    .iter_mut()
                    .filter(|(name, _)| !required.iter().any(|known| known == *name));
                optional.for_each(|(_, schema)| take_null(schema));
            }
            members.values_mut().for_each(without_nulls);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn take_null(schema: &mut Value) {
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|word| word != "null");
    }
    if let Some(choices) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| choice["type"] != "null");
    }
}

/// Says how large numbers may be, where their types do.
pub(super) fn limit_numbers(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(limit_numbers),
        Value::Object(members) => {
            if members.get("format").is_some_and(|format| format == "uint32") {
                members.insert("maximum".into(), json!(u32::MAX));
            }
            members.values_mut().for_each(limit_numbers);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Names components without the suffix of their types.
pub(super) fn rename(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(rename),
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get_mut("$ref") {
                *target = target.replace("Wire", "");
            }
            let named = members.keys().filter(|name| name.contains("Wire"));
            for name in named.cloned().collect::<Vec<_>>() {
                if let Some(schema) = members.remove(&name) {
                    members.insert(name.replace("Wire", ""), schema);
                }
            }
            members.values_mut().for_each(rename);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
