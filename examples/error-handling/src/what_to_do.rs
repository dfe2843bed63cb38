//! Undo, retry, ignore: and when none of them is right, a person is asked what to do.

use std::time::Duration;

use dalsegno::{
    ActivityContext, Compensations, ExternalEvent, OrchestrationContext, Result, RetryPolicy, TaskError,
    activity, orchestrator,
};
use serde::{Deserialize, Serialize};

use crate::world::World;

/// What is done when shipping fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plan {
    /// Unpack again.
    Undo,
    /// Try again, a few times.
    Retry,
    /// Go on without.
    Ignore,
    /// Ask a person.
    Ask,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Packed and shipped.
    Shipped,
    /// Packed, not shipped, and that is all right.
    LeftPacked,
    /// Nothing is left of it.
    Undone,
}

/// What a person may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Advice {
    /// Once more.
    TryAgain,
    /// Unpack it.
    Undo,
    /// Leave it.
    Ignore,
}

/// A person's answer.
pub const ADVICE: ExternalEvent<Advice> = ExternalEvent::new("Advice");

/// Packs and ships, and has a plan. Whatever makes it fail or end, nothing is left packed unless that is
/// the plan.
#[orchestrator(name = "Deliver")]
pub async fn deliver(ctx: &OrchestrationContext, plan: Plan) -> Result<Delivery> {
    ctx.compensating(|undo| async move {
        ctx.call(pack, ()).await?;
        undo.push(unpack, ());
        ship_packed(ctx, plan, &undo).await
    })
    .await
}

async fn ship_packed(ctx: &OrchestrationContext, plan: Plan, undo: &Compensations) -> Result<Delivery> {
    let attempts = if plan == Plan::Retry { 5 } else { 1 };
    let policy = RetryPolicy::fixed(attempts, Duration::from_millis(1));
    let Err(error) = ctx.call(ship, ()).retry(policy).await else {
        return Ok(Delivery::Shipped);
    };
    match plan {
        Plan::Undo => undone(undo).await,
        Plan::Retry => Err(error.into()),
        Plan::Ignore => Ok(Delivery::LeftPacked),
        Plan::Ask => ask(ctx, undo, error).await,
    }
}

async fn undone(undo: &Compensations) -> Result<Delivery> {
    undo.run().await?;
    Ok(Delivery::Undone)
}

/// Shows the problem and waits, however long it takes, for somebody to say what to do.
async fn ask(ctx: &OrchestrationContext, undo: &Compensations, mut problem: TaskError) -> Result<Delivery> {
    loop {
        ctx.set_custom_status(format!("{problem}. What to do?"));
        match ctx.wait_for_event(ADVICE).await? {
            Advice::Undo => return undone(undo).await,
            Advice::Ignore => return Ok(Delivery::LeftPacked),
            Advice::TryAgain => match ctx.call(ship, ()).await {
                Ok(()) => return Ok(Delivery::Shipped),
                Err(error) => problem = error,
            },
        }
    }
}

/// Packs.
#[activity(name = "Pack")]
pub async fn pack(ctx: ActivityContext) -> Result<()> {
    ctx.data::<World>().act("pack")
}

/// Unpacks.
#[activity(name = "Unpack")]
pub async fn unpack(ctx: ActivityContext) -> Result<()> {
    ctx.data::<World>().act("unpack")
}

/// Ships.
#[activity(name = "Ship")]
pub async fn ship(ctx: ActivityContext) -> Result<()> {
    ctx.data::<World>().act("ship")
}
