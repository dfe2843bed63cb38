//! Counts, aggregates and transfers: `cargo run -p entities`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use dalsegno::{Result, join_all};
use entities::{Account, Aggregator, Alarms, Transfer, app, count_up, transfer};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = app().embedded(&folder).await?;
    let client = host.client();

    let count = client
        .start(count_up, ("visits".into(), 100))
        .await?
        .wait()
        .await?;
    println!("counter \"visits\": {count}");

    for (device, reading) in [("boiler", 71.5), ("boiler", 93.0), ("fridge", 4.0)] {
        client
            .entity::<Aggregator>(device)?
            .report(reading)
            .signal()
            .await?;
    }
    // A signal is on its way when it is durable; asking until it was done is for the demonstration.
    let alarms = client.entity::<Alarms>("all")?;
    while alarms.state().await?.is_none() {
        tokio::task::yield_now().await;
    }
    println!(
        "boiler: {:?}",
        client.entity::<Aggregator>("boiler")?.state().await?
    );
    println!("alarms: {:?}", alarms.state().await?);

    client.entity::<Account>("ada")?.deposit(10_000).signal().await?;
    let moves = (0..20).map(|number| {
        let (from, to) = if number % 2 == 0 {
            ("ada", "bob")
        } else {
            ("bob", "ada")
        };
        client.start(
            transfer,
            Transfer {
                from: from.into(),
                to: to.into(),
                cents: 1_000,
            },
        )
    });
    for started in join_all(moves.map(IntoFuture::into_future)).await {
        let instance = started?;
        match instance.wait().await {
            Ok(balances) => println!("transferred, now {balances:?}"),
            Err(error) => println!("refused: {error}"),
        }
    }
    println!(
        "ada {:?}, bob {:?}",
        client.entity::<Account>("ada")?.state().await?,
        client.entity::<Account>("bob")?.state().await?
    );

    host.shutdown().await;
    Ok(())
}
