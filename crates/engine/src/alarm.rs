//! Wakes a thread that has gone to sleep for want of anything to look at.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// One sleeper, many who may wake it. Waking costs a load while nobody sleeps.
#[derive(Debug, Default)]
pub struct Alarm {
    sleeper: OnceLock<Thread>,
    is_asleep: AtomicBool,
}

impl Alarm {
    /// Wakes the sleeper if it sleeps.
    pub fn wake(&self) {
        if self.is_asleep.load(Ordering::SeqCst) && self.is_asleep.swap(false, Ordering::SeqCst) {
            self.unpark();
        }
    }

    /// Wakes the sleeper out of any wait.
    pub fn unpark(&self) {
        if let Some(sleeper) = self.sleeper.get() {
            sleeper.unpark();
        }
    }

    /// Sleeps until woken, unless `is_needed` says otherwise once everybody can see the sleep.
    /// Always called by the same thread.
    pub fn sleep_unless(&self, is_needed: impl FnOnce() -> bool) {
        self.sleeper.get_or_init(std::thread::current);
        self.is_asleep.store(true, Ordering::SeqCst);
        if is_needed() {
            self.is_asleep.store(false, Ordering::SeqCst);
            return;
        }
        std::thread::park();
    }

    /// Waits for a while.
    pub fn wait(&self, time: Duration) {
        self.sleeper.get_or_init(std::thread::current);
        std::thread::park_timeout(time);
    }
}
