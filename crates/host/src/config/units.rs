//! Durations and rates as people write them: `30s`, `1h`, `5000/1h`.

use std::time::Duration;

/// Reads `250ms`, `30s`, `5m`, `12h`, `30d`.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Writes it in the largest unit that fits.
pub fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    match units
        .into_iter()
        .find(|(_, size)| millis >= *size && millis.is_multiple_of(*size))
    {
        Some((unit, size)) => format!("{}{unit}", millis / size),
        None => format!("{millis}ms"),
    }
}

/// Reads `5000/1h`: so many per period, neither of them zero.
pub fn rate(text: &str) -> Option<(u32, Duration)> {
    let (count, period) = text.split_once('/')?;
    let count = count.parse().ok().filter(|count| *count > 0)?;
    let period = duration(period).filter(|period| !period.is_zero())?;
    Some((count, period))
}

/// Writes it back.
pub fn rate_text((count, period): (u32, Duration)) -> String {
    format!("{count}/{}", duration_text(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_rates() {
        for (text, wanted) in [
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("90s", Some(90_000)),
            ("12h", Some(43_200_000)),
            ("30d", Some(2_592_000_000)),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5h", None),
            ("99999999999999999d", None),
        ] {
            assert_eq!(
                duration(text).map(|duration| duration.as_millis()),
                wanted,
                "{text}"
            );
        }
        for text in ["5000/1h", "1/250ms", "10/90s"] {
            assert_eq!(rate_text(rate(text).unwrap()), text);
        }
        for text in ["5000", "0/1h", "5/0s", "x/1h", "5/h"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}
