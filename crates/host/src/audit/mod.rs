//! The audit log: one record per call that changes something, never with a payload.
//!
//! A response leaves after its record is in the file. Refusals are sampled, so that no caller that may
//! change nothing fills the file or the memory.

pub(crate) mod action;
mod file;
mod pending;
mod refusals;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use dalsegno_core::Timestamp;
use dalsegno_engine::request::CallFacts;
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use file::FileWriter;
pub(crate) use pending::Pending;
use refusals::{Refusals, Sampled};

use crate::http::time;

/// Records of changes in memory, for readers: some 300 bytes each.
pub const RECORDS_MAX: usize = 10_000;
/// Records of refused callers in memory.
const REFUSALS_MAX: usize = 1_000;

/// One call that was to change something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// When it was answered.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Name of the caller's key, `link` for the holder of a link, `local` on a host without keys, `anonymous`, or `invalid key`.
    pub caller: String,
    /// The address of the caller, resolved through trusted proxies.
    pub address: String,
    /// The task hub.
    pub hub: String,
    /// What was to be done: `start`, `terminate`, `raiseEvent/approved`, `StartInstance`.
    pub action: String,
    /// To which instance, entity, limiter, schedule, hub or bulk operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The filter by which it selected many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How many it changed; of `refusals`, how many calls were refused without a record of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What was answered: an HTTP status, or gRPC's code by its number. 499, over gRPC 1: the caller disconnected first.
    pub result: u16,
    /// It was gRPC.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grpc: bool,
}

impl AuditRecord {
    /// The record with what the handler of the call noted.
    #[must_use]
    pub(crate) fn with(self, facts: CallFacts) -> Self {
        Self {
            subject: facts
                .subject
                .map(|subject| action::cut(&subject))
                .or(self.subject),
            filter: facts.filter.map(|filter| action::cut(&filter)),
            count: facts.count,
            ..self
        }
    }
}

/// What kind of record a call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// The caller was admitted. Every such call has a record.
    Admitted,
    /// The caller has a valid key, which does not allow the call: sampled.
    RefusedKey,
    /// The caller has no valid key: sampled.
    RefusedStranger,
}

/// Where the audit log is written, and how large it may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLimits {
    /// Bytes of the file at which the next one begins.
    pub file_bytes_max: u64,
    /// Files in all: the current one, and older ones with `.1`, `.2` … behind its name.
    pub files_max: usize,
}

impl Default for AuditLimits {
    fn default() -> Self {
        Self {
            file_bytes_max: 64 * 1024 * 1024,
            files_max: 10,
        }
    }
}

/// The last records, and the file with all of them.
#[derive(Debug, Default)]
pub struct AuditLog {
    recent: Mutex<Recent>,
    file: Option<FileWriter>,
    /// Records to come, and those that are not in the file yet.
    unfinished: watch::Sender<usize>,
    pub(crate) meters: AuditMeters,
}

/// A record that is not in the file yet.
#[derive(Debug)]
pub(crate) struct Unfinished(watch::Sender<usize>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// What the audit log counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditMeters {
    /// Records that could not be written into the file.
    pub(crate) lost: Counter,
    /// Refused calls that have no record of their own.
    pub(crate) unrecorded_refusals: Counter,
}

#[derive(Debug, Default)]
struct Recent {
    changes: VecDeque<AuditRecord>,
    refusals: VecDeque<AuditRecord>,
    /// Apart from each other, so that strangers do not use up the sample of callers with keys.
    refused_keys: Refusals,
    refused_strangers: Refusals,
}

