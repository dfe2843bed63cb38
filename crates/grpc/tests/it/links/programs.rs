//! What runs over such links: orchestrators and an entity, as a worker of another language would
//! run them, from the messages alone.

use std::collections::{BTreeMap, BTreeSet};

use dalsegno_grpc::proto;
use dalsegno_grpc::proto::history_event::Kind as Event;
use dalsegno_grpc::proto::orchestrator_action::Kind as Asked;
use dalsegno_grpc::proto::{OrchestrationStatus as Wire, send_entity_message_action::Kind as Message};

use crate::world::{action, success};

/// Every orchestrator.
pub(crate) const NAMES: [&str; 5] = ["sequence", "fan", "events", "counter", "parent"];

/// Steps of each.
pub(crate) const STEPS: i32 = 4;

/// Counts the signals of all.
pub(crate) const SHARED: &str = "@counter@shared";

/// Ids of signals come after those of calls.
const SIGNALS: i32 = 100;

/// What the history says.
#[derive(Default)]
struct Seen {
    name: String,
    instance: String,
    asked: BTreeSet<i32>,
    done: BTreeMap<i32, i64>,
    answered: BTreeMap<String, i64>,
    raised: Vec<String>,
}

impl Seen {
    fn new(events: impl Iterator<Item = proto::HistoryEvent>) -> Self {
        let mut seen = Self::default();
        for event in events {
            let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).expect("a number");
            match event.kind.expect("events have a kind") {
                Event::ExecutionStarted(started) => {
                    let instance = started.orchestration_instance.expect("it says which");
                    (seen.name, seen.instance) = (started.name, instance.instance_id);
                }
                Event::TaskScheduled(_)
                | Event::SubOrchestrationInstanceCreated(_)
                | Event::EntityOperationCalled(_)
                | Event::EntityOperationSignaled(_) => {
                    assert!(seen.asked.insert(event.event_id), "{} twice", event.event_id);
                }
                Event::TaskCompleted(done) => {
                    let before = seen.done.insert(done.task_scheduled_id, number(done.result));
                    assert!(before.is_none(), "task {} ends twice", done.task_scheduled_id);
                }
                Event::SubOrchestrationInstanceCompleted(done) => {
                    let before = seen.done.insert(done.task_scheduled_id, number(done.result));
                    assert!(before.is_none(), "child {} ends twice", done.task_scheduled_id);
                }
                Event::EntityOperationCompleted(done) => {
                    let before = seen.answered.insert(done.request_id.clone(), number(done.output));
                    assert!(before.is_none(), "{} is answered twice", done.request_id);
                }
                Event::EventRaised(raised) => seen.raised.push(raised.input.expect("it has one")),
                Event::OrchestratorStarted(_) => {}
                other => panic!("{other:?} does not belong here"),
            }
        }
        seen
    }
}

/// A turn over its whole history: what is not asked for yet.
pub(crate) fn turn(events: impl Iterator<Item = proto::HistoryEvent>) -> Vec<proto::OrchestratorAction> {
    let seen = Seen::new(events);
    let mut wanted = Vec::new();
    let result = match seen.name.as_str() {
        "sequence" => sequence(&seen, &mut wanted),
        "fan" => fan(&seen, &mut wanted),
        "events" => (seen.raised.len() >= STEPS as usize).then(|| seen.raised.concat()),
        "counter" => counter(&seen, &mut wanted),
        "parent" => parent(&seen, &mut wanted),
        other => panic!("{other} is no program"),
    };
    wanted.retain(|action| !seen.asked.contains(&action.id));
    if let Some(result) = result {
        let complete = proto::CompleteOrchestrationAction {
            orchestration_status: Wire::Completed.into(),
            result: Some(result),
            ..Default::default()
        };
        wanted.push(action(1_000, Asked::CompleteOrchestration(complete)));
    }
    wanted
}

fn task(id: i32) -> proto::OrchestratorAction {
    let task = proto::ScheduleTaskAction {
        name: "double".to_owned(),
        input: Some(id.to_string()),
        ..Default::default()
    };
    action(id, Asked::ScheduleTask(task))
}

fn sequence(seen: &Seen, wanted: &mut Vec<proto::OrchestratorAction>) -> Option<String> {
    let mut sum = 0;
    for id in 1..=STEPS {
        wanted.push(task(id));
        sum += seen.done.get(&id)?;
    }
    Some(sum.to_string())
}

fn fan(seen: &Seen, wanted: &mut Vec<proto::OrchestratorAction>) -> Option<String> {
    wanted.extend((1..=STEPS).map(task));
    (seen.done.len() == STEPS as usize).then(|| seen.done.values().sum::<i64>().to_string())
}

fn counter(seen: &Seen, wanted: &mut Vec<proto::OrchestratorAction>) -> Option<String> {
    let mut last = 0;
    for id in 1..=STEPS {
        let request_id = format!("{}-{id}", seen.instance);
        let call = proto::EntityOperationCalledEvent {
            request_id: request_id.clone(),
            operation: "add".to_owned(),
            target_instance_id: Some(format!("@counter@{}", seen.instance)),
            ..Default::default()
        };
        let signal = proto::EntityOperationSignaledEvent {
            request_id: format!("{request_id}-signal"),
            operation: "add".to_owned(),
            target_instance_id: Some(SHARED.to_owned()),
            ..Default::default()
        };
        wanted.push(entity(id, Message::EntityOperationCalled(call)));
        wanted.push(entity(SIGNALS + id, Message::EntityOperationSignaled(signal)));
        last = *seen.answered.get(&request_id)?;
    }
    Some(last.to_string())
}

fn entity(id: i32, message: Message) -> proto::OrchestratorAction {
    let kind = Some(message);
    action(
        id,
        Asked::SendEntityMessage(proto::SendEntityMessageAction { kind }),
    )
}

fn parent(seen: &Seen, wanted: &mut Vec<proto::OrchestratorAction>) -> Option<String> {
    for (id, name) in (1..).zip(["sequence", "fan"]) {
        let child = proto::CreateSubOrchestrationAction {
            instance_id: format!("{}-{name}", seen.instance),
            name: name.to_owned(),
            ..Default::default()
        };
        wanted.push(action(id, Asked::CreateSubOrchestration(child)));
    }
    (seen.done.len() == 2).then(|| seen.done.values().sum::<i64>().to_string())
}

/// What an activity gives.
pub(crate) fn activity(input: &str) -> String {
    (2 * input.parse::<i64>().expect("a number")).to_string()
}

/// What a counter makes of its operations.
pub(crate) fn operations(request: &proto::EntityRequest) -> proto::EntityBatchResult {
    let state = request.entity_state.as_deref().unwrap_or("0");
    let mut state: i64 = state.parse().expect("a number");
    let mut results = Vec::new();
    for _ in &request.operation_requests {
        state += 1;
        results.push(success(Some(&state.to_string())));
    }
    proto::EntityBatchResult {
        results,
        entity_state: Some(state.to_string()),
        ..Default::default()
    }
}

/// What a program gives in the end.
pub(crate) fn expected(name: &str) -> String {
    let sum = i64::from(STEPS * (STEPS + 1));
    match name {
        "sequence" | "fan" => sum.to_string(),
        "events" => (1..=STEPS).map(|number| number.to_string()).collect(),
        "counter" => STEPS.to_string(),
        _ => (2 * sum).to_string(),
    }
}

/// How many outcomes its history has.
pub(crate) fn outcomes(name: &str) -> usize {
    match name {
        "parent" => 2,
        _ => STEPS as usize,
    }
}
