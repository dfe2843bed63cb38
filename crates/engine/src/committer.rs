//! Makes turns durable and then lets out what they lead to.
//!
//! There is a thread for it, which takes whatever came together while the last batch was written.
//! Where a station has made a turn or two and has nothing else to do, it writes them itself: a
//! sequence of steps then waits for the disk and not for a second thread to wake up.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use dalsegno_core::planted::{self, Bug};
use dalsegno_core::store::{Commit, CommitError, Store};
use dalsegno_core::{Epoch, PartitionId};

use crate::commit_queue::{CommitQueue, QueuedTurn};
use crate::counts::Counts;
use crate::meters::Meters;
use crate::turn::Effect;

/// Wait before a batch that was certainly not written is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// From here on, commits slow down in proportion to what the checkpoint has not yet folded.
const UNAPPLIED_BYTES_SLOW: u64 = 256 * 1024 * 1024;

/// Here they wait for it.
const UNAPPLIED_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Exit code of a process whose store failed: what was promised cannot be kept, so it has to
/// recover. 74 is `EX_IOERR` of `sysexits.h`.
const STORE_FAILED: i32 = 74;

/// Whom the committer tells.
pub trait Release: Send + fmt::Debug {
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
    /// What the hub measures.
    pub meters: Arc<Meters>,
    /// What keeps the current batch from being written.
    pub refusal: Arc<Refusal>,
    /// Whoever holds it takes turns from the queue, writes them and lets their effects out, so
    /// that the order of the queue is the order of the log. Nobody, once the hub has ended.
    pub release: Mutex<Option<Box<dyn Release>>>,
}

/// A store that takes nothing: since when, and what it said last.
#[derive(Debug, Default)]
pub struct Refusal(Mutex<Option<(Instant, String)>>);

impl Refusal {
    /// For how long the store has taken nothing, and why; `None` while it takes what it is given.
    pub fn current(&self) -> Option<(Duration, String)> {
        let refusal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refusal
            .as_ref()
            .map(|(since, cause)| (since.elapsed(), cause.clone()))
    }

