//! Three tasks, then a thousand of which one fails: `cargo run -p fan-out-fan-in`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use dalsegno::Result;
use fan_out_fan_in::{app, best_effort, fan_out_fan_in};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = app().embedded(&folder).await?;
    let client = host.client();

    let three = ["Task1", "Task2", "Task3"].map(String::from).to_vec();
    println!("{:?}", client.start(fan_out_fan_in, three).await?.wait().await?);

    let mut thousand: Vec<String> = (1..=1_000).map(|number| format!("Task{number}")).collect();
    thousand[499] = "bad apple".into();
    let summary = client.start(best_effort, thousand.clone()).await?.wait().await?;
    println!(
        "{} completed, {} failed: {:?}",
        summary.completed.len(),
        summary.failed.len(),
        summary.failed
    );

    let all_or_nothing = client.start(fan_out_fan_in, thousand).await?.wait().await;
    println!(
        "all or nothing: {}",
        all_or_nothing.map_or_else(|error| error.to_string(), |all| all.len().to_string())
    );

    host.shutdown().await;
    Ok(())
}
