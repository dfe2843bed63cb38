//! Every key, with its kind, default and meaning.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dalsegno_core::limits::COMMIT_BYTES_MAX;
use dalsegno_core::query::Status;

use super::units;
use crate::authority;

/// A setting.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) meaning: &'static str,
}

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Flag,
    Count(u64, u64),
    Duration,
    Choice(&'static [&'static str]),
    Socket,
    Addresses,
    Hosts,
    Statuses,
    Functions,
    Url,
    Name,
    Rate,
    Share,
}

/// A value, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Count(u64),
    Duration(Duration),
    List(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Duration(duration) => f.write_str(&units::duration_text(*duration)),
            Self::List(list) => f.write_str(&list.join(",")),
        }
    }
}

/// A value as a source gives it.
#[derive(Clone, Debug)]
pub(super) enum Given {
    /// From the environment or a flag: everything is text there.
    Plain(String),
    Text(String),
    Integer(String),
    Flag(bool),
    List(Vec<String>),
    Other(&'static str),
}

impl Kind {
    /// What to write, for people.
    pub(super) fn expected(self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Flag => "true or false".into(),
            Self::Count(least, most) => format!("a whole number, {least} to {most}"),
            Self::Duration => "a duration like 30s, 5m, 12h, 30d".into(),
            Self::Choice(words) => words.join(", "),
            Self::Socket => "an address with port, like 127.0.0.1:8080".into(),
            Self::Addresses => "a list of IP addresses".into(),
            Self::Hosts => "a list of host names, each with or without a port".into(),
            Self::Statuses => "a list of statuses, like Completed,Failed".into(),
            Self::Functions => "a list of function names".into(),
            Self::Url => "a URL like https://hub.example.com, or nothing".into(),
            Self::Name => "letters, digits, - and _, at most 45".into(),
            Self::Share => "a number from 0 to 1, like \"0.25\"".into(),
            Self::Rate => "so many per time, like 5000/1h".into(),
        }
    }

    /// The value, if it is one of this kind.
    pub(super) fn read(self, given: &Given) -> Option<Value> {
        match (self, given) {
            (Self::Flag, Given::Flag(flag)) => Some(Value::Flag(*flag)),
            (Self::Flag, Given::Plain(text)) => text.parse().ok().map(Value::Flag),
            (Self::Count(least, most), Given::Integer(text) | Given::Plain(text)) => {
                let count = text.replace('_', "").parse().ok();
                count
                    .filter(|count| (least..=most).contains(count))
                    .map(Value::Count)
            }
            (Self::Addresses | Self::Hosts | Self::Statuses | Self::Functions, Given::List(list)) => {
                self.read_list(list.clone())
            }
            (Self::Addresses | Self::Hosts | Self::Statuses | Self::Functions, Given::Plain(text)) => self
                .read_list(
                    text.split(',')
                        .map(str::trim)
                        .filter(|part| !part.is_empty())
                        .map(str::to_owned)
                        .collect(),
                ),
            (Self::Share, Given::Integer(text)) => self.read_text(text),
            (
                Self::Flag
                | Self::Count(..)
                | Self::Addresses
                | Self::Hosts
                | Self::Statuses
                | Self::Functions,
                _,
            ) => None,
            (_, Given::Text(text) | Given::Plain(text)) => self.read_text(text),
            _ => None,
        }
    }

    fn read_list(self, list: Vec<String>) -> Option<Value> {
        let fits = |item: &String| match self {
            Self::Addresses => item.parse::<IpAddr>().is_ok(),
            Self::Statuses => Status::ALL.iter().any(|status| status.as_str() == item),
            Self::Functions => !item.is_empty(),
            _ => authority::is_host(item),
        };
        list.iter().all(fits).then_some(Value::List(list))
    }

    fn read_text(self, text: &str) -> Option<Value> {
        let fits = match self {
            Self::Duration => return units::duration(text).map(Value::Duration),
            Self::Choice(words) => words.contains(&text),
            Self::Socket => text.parse::<SocketAddr>().is_ok(),
            Self::Url => text.is_empty() || is_origin(text),
            Self::Name => is_name(text),
            Self::Share => text
                .parse::<f64>()
                .is_ok_and(|share| (0.0..=1.0).contains(&share)),
            Self::Rate => units::rate(text).is_some(),
            _ => true,
        };
        fits.then(|| Value::Text(text.to_owned()))
    }
}

