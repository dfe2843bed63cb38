//! Finds user code that does not come back and puts fresh threads in the place of stuck ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::runtime::spawn;
use super::{HubError, STUCK};
use crate::alarm::Alarm;
use crate::station::Station;

/// Longest and shortest time between two looks.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Puts a worker to a station. Nobody joins it: it may be stuck one day, see
/// [`Station::wait_until_closed`].
pub(super) fn start_worker(index: usize, station: &Arc<Station>, number: u64) -> Result<(), HubError> {
    let station = station.clone();
    spawn(&format!("dalsegno-part-{index}"), move || station.work(number)).map(drop)
}

/// See the module.
pub(super) struct Watchdog {
    pub(super) stations: Vec<Arc<Station>>,
    pub(super) alarm: Arc<Alarm>,
    pub(super) turn_max: Duration,
    pub(super) stuck: Arc<AtomicUsize>,
    pub(super) stuck_max: usize,
    pub(super) is_ending: Arc<AtomicBool>,
}

impl Watchdog {
    /// Looks while something moves, and sleeps while nothing does.
    pub(super) fn run(&self) {
        let (shortest, longest) = LOOK_EVERY;
        let every = (self.turn_max / 4).clamp(shortest, longest);
        let mut rounds = 0;
        while !self.is_ending.load(Ordering::SeqCst) {
            self.look();
            if rounds != self.rounds() || self.is_in_code() {
                rounds = self.rounds();
                self.alarm.wait(every);
            } else {
                self.alarm.sleep_unless(|| {
                    rounds != self.rounds() || self.is_in_code() || self.is_ending.load(Ordering::SeqCst)
                });
            }
        }
    }

    fn rounds(&self) -> u64 {
        self.stations
            .iter()
            .map(|station| station.progress.rounds())
            .sum()
    }

    fn is_in_code(&self) -> bool {
        self.stations.iter().any(|station| station.progress.is_in_code())
    }

    fn look(&self) {
        for (index, station) in self.stations.iter().enumerate() {
            let Some(number) = station.relieve(self.turn_max) else {
                continue;
            };
            let stuck = self.stuck.load(Ordering::Relaxed);
            if stuck > self.stuck_max {
                tracing::error!(
                    stuck,
                    "more threads than stuck_threads_max are stuck in user code; the process ends and recovers at its next start"
                );
                std::process::exit(STUCK);
            }
            if let Err(error) = start_worker(index, station, number) {
                tracing::error!(%error, "no thread to go on with; the process ends and recovers at its next start");
                std::process::exit(STUCK);
            }
        }
    }
}
