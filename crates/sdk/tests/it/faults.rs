//! What does not fit: each fault with the text that people get.

use std::sync::Mutex;

use dalsegno::{Fault, HOUR, OrchestrationContext, Orchestrator, Result, activity, orchestrator};
use expect_test::{Expect, expect};
use futures::channel::oneshot;

use crate::harness::{Play, done, fired, without_place};

#[activity]
async fn charge(cents: u32) -> u32 {
    cents
}

#[activity]
async fn ship(order: String) -> String {
    order
}

#[orchestrator(name = "order")]
async fn order(ctx: &OrchestrationContext) -> Result<u32> {
    Ok(ctx.call(charge, 100).await?)
}

#[orchestrator(name = "order")]
async fn other_activity(ctx: &OrchestrationContext) -> Result<String> {
    Ok(ctx.call(ship, "seven".into()).await?)
}

#[orchestrator(name = "order")]
async fn other_input(ctx: &OrchestrationContext) -> Result<u32> {
    Ok(ctx.call(charge, 101).await?)
}

#[orchestrator(name = "order")]
async fn one_more(ctx: &OrchestrationContext) -> Result<u32> {
    let mut timer = ctx.timer(HOUR);
    let mut call = ctx.call(charge, 100);
    dalsegno::select! {
        charged = call => Ok(charged?),
        () = timer => Ok(0),
    }
}

#[orchestrator(name = "order")]
async fn one_behind(ctx: &OrchestrationContext) -> Result<u32> {
    let charged = ctx.call(charge, 100);
    ctx.timer(HOUR).await;
    Ok(charged.await?)
}

#[orchestrator(name = "order")]
async fn nothing_asked(_ctx: &OrchestrationContext) -> Result<u32> {
    Ok(1)
}

/// A text without the line and column of this file.
fn check(fault: &Fault, expected: &Expect) {
    let file = file!();
    let text = without_place(&fault.to_string());
    let cut = match text.split_once(file) {
        None => text,
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit());
            format!("{before}faults.rs{rest}")
        }
    };
    expected.assert_eq(&cut);
}

/// What is recorded, what is asked, and whether a place in the code is told.
fn sides(fault: &Fault) -> (Option<&str>, Option<&str>, bool) {
    let sides = fault.divergence.as_deref().expect("it has two sides");
    let place = sides.location.as_deref();
    assert!(
        place.is_none_or(|place| place.contains("faults.rs:")),
        "{place:?}"
    );
    (sides.recorded.as_deref(), sides.asked.as_deref(), place.is_some())
}

#[test]
fn a_divergence_has_its_two_sides() {
    let mut play = Play::new(order);
    play.start(());
    play.turn(vec![done(0, 100)]);
    let charge = r#"activity "charge" with 100 (task 0)"#;
    let ship = r#"activity "ship" with "seven" (task 0)"#;
    let timer = "a timer for 3600000001µs (task 1)";
    assert_eq!(
        sides(&play.replay_with(other_activity)),
        (Some(charge), Some(ship), true)
    );
    assert_eq!(sides(&play.replay_with(one_behind)), (None, Some(timer), true));
    let mut play = Play::new(two);
    play.start(());
    let second = r#"activity "charge" with 2 (task 1)"#;
    assert_eq!(sides(&play.replay_with(only_one)), (Some(second), None, false));
}

fn diverges<Out: serde::Serialize + 'static>(code: fn() -> Orchestrator<(), Out>, expected: &Expect) {
    let mut play = Play::new(order);
    play.start(());
    play.turn(vec![done(0, 100)]);
    check(&play.replay_with(code), expected);
}

#[test]
fn another_call_diverges() {
    diverges(
        other_activity,
        &expect![[
            r#"Diverged: history records activity "charge" with 100 (task 0); the code asked for activity "ship" with "seven" (task 0) at faults.rs. Was the code changed, or does it depend on a HashMap, a clock or chance? Deploy the code that fits, register this one as a new version, or rewind the instance"#
        ]],
    );
}

