//! Another team's pipeline. It fails for a run that is named so, to show what its parent sees.

use dalsegno::{App, Error, OrchestrationContext, Result, activity, orchestrator};

/// Downloads something else for a run; says how many.
#[orchestrator(name = "DownloadSomethingElse_Orchestration")]
pub async fn download_something_else(ctx: &OrchestrationContext, run: String) -> Result<usize> {
    Ok(ctx.call(download, run).await?)
}

/// All of it at once.
#[activity(name = "DownloadSomethingElse_Download")]
async fn download(run: String) -> Result<usize> {
    match run.starts_with("unlucky") {
        true => Err(Error::msg("nothing else is there").permanent()),
        false => Ok(4),
    }
}

/// Plugs this pipeline into an app.
pub fn register(app: App) -> App {
    app.register(download_something_else).register(download)
}
