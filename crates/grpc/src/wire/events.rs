//! Events in the protocol's words, by what they are about. Which belongs to which function is
//! decided in one match over all of them, in [`Names::usual_event`].

use dalsegno_core::event::{CANCEL_EVENT, EventKind, ExecutionStarted};
use dalsegno_engine::executor::ExecutionInfo;

use super::{Names, Told, event_id, execution_id, failure_of, text_of, timestamp, trace_of};
use crate::proto::history_event::Kind as WireEvent;
use crate::{options, proto};

/// The beginning and the end of an execution, and what is done to it as a whole.
pub(super) fn of_execution(event: &EventKind, info: &ExecutionInfo) -> Option<Told> {
    use EventKind as Kind;
    Some(match event {
        Kind::OrchestratorStarted => (-1, WireEvent::OrchestratorStarted(Default::default())),
        Kind::ExecutionStarted(execution) => (0, WireEvent::ExecutionStarted(started(execution, info))),
        Kind::ExecutionSuspended { reason } => (
            -1,
            WireEvent::ExecutionSuspended(proto::ExecutionSuspendedEvent {
                input: reason.clone(),
            }),
        ),
        Kind::ExecutionResumed { reason } => (
            -1,
            WireEvent::ExecutionResumed(proto::ExecutionResumedEvent {
                input: reason.clone(),
            }),
        ),
        Kind::ExecutionCompleted { result } => (
            -1,
            WireEvent::ExecutionCompleted(proto::ExecutionCompletedEvent {
                orchestration_status: proto::OrchestrationStatus::Completed.into(),
                result: text_of(result.as_ref()),
                failure_details: None,
            }),
        ),
        Kind::ExecutionFailed { failure } => (
            -1,
            WireEvent::ExecutionCompleted(proto::ExecutionCompletedEvent {
                orchestration_status: proto::OrchestrationStatus::Failed.into(),
                result: None,
                failure_details: Some(failure_of(failure)),
            }),
        ),
        // The protocol has no word for it: code elsewhere waits for an event of this name.
        Kind::CancelRequested { reason } => (
            -1,
            WireEvent::EventRaised(proto::EventRaisedEvent {
                name: CANCEL_EVENT.to_owned(),
                input: reason
                    .as_deref()
                    .map(|reason| serde_json::Value::from(reason).to_string()),
            }),
        ),
        Kind::ExecutionCanceled { failure } => (
            -1,
            WireEvent::ExecutionCompleted(proto::ExecutionCompletedEvent {
                orchestration_status: proto::OrchestrationStatus::Canceled.into(),
                result: None,
                failure_details: Some(failure_of(failure)),
            }),
        ),
        Kind::ExecutionTerminated { reason } => (
            -1,
            WireEvent::ExecutionTerminated(proto::ExecutionTerminatedEvent {
                input: reason.clone(),
                recurse: false,
            }),
        ),
        _ => return None,
    })
}

fn started(started: &ExecutionStarted, info: &ExecutionInfo) -> proto::ExecutionStartedEvent {
    let name = started.parent_name.as_deref();
    proto::ExecutionStartedEvent {
        name: started.name.to_string(),
        version: started.version.as_deref().map(str::to_owned),
        input: text_of(started.input.as_ref()),
        orchestration_instance: Some(proto::OrchestrationInstance {
            instance_id: info.instance.as_str().to_owned(),
            execution_id: Some(execution_id(info.execution_id)),
        }),
        parent_instance: started.parent.as_ref().map(|parent| proto::ParentInstanceInfo {
            task_scheduled_id: event_id(parent.task),
            orchestration_instance: Some(proto::OrchestrationInstance {
                instance_id: parent.instance.as_str().to_owned(),
                execution_id: name.map(|name| execution_id(name.execution_id)),
            }),
            name: name.map(|name| name.name.to_string()),
            version: name.and_then(|name| Some(name.version.as_ref()?.to_string())),
        }),
        scheduled_start_timestamp: started.scheduled_start.map(timestamp),
        parent_trace_context: trace_of(started.trace.as_ref()),
        orchestration_span_id: None,
        tags: info.tags.iter().cloned().collect(),
    }
}

/// Activities and timers.
pub(super) fn of_task(event: &EventKind) -> Option<Told> {
    use EventKind as Kind;
    Some(match event {
        Kind::TaskScheduled {
            task,
            name,
            input,
            options,
        } => {
            let labels = options.as_ref().and_then(|options| options.labels.as_deref());
            (
                event_id(*task),
                WireEvent::TaskScheduled(proto::TaskScheduledEvent {
                    name: name.to_string(),
                    version: labels.and_then(|labels| labels.version.as_deref().map(str::to_owned)),
                    input: text_of(input.as_ref()),
                    parent_trace_context: trace_of(labels.and_then(|labels| labels.trace.as_ref())),
                    tags: labels
                        .map(|labels| labels.tags.iter().cloned().collect())
                        .unwrap_or_default(),
                }),
            )
        }
        Kind::TaskCompleted { task, result, .. } => (
            -1,
            WireEvent::TaskCompleted(proto::TaskCompletedEvent {
                task_scheduled_id: event_id(*task),
                result: text_of(result.as_ref()),
            }),
        ),
        Kind::TaskFailed { task, failure, .. } => (
            -1,
            WireEvent::TaskFailed(proto::TaskFailedEvent {
                task_scheduled_id: event_id(*task),
                failure_details: Some(failure_of(failure)),
            }),
        ),
        Kind::TimerCreated { task, fire_at } => (
            event_id(*task),
            WireEvent::TimerCreated(proto::TimerCreatedEvent {
                fire_at: Some(timestamp(*fire_at)),
            }),
        ),
        Kind::TimerFired { task, fire_at } => (
            -1,
            WireEvent::TimerFired(proto::TimerFiredEvent {
                fire_at: Some(timestamp(*fire_at)),
                timer_id: event_id(*task),
            }),
        ),
        _ => return None,
    })
}

