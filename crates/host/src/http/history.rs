//! `historyEvents`: the history of an execution as Durable Functions tells it.
//!
//! Scheduling events vanish behind their completions; entity traffic takes the framework's old
//! form of events between instances, because that is what clients know.

use std::collections::{HashMap, HashSet};

use dalsegno_core::event::{Event, EventKind, ExecutionStarted};
use dalsegno_core::{EntityId, ExecutionId, Failure, InstanceId, Payload, TaskId, Timestamp};
use serde_json::value::RawValue;

use super::time;
use super::wire::{FailureDetails, Members, raw, string, string_or_null, to_json};

/// What of it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) input: bool,
    pub(crate) output: bool,
}

/// The events in order, those that are shown.
pub(crate) fn events(id: &InstanceId, history: &[Event], shown: Shown) -> Vec<Members> {
    let teller = Teller::new(id, history, shown);
    history.iter().flat_map(|event| teller.tell(event)).collect()
}

/// What is known of a task from the event that scheduled it.
struct Scheduled<'a> {
    at: Timestamp,
    name: &'a str,
    input: Option<&'a Payload>,
    instance: Option<&'a InstanceId>,
}

struct Teller<'a> {
    id: &'a InstanceId,
    execution: ExecutionId,
    shown: Shown,
    scheduled: HashMap<TaskId, Scheduled<'a>>,
    locks: HashMap<TaskId, &'a [EntityId]>,
    done: HashSet<TaskId>,
}

impl<'a> Teller<'a> {
    fn new(id: &'a InstanceId, history: &'a [Event], shown: Shown) -> Self {
        let mut teller = Self {
            id,
            execution: ExecutionId::default(),
            shown,
            scheduled: HashMap::new(),
            locks: HashMap::new(),
            done: HashSet::new(),
        };
        for event in history {
            teller.note(event);
        }
        teller
    }

    fn note(&mut self, event: &'a Event) {
        match &event.kind {
            EventKind::ExecutionStarted(started) => self.execution = started.execution_id,
            EventKind::TaskScheduled {
                task, name, input, ..
            } => {
                let scheduled = Scheduled {
                    at: event.at,
                    name,
                    input: input.as_ref(),
                    instance: None,
                };
                self.scheduled.insert(*task, scheduled);
            }
            EventKind::SubOrchestrationInstanceCreated {
                task,
                name,
                instance,
                input,
                ..
            } => {
                let scheduled = Scheduled {
                    at: event.at,
                    name,
                    input: input.as_ref(),
                    instance: Some(instance),
                };
                self.scheduled.insert(*task, scheduled);
            }
            EventKind::EntityLockRequested { task, entities, .. } => {
                self.locks.insert(*task, entities);
            }
            EventKind::TaskCompleted { task, .. }
            | EventKind::TaskFailed { task, .. }
            | EventKind::SubOrchestrationInstanceCompleted { task, .. }
            | EventKind::SubOrchestrationInstanceFailed { task, .. } => {
                self.done.insert(*task);
            }
            _ => {}
        }
    }

