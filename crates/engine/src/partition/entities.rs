//! Turns of entities: one operation at a time, locks in order, everything in one commit.

use std::collections::VecDeque;

use dalsegno_core::entity::{Entity, withdraws};
use dalsegno_core::message::{Caller, StartRequest, Target};
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::store::{EntityRow, Op};
use dalsegno_core::{EntityId, Failure, Fault, Message, TraceContext};
use futures::FutureExt;

use super::entity_cache::EntityUse;
use super::job::{Job, OperationJob, Running};
use super::sizes::{Sizes, checked_operation};
use super::slot::Item;
use super::{Partition, values};
use crate::executor::{EntityEffect, OperationOutcome, OperationRequest, OperationRun, OperationsEnded};
use crate::input::{Command, EntityInMemory, Load, Unread};
use crate::record;
use crate::request::{EntityQueue, EntityWaiter, RequestError, RequestErrorKind};
use crate::turn::{Effect, Reply, Turn, op_bytes};

/// So many of those that stand before an entity are told one by one.
const WAITERS_TOLD_MAX: usize = 100;

/// The place of one entity.
#[derive(Debug)]
pub(super) struct EntitySlot {
    /// `None` while the store is asked.
    pub(super) entity: Option<Entity>,
    queue: VecDeque<Item>,
    /// The operation under way, if it does I/O, or those that are elsewhere; stored.
    running: Vec<Item>,
    is_queued: bool,
    /// The row is in the store.
    is_stored: bool,
    pub(super) last_use: EntityUse,
}

impl EntitySlot {
    /// Nobody waits for it or holds it, and the store has all of it.
    pub(super) fn is_idle(&self) -> bool {
        let is_free = |entity: &Entity| entity.holder.is_none() && !entity.is_busy && entity.kills == 0;
        let is_free = self.entity.as_ref().is_some_and(is_free);
        is_free && self.queue.is_empty() && self.running.is_empty() && !self.is_queued
    }
}

impl EntitySlot {
    /// Who has it locked.
    pub(super) fn holder(&self) -> Option<&Caller> {
        self.entity.as_ref()?.holder.as_ref()
    }

    fn queue_told(&self) -> EntityQueue {
        let running = self.running.iter().map(|item| (item, true));
        let waiting = self.queue.iter().map(|item| (item, false));
        let all = running.chain(waiting);
        let all = all.filter_map(|(item, is_running)| waiter(item.as_message()?, is_running));
        let mut queue = EntityQueue::default();
        for one in all {
            queue.count += 1;
            if queue.first.len() < WAITERS_TOLD_MAX {
                queue.first.push(one);
            }
        }
        queue
    }
}

/// Who stands there with a message, if it is one to stand with.
fn waiter(message: &Message, is_running: bool) -> Option<EntityWaiter> {
    let (operation, caller) = match message {
        Message::Operation {
            operation, caller, ..
        } => (Some(operation.clone()), caller.as_ref()),
        Message::Lock { caller, .. } => (None, Some(caller)),
        _ => return None,
    };
    Some(EntityWaiter {
        operation,
        caller: caller.map(|caller| caller.instance.clone()),
        is_running,
    })
}

/// A turn of an entity: some operations in a row, one commit.
#[derive(Debug)]
pub(super) struct EntityTurn {
    id: EntityId,
    before: Entity,
    turn: Turn,
    /// Changes of the turn that are counted, and their bytes.
    counted: (usize, usize),
    /// The operation whose code runs.
    asked: Option<Asked>,
}

impl EntityTurn {
    /// Bytes of the changes so far. Each change is counted once.
    fn bytes(&mut self) -> usize {
        let (ops, bytes) = &mut self.counted;
        let fresh = self.turn.ops.get(*ops..).unwrap_or_default();
        *bytes += fresh.iter().map(op_bytes).sum::<usize>();
        *ops = self.turn.ops.len();
        *bytes
    }
}

#[derive(Debug)]
struct Asked {
    sequence: Option<u64>,
    message: Message,
    answer: Option<Effect>,
}

impl Asked {
    fn into_item(self) -> Item {
        Item::Message {
            sequence: self.sequence,
            message: self.message,
            answer: self.answer,
            mark: None,
        }
    }
}

