//! A bucket of a durable limiter: how many may go now, and when the next may.
//!
//! A token bucket with a limit of concurrency beside it. Tokens are taken from the stored bucket
//! in blocks, ahead of use; what a crash leaves of a block is forfeited, so a restart never
//! bursts. Knows no clock: callers pass `now`.

use std::time::Duration;

use crate::time::Timestamp;

/// A 429 keeps the bucket shut for at least this long.
pub const BLOCKED_MIN: Duration = Duration::from_secs(1);

/// What a limiter allows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LimiterRule {
    /// So many per period.
    pub rate: Option<(u32, Duration)>,
    /// Tokens that may be saved up; `None` is one second's worth, at least 1.
    pub burst: Option<u32>,
    /// So many at once.
    pub concurrency: Option<u32>,
}

impl LimiterRule {
    /// Tokens that may be saved up.
    pub fn burst_tokens(&self) -> u32 {
        let Some((count, period)) = self.rate else {
            return u32::MAX;
        };
        let second = f64::from(count) / period.as_secs_f64().max(f64::MIN_POSITIVE);
        let default = second.clamp(1.0, f64::from(count.max(1))) as u32;
        self.burst.unwrap_or(default).max(1)
    }

    /// What is wrong with the rule, if anything.
    pub fn problem(&self) -> Option<&'static str> {
        match self.rate {
            Some((0, _)) => Some("the rate is 0: nothing would ever run"),
            Some((_, period)) if period.is_zero() => Some("the period of the rate is 0"),
            _ if self.concurrency == Some(0) => Some("the concurrency is 0: nothing would ever run"),
            _ if self.rate.is_none() && self.concurrency.is_none() => {
                Some("it has neither rate nor concurrency and limits nothing")
            }
            _ => None,
        }
    }

    fn tokens_per_micro(&self) -> f64 {
        self.rate.map_or(0.0, |(count, period)| {
            f64::from(count) / (period.as_micros() as f64).max(1.0)
        })
    }
}

/// What is stored of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BucketRecord {
    /// Tokens left at `updated`.
    pub tokens: f64,
    /// When that was; refilling counts from here.
    pub updated: Timestamp,
    /// No grants before this: an upstream said so.
    pub blocked_until: Option<Timestamp>,
}

/// One bucket in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// The rule it goes by.
    pub rule: LimiterRule,
    /// As stored, or about to be.
    pub record: BucketRecord,
    /// Taken from the stored bucket, not yet used.
    reserved: u32,
    /// Granted and not yet given back.
    pub running: u32,
}

