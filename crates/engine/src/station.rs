//! Some partitions and the plain thread that works on them.
//!
//! No async runtime is entered here, so an orchestrator that calls `tokio::spawn` or opens a
//! socket panics before it has done anything.
//!
//! The worker holds the station's lock except while user code runs or nothing is to do. So a worker whose code does
//! not come back can be relieved: a fresh one takes the station over, and the old one finds out
//! when its code returns, if ever.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use dalsegno_core::message::Target;
use dalsegno_core::{Fault, FaultKind, Timestamp};

use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::commit_queue::CommitQueue;
use crate::committer::{Committer, end_process};
use crate::executor::{Executor, panic_text};
use crate::input::{Input, Load};
use crate::mailbox::{Mailbox, Mailboxes};
use crate::marks::{Mark, Marks, Slot};
use crate::partition::{Job, Partition, Step, partition_of};

/// Turns of one partition before the others and the mailbox are looked at again.
const STEPS_MAX: usize = 256;

/// With more inputs in a round than this, turns are left to the committer: more are to be expected.
const INPUTS_HERE_MAX: usize = 2;

/// What others see of a station: does it move, and whose code runs.
#[derive(Debug, Default)]
pub struct Progress {
    rounds: AtomicU64,
    code: Mutex<Option<RunningCode>>,
}

/// User code that runs at this moment.
#[derive(Clone, Debug)]
struct RunningCode {
    subject: Target,
    /// Place of its partition in the station.
    at: usize,
    since: Instant,
}

impl Progress {
    /// Rises with every round; an idle station makes none.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::SeqCst)
    }

    /// Does user code run?
    pub fn is_in_code(&self) -> bool {
        self.code().is_some()
    }

    fn code(&self) -> MutexGuard<'_, Option<RunningCode>> {
        self.code.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn longer_than(&self, limit: Duration) -> Option<RunningCode> {
        self.code().clone().filter(|code| code.since.elapsed() > limit)
    }
}

/// What a station needs.
#[derive(Debug)]
pub struct Station {
    /// Its partitions, and who works on them.
    pub state: Mutex<State>,
    /// Told when it is closed.
    pub closed: Condvar,
    /// Where inputs come from.
    pub mailbox: Arc<Mailbox>,
    /// Where messages for other partitions go.
    pub mailboxes: Arc<Mailboxes>,
    /// Where turns go.
    pub queue: Arc<CommitQueue>,
    /// Who takes them from there.
    pub committer: Arc<Committer>,
    /// User code.
    pub executor: Arc<dyn Executor>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Reads that partitions ask for.
    pub loads: tokio::sync::mpsc::UnboundedSender<(usize, Load)>,
    /// Wakes the watchdog when there is something to watch.
    pub alarm: Arc<Alarm>,
    /// Workers that were relieved and whose code has not come back, in the whole hub.
    pub stuck: Arc<AtomicUsize>,
    /// Where it is marked whose code runs.
    pub marks: Marks,
    /// What others see of it.
    pub progress: Progress,
}

/// What is worked on.
#[derive(Debug)]
pub struct State {
    /// Each by its index in the hub.
    partitions: Vec<(usize, Partition)>,
    /// Number of the worker whose place this is.
    worker: u64,
    /// Nobody works here any more.
    is_closed: bool,
}

impl State {
    /// For the first worker, number 0.
    pub fn new(partitions: Vec<(usize, Partition)>) -> Self {
        Self {
            partitions,
            worker: 0,
            is_closed: false,
        }
    }

    fn take(&mut self, index: usize, input: Input, now: Timestamp) {
        if let Some((_, partition)) = self.partitions.iter_mut().find(|(own, _)| *own == index) {
            partition.take(input, now);
        }
    }

    fn time_to_next(&self, now: Timestamp) -> Option<Duration> {
        let partitions = self.partitions.iter();
        let next = partitions
            .filter_map(|(_, partition)| partition.next_due())
            .min()?;
        Some(next.since(now).max(Duration::from_micros(1)))
    }
}

impl Station {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until the mailbox is closed, or until this worker was relieved. Whoever still waits
    /// for an answer of a closed station learns that none will come.
    pub fn work(&self, worker: u64) {
        self.work_until_closed(worker);
        let state = self.lock();
        if state.worker == worker {
            self.shut(state);
        }
    }

    /// Closes a station whose mailbox is closed, whether or not its worker is stuck.
    pub fn close(&self) {
        let mut state = self.lock();
        let is_in_code = self.progress.code().take().is_some();
        if is_in_code {
            state.worker += 1;
            self.stuck.fetch_add(1, Ordering::Relaxed);
        }
        self.shut(state);
    }

    fn shut(&self, mut state: MutexGuard<'_, State>) {
        let partitions = std::mem::take(&mut state.partitions);
        state.is_closed = true;
        drop(state);
        drop(partitions);
        self.closed.notify_all();
    }

