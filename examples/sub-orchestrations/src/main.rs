//! A run that goes well and one that does not: `cargo run -p sub-orchestrations`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use dalsegno::{InstanceQuery, Result};
use sub_orchestrations::{app, main_download};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = app().embedded(&folder).await?;
    let client = host.client();
    for label in ["nightly", "unlucky"] {
        let report = client
            .start(main_download, label.into())
            .id(format!("main-{label}"))
            .await?
            .wait()
            .await?;
        println!("{report:#?}");
    }
    for row in client.list(InstanceQuery::default()).await?.rows {
        println!("{:36} {:10} {}", row.name, row.status.as_str(), row.id);
    }
    host.shutdown().await;
    Ok(())
}
