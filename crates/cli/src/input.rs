//! What commands take: JSON from the line, a file or stdin; ids; times.

use std::io::Read;

use dalsegno_core::query::Status;
use dalsegno_core::{InstanceId, Payload, Timestamp};
use dalsegno_host::config::units;
use dalsegno_host::v1::json;

use crate::failure::Failure;

/// JSON as it stands, `@FILE`, or `-` for stdin. Checked, and sent as it is.
pub(crate) fn payload(text: Option<&str>) -> Result<Option<Payload>, Failure> {
    let text = match text {
        None => return Ok(None),
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| Failure::usage(format!("stdin cannot be read: {error}")))?;
            text
        }
        Some(text) => match text.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("{path} cannot be read: {error}")))?,
            None => text.to_owned(),
        },
    };
    let text = text.trim();
    match serde_json::from_str::<&serde_json::value::RawValue>(text) {
        Ok(_) => Ok(Some(Payload::from(text))),
        Err(error) => Err(Failure::usage(format!("that is not JSON: {error}"))
            .help("a text needs quotes of its own: '\"Ada\"'")),
    }
}

/// An instance id.
pub(crate) fn id(text: &str) -> Result<InstanceId, String> {
    InstanceId::parse(text).map_err(|invalid| invalid.reason)
}

/// A tag, `name=value`.
pub(crate) fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it like name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A status, in any case.
pub(crate) fn status(text: &str) -> Result<Status, String> {
    let found = Status::ALL
        .into_iter()
        .find(|status| status.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("one of {}", Status::ALL.map(Status::as_str).join(", ")))
}

/// A time.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    json::parse_time(text).ok_or_else(|| "write it like 2026-03-01T09:30:00Z or 2026-03-01".into())
}

/// A time, or so long ago, like `2h`.
pub(crate) fn past(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = units::duration(text) {
        let micros = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
        let at = crate::time::now().as_micros().saturating_sub(micros);
        return Ok(Timestamp::from_micros(at));
    }
    json::parse_time(text).ok_or_else(|| "write it like 2026-03-01T09:30:00Z, 2026-03-01 or 2h".into())
}

/// A time to come, or a duration from now, like `90d`.
pub(crate) fn future(text: &str) -> Result<Timestamp, String> {
    let now = crate::time::now();
    let at = match units::duration(text) {
        Some(from_now) => now + from_now,
        None => json::parse_time(text).ok_or("write it like 2027-03-01T09:30:00Z, 2027-03-01 or 90d")?,
    };
    match at > now {
        true => Ok(at),
        false => Err("must be in the future".into()),
    }
}

/// So many per time.
pub(crate) fn rate(text: &str) -> Result<(u32, std::time::Duration), String> {
    units::rate(text).ok_or_else(|| "write it like 5000/1h".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_checked_and_not_changed() {
        assert_eq!(
            payload(Some(" {\"a\": 1.10} ")),
            Ok(Some(Payload::from("{\"a\": 1.10}")))
        );
        assert_eq!(payload(None), Ok(None));
        assert!(payload(Some("Ada")).is_err());
        assert!(payload(Some("@/nowhere/at/all")).is_err());
    }
}
