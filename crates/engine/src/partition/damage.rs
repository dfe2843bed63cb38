//! What cannot be read: for the moment, or because it is damaged.
//!
//! A read that failed is tried again after a pause. What is damaged is not: commands about it are
//! refused, and what waits for it stays stored until the hub is repaired.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::message::Caller;
use dalsegno_core::query::Status;
use dalsegno_core::store::Op;
use dalsegno_core::{EntityId, ExecutionKey, InstanceId, TaskId};

use super::Partition;
use super::slot::{Item, SlotState};
use crate::changes::RowChange;
use crate::input::{Command, Load, Unread};
use crate::request::RequestError;
use crate::turn::{Effect, Reply, Turn};

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

impl Partition {
    pub(super) fn take_repair_command(&mut self, command: Command) {
        match command {
            Command::Holds { key, reply } => {
                let holds = self.keys.contains_key(&key);
                self.answer_now(reply.with(Ok(holds)));
            }
            Command::HoldsEntity { entity, reply } => {
                let holds = self.entity_mut(&entity).is_some();
                self.answer_now(reply.with(Ok(holds)));
            }
            Command::NoteRemoved {
                key,
                id,
                status,
                reply,
            } => self.note_removed(key, id, status, reply),
            Command::Forget { key, reply } => self.forget(key, reply),
            Command::ReadDamagedAgain { reply } => self.read_damaged_again(reply),
            _ => {}
        }
    }

    /// The store has removed that row; the log says so too, and lists and counts follow.
    fn note_removed(
        &mut self,
        key: ExecutionKey,
        id: Option<InstanceId>,
        status: Option<Status>,
        reply: Reply<()>,
    ) {
        let mut turn = Turn::default();
        turn.moves.extend(status.map(|status| (Some(status), None)));
        turn.effects.push(reply.with(Ok(())));
        if let Some(id) = id.clone().filter(|_| self.config.changes.has_readers()) {
            let changes = self.config.changes.clone();
            let removed = move || changes.tell(Arc::new(RowChange::Removed(id)));
            turn.effects.push(Effect::Answer(Box::new(removed)));
        }
        // Rows are deleted by their key; the id is for those who read the log.
        let id = id.unwrap_or_else(|| InstanceId::trusted("unreadable"));
        turn.ops.push(Op::DeleteExecution { key, id });
        self.push_turn(turn);
    }

    /// Ends what is left of an execution that is no more: its activities, its retries, its locks.
    fn forget(&mut self, key: ExecutionKey, reply: Reply<()>) {
        let mut turn = Turn::default();
        let mut tasks: Vec<TaskId> = Vec::new();
        self.attempts.retain(|(of, task), _| {
            tasks.extend((*of == key).then_some(*task));
            *of != key
        });
        tasks.sort_unstable();
        for task in tasks {
            turn.ops.push(Op::DeleteTask { key, task });
            turn.effects.push(Effect::Cancel { key, task });
        }
        self.retries.retain(|(_, of, _), _| *of != key);
        let children = self.children.range((key, TaskId(0))..=(key, TaskId(u32::MAX)));
        let children: Vec<TaskId> = children.map(|((_, task), _)| *task).collect();
        for task in children {
            self.forget_child(key, task, &mut turn);
        }
        self.push_turn(turn);
        let mut locked: Vec<(EntityId, Caller)> = self
            .entities
            .iter()
            .filter_map(|(id, slot)| Some((id.clone(), slot.holder()?.clone())))
            .filter(|(_, holder)| holder.execution == key)
            .collect();
        locked.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (entity, holder) in locked {
            let unlock = Command::UnlockEntity {
                entity: entity.clone(),
                holder: Box::new(holder),
                reply: Reply::new(drop),
            };
            self.push_entity_item(entity, Item::Command(unlock));
        }
        self.answer_now(reply.with(Ok(())));
    }

    /// What waits for something that was damaged goes on, unless it still is.
    fn read_damaged_again(&mut self, reply: Reply<()>) {
        let mut instances = Vec::new();
        for (id, slot) in &mut self.slots {
            if matches!(slot.state, SlotState::Damaged(_)) {
                slot.state = SlotState::Loading;
                instances.push(id.clone());
            }
        }
        instances.sort_unstable();
        let mut entities: Vec<EntityId> = self.damaged_entities.drain().map(|(id, _)| id).collect();
        entities.sort_unstable();
        let loads = &mut self.outbox.loads;
        loads.extend(instances.into_iter().map(Load::Instance));
        loads.extend(entities.into_iter().map(Load::Entity));
        self.answer_now(reply.with(Ok(())));
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
        | Command::Purge { reply, .. } => reply.with(Err(error)),
        Command::Explain { reply, .. } => reply.with(Err(error)),
        Command::Status { reply, .. } => reply.with(Err(error)),
        Command::Wait { reply, .. } => reply.with(Err(error)),
        Command::DeleteEntity { reply, .. } => reply.with(Err(error)),
        Command::UnlockEntity { reply, .. } => reply.with(Err(error)),
        _ => return None,
    })
}
