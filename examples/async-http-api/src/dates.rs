//! Two dates, day first, as people here write them.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// From one day to another, both included, as `YYYY-MM-DD`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first day.
    pub start: String,
    /// The last day.
    pub end: String,
}

impl Range {
    /// Reads the two parameters; the error is what the caller is told.
    ///
    /// # Errors
    /// When one is missing or no date, and when the end is not after the start.
    pub fn parse(start: Option<&str>, end: Option<&str>) -> Result<Self, &'static str> {
        let start = read(start, "Empty start date.", "Invalid start date format.")?;
        let end = read(end, "Empty end date.", "Invalid end date format.")?;
        match end > start {
            true => Ok(Self {
                start: start.to_string(),
                end: end.to_string(),
            }),
            false => Err("Invalid date range."),
        }
    }
}

fn read(text: Option<&str>, empty: &'static str, invalid: &'static str) -> Result<Date, &'static str> {
    let text = text.filter(|text| !text.is_empty()).ok_or(empty)?;
    date(text).ok_or(invalid)
}

/// `10/12/2021`, `10-12-2021` and `10.12.2021` are the tenth of December; so is `2021-12-10`.
fn date(text: &str) -> Option<Date> {
    let parts: Vec<&str> = text.trim().split(['/', '-', '.']).collect();
    let [first, month, last] = parts[..] else {
        return None;
    };
    let (day, year) = if first.len() == 4 {
        (last, first)
    } else {
        (first, last)
    };
    if year.len() != 4 || !text.is_ascii() {
        return None;
    }
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_comes_first() {
        for text in ["10/12/2021", "10-12-2021", "10.12.2021", "2021-12-10"] {
            assert_eq!(date(text), Some(jiff::civil::date(2021, 12, 10)), "{text}");
        }
        for text in [
            "abcd",
            "10/12",
            "31/02/2021",
            "12/25/2021",
            "10/12/21",
            "10/12/2021/1",
            "-1/1/2021",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn every_mistake_has_its_own_answer() {
        let cases = [
            (None, None, "Empty start date."),
            (Some(""), Some("10/12/2021"), "Empty start date."),
            (Some("abcd"), None, "Invalid start date format."),
            (Some("10/08/2021"), None, "Empty end date."),
            (Some("10/08/2021"), Some("abcd"), "Invalid end date format."),
            (Some("10/08/2021"), Some("05/08/2021"), "Invalid date range."),
            (Some("10/08/2021"), Some("10/08/2021"), "Invalid date range."),
        ];
        for (start, end, problem) in cases {
            assert_eq!(Range::parse(start, end), Err(problem));
        }
    }
}
