//! Going back to before a failure.

use std::collections::VecDeque;
use std::sync::Arc;

use dalsegno_core::event::Parent;
use dalsegno_core::limits::COMMIT_BYTES_MAX;
use dalsegno_core::message::{StartRequest, Target};
use dalsegno_core::orchestration::{OpenTask, Orchestration};
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::query::Status;
use dalsegno_core::rewind::{as_message, before_failure};
use dalsegno_core::store::{Apart, Field, InstanceRow, Op, TimerRow};
use dalsegno_core::{Event, EventKind, ExecutionKey, Failure, InstanceId, Message, TaskId};

use super::commands::wrong_state;
use super::slot::{Item, Resident, Slot, SlotState};
use super::starts::fresh;
use super::tasks::put_child;
use super::traces::{follow, for_next_execution};
use super::{Partition, values};
use crate::input::{Command, Load};
use crate::record;
use crate::request::{RequestError, RequestErrorKind};
use crate::task::{ChildRecord, TaskRecord};
use crate::turn::{Effect, Reply, Turn};

impl Partition {
    /// A client rewinds a failed instance, or sets a parked one going again.
    pub(super) fn rewind(&mut self, id: &InstanceId, reason: Option<String>, reply: Reply<()>) {
        let Some(row) = self.row(id) else {
            return self.answer_slot(id, reply.with(Err(RequestError::not_found(id))));
        };
        match (row.status, &row.parked) {
            (_, Some(_)) => {
                self.answer_slot(id, reply.with(Ok(())));
                self.acquit(id);
                self.unpark(id);
            }
            (Status::Failed, None) if self.has_history(id) => match self.rewind_failed(id, reason, None) {
                Ok(mut turn) => {
                    turn.effects.push(reply.with(Ok(())));
                    self.commit_slot(id, turn);
                }
                Err(error) => self.answer_slot(id, reply.with(Err(error))),
            },
            (Status::Failed, None) => {
                let command = Command::Rewind {
                    id: id.clone(),
                    reason,
                    reply,
                };
                self.read_history_first(id, Item::Command(command));
            }
            (status, None) if status.is_final() => {
                let detail = format!(
                    "instance {id} is {}: only a failed one can be rewound",
                    status.as_str()
                );
                let error = RequestError::new(RequestErrorKind::Finished, detail).about(id);
                self.answer_slot(id, reply.with(Err(error)));
            }
            (status, None) => {
                let error = wrong_state(id, "rewind", status.as_str());
                self.answer_slot(id, reply.with(Err(error)));
            }
        }
    }

    /// The parent was rewound: a failed child follows it, a finished one answers again, and one
    /// that still runs has a new parent.
    pub(super) fn meet_rewind(&mut self, id: &InstanceId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let Some(Item::Message {
            sequence,
            message,
            answer,
            mark,
        }) = slot.queue.pop_front()
        else {
            return;
        };
        let own = slot.resident().filter(|resident| is_child_of(resident, &message));
        let status = own.map(|resident| resident.orchestration.row.status);
        let needs_history = status == Some(Status::Failed) && !self.has_history(id);
        if needs_history || self.lacks_output(id) {
            return self.read_history_first(
                id,
                Item::Message {
                    sequence,
                    message,
                    answer,
                    mark,
                },
            );
        }
        let Message::Rewind {
            reason,
            parent: Some(parent),
        } = message
        else {
            return;
        };
        let rewound = match status {
            Some(Status::Failed) => self.rewind_failed(id, reason, Some(parent.clone())).ok(),
            _ => None,
        };
        let mut turn = match rewound {
            Some(turn) => turn,
            None => self.adopt(id, &parent),
        };
        if let Some(seq) = sequence {
            turn.ops.push(Op::DeleteMessage {
                partition: self.config.id,
                seq,
            });
        }
        self.commit_slot(id, turn);
    }

    fn adopt(&mut self, id: &InstanceId, parent: &Parent) -> Turn {
        let mut turn = Turn::default();
        let inline_max = self.config.limits.payload_inline_bytes;
        let resident = self.slots.get_mut(id).and_then(Slot::resident_mut);
        let is_child = |resident: &&mut Resident| is_started_by(resident, parent);
        let outcome = match resident.filter(is_child) {
            None => Some(Err(Failure::new(
                "NotFound",
                format!("the child {id} was purged"),
            ))),
            Some(resident) => {
                let row = &mut resident.orchestration.row;
                row.parent = Some(parent.clone());
                values::put_instance(row, row.apart, inline_max, &mut turn.ops);
                outcome_of(row)
            }
        };
        if let Some(outcome) = outcome {
            let done = Message::ChildDone {
                execution: parent.execution,
                task: parent.task,
                outcome,
            };
            self.send(Target::Orchestration(parent.instance.clone()), done, &mut turn);
        }
        turn
    }

    fn has_history(&self, id: &InstanceId) -> bool {
        self.slots
            .get(id)
            .and_then(Slot::resident)
            .is_some_and(|resident| resident.history.is_some())
    }

