//! `cargo run -p package-freshness`: the demonstration with its defaults, ending with the run.

use std::process::ExitCode;
use std::time::Duration;

use package_freshness::demo::{End, Ended, Settings, run};
use package_freshness::{Month, Request};

#[tokio::main]
async fn main() -> dalsegno::Result<ExitCode> {
    let settings = Settings {
        data_dir: ".dalsegno/demo".into(),
        port: 0,
        latency: Duration::from_millis(100),
        rate: (400, Duration::from_secs(1)),
        request: Request {
            as_of: Month::parse("2026-11")?,
            stale_after_months: 24,
        },
        end: End::Exit,
    };
    let ended = run(settings).await?;
    Ok(if ended == Ended::Completed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
