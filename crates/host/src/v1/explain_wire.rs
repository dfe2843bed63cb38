//! Explanations as JSON, with what can be done about each.

use std::collections::BTreeSet;
use std::sync::Arc;

use dalsegno_core::store::InstanceRow;
use dalsegno_core::{FaultKind, InstanceId};
use dalsegno_engine::executor::Executor;
use dalsegno_engine::explain::{Explanation, Reason, ReasonKind};
use serde::{Deserialize, Serialize};

use crate::http::time;
use crate::nearest::nearest;
use crate::openapi::schemas;

/// Names of what is offered that one text lists.
const OFFERS_TOLD_MAX: usize = 10;

/// Why an instance does not move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplanationWire {
    /// Its id.
    pub id: String,
    /// Its orchestrator.
    pub name: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its status.
    #[schemars(extend("enum" = schemas::statuses()))]
    pub status: String,
    /// When it moved last.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// All of it in one line.
    pub summary: String,
    /// What holds it, the gravest first.
    pub reasons: Vec<ReasonWire>,
    /// What would move it.
    pub next: Vec<StepWire>,
}

/// One thing that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReasonWire {
    /// `parked`, `noWorker`, `retry`, `event` and so on: [`ReasonKind`].
    pub kind: String,
    /// In words.
    pub text: String,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// The activity, event, orchestrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The entities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// When it goes on by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub due: Option<String>,
    /// The attempt that is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Of so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// What the last one failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Where the code waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Who has it: an instance, a worker, a limiter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Something to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepWire {
    /// In words.
    pub text: String,
    /// What to type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cli: Option<String>,
    /// The same as a request: its method
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// and its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Those that are stuck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StuckWire {
    /// By id.
    pub rows: Vec<ExplanationWire>,
    /// There are more of them.
    pub more: bool,
}

impl ExplanationWire {
    /// With what can be done on a hub that offers what this executor does.
    pub fn new(explanation: &Explanation, executor: &dyn Executor) -> Self {
        let row = &explanation.row;
        let mut next: Vec<StepWire> = Vec::new();
        for reason in &explanation.reasons {
            for step in steps(row, reason, executor) {
                if !next.contains(&step) {
                    next.push(step);
                }
            }
        }
        Self {
            id: row.id.to_string(),
            name: row.name.to_string(),
            version: row.version.as_deref().map(str::to_owned),
            status: row.status.as_str().to_owned(),
            since: time::exact(row.updated),
            summary: explanation.summary(),
            reasons: explanation.reasons.iter().map(ReasonWire::from).collect(),
            next,
        }
    }
}

impl From<&Reason> for ReasonWire {
    fn from(reason: &Reason) -> Self {
        Self {
            kind: reason.kind.as_str().to_owned(),
            text: reason.text.clone(),
            task: reason.task.map(|task| task.0),
            name: reason.name.as_deref().map(str::to_owned),
            instance: reason.instance.as_ref().map(ToString::to_string),
            entities: reason.entities.iter().map(ToString::to_string).collect(),
            since: reason.since.map(time::exact),
            due: reason.due.map(time::exact),
            attempt: reason.attempts_failed.map(|failed| failed + 1),
            attempts_max: reason.attempts_max,
            last_failure: reason.last_failure.clone(),
            location: reason.location.clone(),
            owner: reason.owner.clone(),
        }
    }
}

/// What can be done about one reason.
fn steps(row: &InstanceRow, reason: &Reason, executor: &dyn Executor) -> Vec<StepWire> {
    let id = &row.id;
    let verb = |text: &str, verb: &str| StepWire {
        text: text.to_owned(),
        cli: Some(format!("dalsegno {verb} {}", quoted(id.as_str()))),
        method: Some("POST".to_owned()),
        path: Some(format!(
            "/runtime/dalsegno/v1/instances/{}/{verb}",
            encoded(id.as_str())
        )),
    };
    let look = |at: &str| StepWire {
        text: format!("see what {at} does"),
        cli: Some(format!("dalsegno explain {}", quoted(at))),
        method: Some("GET".to_owned()),
        path: Some(format!("/runtime/dalsegno/v1/instances/{}/explain", encoded(at))),
    };
    match reason.kind {
        ReasonKind::Parked => vec![verb(remedy(row), "rewind")],
        ReasonKind::Suspended => vec![verb("let it go on", "resume")],
        ReasonKind::NoWorker => missing(reason, executor).into_iter().collect(),
        ReasonKind::Event => event(id, reason).into_iter().collect(),
        ReasonKind::CancelRequested => vec![verb("end it without its code", "terminate")],
        ReasonKind::Limiter => reason.owner.as_deref().map(limiter).into_iter().collect(),
        ReasonKind::Lock => reason.owner.as_deref().map(look).into_iter().collect(),
        ReasonKind::Child => {
            let child = reason.instance.as_ref();
            child.map(|child| look(child.as_str())).into_iter().collect()
        }
        ReasonKind::Retry => vec![retry(id, reason)],
        ReasonKind::Slot
        | ReasonKind::ScheduledStart
        | ReasonKind::Turn
        | ReasonKind::Activity
        | ReasonKind::Timer
        | ReasonKind::Entity
        | ReasonKind::LockHeld
        | ReasonKind::Code
        | ReasonKind::More => Vec::new(),
    }
}

