use dalsegno::{OrchestrationContext, Result, orchestrator};

#[orchestrator]
async fn starts_a_thread(_ctx: &OrchestrationContext) -> Result<()> {
    std::thread::spawn(|| {});
    Ok(())
}

fn main() {}
