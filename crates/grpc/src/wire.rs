//! Between the protocol's messages and the values of the core.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::action::{ChildOptions, TaskLabels, TaskOptions};
use dalsegno_core::event::{CANCEL_EVENT, Event, EventKind, OneOfLock, ParentClosePolicy};
use dalsegno_core::limiter::LimiterRule;
use dalsegno_core::limits::{TOO_FAR_AHEAD, is_too_far_ahead};
use dalsegno_core::query::Status;
use dalsegno_core::span::SpanElsewhere;
use dalsegno_core::{
    Action, Divergence, EntityId, ExecutionId, Failure, Fault, FaultKind, InstanceId, Payload, SpanId,
    TaskId, Timestamp, TraceContext,
};
use dalsegno_engine::executor::{ActivityRequest, AttemptOutcome, EntityEffect, ExecutionInfo};
use dalsegno_engine::request::{InstanceStatus, LimiterOffer};
use hashbrown::{HashMap, HashSet};

use crate::fields::{BadField, EndStatus};
use crate::proto;
use crate::proto::history_event::Kind as WireEvent;
use crate::proto::orchestrator_action::Kind as WireAction;
use crate::workers::Work;
use crate::{fields, guid, options, plain};

mod events;

/// An event in the protocol's words, and its number.
type Told = (i32, WireEvent);

/// Causes of a failure that are taken from a message, the outermost first.
const CAUSES_MAX: usize = 64;

pub(crate) fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.as_micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default(),
    }
}

pub(crate) fn text_of(payload: Option<&Payload>) -> Option<String> {
    payload.map(|payload| payload.as_str().to_owned())
}

pub(crate) fn trace_of(trace: Option<&TraceContext>) -> Option<proto::TraceContext> {
    trace.map(|trace| proto::TraceContext {
        trace_parent: trace.trace_parent().to_owned(),
        span_id: trace.parent_id().to_owned(),
        trace_state: trace.trace_state().map(str::to_owned),
    })
}

/// Thirty-two letters.
pub(crate) fn execution_id(id: ExecutionId) -> String {
    let mut text = String::with_capacity(32);
    // A string takes whatever is written to it.
    let _ = write!(text, "{id}");
    text
}

/// An attempt of an activity.
pub(crate) fn activity_request(request: &ActivityRequest) -> proto::ActivityRequest {
    let labels = request.options.labels.as_deref();
    let version = labels.and_then(|labels| labels.version.as_deref());
    proto::ActivityRequest {
        name: request.name.to_string(),
        version: version.map(str::to_owned),
        input: text_of(request.input.as_ref()),
        orchestration_instance: Some(proto::OrchestrationInstance {
            instance_id: request.instance.as_str().to_owned(),
            execution_id: Some(execution_id(request.execution_id)),
        }),
        task_id: event_id(request.task),
        parent_trace_context: trace_of(request.trace.as_ref()),
        tags: labels
            .map(|labels| labels.tags.iter().cloned().collect())
            .unwrap_or_default(),
        attempt: match request.attempt {
            1 => 0,
            later => i32::try_from(later).unwrap_or(i32::MAX),
        },
        timeout: request.options.timeout.map(fields::wire_duration),
        last_heartbeat: text_of(request.last_heartbeat.as_ref()),
    }
}

/// Operations in the older form of their work item.
pub(crate) fn entity_batch(request: &proto::EntityRequest) -> proto::EntityBatchRequest {
    let operation = |event: &proto::HistoryEvent| match &event.kind {
        Some(WireEvent::EntityOperationSignaled(signal)) => Some(proto::OperationRequest {
            operation: signal.operation.clone(),
            request_id: signal.request_id.clone(),
            input: signal.input.clone(),
            trace_context: None,
        }),
        _ => None,
    };
    proto::EntityBatchRequest {
        instance_id: request.instance_id.clone(),
        entity_state: request.entity_state.clone(),
        operations: request.operation_requests.iter().filter_map(operation).collect(),
        ..Default::default()
    }
}

/// The span that code which tells of its spans goes on with.
pub(crate) fn orchestration_trace(span: &SpanElsewhere) -> proto::OrchestrationTraceContext {
    proto::OrchestrationTraceContext {
        span_id: Some(span.id.to_string()),
        span_start_time: span.start.map(timestamp),
    }
}

