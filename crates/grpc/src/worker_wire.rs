//! The protocol as a worker in Rust reads and writes it: histories come in, actions go out.
//! The reverse of `wire`.

use std::sync::Arc;

use dalsegno_core::action::{TaskLabels, TaskOptions};
use dalsegno_core::event::{
    Attempts, CANCEL_EVENT, Event, EventKind, ExecutionStarted, OneOfLock, Parent, ParentClosePolicy,
};
use dalsegno_core::id::ExecutionKey;
use dalsegno_core::{Action, ExecutionId, InstanceId, Payload, TaskId, Timestamp};
use hashbrown::HashMap;
use prost::Message as _;
use prost::bytes::Bytes;

use crate::fields::EndStatus;
use crate::proto::history_event::Kind as WireEvent;
use crate::proto::orchestrator_action::Kind as WireAction;
use crate::wire;
use crate::{fields, options, proto};

/// Reads the history of one execution, in order.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Calls and locks of entities, by the names that their answers have.
    requests: HashMap<String, TaskId>,
    is_in_turn: bool,
    last: Timestamp,
}

impl Reader {
    /// Turns that are over. The protocol does not say where a turn ends: before the next begins.
    pub(crate) fn past(&mut self, events: &[Bytes]) -> Result<Vec<Event>, String> {
        let mut read = Vec::with_capacity(events.len() + events.len() / 2);
        self.read(events, &mut read)?;
        self.end_turn(&mut read);
        Ok(read)
    }

    /// The turn that is to be run.
    pub(crate) fn new_turn(&mut self, events: &[Bytes]) -> Result<Vec<Event>, String> {
        let mut read = Vec::with_capacity(events.len());
        self.read(events, &mut read)?;
        // What becomes of it is asked for now, and not read.
        self.is_in_turn = false;
        Ok(read)
    }

