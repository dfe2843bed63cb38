//! Starts of instances: by clients, by other instances, delayed ones.

use std::sync::Arc;

use dalsegno_core::message::{ReusePolicy, StartRequest, Target};
use dalsegno_core::orchestration::{Orchestration, TurnResult};
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::query::Status;
use dalsegno_core::store::{Apart, InstanceRow, Op, TimerRow};
use dalsegno_core::{Failure, InstanceId, Message, TaskId};

use super::slot::{Item, Resident, Slot, SlotState};
use super::traces::{Creator, begin_trace, follow};
use super::{Partition, values};
use crate::record;
use crate::task::RowExtra;
use crate::turn::Turn;

impl Partition {
    /// A start by another instance: creates, replaces, or tells the parent that the id is in use.
    pub(super) fn meet_start(&mut self, id: &InstanceId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let Some(Item::Message {
            sequence,
            message: Message::Start(request),
            ..
        }) = slot.queue.pop_front()
        else {
            return;
        };
        let existing = slot.resident().map(|resident| resident.orchestration.row.status);
        let mut turn = Turn::default();
        self.forget_message(sequence, &Message::Resume { reason: None }, &mut turn);
        match existing {
            Some(status) if !status.is_final() => {
                let message = format!(
                    "cannot start \"{}\": instance {id} exists and is {}",
                    request.name,
                    status.as_str()
                );
                self.refuse_child(&request, Failure::new("InstanceExists", message), &mut turn);
                self.commit_slot(id, turn);
            }
            _ if request.depth > self.config.limits.recursion_max => {
                let failure = too_deep(&request, self.config.limits.recursion_max);
                self.refuse_child(&request, failure, &mut turn);
                self.commit_slot(id, turn);
            }
            _ => {
                let row = self.row_for(id, &request, Creator::Hub);
                self.create(id, row, turn);
            }
        }
    }

    fn refuse_child(&mut self, request: &StartRequest, failure: Failure, turn: &mut Turn) {
        let Some(parent) = &request.parent else {
            self.counters.dropped_messages += 1;
            return;
        };
        let done = Message::ChildDone {
            execution: parent.execution,
            task: parent.task,
            outcome: Err(failure),
        };
        self.send(Target::Orchestration(parent.instance.clone()), done, turn);
    }

    fn row_for(&mut self, id: &InstanceId, request: &StartRequest, creator: Creator) -> InstanceRow {
        let version = request
            .version
            .clone()
            .or_else(|| self.config.executor.default_version(&request.name));
        let execution_id = self.entropy.execution_id();
        let creator = match request.parent {
            Some(_) => Creator::Caller,
            None => creator,
        };
        let extra = record::encode_extra(&RowExtra {
            trace: begin_trace(
                self.config.traces.as_ref(),
                execution_id,
                request.trace.as_ref(),
                creator,
            ),
            parent_name: request.parent_name.clone(),
            depth: request.depth,
            ..RowExtra::default()
        });
        InstanceRow {
            key: self.config.numbers.next_key(),
            partition: self.config.id,
            id: id.clone(),
            execution_id,
            name: request.name.clone(),
            version,
            status: Status::Pending,
            created: self.now,
            updated: self.now,
            completed: None,
            scheduled_start: None,
            parent: request.parent.clone(),
            tags: request.tags.clone(),
            input: request.input.clone(),
            custom_status: None,
            output: None,
            failure: None,
            parked: None,
            events: 0,
            extra,
            apart: Apart::default(),
        }
    }

    /// A row for a client's start.
    pub(super) fn client_row(
        &mut self,
        id: &InstanceId,
        options: &crate::request::StartOptions,
        extra: &RowExtra,
    ) -> InstanceRow {
        let request = StartRequest {
            parent_name: None,
            depth: 0,
            name: options.name.as_str().into(),
            version: options.version.as_deref().map(Arc::from),
            input: options.input.clone(),
            parent: None,
            reuse: ReusePolicy::default(),
            tags: Vec::new(),
            trace: options.trace.clone(),
        };
        let creator = match options.is_told_elsewhere {
            true => Creator::Caller,
            false => Creator::Hub,
        };
        let mut row = self.row_for(id, &request, creator);
        let trace = record::decode_extra(&row.extra).unwrap_or_default().trace;
        row.tags.clone_from(&options.tags);
        row.tags.sort();
        row.scheduled_start = options.scheduled_start;
        row.extra = record::encode_extra(&RowExtra {
            trace,
            ..extra.clone()
        });
        row
    }

