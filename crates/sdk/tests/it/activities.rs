//! Activities as the engine runs them.

use std::time::Duration;

use dalsegno::{
    Activity, ActivityContext, Error, Failure, HOUR, InstanceId, Limiter, MINUTE, Registry, Result,
    RetryPolicy, SECOND, activity,
};
use dalsegno_core::action::TaskOptions;
use dalsegno_core::{ExecutionId, TaskId};
use dalsegno_engine::executor::{
    ActivityRequest, AttemptOutcome, CancelReason, Cancellation, Executor, Heartbeats, Receipt, cancellation,
};
use futures::executor::block_on;
use serde::{Deserialize, Serialize};

use crate::harness::json;

const GITHUB: Limiter = Limiter::new("github")
    .rate(5_000, HOUR)
    .burst(100)
    .concurrency(20);

#[derive(Serialize, Deserialize)]
struct Repo {
    owner: String,
}

struct Greeting(&'static str);

#[activity(
    name = "FetchIssues",
    timeout = 30 * SECOND,
    retry = RetryPolicy::exponential(5, SECOND).interval_max(MINUTE).jitter(0.2).deadline(HOUR),
    limiter = GITHUB.keyed(|repo: &Repo| repo.owner.clone()),
    concurrency_per_host = 16,
)]
async fn fetch_issues(ctx: ActivityContext, repo: Repo) -> Result<String> {
    match &*repo.owner {
        "limited" => Err(ctx.limited(MINUTE)),
        "later" => Err(Error::msg("out of order").retry_after(SECOND)),
        "never" => Err(Error::msg("gone").permanent()),
        "panic" => std::panic::resume_unwind(Box::new("boom")),
        owner => Ok(format!(
            "{} {owner}, {}",
            ctx.data::<Greeting>().0,
            ctx.idempotency_key()
        )),
    }
}

#[activity(heartbeat = MINUTE)]
async fn import(ctx: ActivityContext) -> Result<u64> {
    ctx.heartbeat(&(ctx.last_heartbeat::<u64>().unwrap_or(0) + 1));
    let reason = ctx.cancelled().await;
    Err(reason.into())
}

#[activity]
async fn nothing() {}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(fetch_issues).expect("new");
    registry.register(import).expect("new");
    registry.register(nothing).expect("new");
    registry.insert_data(Greeting("hello"));
    registry
}

fn request(name: &str, input: impl Serialize) -> ActivityRequest {
    ActivityRequest {
        instance: InstanceId::trusted("i"),
        execution_id: ExecutionId(1),
        task: TaskId(2),
        name: name.into(),
        input: Some(json(input)),
        attempt: 1,
        last_heartbeat: None,
        trace: None,
        cancelled: Cancellation::never(),
        heartbeats: Heartbeats::default(),
        options: TaskOptions::default(),
        receipt: Receipt::default(),
    }
}

fn fetch(owner: &str) -> AttemptOutcome {
    let owner = owner.to_owned();
    block_on(registry().run_activity(request("FetchIssues", Repo { owner })))
}

fn failed(failure: Failure, retry_after: Option<Duration>) -> AttemptOutcome {
    AttemptOutcome::Failed { failure, retry_after }
}

#[test]
fn attempts_end_in_each_way() {
    let greeting = "hello ada, i/00000000000000000000000000000001/2";
    assert_eq!(fetch("ada"), AttemptOutcome::Completed(Some(json(greeting))));
    assert_eq!(fetch("limited"), AttemptOutcome::Limited { retry_after: MINUTE });
    assert_eq!(
        fetch("later"),
        failed(Failure::new("", "out of order"), Some(SECOND))
    );
    assert_eq!(fetch("never"), failed(Failure::new("", "gone").permanent(), None));
    assert_eq!(fetch("panic"), failed(Failure::new("Panic", "boom"), None));
    let nothing = block_on(registry().run_activity(request("nothing", ())));
    assert_eq!(nothing, AttemptOutcome::Completed(None));
}

#[test]
fn settings_come_from_the_attribute() {
    let registry = registry();
    let settings = registry.activity_settings("FetchIssues").expect("registered");
    assert_eq!(settings.timeout, Some(30 * SECOND));
    assert_eq!(settings.retry.map(|retry| retry.attempts_max), Some(5));
    assert_eq!(settings.limiter.as_deref(), Some("github"));
    assert_eq!(settings.concurrency_per_host, Some(16));
    let input = json(Repo { owner: "ada".into() });
    assert_eq!(&*registry.limiter_key("FetchIssues", Some(&input)), "ada");
    assert_eq!(registry.limiters().collect::<Vec<_>>(), vec![&GITHUB]);
    assert_eq!(
        registry
            .activity_settings("import")
            .and_then(|settings| settings.heartbeat),
        Some(MINUTE)
    );
}

#[test]
fn heartbeats_and_cancellation_reach_the_code() {
    let (canceller, cancelled) = cancellation();
    let heartbeats = Heartbeats::default();
    let request = ActivityRequest {
        cancelled,
        heartbeats: heartbeats.clone(),
        last_heartbeat: Some(json(41)),
        ..request("import", ())
    };
    canceller.cancel(CancelReason::Terminated);
    let outcome = block_on(registry().run_activity(request));
    let expected = Failure::new("Cancelled", "cancelled: the orchestration was terminated");
    assert_eq!(outcome, failed(expected, None));
    assert_eq!(heartbeats.latest().details, Some(json(42)));
}

#[test]
fn a_unit_test_runs_the_code() {
    assert_eq!(
        block_on(nothing().run(ActivityContext::for_test(), ())).ok(),
        Some(())
    );
}

#[test]
fn names_are_registered_once() {
    fn elsewhere() -> Activity<u32, u32> {
        Activity::remote("elsewhere")
    }
    let mut registry = registry();
    let twice = registry.register(nothing).expect_err("twice");
    assert_eq!(
        twice.to_string(),
        "activity \"nothing\" is registered twice: give one of them another name, or another version"
    );
    let remote = registry.register(elsewhere).expect_err("not here");
    assert_eq!(
        remote.to_string(),
        "activity \"elsewhere\" runs elsewhere: it is called, not registered"
    );
}
