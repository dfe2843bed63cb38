//! `dalsegno limiter`

use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use dalsegno_engine::request::{LimiterChange, LimiterStatus};
use dalsegno_host::config::units;
use dalsegno_host::v1::json;

use crate::arguments::Format;
use crate::complete;
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
    /// Change what a limiter allows; what is not given stays as it is
    Set(Set),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno limiter set github --rate 5000/1h --concurrency none")]
#[command(override_usage = "dalsegno limiter set <NAME> [--rate <RATE>] [--burst <N>] ...")]
#[command(group = clap::ArgGroup::new("rule").required(true).multiple(true))]
pub(crate) struct Set {
    /// Name of the limiter
    #[arg(add = ArgValueCompleter::new(complete::limiters))]
    name: String,
    /// So many starts per time, like 5000/1h; none: no rate
    #[arg(long, value_parser = rate, group = "rule")]
    rate: Option<Given<(u32, Duration)>>,
    /// Starts that may be saved up; none: one second's worth
    #[arg(long, value_parser = count, value_name = "N", group = "rule")]
    burst: Option<Given<u32>>,
    /// Most that run at once; none: any number
    #[arg(long, value_parser = count, value_name = "N", group = "rule")]
    concurrency: Option<Given<u32>>,
}

/// What was given, `none` being something too.
#[derive(Clone, Copy, Debug)]
struct Given<T>(Option<T>);

const NONE: &str = "none";

fn rate(text: &str) -> Result<Given<(u32, Duration)>, String> {
    match text {
        NONE => Ok(Given(None)),
        text => input::rate(text)
            .map(|rate| Given(Some(rate)))
            .map_err(|hint| format!("{hint}, or none")),
    }
}

fn count(text: &str) -> Result<Given<u32>, String> {
    match text {
        NONE => Ok(Given(None)),
        text => match text.parse() {
            Ok(count) if count > 0 => Ok(Given(Some(count))),
            _ => Err("write a whole number from 1, or none".into()),
        },
    }
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
                let change = LimiterChange {
                    rate: set.rate.map(|given| given.0),
                    burst: set.burst.map(|given| given.0),
                    concurrency: set.concurrency.map(|given| given.0),
                };
                session
                    .ask(session.hub.change_limiter(&set.name, change))
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
