//! Turns on their way to the disk, in the order of the log.
//!
//! Partitions push, the committer takes what fits into one write. What is pushed first is durable first, so a
//! message may be delivered in memory as soon as its turn is in here.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::turn::Turn;

/// What a station that has nothing else to do may write itself: so many turns.
const LITTLE_TURNS: usize = 2;

/// And so many bytes of them.
const LITTLE_BYTES: usize = 16 * 1024;

/// As many turns as last are expected next, up to this.
const TURNS_EXPECTED_MAX: usize = 512;

/// A turn and the partition it belongs to, by index.
pub type QueuedTurn = (usize, Turn);

/// See the module.
#[derive(Debug)]
pub struct CommitQueue {
    state: Mutex<State>,
    filled: Condvar,
    drained: Condvar,
    bytes_max: usize,
    batch_bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    turns: Vec<QueuedTurn>,
    bytes: usize,
    is_closed: bool,
    committer_waits: bool,
}

impl State {
    fn is_little(&self) -> bool {
        self.turns.len() <= LITTLE_TURNS && self.bytes <= LITTLE_BYTES
    }
}

impl CommitQueue {
    /// A queue that lets partitions run ahead by so many bytes, and gives out so many at once.
    pub fn new(bytes_max: usize, batch_bytes_max: usize) -> Self {
        Self {
            state: Mutex::new(State::default()),
            filled: Condvar::new(),
            drained: Condvar::new(),
            bytes_max,
            batch_bytes_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends the turns of a partition, in their order. Where there is little, nobody is woken for
    /// it before [`CommitQueue::wake`]. Nobody reads a closed queue: then they are dropped, and
    /// whoever waits for their answers learns that none will come.
    pub fn push(&self, partition: usize, turns: impl Iterator<Item = Turn>) {
        let mut state = self.lock();
        if state.is_closed {
            drop(state);
            return turns.for_each(drop);
        }
        state.turns.reserve(turns.size_hint().0);
        for turn in turns {
            state.bytes += turn.size_bytes();
            state.turns.push((partition, turn));
        }
        if !state.is_little() {
            self.wake_for(state);
        }
    }

    /// Is there so little that its maker may as well write it?
    pub fn is_little(&self) -> bool {
        self.lock().is_little()
    }

    /// Wakes the committer if it sleeps and there is something for it.
    pub fn wake(&self) {
        self.wake_for(self.lock());
    }

    fn wake_for(&self, mut state: MutexGuard<'_, State>) {
        if state.committer_waits && !state.turns.is_empty() {
            state.committer_waits = false;
            self.filled.notify_one();
        }
    }

    /// Blocks while partitions have run ahead too far.
    pub fn wait_for_room(&self) {
        let mut state = self.lock();
        while state.bytes > self.bytes_max && !state.is_closed {
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until somebody says that there are turns. No more come once it is closed and empty:
    /// then it says `false`.
    pub fn wait(&self) -> bool {
        let mut state = self.lock();
        while state.turns.is_empty() {
            if state.is_closed {
                return false;
            }
            state.committer_waits = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.committer_waits = false;
        }
        true
    }

    /// Takes what is first, up to the bytes of one batch, and one turn at least.
    pub fn take(&self) -> Vec<QueuedTurn> {
        let mut state = self.lock();
        if state.bytes > self.bytes_max {
            self.drained.notify_all();
        }
        if state.bytes > self.batch_bytes_max {
            return self.take_some(&mut state);
        }
        state.bytes = 0;
        let expected = state.turns.len().min(TURNS_EXPECTED_MAX);
        std::mem::replace(&mut state.turns, Vec::with_capacity(expected))
    }

    fn take_some(&self, state: &mut State) -> Vec<QueuedTurn> {
        let mut bytes = 0;
        let mut count = 0;
        for (_, turn) in &state.turns {
            let size = turn.size_bytes();
            if count > 0 && bytes + size > self.batch_bytes_max {
                break;
            }
            bytes += size;
            count += 1;
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        state.turns.drain(..count).collect()
    }

    /// Lets the committer end when all is written.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Effect;

    #[test]
    fn a_batch_has_no_more_bytes_than_it_may_and_one_turn_at_least() {
        let queue = CommitQueue::new(1_000_000, 10_000);
        let turn = |number, bytes| Turn {
            number,
            ops: vec![dalsegno_core::store::Op::PutMessage {
                partition: dalsegno_core::PartitionId(0),
                seq: number,
                data: vec![0; bytes],
            }],
            ..Turn::default()
        };
        let sizes = [4_000, 4_000, 4_000, 50_000, 100];
        let turns = (1..).zip(sizes).map(|(number, bytes)| turn(number, bytes));
        queue.push(0, turns);
        queue.close();
        let mut batches = Vec::new();
        while queue.wait() {
            let numbers: Vec<u64> = queue.take().iter().map(|(_, turn)| turn.number).collect();
            batches.push(numbers);
        }
        assert_eq!(batches, [vec![1, 2], vec![3], vec![4], vec![5]]);
    }

    #[test]
    fn what_comes_after_the_end_is_dropped_and_not_kept_waiting() {
        let queue = CommitQueue::new(1_000, 1_000);
        let (waits, waiter) = std::sync::mpsc::channel::<()>();
        queue.close();
        let turn = Turn {
            effects: vec![Effect::Answer(Box::new(move || drop(waits)))],
            ..Turn::default()
        };
        queue.push(0, std::iter::once(turn));
        assert_eq!(
            waiter.try_recv(),
            Err(std::sync::mpsc::TryRecvError::Disconnected)
        );
        assert!(!queue.wait());
    }
}
