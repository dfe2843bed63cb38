//! One orchestration between turns: what is open, and what a turn makes of it.
//!
//! A turn has two halves. [`Orchestration::draft`] decides which messages become events and
//! changes nothing, so that a turn whose code faults leaves no trace. [`Orchestration::conclude`]
//! takes the code's actions and moves the state; what it returns is the whole of the turn's commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::action::{Action, ChildOptions, TaskOptions};
use crate::event::{ChildLink, Event, EventKind, ExecutionStarted, Parent, ParentClosePolicy, ParentName};
use crate::failure::Failure;
use crate::id::{EntityId, InstanceId, TaskId};
use crate::message::{Caller, Message, Outcome, ReusePolicy, StartRequest, Target};
use crate::payload::Payload;
use crate::planted::{self, Bug};
use crate::query::Status;
use crate::span::{SpanId, Spans};
use crate::store::{Field, InstanceRow};
use crate::time::Timestamp;
use crate::trace::TraceContext;

/// A durable operation in progress.
#[derive(Clone, Debug, PartialEq)]
pub enum OpenTask {
    /// An activity.
    Activity {
        name: Arc<str>,
        /// It undoes what was done.
        undo: bool,
    },
    /// A timer.
    Timer { fire_at: Timestamp },
    /// A child whose outcome is awaited.
    Child {
        instance: InstanceId,
        /// What a request to cancel means for it.
        parent_close: ParentClosePolicy,
        /// It undoes what was done.
        undo: bool,
    },
    /// A call to an entity.
    EntityCall { entity: EntityId },
    /// Locks asked for, not yet all granted.
    LockRequested { entities: Vec<EntityId> },
    /// Locks held.
    LockHeld { entities: Vec<EntityId> },
}

/// An orchestration between turns.
#[derive(Clone, Debug, PartialEq)]
pub struct Orchestration {
    /// The status row.
    pub row: InstanceRow,
    /// The trace that it is part of; its children and activities are too.
    pub trace: Option<TraceContext>,
    /// What its parent is called.
    pub parent_name: Option<Arc<ParentName>>,
    /// Who tells of its spans.
    pub spans: Spans,
    tasks: BTreeMap<TaskId, OpenTask>,
    cancel: Option<CancelRequest>,
}

/// A request to end that was taken. It stands until the instance ends.
#[derive(Clone, Debug, PartialEq)]
pub struct CancelRequest {
    /// Why.
    pub reason: Option<String>,
    /// Activities and children that were open then and were told. A failure of theirs is a cancellation.
    told: BTreeSet<TaskId>,
}

/// What becomes of one message in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It became an event.
    Taken,
    /// It waits: the instance is suspended, parked or not yet due.
    Held,
    /// It is for an execution or task that is no more.
    Dropped,
}

/// The first half of a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// New events for the code, `OrchestratorStarted` first; empty when there is nothing to do.
    pub events: Vec<Event>,
    /// What becomes of each message, in their order.
    pub fates: Vec<Fate>,
    /// Releases that answer grants nobody wants any more.
    pub releases: Vec<(Target, Message)>,
    /// Status after the messages, before the code.
    status: Status,
    ending: Option<Ending>,
}

/// An end that comes without the code.
#[derive(Clone, Debug, PartialEq)]
enum Ending {
    Terminated {
        reason: Option<String>,
        output: Option<Payload>,
        children: ParentClosePolicy,
    },
    /// It was cancelled before it had begun.
    Canceled { reason: Option<String> },
}

impl Draft {
    /// Is there something in it that code has to see? Code that runs elsewhere is not told of a
    /// suspension before it goes on.
    pub fn tells_code(&self) -> bool {
        let is_told = |event: &Event| {
            !matches!(
                event.kind,
                EventKind::OrchestratorStarted
                    | EventKind::ExecutionSuspended { .. }
                    | EventKind::ExecutionResumed { .. }
            )
        };
        self.events.iter().any(is_told)
    }

    /// Does the code have to run? A termination ends the instance without it.
    pub fn needs_code(&self) -> bool {
        self.ending.is_none() && !self.events.is_empty()
    }
}

/// An activity that a turn asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTask {
    /// Task.
    pub task: TaskId,
    /// Activity name.
    pub name: Arc<str>,
    /// Input.
    pub input: Option<Payload>,
    /// How it is run.
    pub options: TaskOptions,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
}

/// A child that a turn asked for and that has options to remember.
#[derive(Clone, Debug, PartialEq)]
pub struct NewChild {
    /// Task.
    pub task: TaskId,
    /// Its instance.
    pub instance: InstanceId,
    /// The request, to be repeated by a retry.
    pub request: StartRequest,
    /// Retry and parent-close policy.
    pub options: ChildOptions,
}

/// The next execution of an instance that continued as new.
#[derive(Clone, Debug, PartialEq)]
pub struct NextExecution {
    /// Its version.
    pub version: Option<Arc<str>>,
    /// Its input.
    pub input: Option<Payload>,
}

