//! Events that were accepted and that no code is given, because the instance ends before.
//!
//! Whoever raised one was told that it is stored. It is not lost without a trace: it is part of the
//! history, behind the end, and the status names it.

use std::collections::VecDeque;

use dalsegno_core::orchestration::{Fate, TurnResult};
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::{EventKind, InstanceId, Message};

use super::Partition;
use super::sizes::message_bytes;
use super::slot::{Item, Slot};
use crate::record;
use crate::turn::Turn;

impl Partition {
    /// Records what waits for an instance that ends in this turn, and notes its names in the row. Events
    /// of the batch count as taken by this.
    pub(super) fn record_late_events(
        &mut self,
        id: &InstanceId,
        (batch, fates): (&[Item], &mut [Fate]),
        result: &mut TurnResult,
        turn: &mut Turn,
    ) {
        let mut late = Vec::new();
        for (item, fate) in batch.iter().zip(fates) {
            if let Some(message @ Message::EventRaised { .. }) = item.as_message()
                && *fate == Fate::Dropped
            {
                *fate = Fate::Taken;
                late.push(message.clone());
            }
        }
        for item in self.take_late_items(id) {
            if let Item::Message {
                sequence,
                message,
                answer,
                ..
            } = item
            {
                self.forget_message(sequence, &message, turn);
                turn.effects.extend(answer);
                late.push(message);
            }
        }
        if planted::has(Bug::LateEventsDropped) {
            late.clear();
        }
        let bytes_max = self.config.limits.turn_bytes_max;
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        let unseen = std::mem::take(&mut resident.unseen);
        if late.is_empty() && unseen.is_empty() {
            return;
        }
        let row = &mut resident.orchestration.row;
        let mut extra = record::decode_extra(&row.extra).unwrap_or_default();
        unseen.iter().for_each(|name| extra.unconsumed.add(name));
        let mut bytes = 0;
        let mut events = Vec::with_capacity(late.len());
        for message in late {
            bytes += message_bytes(&message);
            if let Message::EventRaised { name, input, trace } = message {
                extra.unconsumed.add(&name);
                // Beyond what one turn holds it is listed without its data.
                let input = input.filter(|_| bytes <= bytes_max);
                events.push(EventKind::EventRaised { name, input, trace });
            }
        }
        row.extra = record::encode_extra(&extra);
        resident.orchestration.record_late(events, result);
    }

    /// The turn ends the instance without its code: what the turn has taken is in the history, and the
    /// code is not given it.
    pub(super) fn note_unseen(&mut self, id: &InstanceId, batch: &[Item], fates: &[Fate]) {
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        let taken = batch.iter().zip(fates).filter(|(_, fate)| **fate == Fate::Taken);
        let names = taken.filter_map(|(item, _)| match item.as_message() {
            Some(Message::EventRaised { name, .. }) => Some(name.clone()),
            _ => None,
        });
        resident.unseen = names.collect();
    }

    /// Takes the events out that wait for this instance, and not for the next one of its id.
    fn take_late_items(&mut self, id: &InstanceId) -> Vec<Item> {
        let Some(slot) = self.slots.get_mut(id) else {
            return Vec::new();
        };
        let is_event = |item: &Item| matches!(item.as_message(), Some(Message::EventRaised { .. }));
        let (mut taken, held) = partition(slot.held.drain(..), is_event);
        slot.held = held;
        let is_start = |item: &Item| matches!(item.as_message(), Some(Message::Start(_)));
        let end = slot.queue.iter().position(is_start).unwrap_or(slot.queue.len());
        let (late, mut others) = partition(slot.queue.drain(..end), is_event);
        others.append(&mut slot.queue);
        slot.queue = others;
        taken.extend(late);
        taken
    }
}

/// Those that are meant, and the others.
fn partition(
    items: impl Iterator<Item = Item>,
    is_meant: impl Fn(&Item) -> bool,
) -> (Vec<Item>, VecDeque<Item>) {
    let (mut meant, mut others) = (Vec::new(), VecDeque::new());
    for item in items {
        match is_meant(&item) {
            true => meant.push(item),
            false => others.push_back(item),
        }
    }
    (meant, others)
}
