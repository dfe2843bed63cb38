//! One entity between operations: its state and who holds it.
//!
//! Operations come one at a time. While a lock is held, only its holder's calls are taken; all
//! else waits in order. A lock of several entities travels from one to the next in id order, so
//! two orchestrations cannot deadlock over them.

use crate::id::EntityId;
use crate::message::{Caller, Message, Target};
use crate::store::EntityRow;

/// An entity in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// What is stored of it; `queue` is filled when it is written.
    pub row: EntityRow,
    /// Who holds it.
    pub holder: Option<Caller>,
    /// An operation that does I/O is under way.
    pub is_busy: bool,
    /// How often the process died while an operation of it ran.
    pub kills: u32,
}

impl Entity {
    /// Which of the waiting messages is next, if any may be taken now.
    pub fn next<'m>(&self, mut waiting: impl Iterator<Item = &'m Message>) -> Option<usize> {
        waiting.position(|message| self.may_take(message))
    }

    fn may_take(&self, message: &Message) -> bool {
        match message {
            Message::Unlock { .. } => true,
            Message::Operation { .. } | Message::Lock { .. } if self.is_busy => false,
            Message::Operation { caller, .. } => match &self.holder {
                None => true,
                Some(holder) => caller
                    .as_ref()
                    .is_some_and(|caller| caller.execution == holder.execution),
            },
            Message::Lock { .. } => self.holder.is_none(),
            _ => true,
        }
    }

    /// Gives the entity to a caller, and passes the request on or grants it.
    pub fn lock(&mut self, caller: Caller, entities: Vec<EntityId>, position: u32) -> (Target, Message) {
        self.holder = Some(caller.clone());
        let next = position + 1;
        match entities.get(next as usize) {
            Some(entity) => {
                let target = Target::Entity(entity.clone());
                (
                    target,
                    Message::Lock {
                        caller,
                        entities,
                        position: next,
                    },
                )
            }
            None => {
                let granted = Message::LockGranted {
                    execution: caller.execution,
                    task: caller.task,
                    entities,
                };
                (Target::Orchestration(caller.instance), granted)
            }
        }
    }

    /// Takes the entity back if that lock holds it; says whether it did.
    pub fn unlock(&mut self, unlock: &Message) -> bool {
        let held = self.holder.as_ref().is_some_and(|holder| is_of(unlock, holder));
        if held {
            self.holder = None;
        }
        held
    }

    /// Nothing of it has to be stored any more.
    pub fn is_vacant(&self) -> bool {
        self.row.state.is_none() && self.holder.is_none() && self.kills == 0
    }
}

/// Is this unlock for that lock?
fn is_of(unlock: &Message, caller: &Caller) -> bool {
    matches!(unlock, Message::Unlock { execution, task } if *execution == caller.execution && *task == caller.task)
}

/// Does this unlock withdraw that waiting lock request?
pub fn withdraws(unlock: &Message, waiting: &Message) -> bool {
    matches!(waiting, Message::Lock { caller, .. } if is_of(unlock, caller))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ExecutionKey, InstanceId, PartitionId, TaskId};
    use crate::time::Timestamp;

    fn caller(execution: u64) -> Caller {
        Caller {
            instance: InstanceId::trusted("holder"),
            execution: ExecutionKey(execution),
            task: TaskId(0),
        }
    }

    fn operation(caller: Option<Caller>) -> Message {
        Message::Operation {
            operation: "add".into(),
            input: None,
            caller,
            at: None,
            trace: None,
        }
    }

    fn entity() -> Entity {
        let row = EntityRow {
            id: EntityId::new("counter", "a").unwrap(),
            partition: PartitionId(0),
            last_operation: Timestamp::from_micros(0),
            state: None,
            is_state_apart: false,
            queue: Vec::new(),
        };
        Entity {
            row,
            holder: None,
            is_busy: false,
            kills: 0,
        }
    }

    #[test]
    fn while_locked_only_the_holder_is_served() {
        let mut entity = entity();
        entity.lock(caller(1), vec![entity.row.id.clone()], 0);
        let waiting = [
            operation(None),
            operation(Some(caller(2))),
            operation(Some(caller(1))),
        ];
        assert_eq!(entity.next(waiting.iter()), Some(2));
        assert_eq!(entity.next(waiting[..2].iter()), None);
        assert!(entity.unlock(&Message::Unlock {
            execution: ExecutionKey(1),
            task: TaskId(0)
        }));
        assert_eq!(entity.next(waiting.iter()), Some(0));
    }

    #[test]
    fn a_lock_travels_to_the_next_entity_and_the_last_one_grants() {
        let mut first = entity();
        let set = vec![first.row.id.clone(), EntityId::new("counter", "b").unwrap()];
        let (target, message) = first.lock(caller(1), set.clone(), 0);
        assert_eq!(target, Target::Entity(set[1].clone()));
        let Message::Lock {
            caller,
            entities,
            position,
        } = message
        else {
            panic!("{message:?}")
        };
        let (_, granted) = entity().lock(caller, entities, position);
        assert!(matches!(granted, Message::LockGranted { entities, .. } if entities == set));
    }

    #[test]
    fn an_unlock_of_another_execution_changes_nothing() {
        let mut entity = entity();
        entity.lock(caller(1), vec![entity.row.id.clone()], 0);
        assert!(!entity.unlock(&Message::Unlock {
            execution: ExecutionKey(2),
            task: TaskId(0)
        }));
        assert!(entity.holder.is_some());
    }
}
