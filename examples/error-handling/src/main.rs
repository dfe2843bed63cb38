//! All ways to go on after a failure: `cargo run -p error-handling`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use dalsegno::Result;
use error_handling::what_to_do::{ADVICE, Advice, Plan, deliver};
use error_handling::{World, app, catch, compensation, retry, time_limit};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let world = World::failing([("genius", 2), ("book car", u32::MAX), ("ship", 8)]);
    let signal = time_limit::Signal::default();
    let host = app(world.clone()).data(signal.clone()).embedded(&folder).await?;
    let client = host.client();

    println!(
        "retry: worked at attempt {}",
        client.start(retry::with_retry, 50).await?.wait().await?
    );
    for input in ["21", "twenty-one"] {
        println!(
            "catch: {}",
            client.start(catch::calculate, input.into()).await?.wait().await?
        );
    }
    let things = ["flight", "hotel", "car"].map(String::from).to_vec();
    let refused = client
        .start(compensation::book_trip, things)
        .await?
        .wait()
        .await
        .err();
    println!(
        "undo in reverse: {}",
        refused.map(|error| error.to_string()).unwrap_or_default()
    );
    println!("  {:?}", world.log());
    println!(
        "time limit: in time? {}",
        client
            .start(time_limit::with_time_limit, 100)
            .await?
            .wait()
            .await?
    );
    signal.notify_waiters();

    for plan in [Plan::Undo, Plan::Ignore, Plan::Retry] {
        let outcome = client.start(deliver, plan).await?.wait().await;
        println!(
            "{plan:?}: {}",
            outcome.map_or_else(|error| error.to_string(), |outcome| format!("{outcome:?}"))
        );
    }
    let instance = client.start(deliver, Plan::Ask).await?;
    instance.raise_event(ADVICE, Advice::TryAgain).await?;
    println!(
        "Ask: {:?}, after {:?}",
        instance.wait().await?,
        instance.custom_status::<String>().await?
    );

    host.shutdown().await;
    Ok(())
}