/// What the code says of its span; without an id it tells of none.
pub(crate) fn span_elsewhere(
    context: Option<proto::OrchestrationTraceContext>,
) -> Result<Option<SpanElsewhere>, BadField> {
    let Some(context) = context else {
        return Ok(None);
    };
    let path = "orchestrationTraceContext.spanStartTime";
    let start = fields::time_if(path, context.span_start_time)?;
    let id = context.span_id.and_then(|id| u64::from_str_radix(&id, 16).ok());
    let id = id.filter(|id| *id != 0).map(SpanId);
    Ok(id.map(|id| SpanElsewhere { id, start }))
}

pub(crate) fn trace(trace: Option<proto::TraceContext>) -> Option<TraceContext> {
    let trace = trace?;
    TraceContext::parse(&trace.trace_parent, trace.trace_state.as_deref())
}

pub(crate) fn event_id(task: TaskId) -> i32 {
    i32::try_from(task.0).unwrap_or(i32::MAX)
}

/// An instance id as a worker wrote it.
pub(crate) fn instance_id(text: &str) -> Result<InstanceId, String> {
    InstanceId::parse(text).map_err(|error| error.to_string())
}

/// `@name@key`; the name counts in lower case.
pub(crate) fn entity_id(text: &str) -> Result<EntityId, String> {
    let rest = text.strip_prefix('@').unwrap_or(text);
    let (name, key) = rest
        .split_once('@')
        .ok_or_else(|| format!("\"{text}\" is no entity: write @name@key"))?;
    EntityId::new(&name.to_lowercase(), key).map_err(|error| error.to_string())
}

pub(crate) fn failure(details: proto::TaskFailureDetails) -> Failure {
    failure_to(details, CAUSES_MAX)
}

fn failure_to(details: proto::TaskFailureDetails, causes: usize) -> Failure {
    let cause = details.inner_failure.filter(|_| causes > 0);
    let properties: serde_json::Map<String, serde_json::Value> = details
        .properties
        .into_iter()
        .map(|(name, value)| (name, json(value)))
        .collect();
    Failure {
        kind: details.error_type,
        message: details.error_message,
        stack: details.stack_trace,
        cause: cause.map(|cause| Box::new(failure_to(*cause, causes - 1))),
        permanent: details.is_non_retriable,
        properties: (!properties.is_empty())
            .then(|| Payload::from(serde_json::Value::Object(properties).to_string())),
    }
}

pub(crate) fn failure_of(failure: &Failure) -> proto::TaskFailureDetails {
    let properties = failure.properties.as_ref().and_then(|text| {
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text.as_str()).ok()
    });
    proto::TaskFailureDetails {
        error_type: failure.kind.clone(),
        error_message: failure.message.clone(),
        stack_trace: failure.stack.clone(),
        inner_failure: failure.cause.as_deref().map(|cause| Box::new(failure_of(cause))),
        is_non_retriable: failure.permanent,
        properties: properties
            .into_iter()
            .flatten()
            .map(|(name, value)| (name, value_of(value)))
            .collect(),
    }
}

fn json(value: prost_types::Value) -> serde_json::Value {
    use prost_types::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::NumberValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(object)) => object
            .fields
            .into_iter()
            .map(|(name, value)| (name, json(value)))
            .collect(),
    }
}

