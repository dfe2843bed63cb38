//! What the attributes take.

use dalsegno::{
    Activity, ActivityContext, Client, Entity, EntityContext, MINUTE, OrchestrationContext, Orchestrator, Result, activity,
    entity, http_trigger, orchestrator, timer_trigger,
};

#[activity(name = "Charge", timeout = MINUTE)]
async fn charge(_ctx: ActivityContext, (cents, _currency): (u32, String)) -> Result<u32, std::fmt::Error> {
    Ok(cents)
}

/// Shadowed by a local of the same name.
#[orchestrator(version = "2")]
pub async fn order(ctx: &OrchestrationContext, mut cents: u32) -> Result<u32> {
    cents += 1;
    let charge = ctx.call(charge, (cents, "EUR".into())).await?;
    if charge > 5 {
        return Ok(charge);
    }
    ctx.continue_as_new(order, charge).await
}

#[orchestrator(unchecked)]
async fn looks_at_the_clock(_ctx: &OrchestrationContext) -> bool {
    std::time::Instant::now().elapsed().is_zero()
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Counter(u64);

#[entity(name = "COUNTER")]
impl Counter {
    fn add(&mut self, amount: u64) -> u64 {
        self.0 += Self::doubled(amount);
        self.0
    }

    async fn tell(&self, ctx: &EntityContext, other: String) -> Result<()> {
        ctx.entity::<Counter>(other).add(self.0);
        Ok(())
    }

    fn doubled(amount: u64) -> u64 {
        2 * amount
    }
}

#[http_trigger(route = "orders", methods = ["POST"], auth = admin)]
async fn start(client: Client) -> Result<()> {
    client.start(order, 1).id("one").or_existing().await?;
    client.entity::<Counter>("one")?.add(1).signal().await?;
    let _state: Option<Counter> = client.entity::<Counter>("one")?.state().await?;
    Ok(())
}

#[timer_trigger("0 30 9 * * 1-5")]
async fn on_weekdays() {}

fn main() {
    let _: (Activity<(u32, String), u32>, Orchestrator<u32, u32>) = (charge(), order());
    let _ = looks_at_the_clock();
    assert_eq!(Counter::NAME, "counter");
    assert_eq!(start().route_path(), "orders");
    assert_eq!(on_weekdays().name(), "on_weekdays");
}
