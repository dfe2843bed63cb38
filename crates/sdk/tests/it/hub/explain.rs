//! Why an instance does not move: the same answer in this process and over HTTP.

use std::sync::Arc;

use dalsegno::{
    ActivityContext, App, Client, Error, Explanation, ExternalEvent, HOUR, Instance, Limiter,
    OrchestrationContext, Reason, Result, RetryPolicy, activity, entity, orchestrator,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{SOON, on_both};

const APPROVED: ExternalEvent<u32> = ExternalEvent::new("Approved");

#[derive(Clone)]
struct Gate(Arc<Semaphore>);

#[activity]
async fn gated(ctx: ActivityContext) -> Result<()> {
    let gate = &ctx.data::<Gate>().0;
    gate.acquire().await.expect("it is never closed").forget();
    Ok(())
}

#[activity(retry = RetryPolicy::fixed(5, HOUR))]
async fn failing() -> Result<()> {
    Err(Error::with_kind("Warehouse", "it answered 500"))
}

#[activity(limiter = Limiter::new("hourly").rate(1, HOUR).burst(1))]
async fn limited() -> Result<()> {
    Ok(())
}

#[activity]
async fn elsewhere() -> Result<()> {
    Ok(())
}

#[derive(Default, Serialize, Deserialize)]
struct Account {
    cents: i64,
}

#[entity]
impl Account {
    fn balance(&self) -> i64 {
        self.cents
    }
}

#[orchestrator]
async fn works(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(gated, ()).await?)
}

#[orchestrator]
async fn fails(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(failing, ()).await?)
}

#[orchestrator]
async fn hurries(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(limited, ()).await?)
}

#[orchestrator]
async fn lost(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(elsewhere, ()).await?)
}

#[orchestrator]
async fn sleeps(ctx: &OrchestrationContext) -> Result<()> {
    ctx.timer(HOUR).await;
    Ok(())
}

#[orchestrator]
async fn listens(ctx: &OrchestrationContext) -> Result<u32> {
    Ok(ctx.wait_for_event(APPROVED).await?)
}

#[orchestrator]
async fn trusts(ctx: &OrchestrationContext) -> Result<u32> {
    Ok(ctx.call(listens, ()).instance_id("the-child").await?)
}

#[orchestrator]
async fn locks(ctx: &OrchestrationContext) -> Result<()> {
    let account = ctx.entity::<Account>("ada");
    let _lock = ctx.lock([account.id()]).await;
    ctx.timer(HOUR).await;
    Ok(())
}

#[orchestrator]
async fn calls(ctx: &OrchestrationContext) -> Result<i64> {
    Ok(ctx.entity::<Account>("ada").balance().await?)
}

fn app() -> App {
    let app = App::new().register(works).register(fails).register(hurries);
    let app = app.register(lost).register(sleeps).register(listens);
    let app = app.register(trusts).register(locks).register(calls);
    let app = app.register(gated).register(failing).register(limited);
    app.entity::<Account>().data(Gate(Arc::new(Semaphore::new(0))))
}

