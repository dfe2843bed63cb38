//! A `host.json` of Durable Functions, read as a source of the configuration.
//!
//! It is imported, not our own form: each key is taken as one of ours, or it is told why it means
//! nothing here, or that nobody knows it. Comments, trailing commas and text behind the last brace
//! are tolerated, as the Functions host tolerates them; names match in any case. It stands below
//! `dalsegno.toml`: whatever is said there wins.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::{Mistake, Origin, Refused};
use crate::nearest::nearest;

/// How the environment overrides keys: `AzureFunctionsJobHost__extensions__durableTask__hubName`.
const PREFIX: &str = "AzureFunctionsJobHost__";

/// What was read: every key, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostJson {
    /// The file.
    pub path: PathBuf,
    /// Its keys, in order of their names.
    pub keys: Vec<HostJsonKey>,
}

/// A key of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostJsonKey {
    /// Its path, such as `extensions.durableTask.hubName`.
    pub key: String,
    /// What becomes of it.
    pub meaning: Meaning,
}

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It is this key of ours, with this value.
    Taken {
        /// Ours.
        key: &'static str,
        /// The value, as ours is written.
        value: String,
    },
    /// It means nothing here.
    Ignored(&'static str),
    /// Nobody knows it.
    Unknown(Option<&'static str>),
}

/// What is known of a key: its path, and what it is here.
type Known = (&'static str, Rule);

enum Rule {
    /// The same value under this key.
    As(&'static str),
    /// The lowest level that is logged, by its word.
    LogLevel,
    Ignore(&'static str),
    /// And everything below it.
    IgnoreAll(&'static str),
}

const NOT_FUNCTIONS: &str = "is for the Functions host: nothing here reads it";
const NO_STORAGE: &str = "this host keeps its hubs itself: store.path says where";
const TURNS: &str =
    "here turns run on one thread a core; what a worker elsewhere has at once is grpc.in_flight_default";
const KEPT_ALIVE: &str = "executions always stay in memory between turns, up to limits.futures_bytes_max";

/// Paths below `extensions.durableTask` first, then those of the host.
const KNOWN: &[Known] = &[
    ("extensions.durableTask.hubName", Rule::As("hub.name")),
    (
        "extensions.durableTask.maxConcurrentActivityFunctions",
        Rule::As("limits.activities_running_max"),
    ),
    (
        "extensions.durableTask.maxConcurrentOrchestratorFunctions",
        Rule::Ignore(TURNS),
    ),
    (
        "extensions.durableTask.maxConcurrentEntityFunctions",
        Rule::Ignore(TURNS),
    ),
    (
        "extensions.durableTask.maxEntityOperationBatchSize",
        Rule::As("limits.entity_batch_max"),
    ),
    (
        "extensions.durableTask.maxOrchestrationActions",
        Rule::As("limits.turn_actions_max"),
    ),
    (
        "extensions.durableTask.overridableExistingInstanceStates",
        Rule::As("http.overridable_existing_instance_states"),
    ),
    (
        "extensions.durableTask.maxGrpcMessageSizeInBytes",
        Rule::As("grpc.message_bytes_max"),
    ),
    (
        "extensions.durableTask.httpSettings.useForwardedHost",
        Rule::As("http.use_forwarded_host"),
    ),
    (
        "extensions.durableTask.httpSettings.defaultAsyncRequestSleepTimeMilliseconds",
        Rule::Ignore("the built-in HTTP call is the SDK's, which has its own pause"),
    ),
    (
        "extensions.durableTask.storageProvider",
        Rule::IgnoreAll(NO_STORAGE),
    ),
    (
        "extensions.durableTask.tracing",
        Rule::IgnoreAll("traces are set by the variables OTEL_EXPORTER_OTLP_*"),
    ),
    (
        "extensions.durableTask.notifications",
        Rule::IgnoreAll("statuses are told by [webhook.NAME] of dalsegno.toml"),
    ),
    (
        "extensions.durableTask.extendedSessionsEnabled",
        Rule::Ignore(KEPT_ALIVE),
    ),
    (
        "extensions.durableTask.extendedSessionIdleTimeoutInSeconds",
        Rule::Ignore(KEPT_ALIVE),
    ),
    (
        "extensions.durableTask.maxQueuePollingInterval",
        Rule::Ignore("nothing is polled"),
    ),
    (
        "extensions.durableTask.entityMessageReorderWindowInMinutes",
        Rule::Ignore("messages arrive in order and once, so none has to be put in order"),
    ),
    (
        "extensions.durableTask.useAppLease",
        Rule::Ignore("one process at a time has a hub's folder"),
    ),
    (
        "extensions.durableTask.appLeaseOptions",
        Rule::IgnoreAll("one process at a time has a hub's folder"),
    ),
    (
        "extensions.durableTask.useGracefulShutdown",
        Rule::Ignore("every end drains: shutdown.drain says how long"),
    ),
    (
        "extensions.durableTask.rollbackEntityOperationsOnExceptions",
        Rule::Ignore("an operation that fails changes nothing, unless the SDK's entity says otherwise"),
    ),
    (
        "extensions.durableTask.localRpcEndpointEnabled",
        Rule::Ignore("gRPC is on the one port, for who may: grpc.workers"),
    ),
    (
        "extensions.durableTask.defaultVersion",
        Rule::Ignore("a start without a version takes the highest that is registered"),
    ),
    (
        "extensions.durableTask.versionMatchStrategy",
        Rule::Ignore("the SDK's worker decides which versions it takes"),
    ),
    (
        "extensions.durableTask.versionFailureStrategy",
        Rule::Ignore("the SDK's worker decides which versions it takes"),
    ),
    (
        "extensions.durableTask.storeInputsInOrchestrationHistory",
        Rule::Ignore("inputs are always in the history"),
    ),
    (
        "extensions.durableTask.maxInMemoryEntities",
        Rule::Ignore(KEPT_ALIVE),
    ),
    ("extensions.http.routePrefix", Rule::As("http.route_prefix")),
    ("extensions.http", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("logging.logLevel.default", Rule::LogLevel),
    (
        "logging",
        Rule::IgnoreAll("one level for all: log.level, or logging.logLevel.default here"),
    ),
    ("version", Rule::Ignore("the form of this file")),
    (
        "functionTimeout",
        Rule::Ignore("activities say themselves how long they may take"),
    ),
    ("extensionBundle", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("extensions.queues", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("extensions.blobs", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("extensions.cosmosDB", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("extensions.eventHubs", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("extensions.kafka", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("extensions.sendGrid", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("extensions.serviceBus", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("extensions.signalR", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("extensions.warmup", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("aggregator", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("applicationInsights", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("concurrency", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("customHandler", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("functions", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("healthMonitor", Rule::IgnoreAll("/healthz asks for progress")),
    ("managedDependency", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("retry", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("sendCanceledInvocationsToTheWorker", Rule::Ignore(NOT_FUNCTIONS)),
    ("singleton", Rule::IgnoreAll(NOT_FUNCTIONS)),
    (
        "telemetryMode",
        Rule::Ignore("traces are set by the variables OTEL_EXPORTER_OTLP_*"),
    ),
    ("watchDirectories", Rule::IgnoreAll(NOT_FUNCTIONS)),
    ("watchFiles", Rule::IgnoreAll(NOT_FUNCTIONS)),
];

/// Words of log levels there, and ours.
const LEVELS: [(&str, &str); 7] = [
    ("Trace", "trace"),
    ("Debug", "debug"),
    ("Information", "info"),
    ("Warning", "warn"),
    ("Error", "error"),
    ("Critical", "error"),
    ("None", "error"),
];

impl HostJson {
    /// Reads a text, and the environment that overrides it and that `%NAME%` refers to.
    ///
    /// # Errors
    /// When the text is no JSON object, or a value that is taken is none, or names a variable that
    /// is not set: with every mistake there is.
    pub fn parse(path: &Path, text: &str, environment: &[(String, String)]) -> Result<Self, Refused> {
        let object = object(path, text)?;
        let mut leaves = Vec::new();
        collect("", &object, &mut leaves);
        for (name, value) in environment {
            let begin = name.get(..PREFIX.len());
            if begin.is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX)) {
                let key = name[PREFIX.len()..].replace("__", ".").replace(':', ".");
                leaves.retain(|(known, _)| !known.eq_ignore_ascii_case(&key));
                leaves.push((key, Json::String(value.clone())));
            }
        }
        leaves.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut mistakes = Vec::new();
        let mut keys = Vec::new();
        for (key, value) in leaves {
            match meaning(&key, &value, environment) {
                Ok(meaning) => keys.push(HostJsonKey { key, meaning }),
                Err(reason) => mistakes.push(Mistake {
                    origin: origin(path, &key),
                    key: String::new(),
                    reason,
                }),
            }
        }
        match mistakes.is_empty() {
            true => Ok(Self {
                path: path.to_owned(),
                keys,
            }),
            false => Err(Refused(mistakes)),
        }
    }

    /// Ours that it sets: key, value, and where it says so.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&'static str, &str, Origin)> {
        self.keys.iter().filter_map(|told| match &told.meaning {
            Meaning::Taken { key, value } => Some((*key, value.as_str(), origin(&self.path, &told.key))),
            Meaning::Ignored(_) | Meaning::Unknown(_) => None,
        })
    }
}

/// A line for each key, with what becomes of it.
impl fmt::Display for HostJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if self.keys.is_empty() {
            return f.write_str(" says nothing");
        }
        for told in &self.keys {
            write!(f, "\n  {told}")?;
        }
        Ok(())
    }
}

impl fmt::Display for HostJsonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.meaning {
            Meaning::Taken { key: ours, value } => write!(f, "{key}: taken as {ours} = {value}"),
            // What is not taken may be a secret.
            Meaning::Ignored(reason) => write!(f, "{key}: ignored, {reason}"),
            Meaning::Unknown(Some(near)) => write!(f, "{key}: unknown, did you mean {near}?"),
            Meaning::Unknown(None) => write!(f, "{key}: unknown, nothing is done with it"),
        }
    }
}

fn origin(path: &Path, key: &str) -> Origin {
    Origin::HostJson {
        path: path.to_owned(),
        key: key.to_owned(),
    }
}

fn meaning(key: &str, value: &Json, environment: &[(String, String)]) -> Result<Meaning, String> {
    let Some((_, rule)) = KNOWN.iter().find(|(known, rule)| is_of(key, known, rule)) else {
        let known = KNOWN.iter().map(|(known, _)| *known);
        return Ok(Meaning::Unknown(nearest(key, known)));
    };
    match rule {
        Rule::As(ours) => Ok(Meaning::Taken {
            key: ours,
            value: plain(value, environment)?,
        }),
        Rule::LogLevel => {
            let word = plain(value, environment)?;
            let level = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&word));
            let words = LEVELS.map(|(name, _)| name).join(", ");
            let (_, level) = level.ok_or_else(|| format!("got {word:?}, expected one of {words}"))?;
            Ok(Meaning::Taken {
                key: "log.level",
                value: (*level).to_owned(),
            })
        }
        Rule::Ignore(reason) | Rule::IgnoreAll(reason) => Ok(Meaning::Ignored(reason)),
    }
}

fn is_of(key: &str, known: &str, rule: &Rule) -> bool {
    let below = || {
        let begin = key.get(..known.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(known)) && key[known.len()..].starts_with('.')
    };
    key.eq_ignore_ascii_case(known) || (matches!(rule, Rule::IgnoreAll(_)) && below())
}

/// A value as our own keys take it from a flag. `%NAME%` is a variable of the environment.
fn plain(value: &Json, environment: &[(String, String)]) -> Result<String, String> {
    match value {
        Json::String(text) => match text.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')) {
            None => Ok(text.clone()),
            Some(name) => {
                let found = environment.iter().find(|(known, _)| known == name);
                let found = found.map(|(_, value)| value.clone());
                found.ok_or_else(|| format!("names the setting {name}, which the environment does not have"))
            }
        },
        Json::Number(_) | Json::Bool(_) => Ok(value.to_string()),
        Json::Null => Err("is null: leave it out, or give it a value".to_owned()),
        Json::Array(_) | Json::Object(_) => Err("is a list or an object, expected one value".to_owned()),
    }
}

/// Every value that is no object, under its path; an empty object under its own.
fn collect(path: &str, value: &Json, leaves: &mut Vec<(String, Json)>) {
    match value {
        Json::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                collect(&path, member, leaves);
            }
        }
        Json::Object(_) if path.is_empty() => {}
        other => leaves.push((path.to_owned(), other.clone())),
    }
}

fn object(path: &Path, text: &str) -> Result<Json, Refused> {
    let refuse = |origin, reason| {
        Refused(vec![Mistake {
            origin,
            key: String::new(),
            reason,
        }])
    };
    let plain = without_comments(text.trim_start_matches('\u{feff}'));
    // What stands behind the last brace is not read.
    match serde_json::Deserializer::from_str(&plain)
        .into_iter::<Json>()
        .next()
    {
        Some(Ok(value)) if value.is_object() => Ok(value),
        Some(Err(error)) => {
            let origin = Origin::File {
                path: path.to_owned(),
                line: error.line(),
                column: error.column(),
            };
            Err(refuse(origin, format!("is no JSON: {error}")))
        }
        Some(Ok(_)) | None => Err(refuse(
            origin(path, ""),
            "is no JSON object: begin it with {".to_owned(),
        )),
    }
}

/// Comments and trailing commas become spaces, so that places stay what they are.
fn without_comments(text: &str) -> String {
    let mut plain: Vec<char> = text.chars().collect();
    let mut comma = None;
    let mut at = 0;
    while at < plain.len() {
        match (plain[at], plain.get(at + 1)) {
            ('"', _) => {
                comma = None;
                at = end_of_text(&plain, at);
            }
            ('/', Some('/')) => at = blank(&mut plain, at, |rest| rest.iter().position(|c| *c == '\n')),
            ('/', Some('*')) => {
                at = blank(&mut plain, at, |rest| {
                    rest[2..]
                        .windows(2)
                        .position(|pair| pair == ['*', '/'])
                        .map(|place| place + 4)
                });
            }
            (',', _) => comma = Some(at),
            ('}' | ']', _) => {
                if let Some(place) = comma.take() {
                    plain[place] = ' ';
                }
            }
            (letter, _) if !letter.is_whitespace() => comma = None,
            _ => {}
        }
        at += 1;
    }
    plain.into_iter().collect()
}

/// The place of the quote that ends a text.
fn end_of_text(letters: &[char], begin: usize) -> usize {
    let mut at = begin + 1;
    while at < letters.len() && letters[at] != '"' {
        at += if letters[at] == '\\' { 2 } else { 1 };
    }
    at
}

/// Puts spaces for a comment that begins here; returns the place of its last letter.
fn blank(letters: &mut [char], begin: usize, length: impl Fn(&[char]) -> Option<usize>) -> usize {
    let rest = &letters[begin..];
    let end = begin + length(rest).unwrap_or(rest.len());
    for letter in &mut letters[begin..end] {
        if *letter != '\n' {
            *letter = ' ';
        }
    }
    end - 1
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn pairs(environment: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        environment.iter().map(pair).collect()
    }

    fn check(text: &str, environment: &[(&str, &str)], wanted: &Expect) {
        let read = HostJson::parse(Path::new("host.json"), text, &pairs(environment));
        let told = match read {
            Ok(read) => read.to_string(),
            Err(refused) => format!("refused\n{refused}"),
        };
        wanted.assert_eq(&told);
    }

    #[test]
    fn each_key_is_taken_ignored_or_unknown() {
        check(
            r#"{
  "version": "2.0", // the form
  "logging": { "logLevel": { "default": "Information", "Host.Triggers": "Error" } },
  "functionTimeout": "00:05:00",
  "extensions": {
    "durableTask": {
      "hubName": "OrdersHub",
      "storageProvider": { "type": "mssql", "connectionStringName": "SQLDB_Connection" },
      "maxConcurrentActivityFunctions": 10,
      "maxConcurrentOrchestratorFunctions": 5,
      "extendedSessionsEnabled": true,
      "tracing": { "distributedTracingEnabled": true, "Version": "V2" },
      "httpSettings": { "useForwardedHost": true },
      /* written by hand */
      "MAXORCHESTRATIONACTIONS": 5000,
      "maxConcurentEntityFunctions": 7,
    },
    "http": { "routePrefix": "" },
  },
  "colour": "blue"
}
}
"#,
            &[],
            &expect![[r"
                host.json:
                  colour: unknown, nothing is done with it
                  extensions.durableTask.MAXORCHESTRATIONACTIONS: taken as limits.turn_actions_max = 5000
                  extensions.durableTask.extendedSessionsEnabled: ignored, executions always stay in memory between turns, up to limits.futures_bytes_max
                  extensions.durableTask.httpSettings.useForwardedHost: taken as http.use_forwarded_host = true
                  extensions.durableTask.hubName: taken as hub.name = OrdersHub
                  extensions.durableTask.maxConcurentEntityFunctions: unknown, did you mean extensions.durableTask.maxConcurrentEntityFunctions?
                  extensions.durableTask.maxConcurrentActivityFunctions: taken as limits.activities_running_max = 10
                  extensions.durableTask.maxConcurrentOrchestratorFunctions: ignored, here turns run on one thread a core; what a worker elsewhere has at once is grpc.in_flight_default
                  extensions.durableTask.storageProvider.connectionStringName: ignored, this host keeps its hubs itself: store.path says where
                  extensions.durableTask.storageProvider.type: ignored, this host keeps its hubs itself: store.path says where
                  extensions.durableTask.tracing.Version: ignored, traces are set by the variables OTEL_EXPORTER_OTLP_*
                  extensions.durableTask.tracing.distributedTracingEnabled: ignored, traces are set by the variables OTEL_EXPORTER_OTLP_*
                  extensions.http.routePrefix: taken as http.route_prefix = 
                  functionTimeout: ignored, activities say themselves how long they may take
                  logging.logLevel.Host.Triggers: ignored, one level for all: log.level, or logging.logLevel.default here
                  logging.logLevel.default: taken as log.level = info
                  version: ignored, the form of this file"]],
        );
    }

    #[test]
    fn the_environment_overrides_and_is_referred_to() {
        check(
            r#"{"extensions":{"durableTask":{"hubName":"%TaskHub%","maxConcurrentActivityFunctions":1}}}"#,
            &[
                ("TaskHub", "orders"),
                (
                    "AzureFunctionsJobHost__extensions__durableTask__maxConcurrentActivityFunctions",
                    "20",
                ),
            ],
            &expect![[r"
                host.json:
                  extensions.durableTask.hubName: taken as hub.name = orders
                  extensions.durableTask.maxConcurrentActivityFunctions: taken as limits.activities_running_max = 20"]],
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        check(
            "{\n  \"version\": 2.0.0\n}",
            &[],
            &expect![[r#"
            refused
            host.json:2:17: is no JSON: expected `,` or `}` at line 2 column 17"#]],
        );
        check(
            "[]",
            &[],
            &expect![[r#"
            refused
            host.json: is no JSON object: begin it with {"#]],
        );
        check(
            "",
            &[],
            &expect![[r#"
            refused
            host.json: is no JSON object: begin it with {"#]],
        );
        check("{}", &[], &expect!["host.json: says nothing"]);
        check(
            r#"{"extensions":{"durableTask":{"hubName":"%Nothing%","maxOrchestrationActions":null,"maxGrpcMessageSizeInBytes":[1]}},"logging":{"logLevel":{"default":"loud"}}}"#,
            &[],
            &expect![[r#"
                refused
                host.json extensions.durableTask.hubName: names the setting Nothing, which the environment does not have
                host.json extensions.durableTask.maxGrpcMessageSizeInBytes: is a list or an object, expected one value
                host.json extensions.durableTask.maxOrchestrationActions: is null: leave it out, or give it a value
                host.json logging.logLevel.default: got "loud", expected one of Trace, Debug, Information, Warning, Error, Critical, None"#]],
        );
    }

    #[test]
    fn texts_keep_what_looks_like_a_comment() {
        let text = r#"{"a":"// no \" /* comment */, }", /* one */ "b": [1, 2, /* two */ ], // three
            "c": 1,}"#;
        let read: Json = serde_json::from_str(&without_comments(text)).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"a": "// no \" /* comment */, }", "b": [1, 2], "c": 1})
        );
        for odd in ["/*", "//", "\"", "\"\\", "{,}", "/**/", "é/*é*/"] {
            assert_eq!(
                without_comments(odd).chars().count(),
                odd.chars().count(),
                "{odd}"
            );
        }
    }
}
