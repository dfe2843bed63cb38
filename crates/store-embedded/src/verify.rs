//! Checks a hub that is not open, without changing it.
//!
//! What the store can know is checked here: files, frames, rows, and that tables and log fit
//! together. What histories mean is the engine's to check.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use dalsegno_core::query::Status;
use dalsegno_core::store::{Field, Op, Owner};
use rusqlite::Connection;

use crate::error::OpenError;
use crate::identity::{Identity, Stage};
use crate::log::disk::Folder;
use crate::log::recovery::{self as log_recovery, Batch};
use crate::options::Options;
use crate::recovery::{self, Locked};
use crate::sqlite::{checksum, read, schema};

/// Problems that are listed; more are counted.
const PROBLEMS_MAX: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, one sentence each; empty when all is well. At most a hundred.
    pub problems: Vec<String>,
    /// How many there are.
    pub problems_count: u64,
    /// Position of the last commit in the log.
    pub last: u64,
    /// Position up to which the tables hold everything.
    pub applied: u64,
    /// Batches that are only in the log.
    pub unapplied: u64,
    /// Instances in the tables.
    pub instances: u64,
    /// Histories in the tables and in the log.
    pub histories: u64,
    /// Events in them.
    pub events: u64,
    /// Values in the tables that are kept apart from rows and histories.
    pub payloads: u64,
    /// Instances in the tables by status.
    pub counts: Vec<(Status, u64)>,
}

impl Report {
    /// Is all well?
    pub fn is_sound(&self) -> bool {
        self.problems_count == 0
    }

    fn add(&mut self, problem: impl Into<String>) {
        self.problems_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem.into());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} instances, {} histories with {} events, {} commits, {} of them only in the log",
            self.instances, self.histories, self.events, self.last, self.unapplied
        )?;
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        match self.problems_count {
            0 => write!(f, "sound"),
            count => write!(f, "{count} problems"),
        }
    }
}

/// Checks the hub in a folder. Takes its lock, so that nobody opens it meanwhile.
///
/// # Errors
/// When there is no hub, when it is in use, and when it is so damaged that it cannot be read at all.
/// Everything else is in the report.
pub fn verify(folder: &Path) -> Result<Report, OpenError> {
    verify_files(folder).map_err(|error| error.in_folder(folder))
}

fn verify_files(folder: &Path) -> Result<Report, OpenError> {
    recovery::check_folder(folder)?;
    let identity = match Identity::read(folder)? {
        Some(identity) if identity.stage == Stage::Ready => identity,
        _ => {
            return Err(OpenError::foreign(format!(
                "{} holds no hub yet",
                folder.display()
            )));
        }
    };
    let Locked { lock: _lock, claim } = recovery::lock_hub(folder)?;
    let connection = recovery::open_tables(folder, &identity)?;
    let format = schema::identity(&connection).map_err(|error| OpenError::sqlite("read", error))?;
    if let Some((_, found)) = format.filter(|(_, found)| *found < schema::VERSION) {
        return Err(OpenError::not_upgraded("hub.db", found, schema::VERSION));
    }
    let position = schema::read_position(&connection).map_err(|error| OpenError::sqlite("read", error))?;
    let known = recovery::known(&identity, &position);
    let disk = Folder::new(folder);
    let found = log_recovery::find(&disk, claim, &known, Options::default().segment_bytes)
        .map_err(recovery::log_error)?;
    let mut report = Report {
        last: found.last,
        applied: position.applied,
        unapplied: found.batches.len() as u64,
        ..Report::default()
    };
    check_tables(&connection, &found.batches, &mut report)
        .map_err(|error| OpenError::sqlite("read the tables", error))?;
    Ok(report)
}

/// A page that SQLite cannot read ends the check: what follows it is not known.
fn check_tables(connection: &Connection, batches: &[Batch], report: &mut Report) -> rusqlite::Result<()> {
    match check_rows(connection, batches, report) {
        Err(error) if read::is_malformed(&error) => {
            report.add(format!(
                "hub.db is malformed, and was not checked any further ({}): restore the hub from a backup",
                read::reason(&error)
            ));
            Ok(())
        }
        checked => checked,
    }
}

