//! What a simulated hub stands on: a store in memory, or the embedded store's log on a simulated
//! disk; in front of it, store errors by the seed.

use std::sync::{Arc, Mutex, PoisonError};

use dalsegno_core::store::{Commit, Store};
use dalsegno_engine::partition::Entropy;
use dalsegno_store_embedded::simulation::{Crash, Remains, SimStore};
use dalsegno_store_memory::MemoryStore;
use dalsegno_store_tests::{Fate, Faults, Random};

use crate::program::below;
use crate::swarm::Swarm;

/// Length of a log segment: a few batches, so that segments come and go.
const SEGMENT_BYTES: u64 = 8 * 1024;

/// Disk operations that a recovery takes at most, about.
const OPERATIONS_OF_A_RECOVERY: usize = 40;

/// Where the commits are.
#[derive(Clone, Debug)]
pub(crate) enum Ground {
    /// Durable at once.
    Memory(Arc<MemoryStore>),
    /// Durable as far as it was synced.
    Disk(Arc<SimStore>),
}

impl Ground {
    /// An empty hub.
    pub(crate) fn new(swarm: &Swarm, partitions: u32) -> Result<Self, String> {
        if swarm.is_on_disk {
            let store = Remains::empty(partitions, SEGMENT_BYTES).open()?;
            return Ok(Self::Disk(Arc::new(store)));
        }
        Ok(Self::Memory(Arc::new(MemoryStore::new(partitions))))
    }

    /// The store itself, without planned errors.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => store.clone(),
            Self::Disk(store) => store.clone(),
        }
    }

    /// Opens the hub again after a crash. On a disk the recovery may crash too; says how often.
    pub(crate) fn reopen(&self, entropy: &mut Entropy, may_crash_again: bool) -> Result<(Self, u64), String> {
        let store = match self {
            Self::Memory(store) => return Ok((Self::Memory(Arc::new(store.reopen())), 0)),
            Self::Disk(store) => store,
        };
        let mut random = Random::new(entropy.next_u64());
        let crash = |entropy: &mut Entropy| match below(entropy, 2) {
            0 => Crash::Kill,
            _ => Crash::PowerLoss,
        };
        let mut remains = store.crash(crash(entropy), &mut random);
        let mut crashes = 0;
        while may_crash_again && below(entropy, 3) == 0 {
            remains
                .disk()
                .crash_after(below(entropy, OPERATIONS_OF_A_RECOVERY));
            // It may have got through with what it had; then it crashes right behind.
            let opened = remains.open();
            if let Err(error) = &opened
                && !remains.disk().is_down()
            {
                return Err(format!("a recovery was refused: {error}"));
            }
            remains = match &opened {
                Ok(store) => store.crash(crash(entropy), &mut random),
                Err(_) => remains.after(crash(entropy), &mut random),
            };
            crashes += 1;
        }
        Ok((Self::Disk(Arc::new(remains.open()?)), crashes))
    }

    /// Does something to the disk, if there is one.
    pub(crate) fn disturb(&self, entropy: &mut Entropy) {
        let Self::Disk(store) = self else { return };
        match below(entropy, 4) {
            0 => store.disk().fail_next_sync(),
            1 => store.disk().crash_after(below(entropy, 30)),
            2 => store.disk().set_capacity(Some(0)),
            _ => store.disk().set_capacity(None),
        }
    }

    /// Gives the disk its room back.
    pub(crate) fn make_room(&self) {
        if let Self::Disk(store) = self {
            store.disk().set_capacity(None);
        }
    }

    /// The disk fails no more, unless it is down already.
    pub(crate) fn heal(&self) {
        if let Self::Disk(store) = self {
            store.disk().heal();
        }
    }

    /// Begins or ends a checkpoint.
    pub(crate) fn fold(&self, entropy: &mut Entropy) {
        if let Self::Disk(store) = self {
            match below(entropy, 2) {
                0 => store.begin_checkpoint(),
                _ => store.finish_checkpoint(),
            }
        }
    }
}

/// Store errors of one seed, shared by all openings of its hub.
#[derive(Clone, Debug)]
pub(crate) struct StoreFaults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    entropy: Entropy,
    refusals: f64,
    unknowns: f64,
    failed_reads: f64,
    trace: Trace,
    /// A hash over everything that was appended and what became of it.
    digest: u64,
}

/// What is kept of a run besides what came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Nothing.
    Off,
    /// A hash over every batch and what became of it.
    Digest,
    /// The same, and every batch on stderr.
    Print,
}

impl StoreFaults {
    /// Errors at the swarm's rates.
    pub(crate) fn new(swarm: &Swarm, seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(State {
            entropy: Entropy::seeded(seed),
            refusals: swarm.refusals,
            unknowns: swarm.unknowns,
            failed_reads: swarm.failed_reads,
            trace,
            digest: 0xcbf2_9ce4_8422_2325,
        })))
    }

    /// No more errors.
    pub(crate) fn heal(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.refusals, state.unknowns, state.failed_reads) = (0.0, 0.0, 0.0);
    }

    /// Opens a hub: one that cannot read its store does not open, which is no scenario.
    pub(crate) fn without_failed_reads<T>(&self, open: impl FnOnce() -> T) -> T {
        let swap = |rate| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut state.failed_reads, rate)
        };
        let rate = swap(0.0);
        let opened = open();
        swap(rate);
        opened
    }

    /// The hash of the run, if it was wanted.
    pub(crate) fn digest(&self) -> Option<u64> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.trace != Trace::Off).then_some(state.digest)
    }
}

impl Faults for StoreFaults {
    fn append(&mut self, batch: &[Commit]) -> Fate {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fate = state.fate(batch);
        if state.trace != Trace::Off {
            let text = format!("{fate:?} {batch:?}");
            state.digest = hash(state.digest, &text);
            if state.trace == Trace::Print {
                eprintln!("{text}");
            }
        }
        fate
    }

    fn read_fails(&mut self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failed_reads > 0.0 && state.entropy.share() < state.failed_reads
    }
}

impl State {
    fn fate(&mut self, batch: &[Commit]) -> Fate {
        if batch.is_empty() || self.refusals + self.unknowns == 0.0 {
            return Fate::Taken;
        }
        let share = self.entropy.share();
        if share < self.refusals {
            return Fate::Refused;
        }
        if share >= self.refusals + self.unknowns {
            return Fate::Taken;
        }
        [Fate::UnknownWritten, Fate::UnknownLost, Fate::UnknownLate][below(&mut self.entropy, 3)]
    }
}

/// FNV-1a.
fn hash(start: u64, text: &str) -> u64 {
    text.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
