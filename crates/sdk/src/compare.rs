//! Is what the code asks for what history records? And how to say so when it is not.

use std::panic::Location;

use dalsegno_core::{Divergence, EventKind, Fault, FaultKind, Payload};
use serde_json::Value;

/// Longest part of an input that a fault shows, in characters.
const INPUT_CHARS_MAX: usize = 120;

/// The same event, with payloads compared as JSON values, in which an absent member equals `null`.
/// The version of a child is recorded, not compared: the handle chooses it for new ones only.
pub(crate) fn is_same(recorded: &EventKind, asked: &EventKind) -> bool {
    if recorded == asked {
        return true;
    }
    let (mut recorded, mut asked) = (recorded.clone(), asked.clone());
    let payloads = (take_payload(&mut recorded), take_payload(&mut asked));
    recorded == asked && same_json(payloads.0.as_ref(), payloads.1.as_ref())
}

/// The fault of code that asked for something else than history records.
pub(crate) fn diverged(recorded: &EventKind, asked: &EventKind, location: &Location<'_>) -> Fault {
    let advice = match is_same_but_input(recorded, asked) {
        true => "The input changed: was a field added, or does it come from a HashMap, a clock or chance?",
        false => "Was the code changed, or does it depend on a HashMap, a clock or chance?",
    };
    let (recorded, asked) = (describe(recorded), describe(asked));
    let message =
        format!("history records {recorded}; the code asked for {asked} at {location}. {advice} {CURES}");
    fault(
        FaultKind::Diverged,
        message,
        Some(recorded),
        Some(asked),
        Some(location),
    )
}

/// The fault of code that asked for more than history records in a turn.
pub(crate) fn asked_too_much(asked: &EventKind, location: &Location<'_>) -> Fault {
    let asked = describe(asked);
    let message = format!(
        "history records nothing more in this turn; the code asked for {asked} at {location}. {CURES}"
    );
    fault(FaultKind::Diverged, message, None, Some(asked), Some(location))
}

/// The fault of code that asked for less than history records in a turn.
pub(crate) fn asked_too_little(recorded: &EventKind) -> Fault {
    let recorded = describe(recorded);
    let message =
        format!("history records {recorded}; the code asked for nothing more in that turn. {CURES}");
    fault(FaultKind::Surplus, message, Some(recorded), None, None)
}

fn fault(
    kind: FaultKind,
    message: String,
    recorded: Option<String>,
    asked: Option<String>,
    location: Option<&Location<'_>>,
) -> Fault {
    let divergence = Divergence {
        recorded,
        asked,
        location: location.map(ToString::to_string),
    };
    Fault {
        divergence: Some(Box::new(divergence)),
        ..Fault::new(kind, message)
    }
}

const CURES: &str = "Deploy the code that fits, register this one as a new version, or rewind the instance";

fn is_same_but_input(recorded: &EventKind, asked: &EventKind) -> bool {
    let (mut recorded, mut asked) = (recorded.clone(), asked.clone());
    take_payload(&mut recorded);
    take_payload(&mut asked);
    recorded == asked
}

/// Takes out what is compared as a value, and what is not compared.
fn take_payload(event: &mut EventKind) -> Option<Payload> {
    match event {
        EventKind::SubOrchestrationInstanceCreated {
            version,
            input,
            parent_close,
            undo,
            ..
        } => {
            *version = None;
            (*parent_close, *undo) = Default::default();
            input.take()
        }
        EventKind::TaskScheduled { input, options, .. } => {
            *options = None;
            input.take()
        }
        EventKind::EventSent { input, .. }
        | EventKind::EntityOperationCalled { input, .. }
        | EventKind::EntityOperationSignaled { input, .. } => input.take(),
        EventKind::ExecutionCompleted { result } => result.take(),
        _ => None,
    }
}

fn same_json(one: Option<&Payload>, other: Option<&Payload>) -> bool {
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => same_value(&one, &other),
        _ => false,
    }
}

fn parse(payload: Option<&Payload>) -> Option<Value> {
    serde_json::from_str(payload.map_or("null", Payload::as_str)).ok()
}

fn same_value(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let covers = |a: &serde_json::Map<String, Value>, b: &serde_json::Map<String, Value>| {
                a.iter()
                    .all(|(name, value)| same_value(value, b.get(name).unwrap_or(&Value::Null)))
            };
            covers(a, b) && covers(b, a)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        _ => one == other,
    }
}

/// One line about an event, for people.
fn describe(event: &EventKind) -> String {
    match event {
        EventKind::TaskScheduled {
            task, name, input, ..
        } => {
            format!("activity {:?}{} (task {task})", &**name, with(input.as_ref()))
        }
        EventKind::TimerCreated { task, fire_at } => {
            format!("a timer for {fire_at:?} (task {task})")
        }
        EventKind::SubOrchestrationInstanceCreated {
            task,
            name,
            instance,
            input,
            ..
        } => format!(
            "orchestration {:?} as {:?}{} (task {task})",
            &**name,
            instance.as_str(),
            with(input.as_ref())
        ),
        EventKind::EventSent {
            task,
            instance,
            name,
            input,
        } => format!(
            "event {:?} to {:?}{} (task {task})",
            &**name,
            instance.as_str(),
            with(input.as_ref())
        ),
        EventKind::EntityOperationCalled {
            task,
            entity,
            operation,
            input,
            ..
        } => format!(
            "a call of {entity} {:?}{} (task {task})",
            &**operation,
            with(input.as_ref())
        ),
        EventKind::EntityOperationSignaled {
            task,
            entity,
            operation,
            input,
            ..
        } => format!(
            "a signal to {entity} {:?}{} (task {task})",
            &**operation,
            with(input.as_ref())
        ),
        EventKind::EntityLockRequested { task, entities, .. } => {
            format!("a lock of {entities:?} (task {task})")
        }
        EventKind::EntityUnlockSent { lock, .. } => format!("the end of lock {lock}"),
        EventKind::ExecutionCompleted { result } => format!("the end{}", with(result.as_ref())),
        EventKind::ExecutionFailed { failure } => format!("the failure \"{failure}\""),
        EventKind::ExecutionCanceled { failure } => format!("the end by cancellation \"{failure}\""),
        other => other.name().to_owned(),
    }
}

fn with(payload: Option<&Payload>) -> String {
    let text = payload.map_or("null", Payload::as_str);
    match text.char_indices().nth(INPUT_CHARS_MAX) {
        Some((at, _)) => format!(" with {}…", &text[..at]),
        None => format!(" with {text}"),
    }
}

#[cfg(test)]
mod tests {
    use dalsegno_core::TaskId;

    use super::*;

    fn scheduled(input: &str) -> EventKind {
        EventKind::TaskScheduled {
            task: TaskId(0),
            name: "greet".into(),
            input: (!input.is_empty()).then(|| input.into()),
            options: None,
        }
    }

    #[test]
    fn inputs_are_compared_as_values() {
        let same = |one, other| is_same(&scheduled(one), &scheduled(other));
        assert!(same(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#));
        assert!(same(r#"{"a":1}"#, r#"{"a":1,"b":null}"#));
        assert!(same("", "null"));
        assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":0}"#));
        assert!(!same("[1,null]", "[1]"));
    }
}
