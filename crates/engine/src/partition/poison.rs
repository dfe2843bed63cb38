//! User code that was running when the process died, and is run again with care.
//!
//! The end of a process is counted for every piece of code that ran at that moment. The count is
//! committed before the code runs again, and forgotten when it comes back. At `kills_max` the code
//! is not run any more: the activity fails, the instance is parked, the operation fails.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::message::Target;
use dalsegno_core::store::{InstanceRow, Op};
use dalsegno_core::{EntityId, Failure, Fault, FaultKind, InstanceId, Message, PartitionId, TaskId};

use super::slot::{Item, Slot, take_batch};
use super::{Partition, values};
use crate::executor::Receipt;
use crate::input::AttemptRun;
use crate::marks::Suspects;
use crate::record;
use crate::task::TaskRecord;
use crate::turn::{Effect, Turn};

impl Partition {
    /// Whose code ran when the process died; only what belongs here is kept.
    pub(super) fn suspect(&mut self, suspects: &Suspects) {
        let partitions = self.config.partitions;
        let own = |id: &&String| PartitionId::of(id, partitions) == self.config.id;
        self.suspects = suspects.ids.iter().filter(own).cloned().collect();
    }

    /// An activity that is under way again after a restart.
    pub(super) fn restore_activity(&mut self, mut record: TaskRecord, is_suspect: bool, turn: &mut Turn) {
        if is_suspect {
            record.kills += 1;
            turn.ops.push(self.put_task(&record));
            tracing::warn!(
                instance_id = %record.instance,
                activity = %record.name,
                kills = record.kills,
                "this activity ran when the process died"
            );
        }
        if record.kills >= self.config.limits.kills_max {
            let what = format!("activity \"{}\"", record.name);
            let mut failure = Failure::new("Poisoned", self.kills_text(&what, record.kills));
            failure.permanent = true;
            let run = AttemptRun {
                worker: "unknown".into(),
                took: Duration::ZERO,
                receipt: Receipt::default(),
            };
            return self.complete_task(&record, Err(failure), run);
        }
        turn.effects.push(Effect::Dispatch(Arc::new(record)));
    }

    /// Is this instance or entity suspected? Asked once: the answer is acted upon.
    pub(super) fn takes_suspicion(&mut self, id: &impl fmt::Display) -> bool {
        // Most processes follow a clean end: nobody is suspected, and no text is made.
        !self.suspects.is_empty() && self.suspects.remove(&id.to_string())
    }

    /// Commits the count, and the start if the instance is new, before the code runs again.
    pub(super) fn count_kill(&mut self, id: &InstanceId) {
        let most = self.config.limits.kills_max;
        let inline_max = self.config.limits.payload_inline_bytes;
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let Some(resident) = slot.resident_mut() else {
            return;
        };
        resident.kills += 1;
        let kills = resident.kills;
        set_kills(&mut resident.orchestration.row, kills);
        tracing::warn!(instance_id = %id, kills, "a turn of this instance ran when the process died");
        if kills >= most {
            let batch = take_batch(slot, self.config.limits.turn_bytes_max);
            let fault = Fault::new(
                FaultKind::Poisoned,
                self.kills_text("a turn of this instance", kills),
            );
            return self.park(id, fault, batch);
        }
        let was_new = std::mem::take(&mut resident.is_new);
        let mut turn = resident.prelude.take().map(|turn| *turn).unwrap_or_default();
        let row = &mut resident.orchestration.row;
        values::put_instance(row, row.apart, inline_max, &mut turn.ops);
        if was_new {
            self.store_start(id, &mut turn);
        }
        self.commit_slot(id, turn);
        self.reload(id);
    }

    /// The message by which a new instance begins has to outlive the process, as it would not otherwise.
    fn store_start(&mut self, id: &InstanceId, turn: &mut Turn) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        for item in &mut slot.queue {
            if let Item::Message {
                sequence: sequence @ None,
                message:
                    message @ Message::TimerFired {
                        task: TaskId::START, ..
                    },
                ..
            } = item
            {
                let seq = self.config.numbers.next_message();
                let data = record::encode_message(&Target::Orchestration(id.clone()), message);
                turn.ops.push(Op::PutMessage {
                    partition: self.config.id,
                    seq,
                    data,
                });
                *sequence = Some(seq);
            }
        }
    }

    /// One that was given up is not tried again by a restart: it would kill the process again.
    pub(super) fn is_poisoned(&self, id: &InstanceId) -> bool {
        let resident = self.slots.get(id).and_then(Slot::resident);
        resident.is_some_and(|resident| {
            let parked = &resident.orchestration.row.parked;
            matches!(parked, Some(fault) if fault.kind == FaultKind::Poisoned)
        })
    }

    /// The code came back: what it was suspected of was not its fault.
    pub(super) fn acquit(&mut self, id: &InstanceId) {
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        if std::mem::take(&mut resident.kills) > 0 {
            set_kills(&mut resident.orchestration.row, 0);
        }
    }

    /// Counts; `false`: there were too many, the operation is not run. Otherwise the count has to be
    /// durable before it is.
    pub(super) fn count_entity_kill(&mut self, id: &EntityId) -> bool {
        let most = self.config.limits.kills_max;
        let Some(entity) = self.entity_mut(id) else {
            return true;
        };
        entity.kills += 1;
        let kills = entity.kills;
        tracing::warn!(entity = %id, kills, "an operation of this entity ran when the process died");
        kills < most
    }

    /// Why the next operation of this entity is not run any more.
    pub(super) fn poison_of(&mut self, id: &EntityId) -> Option<Failure> {
        let most = self.config.limits.kills_max;
        let kills = self.entity_mut(id)?.kills;
        (kills >= most).then(|| {
            let what = format!("this operation of entity {id}");
            Failure::new("Poisoned", self.kills_text(&what, kills))
        })
    }

    fn kills_text(&self, what: &str, kills: u32) -> String {
        format!(
            "the process died {kills} times while {what} ran, kills_max is {}: it is not run again by itself; see why the process ends (an abort, a stack overflow, memory)",
            self.config.limits.kills_max
        )
    }
}

/// How often the process died in a turn of this execution.
pub(super) fn kills_of(row: &InstanceRow) -> u32 {
    if row.extra.is_empty() {
        return 0;
    }
    record::decode_extra(&row.extra).unwrap_or_default().kills
}

fn set_kills(row: &mut InstanceRow, kills: u32) {
    let mut extra = record::decode_extra(&row.extra).unwrap_or_default();
    extra.kills = kills;
    row.extra = record::encode_extra(&extra);
}
