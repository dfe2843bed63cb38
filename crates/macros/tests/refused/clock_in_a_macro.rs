use dalsegno::{OrchestrationContext, Result, orchestrator};

#[orchestrator]
async fn tells_the_time(_ctx: &OrchestrationContext) -> Result<String> {
    Ok(format!("{:?}", std::time::SystemTime::now()))
}

fn main() {}
