//! A request to cancel: how it reaches code that looks for it and code that does not, its activities
//! and children, and what it stands through.

use std::collections::BTreeSet;

use dalsegno::testing::{TestHub, TestInstance};
use dalsegno::{
    ActivityContext, App, Error, EventKind, ExternalEvent, HOUR, OrchestrationContext, Result, RetryPolicy,
    Status, activity, entity, orchestrator,
};
use futures::FutureExt;
use serde::{Deserialize, Serialize};

const GO: ExternalEvent<String> = ExternalEvent::new("Go");
const SEEDS: u64 = 40;

#[activity]
async fn charge() -> Result<u64> {
    Ok(7)
}

#[activity]
async fn ship() -> Result<String> {
    Ok("parcel".into())
}

#[activity]
async fn refund(payment: u64) -> u64 {
    payment
}

/// Fails if it was told.
#[activity]
async fn obedient(ctx: ActivityContext) -> Result<()> {
    match ctx.cancelled().now_or_never() {
        Some(told) => Err(told.into()),
        None => Ok(()),
    }
}

#[activity(retry = RetryPolicy::fixed(5, HOUR))]
async fn stubborn() -> Result<()> {
    Err(Error::msg("not today"))
}

#[derive(Default, Serialize, Deserialize)]
struct Letters(u64);

#[entity]
impl Letters {
    fn send(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// Knows nothing of cancellation and undoes by hand what it did.
#[orchestrator]
async fn order(ctx: &OrchestrationContext) -> Result<String> {
    let payment = ctx.call(charge, ()).await?;
    match fulfil(ctx).await {
        Ok(parcel) => Ok(parcel),
        Err(error) => {
            ctx.call(refund, payment).await?;
            Err(error)
        }
    }
}

async fn fulfil(ctx: &OrchestrationContext) -> Result<String> {
    ctx.wait_for_event(GO).await?;
    Ok(ctx.call(ship, ()).await?)
}

/// Two activities, one after the other: the first may well succeed though it was told.
#[orchestrator]
async fn sequence(ctx: &OrchestrationContext) -> Result<String> {
    let payment = ctx.call(charge, ()).await?;
    let shipped = ctx.call(ship, ()).await;
    if shipped.is_err() {
        ctx.call(refund, payment).await?;
    }
    Ok(shipped?)
}

/// Sends a letter after a day, unless it is cancelled.
#[orchestrator]
async fn reminder(ctx: &OrchestrationContext) -> Result<String> {
    ctx.timer(24 * HOUR).await;
    ctx.entity::<Letters>("box").send().signal();
    ctx.send_event("nobody", GO, "late".into());
    Ok("reminded".into())
}

/// Nothing that it waits for can tell it.
#[orchestrator]
async fn sleeper(ctx: &OrchestrationContext) -> Result<()> {
    loop {
        ctx.timer(HOUR).await;
    }
}

#[orchestrator]
async fn eternal(ctx: &OrchestrationContext, generation: u64) -> Result<u64> {
    let told = ctx.wait_for_event(GO).await;
    match (generation, told) {
        // The first generation does not care.
        (0, _) => ctx.continue_as_new(eternal, 1).await,
        (_, told) => told.map(|_| generation).map_err(Error::from),
    }
}

#[orchestrator]
async fn attentive(ctx: &OrchestrationContext) -> Result<String> {
    let mut first = ctx.cancelled();
    let mut second = first.clone();
    let mut go = ctx.wait_for_event(GO);
    assert!(!ctx.is_cancelled());
    dalsegno::select! {
        request = first => {
            assert!(ctx.is_cancelled());
            let again = (&mut second).await;
            ctx.call(refund, 1).await?;
            ctx.timer(HOUR).await;
            Ok(format!("ended well: {}", again.reason().or(request.reason()).unwrap_or("")))
        }
        go = go => Ok(go?),
    }
}

/// Returns the request itself as its error.
#[orchestrator]
async fn short(ctx: &OrchestrationContext) -> Result<()> {
    Err(ctx.cancelled().await.into())
}

#[orchestrator]
async fn waiting(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(obedient, ()).await?)
}

#[orchestrator]
async fn retrying(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(stubborn, ()).await?)
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Policy {
    Abandon,
    Terminate,
    Cancel,
}

#[orchestrator]
async fn child(ctx: &OrchestrationContext) -> Result<String> {
    let waited = ctx.wait_for_event(GO).await;
    if waited.is_err() {
        ctx.call(refund, 3).await?;
    }
    Ok(waited?)
}

#[orchestrator]
async fn parent(ctx: &OrchestrationContext, policy: Policy) -> Result<String> {
    let started = ctx.call(child, ()).instance_id("child");
    let child = match policy {
        Policy::Abandon => started,
        Policy::Terminate => started.terminate_with_parent(),
        Policy::Cancel => started.cancel_with_parent(),
    };
    Ok(child.await?)
}

fn app() -> App {
    App::new()
        .register(charge)
        .register(ship)
        .register(refund)
        .register(obedient)
        .register(stubborn)
        .register(order)
        .register(sequence)
        .register(reminder)
        .register(sleeper)
        .register(eternal)
        .register(attentive)
        .register(short)
        .register(waiting)
        .register(retrying)
        .register(child)
        .register(parent)
        .entity::<Letters>()
}

/// When the host dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Crash {
    Never,
    BeforeTheRequest,
    AfterTheRequest,
}

