//! What a worker is sent of an execution: all of it, what is new, or where to read it.

use dalsegno_grpc::proto;
use dalsegno_grpc::proto::history_event::Kind as Event;
use dalsegno_grpc::proto::work_item::Request as Item;
use dalsegno_grpc::proto::{OrchestrationStatus as Wire, WorkerCapability};
use dalsegno_grpc::tonic::{Code, Streaming};
use futures::StreamExt;
use prost::Message;

use crate::world::{Client, client, code, completion, connect_with, named, response, schedule, turn};

async fn raise(client: &mut Client, id: &str, input: &str) {
    let request = proto::RaiseEventRequest {
        instance_id: id.to_owned(),
        name: "Go".to_owned(),
        input: Some(input.to_owned()),
    };
    client.raise_event(request).await.expect("it is taken");
}

async fn answer(client: &mut Client, id: &str, token: &str, actions: Vec<proto::OrchestratorAction>) {
    let answered = client
        .complete_orchestrator_task(response(id, token, actions))
        .await;
    answered.expect("it is taken");
}

async fn connect(client: &mut Client, capabilities: &[WorkerCapability]) -> Streaming<proto::WorkItem> {
    let capabilities = capabilities.iter().map(|one| i32::from(*one)).collect();
    connect_with(client, capabilities).await
}

fn kinds(events: &[prost::bytes::Bytes]) -> Vec<Event> {
    let decoded = events
        .iter()
        .map(|event| proto::HistoryEvent::decode(event.clone()).expect("it is an event"));
    decoded.filter_map(|event| event.kind).collect()
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_keeps_executions_is_not_sent_what_it_has() {
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client, &[WorkerCapability::KeepsExecutions]).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (first, request) = turn(&mut stream).await;
    assert_eq!(request.kept_execution, None);
    let begun = request.new_events.len();
    answer(&mut client, "a", &first, Vec::new()).await;

    raise(&mut client, "a", "1").await;
    let (second, request) = turn(&mut stream).await;
    let kept = request.kept_execution.expect("it has it");
    assert_eq!(kept.completion_token, first);
    assert_eq!(usize::try_from(kept.past_events), Ok(begun));
    assert!(request.past_events.is_empty());
    assert_eq!(request.new_events.len(), 2);

    // It has lost it: the same turn at once (the clock stands), with everything.
    let without = proto::OrchestratorResponse {
        requires_history: true,
        ..response("a", &second, Vec::new())
    };
    let began = tokio::time::Instant::now();
    client
        .complete_orchestrator_task(without)
        .await
        .expect("it is taken");
    let (third, again) = turn(&mut stream).await;
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
    assert_eq!(again.new_events, request.new_events);
    assert_eq!(again.past_events.len(), begun);
    assert_eq!(again.kept_execution, None);
    answer(&mut client, "a", &third, Vec::new()).await;

    raise(&mut client, "a", "2").await;
    let (fourth, request) = turn(&mut stream).await;
    let kept = request.kept_execution.expect("it has it");
    assert_eq!(kept.completion_token, third);
    assert_eq!(usize::try_from(kept.past_events), Ok(begun + 2));
    answer(&mut client, "a", &fourth, Vec::new()).await;
}

