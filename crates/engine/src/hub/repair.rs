//! The way out for what cannot be read, while the hub runs.
//!
//! The store removes the rows, with or without their bytes; no partition has them in memory. Then what is
//! left of them in memory ends, and what waited for them is read again. After a crash in between, memory
//! is as the store is.

use dalsegno_core::store::{Bytes, DamagedRow, Moved, Owner, Store};
use dalsegno_core::{ExecutionKey, InstanceId, PartitionId};

use super::TaskHub;
use super::client::ask;
use crate::input::Command;
use crate::request::{Answer, RequestError, RequestErrorKind};

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Rows that were moved to the table `quarantine`: of each instance and entity its own first.
    pub moved: Vec<Moved>,
    /// Rows that cannot be read and were left in place.
    pub left: Vec<NotMoved>,
}

/// A damaged row that was left in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotMoved {
    /// The table it is in.
    pub table: String,
    /// Which row, by its key.
    pub row: String,
    /// Why it was left, and what to do.
    pub reason: String,
}

/// Why a row is left in place.
const IN_MEMORY: &str =
    "it is in memory, whole, and is written again when it next moves: repair again if it does not";
const UNKNOWN: &str = "nothing says whose it is: end the host, then run dalsegno repair FOLDER";

impl TaskHub {
    /// Moves every instance and entity that cannot be read aside, with its bytes and all that is its, and
    /// says which. Their ids are free afterwards. Reads all rows of the hub.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read or written; then nothing was moved.
    pub async fn repair(&self) -> Answer<Repaired> {
        self.runtime.barrier_all().await;
        let mut repaired = Repaired::default();
        let mut rows = Vec::new();
        for row in self.runtime.blocking(|store| store.damaged()).await? {
            match self.why_left(&row).await? {
                None => rows.push(row),
                Some(reason) => repaired.left.push(NotMoved {
                    table: row.table,
                    row: row.row,
                    reason: format!("{}; {reason}", row.reason),
                }),
            }
        }
        repaired.moved = self.remove(rows, Bytes::Kept).await?;
        Ok(repaired)
    }

    /// Deletes an instance that cannot be read, with all that is its. Nothing of it is kept.
    ///
    /// # Errors
    /// `NotFound` when there is no such instance or it can be read, `WrongState` when it is in memory,
    /// whole; `Internal` when the store cannot be read or written.
    pub async fn purge_damaged(&self, id: &InstanceId) -> Answer<()> {
        self.runtime.barrier_all().await;
        let damaged = self.runtime.blocking(|store| store.damaged()).await?;
        let mut rows = damaged
            .into_iter()
            .filter(|row| row.instance.as_ref() == Some(id));
        let row = rows.next().ok_or_else(|| RequestError::not_found(id))?;
        if self.why_left(&row).await?.is_some() {
            let detail = format!("instance {id} is in memory, whole: purge it without force");
            return Err(RequestError::new(RequestErrorKind::WrongState, detail).about(id));
        }
        self.remove(vec![row], Bytes::Dropped).await.map(drop)
    }

    async fn remove(&self, rows: Vec<DamagedRow>, bytes: Bytes) -> Answer<Vec<Moved>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let owners: Vec<Owner> = rows.iter().filter_map(|row| row.owner.clone()).collect();
        let remove = move |store: &dyn Store| store.remove(&owners, bytes);
        let moved = self.runtime.blocking(remove).await?;
        for row in rows {
            let DamagedRow {
                owner: Some(Owner::Execution(key)),
                instance: id,
                status,
                ..
            } = row
            else {
                continue;
            };
            ask(&self.runtime, PartitionId(0), |reply| Command::NoteRemoved {
                key,
                id,
                status,
                reply,
            })
            .await?;
            for partition in self.partitions() {
                ask(&self.runtime, partition, |reply| Command::Forget { key, reply }).await?;
            }
        }
        for partition in self.partitions() {
            ask(&self.runtime, partition, |reply| Command::ReadDamagedAgain {
                reply,
            })
            .await?;
        }
        Ok(moved)
    }

    async fn why_left(&self, row: &DamagedRow) -> Answer<Option<&'static str>> {
        let is_in_memory = match &row.owner {
            None => return Ok(Some(UNKNOWN)),
            Some(Owner::Execution(key)) => self.holds(*key).await?,
            Some(Owner::Entity(id)) => {
                let entity = id.clone();
                ask(&self.runtime, self.runtime.partition_of_entity(id), |reply| {
                    Command::HoldsEntity { entity, reply }
                })
                .await?
            }
        };
        Ok(is_in_memory.then_some(IN_MEMORY))
    }

    /// Has a partition that execution in memory? One that cannot be read does not get there.
    async fn holds(&self, key: ExecutionKey) -> Answer<bool> {
        for partition in self.partitions() {
            if ask(&self.runtime, partition, |reply| Command::Holds { key, reply }).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.runtime.mailboxes.partitions()).map(PartitionId)
    }
}
