//! Activities elsewhere pass the hub's limiters, as those in its own process do.

use dalsegno_core::limiter::LimiterRule;
use dalsegno_engine::TaskHub;
use dalsegno_engine::request::{CallFacts, CallNote, CalledHub, DEFAULT_HUB, NewHubs};
use dalsegno_grpc::proto;
use dalsegno_grpc::proto::OrchestrationStatus as Wire;
use dalsegno_grpc::proto::orchestrator_action::Kind as Action;
use dalsegno_grpc::proto::work_item::Request as Work;
use dalsegno_grpc::tonic::{Code, Request, Streaming};

use crate::world::{Client, action, client_of, code, completion, ended, item, named, response, served};

/// One at a time, and who passes it.
fn one(activities: &[&str]) -> proto::LimiterOffer {
    proto::LimiterOffer {
        name: "one".to_owned(),
        concurrency: Some(1),
        activities: activities.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

async fn connect(client: &mut Client, limiters: Vec<proto::LimiterOffer>) -> Streaming<proto::WorkItem> {
    let request = proto::GetWorkItemsRequest {
        limiters,
        ..Default::default()
    };
    client
        .get_work_items(request)
        .await
        .expect("it connects")
        .into_inner()
}

fn schedule(id: i32, tags: &[(&str, &str)]) -> proto::OrchestratorAction {
    let task = proto::ScheduleTaskAction {
        name: "act".to_owned(),
        tags: tags
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Default::default()
    };
    action(id, Action::ScheduleTask(task))
}

/// Starts an instance and answers its first turn.
async fn ask(
    client: &mut Client,
    stream: &mut Streaming<proto::WorkItem>,
    id: &str,
    actions: Vec<proto::OrchestratorAction>,
) {
    client.start_instance(named(id)).await.expect("it starts");
    let (token, Work::OrchestratorRequest(_)) = item(stream).await else {
        panic!("a turn is due");
    };
    let answer = response(id, &token, actions);
    client
        .complete_orchestrator_task(answer)
        .await
        .expect("it is taken");
}

async fn end(client: &mut Client, token: String, task: proto::ActivityRequest) {
    let answer = proto::ActivityResponse {
        task_id: task.task_id,
        completion_token: token,
        ..Default::default()
    };
    client.complete_activity_task(answer).await.expect("it is taken");
}

/// The next activity.
async fn activity(stream: &mut Streaming<proto::WorkItem>) -> (String, proto::ActivityRequest) {
    match item(stream).await {
        (token, Work::ActivityRequest(request)) => (token, request),
        (_, other) => panic!("an activity is due, not {other:?}"),
    }
}

/// Key, how many run and how many wait, of each bucket that is in use.
async fn buckets(hub: &TaskHub) -> Vec<(String, u32, usize)> {
    let all = hub.limiters().await.expect("it answers");
    let mut used: Vec<_> = all
        .into_iter()
        .filter(|bucket| bucket.running > 0 || bucket.waiting > 0)
        .map(|bucket| (bucket.key.to_string(), bucket.running, bucket.waiting))
        .collect();
    used.sort();
    used
}

#[tokio::test]
async fn what_a_worker_offers_limits_its_activities_whoever_calls_them() {
    let (served, _workers) = served();
    let hub = served.hub.clone();
    let mut client = client_of(served);
    let mut stream = connect(&mut client, vec![one(&["act"])]).await;
    ask(
        &mut client,
        &mut stream,
        "a",
        vec![schedule(0, &[]), schedule(1, &[])],
    )
    .await;
    let (token, first) = activity(&mut stream).await;
    assert_eq!(buckets(&hub).await, [(String::new(), 1, 1)]);
    end(&mut client, token, first).await;
    let mut next = item(&mut stream).await;
    if let (token, Work::OrchestratorRequest(_)) = next {
        let nothing = response("a", &token, Vec::new());
        client
            .complete_orchestrator_task(nothing)
            .await
            .expect("it is taken");
        next = item(&mut stream).await;
    }
    assert!(matches!(next.1, Work::ActivityRequest(_)), "{next:?}");
    assert_eq!(buckets(&hub).await, [(String::new(), 1, 0)]);
}

#[tokio::test]
async fn a_call_names_its_limiter_and_its_bucket_by_tags() {
    let (served, _workers) = served();
    let hub = served.hub.clone();
    let mut client = client_of(served);
    let mut stream = connect(&mut client, vec![one(&[])]).await;
    let of = |id, key| schedule(id, &[("dalsegno.limiter", "one"), ("dalsegno.limiter.key", key)]);
    let free = schedule(9, &[("other", "tag")]);
    ask(
        &mut client,
        &mut stream,
        "a",
        vec![of(0, "x"), of(1, "x"), of(2, "y"), free],
    )
    .await;
    let mut came = Vec::new();
    for _ in 0..3 {
        came.push(activity(&mut stream).await);
    }
    let mut tasks: Vec<i32> = came.iter().map(|(_, task)| task.task_id).collect();
    tasks.sort_unstable();
    assert_eq!(tasks, [0, 2, 9], "the second of key x waits for the first");
    let in_use = [("x".to_owned(), 1, 1), ("y".to_owned(), 1, 0)];
    assert_eq!(buckets(&hub).await, in_use);
    for (token, task) in came {
        end(&mut client, token, task).await;
    }
    loop {
        match item(&mut stream).await {
            (_, Work::ActivityRequest(task)) => break assert_eq!(task.task_id, 1),
            (token, _) => {
                let nothing = response("a", &token, Vec::new());
                client
                    .complete_orchestrator_task(nothing)
                    .await
                    .expect("it is taken");
            }
        }
    }
}

#[tokio::test]
async fn what_began_before_there_was_a_limiter_gives_nothing_back_to_it() {
    // The limiter was looked up again at the end of an attempt, and got back a place that it had
    // not given: one too many could go.
    let (served, _workers) = served();
    let hub = served.hub.clone();
    let mut client = client_of(served);
    let mut stream = connect(&mut client, Vec::new()).await;
    ask(&mut client, &mut stream, "a", vec![schedule(0, &[])]).await;
    let (token, early) = activity(&mut stream).await;
    let other = connect(&mut client, vec![one(&["act"])]).await;
    drop(other);
    let tasks = vec![schedule(0, &[]), schedule(1, &[])];
    ask(&mut client, &mut stream, "b", tasks).await;
    activity(&mut stream).await;
    assert_eq!(buckets(&hub).await, [(String::new(), 1, 1)]);
    end(&mut client, token, early).await;
    assert_eq!(buckets(&hub).await, [(String::new(), 1, 1)]);
}

/// The key of a worker changed the limiters of a read-only host.
#[tokio::test]
async fn a_read_only_host_ignores_offers_and_others_record_what_they_change() {
    let (served, _workers) = served();
    let hub = served.hub.clone();
    let mut client = client_of(served);
    let mut offer = async |new_hubs| {
        let called = CalledHub::new(DEFAULT_HUB, new_hubs);
        let mut request = Request::new(proto::GetWorkItemsRequest {
            limiters: vec![one(&["act"])],
            ..Default::default()
        });
        request.extensions_mut().insert(called.clone());
        drop(client.get_work_items(request).await.expect("it connects"));
        called.offers().map(CallNote::facts)
    };
    let rule = LimiterRule {
        concurrency: Some(2),
        ..Default::default()
    };
    assert_eq!(offer(NewHubs::Refused).await, None);
    assert!(
        hub.set_limiter("one", rule.clone()).await.is_err(),
        "it is not known"
    );
    let facts = CallFacts {
        subject: Some("one".to_owned()),
        filter: None,
        count: Some(1),
    };
    assert_eq!(offer(NewHubs::Allowed).await, Some(facts));
    assert_eq!(offer(NewHubs::Allowed).await, None, "it changes nothing");
    assert_eq!(hub.set_limiter("one", rule).await, Ok(()));
}

#[tokio::test]
async fn an_offer_gives_way_to_the_operator_and_is_checked() {
    let (served, _workers) = served();
    let hub = served.hub.clone();
    let mut client = client_of(served);
    drop(connect(&mut client, vec![one(&["act"])]).await);
    let two = dalsegno_core::limiter::LimiterRule {
        concurrency: Some(2),
        ..Default::default()
    };
    hub.set_limiter("one", two).await.expect("it is known");
    let changed = proto::LimiterOffer {
        concurrency: Some(5),
        ..one(&["act"])
    };
    let mut stream = connect(&mut client, vec![changed]).await;
    let tasks = (0..3).map(|id| schedule(id, &[])).collect();
    ask(&mut client, &mut stream, "a", tasks).await;
    activity(&mut stream).await;
    activity(&mut stream).await;
    assert_eq!(buckets(&hub).await, [(String::new(), 2, 1)]);
    let nothing = proto::LimiterOffer {
        concurrency: Some(0),
        ..one(&[])
    };
    let request = proto::GetWorkItemsRequest {
        limiters: vec![nothing],
        ..Default::default()
    };
    let refused = client.get_work_items(request).await;
    assert_eq!(code(refused.map(drop)), Code::InvalidArgument);
    // Nothing of it hinders the others.
    ask(
        &mut client,
        &mut stream,
        "b",
        vec![completion(0, Wire::Completed)],
    )
    .await;
    assert_eq!(
        ended(&mut client, "b").await.orchestration_status(),
        Wire::Completed
    );
}
