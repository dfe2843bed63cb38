//! The threads of a hub: partitions, committer, reads, activities.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dalsegno_core::limiter::LimiterRule;
use dalsegno_core::limits::Limits;
use dalsegno_core::store::{HubLoaded, Store};
use dalsegno_core::{EntityId, PartitionId};
use hashbrown::HashMap;

use super::{Health, TaskHub};
use crate::clock::{Clock, SystemClock};
use crate::commit_queue::CommitQueue;
use crate::committer::{Committer, Release};
use crate::counts::Counts;
use crate::dispatcher::Dispatcher;
use crate::executor::{Executor, OperationOutcome};
use crate::input::{Command, Input};
use crate::loader;
use crate::mailbox::Mailboxes;
use crate::partition::{Entropy, Numbers, Partition, PartitionConfig};
use crate::partition_thread::{PartitionThread, Progress};
use crate::record;
use crate::turn::Effect;

/// A partition that has inputs and no round for so long is reported as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Exit code of a process whose store failed: what was promised cannot be kept, so it has to
/// recover. 74 is `EX_IOERR` of `sysexits.h`.
const STORE_FAILED: i32 = 74;

/// Names of limiter rules among the hub's small records.
pub(super) const LIMITER_META: &str = "limiter/";

/// How a hub is started.
#[derive(Clone, Debug, Default)]
pub struct HubOptions {
    /// Its name; `default` when empty.
    pub name: String,
    /// Its limits.
    pub limits: Limits,
    /// Partition threads; 0 takes one per core.
    pub threads: usize,
    /// Limiters the code defines; stored where the hub has none of that name.
    pub limiters: Vec<(Arc<str>, LimiterRule)>,
}

/// A hub that cannot be started.
#[derive(Debug)]
pub struct HubError(String);

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HubError {}

/// What all handles of a hub share.
pub(super) struct Runtime {
    pub(super) name: Arc<str>,
    pub(super) limits: Arc<Limits>,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: Arc<dyn Store>,
    pub(super) mailboxes: Arc<Mailboxes>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) counts: Arc<Counts>,
    pub(super) meta: Mutex<HashMap<Arc<str>, Vec<u8>>>,
    pub(super) entropy: Mutex<Entropy>,
    pub(super) tickets: AtomicU64,
    pub(super) waiters: Arc<AtomicU64>,
    queue: Arc<CommitQueue>,
    batches: Arc<AtomicU64>,
    progress: Vec<Arc<Progress>>,
    /// Rounds of each thread when they were last seen to rise.
    seen: Mutex<Vec<(u64, Instant)>>,
    is_draining: AtomicBool,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    partitions: Vec<JoinHandle<()>>,
    committer: Option<JoinHandle<()>>,
}

impl TaskHub {
    /// Opens a hub on a store and sets everything going that was open. Needs a tokio runtime, on
    /// which activities will run.
    ///
    /// # Errors
    /// When the store cannot be read or holds records this version cannot read.
    pub fn open(
        store: Arc<dyn Store>,
        executor: Arc<dyn Executor>,
        options: HubOptions,
    ) -> Result<Self, HubError> {
        let loaded = store.load_hub().map_err(|error| HubError(error.to_string()))?;
        let runtime = Arc::new(Runtime::new(store, executor, &loaded, options)?);
        runtime.run(&loaded)?;
        Ok(Self { runtime })
    }
}

impl Runtime {
    fn new(
        store: Arc<dyn Store>,
        executor: Arc<dyn Executor>,
        loaded: &HubLoaded,
        options: HubOptions,
    ) -> Result<Self, HubError> {
        let handle = tokio::runtime::Handle::try_current()
            .map_err(|_| HubError("a hub is started inside a tokio runtime".to_owned()))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if options.threads == 0 {
            cores
        } else {
            options.threads
        };
        let threads = threads.min(loaded.partitions as usize);
        let mailboxes = Arc::new(Mailboxes::new(threads, loaded.partitions));
        let limits = Arc::new(options.limits);
        let dispatcher = Dispatcher::new(
            handle,
            executor.clone(),
            mailboxes.clone(),
            limits.activities_running_max,
        );
        let name = if options.name.is_empty() {
            "default"
        } else {
            &options.name
        };
        let meta: HashMap<Arc<str>, Vec<u8>> = loaded.meta.iter().cloned().collect();
        let runtime = Self {
            name: name.into(),
            queue: Arc::new(CommitQueue::new(limits.unsynced_bytes_max)),
            limits,
            executor,
            clock: Arc::new(SystemClock::default()),
            store,
            dispatcher: Arc::new(dispatcher),
            counts: Arc::new(Counts::new(&loaded.counts)),
            meta: Mutex::new(meta),
            entropy: Mutex::new(Entropy::seeded(random_seed())),
            tickets: AtomicU64::new(0),
            waiters: Arc::default(),
            batches: Arc::default(),
            progress: (0..mailboxes.threads()).map(|_| Arc::default()).collect(),
            seen: Mutex::default(),
            is_draining: AtomicBool::new(false),
            threads: Mutex::default(),
            mailboxes,
        };
        runtime.set_up_limiters(options.limiters)?;
        Ok(runtime)
    }

