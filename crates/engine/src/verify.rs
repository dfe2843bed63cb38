//! Does a stored hub make sense? Reads everything, changes nothing.
//!
//! The checks are the invariants that a store alone can tell: they hold after any crash, before
//! recovery has moved anything.

use std::collections::{BTreeMap, BTreeSet};

use dalsegno_core::orchestration::{OpenTask, Orchestration};
use dalsegno_core::query::{EntityQuery, InstanceCursor, InstanceQuery, LargeValues, Status};
use dalsegno_core::store::{InstanceRow, ReadError, Store};
use dalsegno_core::{Event, EventKind, ExecutionKey, InstanceId, PartitionId, TaskId};

use crate::loader::{complete, complete_entity, read_history};
use crate::record;
use crate::task::StoredTask;

/// Instances read at once.
const PAGE: usize = 1_000;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Instances looked at.
    pub instances: u64,
    /// Events looked at.
    pub events: u64,
    /// What does not make sense; empty for a sound hub.
    pub problems: Vec<String>,
}

/// Open work by execution, as the tables have it.
#[derive(Default)]
struct Tables {
    tasks: BTreeSet<(ExecutionKey, TaskId)>,
    timers: BTreeSet<(ExecutionKey, TaskId)>,
    /// Instances for which a message waits.
    receivers: BTreeSet<InstanceId>,
}

