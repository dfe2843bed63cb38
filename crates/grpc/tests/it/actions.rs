//! What workers of other kinds ask for.

use dalsegno_core::limits::Limits;
use dalsegno_grpc::proto;
use dalsegno_grpc::proto::OrchestrationStatus as Wire;
use dalsegno_grpc::proto::history_event::Kind as Event;
use dalsegno_grpc::proto::orchestrator_action::Kind as Action;
use dalsegno_grpc::proto::work_item::Request as Work;
use dalsegno_grpc::tonic::{Code, Streaming};
use dalsegno_grpc::workers::{EntityItems, WorkerLimits};
use prost::Message as _;
use prost::bytes::Bytes;

use crate::world::{
    Client, action, client, client_of, client_with, completion, connect, ended, failure, item, named,
    response, served_to, state, success, turn,
};

fn to_entity(id: i32, entity: &str, name: &str, data: &str) -> proto::OrchestratorAction {
    let event = proto::SendEventAction {
        instance: Some(proto::OrchestrationInstance {
            instance_id: entity.to_owned(),
            execution_id: None,
        }),
        name: name.to_owned(),
        data: Some(data.to_owned()),
    };
    action(id, Action::SendEvent(event))
}

/// Operation and input of each request, and its state.
fn asked(request: &proto::EntityRequest) -> (Vec<(String, Option<String>)>, Option<&str>) {
    let of = |event: &proto::HistoryEvent| match &event.kind {
        Some(Event::EntityOperationSignaled(signal)) => (signal.operation.clone(), signal.input.clone()),
        Some(Event::EntityOperationCalled(call)) => (call.operation.clone(), call.input.clone()),
        other => panic!("{other:?} is no operation"),
    };
    (
        request.operation_requests.iter().map(of).collect(),
        request.entity_state.as_deref(),
    )
}

async fn answer(
    client: &mut Client,
    token: String,
    results: Vec<proto::OperationResult>,
    state: Option<&str>,
) {
    let result = proto::EntityBatchResult {
        results,
        entity_state: state.map(str::to_owned),
        completion_token: token,
        ..Default::default()
    };
    client.complete_entity_task(result).await.expect("it is taken");
}

async fn end_turn(client: &mut Client, token: &str, actions: Vec<proto::OrchestratorAction>) {
    let answered = client
        .complete_orchestrator_task(response("a", token, actions))
        .await;
    answered.expect("it is taken");
}

fn decoded(events: &[Bytes]) -> Vec<Event> {
    let decode = |event: &Bytes| proto::HistoryEvent::decode(event.clone()).expect("it is an event");
    events.iter().filter_map(|event| decode(event).kind).collect()
}

/// Events of a turn that came by a name, with their data.
fn raised(request: &proto::OrchestratorRequest) -> Vec<(String, String)> {
    let came = |event| match event {
        Event::EventRaised(event) => Some((event.name, event.input.unwrap_or_default())),
        _ => None,
    };
    let mut raised: Vec<_> = decoded(&request.new_events)
        .into_iter()
        .filter_map(came)
        .collect();
    raised.sort();
    raised
}

/// What its past says of events that it sent: target and name.
fn sent(request: &proto::OrchestratorRequest) -> Vec<(String, String)> {
    let went = |event| match event {
        Event::EventSent(event) => Some((event.instance_id, event.name)),
        _ => None,
    };
    decoded(&request.past_events)
        .into_iter()
        .filter_map(went)
        .collect()
}

fn pair(first: &str, second: &str) -> (String, String) {
    (first.to_owned(), second.to_owned())
}

#[tokio::test]
async fn operations_are_sent_in_the_older_form_where_the_configuration_says_so() {
    let limits = WorkerLimits {
        entity_items: EntityItems::V1,
        ..WorkerLimits::default()
    };
    let (served, _workers) = served_to(limits);
    let mut client = client_of(served);
    let mut stream = connect(&mut client).await;
    let signal = |name: &str, input: &str| proto::SignalEntityRequest {
        instance_id: "@counter@k".to_owned(),
        name: name.to_owned(),
        input: Some(input.to_owned()),
        ..Default::default()
    };
    client
        .signal_entity(signal("add", "1"))
        .await
        .expect("it is taken");
    let (token, Work::EntityRequest(first)) = item(&mut stream).await else {
        panic!("the older form is due");
    };
    assert_eq!(
        (first.instance_id.as_str(), first.entity_state),
        ("@counter@k", None)
    );
    let [operation] = &first.operations[..] else {
        panic!("{:?} is not one operation", first.operations);
    };
    assert_eq!(
        (operation.operation.as_str(), operation.input.as_deref()),
        ("add", Some("1"))
    );
    assert_eq!(operation.request_id.len(), 36, "a GUID");
    answer(&mut client, token, vec![success(None)], Some("1")).await;
    client
        .signal_entity(signal("add", "2"))
        .await
        .expect("it is taken");
    let (_, Work::EntityRequest(second)) = item(&mut stream).await else {
        panic!("the older form is due");
    };
    assert_eq!(second.entity_state.as_deref(), Some("1"));
}

