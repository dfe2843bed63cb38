//! The JSON of the management API: names, order and casing are those of Durable Functions.

use dalsegno_core::query::Status;
use dalsegno_core::store::{EntityRow, InstanceRow};
use dalsegno_core::{Failure, Payload};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::time;
use crate::openapi::schemas;

/// A stored value as JSON: itself, or a string if it is none; `null` for nothing.
pub(crate) fn raw(payload: Option<&Payload>) -> Box<RawValue> {
    match payload {
        None => null(),
        Some(payload) => {
            RawValue::from_string(payload.as_str().to_owned()).unwrap_or_else(|_| string(payload.as_str()))
        }
    }
}

/// `null`.
pub(crate) fn null() -> Box<RawValue> {
    RawValue::from_string("null".into()).expect("null is JSON")
}

/// A JSON string.
pub(crate) fn string(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).expect("a string is always JSON")
}

/// A JSON string, or `null`.
pub(crate) fn string_or_null(text: Option<&str>) -> Box<RawValue> {
    text.map_or_else(null, string)
}

/// An object whose members depend on what it tells of.
#[derive(Debug, Default)]
pub(crate) struct Members(Vec<(&'static str, Box<RawValue>)>);

impl Members {
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: Box<RawValue>) -> Self {
        self.0.push((name, value));
        self
    }

    #[must_use]
    pub(crate) fn with_if(self, name: &'static str, value: Option<Box<RawValue>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// An event of a history: which members it has depends on its type.
impl schemars::JsonSchema for Members {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HistoryEvent".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let details = generator.subschema_for::<FailureDetails<'static>>();
        // A member that is there may be null: not the same as one that is left out.
        let text_or_null = serde_json::json!({"oneOf": [{"type": "string"}, {"type": "null"}]});
        schemars::json_schema!({
            "type": "object",
            "properties": {
                "EventType": {"type": "string"},
                "Timestamp": schemas::time(),
                "ScheduledTime": schemas::time(),
                "ScheduledStartTime": schemas::time(),
                "FireAt": schemas::time(),
                "FunctionName": {"type": "string"},
                "Name": {"type": "string"},
                "InstanceId": {"type": "string"},
                "Input": text_or_null,
                "Result": {"description": "JSON."},
                "Reason": text_or_null,
                "Details": text_or_null,
                "OrchestrationStatus": {"type": "string"},
                "FailureDetails": details,
            },
            "required": ["EventType", "Timestamp"],
        })
    }
}

/// An instance.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusWire<'a> {
    name: &'a str,
    instance_id: &'a str,
    #[schemars(extend("enum" = schemas::statuses()))]
    runtime_status: &'static str,
    input: Box<RawValue>,
    custom_status: Box<RawValue>,
    output: Box<RawValue>,
    #[schemars(extend("format" = "date-time"))]
    created_time: String,
    #[schemars(extend("format" = "date-time"))]
    last_updated_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    history_events: Option<Vec<Members>>,
}

impl<'a> StatusWire<'a> {
    pub(crate) fn of(row: &'a InstanceRow, show_input: bool) -> Self {
        Self {
            name: &row.name,
            instance_id: row.id.as_str(),
            runtime_status: row.status.as_str(),
            input: raw(row.input.as_ref().filter(|_| show_input)),
            custom_status: raw(row.custom_status.as_ref()),
            output: output(row),
            created_time: time::whole_seconds(row.created),
            last_updated_time: time::whole_seconds(row.updated),
            history_events: None,
        }
    }

    #[must_use]
    pub(crate) fn history(mut self, events: Vec<Members>) -> Self {
        self.history_events = Some(events);
        self
    }
}

/// The result; of a failed one a string, never an object, because clients match its start.
pub(crate) fn output(row: &InstanceRow) -> Box<RawValue> {
    match row.status {
        Status::Completed | Status::Terminated | Status::Canceled => raw(row.output.as_ref()),
        Status::Failed => string_or_null(row.failure.as_ref().map(Failure::to_string).as_deref()),
        Status::Pending | Status::Running | Status::Suspended => null(),
    }
}

/// A failure, as histories tell it.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FailureDetails<'a> {
    error_type: &'a str,
    error_message: &'a str,
    stack_trace: Option<&'a str>,
    inner_failure: Option<Box<FailureDetails<'a>>>,
    is_non_retriable: bool,
}

impl<'a> From<&'a Failure> for FailureDetails<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self {
            error_type: &failure.kind,
            error_message: &failure.message,
            stack_trace: failure.stack.as_deref(),
            inner_failure: failure.cause.as_deref().map(|cause| Box::new(Self::from(cause))),
            is_non_retriable: failure.permanent,
        }
    }
}

