//! What the machine's service manager is told, by the protocol of systemd: that the host is ready,
//! that it moves, that it stops.
//!
//! Without a manager that listens (`NOTIFY_SOCKET`) nothing is told and nothing is watched.

use std::time::Duration;

use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::Health;
use sd_notify::NotifyState;
use tokio::task::JoinHandle;

/// A host as the service manager sees it, from ready to stopping.
#[derive(Debug)]
pub struct Service {
    watchdog: Option<JoinHandle<()>>,
}

impl Service {
    /// Tells that the host has recovered and listens. From then on, if the manager watches, it hears
    /// of this hub for as long as the hub makes progress: what `/healthz` asks.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn ready(hub: &TaskHub, status: &str) -> Self {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        let hub = hub.clone();
        let watchdog = sd_notify::watchdog_enabled().map(|period| tokio::spawn(feed(period, hub)));
        Self { watchdog }
    }

    /// Tells that the end was ordered. Nobody watches it from here on: a drain may take its time.
    pub fn stopping(self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.abort();
        }
        tell(&[NotifyState::Stopping]);
    }
}

/// Twice in each period, so that one that comes late is early enough.
async fn feed(period: Duration, hub: TaskHub) {
    let mut beats = tokio::time::interval(period / 2);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        match standstill(&hub.health()) {
            None => tell(&[NotifyState::Watchdog]),
            Some(problem) => {
                tracing::warn!(problem, "the watchdog is not fed");
                tell(&[NotifyState::Status(problem)]);
            }
        }
    }
}

/// What does not move and should.
fn standstill(health: &Health) -> Option<&str> {
    health.problems.first().map(String::as_str)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hub_that_moves_is_told_to_move() {
        let health = |problems: &[&str], draining| Health {
            problems: problems.iter().map(ToString::to_string).collect(),
            stuck_threads: 1,
            draining,
        };
        assert_eq!(standstill(&health(&[], false)), None);
        assert_eq!(standstill(&health(&[], true)), None, "a drain is progress");
        let stuck = "partition thread 0 has not moved for 61 s";
        assert_eq!(standstill(&health(&[stuck, "other"], false)), Some(stuck));
    }
}
