//! **Custom status.** An orchestration shows how far it is, in a form of its own.
//!
//! The status is stored with the turn that set it, and is in every answer about the instance. It is
//! no part of the history: moving such a line, or adding one, breaks no running instance.

use dalsegno::{ActivityContext, App, OrchestrationContext, Result, activity, orchestrator};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// How far an update is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Of a hundred.
    pub percentage: usize,
    /// What it is doing.
    pub message: String,
}

impl Progress {
    fn new(done: usize, steps: usize, message: impl Into<String>) -> Self {
        Self {
            percentage: 100 * done / steps.max(1),
            message: message.into(),
        }
    }
}

/// Does one step after the other and says which.
#[orchestrator(name = "UpdateOrchestrator")]
pub async fn update(ctx: &OrchestrationContext, steps: Vec<String>) -> Result<usize> {
    for (done, step) in steps.iter().enumerate() {
        ctx.set_custom_status(Progress::new(done, steps.len(), step));
        ctx.call(do_step, step.clone()).await?;
    }
    ctx.set_custom_status(Progress::new(steps.len(), steps.len(), "done"));
    Ok(steps.len())
}

/// Whoever runs the example lets the steps end, one permit each.
pub type Permits = std::sync::Arc<Semaphore>;

/// One step.
#[activity(name = "DoStep")]
async fn do_step(ctx: ActivityContext, _step: String) -> Result<()> {
    ctx.data::<Permits>().acquire().await?.forget();
    Ok(())
}

/// The app: everything above.
pub fn app(permits: Permits) -> App {
    App::new().register(update).register(do_step).data(permits)
}