fn value_of(value: serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(value) => Kind::StringValue(value),
        serde_json::Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.into_iter().map(value_of).collect(),
        }),
        serde_json::Value::Object(members) => Kind::StructValue(prost_types::Struct {
            fields: members
                .into_iter()
                .map(|(name, value)| (name, value_of(value)))
                .collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

/// What answers of entities are called by: the worker's own words for its calls and locks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    requests: HashMap<TaskId, Arc<str>>,
    locks: Vec<(Arc<str>, TaskId)>,
}

/// Locks of an execution by the worker's names for them.
pub(crate) type Locks = Vec<(Arc<str>, TaskId)>;

impl Names {
    fn of(&self, task: TaskId) -> String {
        let known = self.requests.get(&task);
        known.map_or_else(|| task.to_string(), |name| name.to_string())
    }

    fn note(&mut self, task: TaskId, request: Option<&Arc<str>>) -> String {
        if let Some(request) = request {
            self.requests.insert(task, request.clone());
        }
        self.of(task)
    }

    pub(crate) fn locks(&self) -> Locks {
        self.locks.clone()
    }

    fn answered(&mut self, task: TaskId) -> String {
        let name = self.of(task);
        self.requests.remove(&task);
        name
    }

    /// What was asked of entities in the plain form is told in it.
    fn plain_event(&mut self, event: &EventKind, parent: &str) -> Option<Told> {
        use EventKind as Kind;
        let own = |request: &Option<Arc<str>>| {
            let name = plain::name_of(request.as_deref()?)?;
            Some(name.to_owned())
        };
        let sent = |task: TaskId, target: &EntityId, (name, input): (String, String)| {
            let sent = proto::EventSentEvent {
                instance_id: target.to_string(),
                name,
                input: Some(input),
            };
            Some((event_id(task), WireEvent::EventSent(sent)))
        };
        match event {
            Kind::EntityOperationCalled {
                task,
                entity,
                operation,
                input,
                request,
            } => {
                let id = own(request)?;
                self.note(*task, request.as_ref());
                let event = plain::asked(&id, operation, input.as_ref(), parent, None);
                sent(*task, entity, event)
            }
            Kind::EntityOperationSignaled {
                task,
                entity,
                operation,
                input,
                at,
                request,
            } => {
                let event = plain::asked(&own(request)?, operation, input.as_ref(), parent, Some(*at));
                sent(*task, entity, event)
            }
            Kind::EntityLockRequested {
                task,
                entities,
                request,
            } => {
                let id = own(request)?;
                self.locks
                    .extend(request.iter().map(|request| (request.clone(), *task)));
                self.note(*task, request.as_ref());
                sent(*task, entities.first()?, plain::lock_asked(&id, entities, parent))
            }
            Kind::EntityUnlockSent {
                lock,
                only: Some(only),
            } => {
                let request = self.of(*lock);
                let id = plain::name_of(&request)?;
                sent(only.task, &only.entity, plain::released(id, parent))
            }
            _ => self.plain_answer(event),
        }
    }

    /// The same, of answers.
    fn plain_answer(&mut self, event: &EventKind) -> Option<Told> {
        use EventKind as Kind;
        let came = |name: String, input: String| {
            let raised = proto::EventRaisedEvent {
                name,
                input: Some(input),
            };
            Some((-1, WireEvent::EventRaised(raised)))
        };
        match event {
            Kind::EntityOperationCompleted { task, result } => {
                let request = self.of(*task);
                let name = plain::name_of(&request)?.to_owned();
                self.answered(*task);
                came(name, plain::completed(result.as_ref()))
            }
            Kind::EntityOperationFailed { task, failure } => {
                let request = self.of(*task);
                let name = plain::name_of(&request)?.to_owned();
                self.answered(*task);
                came(name, plain::failed(failure))
            }
            Kind::EntityLockGranted { task } => {
                let request = self.of(*task);
                let name = plain::name_of(&request)?.to_owned();
                came(name, plain::granted())
            }
            _ => None,
        }
    }

    /// An event as workers see it; `None` for those that they are not told.
    pub(crate) fn event(&mut self, event: &Event, info: &ExecutionInfo) -> Option<proto::HistoryEvent> {
        let plain = self.plain_event(&event.kind, info.instance.as_str());
        let (event_id, kind) = plain.or_else(|| self.usual_event(&event.kind, info))?;
        Some(proto::HistoryEvent {
            event_id,
            timestamp: Some(timestamp(event.at)),
            kind: Some(kind),
        })
    }

    /// An event as all workers see it that are not plain.
    fn usual_event(&mut self, event: &EventKind, info: &ExecutionInfo) -> Option<Told> {
        use EventKind as Kind;
        match event {
            Kind::OrchestratorStarted
            | Kind::ExecutionStarted(_)
            | Kind::ExecutionSuspended { .. }
            | Kind::ExecutionResumed { .. }
            | Kind::ExecutionCompleted { .. }
            | Kind::ExecutionFailed { .. }
            | Kind::CancelRequested { .. }
            | Kind::ExecutionCanceled { .. }
            | Kind::ExecutionTerminated { .. } => events::of_execution(event, info),
            Kind::TaskScheduled { .. }
            | Kind::TaskCompleted { .. }
            | Kind::TaskFailed { .. }
            | Kind::TimerCreated { .. }
            | Kind::TimerFired { .. } => events::of_task(event),
            Kind::SubOrchestrationInstanceCreated { .. }
            | Kind::SubOrchestrationInstanceCompleted { .. }
            | Kind::SubOrchestrationInstanceFailed { .. } => events::of_child(event),
            Kind::EventSent { .. } | Kind::EventRaised { .. } => events::of_event(event),
            Kind::EntityOperationCalled { .. }
            | Kind::EntityOperationSignaled { .. }
            | Kind::EntityOperationCompleted { .. }
            | Kind::EntityOperationFailed { .. } => self.of_operation(event, info),
            Kind::EntityLockRequested { .. }
            | Kind::EntityLockGranted { .. }
            | Kind::EntityUnlockSent { .. } => self.of_lock(event, info),
            Kind::OrchestratorCompleted | Kind::ExecutionRewound { .. } => None,
        }
    }
}

/// What a worker made of a turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) actions: Vec<Action>,
    pub(crate) unread: Vec<EventKind>,
    /// The code does not fit the history: nothing else counts.
    pub(crate) fault: Option<Fault>,
}

