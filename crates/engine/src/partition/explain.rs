//! Why an instance does not move, as far as its partition knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::orchestration::OpenTask;
use dalsegno_core::query::Status;
use dalsegno_core::store::InstanceRow;
use dalsegno_core::{ExecutionKey, Fault, FaultKind, InstanceId, TaskId, Timestamp};

use super::Partition;
use super::slot::Resident;
use crate::explain::{Reason, ReasonKind};
use crate::task::{StoredTask, TaskRecord};
use crate::turn::Reply;
use crate::webhooks::DELIVERY;

/// Open tasks named in one answer; the rest is counted.
const TASKS_NAMED_MAX: usize = 20;

/// Tasks of the partition among which those of one instance that wait for an attempt are sought,
/// the next due first.
const RETRIES_LOOKED_AT_MAX: usize = 10_000;

impl Partition {
    /// What holds the instance, as far as is known here; empty when it is final.
    pub(super) fn explain(&self, resident: &Resident) -> Vec<Reason> {
        let row = &resident.orchestration.row;
        if row.status.is_final() {
            return Vec::new();
        }
        let mut reasons = self.holds(resident);
        let tasks = resident.orchestration.tasks();
        let failed = self.failed_attempts(row.key);
        for (task, open) in tasks.iter().take(TASKS_NAMED_MAX) {
            let mut reason = self.describe(open);
            if let Some((record, due)) = failed.get(task) {
                self.tell_attempts(&mut reason, record, *due);
            }
            reason.text = format!("task {task}: {}", reason.text);
            reason.task = Some(*task);
            reasons.push(reason);
        }
        if tasks.len() > TASKS_NAMED_MAX {
            let more = tasks.len() - TASKS_NAMED_MAX;
            reasons.push(Reason::new(ReasonKind::More, format!("{more} more tasks")));
        }
        if let Some(live) = &resident.live {
            reasons.extend(live.waits_for());
        }
        reasons
    }

    /// What holds it as a whole.
    fn holds(&self, resident: &Resident) -> Vec<Reason> {
        let row = &resident.orchestration.row;
        let mut reasons = Vec::new();
        if let Some(fault) = &row.parked {
            reasons.push(parked(row, fault));
        }
        if row.status == Status::Suspended {
            reasons.push(Reason::new(ReasonKind::Suspended, "suspended: resume it"));
        }
        let is_begun = resident.orchestration.has_started();
        if let Some(due) = row.scheduled_start.filter(|_| !is_begun) {
            let text = format!("its start is due {}", self.until(due));
            reasons.push(Reason {
                due: Some(due),
                ..Reason::new(ReasonKind::ScheduledStart, text)
            });
        }
        if let Some(request) = resident.orchestration.cancel_request() {
            let reason = request
                .reason
                .as_ref()
                .map_or_else(String::new, |reason| format!(": {reason}"));
            let text = format!("it was asked to end{reason}");
            reasons.push(Reason::new(ReasonKind::CancelRequested, text));
        }
        reasons
    }

    /// Tasks that wait for their next attempt and when it is due, as far as they are looked at.
    fn failed_attempts(&self, execution: ExecutionKey) -> BTreeMap<TaskId, (&TaskRecord, Timestamp)> {
        let waiting = self.retries.iter().take(RETRIES_LOOKED_AT_MAX);
        let own = waiting.filter(|((_, key, _), _)| *key == execution);
        own.filter_map(|((due, _, task), stored)| match stored {
            StoredTask::Activity(record) => Some((*task, (record, *due))),
            StoredTask::Child(_) | StoredTask::Told(_) => None,
        })
        .collect()
    }

    fn tell_attempts(&self, reason: &mut Reason, record: &TaskRecord, due: Timestamp) {
        let last = record.failures.last();
        let last = last.map(|failure| format!("{}: {}", failure.kind, failure.message));
        let told = last
            .as_ref()
            .map_or_else(String::new, |last| format!(", the last with {last}"));
        let count = match record.failed_attempts {
            1 => "1 attempt".to_owned(),
            count => format!("{count} attempts"),
        };
        let next = self.until(due);
        let _ = write!(
            reason.text,
            ", {count} failed{told}; the next attempt is due {next}"
        );
        // A worker that is missing is the graver reason.
        if reason.kind == ReasonKind::Activity {
            reason.kind = ReasonKind::Retry;
        }
        reason.due = Some(due);
        reason.attempts_failed = Some(record.failed_attempts);
        let settings = self.config.executor.activity_settings(&record.name);
        let own = record.options.retry.as_ref();
        let policy = own.or(settings.as_ref().and_then(|settings| settings.retry.as_ref()));
        reason.attempts_max = policy.map(|policy| policy.attempts_max);
        reason.last_failure = last;
    }

