//! How many instances are in each status: kept in memory, moved by durable turns.

use std::sync::atomic::{AtomicI64, Ordering};

use dalsegno_core::query::Status;

/// See the module.
#[derive(Debug, Default)]
pub struct Counts([AtomicI64; Status::ALL.len()]);

fn place(status: Status) -> usize {
    Status::ALL.iter().position(|other| *other == status).unwrap_or(0)
}

impl Counts {
    /// As stored.
    pub fn new(counts: &[(Status, u64)]) -> Self {
        let all = Self::default();
        for (status, count) in counts {
            all.0[place(*status)].store(i64::try_from(*count).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
        all
    }

    /// An instance went from one status to another, appeared or vanished.
    pub fn apply(&self, (from, to): (Option<Status>, Option<Status>)) {
        if let Some(from) = from {
            self.0[place(from)].fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(to) = to {
            self.0[place(to)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All of them, in the order of [`Status::ALL`].
    pub fn snapshot(&self) -> Vec<(Status, u64)> {
        let count = |status| u64::try_from(self.0[place(status)].load(Ordering::Relaxed)).unwrap_or(0);
        Status::ALL
            .into_iter()
            .map(|status| (status, count(status)))
            .collect()
    }
}