/// Sub-orchestrations.
pub(super) fn of_child(event: &EventKind) -> Option<Told> {
    use EventKind as Kind;
    Some(match event {
        Kind::SubOrchestrationInstanceCreated {
            task,
            name,
            version,
            instance,
            input,
            link,
            parent_close,
            undo,
        } => (
            event_id(*task),
            WireEvent::SubOrchestrationInstanceCreated(proto::SubOrchestrationInstanceCreatedEvent {
                instance_id: instance.as_str().to_owned(),
                name: name.to_string(),
                version: version.as_deref().map(str::to_owned),
                input: text_of(input.as_ref()),
                tags: options::of_child(None, *link, *parent_close, *undo)
                    .into_iter()
                    .collect(),
                ..Default::default()
            }),
        ),
        Kind::SubOrchestrationInstanceCompleted { task, result } => (
            -1,
            WireEvent::SubOrchestrationInstanceCompleted(proto::SubOrchestrationInstanceCompletedEvent {
                task_scheduled_id: event_id(*task),
                result: text_of(result.as_ref()),
            }),
        ),
        Kind::SubOrchestrationInstanceFailed { task, failure } => (
            -1,
            WireEvent::SubOrchestrationInstanceFailed(proto::SubOrchestrationInstanceFailedEvent {
                task_scheduled_id: event_id(*task),
                failure_details: Some(failure_of(failure)),
            }),
        ),
        _ => return None,
    })
}

/// External events.
pub(super) fn of_event(event: &EventKind) -> Option<Told> {
    use EventKind as Kind;
    Some(match event {
        Kind::EventSent {
            task,
            instance,
            name,
            input,
        } => (
            event_id(*task),
            WireEvent::EventSent(proto::EventSentEvent {
                instance_id: instance.as_str().to_owned(),
                name: name.to_string(),
                input: text_of(input.as_ref()),
            }),
        ),
        Kind::EventRaised { name, input, .. } => (
            -1,
            WireEvent::EventRaised(proto::EventRaisedEvent {
                name: name.to_string(),
                input: text_of(input.as_ref()),
            }),
        ),
        _ => return None,
    })
}

impl Names {
    /// Calls of entities, and signals to them.
    pub(super) fn of_operation(&mut self, event: &EventKind, info: &ExecutionInfo) -> Option<Told> {
        use EventKind as Kind;
        Some(match event {
            Kind::EntityOperationCalled {
                task,
                entity,
                operation,
                input,
                request,
            } => (
                event_id(*task),
                WireEvent::EntityOperationCalled(proto::EntityOperationCalledEvent {
                    request_id: self.note(*task, request.as_ref()),
                    operation: operation.to_string(),
                    input: text_of(input.as_ref()),
                    parent_instance_id: Some(info.instance.as_str().to_owned()),
                    parent_execution_id: Some(execution_id(info.execution_id)),
                    target_instance_id: Some(entity.to_string()),
                    ..Default::default()
                }),
            ),
            Kind::EntityOperationSignaled {
                task,
                entity,
                operation,
                input,
                at,
                request,
            } => (
                event_id(*task),
                WireEvent::EntityOperationSignaled(proto::EntityOperationSignaledEvent {
                    request_id: request
                        .as_ref()
                        .map_or_else(|| task.to_string(), |request| request.to_string()),
                    operation: operation.to_string(),
                    scheduled_time: at.map(timestamp),
                    input: text_of(input.as_ref()),
                    target_instance_id: Some(entity.to_string()),
                }),
            ),
            Kind::EntityOperationCompleted { task, result } => (
                -1,
                WireEvent::EntityOperationCompleted(proto::EntityOperationCompletedEvent {
                    request_id: self.answered(*task),
                    output: text_of(result.as_ref()),
                }),
            ),
            Kind::EntityOperationFailed { task, failure } => (
                -1,
                WireEvent::EntityOperationFailed(proto::EntityOperationFailedEvent {
                    request_id: self.answered(*task),
                    failure_details: Some(failure_of(failure)),
                }),
            ),
            _ => return None,
        })
    }

    /// Locks of entities.
    pub(super) fn of_lock(&mut self, event: &EventKind, info: &ExecutionInfo) -> Option<Told> {
        use EventKind as Kind;
        Some(match event {
            Kind::EntityLockRequested {
                task,
                entities,
                request,
            } => {
                self.locks
                    .extend(request.iter().map(|request| (request.clone(), *task)));
                (
                    event_id(*task),
                    WireEvent::EntityLockRequested(proto::EntityLockRequestedEvent {
                        critical_section_id: self.note(*task, request.as_ref()),
                        lock_set: entities.iter().map(ToString::to_string).collect(),
                        position: 0,
                        parent_instance_id: Some(info.instance.as_str().to_owned()),
                    }),
                )
            }
            Kind::EntityLockGranted { task } => (
                -1,
                WireEvent::EntityLockGranted(proto::EntityLockGrantedEvent {
                    critical_section_id: self.of(*task),
                }),
            ),
            Kind::EntityUnlockSent { lock, only } => {
                let target = only.as_ref().map(|only| only.entity.to_string());
                (
                    only.as_ref().map_or(-1, |only| event_id(only.task)),
                    WireEvent::EntityUnlockSent(proto::EntityUnlockSentEvent {
                        critical_section_id: self.of(*lock),
                        parent_instance_id: Some(info.instance.as_str().to_owned()),
                        target_instance_id: target,
                    }),
                )
            }
            _ => return None,
        })
    }
}
