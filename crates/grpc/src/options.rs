//! What Rust code says of its calls and the protocol has no word for: one tag, as JSON.
//!
//! A worker writes it into the action, this server takes it out again: neither the activity nor
//! the child sees it. Servers that do not know it carry it as a tag like any other.

use std::collections::HashMap;
use std::time::Duration;

use dalsegno_core::action::{ChildOptions, TaskOptions};
use dalsegno_core::event::{ChildLink, ParentClosePolicy};
use dalsegno_core::retry::RetryPolicy;
use serde_json::{Map, Value, json};

/// The tag's name. Tags that begin as it does are ours.
const TAG: &str = "dalsegno.options";

type Tags = HashMap<String, String>;
type Read<T> = Result<T, String>;

/// The tags without ours.
pub(crate) fn without(tags: &mut Tags) -> Tags {
    tags.remove(TAG);
    std::mem::take(tags)
}

/// The tag of an activity's options; none when they say nothing.
pub(crate) fn of_task(options: &TaskOptions) -> Option<(String, String)> {
    let mut members = Map::new();
    insert_retry(&mut members, options.retry.as_ref());
    if let Some(timeout) = options.timeout {
        members.insert("timeout".into(), micros(timeout));
    }
    if options.undo {
        members.insert("undo".into(), true.into());
    }
    tag(members)
}

/// The tag of a child's options; none when they say nothing.
pub(crate) fn of_child(
    retry: Option<&RetryPolicy>,
    link: ChildLink,
    parent_close: ParentClosePolicy,
    undo: bool,
) -> Option<(String, String)> {
    let mut members = Map::new();
    insert_retry(&mut members, retry);
    if link == ChildLink::Detached {
        members.insert("detached".into(), true.into());
    }
    match parent_close {
        ParentClosePolicy::Abandon => None,
        ParentClosePolicy::Terminate => members.insert("parentClose".into(), "terminate".into()),
        ParentClosePolicy::Cancel => members.insert("parentClose".into(), "cancel".into()),
    };
    if undo {
        members.insert("undo".into(), true.into());
    }
    tag(members)
}

/// What the tag says of an activity.
///
/// # Errors
/// When it is there and cannot be read.
pub(crate) fn task(tags: &Tags) -> Read<TaskOptions> {
    let Some(members) = members(tags)? else {
        return Ok(TaskOptions::default());
    };
    Ok(TaskOptions {
        retry: retry(&members)?,
        timeout: duration(&members, "timeout")?,
        undo: flag(&members, "undo"),
        labels: None,
    })
}

/// What the tag says of a child.
///
/// # Errors
/// When it is there and cannot be read.
pub(crate) fn child(tags: &Tags) -> Read<(ChildLink, ChildOptions)> {
    let Some(members) = members(tags)? else {
        return Ok((ChildLink::Awaited, ChildOptions::default()));
    };
    let link = match flag(&members, "detached") {
        true => ChildLink::Detached,
        false => ChildLink::Awaited,
    };
    let parent_close = match members.get("parentClose").and_then(Value::as_str) {
        None => ParentClosePolicy::Abandon,
        Some("terminate") => ParentClosePolicy::Terminate,
        Some("cancel") => ParentClosePolicy::Cancel,
        Some(other) => {
            return Err(format!(
                "tag {TAG}: parentClose is \"{other}\": write terminate or cancel, or leave it out"
            ));
        }
    };
    let options = ChildOptions {
        retry: retry(&members)?,
        parent_close,
        undo: flag(&members, "undo"),
        labels: None,
    };
    Ok((link, options))
}

fn tag(members: Map<String, Value>) -> Option<(String, String)> {
    (!members.is_empty()).then(|| (TAG.to_owned(), Value::Object(members).to_string()))
}

fn members(tags: &Tags) -> Read<Option<Map<String, Value>>> {
    let Some(text) = tags.get(TAG) else {
        return Ok(None);
    };
    let members = serde_json::from_str(text);
    members
        .map(Some)
        .map_err(|error| format!("tag {TAG} is no JSON object: {error}"))
}

fn insert_retry(members: &mut Map<String, Value>, retry: Option<&RetryPolicy>) {
    let Some(retry) = retry else { return };
    let mut policy = json!({
        "attempts": retry.attempts_max,
        "interval": micros(retry.first_interval),
        "coefficient": retry.coefficient,
        "intervalMax": micros(retry.interval_max),
        "jitter": retry.jitter,
    });
    if let Some(deadline) = retry.deadline {
        policy["deadline"] = micros(deadline);
    }
    members.insert("retry".into(), policy);
}

fn retry(members: &Map<String, Value>) -> Read<Option<RetryPolicy>> {
    let Some(policy) = members.get("retry") else {
        return Ok(None);
    };
    let policy = policy
        .as_object()
        .ok_or_else(|| format!("tag {TAG}: retry is no JSON object"))?;
    let default = RetryPolicy::NONE;
    let attempts = policy.get("attempts").and_then(Value::as_u64);
    let number = |name: &str, default| policy.get(name).and_then(Value::as_f64).unwrap_or(default);
    let policy = RetryPolicy {
        attempts_max: attempts
            .and_then(|count| u32::try_from(count).ok())
            .ok_or_else(|| format!("tag {TAG}: retry.attempts is no count of attempts"))?,
        first_interval: duration(policy, "interval")?.unwrap_or(default.first_interval),
        coefficient: number("coefficient", default.coefficient),
        interval_max: duration(policy, "intervalMax")?.unwrap_or(default.interval_max),
        jitter: number("jitter", default.jitter),
        deadline: duration(policy, "deadline")?,
    };
    match policy.problem() {
        None => Ok(Some(policy)),
        Some(problem) => Err(format!("tag {TAG}: retry: {problem}")),
    }
}

fn micros(duration: Duration) -> Value {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).into()
}

fn duration(members: &Map<String, Value>, name: &str) -> Read<Option<Duration>> {
    let Some(value) = members.get(name) else {
        return Ok(None);
    };
    let micros = value.as_u64();
    micros
        .map(|micros| Some(Duration::from_micros(micros)))
        .ok_or_else(|| format!("tag {TAG}: {name} is no number of microseconds: {value}"))
}

fn flag(members: &Map<String, Value>, name: &str) -> bool {
    members.get(name).and_then(Value::as_bool).unwrap_or(false)
}
