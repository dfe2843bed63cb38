//! One command's connection, form and patience.

use std::path::Path;
use std::time::Duration;

use dalsegno_core::InstanceId;
use dalsegno_core::query::Status;
use dalsegno_engine::request::{Answer, InstanceStatus, RequestError, RequestErrorKind, UnconsumedEvents};
use dalsegno_host::RemoteHub;
use dalsegno_host::v1::json;
use tokio::time::Instant;

use crate::arguments::{Format, Global, TimeForm};
use crate::commands::explain::in_words;
use crate::failure::{Exit, Failure};
use crate::output::{self, Row};
use crate::profile::Target;
use crate::time::written;

/// Names a file with the key, for where an environment can be read by others.
const KEY_FILE: &str = "DALSEGNO_TOKEN_FILE";

/// After so long a waiting command says why it waits.
const SILENCE: Duration = Duration::from_secs(2);

/// How long a host is asked to wait before it is asked why: an answer comes before that silence.
const LOOK: Duration = Duration::from_millis(1_800);

/// What a host that waits for us may take longer.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) hub: RemoteHub,
    named_hub: Option<String>,
    format: Format,
    timeout: Option<Duration>,
    time: TimeForm,
    quiet: bool,
}

/// What is shown of one instance.
pub(crate) const DETAILS: [&str; 18] = [
    "id",
    "name",
    "version",
    "status",
    "created",
    "updated",
    "completed",
    "scheduled",
    "tags",
    "parent",
    "input",
    "custom status",
    "output",
    "failure",
    "parked",
    "waits for",
    "unconsumed",
    "events",
];

