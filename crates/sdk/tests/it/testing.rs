//! The test hub itself.

use std::time::{Duration, Instant};

use dalsegno::testing::{TestHub, replay_all};
use dalsegno::{
    Activity, App, ExternalEvent, HOUR, MINUTE, OrchestrationContext, Result, RetryPolicy, SECOND, Status,
    activity, entity, join_all, orchestrator, select,
};
use serde::{Deserialize, Serialize};

const APPROVAL: ExternalEvent<String> = ExternalEvent::new("Approval");

#[orchestrator]
async fn approve(ctx: &OrchestrationContext) -> Result<String> {
    ctx.set_custom_status("waiting");
    match ctx.timeout(72 * HOUR, ctx.wait_for_event(APPROVAL)).await {
        Ok(approver) => Ok(format!("approved by {}", approver?)),
        Err(_elapsed) => Ok("escalated".into()),
    }
}

#[activity(retry = RetryPolicy::fixed(4, MINUTE))]
async fn charge(cents: u64) -> u64 {
    cents
}

fn ship() -> Activity<u64, String> {
    Activity::remote("ship")
}

#[orchestrator]
async fn order(ctx: &OrchestrationContext, cents: u64) -> Result<String> {
    let paid = ctx.call(charge, cents).await?;
    Ok(ctx.call(ship, paid).await?)
}

#[orchestrator]
async fn fan_out(ctx: &OrchestrationContext, count: u64) -> Result<u64> {
    let charges = join_all((0..count).map(|cents| ctx.call(charge, cents))).await;
    let total: u64 = charges.into_iter().sum::<Result<u64, _>>()?;
    ctx.timer(HOUR).await;
    Ok(total + ctx.call(order_total, total).await?)
}

#[orchestrator]
async fn order_total(ctx: &OrchestrationContext, total: u64) -> Result<u64> {
    ctx.timer(SECOND).await;
    Ok(total)
}

#[derive(Default, Debug, Serialize, Deserialize)]
struct Purse {
    cents: i64,
}

#[entity]
impl Purse {
    fn put(&mut self, cents: i64) -> i64 {
        self.cents += cents;
        self.cents
    }
}

#[orchestrator]
async fn save(ctx: &OrchestrationContext, cents: i64) -> Result<i64> {
    let purse = ctx.entity::<Purse>("pig");
    let _lock = ctx.lock([purse.id()]).await;
    Ok(purse.put(cents).await?)
}

#[orchestrator]
async fn race(ctx: &OrchestrationContext) -> Result<u64> {
    let mut first = ctx.call(charge, 1);
    let mut second = ctx.call(charge, 2);
    Ok(select! {
        cents = first => cents?,
        cents = second => cents?,
    })
}

fn app() -> App {
    App::new()
        .register(approve)
        .register(charge)
        .register(order)
        .register(fan_out)
        .register(order_total)
        .register(save)
        .register(race)
        .entity::<Purse>()
}

#[test]
fn three_days_pass_in_milliseconds() {
    let began = Instant::now();
    let hub = TestHub::new(app());
    let instance = hub.start(approve, ());
    let start = hub.now();
    hub.advance(71 * HOUR);
    assert_eq!(instance.status(), Status::Running);
    assert_eq!(instance.custom_status::<String>().as_deref(), Some("waiting"));
    hub.run();
    assert_eq!(instance.output().unwrap(), "escalated");
    assert_eq!(hub.now(), start + 72 * HOUR);
    assert!(began.elapsed() < Duration::from_secs(72 * 3600));
}

#[test]
fn an_order_survives_a_flaky_card_network() {
    TestHub::explore(app, 0..50, |hub| {
        hub.fail_next(charge, 2, "card network down");
        hub.stub(ship, |cents| Ok(format!("parcel {cents}")));
        let instance = hub.start(order, 7);
        hub.run();
        assert_eq!(instance.output().unwrap(), "parcel 7");
        assert_eq!(hub.attempts(charge), 3);
        assert_eq!(hub.attempts(ship), 1);
    });
}

#[test]
fn kept_and_evicted_come_to_the_same_histories() {
    TestHub::explore(app, 0..50, |hub| {
        let big = hub.start(fan_out, 40);
        let small = hub.start(fan_out, 3);
        let savings: Vec<_> = (1..=5).map(|cents| hub.start(save, cents)).collect();
        let race = hub.start(race, ());
        hub.entity::<Purse>("pig").put(100).signal().unwrap();
        hub.run();
        assert_eq!(big.output().unwrap(), 2 * 780);
        assert_eq!(small.output().unwrap(), 2 * 3);
        assert_eq!(race.status(), Status::Completed);
        assert!(savings.iter().all(|saving| saving.status() == Status::Completed));
        assert_eq!(hub.entity_state::<Purse>("pig").unwrap().cents, 115);
    });
}

