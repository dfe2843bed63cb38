//! Finds user code that does not come back and puts fresh threads in the place of stuck ones.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::runtime::spawn;
use super::{HubError, STUCK};
use crate::alarm::Alarm;
use crate::station::Station;

/// Longest and shortest time between two looks.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// The workers of all stations. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct Workers(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Workers {
    /// Puts a worker to a station.
    pub(super) fn start(&self, index: usize, station: &Arc<Station>, number: u64) -> Result<(), HubError> {
        let station = station.clone();
        let worker = spawn(&format!("dalsegno-part-{index}"), move || station.work(number))?;
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match workers.get_mut(index) {
            // Dropping the handle of a stuck thread leaves it to itself.
            Some(stuck) => *stuck = worker,
            None => workers.push(worker),
        }
        Ok(())
    }

    /// Waits until all of them have ended.
    pub(super) fn join(&self) {
        let workers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            let _ = worker.join();
        }
    }
}

/// See the module.
pub(super) struct Watchdog {
    pub(super) stations: Vec<Arc<Station>>,
    pub(super) workers: Workers,
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
            if let Err(error) = self.workers.start(index, station, number) {
                tracing::error!(%error, "no thread to go on with; the process ends and recovers at its next start");
                std::process::exit(STUCK);
            }
        }
    }
}