/// How many a purge deleted.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PurgedWire {
    pub(crate) instances_deleted: u64,
}

/// An entity in a list.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EntityWire<'a> {
    entity_id: EntityIdWire<'a>,
    #[schemars(extend("format" = "date-time"))]
    last_operation_time: String,
    state: Box<RawValue>,
}

#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
struct EntityIdWire<'a> {
    name: &'a str,
    key: &'a str,
}

impl<'a> EntityWire<'a> {
    pub(crate) fn of(row: &'a EntityRow, fetch_state: bool) -> Self {
        Self {
            entity_id: EntityIdWire {
                name: row.id.name(),
                key: row.id.key(),
            },
            last_operation_time: time::exact(row.last_operation),
            state: raw(row.state.as_ref().filter(|_| fetch_state)),
        }
    }
}

/// Serializes what cannot fail: strings, numbers and checked JSON.
pub(crate) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("strings, numbers and checked JSON are always JSON")
}

/// Rows for tests.
#[cfg(test)]
pub(crate) mod samples {
    use dalsegno_core::{ExecutionId, ExecutionKey, InstanceId, PartitionId, Timestamp};

    use super::*;
    use crate::http::time::{ZoneRule, parse};

    pub(crate) fn at(text: &str) -> Timestamp {
        parse(text, ZoneRule::Required).unwrap()
    }

    pub(crate) fn row(status: Status) -> InstanceRow {
        InstanceRow {
            key: ExecutionKey(7),
            partition: PartitionId(3),
            id: InstanceId::trusted("I"),
            execution_id: ExecutionId(0xfeed),
            name: "HelloCities".into(),
            version: Some("2".into()),
            status,
            created: at("2026-03-01T09:30:00.9Z"),
            updated: at("2026-03-01T09:30:02.1Z"),
            completed: None,
            scheduled_start: None,
            parent: None,
            tags: vec![],
            input: Some("[1.10]".into()),
            custom_status: Some("{\"step\":3}".into()),
            output: Some("[\"Hello Tokyo!\"]".into()),
            failure: None,
            parked: None,
            events: 9,
            extra: vec![],
            apart: Default::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::samples::{at, row};
    use super::*;

    #[test]
    fn a_status_is_that_of_durable_functions_byte_for_byte() {
        let golden = |row: &InstanceRow, show_input| to_json(&StatusWire::of(row, show_input));
        expect![[r#"{"name":"HelloCities","instanceId":"I","runtimeStatus":"Completed","input":null,"customStatus":{"step":3},"output":["Hello Tokyo!"],"createdTime":"2026-03-01T09:30:00Z","lastUpdatedTime":"2026-03-01T09:30:02Z"}"#]]
            .assert_eq(&golden(&row(Status::Completed), false));
        expect![[r#"{"name":"HelloCities","instanceId":"I","runtimeStatus":"Running","input":[1.10],"customStatus":{"step":3},"output":null,"createdTime":"2026-03-01T09:30:00Z","lastUpdatedTime":"2026-03-01T09:30:02Z"}"#]]
            .assert_eq(&golden(&row(Status::Running), true));
    }

    #[test]
    fn outputs_by_status() {
        let mut failed = row(Status::Failed);
        failed.failure = Some(Failure::new("ValueError", "no \"harp\""));
        let mut nameless = row(Status::Failed);
        nameless.failure = Some(Failure::new("", "boom"));
        let mut terminated = row(Status::Terminated);
        terminated.output = Some("\"too long\"".into());
        let mut silent = row(Status::Terminated);
        silent.output = None;
        let mut odd = row(Status::Completed);
        odd.output = Some("not json".into());
        for (row, wanted) in [
            (failed, r#""ValueError: no \"harp\"""#),
            (nameless, r#""boom""#),
            (terminated, r#""too long""#),
            (silent, "null"),
            (odd, r#""not json""#),
            (row(Status::Suspended), "null"),
        ] {
            assert_eq!(output(&row).get(), wanted);
        }
    }

    #[test]
    fn an_entity_in_a_list() {
        let row = EntityRow {
            id: dalsegno_core::EntityId::new("Counter", "a").unwrap(),
            partition: dalsegno_core::PartitionId(0),
            last_operation: at("2026-03-01T09:30:01.5Z"),
            state: Some("5".into()),
            is_state_apart: false,
            queue: vec![],
        };
        let golden = r#"[{"entityId":{"name":"counter","key":"a"},"lastOperationTime":"2026-03-01T09:30:01.5Z","state":5}]"#;
        assert_eq!(to_json(&[EntityWire::of(&row, true)]), golden);
        assert_eq!(
            to_json(&[EntityWire::of(&row, false)]),
            golden.replace("\"state\":5", "\"state\":null")
        );
    }
}
