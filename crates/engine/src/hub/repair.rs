//! The way out for rows that cannot be read, while the hub runs.
//!
//! The store copies them aside with their bytes; then they are deleted in the log like anything else,
//! and what waited for them is read again. A crash in between leaves a copy and a damaged row, and the
//! next repair does the rest.

use dalsegno_core::store::{DamagedRow, Moved, Owner};
use dalsegno_core::{ExecutionKey, PartitionId};

use super::TaskHub;
use super::client::ask;
use crate::input::Command;
use crate::request::Answer;

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

impl TaskHub {
    /// Moves every instance and entity whose row cannot be read aside, with its bytes and all that is
    /// its, and says which. Their ids are free afterwards. Reads all rows of the hub.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read or written; then nothing was moved.
    pub async fn repair(&self) -> Answer<Repaired> {
        self.runtime.barrier_all().await;
        let damaged = self.runtime.blocking(|store| store.copy_damaged()).await?;
        let mut repaired = Repaired::default();
        if damaged.is_empty() {
            return Ok(repaired);
        }
        for row in damaged {
            match self.delete_damaged(&row).await? {
                None => repaired.moved.extend(row.copies),
                Some(reason) => repaired
                    .left
                    .extend(row.copies.into_iter().take(1).map(|copy| NotMoved {
                        table: copy.table,
                        row: copy.row,
                        reason: format!("{}; {reason}", copy.reason),
                    })),
            }
        }
        for partition in self.partitions() {
            ask(&self.runtime, partition, |reply| Command::ReadDamagedAgain {
                reply,
            })
            .await?;
        }
        Ok(repaired)
    }

    /// Deletes a row that was copied. If it is left, says why.
    async fn delete_damaged(&self, row: &DamagedRow) -> Answer<Option<&'static str>> {
        const IN_MEMORY: &str =
            "it is in memory, whole, and is written again when it next moves: repair again if it does not";
        const UNKNOWN: &str = "nothing says whose it is: end the host, then run dalsegno repair FOLDER";
        let was_deleted = match &row.owner {
            None => return Ok(Some(UNKNOWN)),
            Some(Owner::Entity(id)) => {
                let entity = id.clone();
                ask(&self.runtime, self.runtime.partition_of_entity(id), |reply| {
                    Command::DeleteDamagedEntity { entity, reply }
                })
                .await?
            }
            Some(Owner::Execution(key)) if self.holds(*key).await? => false,
            Some(Owner::Execution(key)) => {
                let (key, id, status) = (*key, row.instance.clone(), row.status);
                ask(&self.runtime, PartitionId(0), |reply| {
                    Command::DeleteDamagedExecution {
                        key,
                        id,
                        status,
                        reply,
                    }
                })
                .await?;
                true
            }
        };
        Ok((!was_deleted).then_some(IN_MEMORY))
    }

    /// Has a partition that execution in memory? One whose row cannot be read does not get there.
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
