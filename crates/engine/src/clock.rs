//! The time, as a seam.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use dalsegno_core::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Now; never earlier than before.
    fn now(&self) -> Timestamp;
}

/// The machine's clock, held still while it is set back.
#[derive(Debug)]
pub struct SystemClock {
    latest: AtomicI64,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            latest: AtomicI64::new(i64::MIN),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.latest.fetch_max(micros, Ordering::Relaxed).max(micros))
    }
}
