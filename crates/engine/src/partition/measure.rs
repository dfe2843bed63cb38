//! What there is in a partition, in numbers, and what is counted when an orchestration ends.

use dalsegno_core::InstanceId;
use dalsegno_core::query::Status;

use super::Partition;
use super::slot::Slot;
use crate::input::Measure;
use crate::turn::{Reply, Turn};

impl Partition {
    /// Answers one who reads the meters.
    pub(super) fn answer_measure(&mut self, reply: Reply<Measure>) {
        let mut measure = Measure {
            counters: self.counters,
            timers: self.timers.len() as u64,
            retries: self.retries.len() as u64,
            limited: self.limiters.waiting().count() as u64,
            entities: self.entities.len() as u64,
            ..Measure::default()
        };
        for slot in self.slots.values() {
            measure.queued += slot.queue.len() as u64;
            measure.held += slot.held.len() as u64;
            let Some(resident) = slot.resident() else {
                continue;
            };
            measure.resident += 1;
            measure.parked += u64::from(resident.orchestration.row.parked.is_some());
            measure.away += u64::from(resident.away.is_some());
            if resident.live.is_some() {
                measure.live += 1;
                measure.live_bytes += resident.live_bytes as u64;
            }
        }
        self.answer_now(reply.with(Ok(measure)));
    }

    /// Counts an orchestration that this turn ends.
    pub(super) fn measure_end(&self, id: &InstanceId, turn: &Turn) {
        let is_end = |status: Status| status.is_final();
        if !turn.moves.iter().any(|(_, after)| after.is_some_and(is_end)) {
            return;
        }
        let resident = self.slots.get(id).and_then(Slot::resident);
        if let Some(resident) = resident {
            self.config.meters.ended(&resident.orchestration.row);
        }
    }
}
