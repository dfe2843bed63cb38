//! What waits for an instance, and who handles it.

use dalsegno_core::message::Target;
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::store::Op;
use dalsegno_core::{InstanceId, Message};

use super::Partition;
use super::job::Job;
use super::remote::ends_away_turn;
use super::slot::{Item, Slot, SlotState};
use crate::input::{Load, Loaded};
use crate::turn::Turn;

impl Partition {
    /// Puts something into an instance's queue; asks the store for the instance if need be.
    pub(super) fn push_item(&mut self, id: InstanceId, item: Item) {
        let mut load = None;
        let slot = self.slots.entry(id.clone()).or_insert_with(|| {
            load = Some(Load::Instance(id.clone()));
            Slot::new(SlotState::Loading)
        });
        if slot.queue.is_empty() {
            // Most have one thing at a time, and there may be very many of them.
            slot.queue.reserve_exact(1);
        }
        slot.queue.push_back(item);
        if let Some(load) = load {
            self.outbox.loads.push(load);
        }
        self.make_ready(&id);
    }

    /// Puts a slot into the ready list unless it is there, waits for the store, or runs.
    pub(super) fn make_ready(&mut self, id: &InstanceId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let can_run = !matches!(slot.state, SlotState::Loading | SlotState::Running);
        if can_run && !slot.is_queued && !slot.queue.is_empty() {
            slot.is_queued = true;
            self.ready.push_back(Target::Orchestration(id.clone()));
        }
    }

    pub(super) fn take_loaded(&mut self, loaded: Loaded) {
        match loaded {
            Loaded::Instance { id, found } => self.take_loaded_instance(&id, found),
            Loaded::Execution { key, found } => self.take_loaded_execution(key, found),
            Loaded::Entity { id, found } => self.take_loaded_entity(&id, found),
        }
    }

    /// Handles what waits for an instance until code has to run or nothing is left.
    pub(super) fn process_instance(&mut self, id: &InstanceId) -> Option<Job> {
        loop {
            let slot = self.slots.get_mut(id)?;
            slot.is_queued = false;
            if matches!(slot.state, SlotState::Loading | SlotState::Running) {
                return None;
            }
            if matches!(slot.state, SlotState::Damaged(_)) {
                self.refuse_commands(id);
                return None;
            }
            match slot.queue.front() {
                None => {
                    self.rest(id);
                    return None;
                }
                Some(Item::Message { .. }) if matches!(slot.state, SlotState::Vacant) => {
                    self.meet_vacancy(id)
                }
                Some(Item::Message {
                    message: Message::Start(_),
                    ..
                }) => self.meet_start(id),
                Some(Item::Message {
                    message: Message::Rewind { .. },
                    ..
                }) => self.meet_rewind(id),
                Some(Item::Message { message, .. }) if slot.is_away() && !ends_away_turn(slot, message) => {
                    self.store_while_away(id);
                }
                Some(Item::Message { .. }) => {
                    self.withdraw(id);
                    if let Some(job) = self.begin_turn(id) {
                        return Some(job);
                    }
                }
                Some(Item::Command(_)) => self.meet_command(id),
                Some(Item::TryAgain) => {
                    slot.queue.pop_front();
                    if !self.is_poisoned(id) {
                        self.unpark(id);
                    }
                }
            }
        }
    }

    fn meet_command(&mut self, id: &InstanceId) {
        let item = self.slots.get_mut(id).and_then(|slot| slot.queue.pop_front());
        if let Some(Item::Command(command)) = item {
            self.execute(id, command);
        }
    }

    /// A message for nobody: a start creates the instance, all else is dropped.
    fn meet_vacancy(&mut self, id: &InstanceId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        if let Some(Item::Message {
            message: Message::Start(_),
            ..
        }) = slot.queue.front()
        {
            return self.meet_start(id);
        }
        let Some(Item::Message {
            sequence,
            message,
            answer,
            ..
        }) = slot.queue.pop_front()
        else {
            return;
        };
        let mut turn = Turn::default();
        self.drop_message(sequence, &message, &mut turn);
        turn.effects.extend(answer);
        self.commit_slot(id, turn);
    }

    /// Removes what is stored of a message nobody wants, and answers a grant with a release.
    pub(super) fn drop_message(&mut self, sequence: Option<u64>, message: &Message, turn: &mut Turn) {
        self.counters.dropped_messages += 1;
        self.forget_message(sequence, message, turn);
        if let Message::LockGranted {
            execution,
            task,
            entities,
        } = message
        {
            for entity in entities {
                let unlock = Message::Unlock {
                    execution: *execution,
                    task: *task,
                };
                self.send(Target::Entity(entity.clone()), unlock, turn);
            }
        }
    }

    /// Deletes the rows that a message stands for.
    pub(super) fn forget_message(&mut self, sequence: Option<u64>, message: &Message, turn: &mut Turn) {
        if let Some(seq) = sequence.filter(|_| !planted::has(Bug::MessageRowKept)) {
            turn.ops.push(Op::DeleteMessage {
                partition: self.config.id,
                seq,
            });
        }
        match message {
            Message::TaskDone { execution, task, .. } => {
                turn.ops.push(Op::DeleteTask {
                    key: *execution,
                    task: *task,
                });
            }
            Message::ChildDone { execution, task, .. } => self.forget_child(*execution, *task, turn),
            Message::TimerFired { .. } if planted::has(Bug::TimerRowKept) => {}
            Message::TimerFired {
                execution,
                task,
                fire_at,
            } => {
                turn.ops.push(Op::DeleteTimer {
                    due: *fire_at,
                    key: *execution,
                    task: *task,
                });
            }
            _ => {}
        }
    }
}