    /// What an operator changed stays; what the code defines is taken where the hub has nothing.
    fn set_up_limiters(&self, defined: Vec<(Arc<str>, LimiterRule)>) -> Result<(), HubError> {
        for (name, rule) in defined {
            self.dispatcher.set_rule(name, rule);
        }
        for (name, data) in self.meta.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(limiter) = name.strip_prefix(LIMITER_META) {
                let rule = record::decode_limiter_rule(data).map_err(|error| HubError(error.to_string()))?;
                self.dispatcher.set_rule(limiter.into(), rule);
            }
        }
        Ok(())
    }

    fn run(self: &Arc<Self>, loaded: &HubLoaded) -> Result<(), HubError> {
        let durable: Vec<Arc<AtomicU64>> = (0..loaded.partitions).map(|_| Arc::default()).collect();
        let partitions = self.recover(loaded, &durable)?;
        let (loads, asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(loader::serve(asked, self.store.clone(), self.mailboxes.clone()));
        let committer = Committer {
            queue: self.queue.clone(),
            store: self.store.clone(),
            epoch: loaded.epoch,
            durable,
            counts: self.counts.clone(),
            batches: self.batches.clone(),
        };
        let release = Released {
            dispatcher: self.dispatcher.clone(),
            mailboxes: self.mailboxes.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.committer = Some(spawn("dalsegno-commit", move || commit(&committer, release))?);
        let mut shares: Vec<Vec<(usize, Partition)>> =
            (0..self.mailboxes.threads()).map(|_| Vec::new()).collect();
        for (index, partition) in partitions.into_iter().enumerate() {
            let share = index % shares.len();
            shares[share].push((index, partition));
        }
        for (index, share) in shares.into_iter().enumerate() {
            let thread = PartitionThread {
                partitions: share,
                mailbox: self.mailboxes.of_thread(index),
                mailboxes: self.mailboxes.clone(),
                queue: self.queue.clone(),
                executor: self.executor.clone(),
                clock: self.clock.clone(),
                loads: loads.clone(),
                progress: self.progress[index].clone(),
            };
            threads
                .partitions
                .push(spawn(&format!("dalsegno-part-{index}"), move || thread.run())?);
        }
        Ok(())
    }

    fn recover(&self, loaded: &HubLoaded, durable: &[Arc<AtomicU64>]) -> Result<Vec<Partition>, HubError> {
        let numbers = Arc::new(Numbers::after(loaded.key_max, loaded.message_max));
        let now = self.clock.now();
        let failed = |error: &dyn fmt::Display| HubError(error.to_string());
        let mut partitions = Vec::new();
        for (index, durable) in durable.iter().enumerate() {
            let id = PartitionId(u32::try_from(index).map_err(|error| failed(&error))?);
            let config = PartitionConfig {
                id,
                partitions: loaded.partitions,
                limits: self.limits.clone(),
                executor: self.executor.clone(),
                numbers: numbers.clone(),
                durable: durable.clone(),
            };
            let mut partition = Partition::new(config, Entropy::seeded(random_seed()));
            let open = loader::load(&*self.store, id).map_err(|error| failed(&error))?;
            partition.recover(open, now).map_err(|error| failed(&error))?;
            partitions.push(partition);
        }
        for (limiter, key, data) in &loaded.limiters {
            let Some(rule) = self.dispatcher.rule(limiter) else {
                continue;
            };
            let record = record::decode_bucket(data).map_err(|error| failed(&error))?;
            let place = self.dispatcher.limiter_partition(limiter, key).0 as usize;
            partitions[place].restore_bucket((limiter.clone(), key.clone()), rule, record);
        }
        Ok(partitions)
    }

    pub(super) fn send(&self, partition: PartitionId, command: Command) {
        self.mailboxes.send(partition, Input::Command(command));
    }

    pub(super) fn partition_of(&self, id: &str) -> PartitionId {
        PartitionId::of(id, self.mailboxes.partitions())
    }

    pub(super) fn partition_of_entity(&self, id: &EntityId) -> PartitionId {
        self.partition_of(&id.to_string())
    }

    pub(super) fn synced_batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Asks each thread for a round; one that has made none since long is stuck, and a turn that
    /// runs for longer than `turn_ms_max` keeps its partition from moving.
    pub(super) fn health(&self) -> Health {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.resize(self.progress.len(), (0, now));
        let mut problems = Vec::new();
        for (index, (rounds_seen, since)) in seen.iter_mut().enumerate() {
            let rounds = self.progress[index].rounds();
            if rounds != *rounds_seen {
                (*rounds_seen, *since) = (rounds, now);
            } else if now.duration_since(*since) > STUCK_AFTER {
                let seconds = now.duration_since(*since).as_secs();
                problems.push(format!("partition thread {index} has not moved for {seconds} s"));
            }
            problems.extend(self.long_turn(index));
            let first = PartitionId(u32::try_from(index).unwrap_or(0));
            self.mailboxes.send(first, Input::Nudge);
        }
        Health {
            problems,
            draining: self.is_draining(),
        }
    }

    fn long_turn(&self, index: usize) -> Option<String> {
        let (id, time) = self.progress[index].turn()?;
        let most = self.limits.turn_ms_max;
        (time > Duration::from_millis(most)).then(|| {
            let seconds = time.as_secs();
            format!("instance {id} has been in one turn for {seconds} s, turn_ms_max is {most}: its code loops or blocks")
        })
    }

    /// Rounds of all partition threads so far.
    pub(super) fn rounds(&self) -> u64 {
        self.progress.iter().map(|progress| progress.rounds()).sum()
    }

    pub(super) async fn shutdown(&self, grace: Duration) -> usize {
        self.is_draining.store(true, Ordering::Relaxed);
        self.dispatcher.stop();
        let end = Instant::now() + grace;
        while self.dispatcher.load().0 > 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left = self.dispatcher.load().0;
        self.dispatcher.cancel_all();
        self.barrier_all().await;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        self.mailboxes.close();
        let (queue, store) = (self.queue.clone(), self.store.clone());
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads.partitions {
                let _ = thread.join();
            }
            queue.close();
            if let Some(committer) = threads.committer {
                let _ = committer.join();
            }
            store.close();
        });
        let _ = joined.await;
        left
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, HubError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread
        .spawn(run)
        .map_err(|error| HubError(format!("cannot start thread {name}: {error}")))
}

