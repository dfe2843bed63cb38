//! Reads the fields of messages whose types hold more than they may: times, durations, numbers of
//! enums, counts and names.
//!
//! All such fields are read here, and a value that cannot be used is refused with the path of its
//! field. Nothing is left out or cut to fit: a filter without the part that was not understood
//! matches more than was asked for.

use std::fmt;
use std::time::Duration;

use dalsegno_core::Timestamp;
use dalsegno_core::event::is_reserved_event_name;
use dalsegno_core::query::Status;
use tonic::Status as Refusal;

use crate::proto::OrchestrationStatus as Wire;

const NANOS_PER_SECOND: i32 = 1_000_000_000;
/// 0001-01-01T00:00:00Z, the first moment that the protocol can name.
const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;
/// Some 10,000 years, the longest duration that the protocol can name.
const DURATION_SECONDS_MAX: i64 = 315_576_000_000;

/// A value that its field may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadField {
    path: String,
    problem: String,
}

impl BadField {
    pub(crate) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for BadField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl From<BadField> for Refusal {
    fn from(bad: BadField) -> Self {
        Self::invalid_argument(bad.to_string())
    }
}

impl From<BadField> for String {
    fn from(bad: BadField) -> Self {
        bad.to_string()
    }
}

type Read<T> = Result<T, BadField>;

/// A point in time; nanoseconds below a microsecond are cut off.
pub(crate) fn time(path: &str, at: prost_types::Timestamp) -> Read<Timestamp> {
    check_nanos(path, at.nanos)?;
    if !(FIRST_SECOND..=LAST_SECOND).contains(&at.seconds) {
        return Err(BadField::new(
            path,
            format!(
                "{} seconds since 1970 are not in the years 1 to 9999 (seconds {FIRST_SECOND} to {LAST_SECOND})",
                at.seconds
            ),
        ));
    }
    Ok(Timestamp::from_micros(
        at.seconds * 1_000_000 + i64::from(at.nanos / 1_000),
    ))
}

/// The same of a field that may be absent.
pub(crate) fn time_if(path: &str, at: Option<prost_types::Timestamp>) -> Read<Option<Timestamp>> {
    at.map(|at| time(path, at)).transpose()
}

/// Two bounds, of which the first is not after the second.
pub(crate) fn span(
    (from_path, from): (&str, Option<prost_types::Timestamp>),
    (to_path, to): (&str, Option<prost_types::Timestamp>),
) -> Read<(Option<Timestamp>, Option<Timestamp>)> {
    let (from, to) = (time_if(from_path, from)?, time_if(to_path, to)?);
    match (from, to) {
        (Some(earlier), Some(later)) if earlier > later => Err(BadField::new(
            from_path,
            format!("it is after {to_path}: no time lies between them"),
        )),
        span => Ok(span),
    }
}

/// A length of time, if the field is present.
pub(crate) fn duration_if(path: &str, length: Option<prost_types::Duration>) -> Read<Option<Duration>> {
    let Some(length) = length else {
        return Ok(None);
    };
    if !(0..=DURATION_SECONDS_MAX).contains(&length.seconds) {
        return Err(BadField::new(
            path,
            format!(
                "{} seconds: a duration has 0 to {DURATION_SECONDS_MAX} of them",
                length.seconds
            ),
        ));
    }
    check_nanos(path, length.nanos)?;
    let seconds = Duration::from_secs(length.seconds.unsigned_abs());
    Ok(Some(
        seconds + Duration::from_nanos(u64::from(length.nanos.unsigned_abs())),
    ))
}

/// A duration in the protocol's form; one that is too long for it is cut.
pub(crate) fn wire_duration(length: Duration) -> prost_types::Duration {
    let longest = Duration::from_secs(DURATION_SECONDS_MAX.unsigned_abs());
    let length = length.min(longest);
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(DURATION_SECONDS_MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or_default(),
    }
}

fn check_nanos(path: &str, nanos: i32) -> Read<()> {
    match (0..NANOS_PER_SECOND).contains(&nanos) {
        true => Ok(()),
        false => Err(BadField::new(
            path,
            format!("{nanos} nanos: there are 0 to {} of them", NANOS_PER_SECOND - 1),
        )),
    }
}

/// A count, if the field is present.
pub(crate) fn count_if(path: &str, count: Option<i32>) -> Read<Option<usize>> {
    let read = |count: i32| {
        usize::try_from(count).map_err(|_| BadField::new(path, format!("{count}: a count is 0 or more")))
    };
    count.map(read).transpose()
}

/// The name of an event or function, which is not empty.
pub(crate) fn name<'a>(path: &str, name: &'a str) -> Read<&'a str> {
    match name.is_empty() {
        true => Err(BadField::new(path, "it is empty: a name is needed")),
        false => Ok(name),
    }
}

