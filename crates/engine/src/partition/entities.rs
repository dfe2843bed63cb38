//! Turns of entities: one operation at a time, locks in order, everything in one commit.

use std::collections::VecDeque;

use dalsegno_core::entity::{Entity, withdraws};
use dalsegno_core::message::{Caller, StartRequest, Target};
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::store::{EntityRow, Op};
use dalsegno_core::{EntityId, Message};

use super::slot::Item;
use super::{Partition, values};
use crate::executor::{EntityEffect, OperationOutcome, OperationRequest, OperationRun};
use crate::input::{Command, EntityInMemory, Load};
use crate::record;
use crate::request::{RequestError, RequestErrorKind};
use crate::turn::{Effect, Reply, Turn};

/// The place of one entity.
#[derive(Debug)]
pub(super) struct EntitySlot {
    /// `None` while the store is asked.
    entity: Option<Entity>,
    queue: VecDeque<Item>,
    /// The operation under way, if it does I/O; stored.
    running: Option<Item>,
    is_queued: bool,
    /// The row is in the store.
    is_stored: bool,
}

impl Partition {
    pub(super) fn push_entity_item(&mut self, id: EntityId, item: Item) {
        let mut is_new = false;
        let slot = self.entities.entry(id.clone()).or_insert_with(|| {
            is_new = true;
            EntitySlot {
                entity: None,
                queue: VecDeque::new(),
                running: None,
                is_queued: false,
                is_stored: false,
            }
        });
        slot.queue.push_back(item);
        if is_new {
            self.outbox.loads.push(Load::Entity(id));
        } else {
            self.make_entity_ready(&id);
        }
    }

    fn make_entity_ready(&mut self, id: &EntityId) {
        let Some(slot) = self.entities.get_mut(id) else {
            return;
        };
        if slot.entity.is_some() && !slot.is_queued && !slot.queue.is_empty() {
            slot.is_queued = true;
            self.ready.push_back(Target::Entity(id.clone()));
        }
    }

    pub(super) fn restore_entity(&mut self, row: EntityRow) -> Result<(), record::RecordError> {
        let holder = record::decode_holder(&row.queue)?;
        let id = row.id.clone();
        let slot = EntitySlot {
            entity: Some(Entity {
                row,
                holder,
                is_busy: false,
            }),
            queue: VecDeque::new(),
            running: None,
            is_queued: false,
            is_stored: true,
        };
        self.entities.insert(id, slot);
        Ok(())
    }

    pub(super) fn take_loaded_entity(&mut self, id: &EntityId, found: Result<Option<EntityRow>, String>) {
        let partition = self.config.id;
        let Some(slot) = self.entities.get_mut(id) else {
            return;
        };
        if slot.entity.is_some() {
            return;
        }
        let row = match found {
            Ok(row) => row,
            Err(error) => {
                tracing::error!(entity = %id, error, "cannot read an entity; trying again");
                self.outbox.loads.push(Load::Entity(id.clone()));
                return;
            }
        };
        slot.is_stored = row.is_some();
        let row = row.unwrap_or_else(|| EntityRow {
            id: id.clone(),
            partition,
            last_operation: dalsegno_core::Timestamp::from_micros(0),
            state: None,
            is_state_apart: false,
            queue: Vec::new(),
        });
        let holder = record::decode_holder(&row.queue).unwrap_or_default();
        slot.entity = Some(Entity {
            row,
            holder,
            is_busy: false,
        });
        self.make_entity_ready(id);
    }

    pub(super) fn take_signal(&mut self, entity: EntityId, message: Message, reply: Reply<()>) {
        if let Message::Operation { at: Some(at), .. } = &message
            && *at > self.now
        {
            let mut turn = Turn {
                effects: vec![reply.with(Ok(()))],
                ..Turn::default()
            };
            self.send(Target::Entity(entity), message, &mut turn);
            self.push_turn(turn);
            return;
        }
        let answer = Some(reply.with(Ok(())));
        self.push_entity_item(
            entity,
            Item::Message {
                sequence: None,
                message,
                answer,
            },
        );
    }

    /// Takes what may be taken now, all of it in one turn.
    pub(super) fn process_entity(&mut self, id: &EntityId) {
        let Some(slot) = self.entities.get_mut(id) else {
            return;
        };
        slot.is_queued = false;
        let Some(before) = slot.entity.clone() else { return };
        let mut turn = Turn::default();
        while let Some(item) = self.next_entity_item(id) {
            match item {
                Item::Command(command) => self.execute_entity_command(id, command, &mut turn),
                Item::Message {
                    sequence,
                    message,
                    answer,
                } => {
                    if !self.take_entity_message(id, sequence, message, answer, &mut turn) {
                        break;
                    }
                }
                Item::TryAgain => {}
            }
        }
        self.store_waiting(id, &mut turn);
        self.write_entity(id, &before, &mut turn);
        self.push_turn(turn);
    }

