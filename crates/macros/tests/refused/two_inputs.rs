use dalsegno::{OrchestrationContext, Result, orchestrator};

#[orchestrator]
async fn adds(_ctx: &OrchestrationContext, one: u32, other: u32) -> Result<u32> {
    Ok(one + other)
}

fn main() {}