/// All that a turn leads to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TurnResult {
    /// Number of the first new event.
    pub first_event: u64,
    /// New events, from `OrchestratorStarted` to `OrchestratorCompleted`.
    pub events: Vec<Event>,
    /// Messages to others.
    pub outgoing: Vec<(Target, Message)>,
    /// Activities to run.
    pub tasks: Vec<NewTask>,
    /// Children with options to remember.
    pub children: Vec<NewChild>,
    /// Timers to set.
    pub timers: Vec<(Timestamp, TaskId)>,
    /// Timers nobody waits for any more.
    pub cleared_timers: Vec<(Timestamp, TaskId)>,
    /// Activities to cancel: the instance was terminated.
    pub cancelled: Vec<TaskId>,
    /// Activities to tell that the instance was asked to end; they answer as always.
    pub told: Vec<TaskId>,
    /// Children to cancel or terminate for the same reason; they answer as always.
    pub told_children: Vec<(TaskId, InstanceId, ParentClosePolicy)>,
    /// Children that go on and are not waited for any longer.
    pub abandoned: Vec<TaskId>,
    /// Children to terminate, by the policy they were started with or because everything goes.
    pub orphans: Vec<(TaskId, InstanceId, ParentClosePolicy)>,
    /// The next execution, after continue-as-new.
    pub next: Option<NextExecution>,
}

impl Orchestration {
    /// One that has not had a turn.
    pub fn new(row: InstanceRow) -> Self {
        Self {
            row,
            trace: None,
            parent_name: None,
            spans: Spans::default(),
            tasks: BTreeMap::new(),
            cancel: None,
        }
    }

    /// One read back from the store.
    pub fn fold(row: InstanceRow, history: &[Event]) -> Self {
        let mut orchestration = Self::new(row);
        for event in history {
            orchestration.record(&event.kind);
        }
        orchestration
    }

    /// The trace for what a task asks of others at a time. What the task's code says of it counts,
    /// unless it only hands on what the orchestration was given.
    pub fn trace_of_task(
        &self,
        task: TaskId,
        at: Timestamp,
        own: Option<&TraceContext>,
    ) -> Option<TraceContext> {
        self.trace_under(own, |row| SpanId::of_task(row.execution_id, row.key, task, at))
    }

    /// The trace for the code, and for what it starts and forgets.
    pub fn trace_within(&self, own: Option<&TraceContext>) -> Option<TraceContext> {
        self.trace_under(own, |row| SpanId::of_execution(row.execution_id, row.key))
    }

    fn trace_under(
        &self,
        own: Option<&TraceContext>,
        told: impl FnOnce(&InstanceRow) -> SpanId,
    ) -> Option<TraceContext> {
        let trace = self.trace.as_ref();
        let is_own =
            |own: &&TraceContext| trace.is_none_or(|trace| trace.trace_parent() != own.trace_parent());
        if let Some(own) = own.filter(is_own) {
            return Some(own.clone());
        }
        trace.map(|trace| match self.spans {
            Spans::Untold => trace.clone(),
            Spans::Told => trace.under(told(&self.row)),
            Spans::ToldElsewhere(span) => trace.under(span),
        })
    }

    /// What is open.
    pub fn tasks(&self) -> &BTreeMap<TaskId, OpenTask> {
        &self.tasks
    }

    /// The request to end that was taken, if there is one.
    pub fn cancel_request(&self) -> Option<&CancelRequest> {
        self.cancel.as_ref()
    }

    /// Has the execution had its first turn?
    pub fn has_started(&self) -> bool {
        self.row.events > 0
    }

    /// Locks it holds.
    pub fn holds_locks(&self) -> bool {
        self.tasks
            .values()
            .any(|task| matches!(task, OpenTask::LockHeld { .. }))
    }