#[tokio::test]
async fn whoever_cannot_have_it_is_sent_everything() {
    let (mut client, _workers) = client();
    let keeps = [WorkerCapability::KeepsExecutions];
    let mut stream = connect(&mut client, &keeps).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, _) = turn(&mut stream).await;
    answer(&mut client, "a", &token, Vec::new()).await;

    // A suspension and its end are history without a turn of a worker.
    let suspend = proto::SuspendRequest {
        instance_id: "a".to_owned(),
        reason: None,
    };
    client.suspend_instance(suspend).await.expect("it is suspended");
    let resume = proto::ResumeRequest {
        instance_id: "a".to_owned(),
        reason: None,
    };
    client.resume_instance(resume).await.expect("it goes on");
    raise(&mut client, "a", "1").await;
    let (token, request) = turn(&mut stream).await;
    assert_eq!(request.kept_execution, None);
    let seen = kinds(&request.past_events);
    assert!(
        seen.iter()
            .any(|event| matches!(event, Event::ExecutionStarted(_)))
    );
    assert!(
        seen.iter()
            .any(|event| matches!(event, Event::ExecutionSuspended(_)))
    );
    answer(&mut client, "a", &token, Vec::new()).await;

    // The same worker on another connection.
    drop(stream);
    let mut stream = connect(&mut client, &keeps).await;
    raise(&mut client, "a", "2").await;
    let (token, request) = turn(&mut stream).await;
    assert_eq!(request.kept_execution, None);
    let past = request.past_events.len();
    assert!(past > 4, "{past}");

    // One that says nothing of it: what the first had is handed to it.
    drop(stream);
    let mut stream = connect(&mut client, &[]).await;
    let (again, request) = turn(&mut stream).await;
    assert_ne!(again, token);
    assert_eq!(request.past_events.len(), past);
    answer(&mut client, "a", &again, Vec::new()).await;
    raise(&mut client, "a", "3").await;
    let (token, request) = turn(&mut stream).await;
    assert_eq!(request.kept_execution, None);
    assert_eq!(request.past_events.len(), past + 2);
    drop(stream);

    // Nobody has another execution.
    let mut stream = connect(&mut client, &keeps).await;
    let (last, request) = turn(&mut stream).await;
    assert_ne!(last, token);
    assert_eq!(request.past_events.len(), past + 2);
    answer(&mut client, "a", &last, vec![completion(9, Wire::ContinuedAsNew)]).await;
    let (token, next) = turn(&mut stream).await;
    assert_ne!(next.execution_id, request.execution_id);
    assert_eq!(next.kept_execution, None);
    assert!(next.past_events.is_empty());
    answer(&mut client, "a", &token, Vec::new()).await;
}

#[tokio::test]
async fn a_rewound_instance_is_sent_with_its_history() {
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client, &[WorkerCapability::KeepsExecutions]).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, _) = turn(&mut stream).await;
    answer(&mut client, "a", &token, Vec::new()).await;
    raise(&mut client, "a", "1").await;
    let (token, failing) = turn(&mut stream).await;
    assert!(failing.kept_execution.is_some());
    answer(&mut client, "a", &token, vec![completion(1, Wire::Failed)]).await;
    let rewind = proto::RewindInstanceRequest {
        instance_id: "a".to_owned(),
        reason: None,
    };
    client.rewind_instance(rewind).await.expect("it failed");
    let (_, request) = turn(&mut stream).await;
    assert_eq!(request.kept_execution, None);
    let all = kinds(&[request.past_events.clone(), request.new_events].concat());
    assert!(
        all.iter()
            .any(|event| matches!(event, Event::ExecutionStarted(_)))
    );
}

/// A turn that was taken back leads nowhere, and neither does one of which only a part was taken.
#[tokio::test]
async fn an_answer_that_was_not_taken_whole_is_not_where_the_execution_is() {
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client, &[WorkerCapability::KeepsExecutions]).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, _) = turn(&mut stream).await;
    raise(&mut client, "a", "1").await;
    raise(&mut client, "a", "2").await;
    answer(&mut client, "a", &token, Vec::new()).await;
    let (token, request) = turn(&mut stream).await;
    assert!(request.kept_execution.is_some());
    assert_eq!(request.new_events.len(), 3);
    let part = proto::OrchestratorResponse {
        num_events_processed: Some(2),
        ..response("a", &token, Vec::new())
    };
    client
        .complete_orchestrator_task(part)
        .await
        .expect("it is taken");
    let (token, request) = turn(&mut stream).await;
    assert_eq!(request.kept_execution, None);
    assert_eq!(request.new_events.len(), 2);
    answer(&mut client, "a", &token, Vec::new()).await;

    raise(&mut client, "a", "3").await;
    let (taken_back, request) = turn(&mut stream).await;
    assert!(request.kept_execution.is_some());
    let suspend = proto::SuspendRequest {
        instance_id: "a".to_owned(),
        reason: None,
    };
    client.suspend_instance(suspend).await.expect("it is suspended");
    answer(&mut client, "a", &taken_back, Vec::new()).await;
    let resume = proto::ResumeRequest {
        instance_id: "a".to_owned(),
        reason: None,
    };
    client.resume_instance(resume).await.expect("it goes on");
    let (_, request) = turn(&mut stream).await;
    assert_eq!(request.kept_execution, None);
    assert!(!request.past_events.is_empty());
}

