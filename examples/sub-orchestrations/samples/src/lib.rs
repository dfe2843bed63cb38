//! One team's pipeline: the samples. A library that knows neither the app nor the other team.

use dalsegno::{App, OrchestrationContext, Result, activity, join_all, orchestrator};

/// Downloads every sample for a run; says how many.
#[orchestrator(name = "DownloadSamples_Orchestrator")]
pub async fn download_samples(ctx: &OrchestrationContext, run: String) -> Result<usize> {
    let names = ctx.call(list_samples, run).await?;
    let downloads = names.into_iter().map(|name| ctx.call(download_sample, name));
    let sizes: Result<Vec<usize>, _> = join_all(downloads).await.into_iter().collect();
    Ok(sizes?.len())
}

/// What there is.
#[activity(name = "DownloadSamples_List")]
async fn list_samples(_run: String) -> Vec<String> {
    ["hello-sequence", "fan-out", "monitor"]
        .map(String::from)
        .to_vec()
}

/// Downloads one; says how long it is.
#[activity(name = "DownloadSamples_Download")]
async fn download_sample(name: String) -> usize {
    name.len()
}

/// Plugs this pipeline into an app.
pub fn register(app: App) -> App {
    app.register(download_samples)
        .register(list_samples)
        .register(download_sample)
}
