//! The functions that the tests run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dalsegno::{
    ActivityContext, App, Error, ExternalEvent, Limiter, OrchestrationContext, Result, RetryPolicy, activity,
    entity, orchestrator,
};
use serde::{Deserialize, Serialize};

pub(super) const GO: ExternalEvent<String> = ExternalEvent::new("Go");
pub(super) const BUDGET: Limiter = Limiter::new("budget").rate(1, Duration::from_millis(40)).burst(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// What activities did, by instance.
#[derive(Clone, Default)]
pub(super) struct Probe(Arc<Mutex<HashMap<String, Vec<String>>>>);

impl Probe {
    fn note(&self, ctx: &ActivityContext, text: impl Into<String>) -> u32 {
        let mut notes = self.0.lock().unwrap();
        let of_instance = notes.entry(ctx.instance_id().to_string()).or_default();
        of_instance.push(text.into());
        of_instance.len() as u32
    }

    pub(super) fn notes(&self, instance: impl ToString) -> Vec<String> {
        let notes = self.0.lock().unwrap();
        notes.get(&instance.to_string()).cloned().unwrap_or_default()
    }
}

/// Fails the first `failures` times in an instance; then says how often it was tried.
#[activity]
async fn flaky(ctx: ActivityContext, failures: u32) -> Result<u32> {
    let tried = ctx.data::<Probe>().note(&ctx, "flaky");
    match tried > failures {
        true => Ok(tried),
        false => Err(Error::with_kind("Flaky", format!("failure {tried}"))),
    }
}

#[activity]
async fn double(ctx: ActivityContext, number: u32) -> u32 {
    ctx.data::<Probe>().note(&ctx, "double");
    2 * number
}

/// Runs until it is told to end.
#[activity]
async fn endless(ctx: ActivityContext) -> Result<()> {
    ctx.data::<Probe>().note(&ctx, "began");
    let reason = ctx.cancelled().await;
    ctx.data::<Probe>().note(&ctx, format!("{:?}", reason.0));
    Err(reason.into())
}

#[activity(timeout = 20 * MILLISECOND)]
async fn slow(ctx: ActivityContext) -> Result<()> {
    Err(ctx.cancelled().await.into())
}

#[activity(heartbeat = 20 * MILLISECOND, retry = RetryPolicy::fixed(2, MILLISECOND))]
async fn silent(ctx: ActivityContext) -> Result<u32> {
    if let Some(row) = ctx.last_heartbeat::<u32>() {
        return Ok(row);
    }
    ctx.heartbeat(&7_u32);
    std::future::pending::<()>().await;
    Ok(0)
}

#[activity(limiter = BUDGET, retry = RetryPolicy::NONE)]
async fn spend(ctx: ActivityContext, refusals: u32) -> Result<u32> {
    let tried = ctx.data::<Probe>().note(&ctx, "spend");
    match tried > refusals {
        true => Ok(ctx.attempt()),
        false => Err(ctx.limited(30 * MILLISECOND)),
    }
}

#[orchestrator]
pub(super) async fn echo(_ctx: &OrchestrationContext, text: String) -> Result<String> {
    Ok(text)
}

#[orchestrator(name = "versioned", version = "1")]
pub(super) async fn versioned_1(ctx: &OrchestrationContext) -> Result<String> {
    Ok(format!("one {}", ctx.wait_for_event(GO).await?))
}

#[orchestrator(name = "versioned", version = "2")]
pub(super) async fn versioned_2(ctx: &OrchestrationContext) -> Result<String> {
    Ok(format!("two {}", ctx.wait_for_event(GO).await?))
}

#[orchestrator]
pub(super) async fn waiter(ctx: &OrchestrationContext) -> Result<String> {
    ctx.set_custom_status("waiting");
    Ok(ctx.wait_for_event(GO).await?)
}

#[orchestrator]
pub(super) async fn parent(ctx: &OrchestrationContext, child: String) -> Result<String> {
    Ok(ctx.call(waiter, ()).instance_id(child).await?)
}

#[orchestrator]
pub(super) async fn strict_parent(ctx: &OrchestrationContext, child: String) -> Result<String> {
    let child = ctx.call(waiter, ()).instance_id(child).terminate_with_parent();
    Ok(child.await?)
}

#[orchestrator]
pub(super) async fn fragile(ctx: &OrchestrationContext, failures: u32) -> Result<u32> {
    let doubled = ctx.call(double, 21).await?;
    Ok(doubled + ctx.call(flaky, failures).await?)
}

#[orchestrator]
pub(super) async fn insistent(ctx: &OrchestrationContext, failures: u32) -> Result<u32> {
    let policy = RetryPolicy::fixed(5, MILLISECOND);
    Ok(ctx.call(flaky, failures).retry(policy).await?)
}

#[orchestrator]
pub(super) async fn retried_child(ctx: &OrchestrationContext, child: String) -> Result<u32> {
    let policy = RetryPolicy::fixed(3, MILLISECOND);
    // One failure of `double` and one of `flaky`: notes are counted together.
    Ok(ctx.call(fragile, 2).instance_id(child).retry(policy).await?)
}

#[orchestrator]
pub(super) async fn watching(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(endless, ()).await?)
}

