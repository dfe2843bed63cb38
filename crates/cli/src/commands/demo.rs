//! `dalsegno demo`

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dalsegno_host::config::units;
use package_freshness::demo::{End, Ended, Settings, run};
use package_freshness::{Month, Request};

use crate::failure::{Exit, Failure};

/// Hosts the package-freshness app and runs it: 881 packages behind a rate limit, which are stale?
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dalsegno demo --exit\nKill it with kill -9 in the middle and type the same again: it goes on."
)]
pub(crate) struct Demo {
    /// Folder of the hub and of the app's database
    #[arg(long, value_name = "DIR", default_value = ".dalsegno/demo")]
    data_dir: PathBuf,
    /// Port of the host on loopback; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Time an answer of the catalogue takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100)]
    latency: u64,
    /// Requests that the catalogue allows, like 400/1s or 5000/1h
    #[arg(long, value_name = "N/PERIOD", default_value = "400/1s", value_parser = rate)]
    rate: (u32, Duration),
    /// Months without a release after which a package is stale
    #[arg(long, value_name = "MONTHS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=1200))]
    stale_after: u32,
    /// Month to look from [default: now]
    #[arg(long, value_name = "YYYY-MM", value_parser = month)]
    as_of: Option<Month>,
    /// End with the run: 0 completed, 10 failed, 11 terminated
    #[arg(long)]
    exit: bool,
}

fn rate(text: &str) -> Result<(u32, Duration), String> {
    let known = units::rate(text).filter(|(count, period)| *count > 0 && !period.is_zero());
    known.ok_or_else(|| "expected a number and a period, like 400/1s or 5000/1h".to_owned())
}

fn month(text: &str) -> Result<Month, String> {
    Month::parse(text).map_err(|error| error.to_string())
}

impl Demo {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mut private = std::fs::DirBuilder::new();
        let created = private.recursive(true).mode(0o700).create(&self.data_dir);
        created.map_err(|error| {
            let folder = self.data_dir.display();
            Failure::configuration(&format!(
                "cannot create the folder {folder}: {error}; choose another with --data-dir"
            ))
        })?;
        let settings = Settings {
            data_dir: self.data_dir,
            port: self.port,
            latency: Duration::from_millis(self.latency),
            rate: self.rate,
            request: Request {
                as_of: self.as_of.unwrap_or_else(Month::now),
                stale_after_months: self.stale_after,
            },
            end: if self.exit { End::Exit } else { End::Stay },
        };
        let ended = run(settings)
            .await
            .map_err(|error| Failure::not_started(&error))?;
        Ok(match ended {
            Ended::Completed => Exit::Ok,
            Ended::Failed => Exit::InstanceFailed,
            Ended::Terminated => Exit::InstanceTerminated,
        })
    }
}
