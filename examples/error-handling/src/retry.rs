//! Retry: unstable connections and other things that pass.

use std::time::Duration;

use dalsegno::{ActivityContext, OrchestrationContext, Result, RetryPolicy, activity, orchestrator};

use crate::world::World;

/// Three attempts with a pause between them; five seconds in earnest. Attempts leave no events.
#[orchestrator(name = "WithRetry")]
pub async fn with_retry(ctx: &OrchestrationContext, pause_ms: u64) -> Result<u32> {
    let policy = RetryPolicy::fixed(3, Duration::from_millis(pause_ms));
    Ok(ctx.call(my_genious_function, ()).retry(policy).await?)
}

/// Says at which attempt it worked.
#[activity(name = "MyGeniousFunction")]
pub async fn my_genious_function(ctx: ActivityContext) -> Result<u32> {
    ctx.data::<World>().act("genius")?;
    Ok(ctx.attempt())
}
