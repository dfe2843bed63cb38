//! What cannot be read: for the moment, or because it is damaged.
//!
//! A read that failed is tried again after a pause. What is damaged is not: commands about it are
//! refused, and what waits for it stays stored until a backup takes its place.

use std::time::Duration;

use dalsegno_core::store::Op;
use dalsegno_core::{EntityId, InstanceId};

use super::Partition;
use super::slot::{Item, SlotState};
use crate::input::{Command, Load, Unread};
use crate::request::RequestError;
use crate::turn::{Effect, Turn};

/// Wait before something is read again.
const READ_AGAIN: Duration = Duration::from_millis(200);

impl Partition {
    /// Reads it again after a pause.
    pub(super) fn read_later(&mut self, load: Load, unread: &Unread) {
        tracing::warn!(?load, error = unread.text, "cannot read; trying again");
        self.rereads.push_back((self.now + READ_AGAIN, load));
        // The store may refuse because another process has opened it. A turn without changes asks
        // it, and ends this process if so; otherwise nobody would, for as long as reads fail.
        self.answer_now(Effect::Nudge);
    }

    /// Reads that are due again.
    pub(super) fn read_again(&mut self) {
        while self.rereads.front().is_some_and(|(due, _)| *due <= self.now) {
            if let Some((_, load)) = self.rereads.pop_front() {
                self.outbox.loads.push(load);
            }
        }
    }

    /// The row of an instance could not be read.
    pub(super) fn take_unread_instance(&mut self, id: &InstanceId, unread: Unread) {
        if !unread.is_damage {
            return self.read_later(Load::Instance(id.clone()), &unread);
        }
        tracing::error!(instance_id = %id, error = unread.text, "an instance is damaged");
        if let Some(slot) = self.slots.get_mut(id) {
            slot.state = SlotState::Damaged(unread.text);
            if let Some(key) = slot.read_again.take() {
                self.keys.remove(&key);
            }
        }
        self.refuse_commands(id);
    }

    /// Nothing but messages is left waiting for an instance that is damaged.
    pub(super) fn refuse_commands(&mut self, id: &InstanceId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let SlotState::Damaged(text) = &slot.state else {
            return;
        };
        let detail = format!("instance {id} cannot be read: {text}");
        let error = RequestError::damaged(detail).about(id);
        let mut turn = Turn::default();
        let queue = std::mem::take(&mut slot.queue);
        for item in queue {
            match item {
                Item::Command(Command::PurgeDamaged {
                    key, status, reply, ..
                }) if turn.ops.is_empty() => {
                    // What waits for it is dropped, as for any instance that is gone.
                    slot.state = SlotState::Vacant;
                    turn.ops.push(Op::DeleteExecution { key, id: id.clone() });
                    turn.moves.extend(status.map(|status| (Some(status), None)));
                    turn.effects.push(reply.with(Ok(())));
                }
                Item::Command(command) => turn.effects.extend(refusal(command, &error)),
                item => slot.queue.push_back(item),
            }
        }
        self.commit_slot(id, turn);
        self.make_ready(id);
        self.release_if_vacant(id);
    }

    /// An entity could not be read.
    pub(super) fn take_unread_entity(&mut self, id: &EntityId, unread: Unread) {
        if !unread.is_damage {
            return self.read_later(Load::Entity(id.clone()), &unread);
        }
        tracing::error!(entity = %id, error = unread.text, "an entity is damaged");
        self.damaged_entities.insert(id.clone(), unread.text);
        self.store_for_damaged(id);
    }

    /// What is for a damaged entity is stored, and its senders are answered.
    pub(super) fn store_for_damaged(&mut self, id: &EntityId) {
        let Some(text) = self.damaged_entities.get(id) else {
            return;
        };
        let detail = format!("entity {id} cannot be read: {text}");
        let error = RequestError::damaged(detail).about(id);
        let mut turn = Turn::default();
        for command in self.take_entity_commands(id) {
            turn.effects.extend(refusal(command, &error));
        }
        self.store_waiting(id, &mut turn);
        self.push_turn(turn);
    }
}

/// The answer to a command about something that cannot be read.
fn refusal(command: Command, error: &RequestError) -> Option<Effect> {
    let error = error.clone();
    Some(match command {
        Command::Start { reply, .. } => reply.with(Err(error)),
        Command::Raise { reply, .. }
        | Command::Terminate { reply, .. }
        | Command::Cancel { reply, .. }
        | Command::Suspend { reply, .. }
        | Command::Resume { reply, .. }
        | Command::Rewind { reply, .. }
        | Command::RetryNow { reply, .. }
        | Command::Purge { reply, .. }
        | Command::PurgeDamaged { reply, .. } => reply.with(Err(error)),
        Command::Explain { reply, .. } => reply.with(Err(error)),
        Command::Status { reply, .. } => reply.with(Err(error)),
        Command::Wait { reply, .. } => reply.with(Err(error)),
        Command::DeleteEntity { reply, .. } => reply.with(Err(error)),
        Command::UnlockEntity { reply, .. } => reply.with(Err(error)),
        _ => return None,
    })
}
