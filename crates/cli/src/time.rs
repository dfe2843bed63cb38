//! Times and durations for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dalsegno_core::Timestamp;
use dalsegno_host::v1::json;

use crate::arguments::TimeForm;

/// By the clock of this machine.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(0) + since
}

/// A time in a form.
pub(crate) fn written(at: Timestamp, form: TimeForm) -> String {
    match form {
        TimeForm::Iso => json::time(at),
        TimeForm::Unix => at.as_micros().div_euclid(1_000_000).to_string(),
        TimeForm::Relative => relative(at, now()),
    }
}

/// The same for what already is text; what is no time stays.
pub(crate) fn rewritten(text: &str, form: TimeForm) -> String {
    match (form, json::parse_time(text)) {
        (TimeForm::Iso, _) | (_, None) => text.to_owned(),
        (form, Some(at)) => written(at, form),
    }
}

/// `5m ago`, `in 5m`.
fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("in {}", short(between(now, at)))
    } else {
        format!("{} ago", short(between(at, now)))
    }
}

/// From one time to another; nothing when that is earlier.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    let micros = to.as_micros().saturating_sub(from.as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// With its two largest units: `479ms`, `2.6s`, `3h 12m`.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..10 => format!("{}.{}s", seconds, duration.subsec_millis() / 100),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m {}s", seconds % 60),
        3_600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (millis, wanted) in [
            (0, "0ms"),
            (479, "479ms"),
            (2_650, "2.6s"),
            (59_999, "59s"),
            (192_000, "3m 12s"),
            (11_520_000, "3h 12m"),
            (180_000_000, "2d 2h"),
        ] {
            assert_eq!(short(Duration::from_millis(millis)), wanted);
        }
    }

    #[test]
    fn times_have_three_forms() {
        let at = Timestamp::from_micros(1_500_000);
        assert_eq!(written(at, TimeForm::Unix), "1");
        assert_eq!(written(at, TimeForm::Iso), "1970-01-01T00:00:01.5Z");
        let later = at + Duration::from_secs(300);
        assert_eq!(relative(at, later), "5m 0s ago");
        assert_eq!(relative(later, at), "in 5m 0s");
        assert_eq!(rewritten("1970-01-01T00:00:01Z", TimeForm::Unix), "1");
        assert_eq!(rewritten("soon", TimeForm::Unix), "soon");
    }
}
