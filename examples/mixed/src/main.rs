//! Serves the Rust part and waits for workers: `cargo run -p mixed -- [PORT [FOLDER]]`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use dalsegno::{Error, HostSettings, RemoteWorkers, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = match arguments.next() {
        None => 8080,
        Some(text) => text
            .parse()
            .map_err(|_| Error::msg(format!("{text:?} is no port: give a number from 0 to 65535")))?,
    };
    let folder = arguments.next().unwrap_or_else(|| ".dalsegno/mixed".to_owned());
    std::fs::create_dir_all(&folder)?;
    let settings = HostSettings {
        listen: Some(([127, 0, 0, 1], port).into()),
        remote_workers: RemoteWorkers::ThisHub,
        ..HostSettings::in_folder(&folder)
    };
    let host = mixed::app().start(settings).await?;
    if let Some(address) = host.address() {
        println!("Rust is here; workers connect to {address}");
    }
    dalsegno::until_ended().await;
    host.shutdown().await;
    Ok(())
}
