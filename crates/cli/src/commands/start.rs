//! `dalsegno start`

use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::message::ReusePolicy;
use dalsegno_core::query::Status;
use dalsegno_core::{InstanceId, Timestamp};
use dalsegno_engine::request::{StartOptions, Started};
use dalsegno_engine::webhooks::WebhookSubscription;
use dalsegno_host::nearest;
use dalsegno_host::v1::json;

use crate::arguments::duration;
use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::Row;
use crate::session::Session;
use crate::time::now;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno start ProcessOrder -i '{\"sku\":\"harp\"}' --wait")]
pub(crate) struct Start {
    /// Name of the orchestrator
    #[arg(add = ArgValueCompleter::new(complete::orchestrators))]
    orchestrator: String,
    /// Input: JSON, @FILE, or - for stdin
    #[arg(long, short)]
    input: Option<String>,
    /// Id of the instance; without it one is made
    #[arg(long, value_parser = input::id)]
    id: Option<InstanceId>,
    /// Not before this time
    #[arg(long, value_parser = input::time, conflicts_with = "delay")]
    at: Option<Timestamp>,
    /// Not before this has passed, like 5m
    #[arg(long = "in", id = "delay", value_parser = duration)]
    delay: Option<Duration>,
    /// Version of the orchestrator; without it the highest
    #[arg(long)]
    version: Option<String>,
    /// Name and value to find it by; may be repeated
    #[arg(long = "tag", value_parser = input::tag, value_name = "NAME=VALUE")]
    tags: Vec<(String, String)>,
    /// What to do when the id is in use
    #[arg(long, value_enum, default_value_t = IfExists::RejectRunning)]
    if_exists: IfExists,
    /// A repeat with the same key gets the first answer again
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Tell this URL of its end (webhooks.allowed_hosts)
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// Tell it of these statuses instead
    #[arg(long, value_parser = input::status, value_delimiter = ',', requires = "webhook", value_name = "STATUS")]
    webhook_status: Vec<Status>,
    /// Sign with the secret of this configured webhook
    #[arg(long, requires = "webhook", value_name = "NAME")]
    webhook_secret: Option<String>,
    /// Wait for the outcome; --wait=30s no longer than that
    #[arg(long, value_parser = duration, value_name = "TIME", num_args = 0..=1, require_equals = true)]
    wait: Option<Option<Duration>>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum IfExists {
    /// Refuse while it lives, replace when finished
    RejectRunning,
    /// Refuse, also when finished
    Reject,
    /// Take the existing one
    Return,
    /// The same as reject-running
    Replace,
    /// Terminate a living one
    Terminate,
}

impl From<IfExists> for ReusePolicy {
    fn from(word: IfExists) -> Self {
        match word {
            IfExists::RejectRunning => Self::RejectRunning,
            IfExists::Reject => Self::Reject,
            IfExists::Return => Self::ReturnExisting,
            IfExists::Replace => Self::Replace,
            IfExists::Terminate => Self::TerminateAndStart,
        }
    }
}

impl Start {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let wait = self.wait;
        let name = self.orchestrator.clone();
        let options = self.into_options()?;
        let started = match session.ask(session.hub.start(options)).await {
            Err(failure) if failure.exit == Exit::NotFound => {
                return Err(did_you_mean(session, &name, failure).await);
            }
            answer => answer?,
        };
        match started.existing {
            Some(status) => session.say(&format!("{} already exists ({})", started.id, status.as_str())),
            None => session.say(&format!("started {}", started.id)),
        }
        after_start(session, &started, wait).await
    }

    fn into_options(self) -> Result<StartOptions, Failure> {
        let (statuses, secret) = (self.webhook_status, self.webhook_secret);
        Ok(StartOptions {
            name: self.orchestrator,
            version: self.version,
            id: self.id,
            input: input::payload(self.input.as_deref())?,
            scheduled_start: self.at.or_else(|| self.delay.map(|delay| now() + delay)),
            tags: self.tags,
            reuse: self.if_exists.into(),
            replaceable: None,
            idempotency_key: self.idempotency_key,
            trace: None,
            is_told_elsewhere: false,
            webhook: self.webhook.map(|url| WebhookSubscription {
                url,
                statuses,
                secret,
            }),
        })
    }
}

/// With the name that may have been meant.
async fn did_you_mean(session: &Session, name: &str, failure: Failure) -> Failure {
    let Ok(info) = session.ask(session.hub.info()).await else {
        return failure;
    };
    match nearest(name, info.orchestrators.iter().map(String::as_str)) {
        Some(near) => failure.help(format!("did you mean {near}?")),
        None => failure,
    }
}

/// Shows the id, or waits and shows the outcome.
pub(super) async fn after_start(
    session: &Session,
    started: &Started,
    wait: Option<Option<Duration>>,
) -> Result<Exit, Failure> {
    match wait {
        Some(timeout) => {
            let status = session.wait(&started.id, timeout).await?;
            Ok(session.ended(&status))
        }
        None => {
            let id = started.id.to_string();
            let row = Row {
                cells: vec![id.clone()],
                json: json::started(started),
                id,
            };
            session.one(&["id"], &row);
            Ok(Exit::Ok)
        }
    }
}