    /// Decides what becomes of messages. Changes nothing.
    pub fn draft<'m>(&self, messages: impl Iterator<Item = &'m Message> + Clone, now: Timestamp) -> Draft {
        // A timer that fired and then waited through a restart may meet a clock that was set back.
        let fired = messages.clone().filter_map(|message| match message {
            Message::TimerFired { fire_at, .. } => Some(*fire_at),
            _ => None,
        });
        let now = match planted::has(Bug::TimeBeforeTimer) {
            true => now,
            false => fired.fold(now, Timestamp::max),
        };
        let mut drafter = Drafter::new(self, now);
        let mut fates = Vec::new();
        for message in messages.clone() {
            fates.push(drafter.take(message));
            while std::mem::take(&mut drafter.frees_held) {
                drafter.take_held(messages.clone(), &mut fates);
            }
        }
        drafter.finish(fates)
    }

    /// Moves the state by a draft and what the code asked for after seeing its events.
    pub fn conclude(&mut self, draft: Draft, actions: Vec<Action>, events_max: u64) -> TurnResult {
        let at = draft.events.first().map_or(self.row.updated, |event| event.at);
        let mut turn = TurnResult {
            first_event: self.row.events,
            outgoing: draft.releases,
            ..TurnResult::default()
        };
        self.row.status = draft.status;
        self.row.updated = self.row.updated.max(at);
        if draft.events.is_empty() && draft.ending.is_none() {
            return turn;
        }
        let is_cancelled = self.cancel.is_some();
        for event in draft.events {
            self.clear_timer(&event.kind, &mut turn);
            self.abandon_children(&event.kind, &mut turn);
            self.record(&event.kind);
            turn.events.push(event);
        }
        if !is_cancelled {
            self.tell_open(&mut turn);
        }
        match draft.ending {
            Some(ending) => self.end_without_code(ending, at, &mut turn),
            None => self.perform(actions, at, events_max, &mut turn),
        }
        if turn.next.is_none() {
            turn.events.push(Event {
                at,
                kind: EventKind::OrchestratorCompleted,
            });
        }
        self.row.events += turn.events.len() as u64;
        turn
    }

    /// Records external events behind the end of the execution, in the turn that ended it: they were
    /// accepted, and came too late for the code.
    pub fn record_late(&mut self, late: Vec<EventKind>, turn: &mut TurnResult) {
        let completed = turn
            .events
            .pop_if(|event| event.kind == EventKind::OrchestratorCompleted);
        let Some(completed) = completed else { return };
        self.row.events += late.len() as u64;
        let at = completed.at;
        turn.events
            .extend(late.into_iter().map(|kind| Event { at, kind }));
        turn.events.push(completed);
    }

    /// A timer that fired has no row any more.
    fn clear_timer(&self, kind: &EventKind, turn: &mut TurnResult) {
        if let EventKind::TimerFired { task, fire_at } = kind {
            turn.cleared_timers.push((*fire_at, *task));
        }
    }

    fn abandon_children(&self, kind: &EventKind, turn: &mut TurnResult) {
        if matches!(kind, EventKind::CancelRequested { .. }) {
            let left = self.tasks.iter().filter(|(_, open)| is_abandoned(open));
            turn.abandoned.extend(left.map(|(task, _)| *task));
        }
    }

    fn perform(&mut self, actions: Vec<Action>, at: Timestamp, events_max: u64, turn: &mut TurnResult) {
        let events = self.row.events + (turn.events.len() + actions.len()) as u64;
        if events > events_max {
            let message = format!(
                "the history would have {events} events, history_events_max is {events_max}: continue as new from time to time"
            );
            let failure = Failure::new("HistoryLimit", message).permanent();
            return self.perform_one(Action::Fail { failure }, at, turn);
        }
        turn.events.reserve_exact(actions.len() + 1);
        let is_task = |action: &&Action| matches!(action, Action::ScheduleTask { .. });
        turn.tasks.reserve_exact(actions.iter().filter(is_task).count());
        for action in actions {
            self.perform_one(action, at, turn);
            if self.row.status.is_final() || turn.next.is_some() {
                break;
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "one match over all actions")]
    fn perform_one(&mut self, action: Action, at: Timestamp, turn: &mut TurnResult) {
        if let Some(kind) = action.to_event() {
            self.clear_unlock(&kind, turn);
            self.record(&kind);
            turn.events.push(Event { at, kind });
        }
        let begun = at;
        match action {
            Action::ScheduleTask {
                task,
                name,
                input,
                options,
            } => {
                let own = options.labels.as_ref().and_then(|labels| labels.trace.as_ref());
                turn.tasks.push(NewTask {
                    trace: self.trace_of_task(task, at, own),
                    task,
                    name,
                    input,
                    options,
                });
            }
            Action::CreateTimer { task, fire_at } => turn.timers.push((fire_at, task)),
            Action::CancelTimer { task } => self.cancel_timer(task, turn),
            Action::StartOrchestration {
                task,
                name,
                version,
                instance,
                input,
                link,
                mut options,
            } => {
                let labels = options.labels.take().map(|labels| *labels).unwrap_or_default();
                let parent = (link == ChildLink::Awaited).then(|| self.as_parent(task));
                let request = StartRequest {
                    depth: 0,
                    name,
                    version,
                    input,
                    parent_name: parent.is_some().then(|| self.name_as_parent()),
                    parent,
                    reuse: ReusePolicy::RejectRunning,
                    tags: labels.tags,
                    trace: match link {
                        ChildLink::Awaited => self.trace_of_task(task, at, labels.trace.as_ref()),
                        ChildLink::Detached => self.trace_within(labels.trace.as_ref()),
                    },
                };
                self.start_child(
                    NewChild {
                        task,
                        instance,
                        request,
                        options,
                    },
                    turn,
                );
            }
            Action::SendEvent {
                task,
                instance,
                name,
                input,
            } => {
                let trace = self.trace_of_task(task, at, None);
                turn.outgoing.push((
                    Target::Orchestration(instance),
                    Message::EventRaised { name, input, trace },
                ));
            }
            Action::CallEntity {
                task,
                entity,
                operation,
                input,
                ..
            } => {
                let caller = Some(self.as_caller(task));
                turn.outgoing.push((
                    Target::Entity(entity),
                    Message::Operation {
                        operation,
                        input,
                        caller,
                        at: None,
                        trace: self.trace_of_task(task, begun, None),
                    },
                ));
            }
            Action::SignalEntity {
                task,
                entity,
                operation,
                input,
                at,
                ..
            } => {
                turn.outgoing.push((
                    Target::Entity(entity),
                    Message::Operation {
                        operation,
                        input,
                        caller: None,
                        at,
                        trace: self.trace_of_task(task, begun, None),
                    },
                ));
            }
            Action::LockEntities { task, entities, .. } => self.request_lock(task, entities, turn),
            Action::UnlockEntities { .. } => {}
            Action::ContinueAsNew { version, input } => {
                self.release_all(turn);
                turn.next = Some(NextExecution { version, input });
            }
            Action::Complete { result } => self.end(Status::Completed, Ok(result), at, turn),
            Action::Fail { failure } => self.end(Status::Failed, Err(failure), at, turn),
            Action::EndCancelled { failure } => self.end_cancelled(failure, at, turn),
            Action::Terminate {
                instance,
                output,
                children,
            } => turn.outgoing.push((
                Target::Orchestration(instance),
                Message::Terminate {
                    reason: None,
                    output,
                    children,
                    parent: None,
                },
            )),
            Action::SetCustomStatus { status } => self.row.set_value(Field::CustomStatus, status),
        }
    }

    fn request_lock(&self, task: TaskId, entities: Vec<EntityId>, turn: &mut TurnResult) {
        if let Some(first) = entities.first().cloned() {
            let lock = Message::Lock {
                caller: self.as_caller(task),
                entities,
                position: 0,
            };
            turn.outgoing.push((Target::Entity(first), lock));
        }
    }

    fn start_child(&self, child: NewChild, turn: &mut TurnResult) {
        let start = Message::Start(Box::new(child.request.clone()));
        turn.outgoing
            .push((Target::Orchestration(child.instance.clone()), start));
        if child.request.parent.is_some() && child.options != ChildOptions::default() {
            turn.children.push(child);
        }
    }

    fn as_caller(&self, task: TaskId) -> Caller {
        Caller {
            instance: self.row.id.clone(),
            execution: self.row.key,
            task,
        }
    }

    /// This execution as the parent of what `task` started.
    pub fn as_parent(&self, task: TaskId) -> Parent {
        Parent {
            instance: self.row.id.clone(),
            execution: self.row.key,
            task,
        }
    }

    /// What children are told of it.
    pub fn name_as_parent(&self) -> Arc<ParentName> {
        Arc::new(ParentName {
            name: self.row.name.clone(),
            version: self.row.version.clone(),
            execution_id: self.row.execution_id,
        })
    }

    fn cancel_timer(&mut self, task: TaskId, turn: &mut TurnResult) {
        let Some(OpenTask::Timer { fire_at }) = self.tasks.get(&task) else {
            return;
        };
        let timer = (*fire_at, task);
        self.tasks.remove(&task);
        match turn.timers.iter().position(|set| *set == timer) {
            Some(at) => drop(turn.timers.swap_remove(at)),
            None => turn.cleared_timers.push(timer),
        }
    }

    /// Sends the releases for an unlock that is about to be recorded.
    fn clear_unlock(&self, kind: &EventKind, turn: &mut TurnResult) {
        if let EventKind::EntityUnlockSent { lock, only } = kind {
            self.release(*lock, only.as_deref().map(|only| &only.entity), turn);
        }
    }

    /// Sends the releases of a lock, or of one of its entities.
    fn release(&self, lock: TaskId, only: Option<&EntityId>, turn: &mut TurnResult) {
        let (Some(OpenTask::LockHeld { entities }) | Some(OpenTask::LockRequested { entities })) =
            self.tasks.get(&lock)
        else {
            return;
        };
        let is_meant = |entity: &&EntityId| only.is_none_or(|only| only == *entity);
        for entity in entities.iter().filter(is_meant) {
            let unlock = Message::Unlock {
                execution: self.row.key,
                task: lock,
            };
            turn.outgoing.push((Target::Entity(entity.clone()), unlock));
        }
    }

    /// Any end of an execution gives back its locks and timers, in the same commit.
    fn release_all(&mut self, turn: &mut TurnResult) {
        let tasks: Vec<TaskId> = self.tasks.keys().copied().collect();
        for task in tasks {
            if !planted::has(Bug::LocksKeptAtEnd) {
                self.release(task, None, turn);
            }
            self.cancel_timer(task, turn);
        }
        turn.timers.clear();
    }

    /// What was open when a request to end was taken, and still is after this turn's messages.
    fn tell_open(&self, turn: &mut TurnResult) {
        for task in self.cancel.iter().flat_map(|cancel| &cancel.told) {
            match self.tasks.get(task) {
                Some(OpenTask::Activity { .. }) => turn.told.push(*task),
                Some(OpenTask::Child {
                    instance,
                    parent_close,
                    ..
                }) => turn.told_children.push((*task, instance.clone(), *parent_close)),
                _ => {}
            }
        }
    }

    fn end_without_code(&mut self, ending: Ending, at: Timestamp, turn: &mut TurnResult) {
        match ending {
            Ending::Terminated {
                reason,
                output,
                children,
            } => {
                let output = output.or_else(|| reason.as_deref().map(json_string));
                self.terminate(reason, children, at, turn);
                self.row.set_value(Field::Output, output);
            }
            Ending::Canceled { reason } => {
                let failure = Failure::cancelled(reason.as_deref());
                let requested = EventKind::CancelRequested { reason };
                self.record(&requested);
                turn.events.push(Event { at, kind: requested });
                self.perform_one(Action::EndCancelled { failure }, at, turn);
            }
        }
    }

    /// The output is the reason, as after a termination; the failure says how the code ended.
    fn end_cancelled(&mut self, failure: Failure, at: Timestamp, turn: &mut TurnResult) {
        let reason = self.cancel.take().and_then(|cancel| cancel.reason);
        self.end(Status::Canceled, Err(failure), at, turn);
        self.row
            .set_value(Field::Output, reason.map(|reason| json_string(&reason)));
    }

    fn terminate(
        &mut self,
        reason: Option<String>,
        children: ParentClosePolicy,
        at: Timestamp,
        turn: &mut TurnResult,
    ) {
        for (task, open) in &self.tasks {
            match open {
                OpenTask::Activity { .. } => turn.cancelled.push(*task),
                OpenTask::Child { instance, .. } => turn.orphans.push((*task, instance.clone(), children)),
                _ => {}
            }
        }
        // A request to cancel in the same turn would have them told and waited for.
        turn.told.clear();
        let kind = EventKind::ExecutionTerminated {
            reason: reason.clone(),
        };
        turn.events.push(Event { at, kind });
        let message = reason.unwrap_or_else(|| "terminated".to_owned());
        self.end(
            Status::Terminated,
            Err(Failure::new("Terminated", message)),
            at,
            turn,
        );
        self.row.failure = None;
    }

    fn end(&mut self, status: Status, outcome: Outcome, at: Timestamp, turn: &mut TurnResult) {
        self.release_all(turn);
        self.tasks.clear();
        self.row.status = status;
        self.row.completed = Some(at);
        self.row.parked = None;
        if let Some(parent) = self
            .row
            .parent
            .clone()
            .filter(|_| !planted::has(Bug::ParentNotTold))
        {
            let done = Message::ChildDone {
                execution: parent.execution,
                task: parent.task,
                outcome: outcome.clone(),
            };
            turn.outgoing.push((Target::Orchestration(parent.instance), done));
        }
        match outcome {
            Ok(result) => self.row.set_value(Field::Output, result),
            Err(failure) => self.row.failure = Some(failure),
        }
    }

    /// Keeps the table of open tasks: the same for events that are new and for those read back.
    #[expect(clippy::too_many_lines, reason = "one match over all events")]
    fn record(&mut self, kind: &EventKind) {
        match kind {
            EventKind::ExecutionStarted(started) => {
                self.trace.clone_from(&started.trace);
                self.parent_name.clone_from(&started.parent_name);
            }
            EventKind::TaskScheduled {
                task, name, options, ..
            } => {
                let activity = OpenTask::Activity {
                    name: name.clone(),
                    undo: options.as_ref().is_some_and(|options| options.undo),
                };
                self.tasks.insert(*task, activity);
            }
            EventKind::TimerCreated { task, fire_at } => {
                self.tasks.insert(*task, OpenTask::Timer { fire_at: *fire_at });
            }
            EventKind::SubOrchestrationInstanceCreated {
                task,
                instance,
                link: ChildLink::Awaited,
                parent_close,
                undo,
                ..
            } => {
                self.tasks.insert(
                    *task,
                    OpenTask::Child {
                        instance: instance.clone(),
                        parent_close: *parent_close,
                        undo: *undo,
                    },
                );
            }
            EventKind::EntityOperationCalled { task, entity, .. } => {
                self.tasks.insert(
                    *task,
                    OpenTask::EntityCall {
                        entity: entity.clone(),
                    },
                );
            }
            EventKind::EntityLockRequested { task, entities, .. } => {
                self.tasks.insert(
                    *task,
                    OpenTask::LockRequested {
                        entities: entities.clone(),
                    },
                );
            }
            EventKind::EntityLockGranted { task } => {
                if let Some(OpenTask::LockRequested { entities }) = self.tasks.remove(task) {
                    self.tasks.insert(*task, OpenTask::LockHeld { entities });
                }
            }
            EventKind::CancelRequested { reason } => self.record_cancel(reason.as_ref()),
            EventKind::TaskCompleted { task, .. }
            | EventKind::TaskFailed { task, .. }
            | EventKind::TimerFired { task, .. }
            | EventKind::SubOrchestrationInstanceCompleted { task, .. }
            | EventKind::SubOrchestrationInstanceFailed { task, .. }
            | EventKind::EntityOperationCompleted { task, .. }
            | EventKind::EntityOperationFailed { task, .. }
            | EventKind::EntityUnlockSent {
                lock: task,
                only: None,
            } => {
                self.tasks.remove(task);
            }
            EventKind::EntityUnlockSent {
                lock,
                only: Some(only),
            } => self.let_go(*lock, &only.entity),
            _ => {}
        }
    }

    /// One entity of a lock is free; with the last one the lock is gone.
    fn let_go(&mut self, lock: TaskId, entity: &EntityId) {
        if let Some(OpenTask::LockHeld { entities }) = self.tasks.get_mut(&lock) {
            entities.retain(|held| held != entity);
            if entities.is_empty() {
                self.tasks.remove(&lock);
            }
        }
    }

    fn record_cancel(&mut self, reason: Option<&String>) {
        let told = self.tasks.iter().filter(|(_, open)| is_told(open));
        self.cancel = Some(CancelRequest {
            reason: reason.cloned(),
            told: told.map(|(task, _)| *task).collect(),
        });
    }

    fn started_event(&self) -> EventKind {
        EventKind::ExecutionStarted(Box::new(ExecutionStarted {
            name: self.row.name.clone(),
            version: self.row.version.clone(),
            execution_id: self.row.execution_id,
            input: self.row.input.clone(),
            parent: self.row.parent.clone(),
            parent_name: self.parent_name.clone(),
            scheduled_start: self.row.scheduled_start,
            trace: self.trace.clone(),
        }))
    }
}