/// Reads a worker's answer.
///
/// # Errors
/// What is wrong with it, for the worker's log.
pub(crate) fn turn(response: proto::OrchestratorResponse, work: &Work) -> Result<Turn, String> {
    let mut reader = TurnReader {
        instance: &work.instance,
        version: work.version.as_ref(),
        began: work.began,
        turn: Turn::default(),
        used: HashSet::new(),
        locks: work.locks.clone(),
        end: None,
    };
    let mut actions = response.actions;
    actions.sort_by_key(|action| action.id);
    for action in actions {
        reader.read(action)?;
    }
    let mut turn = reader.turn;
    for (at, timer) in response.cancelled_timers.into_iter().enumerate() {
        let task = u32::try_from(timer).map(TaskId);
        let task = task.map_err(|_| format!("cancelledTimers[{at}]: {timer}: the id is negative"))?;
        turn.actions.push(Action::CancelTimer { task });
    }
    if !response.keeps_custom_status {
        let status = response.custom_status.filter(|status| !status.is_empty());
        turn.actions.push(Action::SetCustomStatus {
            status: status.map(Payload::from),
        });
    }
    turn.actions.extend(reader.end);
    Ok(turn)
}

struct TurnReader<'a> {
    instance: &'a str,
    version: Option<&'a Arc<str>>,
    /// The time of the turn.
    began: Timestamp,
    turn: Turn,
    used: HashSet<i32>,
    /// Those asked for before, and in this turn.
    locks: Locks,
    end: Option<Action>,
}

