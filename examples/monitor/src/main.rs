//! Watches a service that fails for a while: `cargo run -p monitor`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::time::Duration;

use axum::http::StatusCode;
use dalsegno::Result;
use monitor::{Monitor, Notice, Pace, app, monitor, stub::Service};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (notices, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut plan = vec![StatusCode::SERVICE_UNAVAILABLE; 9];
    plan.splice(0..0, [StatusCode::OK; 2]);
    plan.push(StatusCode::OK);
    let service = Service::start(plan).await?;
    let host = app(notices).embedded(&folder).await?;

    let watch = Monitor::of(service.url(), Duration::from_millis(100), Pace::FixedRate);
    println!(
        "checking {} every {} ms; in earnest that would be five minutes",
        watch.url, watch.interval_ms
    );
    let instance = host
        .client()
        .start(monitor, watch)
        .id("monitor")
        .or_existing()
        .await?;
    while let Some(notice) = told.recv().await {
        println!("after {:2} checks: {notice:?}", service.asked());
        if matches!(notice, Notice::Recovery(_)) {
            break;
        }
    }
    println!(
        "the history holds one round: {} events",
        instance.history().await?.len()
    );
    instance.terminate("the demonstration is over").await?;
    println!("{}", instance.status().await?.row.status.as_str());

    host.shutdown().await;
    Ok(())
}
