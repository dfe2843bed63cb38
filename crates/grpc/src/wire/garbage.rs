//! Answers of workers are garbage at times: they are refused with a reason, and nothing panics.

use dalsegno_core::InstanceId;
use dalsegno_engine::executor::TurnAddress;
use dalsegno_store_tests::Random;
use prost::Message;

use super::*;
use crate::filter::Filter;
use crate::proto::orchestrator_action::Kind as Wire;
use crate::workers::{Asked, Kind, Pending};

/// Answers per test.
const ANSWERS: usize = 20_000;

fn work() -> Work {
    Work {
        asked: Asked::Message(Box::new(proto::work_item::Request::OrchestratorRequest(
            Default::default(),
        ))),
        name: "o".into(),
        version: Some("1".into()),
        instance: "i".into(),
        began: Timestamp::default(),
        task: 0,
        execution: Default::default(),
        past: Default::default(),
        parts: Default::default(),
        bad_answers: 0,
        locks: vec![("lock".into(), TaskId(1))],
        answer: Pending::Turn(TurnAddress {
            instance: InstanceId::trusted("i"),
            number: 1,
        }),
    }
}

fn text(random: &mut Random) -> String {
    match random.below(4) {
        0 => String::new(),
        1 => random.text("@aZ:-_0 \u{e9}\u{0}", 12),
        2 => format!("@{}@{}", random.text("aB1", 3), random.text("k@\n", 3)),
        _ => "x".repeat(random.below(300) as usize),
    }
}

fn some_text(random: &mut Random) -> Option<String> {
    (!random.one_in(3)).then(|| text(random))
}

fn number(random: &mut Random) -> i32 {
    match random.below(5) {
        0 => i32::MIN,
        1 => i32::MAX,
        2 => -1,
        _ => random.below(8) as i32,
    }
}

fn time(random: &mut Random) -> Option<prost_types::Timestamp> {
    let seconds = [0, 1, -1, i64::MAX, i64::MIN, 1_767_225_600][random.below(6) as usize];
    (!random.one_in(4)).then(|| prost_types::Timestamp {
        seconds,
        nanos: number(random),
    })
}

fn trace_context(random: &mut Random) -> Option<proto::TraceContext> {
    random.one_in(2).then(|| proto::TraceContext {
        trace_parent: random.text("0123456789abcdef-", 60),
        span_id: text(random),
        trace_state: some_text(random),
    })
}

fn details(random: &mut Random, depth: u64) -> proto::TaskFailureDetails {
    let value = |kind| prost_types::Value { kind };
    let numbers = [f64::NAN, f64::INFINITY, -0.0, 1.5];
    let property = prost_types::value::Kind::NumberValue(numbers[random.below(4) as usize]);
    proto::TaskFailureDetails {
        error_type: text(random),
        error_message: text(random),
        stack_trace: some_text(random),
        inner_failure: (depth > 0).then(|| Box::new(details(random, depth - 1))),
        is_non_retriable: random.one_in(2),
        properties: [(text(random), value(Some(property))), (text(random), value(None))].into(),
    }
}

fn entity_message(random: &mut Random) -> proto::SendEntityMessageAction {
    use proto::send_entity_message_action::Kind;
    let kind = match random.below(5) {
        0 => Kind::EntityOperationSignaled(proto::EntityOperationSignaledEvent {
            request_id: text(random),
            operation: text(random),
            scheduled_time: time(random),
            input: some_text(random),
            target_instance_id: some_text(random),
        }),
        1 => Kind::EntityOperationCalled(proto::EntityOperationCalledEvent {
            request_id: text(random),
            operation: text(random),
            target_instance_id: some_text(random),
            ..Default::default()
        }),
        2 => Kind::EntityLockRequested(proto::EntityLockRequestedEvent {
            critical_section_id: text(random),
            lock_set: (0..random.below(4)).map(|_| text(random)).collect(),
            ..Default::default()
        }),
        3 => Kind::EntityUnlockSent(proto::EntityUnlockSentEvent {
            critical_section_id: ["lock", "other"][random.below(2) as usize].to_owned(),
            target_instance_id: some_text(random),
            ..Default::default()
        }),
        _ => return proto::SendEntityMessageAction { kind: None },
    };
    proto::SendEntityMessageAction { kind: Some(kind) }
}

fn wire_action(random: &mut Random) -> proto::OrchestratorAction {
    let kind = match random.below(9) {
        0 => Wire::ScheduleTask(proto::ScheduleTaskAction {
            name: text(random),
            version: some_text(random),
            input: some_text(random),
            parent_trace_context: trace_context(random),
            ..Default::default()
        }),
        1 => Wire::CreateTimer(proto::CreateTimerAction {
            fire_at: time(random),
        }),
        2 => Wire::CreateSubOrchestration(proto::CreateSubOrchestrationAction {
            instance_id: text(random),
            name: text(random),
            version: some_text(random),
            ..Default::default()
        }),
        3 => Wire::SendEvent(proto::SendEventAction {
            instance: random.one_in(2).then(|| proto::OrchestrationInstance {
                instance_id: text(random),
                execution_id: None,
            }),
            name: text(random),
            data: some_text(random),
        }),
        4 => {
            let depth = random.below(200);
            Wire::CompleteOrchestration(proto::CompleteOrchestrationAction {
                orchestration_status: number(random),
                result: some_text(random),
                new_version: some_text(random),
                carryover_events: vec![proto::HistoryEvent::default()],
                failure_details: random.one_in(2).then(|| details(random, depth)),
                ..Default::default()
            })
        }
        5 => Wire::TerminateOrchestration(proto::TerminateOrchestrationAction {
            instance_id: text(random),
            ..Default::default()
        }),
        6 => Wire::RewindOrchestration(Default::default()),
        7 => Wire::SendEntityMessage(entity_message(random)),
        _ => {
            return proto::OrchestratorAction {
                id: number(random),
                kind: None,
            };
        }
    };
    proto::OrchestratorAction {
        id: number(random),
        kind: Some(kind),
    }
}

