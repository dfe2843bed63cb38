//! Every way to go on after a failure.

use dalsegno::{Event, EventKind, Host, Instance, Status};
use error_handling::compensation::book_trip;
use error_handling::retry::with_retry;
use error_handling::time_limit::{Signal, with_time_limit};
use error_handling::what_to_do::{ADVICE, Advice, Delivery, Plan, deliver};
use error_handling::{World, app, catch};

const ALWAYS: u32 = u32::MAX;

struct Stage {
    host: Host,
    world: World,
    signal: Signal,
    _folder: tempfile::TempDir,
}

async fn stage<'a>(failures: impl IntoIterator<Item = (&'a str, u32)>) -> Stage {
    let folder = tempfile::tempdir().expect("a folder");
    let (world, signal) = (World::failing(failures), Signal::default());
    let host = app(world.clone())
        .data(signal.clone())
        .embedded(&folder)
        .await
        .expect("a host");
    Stage {
        host,
        world,
        signal,
        _folder: folder,
    }
}

async fn count<Out>(instance: &Instance<Out>, is_wanted: impl Fn(&EventKind) -> bool) -> usize {
    let history: Vec<Event> = instance.history().await.expect("a history");
    history.iter().filter(|event| is_wanted(&event.kind)).count()
}

#[tokio::test]
async fn three_attempts_are_one_task_and_no_timer() {
    let stage = stage([("genius", 2)]).await;
    let instance = stage.host.client().start(with_retry, 1).await.expect("started");
    assert_eq!(instance.wait().await.expect("a result"), 3);
    assert_eq!(
        count(&instance, |kind| matches!(kind, EventKind::TaskScheduled { .. })).await,
        1
    );
    assert_eq!(
        count(&instance, |kind| matches!(
            kind,
            EventKind::TaskCompleted { attempts, .. } if attempts.count == 3
        ))
        .await,
        1
    );
    assert_eq!(
        count(&instance, |kind| matches!(kind, EventKind::TimerCreated { .. })).await,
        0
    );
    stage.host.shutdown().await;
}

#[tokio::test]
async fn after_three_attempts_the_failure_is_the_orchestrators() {
    let stage = stage([("genius", ALWAYS)]).await;
    let instance = stage.host.client().start(with_retry, 1).await.expect("started");
    let error = instance.wait().await.expect_err("it failed");
    assert!(error.to_string().contains("genius does not work"), "{error}");
    assert_eq!(
        instance.status().await.expect("a status").row.status,
        Status::Failed
    );
    assert_eq!(
        count(&instance, |kind| matches!(
            kind,
            EventKind::TaskFailed { attempts, .. } if attempts.count == 3
        ))
        .await,
        1
    );
    stage.host.shutdown().await;
}