    /// The worker's own calls and locks, which later turns answer.
    pub(crate) fn note_asked(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::CallEntity { task, request, .. } | Action::LockEntities { task, request, .. } =
                action
            {
                self.requests.insert(name_of(*task, request.as_ref()), *task);
            }
        }
    }

    fn read(&mut self, events: &[Bytes], into: &mut Vec<Event>) -> Result<(), String> {
        for bytes in events {
            let event = proto::HistoryEvent::decode(bytes.as_ref())
                .map_err(|error| format!("an event of the history cannot be read: {error}"))?;
            let at = fields::time_if("timestamp", event.timestamp)?.unwrap_or(self.last);
            let Some(kind) = self.kind(event)? else { continue };
            if kind == EventKind::OrchestratorStarted {
                self.end_turn(into);
                self.is_in_turn = true;
            }
            self.last = at;
            into.push(Event { at, kind });
        }
        Ok(())
    }

    fn end_turn(&mut self, into: &mut Vec<Event>) {
        if std::mem::take(&mut self.is_in_turn) {
            let (at, kind) = (self.last, EventKind::OrchestratorCompleted);
            into.push(Event { at, kind });
        }
    }

    fn request(&self, name: &str) -> Result<TaskId, String> {
        let known = self.requests.get(name).copied();
        known.ok_or_else(|| format!("the history answers a call or lock {name} that it does not record"))
    }

    fn answered(&mut self, name: &str) -> Result<TaskId, String> {
        let task = self.request(name)?;
        self.requests.remove(name);
        Ok(task)
    }

    /// `None` for what says nothing to the code.
    #[expect(clippy::too_many_lines, reason = "one match over all events")]
    fn kind(&mut self, event: proto::HistoryEvent) -> Result<Option<EventKind>, String> {
        let id = event.event_id;
        let task = || asked_as(id);
        Ok(Some(match event.kind {
            Some(WireEvent::OrchestratorStarted(_)) => EventKind::OrchestratorStarted,
            Some(WireEvent::ExecutionStarted(started)) => {
                EventKind::ExecutionStarted(Box::new(execution(started)?))
            }
            Some(WireEvent::TaskScheduled(scheduled)) => EventKind::TaskScheduled {
                task: task()?,
                name: scheduled.name.into(),
                input: scheduled.input.map(Payload::from),
                options: options_of(scheduled.version, scheduled.tags, scheduled.parent_trace_context),
            },
            Some(WireEvent::TaskCompleted(completed)) => EventKind::TaskCompleted {
                task: asked_as(completed.task_scheduled_id)?,
                result: completed.result.map(Payload::from),
                attempts: Attempts::from(1),
            },
            Some(WireEvent::TaskFailed(failed)) => EventKind::TaskFailed {
                task: asked_as(failed.task_scheduled_id)?,
                failure: failed.failure_details.map(wire::failure).unwrap_or_default(),
                attempts: Attempts::from(1),
            },
            Some(WireEvent::TimerCreated(timer)) => EventKind::TimerCreated {
                task: task()?,
                fire_at: fields::time_if("fireAt", timer.fire_at)?.unwrap_or_default(),
            },
            Some(WireEvent::TimerFired(timer)) => EventKind::TimerFired {
                task: asked_as(timer.timer_id)?,
                fire_at: fields::time_if("fireAt", timer.fire_at)?.unwrap_or_default(),
            },
            Some(WireEvent::SubOrchestrationInstanceCreated(child)) => {
                let (link, options) = options::child(&child.tags)?;
                EventKind::SubOrchestrationInstanceCreated {
                    task: task()?,
                    name: child.name.into(),
                    version: text(child.version),
                    instance: InstanceId::trusted(child.instance_id),
                    input: child.input.map(Payload::from),
                    link,
                    parent_close: options.parent_close,
                    undo: options.undo,
                }
            }
            Some(WireEvent::SubOrchestrationInstanceCompleted(completed)) => {
                EventKind::SubOrchestrationInstanceCompleted {
                    task: asked_as(completed.task_scheduled_id)?,
                    result: completed.result.map(Payload::from),
                }
            }
            Some(WireEvent::SubOrchestrationInstanceFailed(failed)) => {
                EventKind::SubOrchestrationInstanceFailed {
                    task: asked_as(failed.task_scheduled_id)?,
                    failure: failed.failure_details.map(wire::failure).unwrap_or_default(),
                }
            }
            Some(WireEvent::EventSent(sent)) => EventKind::EventSent {
                task: task()?,
                instance: InstanceId::trusted(sent.instance_id),
                name: sent.name.into(),
                input: sent.input.map(Payload::from),
            },
            Some(WireEvent::EventRaised(raised)) if raised.name == CANCEL_EVENT => {
                EventKind::CancelRequested {
                    reason: raised.input.and_then(|reason| serde_json::from_str(&reason).ok()),
                }
            }
            Some(WireEvent::EventRaised(raised)) => EventKind::EventRaised {
                name: raised.name.into(),
                input: raised.input.map(Payload::from),
                trace: None,
            },
            Some(WireEvent::EntityOperationCalled(call)) => {
                let task = task()?;
                self.requests.insert(call.request_id.clone(), task);
                EventKind::EntityOperationCalled {
                    task,
                    entity: wire::entity_id(&call.target_instance_id.unwrap_or_default())?,
                    operation: call.operation.into(),
                    input: call.input.map(Payload::from),
                    request: wire::own_name(id, call.request_id),
                }
            }
            Some(WireEvent::EntityOperationSignaled(signal)) => EventKind::EntityOperationSignaled {
                task: task()?,
                entity: wire::entity_id(&signal.target_instance_id.unwrap_or_default())?,
                operation: signal.operation.into(),
                input: signal.input.map(Payload::from),
                at: fields::time_if("scheduledTime", signal.scheduled_time)?,
                request: wire::own_name(id, signal.request_id),
            },
            Some(WireEvent::EntityOperationCompleted(completed)) => EventKind::EntityOperationCompleted {
                task: self.answered(&completed.request_id)?,
                result: completed.output.map(Payload::from),
            },
            Some(WireEvent::EntityOperationFailed(failed)) => EventKind::EntityOperationFailed {
                task: self.answered(&failed.request_id)?,
                failure: failed.failure_details.map(wire::failure).unwrap_or_default(),
            },
            Some(WireEvent::EntityLockRequested(lock)) => {
                let task = task()?;
                self.requests.insert(lock.critical_section_id.clone(), task);
                let entities = lock.lock_set.iter().map(|entity| wire::entity_id(entity));
                EventKind::EntityLockRequested {
                    task,
                    entities: entities.collect::<Result<_, _>>()?,
                    request: wire::own_name(id, lock.critical_section_id),
                }
            }
            Some(WireEvent::EntityLockGranted(granted)) => EventKind::EntityLockGranted {
                task: self.request(&granted.critical_section_id)?,
            },
            Some(WireEvent::EntityUnlockSent(unlock)) => EventKind::EntityUnlockSent {
                lock: self.request(&unlock.critical_section_id)?,
                only: match unlock.target_instance_id {
                    None => None,
                    Some(target) => Some(Box::new(OneOfLock {
                        task: task()?,
                        entity: wire::entity_id(&target)?,
                    })),
                },
            },
            Some(WireEvent::ExecutionSuspended(suspended)) => EventKind::ExecutionSuspended {
                reason: suspended.input,
            },
            Some(WireEvent::ExecutionResumed(resumed)) => EventKind::ExecutionResumed {
                reason: resumed.input,
            },
            Some(WireEvent::ExecutionTerminated(terminated)) => EventKind::ExecutionTerminated {
                reason: terminated.input,
            },
            Some(WireEvent::ExecutionCompleted(completed)) => end(completed)?,
            _ => return Ok(None),
        }))
    }
}

