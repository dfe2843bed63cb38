//! Instances whose function no worker offers, and workers that come and go.

use std::time::Duration;

use dalsegno_grpc::proto;
use dalsegno_grpc::proto::OrchestrationStatus as Wire;
use dalsegno_grpc::tonic::{Code, Streaming};
use futures::StreamExt;

use prost::Message as _;

use crate::world::{Client, client, completion, connect_with, ended, named, response, state, turn};

/// So many answers that cannot be used park an instance.
const BAD_TURNS: usize = 10;

/// A worker that offers this orchestrator in these versions, and nothing else.
async fn connect_offering(client: &mut Client, name: &str, versions: &[&str]) -> Streaming<proto::WorkItem> {
    let request = proto::GetWorkItemsRequest {
        work_item_filters: Some(proto::WorkItemFilters {
            orchestrations: vec![proto::OrchestrationFilter {
                name: name.to_owned(),
                versions: versions.iter().map(|version| (*version).to_owned()).collect(),
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    let stream = client.get_work_items(request).await;
    stream.expect("it connects").into_inner()
}

/// Nothing but signs of life for longer than any pause of the hub.
async fn gets_nothing(stream: &mut Streaming<proto::WorkItem>) {
    let work = async {
        loop {
            let item = stream.next().await.expect("it lives").expect("it lives");
            if !matches!(item.request, Some(proto::work_item::Request::HealthPing(_))) {
                break item;
            }
        }
    };
    let got = tokio::time::timeout(Duration::from_secs(120), work).await;
    assert!(got.is_err(), "{got:?}");
}

async fn complete(client: &mut Client, id: &str, token: &str) {
    let answer = response(id, token, vec![completion(0, Wire::Completed)]);
    client
        .complete_orchestrator_task(answer)
        .await
        .expect("it is taken");
}

#[tokio::test(start_paused = true)]
async fn an_instance_waits_for_its_version_and_goes_on_when_a_worker_offers_it() {
    let (mut client, workers) = client();
    let time = tokio::spawn(workers.clone().keep_time());
    let start = proto::CreateInstanceRequest {
        version: Some("2".to_owned()),
        ..named("a")
    };
    client.start_instance(start).await.expect("it starts");
    let mut other = connect_offering(&mut client, "other", &[]).await;
    let mut old = connect_offering(&mut client, "o", &["1"]).await;
    gets_nothing(&mut other).await;
    gets_nothing(&mut old).await;
    let waits = state(&mut client, "a").await.expect("it is there");
    assert_eq!(waits.orchestration_status(), Wire::Pending);
    let mut new = connect_offering(&mut client, "o", &["2"]).await;
    let (token, _) = turn(&mut new).await;
    complete(&mut client, "a", &token).await;
    assert_eq!(
        ended(&mut client, "a").await.orchestration_status(),
        Wire::Completed
    );
    time.abort();
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_worker_had_waits_for_one_that_offers_it() {
    // Nobody keeps the time: it runs ahead while the hub's threads work, and would end turns.
    let (mut client, _workers) = client();
    client.start_instance(named("a")).await.expect("it starts");
    let mut first = connect_offering(&mut client, "o", &[]).await;
    let (lost, _) = turn(&mut first).await;
    drop(first);
    let mut other = connect_offering(&mut client, "other", &[]).await;
    gets_nothing(&mut other).await;
    let mut second = connect_offering(&mut client, "o", &[]).await;
    let (token, _) = turn(&mut second).await;
    complete(&mut client, "a", &lost).await;
    let waits = state(&mut client, "a").await.expect("it is there");
    assert_eq!(
        waits.orchestration_status(),
        Wire::Pending,
        "a lost worker's answer is stale"
    );
    complete(&mut client, "a", &token).await;
    assert_eq!(
        ended(&mut client, "a").await.orchestration_status(),
        Wire::Completed
    );
}

/// A worker that refuses a version abandons it for ever, and one that answers badly is refused
/// each time: the instance is another worker's as soon as there is one.
#[tokio::test(start_paused = true)]
async fn abandoned_and_badly_answered_turns_park_nothing_before_there_are_many() {
    let (mut client, workers) = client();
    let time = tokio::spawn(workers.clone().keep_time());
    client.start_instance(named("a")).await.expect("it starts");
    let mut first = connect_offering(&mut client, "o", &[]).await;
    for round in 0..BAD_TURNS {
        let (token, _) = turn(&mut first).await;
        let abandon = proto::AbandonOrchestrationTaskRequest {
            completion_token: token,
        };
        client
            .abandon_task_orchestrator_work_item(abandon)
            .await
            .expect("it is taken back");
        let (token, _) = turn(&mut first).await;
        if round + 1 < BAD_TURNS {
            let bad = response(
                "a",
                &token,
                vec![completion(-9, Wire::Completed), completion(-9, Wire::Failed)],
            );
            let refused = client
                .complete_orchestrator_task(bad)
                .await
                .expect_err("it ends twice");
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
    }
    drop(first);
    let mut second = connect_offering(&mut client, "o", &[]).await;
    let (token, _) = turn(&mut second).await;
    complete(&mut client, "a", &token).await;
    assert_eq!(
        ended(&mut client, "a").await.orchestration_status(),
        Wire::Completed
    );
    time.abort();
}

#[tokio::test(start_paused = true)]
async fn turns_that_are_answered_badly_again_and_again_park_their_instance_and_rewind_frees_it() {
    let (mut client, workers) = client();
    let time = tokio::spawn(workers.clone().keep_time());
    client.start_instance(named("a")).await.expect("it starts");
    let mut first = connect_offering(&mut client, "o", &[]).await;
    for _ in 0..BAD_TURNS {
        let (token, _) = turn(&mut first).await;
        let bad = response(
            "a",
            &token,
            vec![completion(0, Wire::Completed), completion(1, Wire::Failed)],
        );
        let refused = client
            .complete_orchestrator_task(bad)
            .await
            .expect_err("it ends twice");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    gets_nothing(&mut first).await;
    let rewind = proto::RewindInstanceRequest {
        instance_id: "a".to_owned(),
        reason: None,
    };
    client
        .rewind_instance(rewind)
        .await
        .expect("a parked one is freed");
    let (token, _) = turn(&mut first).await;
    complete(&mut client, "a", &token).await;
    assert_eq!(
        ended(&mut client, "a").await.orchestration_status(),
        Wire::Completed
    );
    time.abort();
}

#[tokio::test]
async fn a_turn_that_nobody_could_take_has_the_time_of_who_takes_it() {
    let (mut client, _workers) = client();
    client.start_instance(named("late")).await.expect("it starts");
    // Its turn is drawn up, and nobody is there.
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    let event = proto::RaiseEventRequest {
        instance_id: "late".to_owned(),
        name: "Go".to_owned(),
        input: None,
    };
    client.raise_event(event).await.expect("it is taken");
    let came = std::time::SystemTime::now();
    let mut stream = connect_with(&mut client, Vec::new()).await;
    let (_, request) = turn(&mut stream).await;
    let events = request.new_events.iter();
    let events: Vec<proto::HistoryEvent> = events
        .map(|event| proto::HistoryEvent::decode(event.clone()).expect("it is an event"))
        .collect();
    let at = events[0].timestamp.expect("every event has one");
    let at = std::time::SystemTime::try_from(at).expect("it is a time");
    // As exact as the protocol's clock: microseconds.
    assert!(
        at + std::time::Duration::from_micros(1) >= came,
        "{at:?} is before {came:?}"
    );
    let raised =
        |event: &proto::HistoryEvent| matches!(event.kind, Some(proto::history_event::Kind::EventRaised(_)));
    assert!(events.iter().any(raised), "what came meanwhile is in it");
}

#[tokio::test]
async fn a_signal_of_later_keeps_no_other_waiting() {
    let (mut client, _workers) = client();
    let mut stream = crate::world::connect_with(&mut client, Vec::new()).await;
    for seconds in [4_000_000_000, 0] {
        let signal = proto::SignalEntityRequest {
            instance_id: "@counter@a".to_owned(),
            name: "add".to_owned(),
            scheduled_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        };
        client.signal_entity(signal).await.expect("it is taken");
    }
    let (_, request) = crate::world::item(&mut stream).await;
    let proto::work_item::Request::EntityRequestV2(request) = request else {
        panic!("{request:?}");
    };
    assert_eq!(request.operation_requests.len(), 1);
}
