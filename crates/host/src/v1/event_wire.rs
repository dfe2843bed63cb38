//! A history event as JSON: flat, lossless, with the members its kind has.

use dalsegno_core::action::TaskOptions;
use dalsegno_core::event::{
    AttemptFailure, AttemptRecord, Attempts, ChildLink, Event, EventKind, ExecutionStarted, Parent,
    ParentClosePolicy,
};
use dalsegno_core::store::PayloadDigest;
use dalsegno_core::{EntityId, ExecutionId, Failure, InstanceId, Payload, TaskId, TraceContext};
use serde::{Deserialize, Serialize};

use super::wire::{
    FailureWire, Json, ParentWire, TraceWire, Unfit, instant, instant_if, json, payload, present, trace,
};
use crate::http::time;

/// An event. `kind` is the event's name; a failed end is `ExecutionFailed`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EventWire {
    at: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<ParentWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detached: Option<bool>,
    /// `cancel` or `terminate`; absent when the child goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_close: Option<String>,
    /// It undoes what was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entities: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fire_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    input: Json,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    result: Json,
    /// The input or result that `largeValues=false` leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// How attempts before the last failed, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_attempts: Vec<FailedAttemptWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What tells a value from others that is not shown.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct LeftOutWire {
    bytes: u64,
    /// Of its JSON text, in hexadecimal.
    sha256: String,
}

impl EventWire {
    /// Says what was left out.
    pub(crate) fn leave_out(&mut self, digest: &PayloadDigest) {
        let sha256 = digest.sha256.iter().map(|byte| format!("{byte:02x}"));
        self.left_out = Some(LeftOutWire {
            bytes: digest.bytes,
            sha256: sha256.collect(),
        });
    }
}

/// An attempt that failed and was not the last.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct FailedAttemptWire {
    at: String,
    kind: String,
    message: String,
}

impl From<&AttemptFailure> for FailedAttemptWire {
    fn from(failure: &AttemptFailure) -> Self {
        Self {
            at: time::exact(failure.at),
            kind: failure.kind.clone(),
            message: failure.message.clone(),
        }
    }
}

impl TryFrom<FailedAttemptWire> for AttemptFailure {
    type Error = Unfit;

    fn try_from(wire: FailedAttemptWire) -> Result<Self, Unfit> {
        Ok(Self {
            at: instant(&wire.at)?,
            kind: wire.kind,
            message: wire.message,
        })
    }
}

impl EventWire {
    fn task(mut self, task: TaskId) -> Self {
        self.task = Some(task.0);
        self
    }

    fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    fn input(mut self, input: Option<&Payload>) -> Self {
        self.input = json(input);
        self
    }

    fn result(mut self, result: Option<&Payload>) -> Self {
        self.result = json(result);
        self
    }

    fn failure(mut self, failure: &Failure) -> Self {
        self.failure = Some(failure.into());
        self
    }

    fn attempts(mut self, attempts: &Attempts) -> Self {
        self.attempts = Some(attempts.count);
        if let Some(record) = &attempts.record {
            self.attempt_started = Some(time::exact(record.started));
            self.worker = Some(record.worker.to_string());
            self.failed_attempts = record.failures.iter().map(FailedAttemptWire::from).collect();
        }
        self
    }

    fn reason(mut self, reason: Option<&String>) -> Self {
        self.reason = reason.cloned();
        self
    }

    fn operation(mut self, entity: &EntityId, operation: &str) -> Self {
        self.entity = Some(entity.to_string());
        self.operation = Some(operation.to_owned());
        self
    }

    fn trace(mut self, trace: Option<&TraceContext>) -> Self {
        self.trace = trace.map(TraceWire::from);
        self
    }

    fn started(mut self, started: &ExecutionStarted) -> Self {
        self.name = Some(started.name.to_string());
        self.version = started.version.as_deref().map(str::to_owned);
        self.execution_id = Some(started.execution_id.to_string());
        self.parent = started.parent.as_ref().map(ParentWire::from);
        self.scheduled_start = started.scheduled_start.map(time::exact);
        self.input(started.input.as_ref()).trace(started.trace.as_ref())
    }
}

