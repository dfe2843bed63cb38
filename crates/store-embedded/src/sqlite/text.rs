//! Columns that people read: JSON for what has parts.

use std::fmt;

use dalsegno_core::event::Parent;
use dalsegno_core::{Divergence, ExecutionKey, Failure, Fault, FaultKind, InstanceId, Payload, TaskId};
use serde_json::{Value, json};

/// Causes of a failure that are kept, the outermost first.
const CAUSES_MAX: usize = 64;

/// As an object, in the given order.
pub(super) fn tags_text(tags: &[(String, String)]) -> Option<String> {
    if tags.is_empty() {
        return None;
    }
    let members: Vec<String> = tags
        .iter()
        .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), Value::from(value.as_str())))
        .collect();
    Some(format!("{{{}}}", members.join(",")))
}

pub(super) fn read_tags(text: &str) -> Option<Vec<(String, String)>> {
    serde_json::from_str::<Tags>(text).ok().map(|tags| tags.0)
}

pub(super) fn parent_text(parent: &Parent) -> String {
    json!({
        "instance": parent.instance.as_str(),
        "execution": parent.execution.0,
        "task": parent.task.0,
    })
    .to_string()
}

pub(super) fn read_parent(text: &str) -> Option<Parent> {
    let value: Value = serde_json::from_str(text).ok()?;
    Some(Parent {
        instance: InstanceId::trusted(value["instance"].as_str()?),
        execution: ExecutionKey(value["execution"].as_u64()?),
        task: TaskId(value["task"].as_u64()?.try_into().ok()?),
    })
}

pub(super) fn failure_text(failure: &Failure) -> String {
    failure_value(failure, CAUSES_MAX).to_string()
}

pub(super) fn read_failure(text: &str) -> Option<Failure> {
    load_failure(&serde_json::from_str(text).ok()?)
}

pub(super) fn fault_text(fault: &Fault) -> String {
    let mut value = json!({"kind": fault.kind.as_str(), "message": fault.message});
    if let Some(sides) = &fault.divergence {
        value["divergence"] =
            json!({"recorded": sides.recorded, "asked": sides.asked, "location": sides.location});
    }
    value.to_string()
}

pub(super) fn read_fault(text: &str) -> Option<Fault> {
    let value: Value = serde_json::from_str(text).ok()?;
    Some(Fault {
        kind: fault_kind(value["kind"].as_str()?)?,
        message: value["message"].as_str()?.to_owned(),
        divergence: value.get("divergence").map(|sides| {
            let side = |name: &str| sides[name].as_str().map(str::to_owned);
            Box::new(Divergence {
                recorded: side("recorded"),
                asked: side("asked"),
                location: side("location"),
            })
        }),
    })
}

fn fault_kind(name: &str) -> Option<FaultKind> {
    FaultKind::ALL.into_iter().find(|kind| kind.as_str() == name)
}

fn failure_value(failure: &Failure, causes: usize) -> Value {
    let mut value = json!({"kind": failure.kind, "message": failure.message});
    if let Some(stack) = &failure.stack {
        value["stack"] = stack.as_str().into();
    }
    if let Some(cause) = failure.cause.as_ref().filter(|_| causes > 0) {
        value["cause"] = failure_value(cause, causes - 1);
    }
    if failure.permanent {
        value["permanent"] = true.into();
    }
    if let Some(properties) = &failure.properties {
        value["properties"] = properties.as_str().into();
    }
    value
}

fn load_failure(value: &Value) -> Option<Failure> {
    Some(Failure {
        kind: value["kind"].as_str()?.to_owned(),
        message: value["message"].as_str()?.to_owned(),
        stack: value["stack"].as_str().map(str::to_owned),
        cause: match &value["cause"] {
            Value::Null => None,
            cause => Some(Box::new(load_failure(cause)?)),
        },
        permanent: value["permanent"].as_bool().unwrap_or_default(),
        properties: value["properties"].as_str().map(Payload::from),
    })
}

/// Members of an object in their order, repeats included.
struct Tags(Vec<(String, String)>);

impl<'de> serde::Deserialize<'de> for Tags {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TagsVisitor)
    }
}

struct TagsVisitor;

impl<'de> serde::de::Visitor<'de> for TagsVisitor {
    type Value = Tags;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Tags, A::Error> {
        let mut tags = Vec::new();
        while let Some(member) = map.next_entry()? {
            tags.push(member);
        }
        Ok(Tags(tags))
    }
}
