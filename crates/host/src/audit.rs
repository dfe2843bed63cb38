//! Who did what to this host: one record per call that changes something, never with a payload.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use axum::http::Method;
use axum::response::Response;
use dalsegno_core::InstanceId;
use serde::{Deserialize, Serialize};

/// Records kept in memory for readers: some 300 bytes each.
pub const RECORDS_KEPT: usize = 10_000;

/// Letters kept of what a caller wrote into a path.
const TEXT_CHARS_MAX: usize = 300;

/// One call that was to change something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// When it was answered.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Name of the caller's key, `link` for the holder of a link, `local` on a host without keys, `anonymous`, or `invalid key`.
    pub caller: String,
    /// Where it came from.
    pub address: String,
    /// The task hub.
    pub hub: String,
    /// What was to be done: `start`, `terminate`, `raiseEvent/approved`, `StartInstance`.
    pub action: String,
    /// To which instance, entity, limiter or schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What was answered: an HTTP status, or gRPC's code by its number.
    pub result: u16,
    /// It was gRPC.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grpc: bool,
}

/// Puts a start's id where the record finds it: on the response.
#[derive(Clone, Debug)]
pub(crate) struct Subject(pub(crate) InstanceId);

/// Says on a response which instance it is about, for the record.
pub(crate) fn about(id: &InstanceId, mut response: Response) -> Response {
    response.extensions_mut().insert(Subject(id.clone()));
    response
}

/// The last records, and the file that has all of them.
#[derive(Debug, Default)]
pub struct AuditLog {
    kept: Mutex<VecDeque<AuditRecord>>,
    file: Option<Mutex<File>>,
}

impl AuditLog {
    /// One that also appends each record to a file, as a line of JSON. The file is made, and
    /// readable by its owner alone.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn in_file(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Self {
            kept: Mutex::default(),
            file: Some(Mutex::new(options.open(path)?)),
        })
    }

    pub(crate) fn note(&self, record: AuditRecord) {
        let AuditRecord {
            caller,
            address,
            hub,
            action,
            subject,
            result,
            ..
        } = &record;
        // What callers wrote stays on its line.
        let (action, subject) = (
            action.escape_debug(),
            subject.as_deref().unwrap_or_default().escape_debug(),
        );
        tracing::info!(target: "dalsegno::audit", %caller, %address, %hub, %action, %subject, %result);
        if let Some(file) = &self.file {
            let mut line = serde_json::to_vec(&record).expect("a record has text keys only");
            line.push(b'\n');
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = file.write_all(&line) {
                tracing::error!(%error, "the audit file cannot be written");
            }
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == RECORDS_KEPT {
            kept.pop_front();
        }
        kept.push_back(record);
    }

    /// The last records of a hub, newest first; of one subject if it is named.
    pub(crate) fn last(&self, hub: &str, subject: Option<&str>, most: usize) -> Vec<AuditRecord> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |record: &&AuditRecord| {
            record.hub == hub && subject.is_none_or(|subject| record.subject.as_deref() == Some(subject))
        };
        kept.iter().rev().filter(wanted).take(most).cloned().collect()
    }
}

/// What a request is to do, and to what; from its path alone.
pub(crate) fn action(method: &Method, segments: &[String]) -> (String, Option<String>) {
    let at = |index: usize| segments.get(index).map(String::as_str);
    let (action, subject) = match (at(0), at(1), at(2)) {
        (Some("orchestrators"), Some(name), id) => (format!("start/{name}"), id.map(str::to_owned)),
        (Some("instances"), Some(id), None) if *method == Method::DELETE => {
            ("purge".to_owned(), Some(id.to_owned()))
        }
        (Some("instances"), Some(id), Some(verb)) => {
            let rest = at(3).map_or_else(String::new, |rest| format!("/{rest}"));
            (format!("{verb}{rest}"), Some(id.to_owned()))
        }
        (Some("entities"), Some(name), Some(key)) => {
            let verb = if *method == Method::DELETE {
                "delete"
            } else {
                // The management API has no word for it.
                at(3).unwrap_or("signal")
            };
            (verb.to_owned(), Some(format!("@{}@{key}", name.to_lowercase())))
        }
        (Some("instances"), ..) => ("purge".to_owned(), None),
        (Some(resource), Some(name), verb) => {
            let verb = verb.unwrap_or(if *method == Method::DELETE {
                "delete"
            } else {
                "set"
            });
            (format!("{resource}/{verb}"), Some(name.to_owned()))
        }
        (resource, ..) => (resource.unwrap_or_default().to_owned(), None),
    };
    (cut(&action), subject.as_deref().map(cut))
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_what_is_done_to_what() {
        let of = |method: Method, path: &str| {
            let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
            let (action, subject) = action(&method, &segments);
            format!("{action} {}", subject.unwrap_or_default())
        };
        assert_eq!(of(Method::POST, "orchestrators/Order/o-1"), "start/Order o-1");
        assert_eq!(of(Method::POST, "instances/o-1/terminate"), "terminate o-1");
        assert_eq!(
            of(Method::POST, "instances/o-1/raiseEvent/ok"),
            "raiseEvent/ok o-1"
        );
        assert_eq!(of(Method::DELETE, "instances/o-1"), "purge o-1");
        assert_eq!(of(Method::DELETE, "instances"), "purge ");
        assert_eq!(of(Method::POST, "entities/Counter/a"), "signal @counter@a");
        assert_eq!(of(Method::DELETE, "entities/Counter/a"), "delete @counter@a");
        assert_eq!(of(Method::PUT, "limiters/api"), "limiters/set api");
        assert_eq!(of(Method::POST, "workers/w/drain"), "workers/drain w");
        assert_eq!(of(Method::POST, "entities/Counter/a/unlock"), "unlock @counter@a");
        assert_eq!(of(Method::POST, "schedules/nightly/run"), "schedules/run nightly");
        assert_eq!(of(Method::POST, "purge"), "purge ");
    }

    #[test]
    fn the_last_are_kept_and_all_are_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let log = AuditLog::in_file(&path).unwrap();
        let record = |number: usize| AuditRecord {
            at: "2026-01-01T00:00:00Z".into(),
            caller: "local".into(),
            address: "127.0.0.1".into(),
            hub: "default".into(),
            action: "terminate".into(),
            subject: Some(format!("i{number}")),
            result: 202,
            grpc: false,
        };
        for number in 0..RECORDS_KEPT + 5 {
            log.note(record(number));
        }
        assert_eq!(log.last("default", Some("i4"), 10), []);
        assert_eq!(log.last("default", Some("i5"), 10), [record(5)]);
        assert_eq!(log.last("default", None, 1), [record(RECORDS_KEPT + 4)]);
        assert_eq!(log.last("other", None, 1), []);
        let lines = std::fs::read_to_string(&path).unwrap();
        assert_eq!(lines.lines().count(), RECORDS_KEPT + 5);
        let first: AuditRecord = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(first, record(0));
    }
}