impl From<&Event> for EventWire {
    #[expect(clippy::too_many_lines, reason = "one match over all events")]
    fn from(event: &Event) -> Self {
        use EventKind as Kind;
        let kind = match &event.kind {
            Kind::ExecutionFailed { .. } => "ExecutionFailed",
            other => other.name(),
        };
        let wire = Self {
            at: time::exact(event.at),
            kind: kind.to_owned(),
            ..Self::default()
        };
        match &event.kind {
            Kind::OrchestratorStarted | Kind::OrchestratorCompleted => wire,
            Kind::ExecutionStarted(started) => wire.started(started),
            Kind::TaskScheduled {
                task,
                name,
                input,
                options,
            } => Self {
                undo: options.as_ref().filter(|options| options.undo).map(|_| true),
                ..wire.task(*task).name(name).input(input.as_ref())
            },
            Kind::TaskCompleted {
                task,
                result,
                attempts,
            } => wire.task(*task).result(result.as_ref()).attempts(attempts),
            Kind::TaskFailed {
                task,
                failure,
                attempts,
            } => wire.task(*task).failure(failure).attempts(attempts),
            Kind::TimerCreated { task, fire_at } | Kind::TimerFired { task, fire_at } => Self {
                fire_at: Some(time::exact(*fire_at)),
                ..wire.task(*task)
            },
            Kind::SubOrchestrationInstanceCreated {
                task,
                name,
                version,
                instance,
                input,
                link,
                parent_close,
                undo,
            } => Self {
                version: version.as_deref().map(str::to_owned),
                instance_id: Some(instance.to_string()),
                detached: Some(*link == ChildLink::Detached),
                parent_close: close_word(*parent_close).map(str::to_owned),
                undo: undo.then_some(true),
                ..wire.task(*task).name(name).input(input.as_ref())
            },
            Kind::SubOrchestrationInstanceCompleted { task, result }
            | Kind::EntityOperationCompleted { task, result } => wire.task(*task).result(result.as_ref()),
            Kind::SubOrchestrationInstanceFailed { task, failure }
            | Kind::EntityOperationFailed { task, failure } => wire.task(*task).failure(failure),
            Kind::EventSent {
                task,
                instance,
                name,
                input,
            } => Self {
                instance_id: Some(instance.to_string()),
                ..wire.task(*task).name(name).input(input.as_ref())
            },
            Kind::EventRaised { name, input, trace } => {
                wire.name(name).input(input.as_ref()).trace(trace.as_ref())
            }
            Kind::EntityOperationCalled {
                task,
                entity,
                operation,
                input,
                ..
            } => wire
                .task(*task)
                .operation(entity, operation)
                .input(input.as_ref()),
            Kind::EntityOperationSignaled {
                task,
                entity,
                operation,
                input,
                at,
                ..
            } => Self {
                signal_at: at.map(time::exact),
                ..wire
                    .task(*task)
                    .operation(entity, operation)
                    .input(input.as_ref())
            },
            Kind::EntityLockRequested { task, entities, .. } => Self {
                entities: Some(entities.iter().map(ToString::to_string).collect()),
                ..wire.task(*task)
            },
            Kind::EntityLockGranted { task } | Kind::EntityUnlockSent { lock: task, .. } => wire.task(*task),
            Kind::ExecutionSuspended { reason }
            | Kind::ExecutionResumed { reason }
            | Kind::ExecutionRewound { reason }
            | Kind::CancelRequested { reason }
            | Kind::ExecutionTerminated { reason } => wire.reason(reason.as_ref()),
            Kind::ExecutionCompleted { result } => wire.result(result.as_ref()),
            Kind::ExecutionFailed { failure } | Kind::ExecutionCanceled { failure } => wire.failure(failure),
        }
    }
}

/// Takes members out of an event; an absent one that must be there is an error.
struct Reader(EventWire);

impl Reader {
    fn missing(&self, member: &str) -> Unfit {
        Unfit(format!("an event {} has no {member}", self.0.kind))
    }

    fn task(&self) -> Result<TaskId, Unfit> {
        self.0.task.map(TaskId).ok_or_else(|| self.missing("task"))
    }

    fn name(&self) -> Result<std::sync::Arc<str>, Unfit> {
        self.0
            .name
            .as_deref()
            .map(Into::into)
            .ok_or_else(|| self.missing("name"))
    }

    fn operation(&self) -> Result<std::sync::Arc<str>, Unfit> {
        self.0
            .operation
            .as_deref()
            .map(Into::into)
            .ok_or_else(|| self.missing("operation"))
    }