/// What an execution is told about itself: from the event that began it.
pub(crate) fn started(events: &[Bytes]) -> Option<proto::ExecutionStartedEvent> {
    events.iter().find_map(
        |bytes| match proto::HistoryEvent::decode(bytes.as_ref()).ok()?.kind? {
            WireEvent::ExecutionStarted(started) => Some(started),
            _ => None,
        },
    )
}

/// 32 hexadecimal digits; an execution that is called otherwise has a number of its own from its name.
pub(crate) fn execution_id(text: &str) -> ExecutionId {
    let number = u128::from_str_radix(text, 16);
    ExecutionId(number.unwrap_or_else(|_| dalsegno_core::hash::wide(text)))
}

fn asked_as(id: i32) -> Result<TaskId, String> {
    let number = u32::try_from(id).map_err(|_| format!("an event of the history has the id {id}"))?;
    Ok(TaskId(number))
}

fn name_of(task: TaskId, request: Option<&Arc<str>>) -> String {
    request.map_or_else(|| task.to_string(), |request| request.to_string())
}

fn text(value: Option<String>) -> Option<Arc<str>> {
    value.filter(|value| !value.is_empty()).map(Into::into)
}

fn execution(started: proto::ExecutionStartedEvent) -> Result<ExecutionStarted, String> {
    let own = started.orchestration_instance.unwrap_or_default();
    let parent = started.parent_instance.and_then(|parent| {
        Some(Parent {
            instance: InstanceId::trusted(parent.orchestration_instance?.instance_id),
            // The key is the hub's affair.
            execution: ExecutionKey(0),
            task: asked_as(parent.task_scheduled_id).ok()?,
        })
    });
    Ok(ExecutionStarted {
        parent_name: None,
        name: started.name.into(),
        version: text(started.version),
        execution_id: execution_id(&own.execution_id.unwrap_or_default()),
        input: started.input.map(Payload::from),
        parent,
        scheduled_start: fields::time_if("scheduledStartTimestamp", started.scheduled_start_timestamp)?,
        trace: wire::trace(started.parent_trace_context),
    })
}

fn options_of(
    version: Option<String>,
    tags: std::collections::HashMap<String, String>,
    context: Option<proto::TraceContext>,
) -> Option<Box<TaskOptions>> {
    let labels = wire::labels(version.map(Into::into), tags, context)?;
    Some(Box::new(TaskOptions {
        labels: Some(labels),
        ..TaskOptions::default()
    }))
}

fn end(completed: proto::ExecutionCompletedEvent) -> Result<EventKind, String> {
    let failure = completed.failure_details.map(wire::failure);
    let status = fields::end_status("orchestrationStatus", completed.orchestration_status)?;
    Ok(match (status, failure) {
        (EndStatus::Canceled, failure) => EventKind::ExecutionCanceled {
            failure: failure.unwrap_or_default(),
        },
        (_, Some(failure)) => EventKind::ExecutionFailed { failure },
        (_, None) => EventKind::ExecutionCompleted {
            result: completed.result.map(Payload::from),
        },
    })
}