#[tokio::test]
async fn entities_are_locked_called_and_signalled_in_the_plain_form() {
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, _) = turn(&mut stream).await;
    let lock = r#"{"id":"L","parent":"a","lockset":[{"name":"Counter","key":"k"}],"pos":0}"#;
    end_turn(&mut client, &token, vec![to_entity(0, "@counter@k", "op", lock)]).await;
    let (token, request) = turn(&mut stream).await;
    let granted = r#"{"result":"Lock Acquisition Completed"}"#;
    assert_eq!(raised(&request), [pair("L", granted)]);
    assert_eq!(sent(&request), [pair("@counter@k", "op")]);
    let calls = vec![
        to_entity(
            1,
            "@counter@k",
            "op",
            r#"{"op":"add","input":"[5]","id":"G","parent":"a"}"#,
        ),
        to_entity(2, "@counter@k", "op", r#"{"op":"bad","id":"F","parent":"a"}"#),
        to_entity(3, "@counter@k", "release", r#"{"id":"L","parent":"a"}"#),
        to_entity(
            4,
            "@other@k",
            "op",
            r#"{"op":"hear","signal":true,"id":"S","parent":"a"}"#,
        ),
    ];
    end_turn(&mut client, &token, calls).await;
    let mut answers = Vec::new();
    let mut heard = 0;
    while answers.len() < 2 || heard == 0 {
        let (token, work) = item(&mut stream).await;
        match work {
            Work::EntityRequestV2(request) if request.instance_id == "@other@k" => {
                heard += 1;
                answer(&mut client, token, vec![success(None)], None).await;
            }
            Work::EntityRequestV2(request) => {
                let (asked, _) = asked(&request);
                let results = asked.iter().map(|(operation, input)| match operation.as_str() {
                    "add" => success(input.as_deref()),
                    _ => failure("Bad", "no \"good\""),
                });
                answer(&mut client, token, results.collect(), Some("5")).await;
            }
            Work::OrchestratorRequest(request) => {
                answers.extend(raised(&request));
                let end = match answers.len() {
                    2 => vec![completion(5, Wire::Completed)],
                    _ => Vec::new(),
                };
                end_turn(&mut client, &token, end).await;
            }
            other => panic!("{other:?} was not asked for"),
        }
    }
    answers.sort();
    let failed = r#"{"exceptionType":"Bad","failureDetails":{"ErrorMessage":"no \"good\"","ErrorType":"Bad","InnerFailure":null,"IsNonRetriable":false,"StackTrace":null},"result":"\"no \\\"good\\\"\""}"#;
    assert_eq!(answers, [pair("F", failed), pair("G", r#"{"result":"[5]"}"#)]);
    assert_eq!(
        ended(&mut client, "a").await.orchestration_status(),
        Wire::Completed
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_to_an_entity_that_is_no_request_is_a_bad_turn() {
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, _) = turn(&mut stream).await;
    let bad = response("a", &token, vec![to_entity(0, "@counter@k", "approve", "true")]);
    let refused = client
        .complete_orchestrator_task(bad)
        .await
        .expect_err("it is no request");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("no request to an entity"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_turn_ends_other_instances_in_its_commit() {
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client).await;
    for id in ["victim", "done"] {
        client.start_instance(named(id)).await.expect("it starts");
    }
    for _ in 0..2 {
        let (token, request) = turn(&mut stream).await;
        let actions = match request.instance_id.as_str() {
            "done" => vec![completion(0, Wire::Completed)],
            _ => Vec::new(),
        };
        let answer = response(&request.instance_id, &token, actions);
        client
            .complete_orchestrator_task(answer)
            .await
            .expect("it is taken");
    }
    client.start_instance(named("a")).await.expect("it starts");
    let (token, _) = turn(&mut stream).await;
    let terminate = |id: i32, instance: &str| {
        let terminate = proto::TerminateOrchestrationAction {
            instance_id: instance.to_owned(),
            reason: Some("\"enough\"".to_owned()),
            recurse: false,
        };
        action(id, Action::TerminateOrchestration(terminate))
    };
    let actions = vec![
        terminate(0, "victim"),
        terminate(1, "done"),
        terminate(2, "nobody"),
        completion(3, Wire::Completed),
    ];
    end_turn(&mut client, &token, actions).await;
    let victim = ended(&mut client, "victim").await;
    assert_eq!(victim.orchestration_status(), Wire::Terminated);
    assert_eq!(victim.output.as_deref(), Some("\"enough\""));
    assert_eq!(
        ended(&mut client, "done").await.orchestration_status(),
        Wire::Completed
    );
    assert_eq!(state(&mut client, "nobody").await, None);
}

fn signal(entity: &str, operation: &str, input: &str) -> proto::SignalEntityRequest {
    proto::SignalEntityRequest {
        instance_id: entity.to_owned(),
        name: operation.to_owned(),
        input: Some(input.to_owned()),
        ..Default::default()
    }
}

async fn next_operations(
    stream: &mut Streaming<proto::WorkItem>,
) -> (String, Vec<(String, Option<String>)>, Option<String>) {
    match item(stream).await {
        (token, Work::EntityRequestV2(request)) => {
            let (operations, state) = asked(&request);
            (token, operations, state.map(str::to_owned))
        }
        other => panic!("{other:?} is for no entity"),
    }
}

fn inputs(operations: &[(String, Option<String>)]) -> Vec<&str> {
    operations
        .iter()
        .filter_map(|(_, input)| input.as_deref())
        .collect()
}

#[tokio::test]
async fn operations_that_wait_go_together_and_those_without_a_result_come_again_first() {
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client).await;
    let sender = client.clone();
    let add = async |n: u32| {
        let signal = signal("@Counter@k", "add", &n.to_string());
        sender.clone().signal_entity(signal).await.expect("it is stored");
    };
    add(1).await;
    let (token, operations, state) = next_operations(&mut stream).await;
    assert_eq!((inputs(&operations), state), (vec!["1"], None));
    for n in 2..=5 {
        add(n).await;
    }
    answer(&mut client, token, vec![success(None)], Some("1")).await;
    let (token, operations, state) = next_operations(&mut stream).await;
    assert_eq!(inputs(&operations), ["2", "3", "4", "5"]);
    assert_eq!(state.as_deref(), Some("1"));
    add(6).await;
    let results = vec![success(None), failure("Bad", "no")];
    answer(&mut client, token, results, Some("3")).await;
    let state = entity_state(&mut client, "@counter@k").await;
    assert_eq!(
        state.as_deref(),
        Some("3"),
        "an answer is taken when it is durable"
    );
    let (token, operations, state) = next_operations(&mut stream).await;
    assert_eq!(inputs(&operations), ["4", "5", "6"]);
    assert_eq!(state.as_deref(), Some("3"));
    answer(&mut client, token, vec![success(None); 3], None).await;
    assert_eq!(
        entity_state(&mut client, "@counter@k").await,
        None,
        "it is deleted"
    );
}

async fn entity_state(client: &mut Client, entity: &str) -> Option<String> {
    let request = proto::GetEntityRequest {
        instance_id: entity.to_owned(),
        include_state: true,
    };
    let found = client.get_entity(request).await.expect("it answers").into_inner();
    found.entity.and_then(|entity| entity.serialized_state)
}

#[tokio::test]
async fn a_batch_is_no_longer_than_the_limit() {
    let limits = Limits {
        entity_batch_max: 3,
        ..Limits::default()
    };
    let (mut client, _workers) = client_with(limits);
    for n in 0..7 {
        let signal = signal("@counter@k", "add", &n.to_string());
        client.signal_entity(signal).await.expect("it is stored");
    }
    let stream = client.get_work_items(proto::GetWorkItemsRequest::default()).await;
    let mut stream = stream.expect("it connects").into_inner();
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 7 {
        let (token, operations, _) = next_operations(&mut stream).await;
        sizes.push(operations.len());
        answer(
            &mut client,
            token,
            vec![success(None); operations.len()],
            Some("0"),
        )
        .await;
    }
    assert!(
        sizes.iter().all(|size| *size <= 3) && sizes.contains(&3),
        "{sizes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn more_results_than_operations_are_refused_and_the_operations_come_again() {
    let (mut client, workers) = client();
    let time = tokio::spawn(workers.keep_time());
    let mut stream = connect(&mut client).await;
    client
        .signal_entity(signal("@counter@k", "add", "1"))
        .await
        .expect("it is stored");
    let (token, _, _) = next_operations(&mut stream).await;
    let result = proto::EntityBatchResult {
        results: vec![success(None); 2],
        completion_token: token.clone(),
        ..Default::default()
    };
    let refused = client
        .complete_entity_task(result)
        .await
        .expect_err("two for one");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("@counter@k: 1 operations"),
        "{refused:?}"
    );
    let (again, operations, _) = next_operations(&mut stream).await;
    assert_ne!(again, token);
    assert_eq!(inputs(&operations), ["1"]);
    answer(&mut client, again, vec![success(None)], Some("1")).await;
    answer(&mut client, token, vec![success(None)], Some("7")).await;
    assert_eq!(
        entity_state(&mut client, "@counter@k").await.as_deref(),
        Some("1"),
        "stale is dropped"
    );
    time.abort();
}

/// Runs `parent` and its children `child` and `gone` to their ends.
async fn end_family(client: &mut Client, stream: &mut Streaming<proto::WorkItem>) {
    client.start_instance(named("parent")).await.expect("it starts");
    let (token, _) = turn(stream).await;
    let child = |id: i32, instance: &str| {
        let child = proto::CreateSubOrchestrationAction {
            instance_id: instance.to_owned(),
            name: "o".to_owned(),
            ..Default::default()
        };
        action(id, Action::CreateSubOrchestration(child))
    };
    let children = vec![child(1, "child"), child(2, "gone")];
    let begun = response("parent", &token, children);
    client
        .complete_orchestrator_task(begun)
        .await
        .expect("it is taken");
    let end = |id: &str, token: &str| response(id, token, vec![completion(9, Wire::Completed)]);
    let mut ended_children = 0;
    while ended_children < 2 {
        let (token, request) = turn(stream).await;
        let id = request.instance_id;
        let answer = match id.as_str() {
            "parent" => response("parent", &token, Vec::new()),
            _ => {
                ended_children += 1;
                end(&id, &token)
            }
        };
        client
            .complete_orchestrator_task(answer)
            .await
            .expect("it is taken");
    }
    ended(client, "child").await;
    ended(client, "gone").await;
    // The parent has heard of both.
    let mut heard = 0;
    while heard < 2 {
        let (token, request) = turn(stream).await;
        let is_answer = |event: &Event| matches!(event, Event::SubOrchestrationInstanceCompleted(_));
        let past = decoded(&request.past_events);
        let new = decoded(&request.new_events);
        heard = past.iter().chain(&new).filter(|event| is_answer(event)).count();
        let answer = match heard {
            2 => end("parent", &token),
            _ => response("parent", &token, Vec::new()),
        };
        client
            .complete_orchestrator_task(answer)
            .await
            .expect("it is taken");
    }
    ended(client, "parent").await;
}

/// A recursive purge looked for children by their ids alone and deleted an instance which somebody
/// else had started under the id of a child that was gone.
#[tokio::test]
async fn a_recursive_purge_leaves_an_instance_alone_that_only_has_the_id_of_a_child() {
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client).await;
    end_family(&mut client, &mut stream).await;
    let purge = |id: &str, recursive| proto::PurgeInstancesRequest {
        kind: Some(proto::purge_instances_request::Kind::InstanceId(id.to_owned())),
        recursive,
        ..Default::default()
    };
    let gone = client
        .purge_instances(purge("gone", false))
        .await
        .expect("it is finished");
    assert_eq!(gone.into_inner().deleted_instance_count, 1);
    client
        .start_instance(named("gone"))
        .await
        .expect("the id is free");
    let (token, _) = turn(&mut stream).await;
    client
        .complete_orchestrator_task(response("gone", &token, vec![completion(9, Wire::Completed)]))
        .await
        .expect("it is taken");
    ended(&mut client, "gone").await;

    let purged = client
        .purge_instances(purge("parent", true))
        .await
        .expect("it is finished");
    assert_eq!(purged.into_inner().deleted_instance_count, 2);
    assert!(state(&mut client, "gone").await.is_some(), "it is no child of it");
    assert!(state(&mut client, "child").await.is_none());
}