    fn entity(&self) -> Result<EntityId, Unfit> {
        entity(self.0.entity.as_deref().ok_or_else(|| self.missing("entity"))?)
    }

    fn instance(&self) -> Result<InstanceId, Unfit> {
        let id = self
            .0
            .instance_id
            .as_deref()
            .ok_or_else(|| self.missing("instanceId"))?;
        Ok(InstanceId::trusted(id))
    }

    fn input(&mut self) -> Option<Payload> {
        payload(self.0.input.take())
    }

    fn result(&mut self) -> Option<Payload> {
        payload(self.0.result.take())
    }

    fn failure(&mut self) -> Result<Failure, Unfit> {
        self.0
            .failure
            .take()
            .map(Failure::from)
            .ok_or_else(|| self.missing("failure"))
    }

    fn attempts(&mut self) -> Result<Attempts, Unfit> {
        let count = self.0.attempts.ok_or_else(|| self.missing("attempts"))?;
        let failed = std::mem::take(&mut self.0.failed_attempts);
        let record = match (&self.0.attempt_started, self.0.worker.take()) {
            (Some(started), Some(worker)) => Some(Box::new(AttemptRecord {
                started: instant(started)?,
                worker: worker.into(),
                failures: failed
                    .into_iter()
                    .map(AttemptFailure::try_from)
                    .collect::<Result<_, _>>()?,
            })),
            _ => None,
        };
        Ok(Attempts { count, record })
    }

    fn fire_at(&self) -> Result<dalsegno_core::Timestamp, Unfit> {
        instant(self.0.fire_at.as_deref().ok_or_else(|| self.missing("fireAt"))?)
    }

    fn trace(&mut self) -> Option<TraceContext> {
        trace(self.0.trace.take())
    }

    fn reason(&mut self) -> Option<String> {
        self.0.reason.take()
    }

    fn started(&mut self) -> Result<ExecutionStarted, Unfit> {
        let id = self
            .0
            .execution_id
            .as_deref()
            .and_then(|id| u128::from_str_radix(id, 16).ok());
        Ok(ExecutionStarted {
            parent_name: None,
            name: self.name()?,
            version: self.0.version.take().map(Into::into),
            execution_id: ExecutionId(id.ok_or_else(|| self.missing("executionId"))?),
            input: self.input(),
            parent: self.0.parent.take().map(Parent::from),
            scheduled_start: instant_if(self.0.scheduled_start.as_ref())?,
            trace: self.trace(),
        })
    }

    fn entities(&mut self) -> Result<Vec<EntityId>, Unfit> {
        let texts = self.0.entities.take().ok_or_else(|| self.missing("entities"))?;
        texts.iter().map(|text| entity(text)).collect()
    }

    fn parent_close(&self) -> Result<ParentClosePolicy, Unfit> {
        match self.0.parent_close.as_deref() {
            None => Ok(ParentClosePolicy::Abandon),
            Some("cancel") => Ok(ParentClosePolicy::Cancel),
            Some("terminate") => Ok(ParentClosePolicy::Terminate),
            Some(other) => Err(Unfit(format!("{other:?} is no parent-close policy"))),
        }
    }

    fn link(&self) -> ChildLink {
        if self.0.detached == Some(true) {
            ChildLink::Detached
        } else {
            ChildLink::Awaited
        }
    }
}

fn close_word(policy: ParentClosePolicy) -> Option<&'static str> {
    match policy {
        ParentClosePolicy::Abandon => None,
        ParentClosePolicy::Cancel => Some("cancel"),
        ParentClosePolicy::Terminate => Some("terminate"),
    }
}

fn entity(text: &str) -> Result<EntityId, Unfit> {
    EntityId::parse(text).map_err(|invalid| Unfit(invalid.reason))
}

impl TryFrom<EventWire> for Event {
    type Error = Unfit;

    fn try_from(wire: EventWire) -> Result<Self, Unfit> {
        let at = instant(&wire.at)?;
        Ok(Self {
            at,
            kind: kind(Reader(wire))?,
        })
    }
}

