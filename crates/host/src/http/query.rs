//! Query strings, read strictly: nothing is ignored, because one mistyped filter of a purge
//! deletes too much.

use dalsegno_core::Timestamp;

use super::problem::Problem;
use super::time::{self, ZoneRule};
use crate::nearest::nearest;

/// Names that every route takes.
const COMMON: [&str; 4] = ["code", "taskHub", "connection", "connectionName"];
/// Names that may stand without a value.
const MAY_BE_EMPTY: [&str; 5] = ["taskHub", "reason", "op", "instanceIdPrefix", "prefix"];
/// The one name of the management API that may be repeated, and its like of the other.
const MAY_REPEAT: [&str; 3] = ["runtimeStatus", "status", "tag"];
/// Second spellings, as articles use them.
const ALIASES: [(&str, &str); 3] = [
    ("createTimeFrom", "createdTimeFrom"),
    ("createTimeTo", "createdTimeTo"),
    ("hub", "taskHub"),
];

/// The parameters of a request, checked against what its route knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Reads a raw query string. `known` are the route's names beside the common ones.
    pub(crate) fn parse(raw: Option<&str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut query = Self::default();
        for piece in raw
            .unwrap_or_default()
            .split('&')
            .filter(|piece| !piece.is_empty())
        {
            query.take(piece, known)?;
        }
        Ok(query)
    }

    fn take(&mut self, piece: &str, known: &[&'static str]) -> Result<(), Problem> {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let name = decode(name).ok_or_else(|| unreadable(name, piece))?;
        let (canonical, spelled) = recognise(&name, known).ok_or_else(|| unknown(&name, known))?;
        if !piece.contains('=') {
            return Err(invalid(canonical, piece, "a value after '='"));
        }
        let value = decode(value).ok_or_else(|| unreadable(canonical, value))?;
        if value.is_empty() && !MAY_BE_EMPTY.contains(&canonical) {
            return Err(invalid(canonical, "", "a value"));
        }
        self.check_repeat(canonical, spelled, &value)?;
        self.0.push((canonical, value));
        Ok(())
    }

    /// Both spellings of one name may stand together when they say the same.
    fn check_repeat(&self, canonical: &'static str, spelled: &str, value: &str) -> Result<(), Problem> {
        let Some((_, first)) = self.0.iter().find(|(name, _)| *name == canonical) else {
            return Ok(());
        };
        let alias = ALIASES.iter().any(|(_, target)| *target == canonical);
        if MAY_REPEAT.contains(&canonical) || (alias && first == value) {
            return Ok(());
        }
        Err(Problem::bad_request(
            "repeated_parameter",
            format!("{spelled} is given twice: leave one"),
        )
        .param(canonical)
        .got(value))
    }

    /// The text of a parameter.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All texts of a parameter that may be repeated.
    pub(crate) fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// `true` or `false` in any case, as Python prints them too.
    pub(crate) fn boolean(&self, name: &'static str, default: bool) -> Result<bool, Problem> {
        match self.text(name) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => Err(invalid(name, text, "true or false")),
        }
    }

    /// Decimal digits within a range.
    pub(crate) fn integer(&self, name: &'static str, default: usize, most: usize) -> Result<usize, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        let number = text
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten();
        match number {
            Some(number) if (1..=most).contains(&number) => Ok(number),
            _ => Err(out_of_range(name, text, format!("1 to {most}"))),
        }
    }

    /// Seconds with decimals.
    pub(crate) fn seconds(&self, name: &'static str, most: f64) -> Result<Option<f64>, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match text.parse::<f64>() {
            Ok(seconds) if plain && seconds <= most => Ok(Some(seconds)),
            _ => Err(out_of_range(name, text, format!("0 to {most} seconds"))),
        }
    }

    /// A time.
    pub(crate) fn time(&self, name: &'static str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match time::parse(text, ZoneRule::Utc) {
            Ok(at) => Ok(Some(at)),
            Err(error) => Err(Problem::bad_request(
                error.code(),
                format!("{name} is no time: write it like 2026-03-01T09:30:00Z"),
            )
            .param(name)
            .got(text)
            .expected("RFC 3339")),
        }
    }

    /// Two times of which the first is not after the second.
    pub(crate) fn span(
        &self,
        from: &'static str,
        to: &'static str,
    ) -> Result<(Option<Timestamp>, Option<Timestamp>), Problem> {
        let (start, end) = (self.time(from)?, self.time(to)?);
        check_span((from, start), (to, end))?;
        Ok((start, end))
    }
}

