//! Configuration: defaults < `dalsegno.toml` < environment < flags, each value with its origin.
//!
//! Every key is in one table (`table.rs`), which is also the reference in `docs/config.md`. What
//! is not in it is refused with the nearest that is; all mistakes are told at once.

mod host_json;
mod resolve;
mod source;
mod table;
mod template;
mod traces;
pub mod units;
mod webhooks;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dalsegno_core::limits::Limits;
use dalsegno_engine::hub::LimiterDefinition;

use crate::audit::AuditLimits;
use crate::http::auth::KeysInQuery;
use crate::http::request::HttpSettings;
pub use host_json::{HostJson, HostJsonKey, Meaning};
pub use resolve::{Program, Resolved};
pub use source::Sources;
pub use table::reference;
use table::{SETTINGS, Value};
pub use template::template;
pub use traces::TraceConfig;
pub use webhooks::WebhookConfig;

/// What a host is told, typed and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The folder of the store.
    pub store_path: PathBuf,
    /// The hub's name.
    pub hub: String,
    /// Partitions of a new hub.
    pub partitions: u32,
    /// How HTTP is answered.
    pub http: HttpSettings,
    /// First segment of the app's routes.
    pub route_prefix: String,
    /// When keys are needed.
    pub keys_required: KeysRequired,
    /// Where the keys are.
    pub keys_file: Option<PathBuf>,
    /// Whether `?code=` may hold a key.
    pub keys_in_query: KeysInQuery,
    /// Names of this host, beside those of loopback.
    pub hosts: Vec<String>,
    /// The hub's limits.
    pub limits: Limits,
    /// Limiters that the operator defines, by name.
    pub limiters: Vec<(String, LimiterDefinition)>,
    /// Activities that pass one of them, each with the limiter's name.
    pub limited: Vec<(String, String)>,
    /// Who is told of statuses, and how. Secrets are in files that are read at the start.
    pub webhooks: WebhookConfig,
    /// Where traces are sent. Headers are in a file that is read at the start.
    pub traces: TraceConfig,
    /// How gRPC is served.
    pub grpc: GrpcSettings,
    /// Certificate and key of the listener.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Beyond loopback too, it may speak without TLS.
    pub allows_plaintext: bool,
    /// Lowest level that is logged.
    pub log_level: String,
    /// `auto`, `text` or `json`.
    pub log_format: String,
    /// How long a shutdown waits for what runs.
    pub drain: Duration,
}

/// How gRPC is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcSettings {
    /// `refused`, `this-hub` or `any-hub`.
    pub workers: String,
    /// Work items of each kind that a worker has when it names no number.
    pub in_flight_default: usize,
    /// What is not answered for so long is given to another worker.
    pub turn_timeout: Duration,
    /// Bytes of one message that is taken.
    pub message_bytes_max: usize,
    /// Operations of entities are sent as the older work item.
    pub has_old_entity_items: bool,
}