    #[expect(clippy::too_many_lines, reason = "one match over all events")]
    fn tell(&self, event: &Event) -> Vec<Members> {
        use EventKind as Kind;
        let head = |name: &str| head(name, event.at);
        let shown = event.kind.name();
        let one = match &event.kind {
            Kind::OrchestratorStarted | Kind::OrchestratorCompleted => return vec![],
            Kind::ExecutionStarted(started) => self.started(head(shown), started),
            Kind::TaskScheduled { task, .. } | Kind::SubOrchestrationInstanceCreated { task, .. }
                if self.done.contains(task) =>
            {
                return vec![];
            }
            Kind::TaskScheduled { name, input, .. } => head(shown)
                .with("Name", string(name))
                .with_if("Input", self.input(input.as_ref())),
            Kind::SubOrchestrationInstanceCreated {
                name,
                instance,
                input,
                ..
            } => head(shown)
                .with("Name", string(name))
                .with("InstanceId", string(instance.as_str()))
                .with_if("Input", self.input(input.as_ref())),
            Kind::TaskCompleted { task, result, .. }
            | Kind::SubOrchestrationInstanceCompleted { task, result } => {
                let told = self
                    .of_task(head(shown), *task)
                    .with_if("Result", self.result(result.as_ref()));
                self.of_child(told, *task)
            }
            Kind::TaskFailed { task, failure, .. }
            | Kind::SubOrchestrationInstanceFailed { task, failure } => {
                let told = self
                    .of_task(head(shown), *task)
                    .with("Reason", string(&failure.to_string()))
                    .with("Details", string_or_null(failure.stack.as_deref()))
                    .with("FailureDetails", details(failure));
                self.of_child(told, *task)
            }
            Kind::TimerCreated { fire_at, .. } | Kind::TimerFired { fire_at, .. } => {
                head(shown).with("FireAt", string(&time::exact(*fire_at)))
            }
            Kind::EventSent {
                instance,
                name,
                input,
                ..
            } => head(shown)
                .with("InstanceId", string(instance.as_str()))
                .with("Name", string(name))
                .with_if("Input", self.input(input.as_ref())),
            Kind::EventRaised { name, input, .. } => head(shown)
                .with("Name", string(name))
                .with_if("Input", self.input(input.as_ref())),
            Kind::EntityOperationCalled {
                task,
                entity,
                operation,
                input,
                ..
            } => {
                let request = self.request(operation, false, input.as_ref(), *task);
                self.sent(event.at, entity, "op", request)
            }
            Kind::EntityOperationSignaled {
                task,
                entity,
                operation,
                input,
                at,
                ..
            } => {
                let name = at.map_or_else(|| "op".into(), |at| format!("op@{}", time::exact(at)));
                self.sent(
                    event.at,
                    entity,
                    &name,
                    self.request(operation, true, input.as_ref(), *task),
                )
            }
            Kind::EntityLockRequested { task, entities, .. } => {
                let request = |_| self.request("lock", false, None, *task);
                return entities
                    .iter()
                    .take(1)
                    .map(|entity| self.sent(event.at, entity, "op", request(entity)))
                    .collect();
            }
            Kind::EntityUnlockSent { lock, only } => {
                let all = self.locks.get(lock).copied().unwrap_or_default();
                let entities = only
                    .as_deref()
                    .map_or(all, |only| std::slice::from_ref(&only.entity));
                let release = |entity| {
                    self.sent(
                        event.at,
                        entity,
                        "release",
                        self.request("release", true, None, *lock),
                    )
                };
                return entities.iter().map(release).collect();
            }
            Kind::EntityOperationCompleted { task, result } => {
                self.answered(event.at, *task, raw(result.as_ref()).get(), None)
            }
            Kind::EntityOperationFailed { task, failure } => self.answered(
                event.at,
                *task,
                string(&failure.message).get(),
                Some(&failure.kind),
            ),
            Kind::EntityLockGranted { task } => self.answered(event.at, *task, "null", None),
            Kind::ExecutionCompleted { result } => head(shown)
                .with("OrchestrationStatus", string("Completed"))
                .with_if("Result", self.result(result.as_ref())),
            Kind::ExecutionFailed { failure } => head(shown)
                .with("OrchestrationStatus", string("Failed"))
                .with_if("Result", self.shown.output.then(|| string(&failure.to_string())))
                .with("FailureDetails", details(failure)),
            Kind::ExecutionTerminated { reason } => head(shown).with_if(
                "Input",
                self.shown.input.then(|| string_or_null(reason.as_deref())),
            ),
            Kind::ExecutionCanceled { failure } => head(shown)
                .with("OrchestrationStatus", string("Canceled"))
                .with_if("Result", self.shown.output.then(|| string(&failure.to_string())))
                .with("FailureDetails", details(failure)),
            Kind::ExecutionSuspended { reason }
            | Kind::CancelRequested { reason }
            | Kind::ExecutionResumed { reason }
            | Kind::ExecutionRewound { reason } => {
                head(shown).with("Reason", string_or_null(reason.as_deref()))
            }
        };
        vec![one]
    }

    fn started(&self, head: Members, started: &ExecutionStarted) -> Members {
        let scheduled = started.scheduled_start.map(|at| string(&time::exact(at)));
        head.with("FunctionName", string(&started.name))
            .with_if("Input", self.input(started.input.as_ref()))
            .with_if("ScheduledStartTime", scheduled)
    }

    /// What a completion tells of its scheduling.
    fn of_task(&self, head: Members, task: TaskId) -> Members {
        match self.scheduled.get(&task) {
            None => head,
            Some(scheduled) => head
                .with("ScheduledTime", string(&time::exact(scheduled.at)))
                .with("FunctionName", string(scheduled.name))
                .with_if("Input", self.input(scheduled.input)),
        }
    }

