//! Turns whose code runs elsewhere: sent, answered, withdrawn.
//!
//! What such a turn tells of is stored before it is sent, so that whoever raised an event or
//! completed an activity gets an answer at once, however long the code takes or is missing. The
//! instance itself stays as it was until the answer is here: a turn that is out can be withdrawn
//! at any time, and after a crash it is simply sent again.

use dalsegno_core::message::Target;
use dalsegno_core::orchestration::Draft;
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::query::Status;
use dalsegno_core::store::{InstanceRow, Op};
use dalsegno_core::{Action, Event, EventKind, InstanceId, Message, TaskId};

use super::sizes::{TurnLimits, checked, fitting};
use super::slot::{AwayTurn, Item, Resident, Slot, put_back};
use super::turns::remember_events;
use super::{Partition, values};
use crate::executor::{TurnAddress, TurnAnswer, TurnSender};
use crate::record;
use crate::turn::{Effect, Reply, Turn};

/// Does this message end a turn that is out? All others wait until it is answered. A request to
/// cancel does so once: its code is to learn of it before it ends.
pub(super) fn ends_away_turn(slot: &Slot, message: &Message) -> bool {
    let parent = slot
        .resident()
        .and_then(|resident| resident.orchestration.row.parent.as_ref());
    if !message.is_for(parent) {
        return false;
    }
    match message {
        Message::Terminate { .. } | Message::Suspend { .. } => true,
        Message::Cancel { .. } => slot.resident().is_some_and(|resident| !is_cancelled(resident)),
        _ => false,
    }
}

/// Was a request to cancel taken, or is the code being told of one?
fn is_cancelled(resident: &Resident) -> bool {
    let is_request = |event: &Event| matches!(event.kind, EventKind::CancelRequested { .. });
    let away = resident.away.as_ref();
    resident.orchestration.cancel_request().is_some()
        || away.is_some_and(|away| away.draft.events.iter().any(is_request))
}

fn is_start(item: &Item) -> bool {
    matches!(
        item.as_message(),
        Some(Message::TimerFired {
            task: TaskId::START,
            ..
        })
    )
}

/// Where the message is that suspends or resumes the instance before anything ends it, or cancels
/// one that has not begun.
fn change_of_status(row: &InstanceRow, batch: &[Item]) -> Option<usize> {
    if row.parked.is_some() {
        return None;
    }
    let is_suspended = row.status == Status::Suspended;
    let decisive = |item: &Item| match item.as_message() {
        Some(message) if !message.is_for(row.parent.as_ref()) => false,
        Some(Message::Suspend { .. }) => !is_suspended,
        Some(Message::Resume { .. }) => is_suspended,
        Some(Message::Cancel { .. }) => row.status == Status::Pending,
        Some(Message::Terminate { .. }) => true,
        _ => false,
    };
    let at = batch.iter().position(decisive)?;
    (!matches!(batch[at].as_message(), Some(Message::Terminate { .. }))).then_some(at)
}

impl Partition {
    /// Does the code of this instance run elsewhere?
    pub(super) fn is_remote(&self, id: &InstanceId) -> bool {
        self.row(id)
            .is_some_and(|row| self.config.executor.is_remote(&row.name, row.version.as_deref()))
    }