#[test]
fn another_input_diverges() {
    diverges(
        other_input,
        &expect![[
            r#"Diverged: history records activity "charge" with 100 (task 0); the code asked for activity "charge" with 101 (task 0) at faults.rs. The input changed: was a field added, or does it come from a HashMap, a clock or chance? Deploy the code that fits, register this one as a new version, or rewind the instance"#
        ]],
    );
}

#[test]
fn a_call_before_diverges() {
    diverges(
        one_more,
        &expect![[
            r#"Diverged: history records activity "charge" with 100 (task 0); the code asked for a timer for 3600000001µs (task 0) at faults.rs. Was the code changed, or does it depend on a HashMap, a clock or chance? Deploy the code that fits, register this one as a new version, or rewind the instance"#
        ]],
    );
}

#[test]
fn a_call_behind_diverges_at_the_end_of_the_turn() {
    diverges(
        one_behind,
        &expect![
            "Diverged: history records nothing more in this turn; the code asked for a timer for 3600000001µs (task 1) at faults.rs. Deploy the code that fits, register this one as a new version, or rewind the instance"
        ],
    );
}

#[test]
fn a_missing_call_diverges() {
    diverges(
        nothing_asked,
        &expect![[
            r#"Diverged: history records activity "charge" with 100 (task 0); the code asked for the end with 1 at faults.rs. Was the code changed, or does it depend on a HashMap, a clock or chance? Deploy the code that fits, register this one as a new version, or rewind the instance"#
        ]],
    );
}

#[orchestrator(name = "two")]
async fn two(ctx: &OrchestrationContext) -> Result<()> {
    let (one, other) = (ctx.call(charge, 1), ctx.call(charge, 2));
    one.await?;
    other.await?;
    Ok(())
}

#[orchestrator(name = "two")]
async fn only_one(ctx: &OrchestrationContext) -> Result<()> {
    ctx.call(charge, 1).await?;
    Ok(())
}

#[test]
fn history_may_record_more_than_is_asked() {
    let mut play = Play::new(two);
    play.start(());
    check(
        &play.replay_with(only_one),
        &expect![[
            r#"Surplus: history records activity "charge" with 2 (task 1); the code asked for nothing more in that turn. Deploy the code that fits, register this one as a new version, or rewind the instance"#
        ]],
    );
}

#[test]
fn an_answer_to_a_task_that_nobody_asked_for() {
    let mut play = Play::new(order);
    play.start(());
    let fault = play.try_turn(vec![done(5, 1)]).expect_err("there is no task 5");
    check(
        &fault,
        &expect![
            "UnknownTask: history records that task 5, an activity, ended; the code asked for no such task. Deploy the code that fits, register this one as a new version, or rewind"
        ],
    );
    let mut play = Play::new(order);
    play.start(());
    let fault = play.try_turn(vec![fired(0)]).expect_err("task 0 is no timer");
    check(
        &fault,
        &expect![
            "UnknownTask: history records that task 0, a timer, ended; the code asked for an activity at faults.rs. Deploy the code that fits, register this one as a new version, or rewind"
        ],
    );
}

static FOREIGN: Mutex<Option<oneshot::Sender<()>>> = Mutex::new(None);

#[orchestrator]
async fn waits_for_a_thread(ctx: &OrchestrationContext) -> Result<()> {
    let (sender, receiver) = oneshot::channel();
    *FOREIGN.lock().expect("not poisoned") = Some(sender);
    let mut timer = ctx.timer(HOUR);
    let mut receiver = receiver;
    dalsegno::select! {
        _ = receiver => Ok(()),
        () = timer => Ok(()),
    }
}

#[test]
fn a_wake_from_outside_is_noticed_at_the_next_event() {
    let mut play = Play::new(waits_for_a_thread);
    play.start(());
    let sender = FOREIGN.lock().expect("not poisoned").take();
    sender.expect("the code ran").send(()).expect("the code waits");
    let fault = play.try_turn(vec![fired(0)]).expect_err("somebody else woke it");
    check(
        &fault,
        &expect![
            "ForeignWake: something that is not durable woke the orchestrator: another thread, a runtime's timer or socket. In a replay it would not happen at the same place; do such work in an activity"
        ],
    );
}

