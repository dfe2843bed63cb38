//! A time limit: whoever comes first, the activity or the timer.

use std::sync::Arc;
use std::time::Duration;

use dalsegno::{ActivityContext, OrchestrationContext, Result, activity, orchestrator};
use tokio::sync::Notify;

/// Ends the function when it is notified.
pub type Signal = Arc<Notify>;

/// Did it end in time? Thirty seconds in earnest. The timer is cancelled when the activity wins; the
/// activity runs on when the timer does, and nobody waits for it.
#[orchestrator(name = "WithTimeLimit")]
pub async fn with_time_limit(ctx: &OrchestrationContext, limit_ms: u64) -> Result<bool> {
    let mut work = ctx.call(do_genious_function, ());
    let mut limit = ctx.timer(Duration::from_millis(limit_ms));
    dalsegno::select! {
        done = work => done.map(|()| true).map_err(Into::into),
        () = limit => Ok(false),
    }
}

/// Takes as long as it takes; stops when nobody needs it any more.
#[activity(name = "DoGeniousFunction")]
pub async fn do_genious_function(ctx: ActivityContext) -> Result<()> {
    tokio::select! {
        () = ctx.data::<Signal>().notified() => Ok(()),
        reason = ctx.cancelled() => Err(reason.into()),
    }
}