/// What a good answer has: no id twice among tasks, one end at most, all of it sized.
fn check(turn: Turn) {
    let mut used = std::collections::HashSet::new();
    let mut ends = 0;
    for action in &turn.actions {
        if let Action::ScheduleTask { task, .. }
        | Action::CreateTimer { task, .. }
        | Action::StartOrchestration { task, .. }
        | Action::SendEvent { task, .. }
        | Action::CallEntity { task, .. }
        | Action::SignalEntity { task, .. }
        | Action::LockEntities { task, .. } = action
        {
            assert!(used.insert(*task), "{task} is used twice: {turn:?}");
        }
        if let Action::Fail { failure } = action {
            let causes = std::iter::successors(Some(failure), |failure| failure.cause.as_deref());
            assert!(causes.count() <= CAUSES_MAX + 1);
        }
        ends += u32::from(matches!(
            action,
            Action::Complete { .. }
                | Action::Fail { .. }
                | Action::EndCancelled { .. }
                | Action::ContinueAsNew { .. }
        ));
    }
    assert!(ends <= 1, "{turn:?}");
}

#[test]
fn turns_of_any_fields_are_read_or_refused_with_the_action_named() {
    let mut random = Random::new(7);
    let work = work();
    let (mut taken, mut reasons) = (0, std::collections::BTreeSet::new());
    for _ in 0..ANSWERS {
        let actions: Vec<_> = (0..random.below(3)).map(|_| wire_action(&mut random)).collect();
        let ids: Vec<String> = actions
            .iter()
            .map(|action| format!("action {}: ", action.id))
            .collect();
        let response = proto::OrchestratorResponse {
            actions,
            custom_status: some_text(&mut random),
            ..Default::default()
        };
        match turn(response, &work) {
            Ok(turn) => {
                taken += 1;
                check(turn);
            }
            Err(error) => {
                let id = ids.iter().find(|id| error.starts_with(*id));
                let rest = &error[id.expect(&error).len()..];
                assert!(!rest.is_empty());
                reasons.insert(rest.chars().take(20).collect::<String>());
            }
        }
    }
    assert!(taken > ANSWERS / 10, "only {taken} were taken");
    assert!(reasons.len() > 8, "{reasons:?}");
}

/// Decodes changed bytes of a good message; those that are messages are used as any other.
fn with_garbage<M: Message + Default>(good: &M, mut take: impl FnMut(M)) {
    let mut random = Random::new(7);
    let bytes = good.encode_to_vec();
    let mut taken = 0;
    for _ in 0..ANSWERS {
        if let Ok(message) = M::decode(&*random.mutate(&bytes)) {
            taken += 1;
            take(message);
        }
    }
    assert!(taken > 100, "only {taken} were messages");
    assert!(taken < ANSWERS, "everything was a message");
}

#[test]
fn turns_of_any_bytes_are_read_or_refused() {
    let work = work();
    let mut random = Random::new(1);
    let good = proto::OrchestratorResponse {
        instance_id: "i".to_owned(),
        actions: (0..6).map(|_| wire_action(&mut random)).collect(),
        custom_status: Some("\"s\"".to_owned()),
        ..Default::default()
    };
    with_garbage(&good, |response| {
        if let Ok(turn) = turn(response, &work) {
            check(turn);
        }
    });
}

#[test]
fn times_and_failures_of_any_bytes_are_read_and_written() {
    let mut random = Random::new(2);
    with_garbage(&details(&mut random, 3), |details| {
        let failure = failure(details);
        assert_eq!(self::failure(failure_of(&failure)).kind, failure.kind);
    });
    let good = prost_types::Timestamp {
        seconds: 1_767_225_600,
        nanos: 123_456_000,
    };
    assert_eq!(fields::time("at", good).map(timestamp), Ok(good));
    with_garbage(&good, |at| {
        let Ok(at) = fields::time("at", at) else { return };
        assert_eq!(fields::time("at", timestamp(at)), Ok(at));
    });
}

#[test]
fn filters_of_any_bytes_are_read() {
    let named = |name: &str| proto::OrchestrationFilter {
        name: name.to_owned(),
        versions: vec!["1".to_owned()],
    };
    let good = proto::GetWorkItemsRequest {
        work_item_filters: Some(proto::WorkItemFilters {
            orchestrations: vec![named("o"), named("p")],
            ..Default::default()
        }),
        ..Default::default()
    };
    with_garbage(&good, |request| {
        let lists = request.work_item_filters.is_some();
        let filter = Filter::new(request.work_item_filters);
        assert!(!lists || !filter.takes(Kind::Activity, "unlisted", None));
    });
}
