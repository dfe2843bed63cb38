//! Samples the refusals of callers without a valid key: anybody can cause as many as they like.

use dalsegno_core::Timestamp;

/// Refusals within a minute that have a record of their own; the others are counted.
pub(super) const PER_MINUTE_MAX: u32 = 60;
const MINUTE_MICROS: i64 = 60_000_000;

/// What becomes of one refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sampled {
    /// It has a record of its own.
    Record,
    /// It is only counted.
    Count,
}

/// The refusals of the current minute.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    since: i64,
    recorded: u32,
    counted: u64,
}

impl Refusals {
    /// Ends the minute if it is over. Returns how many refusals of it were only counted, if any.
    pub(super) fn end_minute(&mut self, now: Timestamp) -> Option<u64> {
        // A clock that was set back ends the minute too.
        if (0..MINUTE_MICROS).contains(&(now.as_micros() - self.since)) {
            return None;
        }
        let counted = std::mem::take(self).counted;
        (counted > 0).then_some(counted)
    }

    /// Takes one more.
    pub(super) fn take(&mut self, now: Timestamp) -> Sampled {
        if self.recorded == 0 {
            self.since = now.as_micros();
        }
        if self.recorded < PER_MINUTE_MAX {
            self.recorded += 1;
            return Sampled::Record;
        }
        self.counted += 1;
        Sampled::Count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: i64) -> Timestamp {
        Timestamp::from_micros(1_772_357_400_000_000 + number * 1_000_000)
    }

    #[test]
    fn each_minute_has_a_sample_and_a_count() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.end_minute(second(0)), None);
        let taken: Vec<Sampled> = (0..PER_MINUTE_MAX + 7)
            .map(|_| refusals.take(second(0)))
            .collect();
        let recorded = taken.iter().filter(|taken| **taken == Sampled::Record).count();
        assert_eq!(recorded, PER_MINUTE_MAX as usize);
        assert_eq!(refusals.end_minute(second(59)), None);
        assert_eq!(refusals.end_minute(second(60)), Some(7));
        assert_eq!(refusals.end_minute(second(60)), None, "it is reported once");
        assert_eq!(refusals.take(second(61)), Sampled::Record);
        assert_eq!(refusals.end_minute(second(-5)), None, "nothing was only counted");
    }
}
