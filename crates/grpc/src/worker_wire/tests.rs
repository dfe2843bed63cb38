//! There and back: what the server writes the worker reads, and the other way round.

use std::time::Duration;

use dalsegno_core::action::ChildOptions;
use dalsegno_core::event::{ChildLink, ParentClosePolicy};
use dalsegno_core::retry::RetryPolicy;
use dalsegno_core::{Divergence, EntityId, Failure, Fault, FaultKind, TraceContext};
use dalsegno_engine::executor::{AttemptOutcome, ExecutionInfo, TurnAddress};

use super::*;
use crate::wire::Names;
use crate::workers::{Asked, Pending, Work};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn instance() -> InstanceId {
    InstanceId::trusted("one")
}

fn entity(key: &str) -> EntityId {
    EntityId::new("counter", key).expect("an id")
}

fn value() -> Option<Payload> {
    Some(Payload::from("{\"a\":1}"))
}

fn failure() -> Failure {
    Failure {
        kind: "Outer".into(),
        message: "no".into(),
        stack: Some("at here".into()),
        cause: Some(Box::new(Failure::new("Inner", "why"))),
        permanent: true,
        properties: Some(Payload::from("{\"code\":7.0}")),
    }
}

fn trace() -> Option<TraceContext> {
    TraceContext::parse(TRACE, Some("vendor=1"))
}

fn info() -> ExecutionInfo {
    ExecutionInfo {
        instance: instance(),
        execution_id: ExecutionId(77),
        name: "walk".into(),
        version: Some("2".into()),
        trace: None,
        span: None,
        tags: vec![("team".into(), "a".into())],
        locked_entities_max: 32,
    }
}

/// Every kind of event that a worker is told of, in an order that could have been.
#[expect(clippy::too_many_lines, reason = "one of each kind")]
fn events() -> Vec<EventKind> {
    let (one, two) = (TaskId(1), TaskId(2));
    let labels = TaskLabels {
        version: Some("3".into()),
        tags: vec![("k".into(), "v".into())],
        trace: trace(),
    };
    vec![
        EventKind::OrchestratorStarted,
        EventKind::ExecutionStarted(Box::new(ExecutionStarted {
            parent_name: None,
            name: "walk".into(),
            version: Some("2".into()),
            execution_id: ExecutionId(77),
            input: value(),
            parent: Some(Parent {
                instance: InstanceId::trusted("above"),
                execution: ExecutionKey(0),
                task: TaskId(4),
            }),
            scheduled_start: Some(Timestamp::from_micros(5)),
            trace: trace(),
        })),
        EventKind::CancelRequested {
            reason: Some("enough".into()),
        },
        EventKind::TaskScheduled {
            task: TaskId(0),
            name: "act".into(),
            input: None,
            options: Some(Box::new(TaskOptions {
                labels: Some(Box::new(labels)),
                ..TaskOptions::default()
            })),
        },
        EventKind::TimerCreated {
            task: one,
            fire_at: Timestamp::from_micros(1_234_567),
        },
        EventKind::SubOrchestrationInstanceCreated {
            task: two,
            name: "child".into(),
            version: Some("9".into()),
            instance: InstanceId::trusted("below"),
            input: value(),
            link: ChildLink::Detached,
            parent_close: ParentClosePolicy::Cancel,
            undo: true,
        },
        EventKind::EventSent {
            task: TaskId(3),
            instance: instance(),
            name: "Go".into(),
            input: value(),
        },
        EventKind::EntityOperationCalled {
            task: TaskId(4),
            entity: entity("a"),
            operation: "add".into(),
            input: value(),
            request: None,
        },
        EventKind::EntityOperationCalled {
            task: TaskId(5),
            entity: entity("b"),
            operation: "add".into(),
            input: None,
            request: Some("by-name".into()),
        },
        EventKind::EntityOperationSignaled {
            task: TaskId(6),
            entity: entity("a"),
            operation: "add".into(),
            input: value(),
            at: Some(Timestamp::from_micros(99)),
            request: None,
        },
        EventKind::EntityLockRequested {
            task: TaskId(7),
            entities: vec![entity("a"), entity("b")],
            request: None,
        },
        EventKind::OrchestratorCompleted,
        EventKind::OrchestratorStarted,
        EventKind::TaskCompleted {
            task: TaskId(0),
            result: value(),
            attempts: Attempts::from(1),
        },
        EventKind::TaskFailed {
            task: TaskId(0),
            failure: failure(),
            attempts: Attempts::from(1),
        },
        EventKind::TimerFired {
            task: one,
            fire_at: Timestamp::from_micros(1_234_567),
        },
        EventKind::SubOrchestrationInstanceCompleted {
            task: two,
            result: None,
        },
        EventKind::SubOrchestrationInstanceFailed {
            task: two,
            failure: failure(),
        },
        EventKind::EventRaised {
            name: "Go".into(),
            input: value(),
            trace: None,
        },
        EventKind::EntityOperationCompleted {
            task: TaskId(4),
            result: value(),
        },
        EventKind::EntityOperationFailed {
            task: TaskId(5),
            failure: failure(),
        },
        EventKind::EntityLockGranted { task: TaskId(7) },
        EventKind::EntityUnlockSent {
            lock: TaskId(7),
            only: None,
        },
        EventKind::EntityUnlockSent {
            lock: TaskId(7),
            only: Some(Box::new(OneOfLock {
                task: TaskId(8),
                entity: entity("b"),
            })),
        },
        EventKind::ExecutionSuspended {
            reason: Some("pause".into()),
        },
        EventKind::ExecutionResumed { reason: None },
        EventKind::ExecutionCompleted { result: value() },
        EventKind::ExecutionFailed { failure: failure() },
        EventKind::ExecutionCanceled { failure: failure() },
        EventKind::ExecutionTerminated {
            reason: Some("stop".into()),
        },
        EventKind::OrchestratorCompleted,
    ]
}

