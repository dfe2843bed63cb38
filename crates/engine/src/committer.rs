//! The thread that makes turns durable and then lets out what they lead to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dalsegno_core::store::{Commit, CommitError, Store};
use dalsegno_core::{Epoch, PartitionId};

use crate::commit_queue::{CommitQueue, QueuedTurn};
use crate::counts::Counts;
use crate::turn::Effect;

/// Wait before a batch that was certainly not written is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// From here on, commits slow down in proportion to what the checkpoint has not yet folded.
const UNAPPLIED_BYTES_SLOW: u64 = 256 * 1024 * 1024;

/// Here they wait for it.
const UNAPPLIED_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Whom the committer tells.
pub trait Release: Send {
    /// A turn's effects may happen now.
    fn release(&mut self, partition: usize, effects: Vec<Effect>);
}

/// What the committer works with.
#[derive(Debug)]
pub struct Committer {
    /// Where turns come from.
    pub queue: Arc<CommitQueue>,
    /// Where they go.
    pub store: Arc<dyn Store>,
    /// The epoch of this opening.
    pub epoch: Epoch,
    /// The highest durable turn of each partition.
    pub durable: Vec<Arc<AtomicU64>>,
    /// Counts by status.
    pub counts: Arc<Counts>,
    /// How many batches were synced.
    pub batches: Arc<AtomicU64>,
}

impl Committer {
    /// Runs until the queue is closed and empty. A store that fails ends it with the error: then
    /// the process has to end, for what was promised cannot be kept.
    ///
    /// # Errors
    /// Whatever made a batch impossible to write.
    pub fn run(&self, release: &mut dyn Release) -> Result<(), CommitError> {
        while let Some(turns) = self.queue.take() {
            let (mut commits, rest) = split(turns, self.epoch);
            if !commits.is_empty() {
                self.slow_down();
                self.append(&mut commits)?;
                self.batches.fetch_add(1, Ordering::Relaxed);
            }
            for done in rest {
                self.durable[done.partition].store(done.number, Ordering::Release);
                done.moves
                    .into_iter()
                    .for_each(|change| self.counts.apply(change));
                release.release(done.partition, done.effects);
            }
        }
        Ok(())
    }

    fn append(&self, commits: &mut Vec<Commit>) -> Result<(), CommitError> {
        loop {
            match self.store.append(commits) {
                Ok(_) => return Ok(()),
                Err(CommitError::NotApplied(cause)) => {
                    tracing::error!(%cause, "a batch was not written; trying again");
                    std::thread::sleep(TRY_AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the checkpoint time in proportion to how far it is behind.
    fn slow_down(&self) {
        loop {
            let behind = self.store.unapplied_bytes();
            if behind < UNAPPLIED_BYTES_SLOW {
                return;
            }
            let share =
                (behind - UNAPPLIED_BYTES_SLOW) as f64 / (UNAPPLIED_BYTES_MAX - UNAPPLIED_BYTES_SLOW) as f64;
            std::thread::sleep(Duration::from_secs_f64(0.02 * share.min(1.0)));
            if behind < UNAPPLIED_BYTES_MAX {
                return;
            }
        }
    }
}

/// What is left of a turn when its commit is taken out.
struct Done {
    partition: usize,
    number: u64,
    moves: Vec<(
        Option<dalsegno_core::query::Status>,
        Option<dalsegno_core::query::Status>,
    )>,
    effects: Vec<Effect>,
}

fn split(turns: Vec<QueuedTurn>, epoch: Epoch) -> (Vec<Commit>, Vec<Done>) {
    let mut commits = Vec::with_capacity(turns.len());
    let mut rest = Vec::with_capacity(turns.len());
    for (partition, turn) in turns {
        if !turn.ops.is_empty() {
            let id = PartitionId(u32::try_from(partition).expect("partitions are counted in u32"));
            commits.push(Commit {
                partition: id,
                epoch,
                ops: turn.ops,
            });
        }
        rest.push(Done {
            partition,
            number: turn.number,
            moves: turn.moves,
            effects: turn.effects,
        });
    }
    (commits, rest)
}
