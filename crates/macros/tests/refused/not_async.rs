use dalsegno::{OrchestrationContext, Result, orchestrator};

#[orchestrator]
fn at_once(_ctx: &OrchestrationContext) -> Result<()> {
    Ok(())
}

fn main() {}