/// Does it hear of a request to cancel, and answer? What undoes does not, nor a child that goes on.
fn is_told(open: &OpenTask) -> bool {
    match open {
        OpenTask::Activity { undo, .. } => !undo,
        OpenTask::Child {
            parent_close, undo, ..
        } => !undo && *parent_close != ParentClosePolicy::Abandon,
        _ => false,
    }
}

/// Is it a child that goes on when its parent is to end, and is not waited for?
fn is_abandoned(open: &OpenTask) -> bool {
    matches!(
        open,
        OpenTask::Child {
            parent_close: ParentClosePolicy::Abandon,
            undo: false,
            ..
        }
    )
}

/// A text as a JSON string.
pub fn json_string(text: &str) -> Payload {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", c as u32)),
            c => json.push(c),
        }
    }
    json.push('"');
    Payload::from(json)
}

/// Turns messages into events, one after the other.
struct Drafter<'o> {
    orchestration: &'o Orchestration,
    at: Timestamp,
    events: Vec<Event>,
    /// Tasks that were answered in this very batch.
    answered: BTreeSet<TaskId>,
    releases: Vec<(Target, Message)>,
    status: Status,
    started: bool,
    /// What was held before the last message may be looked at again.
    frees_held: bool,
    ending: Option<Ending>,
    /// Who is told by the request to cancel that is taken in this very batch, or was before.
    cancel: Option<CancelRequest>,
}