impl AuditLog {
    /// An audit log that also appends each record to a file, as a line of JSON. The file is created,
    /// readable by its owner alone.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn in_file(path: &Path, limits: AuditLimits) -> io::Result<Self> {
        let meters = AuditMeters::default();
        Ok(Self {
            recent: Mutex::default(),
            file: Some(FileWriter::open(path, limits, meters.lost.clone())?),
            unfinished: watch::Sender::default(),
            meters,
        })
    }

    /// Announces a record, for which the end of the host waits.
    pub(crate) fn announce(&self) -> Unfinished {
        self.unfinished.send_modify(|count| *count += 1);
        Unfinished(self.unfinished.clone())
    }

    /// Ready when every record that was announced is in the file, or was dropped.
    pub(crate) async fn finish(&self) {
        // The sender is held here.
        let _ = self.unfinished.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Records a call. Returns when the record is in the file, if there is one.
    pub(crate) async fn record(&self, record: AuditRecord, kind: RecordKind, now: Timestamp) {
        if let Some(written) = self.begin(record, kind, now, self.announce()) {
            let _ = written.await;
        }
    }

    /// Records a call: it is among the last records at once, and a task writes it into the file, also if
    /// the caller disconnects meanwhile.
    fn begin(
        &self,
        record: AuditRecord,
        kind: RecordKind,
        now: Timestamp,
        unfinished: Unfinished,
    ) -> Option<JoinHandle<()>> {
        let records = self.sample(record, kind, now);
        for record in &records {
            log(record);
        }
        let file = self.file.clone()?;
        let runtime = Handle::try_current().ok()?;
        Some(runtime.spawn(async move {
            file.write(&records).await;
            drop(unfinished);
        }))
    }

    /// What to record for a call, which is then among the last records: nothing for a refusal beyond
    /// the sample, and also the sum of those once their minute is over.
    fn sample(&self, record: AuditRecord, kind: RecordKind, now: Timestamp) -> Vec<AuditRecord> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = &mut *recent;
        let mut records = Vec::new();
        for (refused, caller) in [
            (&mut recent.refused_keys, "keys"),
            (&mut recent.refused_strangers, "anonymous"),
        ] {
            let ended = refused.end_minute(now);
            records.extend(ended.map(|count| summary(count, caller, &record.hub, now)));
        }
        let sampled = match kind {
            RecordKind::Admitted => Sampled::Record,
            RecordKind::RefusedKey => recent.refused_keys.take(now),
            RecordKind::RefusedStranger => recent.refused_strangers.take(now),
        };
        match sampled {
            Sampled::Record => records.push(record),
            Sampled::Count => drop(self.meters.unrecorded_refusals.inc()),
        }
        for record in &records {
            recent.push(record.clone(), kind);
        }
        records
    }

    /// The last records of a hub, newest first; of one subject if it is named.
    pub(crate) fn last(&self, hub: &str, subject: Option<&str>, most: usize) -> Vec<AuditRecord> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |record: &&AuditRecord| {
            record.hub == hub && subject.is_none_or(|subject| record.subject.as_deref() == Some(subject))
        };
        let (mut changes, mut refusals) = (
            recent.changes.iter().rev().filter(wanted).peekable(),
            recent.refusals.iter().rev().filter(wanted).peekable(),
        );
        let newest = std::iter::from_fn(|| match (changes.peek(), refusals.peek()) {
            (Some(change), Some(refusal)) if change.at < refusal.at => refusals.next(),
            (Some(_), _) => changes.next(),
            (None, _) => refusals.next(),
        });
        newest.take(most).cloned().collect()
    }
}

impl Recent {
    fn push(&mut self, record: AuditRecord, kind: RecordKind) {
        let (records, most) = match kind {
            RecordKind::Admitted => (&mut self.changes, RECORDS_MAX),
            RecordKind::RefusedKey | RecordKind::RefusedStranger => (&mut self.refusals, REFUSALS_MAX),
        };
        if records.len() == most {
            records.pop_front();
        }
        records.push_back(record);
    }
}

/// The refusals of a minute that have no record of their own.
fn summary(count: u64, caller: &str, hub: &str, now: Timestamp) -> AuditRecord {
    AuditRecord {
        at: time::exact(now),
        caller: caller.into(),
        hub: hub.to_owned(),
        action: "refusals".into(),
        count: Some(count),
        ..AuditRecord::default()
    }
}

