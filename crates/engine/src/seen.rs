//! How much of an instance somebody has seen: a place in its stream of changes.
//!
//! A place is three numbers, so that whoever reads may keep it for us: nothing is remembered
//! here of readers that went away.

use std::fmt;
use std::str::FromStr;

use dalsegno_core::store::InstanceRow;
use dalsegno_core::{ExecutionKey, Payload, hash};

/// All up to here was seen. As text `<execution>.<events>.<state>`, with `.end` behind it once the
/// end was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The execution it is about; none has the number 0. A rewind and continue-as-new make a new one.
    pub execution: ExecutionKey,
    /// How many events of its history.
    pub events: u64,
    /// A hash of status, custom status and fault as they were told last; 0 before.
    pub state: u64,
    /// Whether the end was told.
    pub is_end: bool,
}

impl Seen {
    /// All there is of an instance now, but for its end.
    pub fn all_of(row: &InstanceRow) -> Self {
        Self {
            execution: row.key,
            events: row.events,
            state: state_of(row),
            is_end: false,
        }
    }

    /// Is there nothing more of the instance?
    pub fn is_all_of(&self, row: &InstanceRow) -> bool {
        let all = Self::all_of(row);
        (self.execution, self.events, self.state) == (all.execution, all.events, all.state)
    }
}

/// A hash of what the status of an instance tells; never 0.
pub fn state_of(row: &InstanceRow) -> u64 {
    let custom = row.custom_status.as_ref().map_or("", Payload::as_str);
    let parked = row.parked.as_ref().map(ToString::to_string).unwrap_or_default();
    hash::fingerprint(&[row.status.as_str(), custom, &parked]).max(1)
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.is_end { ".end" } else { "" };
        write!(f, "{}.{}.{:016x}{end}", self.execution.0, self.events, self.state)
    }
}

/// A text that is no place in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is no id of an event of this stream: take one as it came, or leave it out")
    }
}

impl std::error::Error for NoPlace {}

impl FromStr for Seen {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (text, is_end) = match text.strip_suffix(".end") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let mut parts = text.split('.');
        let (Some(execution), Some(events), Some(state), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoPlace);
        };
        if state.len() != 16 || !state.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoPlace);
        }
        Ok(Self {
            execution: ExecutionKey(number(execution)?),
            events: number(events)?,
            state: u64::from_str_radix(state, 16).map_err(|_| NoPlace)?,
            is_end,
        })
    }
}

fn number(text: &str) -> Result<u64, NoPlace> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten().ok_or(NoPlace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_as_it_was_and_nothing_else_is_one() {
        let seen = Seen {
            execution: ExecutionKey(7),
            events: 12,
            state: 0xfeed,
            is_end: false,
        };
        for seen in [seen, Seen { is_end: true, ..seen }, Seen::default()] {
            assert_eq!(seen.to_string().parse(), Ok(seen));
        }
        for text in [
            "",
            ".",
            "7",
            "7.12",
            "7.12.x",
            "7.12.feed",
            "+7.12.000000000000feed",
            "7.-1.000000000000feed",
            "7.12.000000000000feed.",
            "7.12.000000000000feed.END",
            "7.12.+00000000000feed",
            "99999999999999999999.1.000000000000feed",
            " 7.12.000000000000feed",
        ] {
            assert_eq!(text.parse::<Seen>(), Err(NoPlace), "{text:?}");
        }
    }
}