#[tokio::test]
async fn an_activity_may_answer_instead_of_failing() {
    let stage = stage([]).await;
    for (input, expected, recorded) in [
        ("21", "the result is 42", r#"{"Success":true,"Value":"42"}"#),
        (
            "x",
            "there is no result: invalid digit found in string",
            r#"{"Success":false,"Value":"invalid digit found in string"}"#,
        ),
    ] {
        let instance = stage
            .host
            .client()
            .start(catch::calculate, input.into())
            .await
            .expect("started");
        assert_eq!(instance.wait().await.expect("a result"), expected);
        let answered = |kind: &EventKind| matches!(kind, EventKind::TaskCompleted { result: Some(result), .. } if result.as_str() == recorded);
        assert_eq!(count(&instance, answered).await, 1);
    }
    stage.host.shutdown().await;
}

#[tokio::test]
async fn what_was_booked_is_cancelled_newest_first() {
    // Cancelling the hotel fails twice, which delays it and changes nothing else.
    let stage = stage([("book car", ALWAYS), ("cancel hotel", 2)]).await;
    let things = ["flight", "hotel", "car", "guide"].map(String::from).to_vec();
    let instance = stage
        .host
        .client()
        .start(book_trip, things)
        .await
        .expect("started");
    let error = instance.wait().await.expect_err("no car");
    assert!(error.to_string().contains("book car does not work"), "{error}");
    assert_eq!(
        stage.world.log(),
        ["book flight", "book hotel", "cancel hotel", "cancel flight"]
    );
    stage.host.shutdown().await;
}

#[tokio::test]
async fn who_asks_a_person_and_is_cancelled_unpacks() {
    let stage = stage([("ship", ALWAYS)]).await;
    let instance = stage
        .host
        .client()
        .start(deliver, Plan::Ask)
        .await
        .expect("started");
    while stage.world.log().is_empty() || instance.custom_status::<String>().await.expect("one").is_none() {
        tokio::task::yield_now().await;
    }
    instance.cancel("no more").await.expect("asked");
    let error = instance.wait().await.expect_err("it was cancelled");
    assert!(error.is_cancelled(), "{error}");
    assert_eq!(stage.world.log(), ["pack", "unpack"]);
    let status = instance.status().await.expect("a status").row.status;
    assert_eq!(status, Status::Canceled);
    stage.host.shutdown().await;
}

#[tokio::test]
async fn nothing_is_cancelled_when_all_is_booked() {
    let stage = stage([]).await;
    let things = ["flight", "hotel"].map(String::from).to_vec();
    let instance = stage
        .host
        .client()
        .start(book_trip, things.clone())
        .await
        .expect("started");
    assert_eq!(instance.wait().await.expect("booked"), things);
    assert_eq!(stage.world.log(), ["book flight", "book hotel"]);
    stage.host.shutdown().await;
}

#[tokio::test]
async fn who_ends_in_time_cancels_the_timer() {
    let stage = stage([]).await;
    stage.signal.notify_one();
    let instance = stage
        .host
        .client()
        .start(with_time_limit, 3_600_000)
        .await
        .expect("started");
    assert!(instance.wait().await.expect("a result"));
    let status = instance.status().await.expect("a status");
    assert_eq!(
        (status.row.status, status.waits_for.len()),
        (Status::Completed, 0)
    );
    assert_eq!(
        count(&instance, |kind| matches!(kind, EventKind::TimerFired { .. })).await,
        0
    );
    stage.host.shutdown().await;
}

#[tokio::test]
async fn who_does_not_is_not_waited_for() {
    let stage = stage([]).await;
    let instance = stage
        .host
        .client()
        .start(with_time_limit, 10)
        .await
        .expect("started");
    assert!(!instance.wait().await.expect("a result"));
    assert_eq!(
        count(&instance, |kind| matches!(kind, EventKind::TaskCompleted { .. })).await,
        0
    );
    stage.host.shutdown().await;
}

/// Delivers by a plan while shipping fails so often: how it ends, and what was really done.
async fn check_delivery(failures: u32, plan: Plan, end: Delivery, done: &[&str]) {
    let stage = stage([("ship", failures)]).await;
    let instance = stage.host.client().start(deliver, plan).await.expect("started");
    assert_eq!(instance.wait().await.expect("a result"), end);
    assert_eq!(stage.world.log(), done);
    stage.host.shutdown().await;
}

#[tokio::test]
async fn undo() {
    check_delivery(ALWAYS, Plan::Undo, Delivery::Undone, &["pack", "unpack"]).await;
}

#[tokio::test]
async fn retry() {
    check_delivery(4, Plan::Retry, Delivery::Shipped, &["pack", "ship"]).await;
}

#[tokio::test]
async fn ignore() {
    check_delivery(ALWAYS, Plan::Ignore, Delivery::LeftPacked, &["pack"]).await;
}

#[tokio::test]
async fn what_to_do_is_asked_until_somebody_knows() {
    let stage = stage([("ship", 2)]).await;
    let instance = stage
        .host
        .client()
        .start(deliver, Plan::Ask)
        .await
        .expect("started");
    while instance
        .custom_status::<String>()
        .await
        .expect("a status")
        .is_none()
    {
        tokio::task::yield_now().await;
    }
    let question = instance.custom_status::<String>().await.expect("a status");
    assert_eq!(
        question.as_deref(),
        Some("activity \"Ship\" failed: ship does not work. What to do?")
    );
    instance
        .raise_event(ADVICE, Advice::TryAgain)
        .await
        .expect("raised");
    instance
        .raise_event(ADVICE, Advice::TryAgain)
        .await
        .expect("raised");
    assert_eq!(instance.wait().await.expect("a result"), Delivery::Shipped);
    assert_eq!(stage.world.log(), ["pack", "ship"]);

    for (advice, delivery) in [
        (Advice::Ignore, Delivery::LeftPacked),
        (Advice::Undo, Delivery::Undone),
    ] {
        let stage = self::stage([("ship", ALWAYS)]).await;
        let instance = stage
            .host
            .client()
            .start(deliver, Plan::Ask)
            .await
            .expect("started");
        instance.raise_event(ADVICE, advice).await.expect("raised");
        assert_eq!(instance.wait().await.expect("a result"), delivery);
        stage.host.shutdown().await;
    }
    stage.host.shutdown().await;
}