impl Session {
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let target = Target::new(global)?;
        let hub = RemoteHub::new(&target.server)?;
        let hub = match &target.hub {
            Some(name) => hub.hub(name),
            None => hub,
        };
        let hub = match &target.ca_file {
            Some(path) => trust(hub, path)?,
            None => hub,
        };
        Ok(Self {
            hub: match key(global, &target)? {
                Some(key) => hub.key(key),
                None => hub,
            },
            named_hub: target.hub.clone(),
            format: global.format(),
            timeout: global.timeout,
            time: global.time,
            quiet: global.quiet,
        })
    }

    /// The hub that the command names: by flag, environment or profile.
    pub(crate) fn named_hub(&self) -> Option<&str> {
        self.named_hub.as_deref()
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Not for other programs.
    pub(crate) fn is_for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A time as it is asked for.
    pub(crate) fn time(&self, at: dalsegno_core::Timestamp) -> String {
        written(at, self.time)
    }

    /// The same for what already is text.
    pub(crate) fn time_text(&self, text: &str) -> String {
        crate::time::rewritten(text, self.time)
    }

    /// Says something that is no data.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            output::talk(text);
        }
    }

    /// An answer within the time there is. After two seconds it says who does not answer.
    pub(crate) async fn ask<T>(&self, answer: impl Future<Output = Answer<T>>) -> Result<T, Failure> {
        let answer = self.patiently(answer, || self.is_silent());
        match self.timeout {
            None => Ok(answer.await?),
            Some(timeout) => match tokio::time::timeout(timeout, answer).await {
                Ok(answer) => Ok(answer?),
                Err(_) => Err(self.unanswered(timeout)),
            },
        }
    }

    fn is_silent(&self) -> String {
        format!("waiting: {} has not answered for 2 s", self.hub.origin())
    }

    fn unanswered(&self, timeout: Duration) -> Failure {
        let within = dalsegno_host::config::units::duration_text(timeout);
        let detail = format!("the host did not answer within {within}");
        Failure::from(RequestError::new(RequestErrorKind::TimedOut, detail))
            .help(format!("dalsegno doctor --server {}", self.hub.origin()))
    }

    /// What follows until it ends by itself, within the time there is.
    pub(crate) async fn follow(
        &self,
        id: Option<&InstanceId>,
        following: impl Future<Output = Result<Exit, Failure>>,
    ) -> Result<Exit, Failure> {
        let Some(timeout) = self.timeout else {
            return following.await;
        };
        match tokio::time::timeout(timeout, following).await {
            Ok(ended) => ended,
            Err(_) => Err(time_is_over(timeout, id)),
        }
    }

    /// Waits for something, and says why when it takes its time.
    pub(crate) async fn patiently<T>(
        &self,
        answer: impl Future<Output = T>,
        why: impl FnOnce() -> String,
    ) -> T {
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = tokio::time::sleep(SILENCE) => {}
        }
        self.say(&why());
        answer.await
    }

    /// Waits for something of an instance; after two seconds it says, once, what holds that.
    pub(crate) async fn told_why<T>(
        &self,
        id: &InstanceId,
        is_told: &mut bool,
        answer: impl Future<Output = T>,
    ) -> T {
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = tokio::time::sleep(SILENCE) => {}
        }
        *is_told = true;
        // A host that does not answer is told of by what is waited for.
        if let Ok(Some(explanation)) = self.hub.explain(id).await {
            self.say(&in_words(&explanation));
        }
        answer.await
    }

    pub(crate) fn rows(&self, head: &[&str], rows: &[Row]) {
        if rows.is_empty() && matches!(self.format, Format::Jsonl | Format::Id) {
            return;
        }
        output::data(&output::rows(self.format, head, rows));
    }

    pub(crate) fn one(&self, head: &[&str], row: &Row) {
        output::data(&output::one(self.format, head, row));
    }

    pub(crate) fn instance(&self, status: &InstanceStatus) {
        self.one(&DETAILS, &details(status, self.time));
    }

    /// Waits until an instance is finished; after two seconds it says what holds it.
    pub(crate) async fn wait(
        &self,
        id: &InstanceId,
        timeout: Option<Duration>,
    ) -> Result<InstanceStatus, Failure> {
        let timeout = timeout.or(self.timeout);
        let Some(most) = timeout else {
            return self.wait_and_say(id, None).await;
        };
        // A host that does not answer at all does not keep to the time, either.
        let bounded = tokio::time::timeout(most + GRACE, self.wait_in_all(id, most));
        bounded.await.unwrap_or_else(|_| Err(self.unanswered(most)))
    }

    async fn wait_and_say(
        &self,
        id: &InstanceId,
        timeout: Option<Duration>,
    ) -> Result<InstanceStatus, Failure> {
        let begun = Instant::now();
        let first = timeout.unwrap_or(LOOK).min(LOOK);
        let look = self.hub.wait_for_completion(id, Some(first));
        match self.patiently(look, || self.is_silent()).await {
            Err(error)
                if error.kind == RequestErrorKind::TimedOut && timeout.is_none_or(|most| most > first) => {}
            answer => return Ok(answer?),
        }
        if let Some(explanation) = self.hub.explain(id).await? {
            self.say(&in_words(&explanation));
        }
        let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        Ok(self.hub.wait_for_completion(id, left).await?)
    }

    /// The same with the time that was given: the host was asked more than once, and knows of the last
    /// time alone.
    async fn wait_in_all(&self, id: &InstanceId, timeout: Duration) -> Result<InstanceStatus, Failure> {
        let waited = self.wait_and_say(id, Some(timeout)).await;
        waited.map_err(|failure| match failure.exit {
            Exit::TimedOut => time_is_over(timeout, Some(id)),
            _ => failure,
        })
    }

    /// What is no table for people.
    pub(crate) fn prose(&self, id: &str, text: &str, json: &str) {
        match self.format {
            Format::Table | Format::Wide | Format::Csv => output::data(text),
            Format::Json | Format::Jsonl => output::data(json),
            Format::Id => output::data(id),
        }
    }

    /// One row of many that come one by one, so nothing is known of how wide the others are.
    pub(crate) fn line(&self, head: &[&str], row: &Row) {
        output::data(&output::line(self.format, head, row));
    }

    /// Shows how an instance ended: its output alone for people, all of it as JSON.
    pub(crate) fn ended(&self, status: &InstanceStatus) -> Exit {
        let row = &status.row;
        match (self.format, row.status) {
            (Format::Table | Format::Wide, Status::Failed) => {
                let failure = row.failure.as_ref().map(ToString::to_string).unwrap_or_default();
                output::talk(&format!("{} failed: {failure}", row.id));
            }
            (Format::Table | Format::Wide, Status::Terminated | Status::Canceled) => {
                let reason = row.output.as_ref().map(|output| format!(": {}", output.as_str()));
                output::talk(&format!(
                    "{} was {}{}",
                    row.id,
                    row.status.as_str().to_lowercase(),
                    reason.unwrap_or_default()
                ));
            }
            (Format::Table | Format::Wide, _) => {
                output::data(row.output.as_ref().map_or("null", |output| output.as_str()))
            }
            _ => self.instance(status),
        }
        exit_of(row.status)
    }
}