/// The name of an event that clients and orchestrations may raise.
pub(crate) fn event_name<'a>(path: &str, text: &'a str) -> Read<&'a str> {
    match is_reserved_event_name(text) {
        true => Err(BadField::new(
            path,
            format!("events named {text} are reserved: use the command cancel"),
        )),
        false => name(path, text),
    }
}

fn known_status(path: &str, number: i32) -> Read<Wire> {
    Wire::try_from(number).map_err(|_| {
        let known = "0 RUNNING, 1 COMPLETED, 2 CONTINUED_AS_NEW, 3 FAILED, 4 CANCELED, 5 TERMINATED, 6 PENDING, \
                     7 SUSPENDED";
        BadField::new(
            path,
            format!("{number} is not an orchestration status; known are {known}"),
        )
    })
}

/// Statuses of instances. CONTINUED_AS_NEW is a status that no instance shows: it adds nothing.
pub(crate) fn statuses(path: &str, listed: &[i32]) -> Read<Vec<Status>> {
    let mut statuses = Vec::with_capacity(listed.len());
    for (at, number) in listed.iter().enumerate() {
        let status = match known_status(&format!("{path}[{at}]"), *number)? {
            Wire::Pending => Status::Pending,
            Wire::Running => Status::Running,
            Wire::Suspended => Status::Suspended,
            Wire::Completed => Status::Completed,
            Wire::Failed => Status::Failed,
            Wire::Terminated => Status::Terminated,
            Wire::Canceled => Status::Canceled,
            Wire::ContinuedAsNew => continue,
        };
        statuses.push(status);
    }
    Ok(statuses)
}

/// What a filter says of statuses. A list that names no status of an instance matches nothing, and
/// is not the same as no list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StatusFilter {
    /// No list was sent.
    Any,
    /// One of these.
    Only(Vec<Status>),
}

impl StatusFilter {
    pub(crate) fn read(path: &str, listed: &[i32]) -> Read<Self> {
        match listed.is_empty() {
            true => Ok(Self::Any),
            false => statuses(path, listed).map(Self::Only),
        }
    }

    /// The finished statuses that it matches; none when it matches unfinished ones only.
    pub(crate) fn finished(self) -> Vec<Status> {
        let is_meant = |status: &Status| match &self {
            Self::Any => true,
            Self::Only(listed) => listed.contains(status),
        };
        let finished = Status::ALL.into_iter().filter(|status| status.is_final());
        finished.filter(is_meant).collect()
    }
}

/// How a turn ends its orchestration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndStatus {
    Completed,
    ContinuedAsNew,
    Failed,
    Canceled,
    Terminated,
}