#[test]
fn what_was_answered_outlives_crashes() {
    for seed in 0..50 {
        let hub = TestHub::seeded(app(), seed);
        let instance = hub.start(fan_out, 4);
        for steps in 0..10 {
            hub.steps(steps);
            hub.crash();
        }
        hub.run();
        assert_eq!(instance.output().unwrap(), 12, "seed {seed}");
    }
}

#[test]
fn a_failed_instance_is_rewound() {
    TestHub::explore(app, 0..20, |hub| {
        hub.stub(ship, |_| Ok("parcel".into()));
        hub.fail_next(charge, 4, "closed");
        let instance = hub.start(order, 7);
        hub.run();
        assert_eq!(instance.status(), Status::Failed);
        assert!(instance.output().unwrap_err().to_string().contains("closed"));
        instance.rewind("open again").unwrap();
        hub.run();
        assert_eq!(instance.output().unwrap(), "parcel");
        assert_eq!(hub.attempts(charge), 5);
    });
}

#[test]
fn an_attempt_that_was_asked_for_is_due_over_crashes() {
    for steps in 0..12 {
        let hub = TestHub::new(app());
        hub.stub(ship, |_| Ok("parcel".into()));
        hub.fail_next(charge, 1, "closed");
        let instance = hub.start(order, 7);
        hub.advance(SECOND);
        let begin = hub.now();
        instance.retry_now().unwrap();
        // It is told: a crash whenever after that takes nothing back.
        hub.steps(steps);
        hub.crash();
        hub.advance(SECOND);
        assert_eq!(instance.output().unwrap(), "parcel", "{steps} steps");
        assert!(hub.now().since(begin) < MINUTE);
        assert!(instance.retry_now().is_err());
    }
}

#[test]
fn commands_reach_an_instance() {
    let hub = TestHub::new(app());
    let held = hub.start(approve, ());
    held.suspend("audit").unwrap();
    held.raise_event(APPROVAL, "Ada".into()).unwrap();
    hub.advance(HOUR);
    assert_eq!(held.status(), Status::Suspended);
    held.resume("").unwrap();
    hub.run();
    assert_eq!(held.output().unwrap(), "approved by Ada");

    let ended = hub.start_as("ended", approve, ()).unwrap();
    ended.terminate("not needed").unwrap();
    assert_eq!(ended.status(), Status::Terminated);
    assert!(ended.terminate("again").is_err());
    assert!(ended.raise_event(APPROVAL, "late".into()).is_err());
    assert!(
        hub.start_as(
            "other",
            || dalsegno::Orchestrator::<(), ()>::remote("unknown"),
            ()
        )
        .is_err()
    );
}

#[test]
fn every_interleaving_of_a_small_race_is_tried() {
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let explored = TestHub::explore_all_interleavings(app, 20_000, |hub| {
        let instance = hub.start(race, ());
        hub.run();
        seen.borrow_mut().insert(instance.output().unwrap());
    });
    assert!(explored.is_complete, "{explored:?}");
    let seen = seen.into_inner();
    assert_eq!(seen.len(), 2, "either may come first: {seen:?} {explored:?}");
}

#[test]
fn recorded_histories_replay_until_the_code_changes() {
    let folder = tempfile::tempdir().unwrap();
    let hub = TestHub::new(app());
    hub.stub(ship, |_| Ok("parcel".into()));
    let instance = hub.start(order, 7);
    let fan = hub.start(fan_out, 3);
    hub.run();
    instance.export_history(folder.path().join("order.json")).unwrap();
    fan.export_history(folder.path().join("fan.json")).unwrap();
    assert_eq!(replay_all(app(), folder.path()).unwrap(), 2);

    fn changed() -> dalsegno::Orchestrator<u64, u64> {
        dalsegno::Orchestrator::new("order", |ctx, cents| {
            Box::pin(async move { Ok(ctx.call(order_total, cents).await?) })
        })
    }
    let error = replay_all(App::new().register(changed).register(fan_out), folder.path()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("order.json") && text.contains("charge"), "{text}");
    assert!(!text.contains("fan.json"), "{text}");
}

#[test]
fn code_that_no_replay_repeats_is_found() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static RUNS: AtomicU32 = AtomicU32::new(0);
    fn moody() -> dalsegno::Orchestrator<(), u64> {
        dalsegno::Orchestrator::new("moody", |ctx, ()| {
            Box::pin(async move {
                let run = RUNS.fetch_add(1, Ordering::Relaxed);
                ctx.timer(SECOND).await;
                Ok(ctx.call(charge, u64::from(run)).await?)
            })
        })
    }
    let hub = TestHub::new(App::new().register(moody).register(charge));
    let instance = hub.start(moody, ());
    hub.advance(SECOND / 2);
    hub.crash();
    hub.run();
    assert_eq!(
        instance.status(),
        Status::Completed,
        "the call came after the crash"
    );

    let found = std::panic::catch_unwind(|| {
        TestHub::explore(
            || App::new().register(moody).register(charge),
            0..3,
            |hub| {
                hub.start(moody, ());
                hub.run();
            },
        );
    });
    assert!(found.is_err(), "the inputs differ between the ways");
}
