//! Why an instance does not move, in words.

use std::collections::BTreeMap;
use std::time::Duration;

use dalsegno_core::orchestration::OpenTask;
use dalsegno_core::query::Status;
use dalsegno_core::{ExecutionKey, TaskId, Timestamp};

use super::Partition;
use super::slot::Resident;
use crate::task::{StoredTask, TaskRecord};

/// Open tasks named in one answer; the rest is counted.
const TASKS_NAMED_MAX: usize = 20;

/// Tasks of the partition among which those of one instance that wait for an attempt are sought,
/// the next due first.
const RETRIES_LOOKED_AT_MAX: usize = 10_000;

impl Partition {
    /// What holds the instance; empty when it is final.
    pub(super) fn explain(&self, resident: &Resident) -> Vec<String> {
        let row = &resident.orchestration.row;
        if row.status.is_final() {
            return Vec::new();
        }
        let mut reasons = Vec::new();
        if let Some(fault) = &row.parked {
            reasons.push(format!("parked: {fault}"));
        }
        if row.status == Status::Suspended {
            reasons.push("suspended: resume it".to_owned());
        }
        if let Some(due) = row
            .scheduled_start
            .filter(|_| !resident.orchestration.has_started())
        {
            reasons.push(format!("its start is due {}", self.until(due)));
        }
        if let Some(request) = resident.orchestration.cancel_request() {
            let reason = request
                .reason
                .as_ref()
                .map_or_else(String::new, |reason| format!(": {reason}"));
            reasons.push(format!("it was asked to end{reason}"));
        }
        let tasks = resident.orchestration.tasks();
        let failed = self.failed_attempts(row.key);
        for (task, open) in tasks.iter().take(TASKS_NAMED_MAX) {
            let tried = failed.get(task).map_or("", String::as_str);
            reasons.push(format!("task {task}: {}{tried}", self.describe(open)));
        }
        if tasks.len() > TASKS_NAMED_MAX {
            reasons.push(format!("{} more tasks", tasks.len() - TASKS_NAMED_MAX));
        }
        if let Some(live) = &resident.live {
            reasons.extend(live.waits_for());
        }
        reasons
    }

    /// What there is to say of tasks that wait for their next attempt, as far as they are looked at.
    fn failed_attempts(&self, execution: ExecutionKey) -> BTreeMap<TaskId, String> {
        let waiting = self.retries.iter().take(RETRIES_LOOKED_AT_MAX);
        let own = waiting.filter(|((_, key, _), _)| *key == execution);
        own.filter_map(|((due, _, task), stored)| match stored {
            StoredTask::Activity(record) => Some((*task, self.tried(record, *due))),
            StoredTask::Child(_) | StoredTask::Told(_) => None,
        })
        .collect()
    }

    fn tried(&self, record: &TaskRecord, due: Timestamp) -> String {
        let last = record.failures.last().map_or_else(String::new, |failure| {
            format!(", the last with {}: {}", failure.kind, failure.message)
        });
        format!(
            ", {} failed{last}; the next attempt is due {}",
            match record.failed_attempts {
                1 => "1 attempt".to_owned(),
                count => format!("{count} attempts"),
            },
            self.until(due)
        )
    }

    fn until(&self, due: Timestamp) -> String {
        match due > self.now {
            true => format!("in {}", in_words(due.since(self.now))),
            false => "now".to_owned(),
        }
    }

    fn describe(&self, open: &OpenTask) -> String {
        match open {
            OpenTask::Activity { name, .. } if self.config.executor.activity_settings(name).is_none() => {
                format!("activity \"{name}\": nobody here has registered it")
            }
            OpenTask::Activity { name, undo } => {
                let why = self.config.executor.explain_activity(name);
                format!(
                    "{}activity \"{name}\"{}",
                    if *undo { "compensating: " } else { "" },
                    why.map_or_else(String::new, |why| format!(": {why}"))
                )
            }
            OpenTask::Timer { fire_at } => format!("timer, due {}", self.until(*fire_at)),
            OpenTask::Child {
                instance, undo: true, ..
            } => format!("compensating: child {instance}"),
            OpenTask::Child { instance, .. } => format!("child {instance}"),
            OpenTask::EntityCall { entity } => format!("call to entity {entity}"),
            OpenTask::LockRequested { entities } => format!("lock of {entities:?}, not yet granted"),
            OpenTask::LockHeld { entities } => format!("holds the lock of {entities:?}"),
        }
    }
}

/// A duration in its two largest units.
fn in_words(duration: Duration) -> String {
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
