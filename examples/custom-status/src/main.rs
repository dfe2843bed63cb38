//! Three steps and a bar, read from the status URL: `cargo run -p custom-status`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::time::Duration;

use custom_status::{Permits, Progress, app, update};
use dalsegno::{HostSettings, Result};
use tokio::sync::Semaphore;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let permits = Permits::new(Semaphore::new(0));
    let host = app(permits.clone())
        .start(HostSettings::in_folder(&folder))
        .await?;
    let steps = ["Reading files", "Updating DB", "Sending mails"]
        .map(String::from)
        .to_vec();
    let instance = host.client().start(update, steps).await?;
    let url = host.client().check_status(&instance).status_query_get_uri;
    println!("GET {url}");
    tokio::spawn(async move {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            permits.add_permits(1);
        }
    });

    let mut shown = None;
    while shown
        .as_ref()
        .is_none_or(|progress: &Progress| progress.percentage < 100)
    {
        let status: serde_json::Value = reqwest::get(&url).await?.json().await?;
        let progress: Option<Progress> = serde_json::from_value(status["customStatus"].clone())?;
        if let Some(progress) = progress.as_ref().filter(|_| progress != shown) {
            let bar = "#".repeat(progress.percentage / 5);
            println!("[{bar:20}] {:3} % {}", progress.percentage, progress.message);
        }
        shown = progress;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{} steps", instance.wait().await?);

    host.shutdown().await;
    Ok(())
}
