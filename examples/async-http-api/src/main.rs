//! The dialogue of the article: `cargo run -p async-http-api`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use async_http_api::{JobStatus, Table, app};
use dalsegno::{HostSettings, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let table = Table::audit();
    let host = app(table.clone()).start(HostSettings::in_folder(&folder)).await?;
    let origin = host
        .address()
        .map(|address| format!("http://{address}"))
        .unwrap_or_default();

    for parameters in ["", "?s=10/08/2021&e=abcd", "?s=10/08/2021&e=05/08/2021"] {
        curl(&format!("{origin}/api/submit/query{parameters}")).await?;
    }
    let submitted = curl(&format!("{origin}/api/submit/query?s=10/10/2021&e=10/12/2021")).await?;
    let submitted: serde_json::Value = serde_json::from_str(&submitted)?;
    let uri = submitted["statusUri"].as_str().unwrap_or_default();

    let running: JobStatus = serde_json::from_str(&curl(uri).await?)?;
    table.answer();
    host.client().instance_named::<usize>(&running.id)?.wait().await?;
    curl(uri).await?;

    host.shutdown().await;
    Ok(())
}

async fn curl(url: &str) -> Result<String> {
    let body = reqwest::get(url).await?.text().await?;
    println!("curl \"{url}\"\n{body}\n");
    Ok(body)
}