    fn of_child(&self, told: Members, task: TaskId) -> Members {
        let child = self.scheduled.get(&task).and_then(|scheduled| scheduled.instance);
        told.with_if("InstanceId", child.map(|instance| string(instance.as_str())))
    }

    /// An input as JSON text in a string.
    fn input(&self, input: Option<&Payload>) -> Option<Box<RawValue>> {
        self.shown
            .input
            .then(|| string_or_null(input.map(Payload::as_str)))
    }

    /// A result as JSON.
    fn result(&self, result: Option<&Payload>) -> Option<Box<RawValue>> {
        self.shown.output.then(|| raw(result))
    }

    fn sent(&self, at: Timestamp, entity: &EntityId, name: &str, request: String) -> Members {
        head("EventSent", at)
            .with("InstanceId", string(&entity.to_string()))
            .with("Name", string(name))
            .with_if("Input", self.shown.input.then(|| string(&request)))
    }

    fn request(&self, operation: &str, signal: bool, input: Option<&Payload>, task: TaskId) -> String {
        let members = Members::default()
            .with("op", string(operation))
            .with_if("signal", signal.then(|| raw(Some(&"true".into()))))
            .with_if("input", input.map(|input| string(input.as_str())))
            .with("id", string(&self.guid(task)))
            .with("parent", string(self.id.as_str()));
        to_json(&members)
    }

    fn answered(&self, at: Timestamp, task: TaskId, result: &str, exception: Option<&str>) -> Members {
        let answer = Members::default()
            .with("result", string(result))
            .with_if("exceptionType", exception.map(string));
        head("EventRaised", at)
            .with("Name", string(&self.guid(task)))
            .with_if("Input", self.shown.input.then(|| string(&to_json(&answer))))
    }

    /// Joins question and answer: the execution's name with the task's number in its last group.
    fn guid(&self, task: TaskId) -> String {
        let number = (self.execution.0 & !u128::from(u32::MAX)) | u128::from(task.0);
        let hex = format!("{number:032x}");
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }
}

fn head(name: &str, at: Timestamp) -> Members {
    Members::default()
        .with("EventType", string(name))
        .with("Timestamp", string(&time::exact(at)))
}