impl Partition {
    pub(super) fn push_entity_item(&mut self, id: EntityId, item: Item) {
        let mut is_new = false;
        let slot = self.entities.entry(id.clone()).or_insert_with(|| {
            is_new = true;
            EntitySlot {
                entity: None,
                queue: VecDeque::new(),
                running: Vec::new(),
                is_queued: false,
                is_stored: false,
                last_use: EntityUse::default(),
            }
        });
        slot.queue.push_back(item);
        if is_new {
            self.outbox.loads.push(Load::Entity(id));
        } else if self.damaged_entities.contains_key(&id) {
            self.store_for_damaged(&id);
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
        let (holder, kills) = record::decode_holder(&row.queue)?;
        let id = row.id.clone();
        let slot = EntitySlot {
            entity: Some(Entity {
                row,
                holder,
                is_busy: false,
                kills,
            }),
            queue: VecDeque::new(),
            running: Vec::new(),
            is_queued: false,
            is_stored: true,
            last_use: EntityUse::default(),
        };
        self.entities.insert(id, slot);
        Ok(())
    }

    pub(super) fn take_loaded_entity(&mut self, id: &EntityId, found: Result<Option<EntityRow>, Unread>) {
        let partition = self.config.id;
        let Some(slot) = self.entities.get_mut(id) else {
            return;
        };
        if slot.entity.is_some() {
            return;
        }
        let row = match found {
            Ok(row) => row,
            Err(unread) => return self.take_unread_entity(id, unread),
        };
        slot.is_stored = row.is_some();
        let row = row.unwrap_or_else(|| EntityRow::vacant(id.clone(), partition));
        let (holder, kills) = record::decode_holder(&row.queue).unwrap_or_default();
        slot.entity = Some(Entity {
            row,
            holder,
            is_busy: false,
            kills,
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
            if planted::has(Bug::DelayedSignalNotStored) {
                turn.ops.clear();
            }
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
                mark: None,
            },
        );
    }

    /// Takes what may be taken now, in one turn as far as that may grow, until code has to run.
    pub(super) fn process_entity(&mut self, id: &EntityId) -> Option<Job> {
        let slot = self.entities.get_mut(id)?;
        slot.is_queued = false;
        let before = slot.entity.clone()?;
        self.go_on_with_entity(EntityTurn {
            id: id.clone(),
            before,
            turn: Turn::default(),
            counted: (0, 0),
            asked: None,
        })
    }

    fn go_on_with_entity(&mut self, mut entity_turn: EntityTurn) -> Option<Job> {
        let id = entity_turn.id.clone();
        loop {
            if entity_turn.bytes() > self.config.limits.turn_bytes_max {
                self.write_entity_turn(entity_turn);
                self.make_entity_ready(&id);
                return None;
            }
            let Some(item) = self.next_entity_item(&id) else {
                break;
            };
            match item {
                Item::Command(command) => self.execute_entity_command(&id, command, &mut entity_turn.turn),
                Item::Message {
                    sequence,
                    message: message @ Message::Operation { .. },
                    answer,
                    ..
                } => {
                    let request = request_of(&message)?;
                    let asked = Asked {
                        sequence,
                        message,
                        answer,
                    };
                    if self.config.executor.is_remote_entity(id.name()) {
                        self.send_operations(&mut entity_turn, asked);
                        continue;
                    }
                    if self.takes_suspicion(&id) {
                        self.put_back_entity(&id, asked.into_item());
                        if self.count_entity_kill(&id) {
                            let number = self.end_entity_turn(entity_turn);
                            self.reload_entity(&id, number);
                            return None;
                        }
                        continue;
                    }
                    let job = self.operation_job(&id, request)?;
                    entity_turn.asked = Some(asked);
                    if let Some(failure) = self.poison_of(&id) {
                        self.fail_operation(&mut entity_turn, failure);
                        continue;
                    }
                    self.running = Some(Running::Operation(entity_turn));
                    return Some(Job::Operation(job));
                }
                Item::Message {
                    sequence, message, ..
                } => {
                    self.take_entity_message(&id, sequence, message, &mut entity_turn.turn);
                }
                Item::TryAgain => {}
            }
        }
        self.end_entity_turn(entity_turn);
        None
    }

    fn operation_job(&self, id: &EntityId, request: OperationRequest) -> Option<OperationJob> {
        let entity = self.entities.get(id).and_then(|slot| slot.entity.as_ref())?;
        Some(OperationJob {
            entity: id.clone(),
            state: entity.row.state.clone(),
            request,
            now: self.now,
        })
    }

    /// The operation was run, or begins, or waits until somebody knows the entity.
    pub(super) fn finish_operation(
        &mut self,
        mut entity_turn: EntityTurn,
        run: Option<OperationRun>,
    ) -> Option<Job> {
        let asked = entity_turn.asked.take()?;
        let Some(run) = run else {
            self.put_back_entity(&entity_turn.id, asked.into_item());
            self.end_entity_turn(entity_turn);
            return None;
        };
        let Asked {
            sequence,
            message,
            answer,
        } = asked;
        let EntityTurn { id, turn, .. } = &mut entity_turn;
        match run {
            OperationRun::Done(outcome) => {
                turn.effects.extend(answer);
                self.forget_entity_message(sequence, turn);
                let was_suspect = self.entity_mut(id).is_some_and(|entity| entity.kills > 0);
                self.apply_operation(id, origin_of(message), outcome, turn);
                if was_suspect {
                    // The next one may be what kills: it must not take this one with it.
                    let id = entity_turn.id.clone();
                    let number = self.end_entity_turn(entity_turn);
                    self.reload_entity(&id, number);
                    return None;
                }
            }
            OperationRun::Later(future) => {
                turn.effects.extend(answer);
                let sequence = self.store_entity_message(id, sequence, &message, turn);
                turn.effects.push(Effect::RunOperation {
                    entity: id.clone(),
                    future: Box::pin(future.map(OperationsEnded::from)),
                });
                self.set_running(id, vec![Item::message(Some(sequence), message)]);
            }
        }
        self.go_on_with_entity(entity_turn)
    }

    /// Sends an operation to where the entity's code is, together with those that may follow it.
    fn send_operations(&mut self, entity_turn: &mut EntityTurn, first: Asked) {
        let EntityTurn { id, turn, .. } = entity_turn;
        let mut items = vec![first.into_item()];
        let most = self.config.limits.entity_batch_max;
        while items.len() < most
            && let Some(item) = self.next_operation(id)
        {
            items.push(item);
        }
        for item in &mut items {
            if let Item::Message {
                sequence,
                message,
                answer,
                ..
            } = item
            {
                turn.effects.extend(answer.take());
                *sequence = Some(self.store_entity_message(id, *sequence, message, turn));
            }
        }
        let requests = items
            .iter()
            .filter_map(Item::as_message)
            .filter_map(request_of)
            .collect();
        let state = self.entity_mut(id).and_then(|entity| entity.row.state.clone());
        let executor = &self.config.executor;
        match executor.run_operations(id, state.as_ref(), requests, self.now) {
            Some(future) => {
                turn.effects.push(Effect::RunOperation {
                    entity: id.clone(),
                    future,
                });
                self.set_running(id, items);
            }
            None => unreachable!("an executor that has an entity elsewhere runs its operations there"),
        }
    }

    /// The next item if it is an operation: others end a batch.
    fn next_operation(&mut self, id: &EntityId) -> Option<Item> {
        let slot = self.entities.get_mut(id)?;
        let messages = slot.queue.iter().map_while(Item::as_message);
        let next = slot.entity.as_ref()?.next(messages)?;
        let is_operation = |item: &Item| matches!(item.as_message(), Some(Message::Operation { .. }));
        slot.queue.get(next).filter(|item| is_operation(item))?;
        slot.queue.remove(next)
    }

    /// The operation's code does not come back: it has failed, and the entity goes on.
    pub(super) fn abandon_operation(&mut self, mut entity_turn: EntityTurn, fault: &Fault) {
        let failure = Failure::new(fault.kind.as_str(), fault.message.clone());
        self.fail_operation(&mut entity_turn, failure);
        let id = entity_turn.id.clone();
        self.end_entity_turn(entity_turn);
        self.make_entity_ready(&id);
    }

    /// The operation was asked for and is not run, or not to its end.
    fn fail_operation(&mut self, entity_turn: &mut EntityTurn, failure: Failure) {
        let EntityTurn { id, turn, asked, .. } = entity_turn;
        let Some(asked) = asked.take() else { return };
        tracing::error!(entity = %id, %failure, "an operation was given up");
        turn.effects.extend(asked.answer);
        self.forget_entity_message(asked.sequence, turn);
        let outcome = OperationOutcome {
            outcome: Err(failure),
            state: None,
            effects: Vec::new(),
        };
        self.apply_operation(id, origin_of(asked.message), outcome, turn);
    }

    /// Leaves memory and is read again once this turn is durable; what waits for it stays.
    fn reload_entity(&mut self, id: &EntityId, turn: u64) {
        if let Some(slot) = self.entities.get_mut(id) {
            slot.entity = None;
        }
        self.reloads.push_back((turn, Load::Entity(id.clone())));
        self.answer_now(Effect::Nudge);
    }

    fn end_entity_turn(&mut self, mut entity_turn: EntityTurn) -> u64 {
        self.store_waiting(&entity_turn.id, &mut entity_turn.turn);
        self.write_entity_turn(entity_turn)
    }

    /// Commits what was done; what waits is left for the next turn.
    fn write_entity_turn(&mut self, entity_turn: EntityTurn) -> u64 {
        let EntityTurn {
            id,
            before,
            mut turn,
            counted: _,
            asked: _,
        } = entity_turn;
        self.write_entity(&id, &before, &mut turn);
        let number = self.push_turn(turn);
        self.note_entity_use(&id, number);
        number
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

    fn take_entity_message(
        &mut self,
        id: &EntityId,
        sequence: Option<u64>,
        message: Message,
        turn: &mut Turn,
    ) {
        self.forget_entity_message(sequence, turn);
        match message {
            Message::Lock {
                caller,
                entities,
                position,
            } => {
                let passed = self
                    .entity_mut(id)
                    .map(|entity| entity.lock(caller, entities, position));
                if let Some((target, message)) = passed {
                    self.send(target, message, turn);
                }
            }
            Message::Unlock { .. } => self.unlock(id, &message, turn),
            _ => {}
        }
    }

    /// Takes the commands out of what waits for an entity.
    pub(super) fn take_entity_commands(&mut self, id: &EntityId) -> Vec<Command> {
        let mut commands = Vec::new();
        if let Some(slot) = self.entities.get_mut(id) {
            for item in std::mem::take(&mut slot.queue) {
                match item {
                    Item::Command(command) => commands.push(command),
                    item => slot.queue.push_back(item),
                }
            }
        }
        commands
    }

    pub(super) fn entity_mut(&mut self, id: &EntityId) -> Option<&mut Entity> {
        self.entities.get_mut(id).and_then(|slot| slot.entity.as_mut())
    }

    fn put_back_entity(&mut self, id: &EntityId, item: Item) {
        if let Some(slot) = self.entities.get_mut(id) {
            slot.queue.push_front(item);
        }
    }

    fn set_running(&mut self, id: &EntityId, items: Vec<Item>) {
        if let Some(slot) = self.entities.get_mut(id) {
            slot.running = items;
            if let Some(entity) = &mut slot.entity {
                entity.is_busy = true;
            }
        }
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
        (caller, trace): (Option<Caller>, Option<TraceContext>),
        outcome: OperationOutcome,
        turn: &mut Turn,
    ) {
        let now = self.now;
        let OperationOutcome {
            outcome,
            state,
            effects,
        } = checked_operation(outcome, Sizes::of(&self.config.limits), now);
        let failed = outcome.is_err();
        if let Some(entity) = self.entity_mut(id) {
            entity.row.last_operation = now;
            entity.kills = 0;
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
            let (target, message) = as_message(effect, trace.clone());
            self.send(target, message, turn);
        }
    }

    /// Operations that do I/O or are elsewhere came back. Those without an outcome are next again.
    pub(super) fn end_operations(&mut self, id: &EntityId, ended: OperationsEnded) {
        let OperationsEnded { outcomes, receipt } = ended;
        let mut turn = Turn::default();
        if receipt.is_requested() {
            turn.effects
                .push(Effect::Answer(Box::new(move || receipt.give())));
        }
        let Some(slot) = self.entities.get_mut(id).filter(|slot| !slot.running.is_empty()) else {
            turn.effects
                .into_iter()
                .for_each(|effect| self.answer_now(effect));
            return;
        };
        let mut running = std::mem::take(&mut slot.running);
        let rest = running.split_off(outcomes.len().min(running.len()));
        for item in rest.into_iter().rev() {
            slot.queue.push_front(item);
        }
        let Some(entity) = &mut slot.entity else { return };
        entity.is_busy = false;
        let before = entity.clone();
        for (item, outcome) in running.into_iter().zip(outcomes) {
            if let Item::Message {
                sequence, message, ..
            } = item
            {
                self.forget_entity_message(sequence, &mut turn);
                self.apply_operation(id, origin_of(message), outcome, &mut turn);
            }
        }
        self.write_entity(id, &before, &mut turn);
        let number = self.push_turn(turn);
        self.note_entity_use(id, number);
        self.make_entity_ready(id);
    }

    /// What has to wait is stored, and its senders are answered: in this turn, and in turns before it
    /// where that is too much for one.
    pub(super) fn store_waiting(&mut self, id: &EntityId, turn: &mut Turn) {
        let Some(slot) = self.entities.get_mut(id) else {
            return;
        };
        let mut queue = std::mem::take(&mut slot.queue);
        let (mut stored, mut bytes) = (Turn::default(), 0);
        for item in &mut queue {
            if let Item::Message {
                sequence,
                message,
                answer,
                ..
            } = item
            {
                let known = stored.ops.len();
                stored.effects.extend(answer.take());
                *sequence = Some(self.store_entity_message(id, *sequence, message, &mut stored));
                bytes += stored.ops[known..].iter().map(op_bytes).sum::<usize>();
                if bytes > self.config.limits.turn_bytes_max {
                    self.push_turn(std::mem::take(&mut stored));
                    bytes = 0;
                }
            }
        }
        turn.ops.extend(stored.ops);
        turn.effects.extend(stored.effects);
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
        if entity.row == before.row && entity.holder == before.holder && entity.kills == before.kills {
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
        entity.row.queue = record::encode_holder(entity.holder.as_ref(), entity.kills);
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

    pub(super) fn answer_entity_queue(&mut self, id: &EntityId, reply: Reply<EntityQueue>) {
        let queue = self.entities.get(id).map(EntitySlot::queue_told);
        self.answer_now(reply.with(Ok(queue.unwrap_or_default())));
    }

    fn execute_entity_command(&mut self, id: &EntityId, command: Command, turn: &mut Turn) {
        let reply = match command {
            Command::DeleteEntity { reply, .. } => reply,
            Command::UnlockEntity { holder, reply, .. } => {
                return self.unlock_by_hand(id, &holder, reply, turn);
            }
            _ => return,
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

impl Partition {
    /// An operator takes the entity back from a holder. Another one than was looked at keeps it.
    fn unlock_by_hand(&mut self, id: &EntityId, holder: &Caller, reply: Reply<()>, turn: &mut Turn) {
        let Some(entity) = self.entity_mut(id) else { return };
        if entity.holder.as_ref() == Some(holder) {
            entity.holder = None;
            return turn.effects.push(reply.with(Ok(())));
        }
        let detail = format!(
            "entity {id} is not locked by instance {} any more",
            holder.instance
        );
        let error = RequestError::new(RequestErrorKind::WrongState, detail).about(id);
        turn.effects.push(reply.with(Err(error)));
    }
}

/// What a waiting operation asks for.
fn request_of(message: &Message) -> Option<OperationRequest> {
    match message {
        Message::Operation {
            operation,
            input,
            trace,
            ..
        } => Some(OperationRequest {
            operation: operation.clone(),
            input: input.clone(),
            trace: trace.clone(),
        }),
        _ => None,
    }
}

/// Who waits for the outcome of an operation, and the trace it is part of.
fn origin_of(operation: Message) -> (Option<Caller>, Option<TraceContext>) {
    match operation {
        Message::Operation { caller, trace, .. } => (caller, trace),
        _ => (None, None),
    }
}

/// What an operation asks of others is part of the trace that it is part of itself.
fn as_message(effect: EntityEffect, trace: Option<TraceContext>) -> (Target, Message) {
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
                trace,
            },
        ),
        EntityEffect::Start {
            name,
            version,
            instance,
            input,
        } => {
            let request = StartRequest {
                parent_name: None,
                depth: 0,
                name,
                version,
                input,
                parent: None,
                reuse: Default::default(),
                tags: Vec::new(),
                trace,
            };
            (Target::Orchestration(instance), Message::Start(Box::new(request)))
        }
    }
}