impl<'o> Drafter<'o> {
    fn new(orchestration: &'o Orchestration, now: Timestamp) -> Self {
        Self {
            orchestration,
            at: now.max(orchestration.row.updated),
            events: Vec::new(),
            answered: BTreeSet::new(),
            releases: Vec::new(),
            status: orchestration.row.status,
            started: orchestration.has_started(),
            frees_held: false,
            ending: None,
            cancel: orchestration.cancel.clone(),
        }
    }

    fn take(&mut self, message: &Message) -> Fate {
        if self.status.is_final() || self.ending.is_some() {
            return self.drop(message);
        }
        match message {
            other if !other.is_for(self.orchestration.row.parent.as_ref()) => Fate::Dropped,
            Message::Terminate {
                reason,
                output,
                children,
                ..
            } => {
                self.begin();
                self.frees_held = true;
                self.ending = Some(Ending::Terminated {
                    reason: reason.clone(),
                    output: output.clone(),
                    children: *children,
                });
                Fate::Taken
            }
            Message::Cancel { .. } if self.cancel.is_some() => Fate::Dropped,
            Message::Cancel { reason, .. } if self.status == Status::Pending => {
                self.begin();
                self.frees_held = true;
                self.ending = Some(Ending::Canceled {
                    reason: reason.clone(),
                });
                Fate::Taken
            }
            _ if self.orchestration.row.parked.is_some() => Fate::Held,
            Message::Suspend { reason } if self.status != Status::Suspended => {
                self.status = Status::Suspended;
                self.push_if_started(EventKind::ExecutionSuspended {
                    reason: reason.clone(),
                });
                Fate::Taken
            }
            Message::Resume { reason } if self.status == Status::Suspended => {
                self.status = if self.started {
                    Status::Running
                } else {
                    Status::Pending
                };
                self.frees_held = true;
                self.push_if_started(EventKind::ExecutionResumed {
                    reason: reason.clone(),
                });
                Fate::Taken
            }
            Message::Suspend { .. } | Message::Resume { .. } => Fate::Dropped,
            _ if self.status == Status::Suspended => Fate::Held,
            _ => self.take_running(message),
        }
    }

