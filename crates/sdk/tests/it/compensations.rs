//! Undoing what was done: newest first, after a failure and after a request to cancel.

use std::sync::{Arc, Mutex};

use dalsegno::testing::{TestHub, TestInstance};
use dalsegno::{
    ActivityContext, App, Error, EventKind, ExternalEvent, HOUR, OrchestrationContext, Result, RetryPolicy,
    SECOND, Status, activity, orchestrator,
};
use serde::{Deserialize, Serialize};

const GO: ExternalEvent<()> = ExternalEvent::new("Go");

/// What activities did, in order.
type Log = Arc<Mutex<Vec<String>>>;

#[activity]
async fn book(ctx: ActivityContext, thing: String) -> Result<String> {
    ctx.data::<Log>().lock().unwrap().push(format!("book {thing}"));
    match &*thing {
        "yacht" => Err(Error::with_kind("SoldOut", "there is none").permanent()),
        _ => Ok(thing),
    }
}

#[activity]
async fn unbook(ctx: ActivityContext, thing: String) -> Result<()> {
    ctx.data::<Log>().lock().unwrap().push(format!("unbook {thing}"));
    match &*thing {
        "balloon" => Err(Error::msg("it has flown").permanent()),
        "bus" => Err(Error::msg("not now")),
        _ => Ok(()),
    }
}

