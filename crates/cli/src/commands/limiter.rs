//! `dalsegno limiter`

use std::time::Duration;

use clap::{Args, Subcommand};
use dalsegno_engine::hub::LimiterDefinition;
use dalsegno_engine::request::LimiterStatus;
use dalsegno_host::config::units;
use dalsegno_host::v1::json;

use crate::arguments::Format;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::Row;
use crate::session::Session;

const HEAD: [&str; 10] = [
    "NAME",
    "KEY",
    "RATE",
    "BURST",
    "AT ONCE",
    "TOKENS",
    "RUNNING",
    "WAITING",
    "BLOCKED UNTIL",
    "WHO WAITS",
];

#[derive(Debug, Subcommand)]
pub(crate) enum Limiter {
    /// List the buckets of all limiters
    #[command(after_help = "Example: dalsegno limiter list")]
    List,
    /// Change what a limiter allows; what is not given is not limited
    Set(Set),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno limiter set github --rate 5000/1h --concurrency 20")]
#[command(override_usage = "dalsegno limiter set <NAME> [--rate <RATE>] [--concurrency <N>]")]
#[command(group = clap::ArgGroup::new("rule").required(true).multiple(true))]
pub(crate) struct Set {
    /// Name of the limiter
    name: String,
    /// So many starts per time, like 5000/1h
    #[arg(long, value_parser = input::rate, group = "rule")]
    rate: Option<(u32, Duration)>,
    /// Starts that may be saved up
    #[arg(long, requires = "rate")]
    burst: Option<u32>,
    /// Most that run at once
    #[arg(long, group = "rule")]
    concurrency: Option<u32>,
}

impl Limiter {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::List => {
                let limiters = session.ask(session.hub.limiters()).await?;
                let width = match session.format() {
                    Format::Wide | Format::Csv => HEAD.len(),
                    _ => HEAD.len() - 1,
                };
                session.rows(&HEAD[..width], &limiters.iter().map(shown).collect::<Vec<_>>());
            }
            Self::Set(set) => {
                let definition = LimiterDefinition {
                    rate: set.rate,
                    burst: set.burst,
                    concurrency: set.concurrency,
                };
                session
                    .ask(session.hub.set_limiter(&set.name, definition))
                    .await
                    .map_err(|failure| match failure.exit {
                        Exit::NotFound => failure.help("dalsegno limiter list shows what there is"),
                        _ => failure,
                    })?;
                session.say(&format!("changed {}", set.name));
            }
        }
        Ok(Exit::Ok)
    }
}

fn shown(status: &LimiterStatus) -> Row {
    let mut waiters: Vec<&str> = status.waiters.iter().map(|(id, _)| id.as_str()).collect();
    waiters.dedup();
    Row {
        id: status.name.to_string(),
        cells: vec![
            status.name.to_string(),
            status.key.to_string(),
            status.rate.map(units::rate_text).unwrap_or_default(),
            status.rate.map(|_| status.burst.to_string()).unwrap_or_default(),
            status
                .concurrency
                .map(|most| most.to_string())
                .unwrap_or_default(),
            status
                .rate
                .map(|_| format!("{:.1}", status.tokens))
                .unwrap_or_default(),
            status.running.to_string(),
            status.waiting.to_string(),
            status.blocked_until.map(json::time).unwrap_or_default(),
            waiters.join(" "),
        ],
        json: json::limiter(status),
    }
}