    /// Waits until nobody works here any more, but for workers that were relieved.
    pub fn wait_until_closed(&self) {
        let mut state = self.lock();
        while !state.is_closed {
            state = self.closed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work_until_closed(&self, worker: u64) {
        let slot = self.marks.slot();
        let mut state = self.lock();
        let mut inputs = Vec::new();
        loop {
            self.progress.rounds.fetch_add(1, Ordering::SeqCst);
            self.alarm.wake();
            let now = self.clock.now();
            let is_calm = inputs.len() <= INPUTS_HERE_MAX;
            for (index, input) in inputs.drain(..) {
                state.take(index, input, now);
            }
            let mut is_busy = false;
            for at in 0..state.partitions.len() {
                let Some((kept, is_more)) = self.work_on(state, at, worker, &slot) else {
                    return;
                };
                state = kept;
                is_busy |= is_more;
            }
            if is_busy || !self.mailbox.is_empty() {
                self.queue.wake();
                match self.mailbox.take() {
                    Some(taken) => inputs = taken,
                    None => return,
                }
                continue;
            }
            let time = state.time_to_next(now);
            // A relieved worker that comes back must not wait here for its successor's next input.
            drop(state);
            slot.clear();
            self.see_off(is_calm);
            match self.mailbox.wait(time) {
                Some(taken) => inputs = taken,
                None => return,
            }
            state = self.lock();
        }
    }

    /// Before a wait: what was made is written here or left to the committer.
    fn see_off(&self, is_calm: bool) {
        if !is_calm {
            return self.queue.wake();
        }
        self.committer
            .commit_here()
            .unwrap_or_else(|error| end_process(&error));
    }

    /// Runs turns of one partition and tells whether there are more. `None`: relieved meanwhile.
    fn work_on<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        at: usize,
        worker: u64,
        slot: &Slot,
    ) -> Option<(MutexGuard<'a, State>, bool)> {
        let mut is_busy = true;
        for _ in 0..STEPS_MAX {
            let now = self.clock.now();
            match state.partitions[at].1.step(now) {
                Step::Idle => {
                    is_busy = false;
                    break;
                }
                Step::Moved => {}
                Step::Run(job) => state = self.run(state, at, job, (worker, slot))?,
            }
        }
        self.carry_away(&mut state.partitions[at]);
        Some((state, is_busy))
    }

    /// Runs user code with nothing held.
    fn run<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        at: usize,
        job: Job,
        (worker, slot): (u64, &Slot),
    ) -> Option<MutexGuard<'a, State>> {
        let mut next = Some(job);
        while let Some(job) = next {
            let subject = job.subject();
            mark(slot, &subject);
            *self.progress.code() = Some(RunningCode {
                subject,
                at,
                since: Instant::now(),
            });
            // A round may last longer than the watchdog stays awake for it.
            self.alarm.wake();
            // Nobody's turn waits for the code of another.
            self.queue.wake();
            drop(state);
            let done = catch_unwind(AssertUnwindSafe(|| job.run(&*self.executor)));
            state = self.lock();
            if state.worker != worker {
                drop(state);
                self.stuck.fetch_sub(1, Ordering::Relaxed);
                return None;
            }
            *self.progress.code() = None;
            let partition = &mut state.partitions[at].1;
            next = match done {
                Ok(done) => partition.finish(done),
                Err(panic) => {
                    partition.abandon(panicked(panic.as_ref()));
                    None
                }
            };
        }
        Some(state)
    }

    /// Takes the station from a worker whose code has run for longer than `limit`. Returns the
    /// number its successor has to work under.
    pub fn relieve(&self, limit: Duration) -> Option<u64> {
        self.progress.longer_than(limit)?;
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The worker is back from its code just now.
            Err(TryLockError::WouldBlock) => return None,
        };
        let code = self.progress.longer_than(limit)?;
        let fault = too_long(&code.subject, limit);
        tracing::error!(%fault, "user code does not come back; a fresh thread goes on without it");
        state.worker += 1;
        state.partitions[code.at].1.abandon(fault);
        *self.progress.code() = None;
        self.stuck.fetch_add(1, Ordering::Relaxed);
        Some(state.worker)
    }

    /// First the queue, then the mailboxes: queue order is log order.
    fn carry_away(&self, (index, partition): &mut (usize, Partition)) {
        let index = *index;
        let mut outbox = partition.take_outbox();
        if !outbox.turns.is_empty() {
            let deliveries: Vec<_> = outbox
                .turns
                .iter_mut()
                .flat_map(|turn| std::mem::take(&mut turn.deliveries))
                .collect();
            self.queue.push(index, outbox.turns.drain(..));
            for delivery in deliveries {
                let target = partition_of(&delivery.target, self.mailboxes.partitions());
                self.mailboxes.send(target, Input::Deliver(delivery));
            }
            self.queue.wait_for_room();
        }
        for load in outbox.loads.drain(..) {
            // The receiver lives as long as the hub; after that nobody waits for the answer.
            let _ = self.loads.send((index, load));
        }
        partition.return_outbox(outbox);
    }
}

fn mark(slot: &Slot, subject: &Target) {
    if !slot.is_armed() {
        return;
    }
    match subject {
        Target::Orchestration(id) => slot.set(&Mark::Turn(id.as_str())),
        Target::Entity(id) => slot.set(&Mark::Turn(&id.to_string())),
    }
}

/// Executors catch the panics of the code they run; this one was their own.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Fault {
    Fault::new(
        FaultKind::Panicked,
        format!("the executor panicked: {}", panic_text(panic)),
    )
}

fn too_long(subject: &Target, limit: Duration) -> Fault {
    let (what, whose) = match subject {
        Target::Orchestration(id) => ("turn of instance", id.to_string()),
        Target::Entity(id) => ("operation of entity", id.to_string()),
    };
    let message = format!(
        "one {what} {whose} took longer than turn_ms_max, {} ms: its code loops or blocks; move slow work into an activity",
        limit.as_millis()
    );
    Fault::new(FaultKind::BusyLoop, message)
}