#[test]
fn a_history_is_read_as_it_was_written() {
    let (mut names, info) = (Names::default(), info());
    let written: Vec<Bytes> = events()
        .into_iter()
        .filter_map(|kind| {
            names.event(
                &Event {
                    at: Timestamp::from_micros(3),
                    kind,
                },
                &info,
            )
        })
        .map(|event| event.encode_to_vec().into())
        .collect();
    let read = Reader::default().past(&written).expect("a history");
    let kinds: Vec<EventKind> = read.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, events());
    let begun = started(&written).expect("what began");
    assert_eq!(sorted_tags(begun.tags), info.tags);
    assert_eq!(execution_id(&info.execution_id.to_string()), info.execution_id);
}

fn sorted_tags(tags: std::collections::HashMap<String, String>) -> Vec<(String, String)> {
    let mut tags: Vec<_> = tags.into_iter().collect();
    tags.sort();
    tags
}

fn work() -> Work {
    Work {
        asked: Asked::Message(Box::new(proto::work_item::Request::HealthPing(
            proto::HealthPing {},
        ))),
        name: "walk".into(),
        version: None,
        instance: "one".into(),
        began: Default::default(),
        task: 0,
        execution: Default::default(),
        locks: Vec::new(),
        past: Default::default(),
        parts: Default::default(),
        bad_answers: 0,
        answer: Pending::Turn(TurnAddress {
            instance: instance(),
            number: 1,
        }),
    }
}

fn sent(response: proto::OrchestratorResponse) -> wire::Turn {
    let bytes = response.encode_to_vec();
    let response = proto::OrchestratorResponse::decode(bytes.as_slice()).expect("a message");
    wire::turn(response, &work()).expect("a turn")
}

/// Every kind of action that has a place in the order of the code.
#[expect(clippy::too_many_lines, reason = "a table")]
fn actions() -> Vec<Action> {
    let retry = RetryPolicy::exponential(5, Duration::from_millis(1500))
        .jitter(0.25)
        .interval_max(Duration::from_secs(60))
        .deadline(Duration::from_secs(3600));
    vec![
        Action::ScheduleTask {
            task: TaskId(0),
            name: "act".into(),
            input: value(),
            options: TaskOptions {
                retry: Some(retry),
                timeout: Some(Duration::from_micros(7)),
                undo: true,
                labels: Some(Box::new(TaskLabels {
                    version: Some("1".into()),
                    ..TaskLabels::default()
                })),
            },
        },
        Action::CreateTimer {
            task: TaskId(1),
            fire_at: Timestamp::from_micros(5),
        },
        Action::StartOrchestration {
            task: TaskId(2),
            name: "child".into(),
            version: Some("2".into()),
            instance: InstanceId::trusted("below"),
            input: None,
            link: ChildLink::Detached,
            options: ChildOptions {
                retry: Some(retry),
                parent_close: ParentClosePolicy::Terminate,
                undo: true,
                labels: None,
            },
        },
        Action::SendEvent {
            task: TaskId(3),
            instance: instance(),
            name: "Go".into(),
            input: value(),
        },
        Action::LockEntities {
            task: TaskId(4),
            entities: vec![entity("a"), entity("b")],
            request: None,
        },
        Action::CallEntity {
            task: TaskId(5),
            entity: entity("a"),
            operation: "add".into(),
            input: value(),
            request: None,
        },
        Action::UnlockEntities {
            lock: TaskId(4),
            only: None,
        },
        Action::SignalEntity {
            task: TaskId(6),
            entity: entity("a"),
            operation: "add".into(),
            input: None,
            at: Some(Timestamp::from_micros(9)),
            request: None,
        },
        Action::Terminate {
            instance: InstanceId::trusted("other"),
            output: value(),
            children: ParentClosePolicy::Terminate,
        },
        Action::CancelTimer { task: TaskId(1) },
        Action::SetCustomStatus { status: value() },
    ]
}

