//! Instances whose code and history do not fit: parked, and tried again.

use dalsegno_core::{Fault, FaultKind, InstanceId};

use super::slot::{Item, Slot};
use super::turns::remember_events;
use super::{Partition, values};
use crate::turn::Turn;

impl Partition {
    /// Code and history do not fit: the instance waits for other code, with its messages stored.
    pub(super) fn park(&mut self, id: &InstanceId, fault: Fault, batch: Vec<Item>) {
        self.counters.faults += u64::from(fault.kind != FaultKind::Missing);
        tracing::warn!(instance_id = %id, %fault, "the instance is parked");
        let event_keys_max = self.config.limits.event_keys_max;
        if let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) {
            remember_events(&mut resident.orchestration.row, &batch, event_keys_max);
        }
        let mut turn = self.take_prelude(id);
        for item in batch {
            if let Item::Message {
                sequence,
                message,
                answer,
                ..
            } = item
            {
                turn.effects.extend(answer);
                self.hold(id, sequence, message, &mut turn);
            }
        }
        let inline_max = self.config.limits.payload_inline_bytes;
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        resident.is_new = false;
        let bytes = std::mem::take(&mut resident.live_bytes);
        let row = &mut resident.orchestration.row;
        row.parked = Some(fault);
        values::put_instance(row, row.apart, inline_max, &mut turn.ops);
        self.futures.forget(bytes);
        self.commit_slot(id, turn);
    }

    /// Lets a parked instance try again, from its stored history.
    pub(super) fn unpark(&mut self, id: &InstanceId) {
        let inline_max = self.config.limits.payload_inline_bytes;
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let Some(resident) = slot.resident_mut() else {
            return;
        };
        if resident.orchestration.row.parked.take().is_none() {
            return;
        }
        let mut turn = Turn::default();
        let row = &mut resident.orchestration.row;
        values::put_instance(row, row.apart, inline_max, &mut turn.ops);
        let held = std::mem::take(&mut slot.held);
        for item in held.into_iter().rev() {
            slot.queue.push_front(item);
        }
        self.commit_slot(id, turn);
        self.reload(id);
    }
}