    /// After a start or a resume, what waited so far comes first and in its old order; after an end
    /// it is dropped. A start among it frees what came before: then it is begun anew.
    fn take_held<'m>(&mut self, messages: impl Iterator<Item = &'m Message>, fates: &mut [Fate]) {
        for (message, fate) in messages.zip(fates) {
            if *fate == Fate::Held {
                *fate = self.take(message);
            }
            if self.frees_held {
                return;
            }
        }
    }

    fn take_running(&mut self, message: &Message) -> Fate {
        if let Message::TimerFired {
            execution,
            task: TaskId::START,
            ..
        } = message
        {
            return self.take_start(*execution == self.orchestration.row.key);
        }
        if !self.started {
            return Fate::Held;
        }
        if let Message::EventRaised { name, input, trace } = message {
            self.push(EventKind::EventRaised {
                name: name.clone(),
                input: input.clone(),
                trace: trace.clone(),
            });
            return Fate::Taken;
        }
        if let Message::Cancel { reason, .. } = message {
            self.take_cancel(reason.as_ref());
            return Fate::Taken;
        }
        match self.completion(message) {
            Some(kind) => {
                self.push(kind);
                Fate::Taken
            }
            None => self.drop(message),
        }
    }

    /// The code learns of it. A child that is to go on is not waited for any longer.
    fn take_cancel(&mut self, reason: Option<&String>) {
        let reason = reason.cloned();
        self.push(EventKind::CancelRequested {
            reason: reason.clone(),
        });
        let failure = Failure::cancelled(reason.as_deref());
        let mut told = BTreeSet::new();
        for (task, open) in &self.orchestration.tasks {
            if self.answered.contains(task) {
                continue;
            }
            if is_told(open) {
                told.insert(*task);
            } else if is_abandoned(open) {
                self.answered.insert(*task);
                let kind = EventKind::SubOrchestrationInstanceFailed {
                    task: *task,
                    failure: failure.clone(),
                };
                self.events.push(Event { at: self.at, kind });
            }
        }
        self.cancel = Some(CancelRequest { reason, told });
    }

    fn take_start(&mut self, is_ours: bool) -> Fate {
        if self.started || !is_ours {
            return Fate::Dropped;
        }
        self.started = true;
        self.frees_held = !planted::has(Bug::EarlyEventsForgotten);
        self.status = Status::Running;
        let started = self.orchestration.started_event();
        self.push(started);
        Fate::Taken
    }

    /// The event of a message that answers a task, if the task still waits for it.
    fn completion(&mut self, message: &Message) -> Option<EventKind> {
        let (execution, task) = match message {
            Message::TaskDone { execution, task, .. }
            | Message::TimerFired { execution, task, .. }
            | Message::ChildDone { execution, task, .. }
            | Message::EntityAnswered { execution, task, .. }
            | Message::LockGranted { execution, task, .. } => (*execution, *task),
            _ => return None,
        };
        let open = self.orchestration.tasks.get(&task)?;
        let is_ours = execution == self.orchestration.row.key || planted::has(Bug::OldExecutionTaken);
        let is_answered = self.answered.contains(&task) && !planted::has(Bug::CompletionTakenTwice);
        if !is_ours || is_answered {
            return None;
        }
        let mut kind = completion_event(message, open)?;
        self.answered.insert(task);
        self.name_cancellation(task, &mut kind);
        Some(kind)
    }

    /// What fails after it was told to end was cancelled, whatever it says itself.
    fn name_cancellation(&self, task: TaskId, kind: &mut EventKind) {
        let (EventKind::TaskFailed { failure, .. }
        | EventKind::SubOrchestrationInstanceFailed { failure, .. }) = kind
        else {
            return;
        };
        let Some(cancel) = self.cancel.as_ref().filter(|cancel| cancel.told.contains(&task)) else {
            return;
        };
        let own = std::mem::replace(failure, Failure::cancelled(cancel.reason.as_deref()));
        failure.cause = (!own.is_cancelled()).then(|| Box::new(own));
    }

    /// A grant that nobody wants is answered with a release; everything else is just dropped.
    fn drop(&mut self, message: &Message) -> Fate {
        if let Message::LockGranted {
            execution,
            task,
            entities,
        } = message
        {
            let held = matches!(
                self.orchestration.tasks.get(task),
                Some(OpenTask::LockHeld { .. })
            ) && *execution == self.orchestration.row.key
                && !self.status.is_final();
            if !held && !planted::has(Bug::GrantNotReleased) {
                let unlock = Message::Unlock {
                    execution: *execution,
                    task: *task,
                };
                let releases = entities
                    .iter()
                    .map(|entity| (Target::Entity(entity.clone()), unlock.clone()));
                self.releases.extend(releases);
            }
        }
        Fate::Dropped
    }

    fn begin(&mut self) {
        if self.events.is_empty() {
            self.events.push(Event {
                at: self.at,
                kind: EventKind::OrchestratorStarted,
            });
        }
    }

    fn push(&mut self, kind: EventKind) {
        self.begin();
        self.events.push(Event { at: self.at, kind });
    }

    fn push_if_started(&mut self, kind: EventKind) {
        if self.started {
            self.push(kind);
        }
    }

    fn finish(self, fates: Vec<Fate>) -> Draft {
        Draft {
            events: self.events,
            fates,
            releases: self.releases,
            status: self.status,
            ending: self.ending,
        }
    }
}