fn time_is_over(timeout: Duration, id: Option<&InstanceId>) -> Failure {
    let given = dalsegno_host::config::units::duration_text(timeout);
    let error = |detail| RequestError::new(RequestErrorKind::TimedOut, detail);
    match id {
        Some(id) => error(format!("{id} has not ended within {given}"))
            .about(id)
            .into(),
        None => Failure::from(error(format!("the {given} of --timeout are over")))
            .help("without --timeout it goes on until Ctrl-C"),
    }
}

/// How an instance ended, as an exit code.
pub(crate) fn exit_of(status: Status) -> Exit {
    match status {
        Status::Failed => Exit::InstanceFailed,
        Status::Terminated | Status::Canceled => Exit::InstanceTerminated,
        _ => Exit::Ok,
    }
}

/// Checks the host by the certificates in a file.
fn trust(hub: RemoteHub, path: &Path) -> Result<RemoteHub, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::configuration(&format!("the certificates to trust: {}: {error}", path.display()))
    };
    let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
    hub.trust(&pem).map_err(|error| wrong(&error))
}

/// The key as given, else the one in the file that the environment names, else the profile's.
fn key(global: &Global, target: &Target) -> Result<Option<String>, Failure> {
    if global.key.is_some() {
        return Ok(global.key.clone());
    }
    let named = std::env::var_os(KEY_FILE).filter(|path| !path.is_empty());
    let (path, by) = match (named, &target.key_file) {
        (Some(path), _) => (std::path::PathBuf::from(path), KEY_FILE),
        (None, Some(path)) => (path.clone(), "key_file of the profile"),
        (None, None) => return Ok(None),
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::configuration(&format!("{by}: {} cannot be read: {error}", path.display()))
    })?;
    Ok(Some(text.trim().to_owned()))
}

/// Events that came too late for the code: how many, and the first names.
fn unconsumed(events: &UnconsumedEvents) -> String {
    let (count, names) = (events.count, events.names.join(", "));
    match count > events.names.len() as u64 {
        true => format!("{names} and others, {count} events"),
        false => names,
    }
}

fn details(status: &InstanceStatus, form: TimeForm) -> Row {
    let row = &status.row;
    let payload = |payload: &Option<dalsegno_core::Payload>| {
        payload
            .as_ref()
            .map(|payload| payload.as_str().to_owned())
            .unwrap_or_default()
    };
    let time = |at: Option<dalsegno_core::Timestamp>| at.map(|at| written(at, form)).unwrap_or_default();
    let tags: Vec<String> = row
        .tags
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Row {
        id: row.id.to_string(),
        cells: vec![
            row.id.to_string(),
            row.name.to_string(),
            row.version.as_deref().unwrap_or_default().to_owned(),
            row.status.as_str().to_owned(),
            written(row.created, form),
            written(row.updated, form),
            time(row.completed),
            time(row.scheduled_start),
            tags.join(", "),
            row.parent
                .as_ref()
                .map(|parent| parent.instance.to_string())
                .unwrap_or_default(),
            payload(&row.input),
            payload(&row.custom_status),
            payload(&row.output),
            row.failure.as_ref().map(ToString::to_string).unwrap_or_default(),
            row.parked.as_ref().map(ToString::to_string).unwrap_or_default(),
            status.waits_for.join("; "),
            unconsumed(&status.unconsumed),
            row.events.to_string(),
        ],
        json: json::status(status),
    }
}