/// Refuses two bounds between which no time lies.
pub(crate) fn check_span(
    (from, start): (&'static str, Option<Timestamp>),
    (to, end): (&'static str, Option<Timestamp>),
) -> Result<(), Problem> {
    match (start, end) {
        (Some(earlier), Some(later)) if earlier > later => Err(Problem::bad_request(
            "out_of_range",
            format!("{from} is after {to}: no time lies between them"),
        )
        .param(from)),
        _ => Ok(()),
    }
}

/// Whether a parameter may stand more than once.
pub(crate) fn may_repeat(name: &str) -> bool {
    MAY_REPEAT.contains(&name)
}

/// Whether it may have an empty value.
pub(crate) fn may_be_empty(name: &str) -> bool {
    MAY_BE_EMPTY.contains(&name)
}

/// The route's own spelling of a name, and the spelling used.
fn recognise<'a>(name: &'a str, known: &[&'static str]) -> Option<(&'static str, &'a str)> {
    let target = ALIASES
        .iter()
        .find(|(alias, _)| alias.eq_ignore_ascii_case(name))
        .map_or(name, |(_, target)| *target);
    COMMON
        .iter()
        .chain(known)
        .find(|known| known.eq_ignore_ascii_case(target))
        .map(|known| (*known, name))
}

fn unknown(name: &str, known: &[&'static str]) -> Problem {
    let all: Vec<&str> = known.iter().chain(&COMMON).copied().collect();
    let hint = match nearest(name, all.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("this route takes {}", all.join(", ")),
    };
    Problem::bad_request(
        "unknown_parameter",
        format!("the parameter is unknown here: {hint}"),
    )
    .param(name.chars().take(100).collect::<String>())
    .expected(all.join(", "))
}

fn unreadable(name: &str, text: &str) -> Problem {
    invalid(name, text, "percent-encoded UTF-8")
}

/// A value of another form than expected.
pub(crate) fn invalid(name: &str, got: &str, expected: &str) -> Problem {
    Problem::bad_request(
        "invalid_parameter",
        format!("{name} cannot be read: expected {expected}"),
    )
    .param(name)
    .got(got)
    .expected(expected)
}

fn out_of_range(name: &str, got: &str, expected: String) -> Problem {
    Problem::bad_request(
        "out_of_range",
        format!("{name} is out of range: expected {expected}"),
    )
    .param(name)
    .got(got)
    .expected(expected)
}

/// The hub that a raw query names, before the query is checked.
pub(crate) fn hub_of(raw: Option<&str>) -> Option<String> {
    raw?.split('&').find_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        let is_hub = name.eq_ignore_ascii_case("taskHub") || name.eq_ignore_ascii_case("hub");
        is_hub.then(|| decode(value)).flatten()
    })
}

/// `+` and `%20` are a space. `None` for a broken escape or what is not UTF-8.
fn decode(text: &str) -> Option<String> {
    percent_decode(&text.replace('+', " "))
}

/// Decodes `%41` once. `None` for a broken escape or what is not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let escapes_whole = text
        .split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
    if !escapes_whole {
        return None;
    }
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: [&str; 6] = [
        "instanceIdPrefix",
        "createdTimeFrom",
        "createdTimeTo",
        "runtimeStatus",
        "showInput",
        "top",
    ];

    fn check(raw: &str, wanted: &str) {
        let got = match Query::parse(Some(raw), &LIST) {
            Ok(query) => format!("{:?}", query.0),
            Err(problem) => format!("{} {}", problem.code, problem.param.clone().unwrap_or_default()),
        };
        assert_eq!(got, wanted, "{raw}");
    }

    #[test]
    fn names_match_in_any_case_and_nothing_is_ignored() {
        for (raw, wanted) in [
            ("", "[]"),
            ("&&top=5&", r#"[("top", "5")]"#),
            ("TOP=5", r#"[("top", "5")]"#),
            ("taskhub=&code=abc", r#"[("taskHub", ""), ("code", "abc")]"#),
            ("instanceIdPrefix=", r#"[("instanceIdPrefix", "")]"#),
            (
                "instanceIdPrefix=a+b%20c%2Bd",
                r#"[("instanceIdPrefix", "a b c+d")]"#,
            ),
            (
                "runtimeStatus=Failed&runtimeStatus=Pending",
                r#"[("runtimeStatus", "Failed"), ("runtimeStatus", "Pending")]"#,
            ),
            (
                "createTimeFrom=2026-01-01",
                r#"[("createdTimeFrom", "2026-01-01")]"#,
            ),
            (
                "createTimeFrom=2026-01-01&createdTimeFrom=2026-01-01",
                r#"[("createdTimeFrom", "2026-01-01"), ("createdTimeFrom", "2026-01-01")]"#,
            ),
            (
                "createTimeFrom=2026-01-01&createdTimeFrom=2026-01-02",
                "repeated_parameter createdTimeFrom",
            ),
            ("top=5&top=5", "repeated_parameter top"),
            ("top", "invalid_parameter top"),
            ("top=", "invalid_parameter top"),
            ("connection=", "invalid_parameter connection"),
            ("top=%zz", "invalid_parameter top"),
            ("instanceIdPrefix=%ff", "invalid_parameter instanceIdPrefix"),
            ("showHistory=true", "unknown_parameter showHistory"),
            ("tpo=5", "unknown_parameter tpo"),
            ("=5", "unknown_parameter "),
        ] {
            check(raw, wanted);
        }
    }

    #[test]
    fn a_mistyped_name_is_answered_with_the_nearest() {
        let problem = Query::parse(Some("createdTimeT=2026"), &LIST).unwrap_err();
        assert!(
            problem.detail.contains("did you mean createdTimeTo?"),
            "{}",
            problem.detail
        );
    }

    #[test]
    fn values_are_read_strictly() {
        let query = |raw| Query::parse(Some(raw), &LIST).unwrap();
        for (raw, wanted) in [
            ("showInput=True", Ok(true)),
            ("showInput=FALSE", Ok(false)),
            ("", Ok(true)),
            ("showInput=yes", Err("invalid_parameter")),
            ("showInput=1", Err("invalid_parameter")),
        ] {
            assert_eq!(
                query(raw).boolean("showInput", true).map_err(|p| p.code),
                wanted,
                "{raw}"
            );
        }
        for (raw, wanted) in [
            ("", Ok(100)),
            ("top=1", Ok(1)),
            ("top=1000", Ok(1000)),
            ("top=0", Err("out_of_range")),
            ("top=-1", Err("out_of_range")),
            ("top=1001", Err("out_of_range")),
            ("top=99999999999999999999", Err("out_of_range")),
            ("top=abc", Err("out_of_range")),
            ("top=%2B5", Err("out_of_range")),
        ] {
            assert_eq!(
                query(raw).integer("top", 100, 1000).map_err(|p| p.code),
                wanted,
                "{raw}"
            );
        }
        for (raw, wanted) in [
            ("createdTimeFrom=2026-03-01&createdTimeTo=2026-03-01", Ok(())),
            (
                "createdTimeFrom=2026-03-02&createdTimeTo=2026-03-01",
                Err("out_of_range"),
            ),
            ("createdTimeTo=tomorrow", Err("invalid_time")),
            ("createdTimeFrom=2026-03-01T09:30:00+02:00", Ok(())),
        ] {
            assert_eq!(
                query(raw)
                    .span("createdTimeFrom", "createdTimeTo")
                    .map(|_| ())
                    .map_err(|p| p.code),
                wanted,
                "{raw}"
            );
        }
    }

    #[test]
    fn seconds_have_decimals_and_nothing_else() {
        let seconds = |text: &str| {
            let raw = format!("timeout={text}");
            Query::parse(Some(&raw), &["timeout"])
                .unwrap()
                .seconds("timeout", 230.0)
                .map_err(|p| p.code)
        };
        for (text, wanted) in [
            ("0", Ok(Some(0.0))),
            ("1.5", Ok(Some(1.5))),
            ("230", Ok(Some(230.0))),
            ("230.1", Err("out_of_range")),
            ("-1", Err("out_of_range")),
            ("NaN", Err("out_of_range")),
            ("1e308", Err("out_of_range")),
            ("5s", Err("out_of_range")),
            (".", Err("out_of_range")),
            ("inf", Err("out_of_range")),
        ] {
            assert_eq!(seconds(text), wanted, "{text}");
        }
    }
}