fn details(failure: &Failure) -> Box<RawValue> {
    serde_json::value::to_raw_value(&FailureDetails::from(failure)).expect("strings are always JSON")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::http::wire::samples::at;

    const ALL: Shown = Shown {
        input: true,
        output: true,
    };

    fn check(shown: Shown, kinds: Vec<EventKind>, wanted: &Expect) {
        let mut history = vec![event(
            0,
            EventKind::ExecutionStarted(Box::new(ExecutionStarted {
                parent_name: None,
                name: "Hello".into(),
                version: None,
                execution_id: ExecutionId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
                input: Some("{\"a\":1.0}".into()),
                parent: None,
                scheduled_start: None,
                trace: None,
            })),
        )];
        history.extend(
            kinds
                .into_iter()
                .enumerate()
                .map(|(index, kind)| event(index as i64 + 1, kind)),
        );
        let told = events(&InstanceId::trusted("I"), &history, shown);
        let lines: Vec<String> = told.iter().skip(1).map(to_json).collect();
        wanted.assert_eq(&lines.join("\n"));
    }

    fn event(tenths: i64, kind: EventKind) -> Event {
        let start = at("2026-03-01T09:30:01Z").as_micros();
        Event {
            at: Timestamp::from_micros(start + tenths * 100_000),
            kind,
        }
    }

    fn scheduled(task: u32) -> EventKind {
        EventKind::TaskScheduled {
            task: TaskId(task),
            name: "SayHello".into(),
            input: Some("\"Tokyo\"".into()),
            options: None,
        }
    }

    #[test]
    fn completions_tell_of_their_scheduling_which_vanishes() {
        let kinds = || {
            vec![
                EventKind::OrchestratorStarted,
                scheduled(0),
                scheduled(1),
                EventKind::OrchestratorCompleted,
                EventKind::TaskCompleted {
                    task: TaskId(0),
                    result: Some("\"Hello Tokyo!\"".into()),
                    attempts: 1.into(),
                },
            ]
        };
        check(
            ALL,
            kinds(),
            &expect![[r#"
            {"EventType":"TaskScheduled","Timestamp":"2026-03-01T09:30:01.3Z","Name":"SayHello","Input":"\"Tokyo\""}
            {"EventType":"TaskCompleted","Timestamp":"2026-03-01T09:30:01.5Z","ScheduledTime":"2026-03-01T09:30:01.2Z","FunctionName":"SayHello","Input":"\"Tokyo\"","Result":"Hello Tokyo!"}"#]],
        );
        check(
            Shown {
                input: false,
                output: false,
            },
            kinds(),
            &expect![[r#"
            {"EventType":"TaskScheduled","Timestamp":"2026-03-01T09:30:01.3Z","Name":"SayHello"}
            {"EventType":"TaskCompleted","Timestamp":"2026-03-01T09:30:01.5Z","ScheduledTime":"2026-03-01T09:30:01.2Z","FunctionName":"SayHello"}"#]],
        );
    }

    #[test]
    fn failures_children_timers_and_ends() {
        let failure = Failure {
            cause: Some(Box::new(Failure::new("Io", "gone"))),
            ..Failure::new("Http", "500")
        };
        let child = EventKind::SubOrchestrationInstanceCreated {
            task: TaskId(1),
            name: "Child".into(),
            version: None,
            instance: InstanceId::trusted("c-1"),
            input: None,
            link: dalsegno_core::event::ChildLink::Awaited,
            parent_close: Default::default(),
            undo: false,
        };
        let fire_at = at("2026-03-01T10:00:00Z");
        check(
            ALL,
            vec![
                scheduled(0),
                EventKind::TaskFailed {
                    task: TaskId(0),
                    failure: failure.clone(),
                    attempts: 3.into(),
                },
                child,
                EventKind::SubOrchestrationInstanceCompleted {
                    task: TaskId(1),
                    result: None,
                },
                EventKind::TimerCreated {
                    task: TaskId(2),
                    fire_at,
                },
                EventKind::TimerFired {
                    task: TaskId(2),
                    fire_at,
                },
                EventKind::EventRaised {
                    name: "Approval".into(),
                    input: Some("true".into()),
                    trace: None,
                },
                EventKind::ExecutionSuspended { reason: None },
                EventKind::ExecutionResumed {
                    reason: Some("on".into()),
                },
                EventKind::ExecutionTerminated {
                    reason: Some("too long".into()),
                },
                EventKind::ExecutionFailed {
                    failure: failure.permanent(),
                },
            ],
            &expect![[r#"
            {"EventType":"TaskFailed","Timestamp":"2026-03-01T09:30:01.2Z","ScheduledTime":"2026-03-01T09:30:01.1Z","FunctionName":"SayHello","Input":"\"Tokyo\"","Reason":"Http: 500","Details":null,"FailureDetails":{"ErrorType":"Http","ErrorMessage":"500","StackTrace":null,"InnerFailure":{"ErrorType":"Io","ErrorMessage":"gone","StackTrace":null,"InnerFailure":null,"IsNonRetriable":false},"IsNonRetriable":false}}
            {"EventType":"SubOrchestrationInstanceCompleted","Timestamp":"2026-03-01T09:30:01.4Z","ScheduledTime":"2026-03-01T09:30:01.3Z","FunctionName":"Child","Input":null,"Result":null,"InstanceId":"c-1"}
            {"EventType":"TimerCreated","Timestamp":"2026-03-01T09:30:01.5Z","FireAt":"2026-03-01T10:00:00Z"}
            {"EventType":"TimerFired","Timestamp":"2026-03-01T09:30:01.6Z","FireAt":"2026-03-01T10:00:00Z"}
            {"EventType":"EventRaised","Timestamp":"2026-03-01T09:30:01.7Z","Name":"Approval","Input":"true"}
            {"EventType":"ExecutionSuspended","Timestamp":"2026-03-01T09:30:01.8Z","Reason":null}
            {"EventType":"ExecutionResumed","Timestamp":"2026-03-01T09:30:01.9Z","Reason":"on"}
            {"EventType":"ExecutionTerminated","Timestamp":"2026-03-01T09:30:02Z","Input":"too long"}
            {"EventType":"ExecutionCompleted","Timestamp":"2026-03-01T09:30:02.1Z","OrchestrationStatus":"Failed","Result":"Http: 500","FailureDetails":{"ErrorType":"Http","ErrorMessage":"500","StackTrace":null,"InnerFailure":{"ErrorType":"Io","ErrorMessage":"gone","StackTrace":null,"InnerFailure":null,"IsNonRetriable":false},"IsNonRetriable":true}}"#]],
        );
    }

    #[test]
    fn entity_traffic_takes_the_old_form() {
        let entity = |key| EntityId::new("account", key).unwrap();
        check(
            ALL,
            vec![
                EventKind::EntityLockRequested {
                    task: TaskId(0),
                    entities: vec![entity("a"), entity("b")],
                    request: None,
                },
                EventKind::EntityLockGranted { task: TaskId(0) },
                EventKind::EntityOperationCalled {
                    task: TaskId(1),
                    entity: entity("a"),
                    operation: "withdraw".into(),
                    input: Some("5".into()),
                    request: None,
                },
                EventKind::EntityOperationCompleted {
                    task: TaskId(1),
                    result: Some("{\"left\":1}".into()),
                },
                EventKind::EntityOperationSignaled {
                    task: TaskId(2),
                    entity: entity("b"),
                    operation: "deposit".into(),
                    input: None,
                    at: Some(at("2026-03-02T00:00:00Z")),
                    request: None,
                },
                EventKind::EntityOperationFailed {
                    task: TaskId(3),
                    failure: Failure::new("Poor", "no money"),
                },
                EventKind::EntityUnlockSent {
                    lock: TaskId(0),
                    only: None,
                },
            ],
            &expect![[r#"
            {"EventType":"EventSent","Timestamp":"2026-03-01T09:30:01.1Z","InstanceId":"@account@a","Name":"op","Input":"{\"op\":\"lock\",\"id\":\"00112233-4455-6677-8899-aabb00000000\",\"parent\":\"I\"}"}
            {"EventType":"EventRaised","Timestamp":"2026-03-01T09:30:01.2Z","Name":"00112233-4455-6677-8899-aabb00000000","Input":"{\"result\":\"null\"}"}
            {"EventType":"EventSent","Timestamp":"2026-03-01T09:30:01.3Z","InstanceId":"@account@a","Name":"op","Input":"{\"op\":\"withdraw\",\"input\":\"5\",\"id\":\"00112233-4455-6677-8899-aabb00000001\",\"parent\":\"I\"}"}
            {"EventType":"EventRaised","Timestamp":"2026-03-01T09:30:01.4Z","Name":"00112233-4455-6677-8899-aabb00000001","Input":"{\"result\":\"{\\\"left\\\":1}\"}"}
            {"EventType":"EventSent","Timestamp":"2026-03-01T09:30:01.5Z","InstanceId":"@account@b","Name":"op@2026-03-02T00:00:00Z","Input":"{\"op\":\"deposit\",\"signal\":true,\"id\":\"00112233-4455-6677-8899-aabb00000002\",\"parent\":\"I\"}"}
            {"EventType":"EventRaised","Timestamp":"2026-03-01T09:30:01.6Z","Name":"00112233-4455-6677-8899-aabb00000003","Input":"{\"result\":\"\\\"no money\\\"\",\"exceptionType\":\"Poor\"}"}
            {"EventType":"EventSent","Timestamp":"2026-03-01T09:30:01.7Z","InstanceId":"@account@a","Name":"release","Input":"{\"op\":\"release\",\"signal\":true,\"id\":\"00112233-4455-6677-8899-aabb00000000\",\"parent\":\"I\"}"}
            {"EventType":"EventSent","Timestamp":"2026-03-01T09:30:01.7Z","InstanceId":"@account@b","Name":"release","Input":"{\"op\":\"release\",\"signal\":true,\"id\":\"00112233-4455-6677-8899-aabb00000000\",\"parent\":\"I\"}"}"#]],
        );
    }

    #[test]
    fn the_first_event_tells_the_name_and_the_scheduled_start() {
        let started = EventKind::ExecutionStarted(Box::new(ExecutionStarted {
            parent_name: None,
            name: "Hello".into(),
            version: Some("2".into()),
            execution_id: ExecutionId(1),
            input: None,
            parent: None,
            scheduled_start: Some(at("2026-03-01T09:00:00.5Z")),
            trace: None,
        }));
        let told = events(&InstanceId::trusted("I"), &[event(0, started)], ALL);
        expect![[r#"{"EventType":"ExecutionStarted","Timestamp":"2026-03-01T09:30:01Z","FunctionName":"Hello","Input":null,"ScheduledStartTime":"2026-03-01T09:00:00.5Z"}"#]]
            .assert_eq(&to_json(&told[0]));
    }
}