/// Reads a whole hub and checks it.
///
/// # Errors
/// When the store cannot be read at all; what can be read and is wrong is a finding.
pub fn verify(store: &dyn Store) -> Result<Findings, ReadError> {
    let mut findings = Findings::default();
    let hub = store.load_hub()?;
    let tables = read_tables(store, hub.partitions, &mut findings)?;
    let mut counts = BTreeMap::new();
    let mut owners = BTreeSet::new();
    let mut after: Option<InstanceCursor> = None;
    loop {
        let query = InstanceQuery {
            limit: PAGE,
            after,
            ..InstanceQuery::default()
        };
        let page = store.list(&query)?;
        for mut row in page.rows {
            findings.instances += 1;
            if let Err(error) = complete(store, &mut row, LargeValues::Read) {
                findings.problems.push(error.to_string());
            }
            let row = &row;
            *counts.entry(row.status).or_insert(0_u64) += 1;
            owners.insert(row.key);
            check_instance(store, row, hub.partitions, &tables, &mut findings);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    check_entities(store, &mut findings)?;
    for (status, count) in hub.counts {
        let found = counts.get(&status).copied().unwrap_or(0);
        if found != count {
            findings.problems.push(format!(
                "{found} instances are {}, the count says {count}",
                status.as_str()
            ));
        }
    }
    for (key, task) in tables.timers.iter().filter(|(key, _)| !owners.contains(key)) {
        findings.problems.push(format!(
            "timer {task} belongs to execution {}, which is no more",
            key.0
        ));
    }
    Ok(findings)
}

/// Every entity has the state that its row says it has.
fn check_entities(store: &dyn Store, findings: &mut Findings) -> Result<(), ReadError> {
    let mut query = EntityQuery {
        limit: PAGE,
        ..EntityQuery::default()
    };
    loop {
        let page = store.list_entities(&query)?;
        for mut row in page.rows {
            if let Err(error) = complete_entity(store, &mut row, LargeValues::Read) {
                findings.problems.push(error.to_string());
            }
        }
        query.after = page.next;
        if query.after.is_none() {
            return Ok(());
        }
    }
}

fn read_tables(store: &dyn Store, partitions: u32, findings: &mut Findings) -> Result<Tables, ReadError> {
    let mut tables = Tables::default();
    for partition in 0..partitions {
        let loaded = store.load(PartitionId(partition))?;
        for (sequence, data) in loaded.messages {
            match record::decode_message(&data) {
                Ok((dalsegno_core::message::Target::Orchestration(id), _)) => {
                    tables.receivers.insert(id);
                }
                Ok(_) => {}
                Err(error) => findings.problems.push(format!("message {sequence}: {error}")),
            }
        }
        for (key, task, data) in loaded.tasks {
            match record::decode_task(key, task, &data) {
                Ok(StoredTask::Activity(_) | StoredTask::Told(_)) => {
                    tables.tasks.insert((key, task));
                }
                Ok(StoredTask::Child(_)) => {}
                Err(error) => findings.problems.push(format!("task {}/{task}: {error}", key.0)),
            }
        }
        tables
            .timers
            .extend(loaded.timers.iter().map(|timer| (timer.key, timer.task)));
    }
    Ok(tables)
}

fn check_instance(
    store: &dyn Store,
    row: &InstanceRow,
    partitions: u32,
    tables: &Tables,
    findings: &mut Findings,
) {
    let mut report = |text: String| findings.problems.push(format!("instance {}: {text}", row.id));
    if row.partition != PartitionId::of(row.id.as_str(), partitions) {
        report(format!(
            "it is stored in partition {}, where its id does not belong",
            row.partition.0
        ));
    }
    let history = match read_history(store, row) {
        Ok(history) => history,
        Err(error) => return report(error.to_string()),
    };
    if history.len() as u64 != row.events {
        report(format!(
            "its row counts {} events, its history has {}",
            row.events,
            history.len()
        ));
    }
    if row.status.is_final() != history.iter().any(|event| event.kind.is_final()) {
        report(format!(
            "its row says {}, its history does not agree",
            row.status.as_str()
        ));
    }
    check_history(&history, &mut report);
    check_open(row, &history, tables, &mut report);
    findings.events += history.len() as u64;
}

/// At most one end; every answer after its question, once; time never goes back. Code of other
/// languages asks again by the same number once it was answered: that is its way of trying again.
fn check_history(history: &[Event], report: &mut impl FnMut(String)) {
    let mut asked = BTreeSet::new();
    let mut answered = BTreeSet::new();
    let mut ended = false;
    for (number, pair) in history.windows(2).enumerate() {
        if pair[1].at < pair[0].at {
            report(format!("event {} is earlier than the one before it", number + 1));
        }
    }
    for (number, event) in history.iter().enumerate() {
        if event.kind.is_final() && std::mem::replace(&mut ended, true) {
            report(format!("event {number} ends it a second time"));
        }
        if let EventKind::TimerFired { fire_at, .. } = &event.kind
            && event.at < *fire_at
        {
            report(format!("event {number}: a timer fired before it was due"));
        }
        match question_or_answer(&event.kind) {
            Some((task, Side::Question)) if answered.remove(&task) => {}
            Some((task, Side::Question)) if !asked.insert(task) => {
                report(format!("event {number}: task {task} was asked for twice"));
            }
            Some((task, Side::Answer)) if !asked.contains(&task) => {
                report(format!(
                    "event {number}: task {task} was answered and never asked for"
                ));
            }
            Some((task, Side::Answer)) if !answered.insert(task) => {
                report(format!("event {number}: task {task} was answered twice"));
            }
            _ => {}
        }
    }
}

enum Side {
    Question,
    Answer,
}

fn question_or_answer(kind: &EventKind) -> Option<(TaskId, Side)> {
    match kind {
        EventKind::TaskScheduled { task, .. }
        | EventKind::TimerCreated { task, .. }
        | EventKind::SubOrchestrationInstanceCreated { task, .. }
        | EventKind::EntityOperationCalled { task, .. }
        | EventKind::EntityOperationSignaled { task, .. }
        | EventKind::EventSent { task, .. }
        | EventKind::EntityLockRequested { task, .. } => Some((*task, Side::Question)),
        EventKind::TaskCompleted { task, .. }
        | EventKind::TaskFailed { task, .. }
        | EventKind::TimerFired { task, .. }
        | EventKind::SubOrchestrationInstanceCompleted { task, .. }
        | EventKind::SubOrchestrationInstanceFailed { task, .. }
        | EventKind::EntityOperationCompleted { task, .. }
        | EventKind::EntityOperationFailed { task, .. }
        | EventKind::EntityLockGranted { task } => Some((*task, Side::Answer)),
        _ => None,
    }
}

/// What is open in the history is open in the tables, or its answer waits as a message; a final
/// execution owns no timer, and a terminated one no activity.
fn check_open(row: &InstanceRow, history: &[Event], tables: &Tables, report: &mut impl FnMut(String)) {
    if row.status.is_final() {
        let owned = tables.timers.iter().filter(|(key, _)| *key == row.key);
        owned.for_each(|(_, task)| report(format!("it is final and still owns timer {task}")));
        if row.status == Status::Terminated {
            let owned = tables.tasks.iter().filter(|(key, _)| *key == row.key);
            owned.for_each(|(_, task)| report(format!("it was terminated and task {task} is still open")));
        }
        return;
    }
    let answer_may_wait = tables.receivers.contains(&row.id);
    for (task, open) in Orchestration::fold(row.clone(), history).tasks() {
        let is_held = match open {
            OpenTask::Activity { .. } => tables.tasks.contains(&(row.key, *task)),
            _ => true,
        };
        if !is_held && !answer_may_wait {
            report(format!("task {task} is open and nothing will ever answer it"));
        }
    }
}