#[orchestrator]
async fn waits_for_nothing(_ctx: &OrchestrationContext) -> Result<()> {
    futures::future::pending().await
}

#[test]
fn a_wait_that_nothing_durable_ends_is_noticed_at_once() {
    let fault = Play::new(waits_for_nothing)
        .try_start(())
        .expect_err("nobody would wake it");
    check(
        &fault,
        &expect![
            "ForeignWait: the orchestrator waits for something that is not durable: after a restart nobody would wake it. Wait for activities, timers, events, entities and sub-orchestrations of its context; everything else belongs into an activity"
        ],
    );
}

#[orchestrator]
async fn channels_between_branches(ctx: &OrchestrationContext) -> Result<u32> {
    let (sender, receiver) = oneshot::channel();
    let sending = async {
        let charged = ctx.call(charge, 1).await;
        sender.send(charged).expect("the other branch waits");
    };
    let (received, ()) = futures::future::join(receiver, sending).await;
    Ok(received??)
}

#[test]
fn channels_between_branches_are_legal() {
    let mut play = Play::new(channels_between_branches);
    play.start(());
    play.evict();
    assert_eq!(play.turn(vec![done(0, 5)]).len(), 1);
}

#[orchestrator]
async fn panics(_ctx: &OrchestrationContext) -> Result<()> {
    std::panic::resume_unwind(Box::new("index out of bounds"))
}

#[orchestrator(unchecked)]
async fn sleeps(_ctx: &OrchestrationContext) -> Result<()> {
    tokio::time::sleep(HOUR).await;
    Ok(())
}

#[test]
fn a_panic_is_a_fault() {
    let fault = Play::new(panics).try_start(()).expect_err("it panics");
    check(
        &fault,
        &expect!["Panicked: the orchestrator panicked: index out of bounds"],
    );
    let fault = Play::new(sleeps).try_start(()).expect_err("tokio panics");
    check(
        &fault,
        &expect![
            "Panicked: the orchestrator panicked: there is no reactor running, must be called from the context of a Tokio 1.x runtime. Tokio does not run in an orchestrator: use ctx.timer(..), or do the work in an activity"
        ],
    );
}

#[orchestrator]
async fn asks_for_ever(ctx: &OrchestrationContext) -> Result<()> {
    loop {
        drop(ctx.call(charge, 1));
    }
}

#[orchestrator]
async fn wakes_itself(_ctx: &OrchestrationContext) -> Result<()> {
    futures::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await
}

#[test]
fn a_busy_loop_is_stopped() {
    let fault = Play::new(asks_for_ever)
        .try_start(())
        .expect_err("too many actions");
    check(
        &fault,
        &expect![
            "BusyLoop: one turn asked for more than 200000 actions, at faults.rs await some of them before asking for more"
        ],
    );
    let fault = Play::new(wakes_itself).try_start(()).expect_err("too many polls");
    check(
        &fault,
        &expect![
            "BusyLoop: the orchestrator woke itself 100000 times after one event and never waited for anything durable"
        ],
    );
}

#[orchestrator]
async fn late_option(ctx: &OrchestrationContext) -> Result<()> {
    let late = ctx.call(charge, 1);
    ctx.timer(HOUR).await;
    late.timeout(HOUR).await?;
    Ok(())
}

#[orchestrator(name = "another")]
async fn renamed(ctx: &OrchestrationContext) -> Result<u32> {
    ctx.continue_as_new(order, ()).await
}

#[test]
fn options_and_tail_calls_have_their_place() {
    let mut play = Play::new(late_option);
    play.start(());
    let fault = play
        .try_turn(vec![fired(1)])
        .expect_err("the call was made a turn ago");
    check(
        &fault,
        &expect![
            "Diverged: `.timeout(..)` came after an await, when the task was already asked for: set options where the call is made"
        ],
    );
    let fault = Play::new(renamed).try_start(()).expect_err("another name");
    check(
        &fault,
        &expect![[
            r#"Diverged: "another" continues as "order" at faults.rs continue-as-new keeps the name; start the other one instead"#
        ]],
    );
}