const CRASHES: [Crash; 3] = [Crash::Never, Crash::BeforeTheRequest, Crash::AfterTheRequest];

fn cancel<Out>(hub: &TestHub, instance: &TestInstance<Out>, crash: Crash) {
    assert!(try_cancel(hub, instance, crash));
}

/// Not when it ended before.
fn try_cancel<Out>(hub: &TestHub, instance: &TestInstance<Out>, crash: Crash) -> bool {
    if crash == Crash::BeforeTheRequest {
        hub.crash();
    }
    let is_asked = instance.cancel("enough").is_ok();
    if crash == Crash::AfterTheRequest {
        hub.crash();
    }
    hub.run_until(hub.now());
    is_asked
}

fn count<Out>(instance: &TestInstance<Out>, is: fn(&EventKind) -> bool) -> usize {
    let history = instance.history().unwrap();
    history.iter().filter(|event| is(&event.kind)).count()
}

fn assert_canceled<Out>(instance: &TestInstance<Out>, case: &str) {
    assert_eq!(instance.status(), Status::Canceled, "{case}");
    let row = instance.row().unwrap();
    assert_eq!(row.output.unwrap().as_str(), "\"enough\"", "{case}");
    assert!(row.failure.unwrap().is_cancelled(), "{case}");
    let requested = count(instance, |kind| matches!(kind, EventKind::CancelRequested { .. }));
    assert_eq!(requested, 1, "{case}");
}

#[test]
fn code_that_never_looks_unwinds_into_what_it_does_about_failures() {
    for crash in CRASHES {
        let hub = TestHub::new(app());
        let instance = hub.start(order, ());
        hub.run();
        cancel(&hub, &instance, crash);
        assert_canceled(&instance, &format!("{crash:?}"));
        assert_eq!((hub.attempts(refund), hub.attempts(ship)), (1, 0), "{crash:?}");
        let row = instance.row().unwrap();
        assert_eq!(
            row.failure.unwrap().to_string(),
            "Cancelled: event \"go\" failed: cancelled: enough"
        );
    }
}

#[test]
fn what_succeeds_after_it_was_told_counts_and_nothing_new_is_begun() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let hub = TestHub::seeded(app(), seed);
        let instance = hub.start(sequence, ());
        hub.steps((seed % 8) as usize);
        if !try_cancel(&hub, &instance, CRASHES[seed as usize % 3]) {
            continue;
        }
        hub.run();
        let undone = hub.attempts(refund) > 0;
        let paid = count(
            &instance,
            |kind| matches!(kind, EventKind::TaskCompleted { task, .. } if task.0 == 0),
        ) > 0;
        outcomes.insert((instance.status(), undone));
        match instance.status() {
            Status::Completed => assert!(paid && !undone, "seed {seed}"),
            status => {
                assert_eq!(status, Status::Canceled, "seed {seed}");
                assert_eq!(undone, paid, "seed {seed}: what was paid is paid back");
            }
        }
    }
    assert!(outcomes.contains(&(Status::Canceled, true)), "{outcomes:?}");
    assert!(outcomes.contains(&(Status::Canceled, false)), "{outcomes:?}");
}

#[test]
fn a_timer_ends_early_and_what_follows_it_is_not_done() {
    for crash in CRASHES {
        let hub = TestHub::new(app());
        let instance = hub.start(reminder, ());
        hub.run_until(hub.now());
        cancel(&hub, &instance, crash);
        assert_canceled(&instance, &format!("{crash:?}"));
        hub.run();
        assert_eq!(
            hub.entity_state::<Letters>("box").map_or(0, |letters| letters.0),
            0,
            "{crash:?}"
        );
        assert_eq!(
            count(&instance, |kind| matches!(kind, EventKind::EventSent { .. })),
            0,
            "{crash:?}"
        );
    }
}

#[test]
fn code_that_only_sleeps_ends_at_its_next_sleep() {
    let hub = TestHub::new(app());
    let instance = hub.start(sleeper, ());
    hub.advance(HOUR);
    cancel(&hub, &instance, Crash::Never);
    assert_canceled(&instance, "a loop over a timer");
}

#[test]
fn code_that_looks_decides_by_itself() {
    for crash in CRASHES {
        let hub = TestHub::new(app());
        let instance = hub.start(attentive, ());
        hub.run_until(hub.now());
        cancel(&hub, &instance, crash);
        assert_eq!(
            instance.status(),
            Status::Running,
            "{crash:?}: its new timer is not cut short"
        );
        hub.run();
        assert_eq!(instance.output().unwrap(), "ended well: enough", "{crash:?}");

        let instance = hub.start(short, ());
        hub.run_until(hub.now());
        cancel(&hub, &instance, crash);
        assert_canceled(&instance, &format!("{crash:?}"));
    }
}

