//! Why an instance does not move, in words.

use dalsegno_core::orchestration::OpenTask;
use dalsegno_core::query::Status;

use super::Partition;
use super::slot::Resident;

/// Open tasks named in one answer; the rest is counted.
const TASKS_NAMED_MAX: usize = 20;

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
            reasons.push(format!("its start is due at {} µs since 1970", due.as_micros()));
        }
        let tasks = resident.orchestration.tasks();
        for (task, open) in tasks.iter().take(TASKS_NAMED_MAX) {
            reasons.push(format!("task {task}: {}", self.describe(open)));
        }
        if tasks.len() > TASKS_NAMED_MAX {
            reasons.push(format!("{} more tasks", tasks.len() - TASKS_NAMED_MAX));
        }
        if let Some(live) = &resident.live {
            reasons.extend(live.waits_for());
        }
        reasons
    }

    fn describe(&self, open: &OpenTask) -> String {
        match open {
            OpenTask::Activity { name } if self.config.executor.activity_settings(name).is_none() => {
                format!("activity \"{name}\": nobody here has registered it")
            }
            OpenTask::Activity { name } => format!("activity \"{name}\""),
            OpenTask::Timer { fire_at } => format!("timer, due at {} µs since 1970", fire_at.as_micros()),
            OpenTask::Child { instance } => format!("child {instance}"),
            OpenTask::EntityCall { entity } => format!("call to entity {entity}"),
            OpenTask::LockRequested { entities } => format!("lock of {entities:?}, not yet granted"),
            OpenTask::LockHeld { entities } => format!("holds the lock of {entities:?}"),
        }
    }
}