/// When callers need a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysRequired {
    /// Whenever a key file is configured. Without one [`Program`] decides.
    Auto,
    /// Always: a key file must be configured.
    Always,
    /// Never: no key file may be configured, and the host listens on loopback.
    Never,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A `host.json` of Durable Functions.
    HostJson {
        /// The file.
        path: PathBuf,
        /// Its key; empty for the file.
        key: String,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl Origin {
    /// For sorting: the file from its top, then the rest as it came.
    fn place(&self) -> (usize, usize) {
        match self {
            Self::File { line, column, .. } => (*line, *column),
            Self::Default | Self::HostJson { .. } | Self::Environment(_) | Self::Flag(_) => (usize::MAX, 0),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::HostJson { path, key } if key.is_empty() => write!(f, "{}", path.display()),
            Self::HostJson { path, key } => write!(f, "{} {key}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub origin: Origin,
    /// Which key; empty when the text cannot be read at all.
    pub key: String,
    /// What is wrong, what was expected.
    pub reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

/// All mistakes of a configuration: the host does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub Vec<Mistake>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Refused {}

/// A configuration, and where each value of it comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Key, value as text, origin: in the order of the table.
    pub values: Vec<(String, String, Origin)>,
}

impl Config {
    /// Reads and checks all sources.
    ///
    /// # Errors
    /// With every mistake there is. Nothing was touched.
    pub fn load(sources: &Sources) -> Result<Loaded, Refused> {
        let (resolved, mut mistakes) = source::resolve(sources);
        let (limiters, limiter_mistakes) = source::limiters(&resolved);
        mistakes.extend(limiter_mistakes);
        let (limited, limited_mistakes) = source::limited(&resolved);
        mistakes.extend(limited_mistakes);
        let values = Values(&resolved);
        if mistakes.is_empty() {
            mistakes.extend(values.contradictions());
        }
        if !mistakes.is_empty() {
            mistakes.sort_by_key(|mistake| mistake.origin.place());
            return Err(Refused(mistakes));
        }
        let shown = resolved
            .iter()
            .map(|(key, (value, origin))| (key.clone(), value.to_string(), origin.clone()));
        let mut shown: Vec<_> = shown.collect();
        let place = |key: &str| SETTINGS.iter().position(|setting| setting.key == key);
        shown.sort_by_key(|(key, _, _)| (place(key).unwrap_or(usize::MAX), key.clone()));
        Ok(Loaded {
            config: Self {
                limiters,
                limited,
                ..values.config()
            },
            values: shown,
        })
    }

    /// Reads every file that the configuration names, and checks what the values do together. The
    /// host starts with what this returns; `config check` stops here.
    ///
    /// # Errors
    /// With every mistake there is. Nothing was changed.
    pub fn resolve(&self, program: Program) -> Result<Resolved, Refused> {
        resolve::resolve(self, program)
    }
}

/// The resolved values by key; every key of the table is there.
struct Values<'a>(&'a BTreeMap<String, (Value, Origin)>);

impl Values<'_> {
    fn get(&self, key: &str) -> &Value {
        &self.0.get(key).expect("every key of the table has a default").0
    }

    fn text(&self, key: &str) -> String {
        self.get(key).to_string()
    }

    fn text_if(&self, key: &str) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    fn count(&self, key: &str) -> u64 {
        match self.get(key) {
            Value::Count(count) => *count,
            other => panic!("{key} is a count in the table and {other:?} here"),
        }
    }

    fn size(&self, key: &str) -> usize {
        usize::try_from(self.count(key)).unwrap_or(usize::MAX)
    }

    fn small(&self, key: &str) -> u32 {
        u32::try_from(self.count(key)).unwrap_or(u32::MAX)
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Value::Flag(true))
    }

    fn duration(&self, key: &str) -> Duration {
        match self.get(key) {
            Value::Duration(duration) => *duration,
            other => panic!("{key} is a duration in the table and {other:?} here"),
        }
    }

    fn list(&self, key: &str) -> Vec<String> {
        match self.get(key) {
            Value::List(list) => list.clone(),
            other => panic!("{key} is a list in the table and {other:?} here"),
        }
    }

    fn mistake(&self, key: &str, reason: &str) -> Mistake {
        let origin = self
            .0
            .get(key)
            .map_or(Origin::Default, |(_, origin)| origin.clone());
        Mistake {
            origin,
            key: key.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// What each value allows alone and they do not together.
    fn contradictions(&self) -> Vec<Mistake> {
        let mut found = Vec::new();
        if self.count("http.body_bytes_max") < self.count("limits.payload_bytes_max") {
            found.push(self.mistake(
                "http.body_bytes_max",
                "is smaller than limits.payload_bytes_max: raise it",
            ));
        }
        let has_keys = !self.text("auth.keys_file").is_empty();
        match self.text("auth.required").as_str() {
            "always" if !has_keys => {
                found.push(self.mistake("auth.required", "is always, and auth.keys_file names no file"));
            }
            "never" if has_keys => found.push(self.mistake(
                "auth.required",
                "is never, and auth.keys_file names a file: remove one of the two",
            )),
            _ => {}
        }
        for (key, other) in [
            ("tls.certificate_file", "tls.key_file"),
            ("tls.key_file", "tls.certificate_file"),
        ] {
            if !self.text(key).is_empty() && self.text(other).is_empty() {
                found.push(self.mistake(
                    key,
                    &format!("is set and {other} is not, so the host would not speak TLS: set both"),
                ));
            }
        }
        if self
            .text("http.route_prefix")
            .split('/')
            .any(|part| matches!(part, "runtime" | "admin" | "durabletask"))
        {
            found.push(self.mistake("http.route_prefix", "is reserved for the host: choose another"));
        }
        found
    }

    fn config(&self) -> Config {
        let parsed = "the table checked the form";
        Config {
            listen: self.text("listen").parse().expect(parsed),
            store_path: self.text("store.path").into(),
            hub: self.text("hub.name"),
            partitions: self.small("hub.partitions"),
            http: self.http(),
            route_prefix: self.text("http.route_prefix"),
            keys_required: match self.text("auth.required").as_str() {
                "always" => KeysRequired::Always,
                "never" => KeysRequired::Never,
                _ => KeysRequired::Auto,
            },
            keys_in_query: match self.flag("auth.keys_in_query") {
                true => KeysInQuery::Accepted,
                false => KeysInQuery::Ignored,
            },
            keys_file: self.text_if("auth.keys_file").map(PathBuf::from),
            hosts: self.list("http.hosts"),
            limits: self.limits(),
            limiters: Vec::new(),
            limited: Vec::new(),
            webhooks: WebhookConfig::of(self.0),
            traces: TraceConfig::of(self.0),
            grpc: GrpcSettings {
                workers: self.text("grpc.workers"),
                in_flight_default: self.size("grpc.in_flight_default"),
                turn_timeout: self.duration("grpc.turn_timeout"),
                message_bytes_max: self.size("grpc.message_bytes_max"),
                has_old_entity_items: self.text("grpc.entity_items") == "v1",
            },
            tls: self
                .text_if("tls.certificate_file")
                .zip(self.text_if("tls.key_file"))
                .map(|(certificate, key)| (certificate.into(), key.into())),
            allows_plaintext: self.flag("tls.allow_plaintext"),
            log_level: self.text("log.level"),
            log_format: self.text("log.format"),
            drain: self.duration("shutdown.drain"),
        }
    }

    fn http(&self) -> HttpSettings {
        let address = |text: &String| text.parse::<IpAddr>().expect("the table checked the form");
        HttpSettings {
            public_url: self.text_if("http.public_url"),
            is_tls: false,
            trusted_proxies: self.list("http.trusted_proxies").iter().map(address).collect(),
            use_forwarded_host: self.flag("http.use_forwarded_host"),
            connection: self.text("http.connection"),
            body_bytes_max: self.size("http.body_bytes_max"),
            page_max: self.size("http.page_max"),
            link_lifetime: self.duration("http.link_lifetime"),
            links_all_with_keys: self.text("http.link_keys") == "all",
            start_replaces_unfinished: self.text("http.overridable_existing_instance_states") == "AnyState",
            connections_max: self.size("http.connections_max"),
            header_timeout: self.duration("http.header_timeout"),
            heartbeat: self.duration("http.heartbeat"),
            has_dashboard: self.flag("dashboard.enabled"),
            is_read_only: self.flag("read_only"),
            audit_file: self.text_if("audit.file").map(PathBuf::from),
            audit_limits: AuditLimits {
                file_bytes_max: self.count("audit.file_bytes_max"),
                files_max: self.size("audit.files_max"),
            },
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            payload_bytes_max: self.size("limits.payload_bytes_max"),
            payload_inline_bytes: self.size("limits.payload_inline_bytes"),
            history_events_max: self.count("limits.history_events_max"),
            turn_actions_max: self.size("limits.turn_actions_max"),
            turn_bytes_max: self.size("limits.turn_bytes_max"),
            batch_bytes_max: self.size("limits.batch_bytes_max"),
            turn_ms_max: self.count("limits.turn_ms_max"),
            stuck_threads_max: self.size("limits.stuck_threads_max"),
            kills_max: self.small("limits.kills_max"),
            inbox_messages_max: self.size("limits.inbox_messages_max"),
            futures_bytes_max: self.size("limits.futures_bytes_max"),
            activities_running_max: self.size("limits.activities_running_max"),
            unsynced_bytes_max: self.size("limits.unsynced_bytes_max"),
            locked_entities_max: self.size("limits.locked_entities_max"),
            reason_bytes_max: self.size("limits.reason_bytes_max"),
            name_bytes_max: self.size("limits.name_bytes_max"),
            tags_max: self.size("limits.tags_max"),
            waiters_max: self.size("limits.waiters_max"),
            event_keys_max: self.size("limits.event_keys_max"),
            entity_batch_max: self.size("limits.entity_batch_max"),
            disk_free_bytes_min: self.count("limits.disk_free_bytes_min"),
            waiters_per_key_max: self.size("limits.waiters_per_key_max"),
            page_bytes_max: self.size("limits.page_bytes_max"),
            recursion_max: self.small("limits.recursion_max"),
        }
    }
}

#[cfg(test)]
mod tests;
