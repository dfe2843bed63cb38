//! **Monitor.** An orchestration without an end: check, tell somebody if need be, wait, begin again.
//!
//! It ends every round by `continue_as_new`, so its history holds one round, after a year as on the
//! first day. What it must remember goes into the next round's input.
//!
//! When is the next check? [`Pace::FixedRate`] holds to a rhythm: a slow check does not move it, and
//! rhythms that a check missed are left out. [`Pace::FixedDelay`] leaves the service alone for the
//! whole interval after each check. In both the time is taken after the check; taken before, a check
//! that takes as long as the interval would be followed by the next one at once.

pub mod stub;

use std::time::Duration;

use dalsegno::{
    ActivityContext, App, OrchestrationContext, Result, RetryPolicy, SECOND, Timestamp, activity,
    orchestrator,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

/// What is watched and how, and what was seen so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// GET here; any 2xx means that the service is up.
    pub url: String,
    /// Time between two checks.
    pub interval_ms: u64,
    /// From where it is counted.
    pub pace: Pace,
    /// So many failures in a row alert the operators.
    pub alert_after: u32,
    /// So many failures in a row call somebody out of bed.
    pub escalate_after: u32,
    /// Failures in a row so far.
    pub failures: u32,
    /// When this round's check was due; the first one is due at once.
    pub due_micros: Option<i64>,
}

/// From where the interval is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pace {
    /// From when the check was due.
    FixedRate,
    /// From when the check ended.
    FixedDelay,
}

/// What operators are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// The service fails, so many times in a row.
    Alert(u32),
    /// It still does.
    Escalation(u32),
    /// It works again, after so many failures.
    Recovery(u32),
}

/// Where notices go.
pub type Notices = UnboundedSender<Notice>;

/// One round: check, tell, wait; then the next.
#[orchestrator(name = "MonitorExternalServiceOrchestrator")]
pub async fn monitor(ctx: &OrchestrationContext, monitor: Monitor) -> Result<()> {
    let due = monitor.due_micros.map_or(ctx.now(), Timestamp::from_micros);
    let up = ctx.call(check_service, monitor.url.clone()).await?;
    let failures = if up { 0 } else { monitor.failures + 1 };
    if let Some(notice) = monitor.notice(failures) {
        ctx.call(notify_operators, notice).await?;
    }
    let next = monitor
        .pace
        .next(due, ctx.now(), Duration::from_millis(monitor.interval_ms));
    ctx.timer_at(next).await;
    ctx.continue_as_new(
        self::monitor,
        Monitor {
            failures,
            due_micros: Some(next.as_micros()),
            ..monitor
        },
    )
    .await
}

impl Monitor {
    /// A monitor that has seen nothing yet.
    pub fn of(url: impl Into<String>, interval: Duration, pace: Pace) -> Self {
        Self {
            url: url.into(),
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            pace,
            alert_after: 3,
            escalate_after: 6,
            failures: 0,
            due_micros: None,
        }
    }

    /// What there is to say, once, when this was the check that made so many failures in a row.
    fn notice(&self, failures: u32) -> Option<Notice> {
        if failures == self.alert_after {
            return Some(Notice::Alert(failures));
        }
        if failures == self.escalate_after {
            return Some(Notice::Escalation(failures));
        }
        let recovered = failures == 0 && self.failures >= self.alert_after;
        recovered.then_some(Notice::Recovery(self.failures))
    }
}

impl Pace {
    /// When the next check is due, after one that was due and is over now.
    pub fn next(self, due: Timestamp, now: Timestamp, interval: Duration) -> Timestamp {
        match self {
            Self::FixedDelay => now + interval,
            Self::FixedRate => {
                let missed = now.since(due).as_micros() / interval.as_micros().max(1);
                due + interval.saturating_mul(u32::try_from(missed + 1).unwrap_or(u32::MAX))
            }
        }
    }
}

/// Is it up? No answer is an answer, too.
#[activity(name = "CheckExternalServiceStatus", timeout = 30 * SECOND)]
pub async fn check_service(url: String) -> bool {
    let answer = reqwest::get(url).await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Tells the operators.
#[activity(name = "NotifyOperators", retry = RetryPolicy::exponential(5, SECOND))]
async fn notify_operators(ctx: ActivityContext, notice: Notice) -> Result<()> {
    Ok(ctx.data::<Notices>().send(notice)?)
}

/// The app: everything above, with somebody to tell.
pub fn app(notices: Notices) -> App {
    App::new()
        .register(monitor)
        .register(check_service)
        .register(notify_operators)
        .data(notices)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Due at 0, over at `now`, every 100 ms.
    fn next(pace: Pace, now: i64) -> i64 {
        let (due, now) = (Timestamp::from_micros(0), Timestamp::from_micros(1_000 * now));
        pace.next(due, now, Duration::from_millis(100)).as_micros() / 1_000
    }

    #[test]
    fn a_slow_check_does_not_eat_the_interval() {
        assert_eq!(
            [0, 30, 99, 100, 250].map(|now| next(Pace::FixedRate, now)),
            [100, 100, 100, 200, 300]
        );
        assert_eq!(
            [0, 30, 99, 100, 250].map(|now| next(Pace::FixedDelay, now)),
            [100, 130, 199, 200, 350]
        );
    }

    #[test]
    fn each_notice_is_given_once() {
        let told = |before, failures| {
            Monitor {
                failures: before,
                ..Monitor::of("", SECOND, Pace::FixedRate)
            }
            .notice(failures)
        };
        assert_eq!(
            (1..=8)
                .filter_map(|failures| told(failures - 1, failures))
                .collect::<Vec<_>>(),
            [Notice::Alert(3), Notice::Escalation(6)]
        );
        assert_eq!(
            [told(0, 0), told(2, 0), told(4, 0)],
            [None, None, Some(Notice::Recovery(4))]
        );
    }
}
