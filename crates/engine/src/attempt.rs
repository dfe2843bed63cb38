//! One attempt of an activity within its limits, wherever it runs.

use std::future::Future;
use std::time::Duration;

use dalsegno_core::Failure;

use crate::executor::{AttemptOutcome, CancelReason, Cancellation, Heartbeats};

/// How long a cancelled attempt may take to end before its future is dropped.
pub const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// How long an attempt may take.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptLimits {
    /// It takes no longer.
    pub timeout: Option<Duration>,
    /// It is never silent for longer.
    pub heartbeat: Option<Duration>,
}

/// Runs one attempt within its limits. `None`: it was cancelled and nobody wants its outcome.
pub async fn run_attempt(
    attempt: impl Future<Output = AttemptOutcome>,
    limits: &AttemptLimits,
    heartbeats: &Heartbeats,
    mut cancelled: Cancellation,
    tell_it: impl FnOnce(),
) -> Option<AttemptOutcome> {
    tokio::pin!(attempt);
    let told = cancelled.clone();
    let late = tokio::select! {
        biased;
        // One that ends because it was told to has not failed.
        outcome = &mut attempt => return Some(outcome).filter(|outcome| counts(told.reason(), outcome)),
        reason = cancelled.wait() => Late::Cancelled(reason),
        late = over_limit(limits, heartbeats) => late,
    };
    // One that was told already keeps the reason it was told.
    if !matches!(late, Late::Cancelled(_)) {
        tell_it();
    }
    let in_grace = Box::pin(tokio::time::timeout(CANCEL_GRACE, &mut attempt))
        .await
        .ok();
    match late {
        Late::Cancelled(CancelReason::Requested) => Some(in_grace.unwrap_or_else(cancelled_late)),
        Late::Cancelled(CancelReason::Terminated | CancelReason::Shutdown) => in_grace.filter(completed),
        Late::Cancelled(CancelReason::TimedOut) | Late::TimedOut => Some(
            in_grace
                .filter(completed)
                .unwrap_or_else(|| timed_out(limits.timeout, "timeout")),
        ),
        Late::Silent => Some(timed_out(limits.heartbeat, "heartbeat")),
    }
}

enum Late {
    Cancelled(CancelReason),
    TimedOut,
    Silent,
}

/// One that ends because it was told to has not failed, unless somebody waits for its end.
fn counts(told: Option<CancelReason>, outcome: &AttemptOutcome) -> bool {
    matches!(told, None | Some(CancelReason::Requested)) || completed(outcome)
}

fn cancelled_late() -> AttemptOutcome {
    AttemptOutcome::Failed {
        failure: Failure::cancelled(None),
        retry_after: None,
    }
}

fn completed(outcome: &AttemptOutcome) -> bool {
    matches!(outcome, AttemptOutcome::Completed(_))
}

fn timed_out(limit: Option<Duration>, what: &str) -> AttemptOutcome {
    let message = format!(
        "the attempt exceeded its {what} of {:?}",
        limit.unwrap_or_default()
    );
    AttemptOutcome::Failed {
        failure: Failure::new("Timeout", message),
        retry_after: None,
    }
}

/// Never ends without limits. Timers are large, and most attempts have none.
async fn over_limit(limits: &AttemptLimits, heartbeats: &Heartbeats) -> Late {
    if limits.timeout.is_none() && limits.heartbeat.is_none() {
        return futures::future::pending().await;
    }
    let first = async {
        tokio::select! {
            biased;
            () = sleep_or_never(limits.timeout) => Late::TimedOut,
            () = silence(limits.heartbeat, heartbeats) => Late::Silent,
        }
    };
    Box::pin(first).await
}

async fn sleep_or_never(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => futures::future::pending().await,
    }
}

/// Ends when no report came for the length of the limit.
async fn silence(limit: Option<Duration>, heartbeats: &Heartbeats) {
    let Some(limit) = limit else {
        return futures::future::pending().await;
    };
    let mut seen = 0;
    loop {
        tokio::time::sleep(limit).await;
        let count = heartbeats.latest().count;
        if count == seen {
            return;
        }
        seen = count;
    }
}
