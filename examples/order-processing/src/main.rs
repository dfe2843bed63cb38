//! Sends four orders to a host by HTTP: `cargo run -p order-processing`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use dalsegno::{CheckStatus, HostSettings, Result};
use order_processing::{Business, Order, app, process_order};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let business = Business::with_stock([("lamp", 10), ("piano", 2)]);
    let host = app(business.clone())
        .start(HostSettings::in_folder(&folder))
        .await?;
    let origin = host
        .address()
        .map(|address| format!("http://{address}"))
        .unwrap_or_default();
    let http = reqwest::Client::new();

    for (article, quantity, cents) in [
        ("lamp", 2, 4_500),
        ("lamp", 0, 4_500),
        ("lamp", 11, 4_500),
        ("piano", 1, 800_000),
    ] {
        let order = Order {
            article: article.into(),
            quantity,
            cents,
            email: "ada@example.com".into(),
        };
        let answer = http
            .post(format!("{origin}/api/orders"))
            .json(&order)
            .send()
            .await?;
        let status = answer.status();
        let links: CheckStatus = answer.json().await?;
        let outcome = host.client().instance(process_order, &links.id)?.wait().await?;
        println!(
            "POST /api/orders {quantity} x {article} -> {status}\n  {}\n  {outcome}",
            links.status_query_get_uri
        );
    }
    println!(
        "paid: {} cents, sent: {:?}",
        business.paid_cents(),
        business.outbox()
    );

    host.shutdown().await;
    Ok(())
}