    /// Puts a new instance in place of whatever finished one there is, and has it begin. What
    /// `turn` holds so far is committed together with the first turn.
    pub(super) fn create(&mut self, id: &InstanceId, row: InstanceRow, mut turn: Turn) {
        let mut status_before = None;
        if let Some(old) = self.slots.get_mut(id).and_then(Slot::resident_mut) {
            let old_row = &old.orchestration.row;
            turn.ops.push(Op::DeleteExecution {
                key: old_row.key,
                id: id.clone(),
            });
            status_before = Some(old_row.status);
            let (key, bytes) = (old_row.key, old.live_bytes);
            self.keys.remove(&key);
            self.futures.forget(bytes);
        }
        turn.moves.push((status_before, Some(row.status)));
        let (key, due) = (row.key, row.scheduled_start.filter(|due| *due > self.now));
        self.keys.insert(key, id.clone());
        let mut resident = Resident::new(fresh(row), Some(Vec::new()));
        follow(self.config.traces.as_ref(), &mut resident);
        resident.is_new = due.is_none();
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        slot.held.clear();
        if let Some(due) = due {
            let row = &mut resident.orchestration.row;
            let inline_max = self.config.limits.payload_inline_bytes;
            values::put_instance(row, Apart::default(), inline_max, &mut turn.ops);
            if !planted::has(Bug::DelayedStartNotStored) {
                turn.ops.push(Op::PutTimer {
                    due,
                    key,
                    task: TaskId::START,
                });
            }
            self.timers.insert(TimerRow {
                due,
                key,
                task: TaskId::START,
            });
            slot.state = SlotState::Resident(Box::new(resident));
            self.commit_slot(id, turn);
        } else {
            let begin = Message::TimerFired {
                execution: key,
                task: TaskId::START,
                fire_at: self.now,
            };
            slot.queue.push_front(Item::message(None, begin));
            resident.prelude = Some(Box::new(turn));
            slot.state = SlotState::Resident(Box::new(resident));
        }
    }

    /// What the next turn of an instance has to commit along.
    pub(super) fn take_prelude(&mut self, id: &InstanceId) -> Turn {
        let resident = self.slots.get_mut(id).and_then(Slot::resident_mut);
        resident
            .and_then(|resident| resident.prelude.take())
            .map(|turn| *turn)
            .unwrap_or_default()
    }

    /// An instance that ends before its delayed start takes the timer of that start along.
    pub(super) fn forget_start(&mut self, delayed: Option<TimerRow>, turn: &mut Turn) {
        let Some(timer) = delayed.filter(|_| !planted::has(Bug::StartTimerKeptAtEnd)) else {
            return;
        };
        let TimerRow { due, key, task } = timer;
        turn.ops.push(Op::DeleteTimer { due, key, task });
        self.timers.remove(&timer);
    }
}

/// The timer by which an instance that has not begun will begin.
pub(super) fn delayed_start(row: &InstanceRow) -> Option<TimerRow> {
    let due = row.scheduled_start.filter(|_| row.events == 0)?;
    Some(TimerRow {
        due,
        key: row.key,
        task: TaskId::START,
    })
}

/// An execution without history: what its first event will say is in the row.
pub(super) fn fresh(row: InstanceRow) -> Orchestration {
    let RowExtra {
        trace, parent_name, ..
    } = record::decode_extra(&row.extra).unwrap_or_default();
    let mut orchestration = Orchestration::new(row);
    orchestration.trace = trace;
    orchestration.parent_name = parent_name;
    orchestration
}

/// An orchestrator that starts itself for ever ends here.
fn too_deep(request: &StartRequest, most: u32) -> Failure {
    let message = format!(
        "cannot start \"{}\" below {most} others: recursion_max is {most}; start it detached, or continue as new",
        request.name
    );
    let mut failure = Failure::new("RecursionLimit", message);
    failure.permanent = true;
    failure
}

/// Children are one deeper than who starts them.
pub(super) fn count_depth(row: &InstanceRow, result: &mut TurnResult) {
    let sent = result
        .outgoing
        .iter_mut()
        .filter_map(|(_, message)| match message {
            Message::Start(request) if request.parent.is_some() => Some(&mut **request),
            _ => None,
        });
    let kept = result.children.iter_mut().map(|child| &mut child.request);
    let mut requests = sent.chain(kept).peekable();
    if requests.peek().is_some() {
        let depth = 1 + record::decode_extra(&row.extra).unwrap_or_default().depth;
        requests.for_each(|request| request.depth = depth);
    }
}