impl TurnReader<'_> {
    fn task(&mut self, id: i32) -> Result<TaskId, String> {
        let task = u32::try_from(id).map_err(|_| format!("action {id}: the id is negative"))?;
        if !self.used.insert(id) {
            return Err(format!("action {id}: the id is used twice in one turn"));
        }
        Ok(TaskId(task))
    }

    #[expect(clippy::too_many_lines, reason = "one match over all actions")]
    fn read(&mut self, action: proto::OrchestratorAction) -> Result<(), String> {
        let id = action.id;
        let about = |error: String| format!("action {id}: {error}");
        let kind = action
            .kind
            .ok_or_else(|| about("it is of a kind that is not known here".into()))?;
        let action = match kind {
            WireAction::ScheduleTask(mut task) => {
                let options = options::task(&task.tags).map_err(about)?;
                fields::name("name", &task.name).map_err(|bad| about(bad.into()))?;
                Action::ScheduleTask {
                    task: self.task(id)?,
                    name: task.name.into(),
                    input: task.input.map(Payload::from),
                    options: TaskOptions {
                        labels: labels(
                            task.version.map(Into::into).or_else(|| self.version.cloned()),
                            options::without(&mut task.tags),
                            task.parent_trace_context,
                        ),
                        ..options
                    },
                }
            }
            WireAction::CreateTimer(timer) => Action::CreateTimer {
                task: self.task(id)?,
                fire_at: self.fire_at(timer).map_err(|bad| about(bad.into()))?,
            },
            WireAction::CreateSubOrchestration(mut child) => {
                let task = self.task(id)?;
                let (link, options) = options::child(&child.tags).map_err(about)?;
                fields::name("name", &child.name).map_err(|bad| about(bad.into()))?;
                let instance = match child.instance_id.is_empty() {
                    true => format!("{}:{:04x}", self.instance, task.0),
                    false => child.instance_id,
                };
                Action::StartOrchestration {
                    task,
                    name: child.name.into(),
                    version: child
                        .version
                        .filter(|version| !version.is_empty())
                        .map(Into::into),
                    instance: instance_id(&instance).map_err(about)?,
                    input: child.input.map(Payload::from),
                    link,
                    options: ChildOptions {
                        labels: labels(
                            None,
                            options::without(&mut child.tags),
                            child.parent_trace_context,
                        ),
                        ..options
                    },
                }
            }
            WireAction::SendEvent(event) => {
                let target = event
                    .instance
                    .map(|instance| instance.instance_id)
                    .unwrap_or_default();
                if target.starts_with('@') {
                    let action = self.plain_request(id, &target, &event.name, event.data.as_deref());
                    self.turn.actions.push(action.map_err(about)?);
                    return Ok(());
                }
                Action::SendEvent {
                    task: self.task(id)?,
                    instance: instance_id(&target).map_err(about)?,
                    name: fields::event_name("name", &event.name)
                        .map_err(|bad| about(bad.into()))?
                        .into(),
                    input: event.data.map(Payload::from),
                }
            }
            WireAction::CompleteOrchestration(complete) => return self.complete(complete).map_err(about),
            WireAction::TerminateOrchestration(terminate) => Action::Terminate {
                instance: instance_id(&terminate.instance_id).map_err(about)?,
                output: terminate.reason.map(Payload::from),
                children: match terminate.recurse {
                    true => ParentClosePolicy::Terminate,
                    false => ParentClosePolicy::Abandon,
                },
            },
            WireAction::SendEntityMessage(message) => {
                let message = message
                    .kind
                    .ok_or_else(|| about("the entity message is empty".into()))?;
                self.entity_message(id, message).map_err(about)?
            }
            // Rewinding is done here: the history is ours to cut.
            WireAction::RewindOrchestration(_) => return Ok(()),
        };
        self.turn.actions.push(action);
        Ok(())
    }

    /// When a timer is due. Later than any real plan is a mistake of the code, as is a time that
    /// overflowed.
    fn fire_at(&self, timer: proto::CreateTimerAction) -> Result<Timestamp, BadField> {
        let path = "fireAt";
        let fire_at = timer
            .fire_at
            .ok_or_else(|| BadField::new(path, "it is missing"))?;
        self.check_ahead(path, fields::time(path, fire_at)?)
    }

    fn check_ahead(&self, path: &str, at: Timestamp) -> Result<Timestamp, BadField> {
        match is_too_far_ahead(at, self.began) {
            true => Err(BadField::new(
                path,
                format!("it is {TOO_FAR_AHEAD} of the turn: wait for less"),
            )),
            false => Ok(at),
        }
    }

    /// A request to an entity, as plain .NET workers make it.
    fn plain_request(
        &mut self,
        id: i32,
        target: &str,
        name: &str,
        data: Option<&str>,
    ) -> Result<Action, String> {
        let task = self.task(id)?;
        let action = plain::action(task, target, name, data, &self.locks)?;
        if let Action::LockEntities {
            request: Some(request),
            ..
        } = &action
        {
            self.locks.push((request.clone(), task));
        }
        Ok(action)
    }

    fn entity_message(
        &mut self,
        id: i32,
        message: proto::send_entity_message_action::Kind,
    ) -> Result<Action, String> {
        use proto::send_entity_message_action::Kind;
        let target = |target: Option<String>| entity_id(target.as_deref().unwrap_or_default());
        Ok(match message {
            Kind::EntityOperationSignaled(signal) => Action::SignalEntity {
                task: self.task(id)?,
                entity: target(signal.target_instance_id)?,
                operation: signal.operation.into(),
                input: signal.input.map(Payload::from),
                at: fields::time_if("scheduledTime", signal.scheduled_time)?
                    .map(|at| self.check_ahead("scheduledTime", at))
                    .transpose()?,
                request: own_name(id, signal.request_id),
            },
            Kind::EntityOperationCalled(call) => Action::CallEntity {
                task: self.task(id)?,
                entity: target(call.target_instance_id)?,
                operation: call.operation.into(),
                input: call.input.map(Payload::from),
                request: own_name(id, call.request_id),
            },
            Kind::EntityLockRequested(lock) => {
                let task = self.task(id)?;
                let mut entities = lock
                    .lock_set
                    .iter()
                    .map(|entity| entity_id(entity))
                    .collect::<Result<Vec<_>, _>>()?;
                entities.sort_unstable();
                entities.dedup();
                self.locks.push((lock.critical_section_id.as_str().into(), task));
                Action::LockEntities {
                    task,
                    entities,
                    request: own_name(id, lock.critical_section_id),
                }
            }
            Kind::EntityUnlockSent(unlock) => {
                let lock = self.lock_named(&unlock.critical_section_id)?;
                if unlock.target_instance_id.is_none() {
                    return Ok(Action::UnlockEntities { lock, only: None });
                }
                let number = u32::try_from(id).map_err(|_| "the id is negative".to_owned())?;
                Action::UnlockEntities {
                    lock,
                    only: Some(Box::new(OneOfLock {
                        task: TaskId(number),
                        entity: target(unlock.target_instance_id)?,
                    })),
                }
            }
        })
    }

    fn lock_named(&self, name: &str) -> Result<TaskId, String> {
        let mut known = self.locks.iter().rev();
        let found = known.find(|(own, _)| **own == *name).map(|(_, task)| *task);
        // Code in Rust calls its locks by their numbers.
        let numbered = || name.parse().ok().map(TaskId);
        found
            .or_else(numbered)
            .ok_or_else(|| format!("no lock was asked for by the name {name}"))
    }

    fn complete(&mut self, complete: proto::CompleteOrchestrationAction) -> Result<(), String> {
        if self.end.is_some() {
            return Err("the turn ends its orchestration twice".to_owned());
        }
        let result = complete.result.map(Payload::from);
        let details = complete.failure_details;
        let status = fields::end_status("orchestrationStatus", complete.orchestration_status)?;
        self.end = Some(match (status, details) {
            (EndStatus::ContinuedAsNew, _) => {
                self.turn.unread = carried_over(complete.carryover_events)?;
                Action::ContinueAsNew {
                    version: complete
                        .new_version
                        .filter(|version| !version.is_empty())
                        .map(Into::into),
                    input: result,
                }
            }
            (_, Some(details)) if details.error_type == FAULT_TYPE => {
                self.turn.fault = Some(fault(details));
                return Ok(());
            }
            (EndStatus::Canceled, Some(details)) => Action::EndCancelled {
                failure: failure(details),
            },
            (_, Some(details)) => Action::Fail {
                failure: failure(details),
            },
            (EndStatus::Completed, None) => Action::Complete { result },
            (EndStatus::Canceled, None) => Action::EndCancelled {
                failure: Failure::new("Canceled", result.as_ref().map_or("", Payload::as_str)),
            },
            (other, None) => Action::Fail {
                failure: Failure::new(
                    match other {
                        EndStatus::Terminated => "Terminated",
                        _ => "",
                    },
                    result.as_ref().map_or("", Payload::as_str),
                ),
            },
        });
        Ok(())
    }
}

