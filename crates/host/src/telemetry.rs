//! Logs: text on a terminal, JSON elsewhere or when told so. Payloads are never in them.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Logs to stderr from a level on: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as
/// `info,dalsegno_engine=debug`. The format is `text`, `json` or `auto`. Only the first call of a
/// process counts.
pub fn init(level: &str, format: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Who logged may not end because nobody reads stderr any more.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let is_json = format == "json" || (format == "auto" && !std::io::stderr().is_terminal());
    // An app that has its own subscriber keeps it.
    let _ = match is_json {
        true => subscriber.json().try_init(),
        false => subscriber.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}
