//! Times as the HTTP API writes and reads them.

use dalsegno_core::Timestamp;
use jiff::civil::DateTime;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
const MICROS_PER_SECOND: i64 = 1_000_000;

/// Whole seconds, cut: `2026-03-01T09:30:00Z`.
pub(crate) fn whole_seconds(at: Timestamp) -> String {
    civil_seconds(at) + "Z"
}

/// Up to seven digits, trailing zeros dropped: `2026-03-01T09:30:00.3452372Z`.
/// What we store ends at six.
pub(crate) fn exact(at: Timestamp) -> String {
    let micros = at.as_micros().rem_euclid(MICROS_PER_SECOND);
    let mut text = civil_seconds(at);
    if micros != 0 {
        text.push('.');
        text.push_str(format!("{micros:06}").trim_end_matches('0'));
    }
    text + "Z"
}

/// By the civil calendar, because [`jiff::Timestamp`] ends a day before the year 9999 does.
fn civil_seconds(at: Timestamp) -> String {
    let seconds = jiff::SignedDuration::from_secs(at.as_micros().div_euclid(MICROS_PER_SECOND));
    let civil = EPOCH.saturating_add(seconds);
    civil.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// What a time without a zone means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZoneRule {
    /// UTC; a date alone is midnight UTC.
    Utc,
    /// It is refused.
    Required,
}

/// Why a text is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeError {
    /// It has another form, or there is no such day or hour.
    Invalid,
    /// It has no zone and needs one.
    ZoneRequired,
    /// Its offset puts it behind the year 9999.
    OutOfRange,
}

impl TimeError {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid_time",
            Self::ZoneRequired => "zone_required",
            Self::OutOfRange => "out_of_range",
        }
    }
}

/// Reads RFC 3339 with 0 to 9 fraction digits. A space where the `+` of an offset stood counts
/// as `+`, because clients forget to escape it.
pub(crate) fn parse(text: &str, rule: ZoneRule) -> Result<Timestamp, TimeError> {
    let (date, rest) = text.split_at_checked(10).ok_or(TimeError::Invalid)?;
    check_shape(date, "dddd-dd-dd")?;
    if rest.is_empty() {
        return match rule {
            ZoneRule::Utc => to_timestamp(&format!("{date}T00:00:00"), 0),
            ZoneRule::Required => Err(TimeError::ZoneRequired),
        };
    }
    let (time, rest) = rest.split_at_checked(9).ok_or(TimeError::Invalid)?;
    check_shape(&time.to_ascii_uppercase(), "Tdd:dd:dd")?;
    let (fraction, zone) = split_fraction(rest)?;
    to_timestamp(&format!("{date}{time}{fraction}"), read_zone(zone, rule)?)
}

fn split_fraction(rest: &str) -> Result<(&str, &str), TimeError> {
    let Some(digits) = rest.strip_prefix('.') else {
        return Ok(("", rest));
    };
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    if (1..=9).contains(&count) {
        Ok(rest.split_at(count + 1))
    } else {
        Err(TimeError::Invalid)
    }
}

/// The offset from UTC, in seconds.
fn read_zone(zone: &str, rule: ZoneRule) -> Result<i64, TimeError> {
    match zone.chars().next() {
        None if rule == ZoneRule::Required => Err(TimeError::ZoneRequired),
        None => Ok(0),
        Some('Z' | 'z') if zone.len() == 1 => Ok(0),
        Some(sign @ ('+' | '-' | ' ')) => {
            check_shape(&zone[1..], "dd:dd")?;
            let part = |text: &str, most: i64| {
                let number = text.parse::<i64>().ok().filter(|number| *number <= most);
                number.ok_or(TimeError::Invalid)
            };
            let seconds = part(&zone[1..3], 23)? * 3600 + part(&zone[4..6], 59)? * 60;
            Ok(if sign == '-' { -seconds } else { seconds })
        }
        Some(_) => Err(TimeError::Invalid),
    }
}

fn check_shape(text: &str, shape: &str) -> Result<(), TimeError> {
    let fits = text.len() == shape.len()
        && text
            .bytes()
            .zip(shape.bytes())
            .all(|(byte, wanted)| match wanted {
                b'd' => byte.is_ascii_digit(),
                _ => byte == wanted,
            });
    if fits { Ok(()) } else { Err(TimeError::Invalid) }
}