fn check_rows(connection: &Connection, batches: &[Batch], report: &mut Report) -> rusqlite::Result<()> {
    for line in read::malformed_pages(connection)? {
        report.add(format!("hub.db: {line}"));
    }
    let mut histories = stored_histories(connection, report)?;
    let mut expected = BTreeSet::new();
    let mut claimed = check_instances(connection, &mut expected, report)?;
    check_hashes(&claimed, &histories, report);
    check_entities(connection, &mut expected, report)?;
    check_payloads(connection, &claimed, expected, report)?;
    read::every_queued(connection, |error| {
        report.add(format!("hub.db: {}", read::reason(&error)))
    })?;
    let named = [
        read::limiters(connection).map(drop),
        read::meta(connection).map(drop),
    ];
    for error in named.into_iter().filter_map(Result::err) {
        report.add(format!("hub.db: {}", read::reason(&error)));
    }
    follow_log(batches, &mut claimed, &mut histories, report);
    check_counts(&claimed, &histories, report);
    report.histories = histories.len() as u64;
    report.events = histories.values().map(|history| history.end).sum();
    match read::counts(connection) {
        Ok(counts) => report.counts = counts,
        Err(error) => report.add(format!("hub.db: {}", read::reason(&error))),
    }
    Ok(())
}

/// What a row says of its history.
struct Claimed {
    id: String,
    /// `None` in a row that cannot be read.
    events: Option<u64>,
    /// The checksum of the history; `None` in a row that does not know it.
    sum: Option<u32>,
}

/// A history as it is.
#[derive(Clone, Copy, Default)]
struct StoredHistory {
    /// Its number of events.
    end: u64,
    sum: u32,
}

/// The histories in the tables, by key.
fn stored_histories(
    connection: &Connection,
    report: &mut Report,
) -> rusqlite::Result<BTreeMap<u64, StoredHistory>> {
    let mut histories = BTreeMap::new();
    let mut statement =
        connection.prepare("SELECT position, count, crc, events FROM history ORDER BY position")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key = row.get::<_, i64>(0)? as u64 >> 24;
        let history: &mut StoredHistory = histories.entry(key).or_default();
        match read::history_chunk(row) {
            Ok(chunk) => {
                let end = history.end;
                if chunk.first != end {
                    report.add(format!(
                        "history of execution {key}: event {} follows event {end}",
                        chunk.first
                    ));
                }
                history.end = chunk.first + u64::from(chunk.count);
                history.sum = checksum::of_longer_history(history.sum, &chunk.data);
            }
            Err(error) => report.add(format!("hub.db: {}", read::reason(&error))),
        }
    }
    Ok(histories)
}

/// What each row says of its history, by key. Notes the values that are to be elsewhere.
fn check_instances(
    connection: &Connection,
    expected: &mut BTreeSet<(Owner, u64)>,
    report: &mut Report,
) -> rusqlite::Result<BTreeMap<u64, Claimed>> {
    let mut claimed = BTreeMap::new();
    read::every_instance(connection, |key, row| match row {
        Ok((row, sum)) => {
            report.instances += 1;
            if row.status.is_final() && row.completed.is_none() {
                report.add(format!(
                    "instance {} is final, but not completed at any time",
                    row.id
                ));
            }
            let fields = Field::OF_INSTANCE
                .into_iter()
                .filter(|field| row.apart.has(*field));
            expected.extend(fields.map(|field| (Owner::Execution(row.key), field.number())));
            let claim = Claimed {
                id: row.id.to_string(),
                events: Some(row.events),
                sum,
            };
            claimed.insert(key, claim);
        }
        Err(error) => {
            report.add(format!("an instance cannot be read: {}", read::reason(&error)));
            let claim = Claimed {
                id: format!("of execution {key}"),
                events: None,
                sum: None,
            };
            claimed.insert(key, claim);
        }
    })?;
    Ok(claimed)
}

/// Is the history of each row in the tables the one that the row knows? The log adds no checksums.
fn check_hashes(
    claimed: &BTreeMap<u64, Claimed>,
    histories: &BTreeMap<u64, StoredHistory>,
    report: &mut Report,
) {
    for (key, claim) in claimed {
        let found = histories.get(key).copied().unwrap_or_default();
        if claim.sum.is_some_and(|sum| sum != found.sum) {
            report.add(format!(
                "instance {}: its history (execution {key}) is not the one that its row knows",
                claim.id
            ));
        }
    }
}