    fn until(&self, due: Timestamp) -> String {
        match due > self.now {
            true => format!("in {}", in_words(due.since(self.now))),
            false => "now".to_owned(),
        }
    }

    fn describe(&self, open: &OpenTask) -> Reason {
        match open {
            OpenTask::Activity { name, undo } => self.describe_activity(name, *undo),
            OpenTask::Timer { fire_at } => Reason {
                due: Some(*fire_at),
                ..Reason::new(ReasonKind::Timer, format!("timer, due {}", self.until(*fire_at)))
            },
            OpenTask::Child { instance, undo, .. } => {
                let undo = if *undo { "compensating: " } else { "" };
                Reason {
                    instance: Some(instance.clone()),
                    ..Reason::new(ReasonKind::Child, format!("{undo}child {instance}"))
                }
            }
            OpenTask::EntityCall { entity } => Reason {
                entities: vec![entity.clone()],
                ..Reason::new(ReasonKind::Entity, format!("call to entity {entity}"))
            },
            OpenTask::LockRequested { entities } => Reason {
                entities: entities.clone(),
                ..Reason::new(ReasonKind::Lock, format!("lock of {entities:?}, not yet granted"))
            },
            OpenTask::LockHeld { entities } => Reason {
                entities: entities.clone(),
                ..Reason::new(ReasonKind::LockHeld, format!("holds the lock of {entities:?}"))
            },
        }
    }

    fn describe_activity(&self, name: &Arc<str>, undo: bool) -> Reason {
        let code = &self.config.executor;
        let undo = if undo { "compensating: " } else { "" };
        let missing = match code.activity_settings(name) {
            None => Some("nobody here has registered it".to_owned()),
            Some(_) => code.explain_activity(name),
        };
        let reason = match missing {
            Some(why) => Reason::new(ReasonKind::NoWorker, format!("{undo}activity \"{name}\": {why}")),
            None => Reason::new(ReasonKind::Activity, format!("{undo}activity \"{name}\"")),
        };
        reason.named(name.clone())
    }

    /// Instances of this partition that something holds which should not, as far as they are named.
    pub(super) fn answer_stuck(&mut self, most: usize, reply: Reply<Vec<InstanceId>>) {
        let mut stuck = BTreeSet::new();
        let retried = self.retries.values().filter_map(|stored| match stored {
            StoredTask::Activity(record) if &*record.name != DELIVERY => Some(&record.instance),
            _ => None,
        });
        let held = self.slots.iter().filter(|(_, slot)| {
            let resident = slot.resident();
            resident.is_some_and(|resident| self.is_held(resident))
        });
        let limited = self.limiters.waiting().map(|record| &record.instance);
        let named = retried.chain(limited).chain(held.map(|(id, _)| id));
        for id in named {
            if stuck.len() == most {
                break;
            }
            stuck.insert(id.clone());
        }
        self.answer_now(reply.with(Ok(stuck.into_iter().collect())));
    }

    fn is_held(&self, resident: &Resident) -> bool {
        let row = &resident.orchestration.row;
        if row.status.is_final() {
            return false;
        }
        let waits = || {
            let tasks = resident.orchestration.tasks().values();
            tasks.take(TASKS_NAMED_MAX).any(|open| match open {
                OpenTask::LockRequested { .. } => true,
                OpenTask::Activity { name, .. } => self.describe_activity(name, false).kind.is_stuck(),
                _ => false,
            })
        };
        let is_at_no_worker = || {
            let said = resident.live.iter().flat_map(|live| live.waits_for());
            resident.away.is_some() && said.into_iter().any(|reason| reason.kind.is_stuck())
        };
        row.parked.is_some() || row.status == Status::Suspended || is_at_no_worker() || waits()
    }
}

/// A parked instance; what the row alone tells.
pub(crate) fn parked(row: &InstanceRow, fault: &Fault) -> Reason {
    let kind = match fault.kind {
        FaultKind::Missing => ReasonKind::NoWorker,
        _ => ReasonKind::Parked,
    };
    Reason::new(kind, format!("parked: {fault}")).named(row.name.clone())
}

/// A duration in its two largest units.
pub(crate) fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (seconds, words) in [
            (5, "5 s"),
            (65, "1 min 5 s"),
            (259_199, "2 d 23 h"),
            (7_500, "2 h 5 min"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
        assert_eq!(in_words(Duration::from_millis(40)), "40 ms");
    }
}