    /// Says whether it is the first since the store last took something.
    fn note(&self, cause: String) -> bool {
        let mut refusal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = refusal.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        refusal.replace((since, cause)).is_none()
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Committer {
    /// Runs until the queue is closed and empty. A store that fails ends it with the error: then
    /// the process has to end, for what was promised cannot be kept.
    ///
    /// # Errors
    /// Whatever made a batch impossible to write.
    pub fn run(&self) -> Result<(), CommitError> {
        while self.queue.wait() {
            self.commit(&mut self.release.lock().unwrap_or_else(PoisonError::into_inner))?;
        }
        Ok(())
    }

    /// Writes what is in the queue on the caller's thread, if it is little and no other is at it,
    /// who will take it then.
    ///
    /// # Errors
    /// Those of [`Committer::run`].
    pub fn commit_here(&self) -> Result<(), CommitError> {
        let release = match self.release.try_lock() {
            Ok(release) => Some(release),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(mut release) = release
            && self.queue.is_little()
        {
            self.commit(&mut release)?;
        }
        // What others pushed meanwhile, and what was pushed while another was at it.
        self.queue.wake();
        Ok(())
    }

    /// Nothing is written after this.
    pub fn end(&self) {
        drop(self.release.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Writes one batch and lets its effects out.
    fn commit(&self, release: &mut MutexGuard<'_, Option<Box<dyn Release>>>) -> Result<(), CommitError> {
        let Some(release) = release.as_mut() else {
            return Ok(());
        };
        let turns = self.queue.take();
        if turns.is_empty() {
            return Ok(());
        }
        let (mut commits, rest) = split(turns, self.epoch);
        let has_commits = !commits.is_empty();
        if has_commits {
            self.slow_down();
        }
        let begin = Instant::now();
        self.append(&mut commits)?;
        if has_commits {
            self.batches.fetch_add(1, Ordering::Relaxed);
            self.meters.committed(rest.len(), begin.elapsed());
        }
        for done in rest {
            self.durable[done.partition].store(done.number, Ordering::Release);
            for change in done.moves {
                self.counts.apply(change);
                self.meters.moved(change);
            }
            release.release(done.partition, done.effects);
        }
        Ok(())
    }

    fn append(&self, commits: &mut Vec<Commit>) -> Result<(), CommitError> {
        loop {
            match append(&*self.store, commits) {
                Ok(()) => break,
                Err(CommitError::NotApplied(cause)) => {
                    if self.refusal.note(cause.to_string()) {
                        tracing::error!(%cause, "a batch was not written; it is tried until the store takes it");
                    }
                    std::thread::sleep(TRY_AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
        self.refusal.clear();
        Ok(())
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

/// The end of a process whose store failed.
pub fn end_process(error: &CommitError) -> ! {
    tracing::error!(%error, "the store failed; the process ends and recovers at its next start");
    std::process::exit(STORE_FAILED)
}

/// Appends a batch. One without commits asks the store all the same: a host whose partitions
/// another has taken answers nothing any more, reads and refusals included.
pub(crate) fn append(store: &dyn Store, commits: &mut Vec<Commit>) -> Result<(), CommitError> {
    if commits.is_empty() && planted::has(Bug::FencedAnswers) {
        return Ok(());
    }
    match store.append(commits) {
        Err(CommitError::Unknown(_)) if planted::has(Bug::UnknownTakenAsDone) => Ok(()),
        Err(CommitError::NotApplied(_)) if planted::has(Bug::RefusedBatchLost) => Ok(()),
        appended => appended.map(drop),
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use dalsegno_core::store::Op;
    use dalsegno_store_memory::MemoryStore;
    use dalsegno_store_tests::{FailingStore, Fate, Faults};

    use super::*;
    use crate::turn::Turn;

    #[derive(Clone, Debug, Default)]
    struct Released(Arc<Mutex<Vec<usize>>>);

    impl Release for Released {
        fn release(&mut self, partition: usize, _effects: Vec<Effect>) {
            self.0.lock().unwrap().push(partition);
        }
    }

    fn turn(number: u64, ops: Vec<Op>) -> Turn {
        Turn {
            number,
            ops,
            effects: vec![Effect::Nudge],
            ..Turn::default()
        }
    }

    fn note(number: u64) -> Turn {
        let op = Op::PutMeta {
            name: number.to_string().into(),
            data: Vec::new(),
        };
        turn(number, vec![op])
    }

    /// Commits turns to a store that fails like this, and tells what came of it: the result, how
    /// many effects were let out, how far partition 0 is durable, and what is stored.
    fn run<const N: usize>(
        fates: [Fate; N],
        turns: Vec<Turn>,
    ) -> (Result<(), CommitError>, usize, u64, usize) {
        run_with(VecDeque::from(fates), Arc::default(), turns)
    }

    fn run_with(
        faults: impl Faults,
        refusal: Arc<Refusal>,
        turns: Vec<Turn>,
    ) -> (Result<(), CommitError>, usize, u64, usize) {
        let released = Released::default();
        let memory = Arc::new(MemoryStore::new(1));
        let store = Arc::new(FailingStore::new(memory, faults));
        let committer = Committer {
            queue: Arc::new(CommitQueue::new(1_000, 1_000_000)),
            store: store.clone(),
            epoch: Epoch(1),
            durable: vec![Arc::default()],
            counts: Arc::new(Counts::new(&[])),
            batches: Arc::default(),
            meters: Arc::default(),
            refusal,
            release: Mutex::new(Some(Box::new(released.clone()))),
        };
        committer.queue.push(0, turns.into_iter());
        committer.queue.close();
        let result = committer.run();
        assert!(committer.refusal.current().is_none());
        let durable = committer.durable[0].load(Ordering::Acquire);
        let stored = store.load_hub().unwrap().meta.len();
        let released = released.0.lock().unwrap().len();
        (result, released, durable, stored)
    }

    #[test]
    fn turns_written_by_their_makers_and_by_the_committer_keep_the_order_of_the_queue() {
        const TURNS: u64 = 500;
        let released = Released::default();
        let committer = Committer {
            queue: Arc::new(CommitQueue::new(1_000_000, 1_000_000)),
            store: Arc::new(MemoryStore::new(4)),
            epoch: Epoch(1),
            durable: (0..4).map(|_| Arc::default()).collect(),
            counts: Arc::new(Counts::new(&[])),
            batches: Arc::default(),
            meters: Arc::default(),
            refusal: Arc::default(),
            release: Mutex::new(Some(Box::new(released.clone()))),
        };
        let make = &|partition: usize| {
            for number in 1..=TURNS {
                committer
                    .queue
                    .push(partition, std::iter::once(turn(number, Vec::new())));
                committer.commit_here().unwrap();
            }
        };
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| committer.run());
            let makers: Vec<_> = (0..4)
                .map(|partition| scope.spawn(move || make(partition)))
                .collect();
            makers.into_iter().for_each(|maker| maker.join().unwrap());
            // Nothing pushed after this: what was left to the committer comes without a further push.
            while released.0.lock().unwrap().len() < 4 * TURNS as usize {
                std::thread::yield_now();
            }
            committer.queue.close();
            writer.join().unwrap().unwrap();
        });
        for durable in &committer.durable {
            assert_eq!(
                durable.load(Ordering::Acquire),
                TURNS,
                "the last one was let out last"
            );
        }
    }

    #[test]
    fn much_is_left_to_the_committer() {
        let released = Released::default();
        let committer = Committer {
            queue: Arc::new(CommitQueue::new(1_000_000, 1_000_000)),
            store: Arc::new(MemoryStore::new(1)),
            epoch: Epoch(1),
            durable: vec![Arc::default()],
            counts: Arc::new(Counts::new(&[])),
            batches: Arc::default(),
            meters: Arc::default(),
            refusal: Arc::default(),
            release: Mutex::new(Some(Box::new(released.clone()))),
        };
        let turns = |numbers: std::ops::RangeInclusive<u64>| numbers.map(|n| turn(n, Vec::new()));
        committer.queue.push(0, turns(1..=2));
        committer.commit_here().unwrap();
        assert_eq!(released.0.lock().unwrap().len(), 2, "a few are written at once");
        committer.queue.push(0, turns(3..=9));
        committer.commit_here().unwrap();
        assert_eq!(released.0.lock().unwrap().len(), 2);
        committer.queue.close();
        committer.run().unwrap();
        assert_eq!(released.0.lock().unwrap().len(), 9);
        committer.end();
        committer.queue.push(0, turns(10..=10));
        committer.commit_here().unwrap();
        assert_eq!(
            released.0.lock().unwrap().len(),
            9,
            "nothing is let out after the end"
        );
    }

    #[test]
    fn what_was_certainly_not_written_is_tried_until_it_is() {
        let fates = [Fate::Refused, Fate::Refused];
        let (result, released, durable, stored) = run(fates, vec![note(1), note(2)]);
        assert!(result.is_ok());
        assert_eq!((released, durable, stored), (2, 2, 2));
    }

    /// Refuses once, and notes what is told of it at each append.
    struct Watched {
        refusal: Arc<Refusal>,
        told: Arc<Mutex<Vec<Option<String>>>>,
    }

    impl Faults for Watched {
        fn append(&mut self, _batch: &[Commit]) -> Fate {
            let mut told = self.told.lock().unwrap();
            told.push(self.refusal.current().map(|(_, cause)| cause));
            match told.len() {
                1 => Fate::Refused,
                _ => Fate::Taken,
            }
        }
    }

    #[test]
    fn while_the_store_takes_nothing_its_reason_is_told() {
        let (refusal, told) = (Arc::<Refusal>::default(), Arc::default());
        let watched = Watched {
            refusal: refusal.clone(),
            told: Arc::clone(&told),
        };
        assert!(run_with(watched, refusal.clone(), vec![note(1)]).0.is_ok());
        let planned = Some("a planned failure of the store".to_owned());
        assert_eq!(*told.lock().unwrap(), [None, planned]);
        assert_eq!(refusal.current(), None);
    }

    #[test]
    fn nothing_is_let_out_after_any_other_error() {
        for (fate, stored_then) in [
            (Fate::Fenced, 0),
            (Fate::Conflict, 0),
            (Fate::UnknownLost, 0),
            (Fate::UnknownWritten, 2),
        ] {
            let (result, released, durable, stored) = run([fate], vec![note(1), note(2)]);
            assert!(result.is_err(), "{fate:?}");
            assert_eq!((released, durable, stored), (0, 0, stored_then), "{fate:?}");
        }
    }

    #[test]
    fn a_fenced_host_gives_no_answer_that_needs_no_commit() {
        // A read needs no commit, so it once passed the store by and a fenced host answered it.
        let (result, released, ..) = run([Fate::Fenced], vec![turn(1, Vec::new())]);
        assert!(matches!(result, Err(CommitError::Fenced)));
        assert_eq!(released, 0);
    }
}