/// Whether one may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Yes; what is stored did not change.
    Go,
    /// Yes, once the record is stored: a block of tokens was taken.
    GoAfterCommit,
    /// Not before this.
    At(Timestamp),
    /// When one of the running ends.
    WhenFree,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rule: LimiterRule, now: Timestamp) -> Self {
        let tokens = f64::from(rule.burst_tokens());
        let record = BucketRecord {
            tokens,
            updated: now,
            blocked_until: None,
        };
        Self::restored(rule, record)
    }

    /// One read back: what was reserved before is forfeited.
    pub fn restored(rule: LimiterRule, record: BucketRecord) -> Self {
        Self {
            rule,
            record,
            reserved: 0,
            running: 0,
        }
    }

    /// Asks for one grant while `waiting` (the asker included) want one.
    pub fn ask(&mut self, waiting: usize, now: Timestamp) -> Grant {
        if let Some(until) = self.record.blocked_until.filter(|until| *until > now) {
            return Grant::At(until);
        }
        if self.rule.concurrency.is_some_and(|most| self.running >= most) {
            return Grant::WhenFree;
        }
        let grant = self.take_token(waiting, now);
        if matches!(grant, Grant::Go | Grant::GoAfterCommit) {
            self.running += 1;
        }
        grant
    }

    fn take_token(&mut self, waiting: usize, now: Timestamp) -> Grant {
        if self.rule.rate.is_none() {
            return Grant::Go;
        }
        if self.reserved > 0 {
            self.reserved -= 1;
            return Grant::Go;
        }
        self.refill(now);
        let available = self.record.tokens as u32;
        if available == 0 {
            return Grant::At(self.next_token(now));
        }
        let block = available.min(u32::try_from(waiting).unwrap_or(u32::MAX).max(1));
        self.record.tokens -= f64::from(block);
        self.reserved = block - 1;
        Grant::GoAfterCommit
    }

    fn refill(&mut self, now: Timestamp) {
        if now <= self.record.updated {
            // A clock that was set back by an hour must not stop the tokens for an hour.
            self.record.updated = now;
            return;
        }
        let micros = now.since(self.record.updated).as_micros() as f64;
        let tokens = self.record.tokens + micros * self.rule.tokens_per_micro();
        self.record.tokens = tokens.min(f64::from(self.rule.burst_tokens()));
        self.record.updated = now;
    }

    fn next_token(&self, now: Timestamp) -> Timestamp {
        let missing = 1.0 - self.record.tokens;
        let micros = (missing / self.rule.tokens_per_micro()).ceil().max(1.0);
        self.record.updated.max(now) + Duration::from_micros(micros as u64)
    }

    /// One of the granted ended.
    pub fn give_back(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// An upstream said 429: shuts the bucket and empties it. The record has to be stored.
    pub fn shut(&mut self, retry_after: Duration, now: Timestamp) {
        let until = now + retry_after.max(BLOCKED_MIN);
        let until = self
            .record
            .blocked_until
            .map_or(until, |before| before.max(until));
        self.record = BucketRecord {
            tokens: 1.0,
            updated: until,
            blocked_until: Some(until),
        };
        self.reserved = 0;
    }

    /// Is it as a new one would be? Then nothing is lost with it.
    pub fn is_as_new(&self, now: Timestamp) -> bool {
        let is_open = self.record.blocked_until.is_none_or(|until| until <= now);
        let is_full = self.rule.rate.is_none() || self.tokens(now) >= f64::from(self.rule.burst_tokens());
        self.running == 0 && self.reserved == 0 && is_open && is_full
    }

    /// Tokens there are now, reserved ones included.
    pub fn tokens(&self, now: Timestamp) -> f64 {
        let mut copy = self.clone();
        copy.refill(now);
        copy.record.tokens + f64::from(self.reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    fn rule(count: u32, burst: u32) -> LimiterRule {
        LimiterRule {
            rate: Some((count, SECOND)),
            burst: Some(burst),
            concurrency: None,
        }
    }

    /// Grants in the order they come when one asks for ever, as fast as told.
    #[test]
    fn a_bucket_is_as_new_when_it_is_full_open_and_idle() {
        let mut bucket = Bucket::new(rule(2, 2), at(0));
        assert!(bucket.is_as_new(at(0)));
        bucket.ask(1, at(0));
        assert!(!bucket.is_as_new(at(60_000)), "one of its tasks runs");
        bucket.give_back();
        assert!(!bucket.is_as_new(at(0)), "a token is gone");
        assert!(bucket.is_as_new(at(60_000)));
        bucket.shut(SECOND * 90, at(60_000));
        assert!(!bucket.is_as_new(at(60_001)));
        assert!(bucket.is_as_new(at(300_000)));
        bucket.ask(2, at(300_000));
        bucket.give_back();
        assert!(!bucket.is_as_new(at(900_000)), "a grant is reserved");
    }

    fn grants(bucket: &mut Bucket, until: Timestamp) -> Vec<Timestamp> {
        let mut now = at(0);
        let mut granted = Vec::new();
        while now <= until {
            match bucket.ask(10, now) {
                Grant::Go | Grant::GoAfterCommit => granted.push(now),
                Grant::At(next) => now = next,
                Grant::WhenFree => panic!("no concurrency limit here"),
            }
        }
        granted
    }

    #[test]
    fn no_window_has_more_than_rate_and_burst() {
        for (count, burst) in [(1, 1), (7, 3), (50, 10), (1000, 1)] {
            let granted = grants(&mut Bucket::new(rule(count, burst), at(0)), at(10_000));
            for (first, start) in granted.iter().enumerate() {
                let inside = granted[first..]
                    .iter()
                    .take_while(|time| time.since(*start) < SECOND)
                    .count();
                assert!(
                    inside <= (count + burst) as usize,
                    "{inside} in a second at {start:?}, {count}/{burst}"
                );
            }
            assert!(
                granted.len() >= (count * 10) as usize,
                "too few: {}",
                granted.len()
            );
        }
    }

    #[test]
    fn a_restart_forfeits_what_was_reserved() {
        let mut bucket = Bucket::new(rule(10, 10), at(0));
        assert_eq!(bucket.ask(10, at(0)), Grant::GoAfterCommit);
        assert_eq!(bucket.ask(9, at(0)), Grant::Go);
        let mut restarted = Bucket::restored(rule(10, 10), bucket.record);
        assert!(matches!(restarted.ask(9, at(0)), Grant::At(_)));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_the_tokens() {
        let mut bucket = Bucket::new(rule(10, 1), at(3_600_000));
        assert_eq!(bucket.ask(1, at(3_600_000)), Grant::GoAfterCommit);
        let mut restarted = Bucket::restored(rule(10, 1), bucket.record);
        assert_eq!(restarted.ask(1, at(0)), Grant::At(at(100)));
        assert_eq!(restarted.ask(1, at(100)), Grant::GoAfterCommit);
    }

    #[test]
    fn a_429_shuts_the_bucket_for_a_second_at_least() {
        let mut bucket = Bucket::new(rule(10, 10), at(0));
        bucket.shut(Duration::from_millis(1), at(0));
        assert_eq!(bucket.ask(1, at(0)), Grant::At(at(1000)));
        assert_eq!(bucket.ask(1, at(1000)), Grant::GoAfterCommit);
        assert!(
            matches!(bucket.ask(1, at(1000)), Grant::At(_)),
            "it starts empty, not with a burst"
        );
    }

    #[test]
    fn concurrency_waits_for_an_end() {
        let rule = LimiterRule {
            concurrency: Some(1),
            ..LimiterRule::default()
        };
        let mut bucket = Bucket::new(rule, at(0));
        assert_eq!(bucket.ask(2, at(0)), Grant::Go);
        assert_eq!(bucket.ask(1, at(0)), Grant::WhenFree);
        bucket.give_back();
        assert_eq!(bucket.ask(1, at(0)), Grant::Go);
    }
}