#[orchestrator]
async fn unbook_slowly(ctx: &OrchestrationContext, thing: String) -> Result<()> {
    ctx.timer(HOUR).await;
    Ok(ctx.call(unbook, thing).await?)
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Then {
    Succeed,
    WaitForEvent,
    WaitForTimer,
    SleepForEver,
}

/// Books things, then waits.
#[orchestrator]
async fn trip(ctx: &OrchestrationContext, (things, then): (Vec<String>, Then)) -> Result<usize> {
    ctx.compensating(|undo| async move {
        for thing in &things {
            let booked = ctx.call(book, thing.clone()).await?;
            match &**thing {
                "ship" => undo.push(unbook_slowly, booked),
                "bus" => undo.push_with_retry(unbook, booked, RetryPolicy::fixed(2, HOUR)),
                _ => undo.push(unbook, booked),
            }
        }
        match then {
            Then::Succeed => {}
            Then::WaitForEvent => ctx.wait_for_event(GO).await?,
            Then::WaitForTimer => ctx.timer(HOUR).await,
            Then::SleepForEver => loop {
                ctx.timer(HOUR).await;
            },
        }
        Ok(undo.len())
    })
    .await
}

/// Undoes by hand, and goes on.
#[orchestrator]
async fn by_hand(ctx: &OrchestrationContext) -> Result<bool> {
    let undo = ctx.compensations();
    undo.push(unbook, ctx.call(book, "hotel".into()).await?);
    undo.push(unbook, "balloon".into());
    let failed = undo.run().await.unwrap_err();
    assert_eq!(failed.failure().kind, "CompensationFailed");
    assert!(undo.run().await.is_ok(), "nothing is left");
    Ok(undo.is_empty())
}

/// Two stacks, one in the other.
#[orchestrator]
async fn nested(ctx: &OrchestrationContext) -> Result<()> {
    ctx.compensating(|outer| async move {
        outer.push(unbook, ctx.call(book, "outer".into()).await?);
        ctx.compensating(|inner| async move {
            inner.push(unbook, ctx.call(book, "inner".into()).await?);
            loop {
                ctx.timer(HOUR).await;
            }
        })
        .await
    })
    .await
}

struct Stage {
    hub: TestHub,
    log: Log,
}

fn app(log: &Log) -> App {
    App::new()
        .register(book)
        .register(unbook)
        .register(unbook_slowly)
        .register(trip)
        .register(by_hand)
        .register(nested)
        .data(log.clone())
}

impl Stage {
    fn new() -> Self {
        let log = Log::default();
        let hub = TestHub::new(app(&log));
        Self { hub, log }
    }

    fn trip(&self, things: &[&str], then: Then) -> TestInstance<usize> {
        let things: Vec<String> = things.iter().map(ToString::to_string).collect();
        self.hub.start(trip, (things, then))
    }

    /// What was done, without what was done twice in a row: activities may run twice.
    fn done(&self) -> String {
        let mut done = self.log.lock().unwrap().clone();
        done.dedup();
        done.join(", ")
    }
}

#[test]
fn what_was_done_is_undone_newest_first_and_the_error_is_given_on() {
    let stage = Stage::new();
    let instance = stage.trip(&["flight", "hotel", "yacht"], Then::Succeed);
    stage.hub.run();
    assert_eq!(instance.status(), Status::Failed);
    assert!(
        instance
            .output()
            .unwrap_err()
            .to_string()
            .contains("there is none")
    );
    assert_eq!(instance.row().unwrap().failure.unwrap().kind, "SoldOut");
    assert_eq!(
        stage.done(),
        "book flight, book hotel, book yacht, unbook hotel, unbook flight"
    );
}

#[test]
fn nothing_is_undone_after_a_success() {
    let stage = Stage::new();
    let instance = stage.trip(&["flight", "hotel"], Then::Succeed);
    stage.hub.run();
    assert_eq!(instance.output().unwrap(), 2);
    assert_eq!(stage.done(), "book flight, book hotel");
}

#[test]
fn a_cancelled_orchestration_undoes_whatever_it_waited_for() {
    for then in [Then::WaitForEvent, Then::WaitForTimer, Then::SleepForEver] {
        for is_crashed in [false, true] {
            let stage = Stage::new();
            let instance = stage.trip(&["flight", "hotel"], then);
            stage.hub.run_until(stage.hub.now() + SECOND);
            instance.cancel("no more").unwrap();
            if is_crashed {
                stage.hub.crash();
            }
            stage.hub.run_until(stage.hub.now() + SECOND);
            assert_eq!(instance.status(), Status::Canceled, "{then:?}");
            assert_eq!(
                stage.done(),
                "book flight, book hotel, unbook hotel, unbook flight",
                "{then:?}"
            );
        }
    }
}

#[test]
fn stacks_in_each_other_are_undone_from_the_inside() {
    let stage = Stage::new();
    let instance = stage.hub.start(nested, ());
    stage.hub.run_until(stage.hub.now() + SECOND);
    instance.cancel("no more").unwrap();
    stage.hub.run();
    assert_eq!(instance.status(), Status::Canceled);
    assert_eq!(stage.done(), "book outer, book inner, unbook inner, unbook outer");
}

#[test]
fn an_undo_that_fails_does_not_stop_the_older_ones_and_both_are_told() {
    let stage = Stage::new();
    let instance = stage.trip(&["flight", "balloon", "yacht"], Then::Succeed);
    stage.hub.run();
    let failure = instance.row().unwrap().failure.unwrap();
    assert_eq!(failure.kind, "CompensationFailed");
    for part in ["there is none", "not undone", "it has flown"] {
        assert!(failure.message.contains(part), "{failure}");
    }
    assert_eq!(failure.cause.unwrap().kind, "SoldOut");
    assert!(
        stage.done().ends_with("unbook balloon, unbook flight"),
        "{}",
        stage.done()
    );

    let stage = Stage::new();
    let instance = stage.trip(&["balloon"], Then::WaitForEvent);
    stage.hub.run();
    instance.cancel("no more").unwrap();
    stage.hub.run();
    assert_eq!(instance.status(), Status::Failed, "it did not end as it should");
    assert_eq!(
        instance.row().unwrap().failure.unwrap().cause.unwrap().kind,
        "Cancelled"
    );
}

#[test]
fn an_undo_is_tried_again_is_seen_and_is_not_reached_by_a_request_to_cancel() {
    let stage = Stage::new();
    let instance = stage.trip(&["bus", "ship", "yacht"], Then::Succeed);
    stage.hub.run_until(stage.hub.now() + SECOND);
    let waits = |what: &str| {
        let waits_for = instance.waits_for().unwrap();
        assert!(waits_for.iter().any(|line| line.contains(what)), "{waits_for:?}");
    };
    waits("compensating: child ");
    instance.cancel("no more").unwrap();
    stage.hub.crash();
    stage.hub.advance(HOUR);
    waits("compensating: activity \"unbook\", 1 attempt failed");
    waits("it was asked to end: no more");
    stage.hub.run();
    assert_eq!(stage.hub.attempts(unbook), 3, "ship once, bus twice");
    let undos = instance
        .history()
        .unwrap()
        .into_iter()
        .filter(|event| match &event.kind {
            EventKind::TaskScheduled { options, .. } => options.as_ref().is_some_and(|options| options.undo),
            EventKind::SubOrchestrationInstanceCreated { undo, .. } => *undo,
            _ => false,
        });
    assert_eq!(undos.count(), 2);
    assert_eq!(instance.status(), Status::Failed);
    let failure = instance.row().unwrap().failure.unwrap();
    assert!(failure.message.contains("not now"), "{failure}");
}

#[test]
fn it_may_be_run_by_hand() {
    let stage = Stage::new();
    let instance = stage.hub.start(by_hand, ());
    stage.hub.run();
    assert!(instance.output().unwrap());
    assert_eq!(stage.done(), "book hotel, unbook balloon, unbook hotel");
}

#[test]
fn a_termination_undoes_nothing() {
    let stage = Stage::new();
    let instance = stage.trip(&["flight"], Then::WaitForEvent);
    stage.hub.run();
    instance.terminate("now").unwrap();
    stage.hub.run();
    assert_eq!(stage.done(), "book flight");
}

#[test]
fn kept_and_evicted_code_undo_the_same() {
    let log = Log::default();
    TestHub::explore(
        || app(&log),
        0..40,
        |hub| {
            let things = ["flight", "ship", "hotel"].map(String::from).to_vec();
            let waiting = hub.start(trip, (things.clone(), Then::WaitForTimer));
            let sleeping = hub.start(trip, (things, Then::SleepForEver));
            hub.steps(25);
            waiting.cancel("no more").unwrap();
            hub.steps(7);
            sleeping.cancel("no more").unwrap();
            hub.run();
            assert_eq!(
                (waiting.status(), sleeping.status()),
                (Status::Canceled, Status::Canceled)
            );
        },
    );
}
