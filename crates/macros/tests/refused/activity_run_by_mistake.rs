use dalsegno::{OrchestrationContext, Result, activity, orchestrator};

#[activity]
async fn charge(cents: u32) -> u32 {
    cents
}

#[orchestrator]
async fn order(_ctx: &OrchestrationContext) -> Result<u32> {
    Ok(charge(100).await)
}

fn main() {}