/// The answer of a turn: what its code asked for, and external events that it left for the next
/// execution.
pub(crate) fn answer(actions: Vec<Action>, unread: Vec<EventKind>) -> proto::OrchestratorResponse {
    let mut writer = Writer {
        response: proto::OrchestratorResponse {
            keeps_custom_status: true,
            ..Default::default()
        },
        last: -1,
        unread,
    };
    for action in actions {
        writer.write(action);
    }
    writer.response
}

/// The answer of code that does not fit its history.
pub(crate) fn fault(fault: &dalsegno_core::Fault) -> proto::OrchestratorResponse {
    let complete = proto::CompleteOrchestrationAction {
        orchestration_status: proto::OrchestrationStatus::Failed.into(),
        failure_details: Some(wire::fault_of(fault)),
        ..Default::default()
    };
    proto::OrchestratorResponse {
        actions: vec![proto::OrchestratorAction {
            id: -1,
            kind: Some(WireAction::CompleteOrchestration(complete)),
        }],
        keeps_custom_status: true,
        ..Default::default()
    }
}

struct Writer {
    response: proto::OrchestratorResponse,
    /// The last number used: what has none of its own stays behind it.
    last: i32,
    unread: Vec<EventKind>,
}

impl Writer {
    fn push(&mut self, id: i32, kind: WireAction) {
        self.last = id;
        let kind = Some(kind);
        self.response.actions.push(proto::OrchestratorAction { id, kind });
    }

    fn entity(&mut self, id: i32, kind: proto::send_entity_message_action::Kind) {
        let message = proto::SendEntityMessageAction { kind: Some(kind) };
        self.push(id, WireAction::SendEntityMessage(message));
    }

    fn end(&mut self, complete: proto::CompleteOrchestrationAction) {
        let id = self.last.saturating_add(1);
        self.push(id, WireAction::CompleteOrchestration(complete));
    }

    fn end_badly(&mut self, status: proto::OrchestrationStatus, failure: &dalsegno_core::Failure) {
        self.end(proto::CompleteOrchestrationAction {
            orchestration_status: status.into(),
            failure_details: Some(wire::failure_of(failure)),
            ..Default::default()
        });
    }