/// What the operations of an entity ask of others.
///
/// # Errors
/// What is wrong with an action, by its place.
pub(crate) fn entity_effects(actions: Vec<proto::OperationAction>) -> Result<Vec<EntityEffect>, BadField> {
    let read = |(at, action)| entity_effect(&format!("actions[{at}]"), action);
    actions.into_iter().enumerate().map(read).collect()
}

fn entity_effect(path: &str, action: proto::OperationAction) -> Result<EntityEffect, BadField> {
    use proto::operation_action::Kind;
    let bad_id = |error: String| BadField::new(format!("{path}.instanceId"), error);
    let kind = action
        .kind
        .ok_or_else(|| BadField::new(path, "it is of a kind that is not known here"))?;
    Ok(match kind {
        Kind::SendSignal(signal) => EntityEffect::Signal {
            entity: entity_id(&signal.instance_id).map_err(bad_id)?,
            operation: signal.name.into(),
            input: signal.input.map(Payload::from),
            at: fields::time_if(&format!("{path}.scheduledTime"), signal.scheduled_time)?,
        },
        Kind::StartNewOrchestration(start) => EntityEffect::Start {
            name: fields::name(&format!("{path}.name"), &start.name)?.into(),
            version: start
                .version
                .filter(|version| !version.is_empty())
                .map(Into::into),
            instance: match start.instance_id.is_empty() {
                true => instance_id(&guid::hex()).map_err(bad_id)?,
                false => instance_id(&start.instance_id).map_err(bad_id)?,
            },
            input: start.input.map(Payload::from),
        },
    })
}