fn is_origin(text: &str) -> bool {
    reqwest::Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none())
}

fn is_name(text: &str) -> bool {
    (1..=45).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

const fn row(key: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Setting {
    Setting {
        key,
        kind,
        default,
        meaning,
    }
}

const ANY: Kind = Kind::Count(1, u64::MAX >> 1);
/// A part of one commit: messages and rows repeat some of the values that are counted.
const OF_COMMIT: Kind = Kind::Count(1, COMMIT_BYTES_MAX as u64 / 4);
/// A limit that is kept in 32 bits.
const SMALL: Kind = Kind::Count(1, u32::MAX as u64);

/// All keys but those of limiters.
pub(super) const SETTINGS: &[Setting] = &[
    row(
        "listen",
        Kind::Socket,
        "127.0.0.1:8080",
        "Address and port of all HTTP. Beyond loopback keys are needed.",
    ),
    row(
        "read_only",
        Kind::Flag,
        "false",
        "Refuse whatever would change the hub (403 `read_only`), but for workers and the app's own routes.",
    ),
    row(
        "dashboard.enabled",
        Kind::Flag,
        "true",
        "Whether `/dashboard` is served.",
    ),
    row(
        "store.path",
        Kind::Text,
        ".dalsegno/hub",
        "Folder of the embedded store. One process at a time.",
    ),
    row(
        "hub.name",
        Kind::Name,
        "default",
        "Name of the task hub, as links and clients say it.",
    ),
    row(
        "hub.partitions",
        Kind::Count(1, 1_024),
        "32",
        "Partitions of a new hub. Fixed at its creation.",
    ),
    row(
        "http.public_url",
        Kind::Url,
        "",
        "Origin of links. Empty: the host that the request names, if http.hosts or the listener has that name; else the listener's address.",
    ),
    row(
        "http.hosts",
        Kind::Hosts,
        "",
        "Names of this host: what a listener without keys answers to beside the names of loopback, and what links may name. With a port, or for any port.",
    ),
    row(
        "http.trusted_proxies",
        Kind::Addresses,
        "",
        "Addresses of proxies. Their X-Forwarded-For (or Forwarded) names the client, for the audit log and for throttling.",
    ),
    row(
        "http.use_forwarded_host",
        Kind::Flag,
        "false",
        "Whether links take scheme and host from what a trusted proxy forwards. The host has to be in http.hosts.",
    ),
    row(
        "http.route_prefix",
        Kind::Text,
        "api",
        "First segment of the app's own routes. May be empty.",
    ),
    row(
        "http.connection",
        Kind::Text,
        "Storage",
        "What links name as connection.",
    ),
    row(
        "http.body_bytes_max",
        ANY,
        "4194304",
        "Largest body; more is 413.",
    ),
    row(
        "http.page_max",
        Kind::Count(1, 10_000),
        "1000",
        "Most rows on a page; `top` beyond it is 400.",
    ),
    row(
        "http.connections_max",
        ANY,
        "10000",
        "Most connections at once; more wait in the system's queue.",
    ),
    row(
        "http.header_timeout",
        Kind::Duration,
        "10s",
        "How long a client may take to send its headers.",
    ),
    row(
        "http.heartbeat",
        Kind::Duration,
        "15s",
        "How often a stream in which nothing happens says so.",
    ),
    row(
        "http.link_lifetime",
        Kind::Duration,
        "30d",
        "How long the keys in links are good.",
    ),
    row(
        "http.link_keys",
        Kind::Choice(&["status", "all"]),
        "status",
        "Which links carry a key: status and event links, or all.",
    ),
    row(
        "http.overridable_existing_instance_states",
        Kind::Choice(&["NonRunningStates", "AnyState"]),
        "NonRunningStates",
        "Which instances a start of the management API replaces.",
    ),
    row(
        "auth.required",
        Kind::Choice(&["auto", "always", "never"]),
        "auto",
        "When callers need a key. `auto`: whenever auth.keys_file is set, whatever the listener; `dalsegno serve` does not start without one. `always`: the same for an app. `never`: no keys, on loopback only; every program on the machine may do anything.",
    ),
    row(
        "auth.keys_in_query",
        Kind::Flag,
        "false",
        "Whether `?code=` may hold a key, as in Azure Functions. Proxies log it. The keys of links always work there.",
    ),
    row(
        "audit.file",
        Kind::Text,
        "",
        "File to which the host appends every call that changes something, as a line of JSON. The last 10,000 are in memory in any case. Of refused calls it records 60 a minute and counts the others.",
    ),
    row(
        "audit.file_bytes_max",
        Kind::Count(65_536, 1 << 40),
        "67108864",
        "Bytes of the audit file at which the host begins the next one and renames this one to `.1`, that one to `.2`, and so on.",
    ),
    row(
        "audit.files_max",
        Kind::Count(1, 10_000),
        "10",
        "Most audit files, with the current one; the oldest is deleted.",
    ),
    row(
        "auth.keys_file",
        Kind::Text,
        "",
        "File of the keys, readable by its owner alone.",
    ),
    row(
        "limits.payload_bytes_max",
        ANY,
        "2097152",
        "Largest input, output, event, custom status or entity state, in bytes.",
    ),
    row(
        "limits.payload_inline_bytes",
        ANY,
        "65536",
        "Larger values are kept apart from rows and histories, in the table of payloads.",
    ),
    row(
        "limits.history_events_max",
        ANY,
        "1000000",
        "Most events of one execution; beyond it the orchestration fails.",
    ),
    row(
        "limits.turn_actions_max",
        ANY,
        "200000",
        "Most actions of one turn; beyond it the instance is parked.",
    ),
    row(
        "limits.turn_ms_max",
        ANY,
        "10000",
        "Longest turn or entity operation; beyond it the instance is parked or the operation fails.",
    ),
    row(
        "limits.stuck_threads_max",
        ANY,
        "8",
        "Most threads stuck in user code; beyond it the process ends, to recover.",
    ),
    row(
        "limits.kills_max",
        SMALL,
        "10",
        "Ends of the process while one and the same code ran; from then on it is not run again by itself.",
    ),
    row(
        "limits.inbox_messages_max",
        ANY,
        "100000",
        "Most messages that wait for one instance; more events are 429.",
    ),
    row(
        "limits.futures_bytes_max",
        ANY,
        "268435456",
        "Memory for live futures, and as much again for entities; the least recently used are evicted.",
    ),
    row(
        "limits.activities_running_max",
        ANY,
        "1000",
        "Most activities at once in this process; more wait.",
    ),
    row(
        "limits.turn_bytes_max",
        OF_COMMIT,
        "268435456",
        "Bytes of the values that one turn takes, and of those that it asks for, each; beyond it the rest waits, or the instance is parked (`Oversized`).",
    ),
    row(
        "limits.batch_bytes_max",
        OF_COMMIT,
        "268435456",
        "Bytes of turns in one write to the disk; more wait for the next.",
    ),
    row(
        "limits.unsynced_bytes_max",
        ANY,
        "33554432",
        "Bytes of turns that run ahead of the disk; partitions wait beyond it.",
    ),
    row(
        "limits.locked_entities_max",
        ANY,
        "32",
        "Most entities in one lock.",
    ),
    row(
        "limits.reason_bytes_max",
        ANY,
        "4096",
        "Longest reason given to a command.",
    ),
    row(
        "limits.name_bytes_max",
        ANY,
        "1024",
        "Longest name of an event, operation, orchestrator or tag.",
    ),
    row("limits.tags_max", ANY, "32", "Most tags of one instance."),
    row(
        "limits.waiters_max",
        ANY,
        "10000",
        "Most clients that wait at once; more are 429.",
    ),
    row(
        "limits.waiters_per_key_max",
        ANY,
        "100",
        "Most requests of one key, or of one address without a key, that wait at once; more are 429.",
    ),
    row(
        "limits.page_bytes_max",
        ANY,
        "16777216",
        "Bytes of values after which a page of a list ends, with a token to go on.",
    ),
    row(
        "limits.event_keys_max",
        Kind::Count(1, 10_000),
        "100",
        "Most idempotency keys of events that one instance remembers; the oldest are forgotten.",
    ),
    row(
        "limits.entity_batch_max",
        Kind::Count(1, 10_000),
        "100",
        "Most operations of an entity whose code is elsewhere that are sent to it at once.",
    ),
    row(
        "limits.disk_free_bytes_min",
        Kind::Count(0, u64::MAX >> 1),
        "268435456",
        "Room on the hub's disk, in bytes, below which starts, events and signals are 507. 0 never refuses.",
    ),
    row(
        "limits.recursion_max",
        SMALL,
        "100",
        "Deepest nesting of children.",
    ),
    row(
        "webhooks.secret_file",
        Kind::Text,
        "",
        "File with the secret that signs webhooks: `whsec_` and base64, or a text of 16 bytes or more.",
    ),
    row(
        "webhooks.allowed_hosts",
        Kind::Hosts,
        "",
        "Receivers that a start may name for its instance: `hooks.example.com` (on the port of http or https), `hooks.example.com:8443`. Empty: none.",
    ),
    row(
        "webhooks.timeout",
        Kind::Duration,
        "15s",
        "How long a receiver may take to answer.",
    ),
    row(
        "webhooks.give_up_after",
        Kind::Duration,
        "1d",
        "How long a delivery is tried, with waits that double from 5 s to an hour.",
    ),
    row(
        "grpc.workers",
        Kind::Choice(&["refused", "this-hub", "any-hub"]),
        "refused",
        "Whether programs of the Durable Task SDKs may connect over gRPC: to no hub, to this one, or to any they name.",
    ),
    row(
        "grpc.in_flight_default",
        ANY,
        "1000",
        "Work items of each kind that a worker has at once when it names no number.",
    ),
    row(
        "grpc.turn_timeout",
        Kind::Duration,
        "5m",
        "A turn or an entity's operation that a worker has not answered for so long is given to another.",
    ),
    row(
        "grpc.entity_items",
        Kind::Choice(&["v2", "v1"]),
        "v2",
        "The form in which workers are sent operations of entities: v1 for those that know no other.",
    ),
    row(
        "grpc.message_bytes_max",
        ANY,
        "67108864",
        "Bytes of one message that is taken over gRPC.",
    ),
    row(
        "tls.certificate_file",
        Kind::Text,
        "",
        "PEM file with the listener's certificate and its chain. The listener then speaks TLS only. Needs tls.key_file.",
    ),
    row(
        "tls.key_file",
        Kind::Text,
        "",
        "PEM file with the certificate's key. Needs tls.certificate_file.",
    ),
    row(
        "tls.allow_plaintext",
        Kind::Flag,
        "false",
        "Listen beyond loopback without TLS: behind a proxy that ends it, or in a network that is trusted.",
    ),
    row(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "info",
        "Lowest level that is logged.",
    ),
    row(
        "log.format",
        Kind::Choice(&["auto", "text", "json"]),
        "auto",
        "Text on a terminal, else JSON; or always one.",
    ),
    row(
        "traces.endpoint",
        Kind::Url,
        "",
        "Where traces are sent, over OTLP. Empty: nowhere. Over HTTP, a URL without a path gets `/v1/traces`. Also `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`.",
    ),
    row(
        "traces.protocol",
        Kind::Choice(&["http/protobuf", "grpc"]),
        "http/protobuf",
        "How. Also `OTEL_EXPORTER_OTLP_PROTOCOL`, `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`.",
    ),
    row(
        "traces.headers_file",
        Kind::Text,
        "",
        "File with headers to send along, a line each: `name=value`. Also, as a list, in `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TRACES_HEADERS`.",
    ),
    row(
        "traces.timeout",
        Kind::Duration,
        "10s",
        "How long one sending may take. Also, in milliseconds, `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`.",
    ),
    row(
        "traces.service_name",
        Kind::Text,
        "dalsegno",
        "What the sender is called. Also `OTEL_SERVICE_NAME`.",
    ),
    row(
        "traces.sampler",
        Kind::Choice(&[
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
            "always_on",
            "always_off",
            "traceidratio",
        ]),
        "parentbased_always_on",
        "Which traces are recorded. Also `OTEL_TRACES_SAMPLER`.",
    ),
    row(
        "traces.sampler_ratio",
        Kind::Share,
        "1",
        "The share that a sampler with `traceidratio` takes. Also `OTEL_TRACES_SAMPLER_ARG`.",
    ),
    row(
        "traces.queue_max",
        Kind::Count(1, 100_000_000),
        "100000",
        "Most history events whose spans wait to be sent; what comes then is dropped and counted.",
    ),
    row(
        "traces.enabled",
        Kind::Flag,
        "true",
        "Whether traces are sent, if there is an endpoint. `OTEL_SDK_DISABLED=true` and `OTEL_TRACES_EXPORTER=none` turn it off.",
    ),
    row(
        "shutdown.drain",
        Kind::Duration,
        "30s",
        "How long a shutdown waits for what runs.",
    ),
];

/// Keys of each `[limiter.NAME]`. They win over what the app says.
pub(super) const LIMITER_SETTINGS: &[Setting] = &[
    row("rate", Kind::Rate, "", "So many starts per time, like `5000/1h`."),
    row("burst", SMALL, "", "Starts that may be saved up."),
    row("concurrency", SMALL, "", "Most that run at once."),
    row(
        "activities",
        Kind::Functions,
        "",
        "Activities that pass it, whoever runs them and in whatever language.",
    ),
];

/// Keys of each `[webhook.NAME]`: who is told of all instances.
pub(super) const WEBHOOK_SETTINGS: &[Setting] = &[
    row(
        "url",
        Kind::Text,
        "",
        "Where it is told: `https://example.com/hook`.",
    ),
    row(
        "statuses",
        Kind::Statuses,
        "",
        "Of which statuses. Empty: of the final ones.",
    ),
    row(
        "name_prefix",
        Kind::Text,
        "",
        "Only of orchestrators whose name begins so.",
    ),
    row(
        "secret_file",
        Kind::Text,
        "",
        "File with its secret. Empty: `webhooks.secret_file` signs.",
    ),
];

/// Sections of which there may be many, each with a name.
pub(super) const FAMILIES: [(&str, &[Setting]); 2] =
    [("limiter", LIMITER_SETTINGS), ("webhook", WEBHOOK_SETTINGS)];

/// The reference, as Markdown.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    let mut line = |key: &str, setting: &Setting| {
        let default = if setting.default.is_empty() {
            "–".into()
        } else {
            format!("`{}`", setting.default)
        };
        let written = writeln!(
            text,
            "| `{key}` | {default} | {} | {} |",
            setting.kind.expected(),
            setting.meaning
        );
        written.expect("a string takes everything");
    };
    for setting in SETTINGS {
        line(setting.key, setting);
    }
    for (family, settings) in FAMILIES {
        for setting in settings {
            line(&format!("{family}.NAME.{}", setting.key), setting);
        }
    }
    text
}

const HEAD: &str = "# Configuration

Four sources, the later wins: the defaults below, `dalsegno.toml`, the environment, flags.

- File: `dalsegno.toml` in the current folder, or the one named by `--config` or `DALSEGNO_CONFIG`.
- Environment: `DALSEGNO__SECTION__KEY`, so `http.page_max` is `DALSEGNO__HTTP__PAGE_MAX`. Lists are separated by commas.
- `OTEL_…` variables, where the table names them: weaker than ours, stronger than the file.
- Flags: `--set http.page_max=500`, and the short ones that a command's help shows.

A key that is not in this table is refused, with the nearest that is. All mistakes are told at once, the exit code is 78, and nothing was touched.
`dalsegno config show --origin` says where each value comes from.

```toml
listen = \"127.0.0.1:8080\"

[store]
path = \"hub\"

[limiter.github]
rate = \"5000/1h\"
```

## All keys

This table is generated from the code.

| Key | Default | Takes | Meaning |
|---|---|---|---|
";