    /// Stores what the turn tells of, then sends it.
    pub(super) fn send_away(
        &mut self,
        id: &InstanceId,
        draft: Draft,
        mut batch: Vec<Item>,
        (address, sender): (TurnAddress, TurnSender),
    ) {
        let mut turn = self.take_prelude(id);
        self.store_items(id, &mut batch, &mut turn);
        turn.effects.push(Effect::SendTurn(sender));
        if let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) {
            resident.away = Some(Box::new(AwayTurn {
                number: address.number,
                draft,
                batch,
            }));
        }
        self.commit_slot(id, turn);
    }

    /// What arrives while a turn is out is stored, answered, and waits for the next one.
    pub(super) fn store_while_away(&mut self, id: &InstanceId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let waits = |item: &&Item| match item.as_message() {
            None | Some(Message::Start(_) | Message::Rewind { .. }) => false,
            Some(message) => !ends_away_turn(slot, message),
        };
        let waiting = slot.queue.iter().take_while(waits).map(Item::as_message);
        let count = fitting(waiting, self.config.limits.turn_bytes_max);
        let mut items: Vec<Item> = slot.queue.drain(..count).collect();
        let mut turn = Turn::default();
        self.store_items(id, &mut items, &mut turn);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.held.extend(items);
        }
        self.commit_slot(id, turn);
    }

    /// Stores messages that are not stored yet, with the row where they or the start change it,
    /// and answers who sent them. A timer that fired has its row already.
    fn store_items(&mut self, id: &InstanceId, items: &mut [Item], turn: &mut Turn) {
        let inline_max = self.config.limits.payload_inline_bytes;
        let event_keys_max = self.config.limits.event_keys_max;
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        let row = &mut resident.orchestration.row;
        let is_marked = remember_events(row, items, event_keys_max);
        if std::mem::take(&mut resident.is_new) || is_marked {
            values::put_instance(row, row.apart, inline_max, &mut turn.ops);
        }
        for item in items {
            let Item::Message {
                sequence,
                message,
                answer,
                mark,
            } = item
            else {
                continue;
            };
            *mark = None;
            turn.effects.extend(answer.take());
            let has_row = matches!(message, Message::TimerFired { task, .. } if *task != TaskId::START);
            if sequence.is_none() && !has_row {
                self.forget_message(None, message, turn);
                let seq = self.config.numbers.next_message();
                let data = record::encode_message(&Target::Orchestration(id.clone()), message);
                if !planted::has(Bug::AwayMessagesNotStored) {
                    turn.ops.push(Op::PutMessage {
                        partition: self.config.id,
                        seq,
                        data,
                    });
                }
                *sequence = Some(seq);
            }
        }
    }

    /// Takes a turn back that is out, if one is: its messages wait again, its answer is dropped.
    pub(super) fn withdraw(&mut self, id: &InstanceId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let Some(away) = slot.resident_mut().and_then(|resident| resident.away.take()) else {
            return;
        };
        let is_kept = |_: &Item| !planted::has(Bug::WithdrawnTurnForgotten);
        for item in away.batch.into_iter().rev().filter(is_kept) {
            slot.held.push_front(item);
        }
        self.answer_now(Effect::WithdrawTurn(TurnAddress {
            instance: id.clone(),
            number: away.number,
        }));
    }

    /// The code has answered.
    pub(super) fn end_away_turn(&mut self, address: &TurnAddress, answer: TurnAnswer, reply: Reply<bool>) {
        let id = &address.instance;
        let slot = self.slots.get_mut(id);
        let away = slot.and_then(Slot::resident_mut).and_then(|resident| {
            let is_it = resident
                .away
                .as_ref()
                .is_some_and(|away| away.number == address.number || planted::has(Bug::StaleTurnTaken));
            resident.away.take_if(|_| is_it)
        });
        let Some(away) = away else {
            self.counters.dropped_messages += 1;
            return self.answer_now(reply.with(Ok(false)));
        };
        let AwayTurn { draft, batch, .. } = *away;
        self.free_held(id);
        match answer {
            TurnAnswer::Fault(fault) => {
                self.acquit(id);
                self.park(id, fault, batch);
            }
            TurnAnswer::Ran {
                actions,
                unread,
                events_taken,
                span,
            } => {
                self.note_span(id, span);
                if let Some((draft, batch)) = self.cut_draft(id, draft, batch, events_taken) {
                    self.conclude_away_turn(id, draft, batch, actions, unread);
                }
            }
        }
        self.answer_slot(id, reply.with(Ok(true)));
        self.end_turn(id);
    }

    fn conclude_away_turn(
        &mut self,
        id: &InstanceId,
        draft: Draft,
        batch: Vec<Item>,
        actions: Vec<Action>,
        unread: Vec<EventKind>,
    ) {
        let is_failure = |action: &Action| matches!(action, Action::Fail { .. });
        let given = batch.len();
        let (draft, batch) = match actions.iter().any(is_failure) {
            true => self.widen_draft(id, draft, batch),
            false => (draft, batch),
        };
        match checked(actions, &unread, TurnLimits::of(&self.config.limits, self.now)) {
            Ok(actions) => {
                let added = batch
                    .get(given..)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(Item::as_message);
                let unseen = added.filter_map(|message| match message {
                    Message::EventRaised { name, .. } => Some(name.clone()),
                    _ => None,
                });
                let unseen = unseen.collect();
                if let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) {
                    resident.unseen = unseen;
                }
                self.conclude(id, draft, batch, actions, Some(unread));
            }
            Err(fault) => {
                self.acquit(id);
                self.park(id, fault, batch);
            }
        }
    }

    /// What came while the turn was out is next.
    fn free_held(&mut self, id: &InstanceId) {
        if planted::has(Bug::HeldForgottenAfterAway) {
            return;
        }
        if let Some(slot) = self.slots.get_mut(id) {
            let held = std::mem::take(&mut slot.held);
            for item in held.into_iter().rev() {
                slot.queue.push_front(item);
            }
        }
    }

    /// The turn as it would have been with the events that the code has taken; the rest comes
    /// again. `None`: it has taken nothing, all of it comes again.
    fn cut_draft(
        &mut self,
        id: &InstanceId,
        draft: Draft,
        mut batch: Vec<Item>,
        events_taken: Option<usize>,
    ) -> Option<(Draft, Vec<Item>)> {
        let Some(taken) = events_taken.filter(|taken| *taken < draft.events.len()) else {
            return Some((draft, batch));
        };
        // The events are in the order of their messages, but for the start: it frees what came before.
        if let Some(at) = batch.iter().position(is_start) {
            batch[..=at].rotate_right(1);
        }
        let slot = self.slots.get_mut(id)?;
        let orchestration = &slot.resident()?.orchestration;
        let at = draft.events.first()?.at;
        let drafted =
            |count: usize| orchestration.draft(batch[..count].iter().filter_map(Item::as_message), at);
        let fits = (1..batch.len())
            .map(|count| (count, drafted(count)))
            .take_while(|(_, draft)| draft.events.len() <= taken)
            .last()
            .filter(|(_, draft)| !draft.events.is_empty());
        let count = fits.as_ref().map_or(0, |(count, _)| *count);
        let rest = batch.split_off(count);
        if !planted::has(Bug::RestOfTurnForgotten) {
            put_back(slot, rest);
        }
        fits.map(|(_, shorter)| (shorter, batch))
    }

    /// Whoever was told that an event is stored may rely on it, also when a failed instance is
    /// rewound: what came while its last turn was out is part of its history.
    fn widen_draft(&mut self, id: &InstanceId, draft: Draft, mut batch: Vec<Item>) -> (Draft, Vec<Item>) {
        let (Some(slot), Some(first)) = (self.slots.get_mut(id), draft.events.first()) else {
            return (draft, batch);
        };
        let at = first.at;
        // The time of the turn is known at the worker: a timer of later would change it.
        let fits = |item: &&Item| match item.as_message() {
            Some(Message::TimerFired { fire_at, .. }) => *fire_at <= at,
            Some(
                Message::EventRaised { .. }
                | Message::TaskDone { .. }
                | Message::ChildDone { .. }
                | Message::EntityAnswered { .. }
                | Message::LockGranted { .. },
            ) => true,
            _ => false,
        };
        let count = slot.queue.iter().take_while(fits).count();
        batch.extend(slot.queue.drain(..count));
        let Some(resident) = slot.resident() else {
            return (draft, batch);
        };
        let messages = batch.iter().filter_map(Item::as_message);
        (resident.orchestration.draft(messages, at), batch)
    }

    /// A suspension counts at once, and so does its end, and the end of one that was cancelled before
    /// it began: none waits for code that runs elsewhere and is sent what else there is.
    pub(super) fn change_of_status_first(&mut self, id: &InstanceId, mut batch: Vec<Item>) -> Vec<Item> {
        let row = self.row(id);
        let Some(at) = row.and_then(|row| change_of_status(row, &batch)) else {
            return batch;
        };
        if !self.is_remote(id) {
            return batch;
        }
        let change = batch.remove(at);
        if let Some(slot) = self.slots.get_mut(id) {
            put_back(slot, batch);
        }
        vec![change]
    }

    /// Code that runs elsewhere is sent the history from memory, where it has to be complete.
    pub(super) fn note_history(&mut self, id: &InstanceId, events: &[Event]) {
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        if resident.orchestration.row.status.is_final() {
            return;
        }
        match (&mut resident.live, &mut resident.history) {
            (Some(live), _) => live.record(events),
            (None, Some(history)) => history.extend_from_slice(events),
            (None, None) => {}
        }
    }
}