fn log(record: &AuditRecord) {
    let AuditRecord {
        caller,
        address,
        hub,
        action,
        subject,
        result,
        ..
    } = record;
    // A caller's text stays on its line.
    let (action, subject) = (
        action.escape_debug(),
        subject.as_deref().unwrap_or_default().escape_debug(),
    );
    tracing::info!(target: "dalsegno::audit", %caller, %address, %hub, %action, %subject, %result);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: usize) -> AuditRecord {
        AuditRecord {
            at: format!("2026-01-01T00:00:{:08}Z", number),
            caller: "local".into(),
            address: "127.0.0.1".into(),
            hub: "default".into(),
            action: "terminate".into(),
            subject: Some(format!("i{number}")),
            result: 202,
            ..AuditRecord::default()
        }
    }

    fn second(number: i64) -> Timestamp {
        Timestamp::from_micros(1_772_357_400_000_000 + number * 1_000_000)
    }

    fn lines(path: &Path) -> Vec<AuditRecord> {
        let text = std::fs::read_to_string(path).unwrap();
        let parsed: Result<_, _> = text.lines().map(serde_json::from_str).collect();
        parsed.unwrap()
    }

    #[tokio::test]
    async fn the_last_are_in_memory_and_all_are_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let log = AuditLog::in_file(&path, AuditLimits::default()).unwrap();
        for number in 0..RECORDS_MAX + 5 {
            log.record(record(number), RecordKind::Admitted, second(0)).await;
        }
        assert_eq!(log.last("default", Some("i4"), 10), []);
        assert_eq!(log.last("default", Some("i5"), 10), [record(5)]);
        assert_eq!(log.last("default", None, 1), [record(RECORDS_MAX + 4)]);
        assert_eq!(log.last("other", None, 1), []);
        // Without an end of the log: each was in the file before `record` returned.
        let lines = lines(&path);
        assert_eq!(lines.len(), RECORDS_MAX + 5);
        assert_eq!(lines[0], record(0));
    }

    #[tokio::test]
    async fn refusals_of_callers_without_a_key_are_sampled_and_counted() {
        // 800,000 of them were 100 MB, and pushed every real change out of memory.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let log = AuditLog::in_file(&path, AuditLimits::default()).unwrap();
        log.record(record(0), RecordKind::Admitted, second(0)).await;
        for number in 1..=10_000 {
            log.record(record(number), RecordKind::RefusedStranger, second(1))
                .await;
        }
        assert_eq!(
            log.last("default", Some("i0"), 1),
            [record(0)],
            "it is still there"
        );
        let sample = refusals::PER_MINUTE_MAX as usize;
        assert_eq!(lines(&path).len(), 1 + sample);
        let unrecorded = 10_000 - sample as u64;
        assert_eq!(log.meters.unrecorded_refusals.get(), unrecorded);
        log.record(record(10_001), RecordKind::Admitted, second(70)).await;
        let last = lines(&path).split_off(1 + sample);
        assert_eq!(
            last.iter()
                .map(|record| (record.action.as_str(), record.count))
                .collect::<Vec<_>>(),
            [("refusals", Some(unrecorded)), ("terminate", None)]
        );
    }

    #[tokio::test]
    async fn the_end_of_the_host_waits_for_the_records_of_callers_that_disconnect() {
        // Tasks that nothing waited for wrote them.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let log = AuditLog::in_file(&path, AuditLimits::default()).unwrap();
        let announced = log.announce();
        let mut end = Box::pin(log.finish());
        assert!(futures::poll!(&mut end).is_pending(), "a call is under way");
        drop(log.begin(record(1), RecordKind::Admitted, second(0), announced));
        assert!(
            futures::poll!(&mut end).is_pending(),
            "its record is not in the file"
        );
        end.await;
        assert_eq!(lines(&path), [record(1)]);
        let mut recorded = Box::pin(log.record(record(2), RecordKind::Admitted, second(0)));
        assert!(futures::poll!(&mut recorded).is_pending());
        drop(recorded);
        log.finish().await;
        assert_eq!(lines(&path), [record(1), record(2)]);
        drop(log.announce());
        log.finish().await;
    }

    #[test]
    fn strangers_do_not_use_up_the_sample_of_callers_with_keys() {
        let log = AuditLog::default();
        for number in 0..1_000 {
            log.sample(record(number), RecordKind::RefusedStranger, second(0));
        }
        let refused = log.sample(record(1_000), RecordKind::RefusedKey, second(0));
        assert_eq!(refused, [record(1_000)]);
        for number in 0..1_000 {
            log.sample(record(number), RecordKind::RefusedKey, second(0));
        }
        let ended = log.sample(record(1), RecordKind::Admitted, second(60));
        let counts: Vec<_> = ended
            .iter()
            .map(|record| (record.caller.as_str(), record.count))
            .collect();
        let sample = u64::from(refusals::PER_MINUTE_MAX);
        assert_eq!(
            counts,
            [
                ("keys", Some(1_001 - sample)),
                ("anonymous", Some(1_000 - sample)),
                ("local", None)
            ]
        );
    }

    #[test]
    fn changes_and_refusals_are_read_in_one_order() {
        let log = AuditLog::default();
        for (number, kind) in [
            (1, RecordKind::Admitted),
            (2, RecordKind::RefusedStranger),
            (3, RecordKind::RefusedKey),
            (4, RecordKind::Admitted),
        ] {
            log.sample(record(number), kind, second(0));
        }
        let last = log.last("default", None, 10);
        assert_eq!(last, [record(4), record(3), record(2), record(1)]);
    }
}
