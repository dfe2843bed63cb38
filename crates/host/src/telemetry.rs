//! Logs: text on a terminal, JSON elsewhere or when told so. Payloads are never in them.
//!
//! A line of JSON is flat: what the spans around it say (`hub`, `instance_id`, `name` ..) and what
//! it says itself are fields of one object. The level can be changed while the process runs.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use dalsegno_core::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::http::time;
use crate::visible::Log;

/// What changes the level of this process's logs. A process has one subscriber, so there is one.
static LEVEL: OnceLock<LogLevel> = OnceLock::new();

/// The level of the logs of this process.
#[derive(Debug)]
pub struct LogLevel {
    filter: reload::Handle<EnvFilter, Registry>,
    text: Mutex<String>,
}

/// Logs to stderr from a level on: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as
/// `info,dalsegno_engine=debug`. The format is `text`, `json` or `auto`. Only the first call of a
/// process counts.
pub fn init(level: &str, format: &str) {
    let is_json = format == "json" || (format == "auto" && !std::io::stderr().is_terminal());
    let (level, filter) = match read(level) {
        Some(filter) => (level, filter),
        None => ("info", EnvFilter::new("info")),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    // An app that has its own subscriber keeps it.
    let taken = match is_json {
        true => registry.with(JsonLines::new(std::io::stderr)).try_init(),
        false => {
            let text = tracing_subscriber::fmt::layer()
                // Who logged may not end because nobody reads stderr any more.
                .log_internal_errors(false)
                .with_writer(|| Log(std::io::stderr()))
                .with_ansi(std::io::stderr().is_terminal());
            registry.with(text).try_init()
        }
    };
    if taken.is_ok() {
        // The first one stays.
        let _ = LEVEL.set(LogLevel {
            filter: handle,
            text: Mutex::new(level.to_owned()),
        });
    }
}

/// The level of this process's logs; `None` when it logs in its own way.
pub fn log_level() -> Option<&'static LogLevel> {
    LEVEL.get()
}

impl LogLevel {
    /// What is logged.
    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs from now on by this level or filter; gives what was before.
    ///
    /// # Errors
    /// When the text is none; nothing changes.
    pub fn set(&self, text: &str) -> Result<String, String> {
        let filter = read(text).ok_or_else(|| {
            format!(
                "\"{text}\" is no level: write error, warn, info, debug, trace, or a filter such as \
                 info,dalsegno_engine=debug"
            )
        })?;
        let mut known = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter.reload(filter).map_err(|error| error.to_string())?;
        Ok(std::mem::replace(&mut known, text.to_owned()))
    }
}

/// A filter in which each part is a level, or a target with one: what else there is could hide all.
fn read(text: &str) -> Option<EnvFilter> {
    let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
    let is_part = |part: &str| match part.rsplit_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(part),
    };
    let fits = text.split(',').all(|part| is_part(part.trim()));
    EnvFilter::try_new(text).ok().filter(|_| fits)
}

/// Writes each event as an object in a line.
struct JsonLines<W> {
    writer: W,
}

/// What a span says, for the lines within it.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, Value>);

impl<W, O> JsonLines<W>
where
    W: Fn() -> O + 'static,
    O: Write,
{
    fn new(writer: W) -> Self {
        Self { writer }
    }
}

impl<S, W, O> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn() -> O + 'static,
    O: Write,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(said) = span.extensions().get::<Fields>() {
                fields.extend(said.0.iter().map(|(name, value)| (*name, value.clone())));
            }
        }
        let mut own = Fields::default();
        event.record(&mut own);
        let message = own.0.remove("message");
        fields.extend(own.0);
        let line = line(now(), event, message, fields);
        // Who cannot log has nobody to tell.
        let _ = (self.writer)().write_all(line.as_bytes());
    }
}

fn line(
    now: Timestamp,
    event: &Event<'_>,
    message: Option<Value>,
    fields: BTreeMap<&'static str, Value>,
) -> String {
    let metadata = event.metadata();
    let head = [
        ("ts", Value::from(time::exact(now))),
        (
            "level",
            Value::from(metadata.level().as_str().to_ascii_lowercase()),
        ),
        ("target", Value::from(metadata.target())),
        ("msg", message.unwrap_or_else(|| Value::from(""))),
    ];
    let mut line = String::from("{");
    let is_rest = |(name, _): &(&str, Value)| !matches!(*name, "ts" | "level" | "target" | "msg");
    for (name, value) in head.into_iter().chain(fields.into_iter().filter(is_rest)) {
        if line.len() > 1 {
            line.push(',');
        }
        line.push_str(&format!("{}:{value}", Value::from(name)));
    }
    line.push_str("}\n");
    line
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn lines(&self) -> Vec<serde_json::Map<String, Value>> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    #[test]
    fn a_line_says_flat_what_the_spans_around_it_say() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::registry().with(JsonLines::new(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let hub = tracing::error_span!("hub", hub = "default").entered();
            let code =
                tracing::error_span!("orchestrator", instance_id = %"a\"b", trace_id = tracing::field::Empty);
            code.record("trace_id", "4bf9");
            code.in_scope(|| tracing::info!(target: "shop", count = 3, is_new = true, "sold \"it\"\n"));
            drop(hub);
            tracing::warn!(level = "mine", error = ?io::ErrorKind::NotFound);
        });
        let lines = written.lines();
        let first: Vec<(&str, String)> = lines[0]
            .iter()
            .filter(|(name, _)| *name != "ts")
            .map(|(name, value)| (name.as_str(), value.to_string()))
            .collect();
        let wanted = [
            ("count", "3"),
            ("hub", "\"default\""),
            ("instance_id", r#""a\"b""#),
            ("is_new", "true"),
            ("level", "\"info\""),
            ("msg", r#""sold \"it\"\n""#),
            ("target", "\"shop\""),
            ("trace_id", "\"4bf9\""),
        ];
        let mut first = first;
        first.sort();
        assert_eq!(first, wanted.map(|(name, value)| (name, value.to_owned())));
        assert!(lines[0]["ts"].as_str().unwrap().ends_with('Z'));
        assert_eq!(
            (&lines[1]["level"], &lines[1]["msg"]),
            (&"warn".into(), &"".into())
        );
        assert_eq!(lines[1]["error"], "NotFound");
        assert!(!lines[1].contains_key("hub"), "its span has ended");
    }

    #[test]
    fn the_level_changes_while_it_logs_and_what_is_none_is_refused() {
        let written = Written::default();
        let writer = written.clone();
        let (filter, handle) = reload::Layer::new(read("info").unwrap());
        let subscriber = tracing_subscriber::registry()
            .with(filter)
            .with(JsonLines::new(move || writer.clone()));
        let level = LogLevel {
            filter: handle,
            text: Mutex::new("info".into()),
        };
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("one");
            assert_eq!(level.set("debug"), Ok("info".into()));
            tracing::debug!("two");
            for bad in ["loud", "", "info,shop=loud", "debug,,"] {
                let error = level.set(bad).unwrap_err();
                assert!(error.contains("is no level: write error"), "{bad}: {error}");
            }
            assert_eq!(level.set("error,shop=trace"), Ok("debug".into()));
            tracing::warn!("three");
            tracing::trace!(target: "shop", "four");
        });
        let told: Vec<Value> = written.lines().iter().map(|line| line["msg"].clone()).collect();
        assert_eq!(told, ["two", "four"]);
        assert_eq!(level.text(), "error,shop=trace");
    }
}
