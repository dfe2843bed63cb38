//! The way into the threads that own partitions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dalsegno_core::PartitionId;

use crate::input::Input;

/// As many inputs as last are expected next, up to this.
const INPUTS_EXPECTED_MAX: usize = 256;

/// Inputs for the partitions of one thread, by partition index.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<State>,
    filled: Condvar,
    /// There is something, or it was closed; for one who looks without the lock.
    is_filled: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    inputs: Vec<(usize, Input)>,
    is_waiting: bool,
    is_closed: bool,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody reads a closed mailbox: what is sent there is dropped, and whoever waits for the
    /// reply learns that none will come.
    fn send(&self, partition: usize, input: Input) {
        let mut state = self.lock();
        if state.is_closed {
            drop(state);
            return drop(input);
        }
        state.inputs.push((partition, input));
        self.is_filled.store(true, Ordering::Release);
        if state.is_waiting {
            state.is_waiting = false;
            self.filled.notify_one();
        }
    }

    /// Is there nothing to take?
    pub fn is_empty(&self) -> bool {
        !self.is_filled.load(Ordering::Acquire)
    }

    /// What is there, without waiting. `None` once the mailbox is closed.
    pub fn take(&self) -> Option<Vec<(usize, Input)>> {
        let mut state = self.lock();
        (!state.is_closed).then(|| self.empty(&mut state))
    }

    /// Waits for the first input, at most so long; for ever without a time. Takes all there is.
    /// `None` once the mailbox is closed.
    pub fn wait(&self, at_most: Option<Duration>) -> Option<Vec<(usize, Input)>> {
        let mut state = self.lock();
        if state.inputs.is_empty() && !state.is_closed {
            state.is_waiting = true;
            state = match at_most {
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(time) => {
                    self.filled
                        .wait_timeout(state, time)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
            state.is_waiting = false;
        }
        if state.is_closed {
            return None;
        }
        Some(self.empty(&mut state))
    }

    fn empty(&self, state: &mut State) -> Vec<(usize, Input)> {
        self.is_filled.store(false, Ordering::Release);
        let expected = state.inputs.len().min(INPUTS_EXPECTED_MAX);
        std::mem::replace(&mut state.inputs, Vec::with_capacity(expected))
    }

    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        self.is_filled.store(true, Ordering::Release);
        let unread = std::mem::take(&mut state.inputs);
        drop(state);
        drop(unread);
        self.filled.notify_all();
    }
}

/// The mailboxes of all threads of a hub.
#[derive(Debug)]
pub struct Mailboxes {
    threads: Vec<Arc<Mailbox>>,
    partitions: u32,
}

impl Mailboxes {
    /// As many as there are threads; partition `n` belongs to thread `n % threads`.
    pub fn new(threads: usize, partitions: u32) -> Self {
        let threads = (0..threads.max(1)).map(|_| Arc::default()).collect();
        Self { threads, partitions }
    }

    /// How many partitions the hub has.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The mailbox of one thread.
    pub fn of_thread(&self, thread: usize) -> Arc<Mailbox> {
        self.threads[thread].clone()
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Sends to a partition.
    pub fn send(&self, partition: PartitionId, input: Input) {
        let partition = partition.0 as usize;
        self.threads[partition % self.threads.len()].send(partition, input);
    }

    /// Ends all threads, whatever is still in their mailboxes.
    pub fn close(&self) {
        self.threads.iter().for_each(|thread| thread.close());
    }
}