#[expect(clippy::too_many_lines, reason = "one match over all events")]
fn kind(mut read: Reader) -> Result<EventKind, Unfit> {
    use EventKind as Kind;
    let name = read.0.kind.clone();
    Ok(match name.as_str() {
        "OrchestratorStarted" => Kind::OrchestratorStarted,
        "OrchestratorCompleted" => Kind::OrchestratorCompleted,
        "ExecutionStarted" => Kind::ExecutionStarted(Box::new(read.started()?)),
        "TaskScheduled" => Kind::TaskScheduled {
            task: read.task()?,
            name: read.name()?,
            input: read.input(),
            options: read.0.undo.map(|undo| {
                Box::new(TaskOptions {
                    undo,
                    ..TaskOptions::default()
                })
            }),
        },
        "TaskCompleted" => Kind::TaskCompleted {
            task: read.task()?,
            result: read.result(),
            attempts: read.attempts()?,
        },
        "TaskFailed" => Kind::TaskFailed {
            task: read.task()?,
            failure: read.failure()?,
            attempts: read.attempts()?,
        },
        "TimerCreated" => Kind::TimerCreated {
            task: read.task()?,
            fire_at: read.fire_at()?,
        },
        "TimerFired" => Kind::TimerFired {
            task: read.task()?,
            fire_at: read.fire_at()?,
        },
        "SubOrchestrationInstanceCreated" => Kind::SubOrchestrationInstanceCreated {
            task: read.task()?,
            name: read.name()?,
            version: read.0.version.take().map(Into::into),
            instance: read.instance()?,
            input: read.input(),
            link: read.link(),
            parent_close: read.parent_close()?,
            undo: read.0.undo.unwrap_or(false),
        },
        "SubOrchestrationInstanceCompleted" => Kind::SubOrchestrationInstanceCompleted {
            task: read.task()?,
            result: read.result(),
        },
        "SubOrchestrationInstanceFailed" => Kind::SubOrchestrationInstanceFailed {
            task: read.task()?,
            failure: read.failure()?,
        },
        "EventSent" => Kind::EventSent {
            task: read.task()?,
            instance: read.instance()?,
            name: read.name()?,
            input: read.input(),
        },
        "EventRaised" => Kind::EventRaised {
            name: read.name()?,
            input: read.input(),
            trace: read.trace(),
        },
        "EntityOperationCalled" => Kind::EntityOperationCalled {
            task: read.task()?,
            entity: read.entity()?,
            operation: read.operation()?,
            input: read.input(),
            request: None,
        },
        "EntityOperationSignaled" => Kind::EntityOperationSignaled {
            task: read.task()?,
            entity: read.entity()?,
            operation: read.operation()?,
            input: read.input(),
            at: instant_if(read.0.signal_at.as_ref())?,
            request: None,
        },
        "EntityOperationCompleted" => Kind::EntityOperationCompleted {
            task: read.task()?,
            result: read.result(),
        },
        "EntityOperationFailed" => Kind::EntityOperationFailed {
            task: read.task()?,
            failure: read.failure()?,
        },
        "EntityLockRequested" => Kind::EntityLockRequested {
            task: read.task()?,
            entities: read.entities()?,
            request: None,
        },
        "EntityLockGranted" => Kind::EntityLockGranted { task: read.task()? },
        "EntityUnlockSent" => Kind::EntityUnlockSent {
            lock: read.task()?,
            only: None,
        },
        "ExecutionSuspended" => Kind::ExecutionSuspended {
            reason: read.reason(),
        },
        "ExecutionResumed" => Kind::ExecutionResumed {
            reason: read.reason(),
        },
        "ExecutionRewound" => Kind::ExecutionRewound {
            reason: read.reason(),
        },
        "ExecutionCompleted" => Kind::ExecutionCompleted {
            result: read.result(),
        },
        "ExecutionFailed" => Kind::ExecutionFailed {
            failure: read.failure()?,
        },
        "ExecutionTerminated" => Kind::ExecutionTerminated {
            reason: read.reason(),
        },
        "CancelRequested" => Kind::CancelRequested {
            reason: read.reason(),
        },
        "ExecutionCanceled" => Kind::ExecutionCanceled {
            failure: read.failure()?,
        },
        other => return Err(Unfit(format!("{other:?} is no kind of event"))),
    })
}

#[cfg(test)]
mod tests {
    use dalsegno_core::{ExecutionKey, Timestamp};

