//! Runs both sequences: `cargo run -p hello-sequence`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use dalsegno::Result;
use hello_sequence::{app, chain, hello_sequence};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = app().embedded(&folder).await?;
    let client = host.client();

    let greetings = client.start(hello_sequence, ()).await?.wait().await?;
    println!("E1_HelloSequence: {}", greetings.join(" "));

    let instance = client.start(chain, "  ada ".into()).id("chain-ada").await?;
    let (label, letters) = instance.wait().await?;
    println!("F1 -> F2 -> F3 -> F4: {label:?}, {letters} letters");
    println!(
        "{} events are in the history of {}",
        instance.history().await?.len(),
        instance.id()
    );

    host.shutdown().await;
    Ok(())
}