#[tokio::test]
async fn long_histories_are_read_apart_by_whoever_can() {
    let (client, _workers) = client();
    let mut client = client.max_decoding_message_size(usize::MAX);
    let streams = [WorkerCapability::HistoryStreaming];
    let mut stream = connect(&mut client, &streams).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, request) = turn(&mut stream).await;
    assert!(!request.requires_history_streaming);
    answer(&mut client, "a", &token, Vec::new()).await;
    let large = "x".repeat(900 * 1024);
    let (mut token, mut request) = (String::new(), proto::OrchestratorRequest::default());
    for count in 0..6 {
        raise(&mut client, "a", &large).await;
        (token, request) = turn(&mut stream).await;
        // 1 MiB of it is in the second event.
        assert_eq!(request.requires_history_streaming, count >= 2, "{count}");
        assert_eq!(request.past_events.is_empty(), count >= 2, "{count}");
        if count < 5 {
            answer(&mut client, "a", &token, Vec::new()).await;
        }
    }
    let asked = proto::StreamInstanceHistoryRequest {
        instance_id: "a".to_owned(),
        execution_id: request.execution_id.clone(),
        for_work_item_processing: true,
    };
    let chunks = client.stream_instance_history(asked.clone()).await;
    let chunks: Vec<_> = chunks.expect("it is at a worker").into_inner().collect().await;
    let chunks: Vec<_> = chunks
        .into_iter()
        .map(|chunk| chunk.expect("it is whole"))
        .collect();
    assert!(chunks.len() > 1);
    assert!(chunks.iter().all(|chunk| chunk.encoded_len() < 4 * 1024 * 1024));
    let read: Vec<_> = chunks.into_iter().flat_map(|chunk| chunk.events).collect();

    let of_another = proto::StreamInstanceHistoryRequest {
        execution_id: Some("another".to_owned()),
        ..asked.clone()
    };
    let refused = client.stream_instance_history(of_another).await;
    assert_eq!(code(refused.map(drop)), Code::FailedPrecondition);

    // Who cannot read it apart is sent the same.
    drop(stream);
    let mut stream = connect(&mut client, &[]).await;
    let (again, whole) = turn(&mut stream).await;
    assert_ne!(again, token);
    assert!(!whole.requires_history_streaming);
    let sent = whole.past_events.iter().cloned();
    let sent: Vec<_> = sent
        .map(|event| proto::HistoryEvent::decode(event).expect("it is an event"))
        .collect();
    assert_eq!(read, sent);
    answer(&mut client, "a", &again, Vec::new()).await;
    let refused = client.stream_instance_history(asked).await;
    assert_eq!(
        code(refused.map(drop)),
        Code::FailedPrecondition,
        "no turn is out"
    );
}

#[tokio::test]
async fn what_completes_while_a_turn_is_out_comes_in_one_work_item() {
    const TASKS: i32 = 7;
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client, &[]).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, _) = turn(&mut stream).await;
    let tasks = (0..TASKS).map(|number| schedule(number + 1)).collect();
    answer(&mut client, "a", &token, tasks).await;
    let mut activities = Vec::new();
    while activities.len() < usize::try_from(TASKS).expect("it is small") {
        let item = stream.next().await.expect("it lives").expect("it lives");
        if let Some(Item::ActivityRequest(request)) = item.request {
            activities.push((item.completion_token, request.task_id));
        }
    }
    raise(&mut client, "a", "1").await;
    let (out, _) = turn(&mut stream).await;
    for (completion_token, task_id) in activities {
        let done = proto::ActivityResponse {
            instance_id: "a".to_owned(),
            task_id,
            result: Some(task_id.to_string()),
            completion_token,
            ..Default::default()
        };
        client.complete_activity_task(done).await.expect("it is durable");
    }
    answer(&mut client, "a", &out, Vec::new()).await;
    let (_, request) = turn(&mut stream).await;
    let mut done: Vec<i32> = kinds(&request.new_events)
        .into_iter()
        .filter_map(|event| match event {
            Event::TaskCompleted(done) => Some(done.task_scheduled_id),
            _ => None,
        })
        .collect();
    done.sort_unstable();
    assert_eq!(done, (1..=TASKS).collect::<Vec<_>>());
}