/// What to do about a fault before the instance is set going again.
fn remedy(row: &InstanceRow) -> &'static str {
    match row.parked.as_ref().map(|fault| fault.kind) {
        Some(FaultKind::Oversized) => {
            "correct what the fault names, or start workers that receive larger messages (grpc.max_receive_message_length), then set the instance going again"
        }
        Some(FaultKind::Poisoned) => {
            "find what ends the process, or what the workers answer wrongly, correct it, then set the instance going again"
        }
        _ => "correct the code, start it, then set the instance going again",
    }
}

/// Who could offer it, and which name may have been meant.
fn missing(reason: &Reason, executor: &dyn Executor) -> Option<StepWire> {
    let name = reason.name.as_deref()?;
    let known = offered(reason, executor);
    let mut text = format!("start a host or a worker that offers \"{name}\"");
    let near = nearest(name, known.iter().map(|known| &**known)).filter(|near| *near != name);
    if let Some(near) = near {
        text += &format!("; did you mean {near}?");
    }
    if !known.is_empty() {
        let told: Vec<&str> = known.iter().take(OFFERS_TOLD_MAX).map(|known| &**known).collect();
        let more = known.len().saturating_sub(OFFERS_TOLD_MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        text += &format!(" (here are {}{more})", told.join(", "));
    }
    Some(StepWire {
        text,
        cli: Some("dalsegno workers".to_owned()),
        method: Some("GET".to_owned()),
        path: Some("/runtime/dalsegno/v1/workers".to_owned()),
    })
}

/// What this host and the connected workers offer of the kind that is missing, by name.
fn offered(reason: &Reason, executor: &dyn Executor) -> BTreeSet<Arc<str>> {
    let is_activity = reason.task.is_some();
    let here = match is_activity {
        true => executor.activities(),
        false => executor.orchestrators(),
    };
    let offers = executor.workers().into_iter().filter_map(|worker| worker.offers);
    let elsewhere = offers.flat_map(|offers| match is_activity {
        true => offers.activities,
        false => offers.orchestrators,
    });
    here.into_iter().chain(elsewhere.map(Arc::from)).collect()
}

fn event(id: &InstanceId, reason: &Reason) -> Option<StepWire> {
    let name = reason.name.as_deref()?;
    Some(StepWire {
        text: format!("raise the event \"{name}\""),
        cli: Some(format!(
            "dalsegno raise {} {} -d JSON",
            quoted(id.as_str()),
            quoted(name)
        )),
        method: Some("POST".to_owned()),
        path: Some(format!(
            "/runtime/dalsegno/v1/instances/{}/events/{}",
            encoded(id.as_str()),
            encoded(name)
        )),
    })
}

fn retry(id: &InstanceId, reason: &Reason) -> StepWire {
    let (word, query) = match reason.task {
        Some(task) => (format!(" {}", task.0), format!("?task={}", task.0)),
        None => Default::default(),
    };
    StepWire {
        text: "begin the next attempt now".to_owned(),
        cli: Some(format!("dalsegno retry-now {}{word}", quoted(id.as_str()))),
        method: Some("POST".to_owned()),
        path: Some(format!(
            "/runtime/dalsegno/v1/instances/{}/retry-now{query}",
            encoded(id.as_str())
        )),
    }
}

fn limiter(name: &str) -> StepWire {
    StepWire {
        text: format!("see limiter \"{name}\", or let it allow more"),
        cli: Some("dalsegno limiter list".to_owned()),
        method: Some("GET".to_owned()),
        path: Some("/runtime/dalsegno/v1/limiters".to_owned()),
    }
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.:/@=+,".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// As one segment of a path.
fn encoded(segment: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~@:".contains(&byte);
    let letter = |byte: u8| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    segment.bytes().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell_and_encoded_for_a_path() {
        assert_eq!(quoted("order-9"), "order-9");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("$(rm)"), "'$(rm)'");
        assert_eq!(encoded("a b/ü"), "a%20b%2F%C3%BC");
    }
}