/// Random bits of the operating system, by way of the standard library's hasher keys.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

fn commit(committer: &Committer, mut release: Released) {
    if let Err(error) = committer.run(&mut release) {
        tracing::error!(%error, "the store failed; the process ends and recovers at its next start");
        std::process::exit(STORE_FAILED);
    }
}

/// Where effects go when their turn is durable.
struct Released {
    dispatcher: Arc<Dispatcher>,
    mailboxes: Arc<Mailboxes>,
    runtime: tokio::runtime::Handle,
}

impl Release for Released {
    fn release(&mut self, partition: usize, effects: Vec<Effect>) {
        let id = PartitionId(u32::try_from(partition).expect("partitions are counted in u32"));
        for effect in effects {
            match effect {
                Effect::Dispatch(record) => self.dispatcher.dispatch(record),
                Effect::Run(record) => self.dispatcher.run(record),
                Effect::Cancel { key, task } => self.dispatcher.cancel(key, task),
                Effect::RunOperation { entity, future } => self.run_operation(entity, future),
                Effect::Answer(give) => give(),
                Effect::Nudge => self.mailboxes.send(id, Input::Nudge),
            }
        }
    }
}

impl Released {
    fn run_operation(&self, entity: EntityId, future: futures::future::BoxFuture<'static, OperationOutcome>) {
        let mailboxes = self.mailboxes.clone();
        let partition = PartitionId::of(&entity.to_string(), mailboxes.partitions());
        self.runtime.spawn(async move {
            let outcome = future.await;
            mailboxes.send(partition, Input::OperationEnded { entity, outcome });
        });
    }
}