/// A name that says no more than the number it stands for is none.
pub(crate) fn own_name(id: i32, name: String) -> Option<Arc<str>> {
    (name != id.to_string()).then(|| name.into())
}

/// A failure of this type, as the end of an orchestration, says that code and history do not fit:
/// the instance is parked. Servers that do not know it fail the instance.
pub(crate) const FAULT_TYPE: &str = "dalsegno.Fault";
const FAULT_KIND: &str = "kind";
const RECORDED: &str = "recorded";
const ASKED: &str = "asked";
const LOCATION: &str = "location";

/// A fault as a worker tells it.
pub(crate) fn fault_of(fault: &Fault) -> proto::TaskFailureDetails {
    let sides = fault.divergence.as_deref();
    let told = [
        (FAULT_KIND, Some(fault.kind.as_str())),
        (RECORDED, sides.and_then(|sides| sides.recorded.as_deref())),
        (ASKED, sides.and_then(|sides| sides.asked.as_deref())),
        (LOCATION, sides.and_then(|sides| sides.location.as_deref())),
    ];
    let properties = told
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), value_of(text?.into()))));
    proto::TaskFailureDetails {
        error_type: FAULT_TYPE.to_owned(),
        error_message: fault.message.clone(),
        is_non_retriable: true,
        properties: properties.collect(),
        ..Default::default()
    }
}

fn fault(mut details: proto::TaskFailureDetails) -> Fault {
    let mut text = |name: &str| Some(json(details.properties.remove(name)?).as_str()?.to_owned());
    let named = text(FAULT_KIND);
    let kind = FaultKind::ALL
        .into_iter()
        .find(|kind| named.as_deref() == Some(kind.as_str()))
        .unwrap_or(FaultKind::Diverged);
    let divergence = Divergence {
        recorded: text(RECORDED),
        asked: text(ASKED),
        location: text(LOCATION),
    };
    let is_known = divergence.recorded.is_some() || divergence.asked.is_some();
    Fault {
        divergence: is_known.then(|| Box::new(divergence)),
        ..Fault::new(kind, details.error_message)
    }
}

/// What an activity's failure says of the next attempt, in its properties.
const RETRY_AFTER: &str = "dalsegno.retryAfterSeconds";
const LIMITED: &str = "dalsegno.limited";

/// How an attempt ended, as its worker tells it.
pub(crate) fn outcome(response: proto::ActivityResponse) -> AttemptOutcome {
    let Some(mut details) = response.failure_details else {
        return AttemptOutcome::Completed(response.result.map(Payload::from));
    };
    let retry_after = details.properties.remove(RETRY_AFTER).map(json);
    let retry_after = retry_after
        .and_then(|seconds| seconds.as_f64())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let is_limited = details.properties.remove(LIMITED).map(json);
    match (is_limited, retry_after) {
        (Some(serde_json::Value::Bool(true)), Some(retry_after)) => AttemptOutcome::Limited { retry_after },
        (_, retry_after) => AttemptOutcome::Failed {
            failure: failure(details),
            retry_after,
        },
    }
}

/// The same, told by a worker: the result, or the failure.
pub(crate) fn outcome_of(outcome: AttemptOutcome) -> (Option<String>, Option<proto::TaskFailureDetails>) {
    let after = |details: &mut proto::TaskFailureDetails, delay: Duration| {
        let seconds = value_of(delay.as_secs_f64().into());
        details.properties.insert(RETRY_AFTER.to_owned(), seconds);
    };
    match outcome {
        AttemptOutcome::Completed(result) => (text_of(result.as_ref()), None),
        AttemptOutcome::Failed { failure, retry_after } => {
            let mut details = failure_of(&failure);
            if let Some(delay) = retry_after {
                after(&mut details, delay);
            }
            (None, Some(details))
        }
        AttemptOutcome::Limited { retry_after } => {
            let mut details = failure_of(&Failure::new("Limited", "the called service is at its limit"));
            after(&mut details, retry_after);
            details
                .properties
                .insert(LIMITED.to_owned(), value_of(true.into()));
            (None, Some(details))
        }
    }
}

/// Limiters as a worker offers them.
pub(crate) fn limiters(offers: Vec<proto::LimiterOffer>) -> Result<Vec<LimiterOffer>, BadField> {
    let read = |(at, offer)| limiter(&format!("limiters[{at}]"), offer);
    offers.into_iter().enumerate().map(read).collect()
}

