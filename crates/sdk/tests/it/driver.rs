//! Sequence, fan-out, race, events, children, versions, continue-as-new.

use dalsegno::{
    EventKind, ExternalEvent, Failure, HOUR, OrchestrationContext, Result, RetryPolicy, SECOND, activity,
    join_all, orchestrator, try_join_all,
};
use dalsegno_core::{Action, TaskId};
use expect_test::expect;

use crate::harness::{Play, done, failed, fired, json, raised, show};

#[activity]
async fn greet(city: String) -> String {
    format!("Hello {city}!")
}

#[orchestrator]
async fn hello_sequence(ctx: &OrchestrationContext) -> Result<Vec<String>> {
    let mut greetings = Vec::new();
    for city in ["Tokyo", "Seattle"] {
        greetings.push(ctx.call(greet, city.into()).await?);
    }
    Ok(greetings)
}

#[test]
fn a_sequence_asks_one_after_the_other_live_and_evicted() {
    let mut play = Play::new(hello_sequence);
    expect![[r#"0: greet "Tokyo""#]].assert_eq(&show(&play.start(())));
    play.evict();
    expect![[r#"1: greet "Seattle""#]].assert_eq(&show(&play.turn(vec![done(0, "a")])));
    play.evict();
    expect![[r#"complete ["a","b"]"#]].assert_eq(&show(&play.turn(vec![done(1, "b")])));
    play.evict();
}

#[orchestrator]
async fn fan_out(ctx: &OrchestrationContext, cities: Vec<String>) -> Result<usize> {
    let lengths = cities.into_iter().map(|city| ctx.call(greet, city));
    Ok(try_join_all(lengths).await?.iter().map(String::len).sum())
}

#[test]
fn a_fan_out_takes_answers_in_any_order() {
    let cities: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let mut play = Play::new(fan_out);
    assert_eq!(play.start(cities).len(), 40);
    for task in (1..40).rev() {
        assert_eq!(play.turn(vec![done(task, "ab")]), vec![]);
    }
    expect!["complete 80"].assert_eq(&show(&play.turn(vec![done(0, "ab")])));
}

#[test]
fn a_failed_task_keeps_its_kind() {
    let mut play = Play::new(hello_sequence);
    play.start(());
    let actions = play.turn(vec![failed(
        0,
        Failure::new("NoSuchCity", "Tokyo is gone").permanent(),
    )]);
    expect![[r#"fail NoSuchCity: activity "greet" failed: Tokyo is gone"#]].assert_eq(&show(&actions));
    let Some(Action::Fail { failure }) = actions.last() else {
        panic!("it failed");
    };
    assert!(failure.permanent);
    assert_eq!(
        failure.cause.as_ref().map(|cause| cause.message.as_str()),
        Some("Tokyo is gone")
    );
}

const APPROVAL: ExternalEvent<String> = ExternalEvent::new("Approval");

#[orchestrator]
async fn approve(ctx: &OrchestrationContext) -> Result<String> {
    match ctx.timeout(72 * HOUR, ctx.wait_for_event(APPROVAL)).await {
        Ok(approver) => Ok(format!("approved by {}", approver?)),
        Err(_elapsed) => Ok("escalated".into()),
    }
}

#[orchestrator]
async fn approve_by_hand(ctx: &OrchestrationContext) -> Result<String> {
    let mut approval = ctx.wait_for_event(APPROVAL);
    let mut deadline = ctx.timer(72 * HOUR);
    dalsegno::select! {
        approver = approval => Ok(format!("approved by {}", approver?)),
        () = deadline => Ok("escalated".into()),
    }
}

#[test]
fn an_event_beats_its_deadline_and_cancels_it() {
    for orchestrator in [approve as fn() -> _, approve_by_hand] {
        let mut play = Play::new(orchestrator);
        expect!["0: timer 259200000001µs"].assert_eq(&show(&play.start(())));
        play.evict();
        let actions = play.turn(vec![raised("APPROVAL", "Ada"), fired(0)]);
        expect![[r#"
            cancel timer 0
            complete "approved by Ada""#]]
        .assert_eq(&show(&actions));
        play.evict();
    }
}

#[test]
fn a_deadline_beats_a_late_event() {
    for orchestrator in [approve as fn() -> _, approve_by_hand] {
        let mut play = Play::new(orchestrator);
        play.start(());
        let actions = play.turn(vec![fired(0), raised("approval", "Ada")]);
        expect![[r#"complete "escalated""#]].assert_eq(&show(&actions));
        assert_eq!(
            play.execution().unconsumed_events(),
            vec![raised("approval", "Ada")]
        );
    }
}

#[test]
fn an_event_may_come_before_the_first_turn() {
    let mut play = Play::new(approve);
    play.turn(vec![raised("approval", "Ada")]);
    let actions = play.start(());
    expect![[r#"
        0: timer 259200000002µs
        cancel timer 0
        complete "approved by Ada""#]]
    .assert_eq(&show(&actions));
}

const NUMBER: ExternalEvent<u32> = ExternalEvent::new("number");
const WORD: ExternalEvent<String> = ExternalEvent::new("word");

#[orchestrator]
async fn gather(ctx: &OrchestrationContext) -> Result<(u32, u32, String)> {
    drop(ctx.wait_for_event(NUMBER));
    ctx.call(greet, String::new()).await?;
    let first = ctx.wait_for_event(NUMBER);
    let second = ctx.wait_for_event(NUMBER);
    let word = ctx.wait_for_event(WORD).await?;
    Ok((first.await?, second.await?, word))
}

#[test]
fn events_are_kept_by_name_first_in_first_out() {
    let mut play = Play::new(gather);
    play.start(());
    play.turn(vec![raised("number", 1), raised("Number", 2), raised("other", 9)]);
    play.turn(vec![done(0, "x")]);
    play.evict();
    expect![[r#"complete [1,2,"w"]"#]].assert_eq(&show(&play.turn(vec![raised("WORD", "w")])));
    assert_eq!(play.execution().unconsumed_events(), vec![raised("other", 9)]);
}

#[orchestrator(version = "2")]
async fn parent(ctx: &OrchestrationContext) -> Result<()> {
    let first = ctx
        .call(hello_sequence, ())
        .version("1.5")
        .retry(RetryPolicy::fixed(3, SECOND));
    let second = ctx
        .call(hello_sequence, ())
        .instance_id("mine")
        .terminate_with_parent();
    let detached = ctx.start(fan_out, vec![]).instance_id("other");
    ctx.send_event(detached.id().as_str(), NUMBER, 5);
    let named = ctx.call_orchestrator_named::<u32>("elsewhere", 1);
    ctx.set_custom_status("busy");
    assert!(ctx.version().at_least("1.9"));
    let results = join_all([first, second]).await;
    named.await?;
    results.into_iter().try_for_each(|result| result.map(|_| ()))?;
    Ok(())
}

#[test]
fn children_have_ids_that_replay_and_options() {
    let mut play = Play::new(parent);
    let actions = play.start(());
    expect![[r#"
        0: start hello_sequence Some("1.5") as 00000000000000000000000000000007-0 null Awaited
        1: start hello_sequence None as mine null Awaited
        2: start fan_out None as other [] Detached
        3: event number to other 5
        4: start elsewhere None as 00000000000000000000000000000007-4 1 Awaited
        status "busy""#]]
    .assert_eq(&show(&actions));
    play.evict();
    let ended = |task, result: &str| EventKind::SubOrchestrationInstanceCompleted {
        task: TaskId(task),
        result: Some(result.into()),
    };
    play.turn(vec![ended(0, "[]"), ended(4, "1")]);
    let failure = Failure::new("Terminated", "over");
    let task = TaskId(1);
    let actions = play.turn(vec![EventKind::SubOrchestrationInstanceFailed { task, failure }]);
    expect![[r#"fail Terminated: orchestration "hello_sequence" failed: over"#]].assert_eq(&show(&actions));
}

#[orchestrator]
async fn monitor(ctx: &OrchestrationContext, total: u32) -> Result<u32> {
    let left_alone = ctx.call(greet, String::new());
    let more = ctx.wait_for_event(NUMBER).await?;
    if total > 10 {
        return Ok(total);
    }
    let next = ctx.continue_as_new(monitor, total + more);
    drop(left_alone);
    drop(ctx.timer(HOUR));
    next.await
}

#[test]
fn continue_as_new_ends_the_execution_and_keeps_unread_events() {
    let mut play = Play::new(monitor);
    play.start(3);
    let actions = play.turn(vec![
        raised("number", 4),
        raised("number", 5),
        raised("word", "x"),
    ]);
    expect!["continue as new None 7"].assert_eq(&show(&actions));
    let unread = vec![raised("number", 5), raised("word", "x")];
    assert_eq!(play.execution().unconsumed_events(), unread);
}

#[orchestrator]
async fn clock(ctx: &OrchestrationContext) -> Result<(i64, i64, String, bool)> {
    let (before, id) = (ctx.now(), ctx.new_uuid());
    ctx.timer(SECOND).await;
    assert_ne!(id, ctx.new_uuid());
    Ok((before.as_micros(), ctx.now().as_micros(), id, ctx.is_replaying()))
}

#[test]
fn time_and_ids_are_those_of_the_turn() {
    let mut play = Play::new(clock);
    play.at(1_000).start(());
    play.evict();
    let actions = play.at(5_000_000).turn(vec![fired(0)]);
    expect![[r#"complete [1000,5000000,"8db2f8da-bcf1-5b32-a528-7efe6bd89240",false]"#]]
        .assert_eq(&show(&actions));
}

#[orchestrator]
async fn wait_once(ctx: &OrchestrationContext) -> Result<u32> {
    Ok(ctx.wait_for_event(NUMBER).await?)
}

#[test]
fn a_waiting_execution_is_small_and_says_what_it_waits_for() {
    let mut play = Play::new(wait_once);
    play.start(());
    let size = play.execution().size_bytes();
    assert!(size < 1_536, "{size} bytes");
    let waits: Vec<String> = play
        .execution()
        .waits_for()
        .into_iter()
        .map(|reason| reason.text)
        .collect();
    assert_eq!(waits, [r#"event "number""#]);
}

#[test]
fn an_answer_for_a_dropped_task_is_fine() {
    let mut play = Play::new(monitor);
    play.start(11);
    play.turn(vec![done(0, "nobody asks"), done(0, "twice")]);
    expect!["complete 11"].assert_eq(&show(&play.turn(vec![raised("number", 1)])));
}

#[test]
fn an_input_that_does_not_fit_fails_the_orchestration() {
    let mut play = Play::new(monitor);
    let actions = play.start("three");
    expect![[r#"fail Decode: orchestrator "monitor" cannot read its input: invalid type: string "three", expected u32 at line 1 column 7"#]]
        .assert_eq(&show(&actions));
    assert_eq!(json("three").as_str(), "\"three\"");
}