fn completion_event(message: &Message, open: &OpenTask) -> Option<EventKind> {
    let kind = match (message, open) {
        (
            Message::TaskDone {
                task,
                outcome,
                attempts,
                ..
            },
            OpenTask::Activity { .. },
        ) => match outcome.clone() {
            Ok(result) => EventKind::TaskCompleted {
                task: *task,
                result,
                attempts: attempts.clone(),
            },
            Err(failure) => EventKind::TaskFailed {
                task: *task,
                failure,
                attempts: attempts.clone(),
            },
        },
        (Message::TimerFired { task, .. }, OpenTask::Timer { fire_at }) => EventKind::TimerFired {
            task: *task,
            fire_at: *fire_at,
        },
        (Message::ChildDone { task, outcome, .. }, OpenTask::Child { .. }) => match outcome.clone() {
            Ok(result) => EventKind::SubOrchestrationInstanceCompleted { task: *task, result },
            Err(failure) => EventKind::SubOrchestrationInstanceFailed { task: *task, failure },
        },
        (Message::EntityAnswered { task, outcome, .. }, OpenTask::EntityCall { .. }) => match outcome.clone()
        {
            Ok(result) => EventKind::EntityOperationCompleted { task: *task, result },
            Err(failure) => EventKind::EntityOperationFailed { task: *task, failure },
        },
        (Message::LockGranted { task, .. }, OpenTask::LockRequested { .. }) => {
            EventKind::EntityLockGranted { task: *task }
        }
        _ => return None,
    };
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ExecutionId, ExecutionKey, PartitionId};

    fn instance(events: u64, status: Status) -> Orchestration {
        let at = Timestamp::from_micros(0);
        Orchestration::new(InstanceRow {
            key: ExecutionKey(1),
            partition: PartitionId(0),
            id: InstanceId::trusted("i"),
            execution_id: ExecutionId(1),
            name: "o".into(),
            version: None,
            status,
            created: at,
            updated: at,
            completed: None,
            scheduled_start: None,
            parent: None,
            tags: Vec::new(),
            input: None,
            custom_status: None,
            output: None,
            failure: None,
            parked: None,
            events,
            extra: Vec::new(),
            apart: Default::default(),
        })
    }

    fn event(name: &str) -> Message {
        Message::EventRaised {
            name: name.into(),
            input: None,
            trace: None,
        }
    }

    fn begin() -> Message {
        let fire_at = Timestamp::from_micros(0);
        Message::TimerFired {
            execution: ExecutionKey(1),
            task: TaskId::START,
            fire_at,
        }
    }

    /// The names of the events that reach the code, in order, and what becomes of the messages.
    fn check(orchestration: &Orchestration, messages: &[Message], names: &[&str], fates: &[Fate]) {
        let draft = orchestration.draft(messages.iter(), Timestamp::from_micros(5));
        let raised = draft.events.iter().filter_map(|event| match &event.kind {
            EventKind::EventRaised { name, .. } => Some(&**name),
            _ => None,
        });
        assert_eq!(raised.collect::<Vec<_>>(), names);
        assert_eq!(draft.fates, fates);
    }

    #[test]
    fn what_came_before_the_start_is_read_after_it_and_in_order() {
        // After a crash an event carried over continue-as-new was read back before the message
        // that begins the execution: it was held, and nobody looked at it again.
        let messages = [event("a"), begin(), event("b")];
        check(
            &instance(0, Status::Running),
            &messages,
            &["a", "b"],
            &[Fate::Taken; 3],
        );
    }

    #[test]
    fn no_time_is_before_a_timer_that_fired() {
        // A timer fired while its instance was suspended; the machine went down and came back with
        // its clock set back; after the resume the code saw a time before the timer was due.
        let due = Timestamp::from_micros(1_000);
        let fired = Message::TimerFired {
            execution: ExecutionKey(1),
            task: TaskId::START,
            fire_at: due,
        };
        let draft = instance(0, Status::Pending).draft([fired].iter(), Timestamp::from_micros(5));
        assert!(draft.events.iter().all(|event| event.at == due));
    }

    #[test]
    fn a_start_that_waited_for_a_resume_lets_in_what_came_before_it() {
        // A delayed start got an event, was suspended, and became due: after the resume the start
        // was taken, and nobody looked at the event again.
        let messages = [
            event("a"),
            begin(),
            event("b"),
            Message::Resume { reason: None },
            event("c"),
        ];
        check(
            &instance(0, Status::Suspended),
            &messages,
            &["a", "b", "c"],
            &[Fate::Taken; 5],
        );
    }

    #[test]
    fn a_resume_lets_in_what_waited_before_what_follows() {
        let messages = [event("a"), Message::Resume { reason: None }, event("b")];
        check(
            &instance(3, Status::Suspended),
            &messages,
            &["a", "b"],
            &[Fate::Taken; 3],
        );
    }

    #[test]
    fn an_end_drops_what_waited() {
        let terminate = Message::Terminate {
            reason: None,
            output: None,
            children: ParentClosePolicy::Abandon,
            parent: None,
        };
        let messages = [event("a"), terminate, event("b")];
        let fates = [Fate::Dropped, Fate::Taken, Fate::Dropped];
        check(&instance(3, Status::Suspended), &messages, &[], &fates);
    }
}