    /// Its output is stored apart and was not read with the row.
    fn lacks_output(&self, id: &InstanceId) -> bool {
        self.row(id)
            .is_some_and(|row| row.missing().any(|field| field == Field::Output))
    }

    fn read_history_first(&mut self, id: &InstanceId, item: Item) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.queue.push_front(item);
        }
        self.reload_by(Load::History(id.clone()), id);
    }

    /// Puts a new execution in place of the failed one, with the history cut back, and opens again
    /// what is unanswered in it.
    fn rewind_failed(
        &mut self,
        id: &InstanceId,
        reason: Option<String>,
        parent: Option<Parent>,
    ) -> Result<Turn, RequestError> {
        let key = self.config.numbers.next_key();
        let now = self.now;
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return Err(RequestError::not_found(id));
        };
        let old = resident.orchestration.row.clone();
        let rewound = before_failure(resident.history.as_deref().unwrap_or_default());
        let mut history = rewound.history;
        check_bytes(id, &history)?;
        if !history.is_empty() {
            let kinds = [
                EventKind::OrchestratorStarted,
                EventKind::ExecutionRewound { reason },
                EventKind::OrchestratorCompleted,
            ];
            history.extend(kinds.map(|kind| Event {
                at: now.max(old.updated),
                kind,
            }));
        }
        let row = InstanceRow {
            key,
            status: Status::Running,
            updated: now.max(old.updated),
            completed: None,
            output: None,
            failure: None,
            parent: parent.or_else(|| old.parent.clone()),
            events: history.len() as u64,
            apart: Apart::default(),
            extra: for_next_execution(&old.extra),
            ..old.clone()
        };
        let mut orchestration = match history.is_empty() {
            true => fresh(row),
            false => Orchestration::fold(row, &history),
        };
        if orchestration.holds_locks() {
            let detail =
                format!("instance {id} failed while it held locks, which are gone: restart it instead");
            return Err(RequestError::new(RequestErrorKind::WrongState, detail).about(id));
        }
        let mut turn = Turn::default();
        turn.moves.push((Some(Status::Failed), Some(Status::Running)));
        turn.ops.push(Op::DeleteExecution {
            key: old.key,
            id: id.clone(),
        });
        let (row, ops) = (&mut orchestration.row, &mut turn.ops);
        let inline_max = self.config.limits.payload_inline_bytes;
        values::put_instance(row, Apart::default(), inline_max, ops);
        values::append_history(row, 0, &history, inline_max, ops);
        let mut resident = Resident::new(orchestration, Some(history));
        follow(self.config.traces.as_ref(), &mut resident);
        let history = resident.history.as_deref().unwrap_or_default();
        self.move_children(old.key, &resident.orchestration, &mut turn);
        self.reopen(&resident.orchestration, history, &mut turn);
        self.keys.remove(&old.key);
        self.keys.insert(key, id.clone());
        if let Some(slot) = self.slots.get_mut(id) {
            slot.state = SlotState::Resident(Box::new(resident));
        }
        let again = rewound
            .again
            .into_iter()
            .filter(|_| !planted::has(Bug::AnswersLostAtRewind))
            .filter_map(|kind| as_message(kind, key));
        self.deliver_again(id, again.collect(), &mut turn);
        Ok(turn)
    }

    /// Answers that were there before the failure are stored as messages and come first.
    pub(super) fn deliver_again(&mut self, id: &InstanceId, messages: Vec<Message>, turn: &mut Turn) {
        let mut items = VecDeque::with_capacity(messages.len());
        for message in messages {
            let seq = self.config.numbers.next_message();
            let data = record::encode_message(&Target::Orchestration(id.clone()), &message);
            turn.ops.push(Op::PutMessage {
                partition: self.config.id,
                seq,
                data,
            });
            items.push_back(Item::message(Some(seq), message));
        }
        if let Some(slot) = self.slots.get_mut(id) {
            items.append(&mut slot.queue);
            slot.queue = items;
        }
    }

    /// What open children were started with stood under the old execution. A retry that was due is
    /// none any more: the child is rewound.
    fn move_children(&mut self, old: ExecutionKey, orchestration: &Orchestration, turn: &mut Turn) {
        let is_child =
            |(task, open): (&TaskId, &OpenTask)| matches!(open, OpenTask::Child { .. }).then_some(*task);
        let tasks: Vec<TaskId> = orchestration.tasks().iter().filter_map(is_child).collect();
        for task in tasks {
            let Some(child) = self.children.get(&(old, task)).cloned() else {
                continue;
            };
            self.forget_child(old, task, turn);
            let key = orchestration.row.key;
            let moved = ChildRecord {
                request: StartRequest {
                    parent: Some(orchestration.as_parent(task)),
                    parent_name: Some(orchestration.name_as_parent()),
                    ..child.request
                },
                due: None,
                ..child
            };
            turn.ops.push(put_child(key, task, &moved));
            self.children.insert((key, task), moved);
        }
    }

    /// Asks again for everything that a cut history leaves open.
    fn reopen(&mut self, orchestration: &Orchestration, history: &[Event], turn: &mut Turn) {
        let row = &orchestration.row;
        for (task, open) in orchestration.tasks() {
            match open {
                OpenTask::Activity { name, .. } => {
                    let record = self.reopened_task(orchestration, *task, name, history);
                    self.attempts.insert((row.key, *task), 0);
                    turn.ops.push(self.put_task(&record));
                    turn.effects.push(Effect::Dispatch(Arc::new(record)));
                }
                OpenTask::Timer { fire_at } => {
                    turn.ops.push(Op::PutTimer {
                        due: *fire_at,
                        key: row.key,
                        task: *task,
                    });
                    self.timers.insert(TimerRow {
                        due: *fire_at,
                        key: row.key,
                        task: *task,
                    });
                }
                OpenTask::Child { instance, .. } => {
                    let parent = Some(orchestration.as_parent(*task));
                    let rewind = Message::Rewind { reason: None, parent };
                    self.send(Target::Orchestration(instance.clone()), rewind, turn);
                }
                OpenTask::EntityCall { .. } | OpenTask::LockRequested { .. } => {
                    for (target, message) in repeated(orchestration, *task, history) {
                        self.send(target, message, turn);
                    }
                }
                OpenTask::LockHeld { .. } => {}
            }
        }
    }

    fn reopened_task(
        &self,
        orchestration: &Orchestration,
        task: TaskId,
        name: &Arc<str>,
        history: &[Event],
    ) -> TaskRecord {
        let row = &orchestration.row;
        let asked = history.iter().find_map(|event| match &event.kind {
            EventKind::TaskScheduled {
                task: scheduled,
                input,
                options,
                ..
            } if *scheduled == task => Some((event.at, input.clone(), options.clone())),
            _ => None,
        });
        let (asked, input, options) = asked.unwrap_or((self.now, None, None));
        let labels = options.as_ref().and_then(|options| options.labels.as_deref());
        let own = labels.and_then(|labels| labels.trace.as_ref());
        TaskRecord {
            trace: orchestration.trace_of_task(task, asked, own),
            kills: 0,
            instance: row.id.clone(),
            key: row.key,
            execution_id: row.execution_id,
            task,
            name: name.clone(),
            input,
            options: options.map(|options| *options).unwrap_or_default(),
            scheduled: self.now,
            failed_attempts: 0,
            due: None,
            last_heartbeat: None,
            failures: Vec::new(),
        }
    }
}

