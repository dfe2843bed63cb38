//! What a worker is told of an execution beside its events: its parent, and the span it made of it.

use std::sync::Arc;

use dalsegno_grpc::proto;
use dalsegno_grpc::proto::history_event::Kind as Event;
use dalsegno_grpc::proto::orchestrator_action::Kind as Action;
use dalsegno_grpc::tonic::Streaming;
use dalsegno_store_memory::MemoryStore;
use prost::Message as _;

use crate::world::{
    Client, action, client, client_of, completion, connect, named, response, served_on, turn,
};

fn child(id: &str) -> proto::OrchestratorAction {
    let child = proto::CreateSubOrchestrationAction {
        instance_id: id.to_owned(),
        name: "child".to_owned(),
        ..Default::default()
    };
    action(0, Action::CreateSubOrchestration(child))
}

fn started(request: &proto::OrchestratorRequest) -> proto::ExecutionStartedEvent {
    let decode = |event: &prost::bytes::Bytes| proto::HistoryEvent::decode(event.clone()).expect("it is one");
    let events = request.past_events.iter().chain(&request.new_events);
    let started = events.map(decode).find_map(|event| match event.kind {
        Some(Event::ExecutionStarted(started)) => Some(started),
        _ => None,
    });
    started.expect("an execution has begun")
}

#[tokio::test]
async fn a_child_is_told_its_parent_by_both_ids_name_and_version() {
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client).await;
    let start = proto::CreateInstanceRequest {
        version: Some("1.2".to_owned()),
        ..named("a")
    };
    client.start_instance(start).await.expect("it starts");
    let (token, parent) = turn(&mut stream).await;
    assert_eq!(started(&parent).parent_instance, None);
    let answer = response("a", &token, vec![child("b")]);
    client
        .complete_orchestrator_task(answer)
        .await
        .expect("it is taken");
    let (_, request) = turn(&mut stream).await;
    let wanted = proto::ParentInstanceInfo {
        task_scheduled_id: 0,
        name: Some("o".to_owned()),
        version: Some("1.2".to_owned()),
        orchestration_instance: Some(proto::OrchestrationInstance {
            instance_id: "a".to_owned(),
            execution_id: parent.execution_id,
        }),
    };
    assert_eq!(started(&request).parent_instance, Some(wanted));
}

async fn tell(client: &mut Client, token: &str, span: Option<&proto::OrchestrationTraceContext>, last: bool) {
    let actions = match last {
        true => vec![completion(1, proto::OrchestrationStatus::ContinuedAsNew)],
        false => Vec::new(),
    };
    let answer = proto::OrchestratorResponse {
        orchestration_trace_context: span.cloned(),
        ..response("a", token, actions)
    };
    client
        .complete_orchestrator_task(answer)
        .await
        .expect("it is taken");
}

async fn poke(client: &mut Client) {
    let event = proto::RaiseEventRequest {
        instance_id: "a".to_owned(),
        name: "go".to_owned(),
        input: None,
    };
    client.raise_event(event).await.expect("it is taken");
}

async fn told(stream: &mut Streaming<proto::WorkItem>) -> (String, Option<proto::OrchestrationTraceContext>) {
    let (token, request) = turn(stream).await;
    (token, request.orchestration_trace_context)
}

#[tokio::test]
async fn the_span_of_an_execution_comes_back_with_every_turn_of_it_and_over_a_restart() {
    let store = Arc::new(MemoryStore::new(2));
    let span = proto::OrchestrationTraceContext {
        span_id: Some("00f067aa0ba902b7".to_owned()),
        span_start_time: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 123_456_000,
        }),
    };
    let (served, _workers) = served_on(store.clone(), None);
    let first = served.hub.clone();
    let mut client = client_of(served);
    let mut stream = connect(&mut client).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, before) = told(&mut stream).await;
    assert_eq!(before, None);
    tell(&mut client, &token, Some(&span), false).await;
    poke(&mut client).await;
    let (token, again) = told(&mut stream).await;
    assert_eq!(again.as_ref(), Some(&span));
    // An answer that says nothing leaves it.
    tell(&mut client, &token, None, false).await;
    drop(stream);
    first.shutdown(std::time::Duration::ZERO).await;

    let mut client = client_of(served_on(store, None).0);
    let mut stream = connect(&mut client).await;
    poke(&mut client).await;
    let (token, again) = told(&mut stream).await;
    assert_eq!(again.as_ref(), Some(&span));
    tell(&mut client, &token, Some(&span), true).await;
    let (_, next) = told(&mut stream).await;
    assert_eq!(next, None, "the next execution makes one of its own");
}
