use dalsegno::{OrchestrationContext, Result, orchestrator};

#[orchestrator]
async fn waits(_ctx: &OrchestrationContext) -> Result<()> {
    tokio::time::sleep(dalsegno::SECOND).await;
    Ok(())
}

fn main() {}
