//! Entities in the form of plain .NET workers, which know no message for them: events to
//! `@name@key` with JSON in them, and events back with the answer.
//!
//! In histories they are what they are for everybody else; the name of such a request begins with
//! [`MARK`], and by that its worker is told of it in its own form again.

use std::sync::Arc;

use dalsegno_core::event::OneOfLock;
use dalsegno_core::{Action, EntityId, Failure, Payload, TaskId, Timestamp};
use serde_json::{Map, Value, json};

use crate::{fields, wire};

/// Before the names of requests in this form.
const MARK: &str = "event:";
/// The event that asks for an operation or a lock.
const OPERATION: &str = "op";
/// The event that gives a lock back.
const RELEASE: &str = "release";
/// What is said to who gets a lock.
const LOCK_GRANTED: &str = "Lock Acquisition Completed";

/// The worker's own name for a request, if it made it in this form.
pub(crate) fn name_of(request: &str) -> Option<&str> {
    request.strip_prefix(MARK)
}

/// What an event to an entity asks for.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn action(
    task: TaskId,
    target: &str,
    name: &str,
    data: Option<&str>,
    locks: &wire::Locks,
) -> Result<Action, String> {
    let entity = wire::entity_id(target)?;
    let bad = |what: &str| format!("the event \"{name}\" to {target} is no request to an entity: {what}");
    let read = serde_json::from_str(data.unwrap_or_default());
    let request: Map<String, Value> = read.map_err(|error| bad(&error.to_string()))?;
    let id = text(&request, "id").ok_or_else(|| bad("it has no id"))?;
    let named = format!("{MARK}{id}");
    if name == RELEASE {
        let known = locks.iter().rev().find(|(own, _)| **own == *named);
        let (_, lock) = known.ok_or_else(|| bad("no lock was asked for by its id"))?;
        let only = Some(Box::new(OneOfLock { task, entity }));
        return Ok(Action::UnlockEntities { lock: *lock, only });
    }
    let at = match name.strip_prefix(OPERATION).map(|rest| rest.strip_prefix('@')) {
        None => return Err(bad("its name is neither op, op@TIME nor release")),
        Some(None) => None,
        Some(Some(time)) => Some(instant(time).ok_or_else(|| bad("it has no time behind op@"))?),
    };
    let request_name: Option<Arc<str>> = Some(named.into());
    if let Some(Value::Array(set)) = request.get("lockset") {
        let entities: Option<Vec<EntityId>> = set.iter().map(member).collect();
        let mut entities = entities.ok_or_else(|| bad("its lockset names something else than entities"))?;
        entities.sort_unstable();
        entities.dedup();
        return Ok(Action::LockEntities {
            task,
            entities,
            request: request_name,
        });
    }
    let operation: Arc<str> = text(&request, "op").unwrap_or_default().into();
    let input = text(&request, "input").map(Payload::from);
    Ok(match request.get("signal") {
        Some(Value::Bool(true)) => Action::SignalEntity {
            task,
            entity,
            operation,
            input,
            at,
            request: request_name,
        },
        _ => Action::CallEntity {
            task,
            entity,
            operation,
            input,
            request: request_name,
        },
    })
}

fn text(request: &Map<String, Value>, member: &str) -> Option<String> {
    request.get(member)?.as_str().map(str::to_owned)
}

/// An entity of a lock set: `{"name","key"}`, or its id.
fn member(entity: &Value) -> Option<EntityId> {
    match entity {
        Value::String(id) => wire::entity_id(id).ok(),
        Value::Object(parts) => {
            EntityId::new(&text(parts, "name")?.to_lowercase(), &text(parts, "key")?).ok()
        }
        _ => None,
    }
}

/// `2026-03-01T09:30:00.1234567Z`, as .NET writes a time in UTC.
fn instant(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = match text.strip_suffix('Z')?.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (text.strip_suffix('Z')?, ""),
    };
    let is_fraction = fraction.len() <= 9 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    let time: prost_types::Timestamp = format!("{whole}Z").parse().ok().filter(|_| is_fraction)?;
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    fields::time("op@", prost_types::Timestamp { nanos, ..time }).ok()
}

/// An operation that was asked for, as the event by which it was: name and data.
pub(crate) fn asked(
    id: &str,
    operation: &str,
    input: Option<&Payload>,
    parent: &str,
    signal: Option<Option<Timestamp>>,
) -> (String, String) {
    let mut request = Map::new();
    request.insert("op".into(), operation.into());
    if signal.is_some() {
        request.insert("signal".into(), true.into());
    }
    if let Some(input) = input {
        request.insert("input".into(), input.as_str().into());
    }
    request.insert("id".into(), id.into());
    request.insert("parent".into(), parent.into());
    let name = match signal.flatten() {
        Some(at) => format!("{OPERATION}@{}", wire::timestamp(at)),
        None => OPERATION.to_owned(),
    };
    (name, Value::Object(request).to_string())
}

