//! A plain thread that owns some partitions and feeds them.
//!
//! No async runtime is entered here, so an orchestrator that calls `tokio::spawn` or opens a
//! socket panics before it has done anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dalsegno_core::{InstanceId, Timestamp};

use crate::clock::Clock;
use crate::commit_queue::CommitQueue;
use crate::executor::Executor;
use crate::input::{Input, Load};
use crate::mailbox::{Mailbox, Mailboxes};
use crate::partition::{Partition, Step, partition_of};

/// Turns of one partition before the others and the mailbox are looked at again.
const STEPS_MAX: usize = 256;

/// What others see of a partition thread: does it move, and whose turn runs.
#[derive(Debug, Default)]
pub struct Progress {
    rounds: AtomicU64,
    turn: Mutex<Option<(InstanceId, Instant)>>,
}

impl Progress {
    /// Rises with every round; an idle thread makes none.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Whose code runs at this moment, and for how long.
    pub fn turn(&self) -> Option<(InstanceId, Duration)> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.as_ref().map(|(id, begin)| (id.clone(), begin.elapsed()))
    }

    fn begin_turn(&self, id: &InstanceId) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some((id.clone(), Instant::now()));
    }

    fn end_turn(&self) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What such a thread needs.
#[derive(Debug)]
pub struct PartitionThread {
    /// Its partitions; each by its index in the hub.
    pub partitions: Vec<(usize, Partition)>,
    /// Where inputs come from.
    pub mailbox: Arc<Mailbox>,
    /// Where messages for other partitions go.
    pub mailboxes: Arc<Mailboxes>,
    /// Where turns go.
    pub queue: Arc<CommitQueue>,
    /// User code.
    pub executor: Arc<dyn Executor>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Reads that partitions ask for.
    pub loads: tokio::sync::mpsc::UnboundedSender<(usize, Load)>,
    /// What others see of it.
    pub progress: Arc<Progress>,
}

impl PartitionThread {
    /// Runs until the mailbox is closed.
    pub fn run(mut self) {
        let mut inputs = Vec::new();
        loop {
            self.progress.rounds.fetch_add(1, Ordering::Relaxed);
            let now = self.clock.now();
            for (index, input) in inputs.drain(..) {
                self.take(index, input, now);
            }
            let mut is_busy = false;
            for at in 0..self.partitions.len() {
                is_busy |= self.work(at);
            }
            let waited = if is_busy {
                self.mailbox.take()
            } else {
                self.mailbox.wait(self.time_to_next(now))
            };
            match waited {
                Some(taken) => inputs = taken,
                None => return,
            }
        }
    }

    fn take(&mut self, index: usize, input: Input, now: Timestamp) {
        if let Some((_, partition)) = self.partitions.iter_mut().find(|(own, _)| *own == index) {
            partition.take(input, now);
        }
    }

    /// Runs turns of one partition; `true` when there are more.
    fn work(&mut self, at: usize) -> bool {
        let mut is_busy = true;
        for _ in 0..STEPS_MAX {
            let now = self.clock.now();
            let (_, partition) = &mut self.partitions[at];
            match partition.step(now) {
                Step::Idle => {
                    is_busy = false;
                    break;
                }
                Step::Moved => {}
                Step::Run(job) => {
                    self.progress.begin_turn(&job.id);
                    let done = job.run(&*self.executor);
                    self.progress.end_turn();
                    partition.finish(done);
                }
            }
        }
        self.carry_away(at);
        is_busy
    }

    /// First the queue, then the mailboxes: queue order is log order.
    fn carry_away(&mut self, at: usize) {
        let (index, partition) = &mut self.partitions[at];
        let index = *index;
        let mut outbox = partition.take_outbox();
        if !outbox.turns.is_empty() {
            let deliveries: Vec<_> = outbox
                .turns
                .iter_mut()
                .flat_map(|turn| std::mem::take(&mut turn.deliveries))
                .collect();
            self.queue.push(index, outbox.turns.into_iter());
            for delivery in deliveries {
                let target = partition_of(&delivery.target, self.mailboxes.partitions());
                self.mailboxes.send(target, Input::Deliver(delivery));
            }
            self.queue.wait_for_room();
        }
        for load in outbox.loads {
            // The receiver lives as long as the hub; after that nobody waits for the answer.
            let _ = self.loads.send((index, load));
        }
    }

    fn time_to_next(&self, now: Timestamp) -> Option<Duration> {
        let next = self
            .partitions
            .iter()
            .filter_map(|(_, partition)| partition.next_due())
            .min()?;
        Some(next.since(now).max(Duration::from_micros(1)))
    }
}
