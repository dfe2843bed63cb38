//! How instances come into memory and leave it.

use std::collections::VecDeque;
use std::sync::Arc;

use dalsegno_core::orchestration::Orchestration;
use dalsegno_core::store::Op;
use dalsegno_core::{Event, Fault, FaultKind, InstanceId};

use super::Partition;
use super::slot::{Resident, Slot, SlotState};
use super::starts::fresh;
use super::traces::follow;
use crate::changes::RowChange;
use crate::input::{Load, StoredInstance, Unread};
use crate::turn::{Effect, Turn};

impl Partition {
    pub(super) fn take_loaded_instance(
        &mut self,
        id: &InstanceId,
        found: Result<Option<StoredInstance>, Unread>,
    ) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        if !matches!(slot.state, SlotState::Loading) {
            return;
        }
        let mut damage = None;
        slot.state = match found {
            Ok(None) => SlotState::Vacant,
            Ok(Some(stored)) => match damage_of(&stored) {
                Some(unread) if stored.row.status.is_final() => return self.take_unread_instance(id, unread),
                damaged => {
                    damage = damaged.filter(|_| stored.row.parked.is_none());
                    let mut resident = restore(stored);
                    follow(self.config.traces.as_ref(), &mut resident);
                    SlotState::Resident(Box::new(resident))
                }
            },
            Err(unread) => return self.take_unread_instance(id, unread),
        };
        let key = slot.resident().map(|resident| resident.orchestration.row.key);
        if let Some(before) = slot.read_again.take().filter(|before| Some(*before) != key) {
            self.keys.remove(&before);
        }
        if let Some(key) = key {
            self.keys.insert(key, id.clone());
        }
        if let Some(Unread { text: message, .. }) = damage {
            let kind = FaultKind::Damaged;
            self.park(id, Fault::new(kind, message), Vec::new());
        }
        self.make_ready(id);
        self.release_if_vacant(id);
    }

    /// Reads the instance again as soon as what is under way is durable.
    pub(super) fn reload(&mut self, id: &InstanceId) {
        self.reload_by(Load::Instance(id.clone()), id);
    }

    pub(super) fn reload_by(&mut self, load: Load, id: &InstanceId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        if let Some(resident) = slot.resident() {
            let (key, bytes) = (resident.orchestration.row.key, resident.live_bytes);
            // Its timers still find it here: the store may not have it before what it waits for.
            slot.read_again = Some(key);
            self.futures.forget(bytes);
        }
        slot.state = SlotState::Loading;
        let last_turn = slot.last_turn;
        self.reloads.push_back((last_turn, load));
        self.answer_now(Effect::Nudge);
    }

    /// Pushes a turn and notes that it was this slot's last. Who waits for what it leads to is
    /// answered with it.
    pub(super) fn commit_slot(&mut self, id: &InstanceId, mut turn: Turn) {
        self.answer_waiters(id, &mut turn);
        self.notify(id, &mut turn);
        self.measure_end(id, &turn);
        self.tell_change(id, &mut turn);
        let number = self.push_turn(turn);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.last_turn = number;
        }
    }

    /// Tells those who show lists, if there are any, of a row that this turn writes or deletes.
    fn tell_change(&self, id: &InstanceId, turn: &mut Turn) {
        if !self.config.changes.has_readers() {
            return;
        }
        let is_row = |op: &Op| matches!(op, Op::PutInstance(_) | Op::DeleteExecution { .. });
        if !turn.ops.iter().any(is_row) {
            return;
        }
        let change = match self.row(id) {
            Some(row) => RowChange::of(row),
            None => RowChange::Removed(id.clone()),
        };
        let (changes, change) = (self.config.changes.clone(), Arc::new(change));
        let tell = Effect::Answer(Box::new(move || changes.tell(change)));
        turn.effects.push(tell);
    }

    /// The queue is empty: final and vacant slots leave memory once their last turn is durable.
    pub(super) fn rest(&mut self, id: &InstanceId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        // Most instances wait most of the time: an empty queue keeps no memory.
        slot.queue = VecDeque::new();
        let leaves = match &slot.state {
            SlotState::Vacant | SlotState::Damaged(_) => true,
            SlotState::Resident(resident) => resident.orchestration.row.status.is_final(),
            _ => false,
        };
        if leaves && slot.is_idle() {
            self.settling.push_back((slot.last_turn, id.clone()));
        }
    }

    pub(super) fn release_if_vacant(&mut self, id: &InstanceId) {
        if self.slots.get(id).is_some_and(|slot| slot.is_idle()) {
            self.rest(id);
        }
    }

    /// Is something durable by now that others wait for?
    pub(super) fn can_settle(&self) -> bool {
        let first = |queue: Option<u64>| queue.is_some_and(|turn| turn <= self.durable());
        first(self.settling.front().map(|(turn, _)| *turn))
            || first(self.reloads.front().map(|(turn, _)| *turn))
    }

    /// Does what waited for turns to become durable: slots leave, instances are read again.
    pub(super) fn settle(&mut self) {
        let durable = self.durable();
        while self.settling.front().is_some_and(|(turn, _)| *turn <= durable) {
            let Some((_, id)) = self.settling.pop_front() else {
                break;
            };
            self.remove_slot(&id, durable);
        }
        while self.reloads.front().is_some_and(|(turn, _)| *turn <= durable) {
            let Some((_, load)) = self.reloads.pop_front() else {
                break;
            };
            self.outbox.loads.push(load);
        }
        self.evict(durable);
        self.evict_entities(durable);
    }

    fn remove_slot(&mut self, id: &InstanceId, durable: u64) -> bool {
        let can_leave = |slot: &Slot| slot.is_idle() && slot.last_turn <= durable && !slot.is_queued;
        if !self.slots.get(id).is_some_and(can_leave) {
            return false;
        }
        if let Some(Slot {
            state: SlotState::Resident(resident),
            ..
        }) = self.slots.remove(id)
        {
            self.keys.remove(&resident.orchestration.row.key);
            self.futures.forget(resident.live_bytes);
        }
        true
    }

    pub(super) fn note_use(&mut self, id: &InstanceId) {
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        let bytes = resident.live.as_ref().map_or(0, |live| live.size_bytes() + 512);
        let bytes = bytes
            + resident
                .trail
                .as_ref()
                .map_or(0, |trail| size_of::<Event>() * trail.len());
        let before = std::mem::replace(&mut resident.live_bytes, bytes);
        resident.tick = self.futures.touch(id, before, bytes);
        if self.futures.len() > 2 * self.slots.len() + 4096 {
            let slots = &self.slots;
            self.futures.compact(|tick, id| {
                slots
                    .get(id)
                    .and_then(Slot::resident)
                    .is_some_and(|resident| resident.tick == tick)
            });
        }
    }

    /// Futures beyond the limit leave with all their slot holds; the store has it.
    fn evict(&mut self, durable: u64) {
        while self.futures.is_over() {
            let Some((tick, id)) = self.futures.oldest() else {
                return;
            };
            let is_current = |slot: &Slot| slot.resident().is_some_and(|resident| resident.tick == tick);
            if !self.slots.get(&id).is_some_and(is_current) {
                continue;
            }
            if self.remove_slot(&id, durable) {
                self.counters.evictions += 1;
            } else {
                let bytes = self
                    .slots
                    .get(&id)
                    .and_then(Slot::resident)
                    .map_or(0, |resident| resident.live_bytes);
                let tick = self.futures.touch(&id, bytes, bytes);
                if let Some(resident) = self.slots.get_mut(&id).and_then(Slot::resident_mut) {
                    resident.tick = tick;
                }
                return;
            }
        }
    }
}

/// A history that cannot be read: parks its instance, or ends what was asked of a finished one; its
/// neighbours are not disturbed.
fn damage_of(stored: &StoredInstance) -> Option<Unread> {
    let text = stored.history.as_ref().err()?.clone();
    Some(Unread {
        is_damage: true,
        text,
    })
}

fn restore(StoredInstance { row, history }: StoredInstance) -> Resident {
    let Ok(history) = history else {
        return Resident::new(Orchestration::new(row), None);
    };
    // A finished one is read without its history, unless a rewind asked for it.
    let is_read = !row.status.is_final() || !history.is_empty();
    let orchestration = match history.is_empty() {
        true => fresh(row),
        false => Orchestration::fold(row, &history),
    };
    Resident::new(orchestration, is_read.then_some(history))
}