    fn next_entity_item(&mut self, id: &EntityId) -> Option<Item> {
        let slot = self.entities.get_mut(id)?;
        if matches!(slot.queue.front(), Some(Item::Command(_))) {
            return slot.queue.pop_front();
        }
        let entity = slot.entity.as_ref()?;
        let messages = slot.queue.iter().map_while(Item::as_message);
        // A command must not wait for a lock: behind it waits the message that ends the lock.
        let command = |item: &Item| matches!(item, Item::Command(_));
        let next = match entity.next(messages) {
            None if entity.holder.is_some() => slot.queue.iter().position(command)?,
            next => next?,
        };
        slot.queue.remove(next)
    }

    /// Handles one message; `false` when nobody here knows the entity and it has to wait.
    fn take_entity_message(
        &mut self,
        id: &EntityId,
        sequence: Option<u64>,
        message: Message,
        answer: Option<Effect>,
        turn: &mut Turn,
    ) -> bool {
        match message {
            Message::Operation {
                operation,
                input,
                caller,
                at,
            } => {
                let request = OperationRequest {
                    operation: operation.clone(),
                    input: input.clone(),
                };
                let run = self.run_operation(id, request);
                let again = Message::Operation {
                    operation,
                    input,
                    caller: caller.clone(),
                    at,
                };
                match run {
                    None => {
                        self.put_back_entity(
                            id,
                            Item::Message {
                                sequence,
                                message: again,
                                answer,
                            },
                        );
                        return false;
                    }
                    Some(OperationRun::Done(outcome)) => {
                        turn.effects.extend(answer);
                        self.forget_entity_message(sequence, turn);
                        self.apply_operation(id, caller, outcome, turn);
                    }
                    Some(OperationRun::Later(future)) => {
                        turn.effects.extend(answer);
                        let sequence = self.store_entity_message(id, sequence, &again, turn);
                        turn.effects.push(Effect::RunOperation {
                            entity: id.clone(),
                            future,
                        });
                        self.set_running(id, Item::message(Some(sequence), again));
                    }
                }
            }
            Message::Lock {
                caller,
                entities,
                position,
            } => {
                self.forget_entity_message(sequence, turn);
                let passed = self
                    .entity_mut(id)
                    .map(|entity| entity.lock(caller, entities, position));
                if let Some((target, message)) = passed {
                    self.send(target, message, turn);
                }
            }
            Message::Unlock { .. } => {
                self.forget_entity_message(sequence, turn);
                self.unlock(id, &message, turn);
            }
            _ => self.forget_entity_message(sequence, turn),
        }
        true
    }

    fn entity_mut(&mut self, id: &EntityId) -> Option<&mut Entity> {
        self.entities.get_mut(id).and_then(|slot| slot.entity.as_mut())
    }

    fn put_back_entity(&mut self, id: &EntityId, item: Item) {
        if let Some(slot) = self.entities.get_mut(id) {
            slot.queue.push_front(item);
        }
    }

    fn set_running(&mut self, id: &EntityId, item: Item) {
        if let Some(slot) = self.entities.get_mut(id) {
            slot.running = Some(item);
            if let Some(entity) = &mut slot.entity {
                entity.is_busy = true;
            }
        }
    }

    fn run_operation(&mut self, id: &EntityId, request: OperationRequest) -> Option<OperationRun> {
        let entity = self.entities.get(id).and_then(|slot| slot.entity.as_ref())?;
        self.config
            .executor
            .run_operation(id, entity.row.state.as_ref(), request, self.now)
    }

    fn forget_entity_message(&self, sequence: Option<u64>, turn: &mut Turn) {
        if let Some(seq) = sequence {
            turn.ops.push(Op::DeleteMessage {
                partition: self.config.id,
                seq,
            });
        }
    }

    /// Takes the lock back, or withdraws the request for it.
    fn unlock(&mut self, id: &EntityId, unlock: &Message, turn: &mut Turn) {
        let Some(slot) = self.entities.get_mut(id) else {
            return;
        };
        if slot.entity.as_mut().is_some_and(|entity| entity.unlock(unlock)) {
            return;
        }
        let waiting = slot.queue.iter().position(|item| {
            item.as_message()
                .is_some_and(|message| withdraws(unlock, message))
        });
        if let Some(Item::Message { sequence, .. }) = waiting.and_then(|at| slot.queue.remove(at)) {
            self.forget_entity_message(sequence, turn);
        }
    }

    /// State, answer and what the operation asked of others.
    fn apply_operation(
        &mut self,
        id: &EntityId,
        caller: Option<Caller>,
        outcome: OperationOutcome,
        turn: &mut Turn,
    ) {
        let now = self.now;
        let OperationOutcome {
            outcome,
            state,
            effects,
        } = outcome;
        let failed = outcome.is_err();
        if let Some(entity) = self.entity_mut(id) {
            entity.row.last_operation = now;
            if !failed || planted::has(Bug::FailedOperationKept) {
                entity.row.state = state;
            }
        }
        if let Some(caller) = caller {
            let message = Message::EntityAnswered {
                execution: caller.execution,
                task: caller.task,
                outcome,
            };
            self.send(Target::Orchestration(caller.instance), message, turn);
        }
        for effect in effects.into_iter().filter(|_| !failed) {
            let (target, message) = as_message(effect);
            self.send(target, message, turn);
        }
    }