#[test]
fn an_activity_is_told_and_its_failure_is_a_cancellation() {
    let mut attempts = BTreeSet::new();
    for seed in 0..5 * SEEDS {
        let hub = TestHub::seeded(app(), seed);
        let instance = hub.start(waiting, ());
        hub.steps((seed % 6) as usize);
        if !try_cancel(&hub, &instance, CRASHES[seed as usize % 3]) {
            continue;
        }
        if instance.status() == Status::Canceled {
            assert_canceled(&instance, &format!("seed {seed}"));
            attempts.insert(hub.attempts(obedient));
        }
    }
    assert!(attempts.contains(&0), "withdrawn before it ran: {attempts:?}");
    assert!(attempts.contains(&1), "told while it ran: {attempts:?}");
}

#[test]
fn an_activity_that_waits_for_its_next_attempt_has_none() {
    for crash in CRASHES {
        let hub = TestHub::new(app());
        let instance = hub.start(retrying, ());
        hub.run_until(hub.now());
        assert_eq!(hub.attempts(stubborn), 1);
        cancel(&hub, &instance, crash);
        assert_canceled(&instance, &format!("{crash:?}"));
        hub.run();
        assert_eq!(hub.attempts(stubborn), 1, "{crash:?}");
    }
}

#[test]
fn children_follow_a_cancelled_parent_by_their_policy() {
    for policy in [Policy::Abandon, Policy::Terminate, Policy::Cancel] {
        for crash in CRASHES {
            let case = format!("{policy:?}, {crash:?}");
            let hub = TestHub::new(app());
            let instance = hub.start_as("parent", parent, policy).unwrap();
            hub.run();
            cancel(&hub, &instance, crash);
            assert_canceled(&instance, &case);
            let child = hub.instance(child, "child").unwrap();
            let (status, undone) = match policy {
                Policy::Abandon => (Status::Running, 0),
                Policy::Terminate => (Status::Terminated, 0),
                Policy::Cancel => (Status::Canceled, 1),
            };
            assert_eq!((child.status(), hub.attempts(refund)), (status, undone), "{case}");
        }
    }
}

#[test]
fn a_terminated_parent_has_its_child_cancelled_if_it_was_started_so() {
    let hub = TestHub::new(app());
    let instance = hub.start_as("parent", parent, Policy::Cancel).unwrap();
    hub.run();
    instance.terminate("now").unwrap();
    hub.run();
    let child = hub.instance(child, "child").unwrap();
    assert_eq!(child.status(), Status::Canceled);
    let reason = child.row().unwrap().output.unwrap();
    assert_eq!(reason.as_str(), "\"the parent parent was terminated\"");
}

#[test]
fn a_suspended_instance_hears_of_it_when_it_is_resumed_and_once() {
    for crash in CRASHES {
        let hub = TestHub::new(app());
        let instance = hub.start(order, ());
        hub.run();
        instance.suspend("pause").unwrap();
        hub.run();
        cancel(&hub, &instance, crash);
        instance.cancel("again").unwrap();
        hub.run();
        assert_eq!(instance.status(), Status::Suspended, "{crash:?}");
        instance.resume("on").unwrap();
        hub.run();
        assert_canceled(&instance, &format!("{crash:?}"));
    }
}

#[test]
fn it_stands_until_the_instance_ends_also_through_continue_as_new() {
    for crash in CRASHES {
        let hub = TestHub::new(app());
        let instance = hub.start(eternal, 0);
        hub.run();
        cancel(&hub, &instance, crash);
        assert_canceled(&instance, &format!("{crash:?}"));
    }
}

#[test]
fn a_finished_instance_refuses_it_and_a_canceled_one_is_not_rewound() {
    let hub = TestHub::new(app());
    let instance = hub.start(order, ());
    hub.run();
    cancel(&hub, &instance, Crash::Never);
    assert_canceled(&instance, "the first request");
    assert!(
        instance
            .cancel("again")
            .unwrap_err()
            .to_string()
            .contains("is Canceled")
    );
    assert!(
        instance
            .rewind("again")
            .unwrap_err()
            .to_string()
            .contains("Canceled")
    );
}

#[test]
fn kept_and_evicted_code_hear_of_it_at_the_same_place() {
    TestHub::explore(app, 0..SEEDS, |hub| {
        let orders = [hub.start(order, ()), hub.start(sequence, ())];
        let reminder = hub.start(reminder, ());
        let parent = hub.start_as("parent", parent, Policy::Cancel).unwrap();
        hub.steps(9);
        orders.iter().for_each(|order| drop(order.cancel("enough")));
        reminder.cancel("enough").unwrap();
        parent.cancel("enough").unwrap();
        hub.run();
        assert_eq!(parent.status(), Status::Canceled);
    });
}
