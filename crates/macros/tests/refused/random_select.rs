use dalsegno::{OrchestrationContext, Result, orchestrator};

#[orchestrator]
async fn chooses(ctx: &OrchestrationContext) -> Result<()> {
    let (mut one, mut other) = (ctx.timer(dalsegno::HOUR), ctx.timer(dalsegno::HOUR));
    futures::select! {
        () = one => Ok(()),
        () = other => Ok(()),
    }
}

fn main() {}