    use super::*;

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn every_kind() -> Vec<EventKind> {
        use EventKind as Kind;
        let task = TaskId(3);
        let failure = Failure {
            stack: Some("at x".into()),
            cause: Some(Box::new(Failure::new("B", "b"))),
            ..Failure::new("A", "a")
        };
        let entity = EntityId::new("counter", "").unwrap();
        let instance = InstanceId::trusted("i/odd");
        let fire_at = Timestamp::from_micros(1);
        vec![
            Kind::OrchestratorStarted,
            Kind::ExecutionStarted(Box::new(ExecutionStarted {
                parent_name: None,
                name: "n".into(),
                version: Some("1".into()),
                execution_id: ExecutionId(5),
                input: Some("null".into()),
                parent: Some(Parent {
                    instance: instance.clone(),
                    execution: ExecutionKey(8),
                    task,
                }),
                scheduled_start: Some(fire_at),
                trace: TraceContext::parse(
                    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                    Some("a=1"),
                ),
            })),
            Kind::TaskScheduled {
                task,
                name: "n".into(),
                input: Some("1.10".into()),
                options: Some(Box::new(TaskOptions {
                    undo: true,
                    ..TaskOptions::default()
                })),
            },
            Kind::TaskCompleted {
                task,
                result: None,
                attempts: Attempts {
                    count: 2,
                    record: Some(Box::new(AttemptRecord {
                        started: fire_at,
                        worker: "host/7".into(),
                        failures: vec![AttemptFailure {
                            at: fire_at,
                            kind: "Io".into(),
                            message: "reset".into(),
                        }],
                    })),
                },
            },
            Kind::TaskFailed {
                task,
                failure: failure.clone().permanent(),
                attempts: 9.into(),
            },
            Kind::TimerCreated { task, fire_at },
            Kind::TimerFired {
                task,
                fire_at: Timestamp::MAX,
            },
            Kind::SubOrchestrationInstanceCreated {
                task,
                name: "n".into(),
                version: Some("2".into()),
                instance: instance.clone(),
                input: None,
                link: ChildLink::Detached,
                parent_close: ParentClosePolicy::Cancel,
                undo: true,
            },
            Kind::SubOrchestrationInstanceCompleted {
                task,
                result: Some("{}".into()),
            },
            Kind::SubOrchestrationInstanceFailed {
                task,
                failure: failure.clone(),
            },
            Kind::EventSent {
                task,
                instance,
                name: "e".into(),
                input: Some("[1, 2]".into()),
            },
            Kind::EventRaised {
                name: "e".into(),
                input: None,
                trace: TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", None),
            },
            Kind::EntityOperationCalled {
                task,
                entity: entity.clone(),
                operation: "add".into(),
                input: Some("5".into()),
                request: None,
            },
            Kind::EntityOperationSignaled {
                task,
                entity: entity.clone(),
                operation: "".into(),
                input: None,
                at: Some(fire_at),
                request: None,
            },
            Kind::EntityOperationCompleted { task, result: None },
            Kind::EntityOperationFailed {
                task,
                failure: failure.clone(),
            },
            Kind::EntityLockRequested {
                task,
                entities: vec![entity],
                request: None,
            },
            Kind::EntityLockGranted { task },
            Kind::EntityUnlockSent {
                lock: task,
                only: None,
            },
            Kind::ExecutionSuspended { reason: None },
            Kind::ExecutionResumed {
                reason: Some(String::new()),
            },
            Kind::ExecutionRewound {
                reason: Some("again".into()),
            },
            Kind::ExecutionCompleted {
                result: Some("null".into()),
            },
            Kind::ExecutionFailed {
                failure: failure.clone(),
            },
            Kind::CancelRequested {
                reason: Some("enough".into()),
            },
            Kind::ExecutionCanceled { failure },
            Kind::ExecutionTerminated {
                reason: Some("enough".into()),
            },
            Kind::OrchestratorCompleted,
        ]
    }

    #[test]
    fn every_event_comes_back_as_it_went() {
        for (index, kind) in every_kind().into_iter().enumerate() {
            let event = Event {
                at: Timestamp::from_micros(index as i64 * 1_234_567),
                kind,
            };
            let text = serde_json::to_string(&EventWire::from(&event)).unwrap();
            let wire: EventWire = serde_json::from_str(&text).unwrap();
            assert_eq!(Event::try_from(wire).unwrap(), event, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let wire = EventWire {
            at: "2026-03-01T00:00:00Z".into(),
            kind: "TaskCompleted".into(),
            ..EventWire::default()
        };
        assert_eq!(
            Event::try_from(wire).unwrap_err().0,
            "an event TaskCompleted has no task"
        );
    }
}