/// Does each row have its history, and each history its row, with as many events?
fn check_counts(
    claimed: &BTreeMap<u64, Claimed>,
    histories: &BTreeMap<u64, StoredHistory>,
    report: &mut Report,
) {
    for (key, claim) in claimed {
        let found = histories.get(key).copied().unwrap_or_default().end;
        if let Some(events) = claim.events.filter(|events| *events != found) {
            report.add(format!(
                "instance {} says {events} events, its history has {found}",
                claim.id
            ));
        }
    }
    for (key, history) in histories {
        if !claimed.contains_key(key) {
            report.add(format!(
                "the history of execution {key} ({} events) belongs to no instance",
                history.end
            ));
        }
    }
}

/// Are the entities readable? Notes the values that are to be elsewhere.
fn check_entities(
    connection: &Connection,
    expected: &mut BTreeSet<(Owner, u64)>,
    report: &mut Report,
) -> rusqlite::Result<()> {
    read::every_entity(connection, |row| match row {
        Ok(row) if row.is_state_apart => {
            expected.insert((Owner::Entity(row.id), Field::State.number()));
        }
        Ok(_) => {}
        Err(error) => report.add(format!("an entity cannot be read: {}", read::reason(&error))),
    })
}

/// Every value belongs to somebody and is as it was written, and none is missing.
fn check_payloads(
    connection: &Connection,
    claimed: &BTreeMap<u64, Claimed>,
    mut expected: BTreeSet<(Owner, u64)>,
    report: &mut Report,
) -> rusqlite::Result<()> {
    read::every_payload(connection, |payload| match payload {
        Ok((owner, n)) => {
            report.payloads += 1;
            let has_owner = match &owner {
                Owner::Execution(key) => claimed.contains_key(&key.0),
                Owner::Entity(_) => expected.contains(&(owner.clone(), n)),
            };
            if !has_owner {
                report.add(format!("value {n} of {} belongs to nobody", name_of(&owner)));
            }
            expected.remove(&(owner, n));
        }
        Err(error) => report.add(format!("hub.db: {}", read::reason(&error))),
    })?;
    for (owner, n) in expected {
        report.add(format!("value {n} of {} is missing or damaged", name_of(&owner)));
    }
    Ok(())
}

fn name_of(owner: &Owner) -> String {
    match owner {
        Owner::Execution(key) => format!("execution {}", key.0),
        Owner::Entity(id) => format!("entity {id}"),
    }
}

/// Applies the log to what the tables say. Do its histories go on where those in the tables end?
fn follow_log(
    batches: &[Batch],
    claimed: &mut BTreeMap<u64, Claimed>,
    histories: &mut BTreeMap<u64, StoredHistory>,
    report: &mut Report,
) {
    let mut keys: BTreeMap<String, u64> = claimed
        .iter()
        .map(|(key, claim)| (claim.id.clone(), *key))
        .collect();
    for batch in batches {
        for op in batch.commits.iter().flat_map(|commit| &commit.ops) {
            match op {
                Op::AppendHistory {
                    key, first, count, ..
                } => {
                    let history = histories.entry(key.0).or_default();
                    if *first != history.end {
                        report.add(format!(
                            "position {} of the log: event {first} of execution {} follows event {}",
                            batch.lsn, key.0, history.end
                        ));
                    }
                    history.end = first + u64::from(*count);
                }
                Op::PutInstance(row) => {
                    // The row of an earlier execution of the instance is replaced.
                    if let Some(former) = keys.insert(row.id.to_string(), row.key.0) {
                        claimed.remove(&former);
                    }
                    let claim = Claimed {
                        id: row.id.to_string(),
                        events: Some(row.events),
                        sum: None,
                    };
                    claimed.insert(row.key.0, claim);
                }
                Op::TouchInstance { key, events, .. } => {
                    if let Some(claim) = claimed.get_mut(&key.0) {
                        claim.events = Some(*events);
                    }
                }
                Op::DeleteExecution { key, .. } => {
                    histories.remove(&key.0);
                    claimed.remove(&key.0);
                }
                _ => {}
            }
        }
    }
}