fn to_timestamp(civil: &str, offset_seconds: i64) -> Result<Timestamp, TimeError> {
    let civil: DateTime = civil.parse().map_err(|_| TimeError::Invalid)?;
    let micros = i64::try_from(civil.duration_since(EPOCH).as_micros()).map_err(|_| TimeError::Invalid)?;
    let at = Timestamp::from_micros(micros - offset_seconds * MICROS_PER_SECOND);
    match at > Timestamp::MAX {
        true => Err(TimeError::OutOfRange),
        false => Ok(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_durable_functions_does() {
        let at = |text: &str| parse(text, ZoneRule::Required).unwrap();
        for (input, seconds, all) in [
            (
                "2026-03-01T09:30:00Z",
                "2026-03-01T09:30:00Z",
                "2026-03-01T09:30:00Z",
            ),
            (
                "2026-03-01T09:30:00.345237Z",
                "2026-03-01T09:30:00Z",
                "2026-03-01T09:30:00.345237Z",
            ),
            (
                "2026-03-01T09:30:01.500000Z",
                "2026-03-01T09:30:01Z",
                "2026-03-01T09:30:01.5Z",
            ),
            (
                "2026-03-01T09:30:00.999999999Z",
                "2026-03-01T09:30:00Z",
                "2026-03-01T09:30:00.999999Z",
            ),
            (
                "1969-12-31T23:59:59.25Z",
                "1969-12-31T23:59:59Z",
                "1969-12-31T23:59:59.25Z",
            ),
            (
                "9999-12-31T23:59:59.9999999Z",
                "9999-12-31T23:59:59Z",
                "9999-12-31T23:59:59.999999Z",
            ),
        ] {
            assert_eq!(whole_seconds(at(input)), seconds);
            assert_eq!(exact(at(input)), all);
        }
    }

    #[test]
    fn times_are_read_in_the_forms_clients_send() {
        for (input, wanted) in [
            ("2026-03-01", Ok("2026-03-01T00:00:00Z")),
            ("2026-03-01T09:30:00", Ok("2026-03-01T09:30:00Z")),
            ("2026-03-01T09:30:00.1234567Z", Ok("2026-03-01T09:30:00.123456Z")),
            ("2026-03-01t09:30:00z", Ok("2026-03-01T09:30:00Z")),
            ("2026-03-01T09:30:00+02:00", Ok("2026-03-01T07:30:00Z")),
            ("2026-03-01T09:30:00 02:00", Ok("2026-03-01T07:30:00Z")),
            ("2026-03-01T09:30:00-02:30", Ok("2026-03-01T12:00:00Z")),
            ("2026-03-01 09:30:00", Err(TimeError::Invalid)),
            ("2026-02-30", Err(TimeError::Invalid)),
            ("2026-03-01T24:00:00Z", Err(TimeError::Invalid)),
            ("2026-03-01T09:30Z", Err(TimeError::Invalid)),
            ("2026-03-01T09:30:00.Z", Err(TimeError::Invalid)),
            ("2026-03-01T09:30:00.1234567890Z", Err(TimeError::Invalid)),
            ("2026-03-01T09:30:00Z[Europe/Berlin]", Err(TimeError::Invalid)),
            ("2026-03-01T09:30:00+0200", Err(TimeError::Invalid)),
            ("9999-12-31T23:59:59-00:01", Err(TimeError::OutOfRange)),
            ("10000-01-01T00:00:00Z", Err(TimeError::Invalid)),
            ("yesterday", Err(TimeError::Invalid)),
            ("ä026-03-01", Err(TimeError::Invalid)),
            ("", Err(TimeError::Invalid)),
        ] {
            let got = parse(input, ZoneRule::Utc).map(exact);
            assert_eq!(got, wanted.map(str::to_owned), "{input}");
        }
        assert_eq!(
            parse("2026-03-01", ZoneRule::Required),
            Err(TimeError::ZoneRequired)
        );
        assert_eq!(
            parse("2026-03-01T09:30:00", ZoneRule::Required),
            Err(TimeError::ZoneRequired)
        );
    }
}