/// Asks until the first reason is of this kind.
async fn explained<Out>(instance: &Instance<Out>, kind: &str) -> Explanation {
    let look = async {
        loop {
            let explanation = instance.explain().await.unwrap();
            if explanation
                .reasons
                .first()
                .is_some_and(|reason| reason.kind == kind)
            {
                return explanation;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(SOON, look).await;
    found.unwrap_or_else(|_| panic!("{} is never {kind}", instance.id()))
}

fn first(explanation: &Explanation) -> &Reason {
    explanation.reasons.first().expect("there is a reason")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_awaited_is_told_with_its_place_and_time() {
    on_both(app, async |client: Client| {
        let at_work = explained(&client.start(works, ()).await.unwrap(), "activity").await;
        let reason = first(&at_work);
        assert_eq!(reason.text, "task 0: activity \"gated\" is at work");
        assert_eq!((reason.task, reason.name.as_deref()), (Some(0), Some("gated")));
        let location = reason.location.as_deref().expect("the code is known");
        assert!(location.contains("explain.rs:"), "{location}");
        assert!(
            reason.since.as_deref() >= Some(at_work.since.as_str()),
            "{at_work:?}"
        );

        let asleep = explained(&client.start(sleeps, ()).await.unwrap(), "timer").await;
        assert!(
            first(&asleep).text.starts_with("task 0: timer, due in 59 min"),
            "{asleep:?}"
        );
        assert!(first(&asleep).due > first(&asleep).since, "{asleep:?}");

        let instance = client.start(listens, ()).id("it's $1").await.unwrap();
        let listening = explained(&instance, "event").await;
        assert_eq!(listening.summary, "event \"approved\"");
        let step = listening.next.first().expect("it can be raised");
        assert_eq!(
            step.cli.as_deref(),
            Some(r"dalsegno raise 'it'\''s $1' approved -d JSON")
        );
        let path = "/runtime/dalsegno/v1/instances/it%27s%20%241/events/approved";
        assert_eq!(step.path.as_deref(), Some(path));

        instance.suspend("").await.unwrap();
        let suspended = explained(&instance, "suspended").await;
        assert_eq!(
            suspended.next[0].cli.as_deref(),
            Some(r"dalsegno resume 'it'\''s $1'")
        );
        assert_eq!(suspended.reasons[1].kind, "event");
        instance.terminate("").await.unwrap();
        let over = instance.explain().await.unwrap();
        assert_eq!(
            (over.summary.as_str(), over.reasons.len()),
            ("it is Terminated", 0)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_what_is_awaited_is_told() {
    on_both(app, async |client: Client| {
        let parent = client.start(trusts, ()).await.unwrap();
        let child = client.instance(listens, "the-child").unwrap();
        explained(&child, "event").await;
        let trusting = explained(&parent, "child").await;
        let text = "task 0: child the-child (listens) is Running: event \"approved\"";
        assert_eq!(first(&trusting).text, text);
        assert_eq!(
            trusting.next[0].cli.as_deref(),
            Some("dalsegno explain the-child")
        );

        let holder = client.start(locks, ()).id("holder").await.unwrap();
        explained(&holder, "timer").await;
        let kinds: Vec<_> = holder
            .explain()
            .await
            .unwrap()
            .reasons
            .into_iter()
            .map(|r| r.kind)
            .collect();
        assert_eq!(kinds, ["timer", "lockHeld"]);
        let second = explained(&client.start(locks, ()).await.unwrap(), "lock").await;
        let third = explained(&client.start(calls, ()).await.unwrap(), "lock").await;
        for held in [second, third] {
            assert!(
                first(&held).text.ends_with("@account@ada is locked by holder"),
                "{held:?}"
            );
            assert_eq!(first(&held).owner.as_deref(), Some("holder"));
            assert_eq!(held.next[0].cli.as_deref(), Some("dalsegno explain holder"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stuck_is_listed_and_nothing_else() {
    on_both(app, async |client: Client| {
        client.start(hurries, ()).await.unwrap().wait().await.unwrap();
        client.start(sleeps, ()).id("a-sleeps").await.unwrap();
        client.start(works, ()).id("a-works").await.unwrap();
        let failing = client.start(fails, ()).id("b-fails").await.unwrap();
        let hurried = client.start(hurries, ()).id("c-hurries").await.unwrap();
        let lost = client.start(lost, ()).id("d-lost").await.unwrap();
        let suspended = client.start(listens, ()).id("e-suspended").await.unwrap();
        suspended.suspend("lunch").await.unwrap();

        let retried = explained(&failing, "retry").await;
        let reason = first(&retried);
        assert_eq!((reason.attempt, reason.attempts_max), (Some(2), Some(5)));
        assert_eq!(reason.last_failure.as_deref(), Some("Warehouse: it answered 500"));
        let limited = explained(&hurried, "limiter").await;
        let text =
            "task 0: activity \"limited\" waits for limiter \"hourly\": 0 are before it; its next token";
        assert!(first(&limited).text.starts_with(text), "{limited:?}");
        assert_eq!(first(&limited).owner.as_deref(), Some("hourly"));
        let missing = explained(&lost, "noWorker").await;
        let text = &missing.next[0].text;
        assert!(
            text.contains("offers \"elsewhere\"") && text.contains("gated"),
            "{text}"
        );
        explained(&suspended, "suspended").await;

        let all = client.stuck(10).await.unwrap();
        let ids: Vec<_> = all.rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(
            (ids.as_slice(), all.more),
            (&["b-fails", "c-hurries", "d-lost", "e-suspended"][..], false)
        );
        let two = client.stuck(2).await.unwrap();
        assert_eq!((two.rows.len(), two.more), (2, true));
        client
            .stuck(1_001)
            .await
            .map(|stuck| stuck.rows.len())
            .expect_err("there is a most");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_code_out_of_memory_waits_for_is_found_by_replay() {
    let folder = tempfile::tempdir().unwrap();
    let host = app().embedded(folder.path()).await.unwrap();
    let instance = host.client().start(listens, ()).id("old").await.unwrap();
    explained(&instance, "event").await;
    host.shutdown().await;

    let host = app().embedded(folder.path()).await.unwrap();
    let instance = host.client().instance(listens, "old").unwrap();
    assert_eq!(instance.explain().await.unwrap().summary, "event \"approved\"");
    instance.raise_event(APPROVED, 7).await.unwrap();
    assert_eq!(instance.wait().await.unwrap(), 7);
    host.shutdown().await;
}
