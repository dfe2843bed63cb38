//! Traces as the configuration says them, and as the variables of OpenTelemetry do.

use std::path::PathBuf;
use std::time::Duration;

use super::source::Resolved;
use super::table::Value;
use super::{Mistake, Origin, Refused};
use crate::traces::{Sampler, TraceProtocol, TraceSettings};

/// Variables that every program with OpenTelemetry reads, the later of a key win, and what they say
/// in our words; `None` says nothing.
type Reading = fn(&str) -> Option<String>;
pub(super) const VARIABLES: [(&str, &str, Reading); 13] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "traces.endpoint", below_path),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "traces.endpoint", as_it_is),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "traces.protocol", as_it_is),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "traces.protocol", as_it_is),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "traces.timeout", millis),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "traces.timeout", millis),
    ("OTEL_SERVICE_NAME", "traces.service_name", as_it_is),
    ("OTEL_TRACES_SAMPLER", "traces.sampler", as_it_is),
    ("OTEL_TRACES_SAMPLER_ARG", "traces.sampler_ratio", as_it_is),
    ("OTEL_TRACES_EXPORTER", "traces.enabled", exporter),
    ("OTEL_SDK_DISABLED", "traces.enabled", disabled),
    // The library reads them: they may hold keys, and what is no setting is never shown.
    ("OTEL_EXPORTER_OTLP_HEADERS", "traces.headers_file", nothing),
    (
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "traces.headers_file",
        nothing,
    ),
];

fn as_it_is(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn nothing(_: &str) -> Option<String> {
    None
}

fn millis(value: &str) -> Option<String> {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    Some(match is_number {
        true => format!("{value}ms"),
        false => value.to_owned(),
    })
}

fn disabled(value: &str) -> Option<String> {
    value.eq_ignore_ascii_case("true").then(|| "false".to_owned())
}

fn exporter(value: &str) -> Option<String> {
    (value == "none").then(|| "false".to_owned())
}

/// The address of all signals: traces go below its path.
fn below_path(value: &str) -> Option<String> {
    let path = reqwest::Url::parse(value).ok().map(|url| url.path().to_owned());
    match path.is_some_and(|path| path.len() > 1) {
        true => Some(format!("{}/v1/traces", value.trim_end_matches('/'))),
        false => Some(value.to_owned()),
    }
}

/// Where traces go, without the headers of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceConfig {
    headers_file: Option<PathBuf>,
    /// `None`: nowhere.
    settings: Option<TraceSettings>,
}

impl TraceConfig {
    pub(super) fn of(resolved: &Resolved) -> Self {
        let value = |key: &str| resolved.get(key).map(|(value, _)| value);
        let text = |key: &str| value(key).map(ToString::to_string).unwrap_or_default();
        let share = match text("traces.sampler").as_str() {
            "always_off" | "parentbased_always_off" => 0.0,
            "traceidratio" | "parentbased_traceidratio" => {
                text("traces.sampler_ratio").parse().unwrap_or(1.0)
            }
            _ => 1.0,
        };
        let settings = TraceSettings {
            endpoint: text("traces.endpoint"),
            protocol: match text("traces.protocol").as_str() {
                "grpc" => TraceProtocol::Grpc,
                _ => TraceProtocol::Http,
            },
            headers: Vec::new(),
            timeout: match value("traces.timeout") {
                Some(Value::Duration(duration)) => *duration,
                _ => Duration::from_secs(10),
            },
            service_name: text("traces.service_name"),
            sampler: match text("traces.sampler").starts_with("parentbased") {
                true => Sampler::ParentBased(share),
                false => Sampler::Share(share),
            },
            queue_max: match value("traces.queue_max") {
                Some(Value::Count(count)) => usize::try_from(*count).unwrap_or(usize::MAX),
                _ => usize::MAX,
            },
        };
        let is_on = value("traces.enabled") == Some(&Value::Flag(true)) && !settings.endpoint.is_empty();
        Self {
            headers_file: Some(text("traces.headers_file"))
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            settings: is_on.then_some(settings),
        }
    }

    /// With the headers, read from their file; `None` when traces go nowhere.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn settings(&self) -> Result<Option<TraceSettings>, Refused> {
        let (Some(settings), Some(path)) = (&self.settings, &self.headers_file) else {
            return Ok(self.settings.clone());
        };
        let refused = |reason: String| {
            Refused(vec![Mistake {
                origin: Origin::Default,
                key: "traces.headers_file".into(),
                reason: format!("{} {reason}", path.display()),
            }])
        };
        let file =
            std::fs::read_to_string(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let mut headers = Vec::new();
        for (at, line) in file
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| refused(format!("has no = in line {}: write name=value", at + 1)))?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(Some(TraceSettings {
            headers,
            ..settings.clone()
        }))
    }
}
