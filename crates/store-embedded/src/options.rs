//! Every limit of the store by name, with its default.

use std::time::Duration;

use dalsegno_core::limits::HUB_PARTITIONS;

/// How a hub is kept. Config keys are the field names, in section `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Partitions of a new hub. An existing hub keeps its own.
    pub partitions: u32,
    /// Length of a log segment, in bytes. A batch that needs more gets a longer one.
    pub segment_bytes: u64,
    /// A commit is in the tables no later than this.
    pub checkpoint_interval: Duration,
    /// Unfolded bytes at which a checkpoint does not wait for the interval.
    pub checkpoint_bytes: u64,
    /// Checkpoints made because somebody lists are no closer than this.
    pub list_checkpoint_interval: Duration,
    /// Wait after a checkpoint that failed.
    pub retry_interval: Duration,
    /// Length of `hub.db-wal`, in bytes, at which checkpoints wait for readers that pin it.
    pub wal_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: HUB_PARTITIONS,
            segment_bytes: 64 * 1024 * 1024,
            checkpoint_interval: Duration::from_millis(500),
            checkpoint_bytes: 64 * 1024 * 1024,
            list_checkpoint_interval: Duration::from_millis(100),
            retry_interval: Duration::from_millis(100),
            wal_bytes_max: 1024 * 1024 * 1024,
        }
    }
}
