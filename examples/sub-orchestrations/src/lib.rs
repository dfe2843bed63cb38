//! **Sub-orchestrations.** An orchestration starts others and takes what they come to.
//!
//! An activity makes the id of the run, two pipelines take it and work at the same time. Each is a
//! library of its own with a `register` function; the app joins them. A child has its own history,
//! can be looked at by its own id, and a failure of one reaches the parent as an error.

use dalsegno::{ActivityContext, App, OrchestrationContext, Result, activity, orchestrator};
use download_samples::download_samples;
use download_something_else::download_something_else;
use serde::{Deserialize, Serialize};

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The run.
    pub run: String,
    /// Downloaded samples.
    pub samples: usize,
    /// Downloaded other things, or why there are none.
    pub something_else: Result<usize, String>,
}

/// Makes a run and lets both pipelines work on it.
#[orchestrator(name = "MainDownloadOrchestrator")]
pub async fn main_download(ctx: &OrchestrationContext, label: String) -> Result<Report> {
    let run = ctx.call(create_run, label).await?;
    let samples = ctx
        .call(download_samples, run.clone())
        .instance_id(format!("{run}-samples"));
    let something_else = ctx
        .call(download_something_else, run.clone())
        .instance_id(format!("{run}-something-else"));
    let (samples, something_else) = (samples.await?, something_else.await);
    Ok(Report {
        run,
        samples,
        something_else: something_else.map_err(|error| error.to_string()),
    })
}

/// Gives the run its id: an activity, so that it is made once and then only remembered.
#[activity(name = "CommonActivityFunctions_CreateRun")]
async fn create_run(ctx: ActivityContext, label: String) -> String {
    format!("{label}-{}", ctx.instance_id())
}

/// The app: the main orchestration, and what both teams bring.
pub fn app() -> App {
    let app = App::new().register(main_download).register(create_run);
    download_something_else::register(download_samples::register(app))
}