#[test]
fn actions_arrive_as_they_were_asked_for() {
    let ends = [
        Action::Complete { result: value() },
        Action::Fail { failure: failure() },
        Action::EndCancelled { failure: failure() },
        Action::ContinueAsNew {
            version: Some("3".into()),
            input: value(),
        },
    ];
    for end in ends {
        let asked: Vec<Action> = actions().into_iter().chain([end]).collect();
        let unread = vec![EventKind::EventRaised {
            name: "Go".into(),
            input: value(),
            trace: None,
        }];
        let continues = matches!(asked.last(), Some(Action::ContinueAsNew { .. }));
        let turn = sent(answer(asked.clone(), unread.clone()));
        assert_eq!(turn.actions, asked);
        assert_eq!(turn.unread, if continues { unread } else { Vec::new() });
        assert_eq!(turn.fault, None);
    }
}

#[test]
fn a_custom_status_that_is_not_touched_stays() {
    assert_eq!(sent(answer(Vec::new(), Vec::new())).actions, []);
    let cleared = vec![Action::SetCustomStatus { status: None }];
    assert_eq!(sent(answer(cleared.clone(), Vec::new())).actions, cleared);
}

#[test]
fn a_fault_arrives_as_a_fault() {
    for kind in FaultKind::ALL {
        let told = Fault::new(kind, "the code changed");
        assert_eq!(sent(fault(&told)).fault, Some(told));
    }
    let activity = || Some("activity \"a\"".to_owned());
    for (recorded, asked) in [(activity(), activity()), (activity(), None), (None, activity())] {
        let mut told = Fault::new(FaultKind::Diverged, "the code changed");
        told.divergence = Some(Box::new(Divergence {
            recorded,
            asked,
            location: Some("src/main.rs:7:9".to_owned()),
        }));
        assert_eq!(sent(fault(&told)).fault, Some(told));
    }
}

#[test]
fn an_attempt_ends_there_as_it_did_here() {
    let outcomes = [
        AttemptOutcome::Completed(value()),
        AttemptOutcome::Completed(None),
        AttemptOutcome::Failed {
            failure: failure(),
            retry_after: None,
        },
        AttemptOutcome::Failed {
            failure: failure(),
            retry_after: Some(Duration::from_millis(250)),
        },
        AttemptOutcome::Limited {
            retry_after: Duration::from_secs(2),
        },
    ];
    for outcome in outcomes {
        let (result, failure_details) = wire::outcome_of(outcome.clone());
        let response = proto::ActivityResponse {
            result,
            failure_details,
            ..Default::default()
        };
        assert_eq!(wire::outcome(response), outcome);
    }
}

#[test]
fn options_that_cannot_be_read_are_told() {
    for (text, told) in [
        ("[]", "no JSON object"),
        ("{\"retry\":{}}", "retry.attempts"),
        ("{\"retry\":{\"attempts\":0}}", "attempts_max is 0"),
        ("{\"timeout\":\"soon\"}", "timeout"),
    ] {
        let tags = [("dalsegno.options".to_owned(), text.to_owned())].into();
        let error = options::task(&tags).expect_err(text);
        assert!(error.contains(told), "{error}");
    }
    let tags = [(
        "dalsegno.options".to_owned(),
        "{\"parentClose\":\"explode\"}".to_owned(),
    )]
    .into();
    assert!(options::child(&tags).expect_err("refused").contains("explode"));
}