/// A lock that was asked for, likewise.
pub(crate) fn lock_asked(id: &str, entities: &[EntityId], parent: &str) -> (String, String) {
    let set: Vec<Value> = entities
        .iter()
        .map(|entity| json!({"name": entity.name(), "key": entity.key()}))
        .collect();
    let request = json!({"id": id, "parent": parent, "lockset": set, "pos": 0});
    (OPERATION.to_owned(), request.to_string())
}

/// A lock that was given back, likewise.
pub(crate) fn released(id: &str, parent: &str) -> (String, String) {
    (
        RELEASE.to_owned(),
        json!({"parent": parent, "id": id}).to_string(),
    )
}

/// What an operation returned, as the data of the event that answers it.
pub(crate) fn completed(result: Option<&Payload>) -> String {
    json!({"result": result.map(Payload::as_str)}).to_string()
}

/// How it failed, likewise.
pub(crate) fn failed(failure: &Failure) -> String {
    json!({
        "result": Value::from(failure.message.as_str()).to_string(),
        "exceptionType": failure.kind,
        "failureDetails": details(failure),
    })
    .to_string()
}

fn details(failure: &Failure) -> Value {
    json!({
        "ErrorType": failure.kind,
        "ErrorMessage": failure.message,
        "StackTrace": failure.stack,
        "InnerFailure": failure.cause.as_deref().map(details),
        "IsNonRetriable": failure.permanent,
    })
}

/// That a lock was got, likewise.
pub(crate) fn granted() -> String {
    json!({"result": LOCK_GRANTED}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, data: &str) -> Result<Action, String> {
        let locks = vec![("event:l".into(), TaskId(3))];
        action(TaskId(7), "@Counter@a", name, Some(data), &locks)
    }

    #[test]
    fn requests_are_read_as_what_they_are_for_everybody_else() {
        let entity = EntityId::new("counter", "a").unwrap();
        let request = || Some("event:g".into());
        assert_eq!(
            read("op", r#"{"op":"Add","input":"[1.10]","id":"g","parent":"i"}"#),
            Ok(Action::CallEntity {
                task: TaskId(7),
                entity: entity.clone(),
                operation: "Add".into(),
                input: Some("[1.10]".into()),
                request: request(),
            })
        );
        assert_eq!(
            read(
                "op@2026-03-01T09:30:00.1234567Z",
                r#"{"op":"x","signal":true,"id":"g"}"#
            ),
            Ok(Action::SignalEntity {
                task: TaskId(7),
                entity: entity.clone(),
                operation: "x".into(),
                input: None,
                at: Some(Timestamp::from_micros(1_772_357_400_123_456)),
                request: request(),
            })
        );
        assert_eq!(
            read(
                "op",
                r#"{"id":"g","lockset":[{"name":"Counter","key":"b"},"@counter@a"],"pos":0}"#
            ),
            Ok(Action::LockEntities {
                task: TaskId(7),
                entities: vec![entity.clone(), EntityId::new("counter", "b").unwrap()],
                request: request(),
            })
        );
        assert_eq!(
            read("release", r#"{"parent":"i","id":"l"}"#),
            Ok(Action::UnlockEntities {
                lock: TaskId(3),
                only: Some(Box::new(OneOfLock {
                    task: TaskId(7),
                    entity
                })),
            })
        );
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_reason() {
        for (name, data, reason) in [
            ("op", "", "EOF"),
            ("op", "[]", "invalid type"),
            ("op", "{}", "no id"),
            ("approve", r#"{"id":"g"}"#, "neither op"),
            ("op@soon", r#"{"id":"g"}"#, "no time"),
            ("op@2026-03-01T09:30:00.12e4Z", r#"{"id":"g"}"#, "no time"),
            ("release", r#"{"id":"g"}"#, "no lock"),
            ("op", r#"{"id":"g","lockset":[7]}"#, "lockset"),
        ] {
            let error = read(name, data).unwrap_err();
            assert!(error.contains(reason), "{name} {data}: {error}");
        }
    }

    #[test]
    fn what_is_told_of_a_request_is_read_as_the_same() {
        let at = Timestamp::from_micros(1_772_357_400_123_456);
        let (name, data) = asked("g", "x", Some(&"7".into()), "i", Some(Some(at)));
        let Ok(Action::SignalEntity {
            at: read_at, input, ..
        }) = read(&name, &data)
        else {
            panic!("{name} {data} is no signal");
        };
        assert_eq!((read_at, input), (Some(at), Some("7".into())));
        assert_eq!(
            failed(&Failure::new("E", "no")),
            r#"{"exceptionType":"E","failureDetails":{"ErrorMessage":"no","ErrorType":"E","InnerFailure":null,"IsNonRetriable":false,"StackTrace":null},"result":"\"no\""}"#
        );
    }
}
