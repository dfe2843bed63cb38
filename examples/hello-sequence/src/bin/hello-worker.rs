//! Works for a hub elsewhere: `dalsegno dev`, then
//! `cargo run -p hello-sequence --bin hello-worker`, then `dalsegno start E1_HelloSequence --wait`.

use dalsegno::Result;
use hello_sequence::app;

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    app().connect(address).run().await
}
