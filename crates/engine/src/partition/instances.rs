//! Turns of orchestrations: from waiting messages to one commit.

use std::collections::VecDeque;
use std::sync::Arc;

use dalsegno_core::event::ParentClosePolicy;
use dalsegno_core::message::{ReusePolicy, StartRequest, Target};
use dalsegno_core::orchestration::{Draft, Fate, NextExecution, Orchestration, TurnResult};
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::query::Status;
use dalsegno_core::store::{Apart, InstanceRow, Op, TimerRow};
use dalsegno_core::{
    Action, EventKind, ExecutionKey, Failure, Fault, FaultKind, InstanceId, Message, Payload, TaskId,
};

use super::job::{Job, Running, RunningTurn, TurnDone, TurnJob};
use super::slot::{Item, Resident, Slot, SlotState, put_back, take_batch};
use super::{Partition, values};
use crate::executor::ExecutionInfo;
use crate::input::{Load, Loaded, StoredInstance, Unread};
use crate::record;
use crate::task::{ChildRecord, RowExtra, StoredTask, TaskRecord};
use crate::turn::{Effect, Turn};

impl Partition {
    /// Puts something into an instance's queue; asks the store for the instance if need be.
    pub(super) fn push_item(&mut self, id: InstanceId, item: Item) {
        let mut load = None;
        let slot = self.slots.entry(id.clone()).or_insert_with(|| {
            load = Some(Load::Instance(id.clone()));
            Slot::new(SlotState::Loading)
        });
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

    fn take_loaded_instance(&mut self, id: &InstanceId, found: Result<Option<StoredInstance>, Unread>) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        if !matches!(slot.state, SlotState::Loading) {
            return;
        }
        let mut damage = None;
        slot.state = match found {
            Ok(None) => SlotState::Vacant,
            Ok(Some(stored)) => match damage_of(&stored) {
                Some(unread) if stored.row.status.is_final() => return self.take_unread_instance(id, unread),
                damaged => {
                    damage = damaged.filter(|_| stored.row.parked.is_none());
                    SlotState::Resident(Box::new(restore(stored)))
                }
            },
            Err(unread) => return self.take_unread_instance(id, unread),
        };
        if let Some(resident) = slot.resident() {
            self.keys.insert(resident.orchestration.row.key, id.clone());
        }
        if let Some(Unread { text: message, .. }) = damage {
            let kind = FaultKind::Damaged;
            self.park(id, Fault { kind, message }, Vec::new());
        }
        self.make_ready(id);
        self.release_if_vacant(id);
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
                Some(Item::Message { .. }) => {
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
    fn forget_message(&mut self, sequence: Option<u64>, message: &Message, turn: &mut Turn) {
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

    /// A start by another instance: creates, replaces, or tells the parent that the id is in use.
    fn meet_start(&mut self, id: &InstanceId) {
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
                self.refuse_child(id, &request, status, &mut turn);
                self.commit_slot(id, turn);
            }
            _ => {
                let row = self.row_for(id, &request);
                self.create(id, row, turn);
            }
        }
    }

    fn refuse_child(&mut self, id: &InstanceId, request: &StartRequest, status: Status, turn: &mut Turn) {
        let Some(parent) = &request.parent else {
            self.counters.dropped_messages += 1;
            return;
        };
        let message = format!(
            "cannot start \"{}\": instance {id} exists and is {}",
            request.name,
            status.as_str()
        );
        let done = Message::ChildDone {
            execution: parent.execution,
            task: parent.task,
            outcome: Err(Failure::new("InstanceExists", message)),
        };
        self.send(Target::Orchestration(parent.instance.clone()), done, turn);
    }

    fn row_for(&mut self, id: &InstanceId, request: &StartRequest) -> InstanceRow {
        let version = request
            .version
            .clone()
            .or_else(|| self.config.executor.default_version(&request.name));
        let extra = record::encode_extra(&RowExtra {
            trace: request.trace.clone(),
            ..RowExtra::default()
        });
        InstanceRow {
            key: self.config.numbers.next_key(),
            partition: self.config.id,
            id: id.clone(),
            execution_id: self.entropy.execution_id(),
            name: request.name.clone(),
            version,
            status: Status::Pending,
            created: self.now,
            updated: self.now,
            completed: None,
            scheduled_start: None,
            parent: request.parent.clone(),
            tags: Vec::new(),
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
            name: options.name.as_str().into(),
            version: options.version.as_deref().map(Arc::from),
            input: options.input.clone(),
            parent: None,
            reuse: ReusePolicy::default(),
            trace: options.trace.clone(),
        };
        let mut row = self.row_for(id, &request);
        row.tags.clone_from(&options.tags);
        row.tags.sort();
        row.scheduled_start = options.scheduled_start;
        row.extra = record::encode_extra(extra);
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

    /// The first half of a turn. Turns that need no code are finished here.
    fn begin_turn(&mut self, id: &InstanceId) -> Option<Job> {
        let now = self.now;
        let actions_max = self.config.limits.turn_actions_max;
        let slot = self.slots.get_mut(id)?;
        let batch = take_batch(slot);
        let resident = slot.resident_mut()?;
        let draft = resident
            .orchestration
            .draft(batch.iter().filter_map(Item::as_message), now);
        if !draft.needs_code() {
            self.conclude(id, draft, batch, Vec::new(), None);
            return None;
        }
        if resident.live.is_none() && resident.history.is_none() {
            put_back(slot, batch);
            self.reload(id);
            return None;
        }
        if self.takes_suspicion(&Target::Orchestration(id.clone())) {
            put_back(self.slots.get_mut(id)?, batch);
            self.count_kill(id);
            return None;
        }
        let slot = self.slots.get_mut(id)?;
        let SlotState::Resident(mut resident) = std::mem::replace(&mut slot.state, SlotState::Running) else {
            return None;
        };
        let row = &resident.orchestration.row;
        let info = ExecutionInfo {
            instance: id.clone(),
            execution_id: row.execution_id,
            name: row.name.clone(),
            version: row.version.clone(),
            trace: resident.orchestration.trace.clone(),
        };
        let (live, history) = (resident.live.take(), resident.history.take());
        self.running = Some(Running::Turn(RunningTurn {
            id: id.clone(),
            resident,
            batch,
        }));
        Some(Job::Turn(TurnJob {
            info,
            live,
            history,
            draft,
            actions_max,
            payload_bytes_max: self.config.limits.payload_bytes_max,
        }))
    }

    /// The second half: commits what the code asked for, or parks the instance.
    pub(super) fn finish_turn(&mut self, running: RunningTurn, done: TurnDone) {
        let RunningTurn {
            id,
            mut resident,
            batch,
        } = running;
        self.counters.replays += u64::from(done.replayed);
        resident.live = done.live;
        self.seat(&id, resident);
        match done.result {
            Ok(actions) => {
                let unread = self.unread_events(&id, &actions);
                self.conclude(&id, done.draft, batch, actions, Some(unread));
            }
            Err(fault) => {
                self.acquit(&id);
                self.park(&id, fault, batch);
            }
        }
        self.end_turn(&id);
    }

    /// The code does not come back: the instance is parked as it was before the turn.
    pub(super) fn abandon_turn(&mut self, running: RunningTurn, fault: Fault) {
        let RunningTurn { id, resident, batch } = running;
        self.seat(&id, resident);
        self.park(&id, fault, batch);
        self.end_turn(&id);
    }

    fn seat(&mut self, id: &InstanceId, resident: Box<Resident>) {
        self.counters.turns += 1;
        if let Some(slot) = self.slots.get_mut(id) {
            slot.state = SlotState::Resident(resident);
        }
    }

    fn end_turn(&mut self, id: &InstanceId) {
        self.note_use(id);
        self.make_ready(id);
        if self.slots.get(id).is_some_and(|slot| slot.queue.is_empty()) {
            self.rest(id);
        }
    }

    /// Events that the code has not read and the next execution gets.
    fn unread_events(&self, id: &InstanceId, actions: &[Action]) -> Vec<EventKind> {
        let continues = actions
            .iter()
            .any(|action| matches!(action, Action::ContinueAsNew { .. }));
        let live = self
            .slots
            .get(id)
            .and_then(Slot::resident)
            .and_then(|resident| resident.live.as_ref());
        match live {
            Some(live) if continues && !planted::has(Bug::EventsLostAtContinueAsNew) => {
                live.unconsumed_events()
            }
            _ => Vec::new(),
        }
    }

    /// Commits a turn: state, messages in and out, tasks, timers and the status row, all at once.
    fn conclude(
        &mut self,
        id: &InstanceId,
        draft: Draft,
        batch: Vec<Item>,
        actions: Vec<Action>,
        unread: Option<Vec<EventKind>>,
    ) {
        let events_max = self.config.limits.history_events_max;
        let event_keys_max = self.config.limits.event_keys_max;
        let mut turn = self.take_prelude(id);
        let fates = draft.fates.clone();
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        let before = RowMark {
            is_marked: remember_events(&mut resident.orchestration.row, &batch, event_keys_max),
            ..RowMark::of(resident)
        };
        let delayed = delayed_start(&resident.orchestration.row);
        let result = resident.orchestration.conclude(draft, actions, events_max);
        let key = resident.orchestration.row.key;
        let is_over = resident.orchestration.row.status.is_final();
        if unread.is_some() {
            self.acquit(id);
        }
        if is_over {
            self.forget_start(delayed, &mut turn);
        }
        self.write_tasks(id, key, &result, &mut turn);
        match result.next.clone() {
            Some(next) => {
                self.continue_as_new(id, before.status, next, unread.unwrap_or_default(), &mut turn)
            }
            None => self.write_row(id, &before, &result, &mut turn),
        }
        for (target, message) in result.outgoing {
            self.send(target, message, &mut turn);
        }
        self.sort_batch(id, batch, &fates, &mut turn);
        if is_over {
            self.drop_held(id, &mut turn);
        }
        self.answer_waiters(id, &mut turn);
        if planted::has(Bug::TornCommit) {
            let is_row = |op: &Op| matches!(op, Op::PutInstance(_) | Op::TouchInstance { .. });
            let (rows, rest) = turn.ops.drain(..).partition(is_row);
            turn.ops = rest;
            self.push_turn(Turn {
                ops: rows,
                ..Turn::default()
            });
        }
        self.commit_slot(id, turn);
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

    /// Consumed messages lose their rows, held ones get one.
    fn sort_batch(&mut self, id: &InstanceId, batch: Vec<Item>, fates: &[Fate], turn: &mut Turn) {
        for (item, fate) in batch.into_iter().zip(fates) {
            let Item::Message {
                sequence,
                message,
                answer,
                ..
            } = item
            else {
                continue;
            };
            turn.effects.extend(answer);
            match fate {
                Fate::Taken => self.forget_message(sequence, &message, turn),
                Fate::Dropped => {
                    self.counters.dropped_messages += 1;
                    self.forget_message(sequence, &message, turn);
                }
                Fate::Held => self.hold(id, sequence, message, turn),
            }
        }
    }

    /// A suspended instance may end by itself, when its history is full: what it holds goes with it.
    pub(super) fn drop_held(&mut self, id: &InstanceId, turn: &mut Turn) {
        if planted::has(Bug::HeldKeptAtEnd) {
            return;
        }
        let held = self.slots.get_mut(id).map(|slot| std::mem::take(&mut slot.held));
        for item in held.into_iter().flatten() {
            if let Item::Message {
                sequence, message, ..
            } = item
            {
                self.drop_message(sequence, &message, turn);
            }
        }
    }

    /// Stores a message that has to wait, if it is not stored yet.
    fn hold(&mut self, id: &InstanceId, sequence: Option<u64>, message: Message, turn: &mut Turn) {
        let sequence = match sequence {
            Some(sequence) => sequence,
            None => {
                self.forget_message(None, &message, turn);
                let seq = self.config.numbers.next_message();
                let data = record::encode_message(&Target::Orchestration(id.clone()), &message);
                if !planted::has(Bug::HeldNotStored) {
                    turn.ops.push(Op::PutMessage {
                        partition: self.config.id,
                        seq,
                        data,
                    });
                }
                seq
            }
        };
        if let Some(slot) = self.slots.get_mut(id) {
            slot.held.push_back(Item::message(Some(sequence), message));
        }
    }

    /// Tasks, timers, children: everything that a turn opened or closed.
    pub(super) fn write_tasks(
        &mut self,
        id: &InstanceId,
        key: ExecutionKey,
        result: &TurnResult,
        turn: &mut Turn,
    ) {
        let Some(resident) = self.slots.get(id).and_then(Slot::resident) else {
            return;
        };
        let execution_id = resident.orchestration.row.execution_id;
        let trace = resident.orchestration.trace.clone();
        for new in &result.tasks {
            let record = TaskRecord {
                instance: id.clone(),
                key,
                execution_id,
                task: new.task,
                name: new.name.clone(),
                input: new.input.clone(),
                options: new.options.clone(),
                scheduled: self.now,
                failed_attempts: 0,
                due: None,
                last_heartbeat: None,
                failures: Vec::new(),
                kills: 0,
                trace: trace.clone(),
            };
            if !planted::has(Bug::TaskNotStored) {
                turn.ops.push(self.put_task(&record));
            }
            self.attempts.insert((key, new.task), 0);
            turn.effects.push(Effect::Dispatch(Arc::new(record)));
        }
        for (due, task) in &result.timers {
            turn.ops.push(Op::PutTimer {
                due: *due,
                key,
                task: *task,
            });
            self.timers.insert(TimerRow {
                due: *due,
                key,
                task: *task,
            });
        }
        for (due, task) in result
            .cleared_timers
            .iter()
            .filter(|_| !planted::has(Bug::TimerRowKept))
        {
            turn.ops.push(Op::DeleteTimer {
                due: *due,
                key,
                task: *task,
            });
            self.timers.remove(&TimerRow {
                due: *due,
                key,
                task: *task,
            });
        }
        for task in &result.cancelled {
            self.attempts.remove(&(key, *task));
            turn.ops.push(Op::DeleteTask { key, task: *task });
            turn.effects.push(Effect::Cancel { key, task: *task });
        }
        self.write_children(id, key, result, turn);
    }

    fn write_children(&mut self, id: &InstanceId, key: ExecutionKey, result: &TurnResult, turn: &mut Turn) {
        for new in &result.children {
            let child = ChildRecord {
                instance: new.instance.clone(),
                parent_instance: id.clone(),
                request: new.request.clone(),
                options: new.options.clone(),
                scheduled: self.now,
                failed_attempts: 0,
                due: None,
            };
            turn.ops.push(put_child(key, new.task, &child));
            self.children.insert((key, new.task), child);
        }
        for (task, instance, policy) in &result.orphans {
            let own = self
                .children
                .get(&(key, *task))
                .map(|child| child.options.parent_close);
            self.forget_child(key, *task, turn);
            let ends = *policy == ParentClosePolicy::Terminate || own == Some(ParentClosePolicy::Terminate);
            if ends {
                let reason = Some(format!("the parent {id} was terminated"));
                let terminate = Message::Terminate {
                    reason,
                    children: *policy,
                };
                self.send(Target::Orchestration(instance.clone()), terminate, turn);
            }
        }
    }

    /// A child with options is no longer remembered.
    pub(super) fn forget_child(&mut self, key: ExecutionKey, task: TaskId, turn: &mut Turn) {
        if let Some(child) = self.children.remove(&(key, task)) {
            turn.ops.push(Op::DeleteTask { key, task });
            if let Some(due) = child.due {
                self.retries.remove(&(due, key, task));
            }
        }
    }

    /// Appends the history and writes the row, or only touches it.
    fn write_row(&mut self, id: &InstanceId, before: &RowMark, result: &TurnResult, turn: &mut Turn) {
        let inline_max = self.config.limits.payload_inline_bytes;
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        let is_put = resident.is_new || before.differs(resident);
        let row = &mut resident.orchestration.row;
        if is_put {
            values::put_instance(row, before.apart, inline_max, &mut turn.ops);
        }
        if !result.events.is_empty() {
            values::append_history(row, result.first_event, &result.events, inline_max, &mut turn.ops);
        }
        if !is_put && !result.events.is_empty() {
            turn.ops.push(Op::TouchInstance {
                key: row.key,
                updated: row.updated,
                events: row.events,
            });
        }
        resident.is_new = false;
        if before.status != row.status {
            turn.moves.push((Some(before.status), Some(row.status)));
        }
    }

    /// Ends the execution and begins the next, which gets the unread events.
    fn continue_as_new(
        &mut self,
        id: &InstanceId,
        status_before: Status,
        next: NextExecution,
        unread: Vec<EventKind>,
        turn: &mut Turn,
    ) {
        let key = self.config.numbers.next_key();
        let execution_id = self.entropy.execution_id();
        let inline_max = self.config.limits.payload_inline_bytes;
        let now = self.now;
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let Some(resident) = slot.resident_mut() else {
            return;
        };
        let old = &resident.orchestration.row;
        let old_key = old.key;
        let mut row = InstanceRow {
            key,
            execution_id,
            version: next.version.or_else(|| old.version.clone()),
            status: Status::Running,
            updated: old.updated.max(now),
            input: next.input,
            events: 0,
            apart: Apart::default(),
            ..old.clone()
        };
        let bytes = resident.live_bytes;
        turn.ops.push(Op::DeleteExecution {
            key: old_key,
            id: id.clone(),
        });
        values::put_instance(&mut row, Apart::default(), inline_max, &mut turn.ops);
        if status_before != Status::Running {
            turn.moves.push((Some(status_before), Some(Status::Running)));
        }
        *resident = Resident::new(fresh(row), Some(Vec::new()));
        self.futures.forget(bytes);
        self.keys.remove(&old_key);
        self.keys.insert(key, id.clone());
        let begin = Message::TimerFired {
            execution: key,
            task: TaskId::START,
            fire_at: now,
        };
        let events = unread.into_iter().filter_map(|kind| match kind {
            EventKind::EventRaised { name, input, trace } => {
                Some(Message::EventRaised { name, input, trace })
            }
            _ => None,
        });
        let messages = std::iter::once(begin).chain(events).collect();
        self.deliver_again(id, messages, turn);
    }

    /// Code and history do not fit: the instance waits for other code, with its messages stored.
    pub(super) fn park(&mut self, id: &InstanceId, fault: Fault, batch: Vec<Item>) {
        self.counters.faults += u64::from(fault.kind != FaultKind::Missing);
        tracing::warn!(instance = %id, %fault, "the instance is parked");
        let event_keys_max = self.config.limits.event_keys_max;
        if let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) {
            remember_events(&mut resident.orchestration.row, &batch, event_keys_max);
        }
        let mut turn = self.take_prelude(id);
        for item in batch {
            if let Item::Message {
                sequence,
                message,
                answer,
                ..
            } = item
            {
                turn.effects.extend(answer);
                self.hold(id, sequence, message, &mut turn);
            }
        }
        let inline_max = self.config.limits.payload_inline_bytes;
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        resident.is_new = false;
        let bytes = std::mem::take(&mut resident.live_bytes);
        let row = &mut resident.orchestration.row;
        row.parked = Some(fault);
        values::put_instance(row, row.apart, inline_max, &mut turn.ops);
        self.futures.forget(bytes);
        self.answer_waiters(id, &mut turn);
        self.commit_slot(id, turn);
    }

    /// Lets a parked instance try again, from its stored history.
    pub(super) fn unpark(&mut self, id: &InstanceId) {
        let inline_max = self.config.limits.payload_inline_bytes;
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let Some(resident) = slot.resident_mut() else {
            return;
        };
        if resident.orchestration.row.parked.take().is_none() {
            return;
        }
        let mut turn = Turn::default();
        let row = &mut resident.orchestration.row;
        values::put_instance(row, row.apart, inline_max, &mut turn.ops);
        let held = std::mem::take(&mut slot.held);
        for item in held.into_iter().rev() {
            slot.queue.push_front(item);
        }
        self.commit_slot(id, turn);
        self.reload(id);
    }

    /// Reads the instance again as soon as what is under way is durable.
    pub(super) fn reload(&mut self, id: &InstanceId) {
        self.reload_by(Load::Instance(id.clone()), id);
    }

    pub(super) fn reload_by(&mut self, load: Load, id: &InstanceId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        if let Some(resident) = slot.resident() {
            let (key, bytes) = (resident.orchestration.row.key, resident.live_bytes);
            self.keys.remove(&key);
            self.futures.forget(bytes);
        }
        slot.state = SlotState::Loading;
        let last_turn = slot.last_turn;
        self.reloads.push_back((last_turn, load));
        self.answer_now(Effect::Nudge);
    }

    /// Pushes a turn and notes that it was this slot's last.
    pub(super) fn commit_slot(&mut self, id: &InstanceId, turn: Turn) {
        let number = self.push_turn(turn);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.last_turn = number;
        }
    }

    /// The queue is empty: final and vacant slots leave memory once their last turn is durable.
    fn rest(&mut self, id: &InstanceId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        // Most instances wait most of the time: an empty queue keeps no memory.
        slot.queue = VecDeque::new();
        let leaves = match &slot.state {
            SlotState::Vacant | SlotState::Damaged(_) => true,
            SlotState::Resident(resident) => resident.orchestration.row.status.is_final(),
            _ => false,
        };
        if leaves && slot.is_idle() {
            self.settling.push_back((slot.last_turn, id.clone()));
        }
    }

    pub(super) fn release_if_vacant(&mut self, id: &InstanceId) {
        if self.slots.get(id).is_some_and(|slot| slot.is_idle()) {
            self.rest(id);
        }
    }

    /// Is something durable by now that others wait for?
    pub(super) fn can_settle(&self) -> bool {
        let first = |queue: Option<u64>| queue.is_some_and(|turn| turn <= self.durable());
        first(self.settling.front().map(|(turn, _)| *turn))
            || first(self.reloads.front().map(|(turn, _)| *turn))
    }

    /// Does what waited for turns to become durable: slots leave, instances are read again.
    pub(super) fn settle(&mut self) {
        let durable = self.durable();
        while self.settling.front().is_some_and(|(turn, _)| *turn <= durable) {
            let Some((_, id)) = self.settling.pop_front() else {
                break;
            };
            self.remove_slot(&id, durable);
        }
        while self.reloads.front().is_some_and(|(turn, _)| *turn <= durable) {
            let Some((_, load)) = self.reloads.pop_front() else {
                break;
            };
            self.outbox.loads.push(load);
        }
        self.evict(durable);
        self.evict_entities(durable);
    }

    fn remove_slot(&mut self, id: &InstanceId, durable: u64) -> bool {
        let can_leave = |slot: &Slot| slot.is_idle() && slot.last_turn <= durable && !slot.is_queued;
        if !self.slots.get(id).is_some_and(can_leave) {
            return false;
        }
        if let Some(Slot {
            state: SlotState::Resident(resident),
            ..
        }) = self.slots.remove(id)
        {
            self.keys.remove(&resident.orchestration.row.key);
            self.futures.forget(resident.live_bytes);
        }
        true
    }

    fn note_use(&mut self, id: &InstanceId) {
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        let bytes = resident.live.as_ref().map_or(0, |live| live.size_bytes() + 512);
        let before = std::mem::replace(&mut resident.live_bytes, bytes);
        resident.tick = self.futures.touch(id, before, bytes);
        if self.futures.len() > 2 * self.slots.len() + 4096 {
            let slots = &self.slots;
            self.futures.compact(|tick, id| {
                slots
                    .get(id)
                    .and_then(Slot::resident)
                    .is_some_and(|resident| resident.tick == tick)
            });
        }
    }

    /// Futures beyond the limit leave with all their slot holds; the store has it.
    fn evict(&mut self, durable: u64) {
        while self.futures.is_over() {
            let Some((tick, id)) = self.futures.oldest() else {
                return;
            };
            let is_current = |slot: &Slot| slot.resident().is_some_and(|resident| resident.tick == tick);
            if !self.slots.get(&id).is_some_and(is_current) {
                continue;
            }
            if self.remove_slot(&id, durable) {
                self.counters.evictions += 1;
            } else {
                let bytes = self
                    .slots
                    .get(&id)
                    .and_then(Slot::resident)
                    .map_or(0, |resident| resident.live_bytes);
                let tick = self.futures.touch(&id, bytes, bytes);
                if let Some(resident) = self.slots.get_mut(&id).and_then(Slot::resident_mut) {
                    resident.tick = tick;
                }
                return;
            }
        }
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

pub(super) fn put_child(key: ExecutionKey, task: TaskId, child: &ChildRecord) -> Op {
    let data = record::encode_task(&StoredTask::Child(child.clone()));
    Op::PutTask { key, task, data }
}

/// An execution without history: what its first event will say is in the row.
pub(super) fn fresh(row: InstanceRow) -> Orchestration {
    let trace = record::decode_extra(&row.extra).unwrap_or_default().trace;
    let mut orchestration = Orchestration::new(row);
    orchestration.trace = trace;
    orchestration
}

/// A history that cannot be read: parks its instance, or ends what was asked of a finished one; its
/// neighbours are not disturbed.
fn damage_of(stored: &StoredInstance) -> Option<Unread> {
    let text = stored.history.as_ref().err()?.clone();
    Some(Unread {
        is_damage: true,
        text,
    })
}

fn restore(StoredInstance { row, history }: StoredInstance) -> Resident {
    let Ok(history) = history else {
        return Resident::new(Orchestration::new(row), None);
    };
    // A finished one is read without its history, unless a rewind asked for it.
    let is_read = !row.status.is_final() || !history.is_empty();
    let orchestration = match history.is_empty() {
        true => fresh(row),
        false => Orchestration::fold(row, &history),
    };
    Resident::new(orchestration, is_read.then_some(history))
}

/// Notes the keys that events of this batch came with, in the row that is committed with them;
/// says whether there were any. The oldest beyond the limit are forgotten.
fn remember_events(row: &mut InstanceRow, batch: &[Item], event_keys_max: usize) -> bool {
    let marks = || batch.iter().filter_map(Item::mark);
    if marks().next().is_none() {
        return false;
    }
    let mut extra = record::decode_extra(&row.extra).unwrap_or_default();
    extra.events.extend(marks());
    let surplus = extra.events.len().saturating_sub(event_keys_max);
    extra.events.drain(..surplus);
    row.extra = record::encode_extra(&extra);
    true
}

/// What clients see of a row and a turn may change.
struct RowMark {
    status: Status,
    custom_status: Option<Payload>,
    is_parked: bool,
    kills: u32,
    /// It has got new event keys to remember.
    is_marked: bool,
    apart: Apart,
}

impl RowMark {
    fn of(resident: &Resident) -> Self {
        let row = &resident.orchestration.row;
        Self {
            status: row.status,
            custom_status: row.custom_status.clone(),
            is_parked: row.parked.is_some(),
            kills: resident.kills,
            is_marked: false,
            apart: row.apart,
        }
    }

    fn differs(&self, resident: &Resident) -> bool {
        let row = &resident.orchestration.row;
        self.is_marked
            || self.kills != resident.kills
            || self.status != row.status
            || self.is_parked != row.parked.is_some()
            || self.custom_status != row.custom_status
    }
}
