//! What a hub measures, put together for whoever reads it.

use dalsegno_core::store::{BackupPieces, StoreSize};
use dalsegno_core::{PartitionId, Timestamp};
use prometheus_client::registry::Registry;

use super::TaskHub;
use super::client::ask;
use crate::input::{Command, Measure};
use crate::request::Answer;

/// What there is in a hub, in numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HubMeasure {
    /// In its partitions.
    pub partitions: Measure,
    /// Batches that were made durable.
    pub commits: u64,
    /// Bytes of the log that are not yet folded into the tables.
    pub unapplied_bytes: u64,
    /// Bytes free where the store is, if it can tell.
    pub free_bytes: Option<u64>,
    /// Activities that run in this process.
    pub activities_running: u64,
    /// Activities in line for a slot of this process.
    pub activities_waiting: u64,
    /// Clients that wait for an instance.
    pub waiters: u64,
    /// Threads that are stuck in user code.
    pub stuck_threads: u64,
}

impl TaskHub {
    /// What there is now, in numbers. Costs a look at every instance in memory.
    ///
    /// # Errors
    /// `Unavailable` when the hub goes down.
    pub async fn measure(&self) -> Answer<HubMeasure> {
        let mut partitions = Measure::default();
        for partition in 0..self.runtime.mailboxes.partitions() {
            let here = ask(&self.runtime, PartitionId(partition), |reply| Command::Measure {
                reply,
            });
            partitions = partitions.plus(&here.await?);
        }
        Ok(self.runtime.measure(partitions))
    }

    /// What the hub takes on its disk; `None` where it is kept in memory. May read much.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read, `NotFound` when the hub was deleted.
    pub async fn size(&self, since: Timestamp) -> Answer<Option<StoreSize>> {
        self.runtime.blocking(move |store| store.size(since)).await
    }

    /// A copy of the hub as of one position, while it goes on; `None` where it is kept in memory. The
    /// pieces are read from disk as they are asked for: not on a thread that others wait for.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read, `NotFound` when the hub was deleted.
    pub async fn backup(&self) -> Answer<Option<BackupPieces>> {
        let name = self.runtime.name.clone();
        self.runtime.blocking(move |store| store.backup(&name)).await
    }

    /// Puts the instruments of this hub where a reader finds them.
    pub fn register_meters(&self, registry: &mut Registry) {
        self.runtime.meters.register(registry);
    }
}
