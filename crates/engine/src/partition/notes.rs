//! What a row notes of an instance so that lists can find it: events that its code waits for, and the
//! activity that failed last.
//!
//! Written with the turn that changes it, and only then; the next execution begins without.

use std::sync::Arc;

use dalsegno_core::orchestration::{Draft, OpenTask, Orchestration};
use dalsegno_core::store::InstanceRow;
use dalsegno_core::{EventKind, InstanceId};

use super::Partition;
use super::slot::Resident;
use crate::record;
use crate::task::StoredTask;
use crate::turn::Reply;

/// Events noted of one instance; one that waits for more is not found by the others.
const AWAITED_EVENTS_MAX: usize = 32;

/// Instances of one partition that are told to be between two attempts of an activity.
const RETRYING_TOLD_MAX: usize = 10_000;

/// What the row of an instance notes.
pub(super) fn awaited_of(row: &InstanceRow) -> Vec<Arc<str>> {
    if row.extra.is_empty() {
        return Vec::new();
    }
    record::decode_extra(&row.extra)
        .unwrap_or_default()
        .awaited_events
}

/// The activity that failed last among what a turn is told of. One that was cancelled did not fail.
pub(super) fn failed_activity(orchestration: &Orchestration, draft: &Draft) -> Option<Arc<str>> {
    draft.events.iter().rev().find_map(|event| match &event.kind {
        EventKind::TaskFailed { task, failure, .. } if !failure.is_cancelled() => {
            match orchestration.tasks().get(task) {
                Some(OpenTask::Activity { name, .. }) => Some(name.clone()),
                _ => None,
            }
        }
        _ => None,
    })
}

/// Notes it in the row; says whether that is something new. Code that did not run waits as before.
pub(super) fn note(resident: &mut Resident, failed: Option<Arc<str>>, has_run: bool) -> bool {
    let live = resident.live.as_ref().filter(|_| has_run);
    let awaited = live.map(|live| {
        let mut awaited = live.awaited_events();
        awaited.truncate(AWAITED_EVENTS_MAX);
        awaited
    });
    let awaited = awaited.filter(|awaited| *awaited != resident.awaited);
    if awaited.is_none() && failed.is_none() {
        return false;
    }
    let row = &mut resident.orchestration.row;
    let mut extra = record::decode_extra(&row.extra).unwrap_or_default();
    if let Some(awaited) = awaited {
        extra.awaited_events.clone_from(&awaited);
        resident.awaited = awaited;
    }
    extra.failed_activity = failed.or(extra.failed_activity);
    row.extra = record::encode_extra(&extra);
    true
}

impl Partition {
    /// Instances that wait for the next attempt of an activity of this name.
    pub(super) fn answer_retrying(&mut self, activity: &str, reply: Reply<Vec<InstanceId>>) {
        let own = self.retries.values().filter_map(|stored| match stored {
            StoredTask::Activity(record) if *record.name == *activity && record.failed_attempts > 0 => {
                Some(record.instance.clone())
            }
            _ => None,
        });
        let told = own.take(RETRYING_TOLD_MAX).collect();
        self.answer_now(reply.with(Ok(told)));
    }
}