/// A status that ends an orchestration.
pub(crate) fn end_status(path: &str, number: i32) -> Read<EndStatus> {
    let status = known_status(path, number)?;
    Ok(match status {
        Wire::Completed => EndStatus::Completed,
        Wire::ContinuedAsNew => EndStatus::ContinuedAsNew,
        Wire::Failed => EndStatus::Failed,
        Wire::Canceled => EndStatus::Canceled,
        Wire::Terminated => EndStatus::Terminated,
        Wire::Running | Wire::Pending | Wire::Suspended => {
            let ends = "COMPLETED, FAILED, CANCELED, TERMINATED or CONTINUED_AS_NEW";
            let name = status.as_str_name();
            let name = name.strip_prefix("ORCHESTRATION_STATUS_").unwrap_or(name);
            let problem = format!("{name} does not end an orchestration: send {ends}");
            return Err(BadField::new(path, problem));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: i32) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos }
    }

    #[test]
    fn times_are_read_whole_or_refused_with_their_field() {
        for (seconds, nanos, wanted) in [
            (1, 999_999_999, Ok(1_999_999)),
            (-1, 500_000_000, Ok(-500_000)),
            (FIRST_SECOND, 0, Ok(FIRST_SECOND * 1_000_000)),
            (LAST_SECOND, 999_999_999, Ok(Timestamp::MAX.as_micros())),
            (0, 1_000_000_000, Err("nanos")),
            (0, -1, Err("nanos")),
            (0, 2_000_000_000, Err("nanos")),
            (LAST_SECOND + 1, 0, Err("years 1 to 9999")),
            (FIRST_SECOND - 1, 0, Err("years 1 to 9999")),
            (i64::MAX, 0, Err("years 1 to 9999")),
            (i64::MIN, i32::MIN, Err("nanos")),
        ] {
            match (time("query.from", at(seconds, nanos)), wanted) {
                (Ok(read), Ok(micros)) => assert_eq!(read.as_micros(), micros),
                (Err(bad), Err(part)) => {
                    let text = bad.to_string();
                    assert!(text.starts_with("query.from: ") && text.contains(part), "{text}");
                }
                (read, _) => panic!("{seconds} s {nanos} ns are read as {read:?}"),
            }
        }
    }

    #[test]
    fn durations_are_read_whole_or_refused() {
        let read = |seconds, nanos| duration_if("timeout", Some(prost_types::Duration { seconds, nanos }));
        assert_eq!(duration_if("timeout", None), Ok(None));
        assert_eq!(read(1, 500_000_000), Ok(Some(Duration::from_millis(1_500))));
        assert!(read(0, 0).is_ok() && read(DURATION_SECONDS_MAX, 0).is_ok());
        for (seconds, nanos) in [
            (-1, 0),
            (0, -1),
            (0, NANOS_PER_SECOND),
            (DURATION_SECONDS_MAX + 1, 0),
        ] {
            assert!(read(seconds, nanos).is_err(), "{seconds} s {nanos} ns");
        }
        let longest = wire_duration(Duration::MAX);
        assert!(read(longest.seconds, longest.nanos).is_ok());
    }

    #[test]
    fn a_filter_of_statuses_that_names_none_matches_none() {
        let read = |listed: &[i32]| StatusFilter::read("runtimeStatus", listed);
        assert_eq!(read(&[]), Ok(StatusFilter::Any));
        assert_eq!(read(&[]).map(StatusFilter::finished).map(|all| all.len()), Ok(4));
        assert_eq!(read(&[2]), Ok(StatusFilter::Only(Vec::new())));
        assert_eq!(read(&[2]).map(StatusFilter::finished), Ok(Vec::new()));
        assert_eq!(read(&[0, 6]).map(StatusFilter::finished), Ok(Vec::new()));
        assert_eq!(
            read(&[0, 1]).map(StatusFilter::finished),
            Ok(vec![Status::Completed])
        );
        for listed in [&[8][..], &[-1], &[1, 99]] {
            let bad = read(listed).unwrap_err().to_string();
            let last = listed.len() - 1;
            assert!(bad.starts_with(&format!("runtimeStatus[{last}]: ")), "{bad}");
        }
    }

    #[test]
    fn only_a_status_of_the_end_ends_an_orchestration() {
        for (number, wanted) in [
            (1, Some(EndStatus::Completed)),
            (2, Some(EndStatus::ContinuedAsNew)),
            (3, Some(EndStatus::Failed)),
            (4, Some(EndStatus::Canceled)),
            (5, Some(EndStatus::Terminated)),
            (0, None),
            (6, None),
            (7, None),
            (8, None),
        ] {
            assert_eq!(end_status("status", number).ok(), wanted, "{number}");
        }
    }
}
