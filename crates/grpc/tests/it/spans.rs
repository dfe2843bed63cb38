//! Who tells of spans: workers that do are left to it and keep their span; for all others the hub does.

use std::sync::{Arc, Mutex};

use dalsegno_core::span::EndedExecution;
use dalsegno_engine::traces::Traces;
use dalsegno_grpc::proto;
use dalsegno_grpc::proto::OrchestrationStatus as Wire;
use dalsegno_grpc::proto::history_event::Kind as Event;
use dalsegno_grpc::proto::orchestrator_action::Kind as Action;
use dalsegno_grpc::proto::work_item::Request as Item;
use dalsegno_grpc::tonic::Streaming;
use dalsegno_store_memory::MemoryStore;
use futures::StreamExt;
use prost::Message;

use crate::world::{
    Client, client_of, completion, connect, connect_with, named, response, schedule, served_on, turn,
};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OF_ACTIVITY: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000aa-01";

/// Keeps what it is told.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<EndedExecution>>>);

impl Traces for Kept {
    fn samples(&self, _trace: u128, given: Option<bool>) -> bool {
        given.unwrap_or(true)
    }

    fn ended(&self, execution: EndedExecution) {
        self.0.lock().expect("nobody panicked").push(execution);
    }
}

impl Kept {
    fn names(&self) -> Vec<String> {
        let ended = self.0.lock().expect("nobody panicked");
        let spans = ended.iter().flat_map(EndedExecution::spans);
        spans.map(|span| span.name).collect()
    }
}

fn context(parent: &str) -> Option<proto::TraceContext> {
    Some(proto::TraceContext {
        trace_parent: parent.to_owned(),
        ..Default::default()
    })
}

/// The parent that the execution is told of in its first turn.
fn parent_of(request: &proto::OrchestratorRequest) -> String {
    let events = request.new_events.iter();
    let mut started = events.filter_map(|event| {
        match proto::HistoryEvent::decode(event.clone())
            .expect("it is an event")
            .kind?
        {
            Event::ExecutionStarted(started) => started.parent_trace_context,
            _ => None,
        }
    });
    started.next().map(|trace| trace.trace_parent).unwrap_or_default()
}

/// Does the activity that comes next; says whose work it was.
async fn act(client: &mut Client, stream: &mut Streaming<proto::WorkItem>) -> String {
    loop {
        let item = stream.next().await.expect("it lives").expect("it lives");
        let Some(Item::ActivityRequest(request)) = item.request else {
            continue;
        };
        let response = proto::ActivityResponse {
            instance_id: request.orchestration_instance.expect("it has one").instance_id,
            task_id: request.task_id,
            completion_token: item.completion_token,
            ..Default::default()
        };
        client
            .complete_activity_task(response)
            .await
            .expect("it is taken");
        return request.parent_trace_context.expect("it has a trace").trace_parent;
    }
}

fn traced(action: proto::OrchestratorAction, parent: &str) -> proto::OrchestratorAction {
    let kind = action.kind.map(|kind| match kind {
        Action::ScheduleTask(task) => Action::ScheduleTask(proto::ScheduleTaskAction {
            parent_trace_context: context(parent),
            ..task
        }),
        other => other,
    });
    proto::OrchestratorAction { kind, ..action }
}

#[tokio::test]
async fn a_worker_that_tells_of_spans_is_left_to_it_over_a_restart() {
    let (kept, store) = (Kept::default(), Arc::new(MemoryStore::new(2)));
    let (served, workers) = served_on(store.clone(), Some(Arc::new(kept.clone())));
    let hub = served.hub.clone();
    let mut client = client_of(served);
    let mut stream = connect(&mut client).await;
    let start = proto::CreateInstanceRequest {
        parent_trace_context: context(CALLER),
        ..named("a")
    };
    client.start_instance(start).await.expect("it starts");
    let (token, request) = turn(&mut stream).await;
    assert_eq!(parent_of(&request), CALLER, "its client tells of the creation");
    assert_eq!(request.orchestration_trace_context, None);
    let own = proto::OrchestrationTraceContext {
        span_id: Some("00000000000000ee".to_owned()),
        span_start_time: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
    };
    let answer = proto::OrchestratorResponse {
        orchestration_trace_context: Some(own.clone()),
        ..response("a", &token, vec![traced(schedule(1), OF_ACTIVITY)])
    };
    client
        .complete_orchestrator_task(answer)
        .await
        .expect("it is taken");
    assert_eq!(act(&mut client, &mut stream).await, OF_ACTIVITY);
    let (_, request) = turn(&mut stream).await;
    assert_eq!(request.orchestration_trace_context, Some(own.clone()));
    drop((stream, client, workers));
    hub.shutdown(std::time::Duration::ZERO).await;

    let (served, _workers) = served_on(Arc::new(store.reopen()), Some(Arc::new(kept.clone())));
    let hub = served.hub.clone();
    let mut client = client_of(served);
    let mut stream = connect_with(&mut client, Vec::new()).await;
    let (token, request) = turn(&mut stream).await;
    assert_eq!(
        request.orchestration_trace_context,
        Some(own.clone()),
        "it is stored"
    );
    let answer = proto::OrchestratorResponse {
        orchestration_trace_context: Some(own),
        ..response("a", &token, vec![completion(2, Wire::Completed)])
    };
    client
        .complete_orchestrator_task(answer)
        .await
        .expect("it is taken");
    hub.shutdown(std::time::Duration::ZERO).await;
    assert_eq!(kept.names(), ["activity_queue:act"]);
}

#[tokio::test]
async fn for_a_worker_that_hands_on_what_it_got_the_hub_tells() {
    let kept = Kept::default();
    let (served, _workers) = served_on(Arc::new(MemoryStore::new(2)), Some(Arc::new(kept.clone())));
    let hub = served.hub.clone();
    let mut client = client_of(served);
    let mut stream = connect(&mut client).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, request) = turn(&mut stream).await;
    let given = parent_of(&request);
    let answer = response("a", &token, vec![traced(schedule(1), &given)]);
    client
        .complete_orchestrator_task(answer)
        .await
        .expect("it is taken");
    let handed = act(&mut client, &mut stream).await;
    assert_ne!(handed, given, "the activity is under its own span");
    assert_eq!(handed[..36], given[..36], "of the same trace");
    let (token, _) = turn(&mut stream).await;
    // As the SDK for Python answers where tracing is not installed.
    let answer = proto::OrchestratorResponse {
        orchestration_trace_context: Some(proto::OrchestrationTraceContext::default()),
        ..response("a", &token, vec![completion(2, Wire::Completed)])
    };
    client
        .complete_orchestrator_task(answer)
        .await
        .expect("it is taken");
    hub.shutdown(std::time::Duration::ZERO).await;
    assert_eq!(
        kept.names(),
        ["create_orchestration:o", "activity:act", "orchestration:o"]
    );
}