#[orchestrator]
pub(super) async fn impatient(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(slow, ()).await?)
}

#[orchestrator]
pub(super) async fn listening(ctx: &OrchestrationContext) -> Result<u32> {
    Ok(ctx.call(silent, ()).await?)
}

#[orchestrator]
pub(super) async fn spender(ctx: &OrchestrationContext, refusals: u32) -> Result<u32> {
    Ok(ctx.call(spend, refusals).await?)
}

#[orchestrator]
pub(super) async fn collector(ctx: &OrchestrationContext, mut words: Vec<String>) -> Result<Vec<String>> {
    words.push(ctx.wait_for_event(GO).await?);
    if words.len() == 4 {
        return Ok(words);
    }
    ctx.continue_as_new(collector, words).await
}

#[orchestrator]
pub(super) async fn starter(ctx: &OrchestrationContext, ids: (String, String)) -> Result<String> {
    let (fresh, waiting) = ids;
    let detached = ctx.start(echo, "detached".to_owned()).instance_id(fresh);
    let id = detached.id().to_string();
    drop(detached);
    ctx.send_event(waiting, GO, "sent".to_owned());
    Ok(id)
}

#[orchestrator]
pub(super) async fn panics(ctx: &OrchestrationContext) -> Result<()> {
    ctx.wait_for_event(GO).await?;
    panic!("no way on");
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Wallet {
    pub(super) cents: i64,
}

#[entity]
impl Wallet {
    pub(super) fn put(&mut self, cents: i64) -> i64 {
        self.cents += cents;
        self.cents
    }

    pub(super) fn take(&mut self, cents: i64) -> Result<i64> {
        if cents > self.cents {
            return Err(Error::with_kind("Poor", "not that much"));
        }
        self.cents -= cents;
        Ok(self.cents)
    }
}

#[orchestrator]
pub(super) async fn transfer(
    ctx: &OrchestrationContext,
    (from, to, cents): (String, String, i64),
) -> Result<i64> {
    let (from, to) = (ctx.entity::<Wallet>(from), ctx.entity::<Wallet>(to));
    let _lock = ctx.lock([from.id(), to.id()]).await;
    from.take(cents).await?;
    Ok(to.put(cents).await?)
}

#[orchestrator]
pub(super) async fn holder(ctx: &OrchestrationContext, key: String) -> Result<()> {
    let wallet = ctx.entity::<Wallet>(key);
    let _lock = ctx.lock([wallet.id()]).await;
    ctx.set_custom_status("locked");
    ctx.wait_for_event(GO).await?;
    Ok(())
}

/// With what only a host can give.
pub(super) fn app_with(probe: &Probe) -> App {
    App::new()
        .register(spend)
        .register(spender)
        .register(flaky)
        .register(double)
        .register(endless)
        .register(slow)
        .register(silent)
        .register(echo)
        .register(versioned_1)
        .register(versioned_2)
        .register(waiter)
        .register(parent)
        .register(strict_parent)
        .register(fragile)
        .register(insistent)
        .register(retried_child)
        .register(watching)
        .register(impatient)
        .register(listening)
        .register(collector)
        .register(starter)
        .register(panics)
        .register(transfer)
        .register(holder)
        .entity::<Wallet>()
        .data(probe.clone())
}