/// Was it started by the sender of this message? Another instance may have got the id since.
fn is_child_of(resident: &Resident, message: &Message) -> bool {
    match message {
        Message::Rewind {
            parent: Some(parent), ..
        } => is_started_by(resident, parent),
        _ => true,
    }
}

/// Was it started by this task? A parent that was rewound is a new execution.
fn is_started_by(resident: &Resident, parent: &Parent) -> bool {
    let own = resident.orchestration.row.parent.as_ref();
    own.is_some_and(|own| own.instance == parent.instance && own.task == parent.task)
}

/// A rewind writes the whole history in one commit.
fn check_bytes(id: &InstanceId, history: &[Event]) -> Result<(), RequestError> {
    let bytes = record::encode_events(history).len();
    if bytes <= COMMIT_BYTES_MAX {
        return Ok(());
    }
    let detail = format!(
        "the history of instance {id} has {bytes} bytes, one commit has {COMMIT_BYTES_MAX} at most: restart it instead"
    );
    Err(RequestError::new(RequestErrorKind::OverLimit, detail).about(id))
}

/// The messages by which an entity call or a lock was asked for.
fn repeated(orchestration: &Orchestration, task: TaskId, history: &[Event]) -> Vec<(Target, Message)> {
    let parent = orchestration.as_parent(task);
    let caller = dalsegno_core::message::Caller {
        instance: parent.instance,
        execution: parent.execution,
        task,
    };
    history
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::EntityOperationCalled {
                task: called,
                entity,
                operation,
                input,
                ..
            } if *called == task => {
                let caller = Some(caller.clone());
                let message = Message::Operation {
                    operation: operation.clone(),
                    input: input.clone(),
                    caller,
                    at: None,
                    trace: orchestration.trace_of_task(task, event.at, None),
                };
                Some((Target::Entity(entity.clone()), message))
            }
            EventKind::EntityLockRequested {
                task: asked,
                entities,
                ..
            } if *asked == task => {
                let message = Message::Lock {
                    caller: caller.clone(),
                    entities: entities.clone(),
                    position: 0,
                };
                entities
                    .first()
                    .map(|first| (Target::Entity(first.clone()), message))
            }
            _ => None,
        })
        .collect()
}

/// How a finished instance answers its parent.
fn outcome_of(row: &InstanceRow) -> Option<dalsegno_core::Outcome> {
    match row.status {
        Status::Completed => Some(Ok(row.output.clone())),
        Status::Failed => Some(Err(row.failure.clone().unwrap_or_default())),
        Status::Terminated => Some(Err(Failure::new("Terminated", "terminated"))),
        Status::Canceled => Some(Err(row.failure.clone().unwrap_or_default())),
        _ => None,
    }
}