    #[expect(clippy::too_many_lines, reason = "one match over all actions")]
    fn write(&mut self, action: Action) {
        use proto::send_entity_message_action::Kind as Message;
        match action {
            Action::ScheduleTask {
                task,
                name,
                input,
                options,
            } => {
                let tag = options::of_task(&options);
                let labels = options.labels.map(|labels| *labels).unwrap_or_default();
                let TaskLabels { version, tags, trace } = labels;
                let scheduled = proto::ScheduleTaskAction {
                    name: name.to_string(),
                    version: version.map(|version| version.to_string()),
                    input: wire::text_of(input.as_ref()),
                    tags: tags.into_iter().chain(tag).collect(),
                    parent_trace_context: wire::trace_of(trace.as_ref()),
                };
                self.push(wire::event_id(task), WireAction::ScheduleTask(scheduled));
            }
            Action::CreateTimer { task, fire_at } => {
                let timer = proto::CreateTimerAction {
                    fire_at: Some(wire::timestamp(fire_at)),
                };
                self.push(wire::event_id(task), WireAction::CreateTimer(timer));
            }
            Action::CancelTimer { task } => self.response.cancelled_timers.push(wire::event_id(task)),
            Action::StartOrchestration {
                task,
                name,
                version,
                instance,
                input,
                link,
                options,
            } => {
                let tag = options::of_child(options.retry.as_ref(), link, options.parent_close, options.undo);
                let labels = options.labels.map(|labels| *labels).unwrap_or_default();
                let child = proto::CreateSubOrchestrationAction {
                    instance_id: instance.as_str().to_owned(),
                    name: name.to_string(),
                    version: version.map(|version| version.to_string()),
                    input: wire::text_of(input.as_ref()),
                    parent_trace_context: wire::trace_of(labels.trace.as_ref()),
                    tags: labels.tags.into_iter().chain(tag).collect(),
                };
                self.push(wire::event_id(task), WireAction::CreateSubOrchestration(child));
            }
            Action::SendEvent {
                task,
                instance,
                name,
                input,
            } => {
                let event = proto::SendEventAction {
                    instance: Some(proto::OrchestrationInstance {
                        instance_id: instance.as_str().to_owned(),
                        execution_id: None,
                    }),
                    name: name.to_string(),
                    data: wire::text_of(input.as_ref()),
                };
                self.push(wire::event_id(task), WireAction::SendEvent(event));
            }
            Action::CallEntity {
                task,
                entity,
                operation,
                input,
                request,
            } => {
                let call = proto::EntityOperationCalledEvent {
                    request_id: name_of(task, request.as_ref()),
                    operation: operation.to_string(),
                    input: wire::text_of(input.as_ref()),
                    target_instance_id: Some(entity.to_string()),
                    ..Default::default()
                };
                self.entity(wire::event_id(task), Message::EntityOperationCalled(call));
            }
            Action::SignalEntity {
                task,
                entity,
                operation,
                input,
                at,
                request,
            } => {
                let signal = proto::EntityOperationSignaledEvent {
                    request_id: name_of(task, request.as_ref()),
                    operation: operation.to_string(),
                    scheduled_time: at.map(wire::timestamp),
                    input: wire::text_of(input.as_ref()),
                    target_instance_id: Some(entity.to_string()),
                };
                self.entity(wire::event_id(task), Message::EntityOperationSignaled(signal));
            }
            Action::LockEntities {
                task,
                entities,
                request,
            } => {
                let lock = proto::EntityLockRequestedEvent {
                    critical_section_id: name_of(task, request.as_ref()),
                    lock_set: entities.iter().map(ToString::to_string).collect(),
                    ..Default::default()
                };
                self.entity(wire::event_id(task), Message::EntityLockRequested(lock));
            }
            Action::UnlockEntities { lock, only } => {
                let id = only.as_ref().map_or(self.last, |only| wire::event_id(only.task));
                let unlock = proto::EntityUnlockSentEvent {
                    critical_section_id: lock.to_string(),
                    parent_instance_id: None,
                    target_instance_id: only.map(|only| only.entity.to_string()),
                };
                self.entity(id, Message::EntityUnlockSent(unlock));
            }
            Action::ContinueAsNew { version, input } => {
                let carryover_events = std::mem::take(&mut self.unread).into_iter().filter_map(raised);
                let complete = proto::CompleteOrchestrationAction {
                    orchestration_status: proto::OrchestrationStatus::ContinuedAsNew.into(),
                    result: wire::text_of(input.as_ref()),
                    new_version: version.map(|version| version.to_string()),
                    carryover_events: carryover_events.collect(),
                    ..Default::default()
                };
                self.end(complete);
            }
            Action::Complete { result } => self.end(proto::CompleteOrchestrationAction {
                orchestration_status: proto::OrchestrationStatus::Completed.into(),
                result: wire::text_of(result.as_ref()),
                ..Default::default()
            }),
            Action::Fail { failure } => self.end_badly(proto::OrchestrationStatus::Failed, &failure),
            Action::EndCancelled { failure } => {
                self.end_badly(proto::OrchestrationStatus::Canceled, &failure);
            }
            Action::Terminate {
                instance,
                output,
                children,
            } => {
                let terminate = proto::TerminateOrchestrationAction {
                    instance_id: instance.to_string(),
                    reason: wire::text_of(output.as_ref()),
                    recurse: children == ParentClosePolicy::Terminate,
                };
                self.push(self.last, WireAction::TerminateOrchestration(terminate));
            }
            Action::SetCustomStatus { status } => {
                self.response.keeps_custom_status = false;
                self.response.custom_status = wire::text_of(status.as_ref());
            }
        }
    }
}

fn raised(event: EventKind) -> Option<proto::HistoryEvent> {
    let EventKind::EventRaised { name, input, .. } = event else {
        return None;
    };
    Some(proto::HistoryEvent {
        event_id: -1,
        timestamp: None,
        kind: Some(WireEvent::EventRaised(proto::EventRaisedEvent {
            name: name.to_string(),
            input: wire::text_of(input.as_ref()),
        })),
    })
}

#[cfg(test)]
mod tests;
