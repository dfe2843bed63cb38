//! Compensation: a trip is booked whole or not at all.

use std::time::Duration;

use dalsegno::{ActivityContext, OrchestrationContext, Result, RetryPolicy, activity, orchestrator};

use crate::world::World;

/// Undoing must work in the end; there is nothing behind it but a person.
const UNDO: RetryPolicy = RetryPolicy::exponential(10, Duration::from_millis(1));

/// Books one thing after the other. When one fails, or the trip is cancelled meanwhile, cancels what was
/// booked, newest first, and ends with that.
#[orchestrator(name = "BookTrip")]
pub async fn book_trip(ctx: &OrchestrationContext, things: Vec<String>) -> Result<Vec<String>> {
    ctx.compensating(|undo| async move {
        for thing in &things {
            ctx.call(book, thing.clone()).await?;
            undo.push(cancel, thing.clone());
        }
        Ok(things)
    })
    .await
}

/// Books one thing.
#[activity(name = "Book")]
pub async fn book(ctx: ActivityContext, thing: String) -> Result<()> {
    ctx.data::<World>().act(&format!("book {thing}"))
}

/// Takes it back. Doing so twice is as good as once.
#[activity(name = "Cancel", retry = UNDO)]
pub async fn cancel(ctx: ActivityContext, thing: String) -> Result<()> {
    ctx.data::<World>().act(&format!("cancel {thing}"))
}