fn limiter(path: &str, offer: proto::LimiterOffer) -> Result<LimiterOffer, BadField> {
    let path = format!("{path}.period");
    let period = fields::duration_if(&path, offer.period)?;
    if offer.rate > 0 && period.is_none() {
        return Err(BadField::new(
            path,
            format!(
                "it is missing: say in which time {} starts are allowed",
                offer.rate
            ),
        ));
    }
    Ok(LimiterOffer {
        name: offer.name.into(),
        rule: LimiterRule {
            rate: period.map(|period| (offer.rate, period)),
            burst: offer.burst,
            concurrency: offer.concurrency,
        },
        activities: offer.activities.into_iter().map(Into::into).collect(),
    })
}

/// The same, told by a worker.
pub(crate) fn limiter_of(offer: &LimiterOffer) -> proto::LimiterOffer {
    let period = |(_, period)| Some(fields::wire_duration(period));
    proto::LimiterOffer {
        name: offer.name.to_string(),
        rate: offer.rule.rate.map_or(0, |(count, _)| count),
        period: offer.rule.rate.and_then(period),
        burst: offer.rule.burst,
        concurrency: offer.rule.concurrency,
        activities: offer.activities.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn labels(
    version: Option<Arc<str>>,
    tags: std::collections::HashMap<String, String>,
    context: Option<proto::TraceContext>,
) -> Option<Box<TaskLabels>> {
    let mut tags: Vec<_> = tags.into_iter().collect();
    tags.sort();
    let labels = TaskLabels {
        version,
        tags,
        trace: trace(context),
    };
    (labels != TaskLabels::default()).then(|| Box::new(labels))
}

/// The external events that code leaves for its next execution.
fn carried_over(events: Vec<proto::HistoryEvent>) -> Result<Vec<EventKind>, BadField> {
    let mut raised = Vec::with_capacity(events.len());
    for (at, event) in events.into_iter().enumerate() {
        let path = format!("carryoverEvents[{at}]");
        let Some(WireEvent::EventRaised(event)) = event.kind else {
            let problem = "only external events, of the kind eventRaised, can be carried over";
            return Err(BadField::new(path, problem));
        };
        // The host itself hands a request to cancel on, and SDKs carry over all that code has not read.
        if event.name == CANCEL_EVENT {
            continue;
        }
        raised.push(EventKind::EventRaised {
            name: fields::event_name(&format!("{path}.eventRaised.name"), &event.name)?.into(),
            input: event.input.map(Payload::from),
            trace: None,
        });
    }
    Ok(raised)
}

pub(crate) fn status_of(status: Status) -> proto::OrchestrationStatus {
    match status {
        Status::Pending => proto::OrchestrationStatus::Pending,
        Status::Running => proto::OrchestrationStatus::Running,
        Status::Suspended => proto::OrchestrationStatus::Suspended,
        Status::Completed => proto::OrchestrationStatus::Completed,
        Status::Failed => proto::OrchestrationStatus::Failed,
        Status::Terminated => proto::OrchestrationStatus::Terminated,
        Status::Canceled => proto::OrchestrationStatus::Canceled,
    }
}

/// An instance as clients see it.
pub(crate) fn state_of(status: InstanceStatus, with_values: bool) -> proto::OrchestrationState {
    let row = status.row;
    let value = |payload: Option<&Payload>| text_of(payload.filter(|_| with_values));
    let failed = row.status == Status::Failed;
    proto::OrchestrationState {
        instance_id: row.id.as_str().to_owned(),
        name: row.name.to_string(),
        version: row.version.as_deref().map(str::to_owned),
        orchestration_status: status_of(row.status).into(),
        scheduled_start_timestamp: row.scheduled_start.map(timestamp),
        created_timestamp: Some(timestamp(row.created)),
        last_updated_timestamp: Some(timestamp(row.updated)),
        input: value(row.input.as_ref()),
        output: value(row.output.as_ref()),
        custom_status: text_of(row.custom_status.as_ref()),
        failure_details: row.failure.as_ref().filter(|_| failed).map(failure_of),
        execution_id: Some(execution_id(row.execution_id)),
        completed_timestamp: row.completed.map(timestamp),
        parent_instance_id: row
            .parent
            .as_ref()
            .map(|parent| parent.instance.as_str().to_owned()),
        tags: row.tags.into_iter().collect(),
    }
}

#[cfg(test)]
mod garbage;