    /// An operation that does I/O came back.
    pub(super) fn end_operation(&mut self, id: &EntityId, outcome: OperationOutcome) {
        let Some(slot) = self.entities.get_mut(id) else {
            return;
        };
        let Some(Item::Message {
            sequence, message, ..
        }) = slot.running.take()
        else {
            return;
        };
        let Some(entity) = &mut slot.entity else { return };
        entity.is_busy = false;
        let before = entity.clone();
        let Message::Operation { caller, .. } = message else {
            return;
        };
        let mut turn = Turn::default();
        self.forget_entity_message(sequence, &mut turn);
        self.apply_operation(id, caller, outcome, &mut turn);
        self.write_entity(id, &before, &mut turn);
        self.push_turn(turn);
        self.make_entity_ready(id);
    }

    /// What has to wait is stored, and its senders are answered.
    fn store_waiting(&mut self, id: &EntityId, turn: &mut Turn) {
        let Some(slot) = self.entities.get_mut(id) else {
            return;
        };
        let mut queue = std::mem::take(&mut slot.queue);
        for item in &mut queue {
            if let Item::Message {
                sequence,
                message,
                answer,
            } = item
            {
                turn.effects.extend(answer.take());
                *sequence = Some(self.store_entity_message(id, *sequence, message, turn));
            }
        }
        if let Some(slot) = self.entities.get_mut(id) {
            slot.queue = queue;
        }
    }

    fn store_entity_message(
        &self,
        id: &EntityId,
        sequence: Option<u64>,
        message: &Message,
        turn: &mut Turn,
    ) -> u64 {
        sequence.unwrap_or_else(|| {
            let seq = self.config.numbers.next_message();
            let data = record::encode_message(&Target::Entity(id.clone()), message);
            turn.ops.push(Op::PutMessage {
                partition: self.config.id,
                seq,
                data,
            });
            seq
        })
    }

    fn write_entity(&mut self, id: &EntityId, before: &Entity, turn: &mut Turn) {
        let inline_max = self.config.limits.payload_inline_bytes;
        let Some(slot) = self.entities.get_mut(id) else {
            return;
        };
        let Some(entity) = &mut slot.entity else { return };
        if entity.row == before.row && entity.holder == before.holder {
            return;
        }
        if entity.is_vacant() {
            if slot.is_stored {
                turn.ops.push(Op::DeleteEntity { id: id.clone() });
            }
            slot.is_stored = false;
            entity.row.is_state_apart = false;
            return;
        }
        entity.row.queue = record::encode_holder(entity.holder.as_ref());
        if !planted::has(Bug::EntityNotStored) || slot.queue.is_empty() {
            values::put_entity(&mut entity.row, &before.row, inline_max, &mut turn.ops);
        }
        slot.is_stored = true;
    }

    pub(super) fn answer_entity(&mut self, id: &EntityId, reply: Reply<EntityInMemory>) {
        let known = self.entities.get(id).and_then(|slot| slot.entity.as_ref());
        let answer = match known {
            None => EntityInMemory::Elsewhere,
            Some(entity) if entity.is_vacant() => EntityInMemory::Resident(None),
            Some(entity) => EntityInMemory::Resident(Some(Box::new(entity.row.clone()))),
        };
        self.answer_now(reply.with(Ok(answer)));
    }

    fn execute_entity_command(&mut self, id: &EntityId, command: Command, turn: &mut Turn) {
        let Command::DeleteEntity { reply, .. } = command else {
            return;
        };
        let Some(entity) = self.entity_mut(id) else { return };
        if let Some(holder) = &entity.holder {
            let detail = format!(
                "entity {id} is locked by instance {}: end that instance first",
                holder.instance
            );
            let error = RequestError::new(RequestErrorKind::WrongState, detail).about(id);
            return turn.effects.push(reply.with(Err(error)));
        }
        let was_there = entity.row.state.take().is_some();
        turn.effects.push(reply.with(Ok(was_there)));
    }
}

fn as_message(effect: EntityEffect) -> (Target, Message) {
    match effect {
        EntityEffect::Signal {
            entity,
            operation,
            input,
            at,
        } => (
            Target::Entity(entity),
            Message::Operation {
                operation,
                input,
                caller: None,
                at,
            },
        ),
        EntityEffect::Start {
            name,
            version,
            instance,
            input,
        } => {
            let request = StartRequest {
                name,
                version,
                input,
                parent: None,
                reuse: Default::default(),
            };
            (Target::Orchestration(instance), Message::Start(Box::new(request)))
        }
    }
}
