//! When a failed attempt is tried again. Pure arithmetic; jitter comes in as a number.

use std::time::Duration;

use crate::time::Timestamp;

/// How often and when a task is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1.
    pub attempts_max: u32,
    /// Wait before the second attempt.
    pub first_interval: Duration,
    /// What the wait is multiplied by each time; at least 1.
    pub coefficient: f64,
    /// The longest wait.
    pub interval_max: Duration,
    /// Share of the wait, 0 to 1, by which it is shortened at random.
    pub jitter: f64,
    /// No further attempt begins later than this after the task was scheduled.
    pub deadline: Option<Duration>,
}

/// The longest wait between two attempts unless a policy says otherwise.
pub const INTERVAL_MAX_DEFAULT: Duration = Duration::from_secs(3600);

impl RetryPolicy {
    /// One attempt.
    pub const NONE: Self = Self::fixed(1, Duration::ZERO);

    /// The same wait each time.
    pub const fn fixed(attempts_max: u32, interval: Duration) -> Self {
        Self {
            attempts_max,
            first_interval: interval,
            coefficient: 1.0,
            interval_max: INTERVAL_MAX_DEFAULT,
            jitter: 0.0,
            deadline: None,
        }
    }

    /// A wait that doubles each time, up to an hour.
    pub const fn exponential(attempts_max: u32, first_interval: Duration) -> Self {
        Self {
            coefficient: 2.0,
            ..Self::fixed(attempts_max, first_interval)
        }
    }

    /// The longest wait between two attempts (default: an hour).
    #[must_use]
    pub const fn interval_max(mut self, interval_max: Duration) -> Self {
        self.interval_max = interval_max;
        self
    }

    /// What the wait is multiplied by each time.
    #[must_use]
    pub const fn coefficient(mut self, coefficient: f64) -> Self {
        self.coefficient = coefficient;
        self
    }

    /// Shortens each wait by a random share, 0 to this.
    #[must_use]
    pub const fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// No attempt begins later than this after the task was scheduled.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// What is wrong with the policy, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        if self.attempts_max == 0 {
            return Some("attempts_max is 0: the first attempt counts, so say at least 1");
        }
        if !(1.0..=1_000.0).contains(&self.coefficient) {
            return Some("coefficient must lie between 1 and 1,000");
        }
        if self.interval_max < self.first_interval {
            return Some("interval_max is shorter than the first interval");
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Some("jitter must lie between 0 and 1");
        }
        None
    }

    /// When the next attempt is due after `attempt` (from 1) failed, or `None` when that was the last.
    ///
    /// `draw` is a random number from 0 to 1. `at_least` is a wait that the failure itself asked for.
    pub fn next_attempt(
        &self,
        attempt: u32,
        scheduled: Timestamp,
        now: Timestamp,
        draw: f64,
        at_least: Option<Duration>,
    ) -> Option<Timestamp> {
        if attempt >= self.attempts_max {
            return None;
        }
        let wait = self
            .interval(attempt)
            .mul_f64(1.0 - self.jitter * draw.clamp(0.0, 1.0));
        let due = now + wait.max(at_least.unwrap_or_default());
        match self.deadline {
            Some(deadline) if due > scheduled + deadline => None,
            _ => Some(due),
        }
    }

    fn interval(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt - 1).unwrap_or(i32::MAX);
        let seconds = self.first_interval.as_secs_f64() * self.coefficient.powi(exponent);
        let limit = self.interval_max.as_secs_f64();
        Duration::from_secs_f64(if seconds < limit { seconds } else { limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn waits(policy: RetryPolicy, draw: f64) -> Vec<Option<u64>> {
        let start = Timestamp::from_micros(0);
        (1..=5)
            .map(|attempt| policy.next_attempt(attempt, start, start, draw, None))
            .map(|due| due.map(|due| due.since(start).as_millis() as u64))
            .collect()
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy = RetryPolicy::exponential(5, SECOND).interval_max(3 * SECOND);
        let expected = vec![Some(1000), Some(2000), Some(3000), Some(3000), None];
        assert_eq!(waits(policy, 0.0), expected);
    }

    #[test]
    fn jitter_only_shortens() {
        let policy = RetryPolicy::fixed(3, SECOND).jitter(0.5);
        assert_eq!(waits(policy, 1.0)[..3], [Some(500), Some(500), None]);
    }

    #[test]
    fn a_deadline_ends_the_attempts() {
        let policy = RetryPolicy::exponential(9, SECOND).deadline(3 * SECOND);
        assert_eq!(waits(policy, 0.0)[..3], [Some(1000), Some(2000), None]);
    }

    #[test]
    fn a_huge_coefficient_does_not_overflow() {
        let policy = RetryPolicy::fixed(u32::MAX, SECOND).coefficient(1000.0);
        let start = Timestamp::from_micros(0);
        let due = policy.next_attempt(u32::MAX - 1, start, start, 0.0, None);
        assert_eq!(due, Some(start + INTERVAL_MAX_DEFAULT));
    }
}
