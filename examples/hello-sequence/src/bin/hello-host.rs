//! Serves both sequences until it is asked to end: `cargo run -p hello-sequence --bin hello-host`.

use dalsegno::Result;
use hello_sequence::app;

#[tokio::main]
async fn main() -> Result<()> {
    app().run().await
}
