//! The threads of a hub: partitions, committer, reads, activities.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dalsegno_core::limiter::LimiterRule;
use dalsegno_core::limits::Limits;
use dalsegno_core::store::{HubLoaded, ReadError, ReadErrorKind, Store, is_refused};
use dalsegno_core::{EntityId, Failure, PartitionId};
use futures::FutureExt;
use hashbrown::HashMap;

use super::watchdog::{Watchdog, start_worker};
use super::{Health, HubMeasure, STUCK, TaskHub};
use crate::alarm::Alarm;
use crate::changes::ChangeSender;
use crate::clock::{Clock, SystemClock};
use crate::commit_queue::CommitQueue;
use crate::committer::{Committer, Refusal, Release, end_process};
use crate::counts::Counts;
use crate::disk_space::DiskSpace;
use crate::dispatcher::Dispatcher;
use crate::executor::{Executor, OperationOutcome, OperationsEnded, panic_text};
use crate::input::{Command, Input, Load, Measure};
use crate::limiters::BucketName;
use crate::loader;
use crate::mailbox::Mailboxes;
use crate::marks::{Mark, Marks, Suspects};
use crate::meters::Meters;
use crate::partition::{Entropy, Numbers, Partition, PartitionConfig};
use crate::record;
use crate::station::{State, Station};
use crate::traces::Traces;
use crate::turn::Effect;
use crate::webhooks::{Webhooks, WithWebhooks};

/// A partition that has inputs and no round for so long is reported as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Names of limiter rules among the hub's small records.
pub(super) const LIMITER_META: &str = "limiter/";

/// The same, of those that workers offer.
pub(super) const OFFERED_META: &str = "offered-limiter/";

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
    /// Activities that pass a limiter, whoever runs them: names of both.
    pub limited: Vec<(Arc<str>, Arc<str>)>,
    /// Where it is marked whose code runs, to find what kills the process; nowhere when `None`.
    pub marks: Option<PathBuf>,
    /// Who is told of statuses; nobody when `None`.
    pub webhooks: Option<Arc<dyn Webhooks>>,
    /// Who tells tracing systems of what instances did; nobody when `None`.
    pub traces: Option<Arc<dyn Traces>>,
    /// Where the time comes from; the machine's clock when `None`.
    pub clock: Option<Arc<dyn Clock>>,
}

/// A hub that cannot be started. The text says what, where and what to do.
#[derive(Debug)]
pub struct HubError {
    kind: HubErrorKind,
    text: String,
}

/// What a caller can do about a [`HubError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubErrorKind {
    /// The disk or the system failed: a later start may succeed.
    Transient,
    /// What is stored is damaged: every start meets it, until somebody repairs the hub.
    Damaged,
    /// The system refuses, such as a file of another owner: every start is refused, until somebody
    /// changes that.
    Refused,
    /// Another process has the hub.
    InUse,
    /// It was called in a way that it cannot be.
    Misused,
}

impl HubError {
    fn new(kind: HubErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// An error of a file or a thread.
    fn io(what: &str, error: &io::Error) -> Self {
        let kind = match is_refused(error.kind()) {
            true => HubErrorKind::Refused,
            false => HubErrorKind::Transient,
        };
        Self::new(kind, format!("cannot {what}: {error}"))
    }

    /// A record that this version cannot read, though it is as it was written.
    fn unreadable(what: impl fmt::Display, error: &record::RecordError) -> Self {
        let text =
            format!("{what}: {error}: use the version that wrote it, or restore the hub from a backup");
        Self::new(HubErrorKind::Damaged, text)
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> HubErrorKind {
        self.kind
    }
}

impl From<ReadError> for HubError {
    fn from(error: ReadError) -> Self {
        let kind = match error.kind() {
            ReadErrorKind::Transient => HubErrorKind::Transient,
            ReadErrorKind::Damaged => HubErrorKind::Damaged,
            ReadErrorKind::Fenced => HubErrorKind::InUse,
        };
        Self::new(kind, error.to_string())
    }
}

impl fmt::Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for HubError {}

/// What all handles of a hub share.
pub(super) struct Runtime {
    pub(super) name: Arc<str>,
    pub(super) limits: Arc<Limits>,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) webhooks: Option<Arc<dyn Webhooks>>,
    traces: Option<Arc<dyn Traces>>,
    pub(super) changes: ChangeSender,
    pub(super) meters: Arc<Meters>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: Arc<dyn Store>,
    pub(super) mailboxes: Arc<Mailboxes>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) counts: Arc<Counts>,
    pub(super) meta: Mutex<HashMap<Arc<str>, Vec<u8>>>,
    pub(super) entropy: Mutex<Entropy>,
    pub(super) tickets: AtomicU64,
    pub(super) waiters: Arc<AtomicU64>,
    pub(super) disk_space: DiskSpace,
    queue: Arc<CommitQueue>,
    batches: Arc<AtomicU64>,
    refusal: Arc<Refusal>,
    committer: OnceLock<Arc<Committer>>,
    stations: OnceLock<Vec<Arc<Station>>>,
    /// Rounds of each station when they were last seen to rise.
    seen: Mutex<Vec<(u64, Instant)>>,
    is_draining: AtomicBool,
    /// Why it is gone for good.
    pub(super) retired: tokio::sync::watch::Sender<Option<Arc<str>>>,
    stuck: Arc<AtomicUsize>,
    marks: Marks,
    alarm: Arc<Alarm>,
    /// The watchdog has nothing more to watch.
    is_unwatched: Arc<AtomicBool>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    committer: Option<JoinHandle<()>>,
    watchdog: Option<JoinHandle<()>>,
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
        let loaded = store.load_hub()?;
        let (marks, suspects) = open_marks(options.marks.as_deref())?;
        let name = match options.name.as_str() {
            "" => "default",
            name => name,
        };
        // What is logged in its threads and by what they start says which hub it is of.
        let _within = tracing::error_span!("hub", hub = name).entered();
        let runtime = Arc::new(Runtime::new(store, executor, &loaded, marks, options)?);
        runtime.run(&loaded, &suspects)?;
        Ok(Self { runtime })
    }
}

impl Runtime {
    fn new(
        store: Arc<dyn Store>,
        executor: Arc<dyn Executor>,
        loaded: &HubLoaded,
        marks: Marks,
        options: HubOptions,
    ) -> Result<Self, HubError> {
        let handle = tokio::runtime::Handle::try_current()
            .map_err(|_| HubError::new(HubErrorKind::Misused, "a hub is started inside a tokio runtime"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if options.threads == 0 {
            cores
        } else {
            options.threads
        };
        let threads = threads.min(loaded.partitions as usize);
        let mailboxes = Arc::new(Mailboxes::new(threads, loaded.partitions));
        let executor = match options.webhooks.clone() {
            Some(webhooks) => Arc::new(WithWebhooks {
                code: executor,
                webhooks,
            }),
            None => executor,
        };
        let limits = Arc::new(options.limits);
        let dispatcher = Dispatcher::new(
            handle,
            executor.clone(),
            mailboxes.clone(),
            marks.clone(),
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
            queue: Arc::new(CommitQueue::new(
                limits.unsynced_bytes_max,
                limits.batch_bytes_max,
            )),
            disk_space: DiskSpace::new(limits.disk_free_bytes_min),
            limits,
            executor,
            webhooks: options.webhooks,
            traces: options.traces,
            changes: ChangeSender::default(),
            meters: Arc::default(),
            clock: options.clock.unwrap_or_else(|| Arc::new(SystemClock::default())),
            store,
            dispatcher: Arc::new(dispatcher),
            counts: Arc::new(Counts::new(&loaded.counts)),
            meta: Mutex::new(meta),
            entropy: Mutex::new(Entropy::seeded(random_seed())),
            tickets: AtomicU64::new(0),
            waiters: Arc::default(),
            batches: Arc::default(),
            refusal: Arc::default(),
            committer: OnceLock::new(),
            stations: OnceLock::new(),
            seen: Mutex::default(),
            is_draining: AtomicBool::new(false),
            retired: tokio::sync::watch::Sender::default(),
            stuck: Arc::default(),
            marks,
            alarm: Arc::default(),
            is_unwatched: Arc::default(),
            threads: Mutex::default(),
            mailboxes,
        };
        runtime.set_up_limiters(options.limiters, options.limited)?;
        Ok(runtime)
    }

    /// What an operator changed stays; what the code defines is taken where the hub has nothing.
    fn set_up_limiters(
        &self,
        defined: Vec<(Arc<str>, LimiterRule)>,
        limited: Vec<(Arc<str>, Arc<str>)>,
    ) -> Result<(), HubError> {
        let meta = self.meta.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |prefix| {
            meta.iter()
                .filter_map(move |(name, data)| Some((name.strip_prefix(prefix)?, data)))
        };
        for (name, data) in named(OFFERED_META) {
            let offer = record::decode_limiter_offer(name, data)
                .map_err(|error| HubError::unreadable(format_args!("limiter {name}"), &error))?;
            self.dispatcher
                .limiters()
                .set_rule(offer.name.clone(), offer.rule);
            for activity in offer.activities {
                self.dispatcher.limiters().limit(activity, offer.name.clone());
            }
        }
        for (name, rule) in defined {
            self.dispatcher.limiters().set_rule(name, rule);
        }
        for (activity, limiter) in limited {
            self.dispatcher.limiters().limit(activity, limiter);
        }
        for (name, data) in named(LIMITER_META) {
            let rule = record::decode_limiter_rule(data)
                .map_err(|error| HubError::unreadable(format_args!("limiter {name}"), &error))?;
            self.dispatcher.limiters().set_rule(name.into(), rule);
        }
        Ok(())
    }

    fn run(self: &Arc<Self>, loaded: &HubLoaded, suspects: &Suspects) -> Result<(), HubError> {
        let durable: Vec<Arc<AtomicU64>> = (0..loaded.partitions).map(|_| Arc::default()).collect();
        let partitions = self.recover(loaded, &durable, suspects)?;
        let (loads, asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(loader::serve(asked, self.store.clone(), self.mailboxes.clone()));
        let release = Released {
            executor: self.executor.clone(),
            dispatcher: self.dispatcher.clone(),
            mailboxes: self.mailboxes.clone(),
            marks: self.marks.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let committer = Arc::new(Committer {
            queue: self.queue.clone(),
            store: self.store.clone(),
            epoch: loaded.epoch,
            durable,
            counts: self.counts.clone(),
            batches: self.batches.clone(),
            meters: self.meters.clone(),
            refusal: self.refusal.clone(),
            release: Mutex::new(Some(Box::new(release))),
        });
        let committer = self.committer.get_or_init(|| committer);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = committer.clone();
        threads.committer = Some(spawn("dalsegno-commit", move || {
            writer.run().unwrap_or_else(|error| end_process(&error));
        })?);
        let stations = self
            .stations
            .get_or_init(|| self.set_up_stations(partitions, committer, &loads));
        for (index, station) in stations.iter().enumerate() {
            start_worker(index, station, 0)?;
        }
        let watchdog = Watchdog {
            stations: stations.clone(),
            alarm: self.alarm.clone(),
            turn_max: Duration::from_millis(self.limits.turn_ms_max),
            stuck: self.stuck.clone(),
            stuck_max: self.limits.stuck_threads_max,
            is_ending: self.is_unwatched.clone(),
        };
        threads.watchdog = Some(spawn("dalsegno-watch", move || watchdog.run())?);
        Ok(())
    }

    fn set_up_stations(
        &self,
        partitions: Vec<Partition>,
        committer: &Arc<Committer>,
        loads: &tokio::sync::mpsc::UnboundedSender<(usize, Load)>,
    ) -> Vec<Arc<Station>> {
        let mut shares: Vec<Vec<(usize, Partition)>> =
            (0..self.mailboxes.threads()).map(|_| Vec::new()).collect();
        for (index, partition) in partitions.into_iter().enumerate() {
            let share = index % shares.len();
            shares[share].push((index, partition));
        }
        let station = |(index, share)| {
            Arc::new(Station {
                state: Mutex::new(State::new(share)),
                closed: Condvar::new(),
                mailbox: self.mailboxes.of_thread(index),
                mailboxes: self.mailboxes.clone(),
                queue: self.queue.clone(),
                committer: committer.clone(),
                executor: self.executor.clone(),
                clock: self.clock.clone(),
                loads: loads.clone(),
                alarm: self.alarm.clone(),
                stuck: self.stuck.clone(),
                marks: self.marks.clone(),
                progress: Default::default(),
            })
        };
        shares.into_iter().enumerate().map(station).collect()
    }

    fn recover(
        &self,
        loaded: &HubLoaded,
        durable: &[Arc<AtomicU64>],
        suspects: &Suspects,
    ) -> Result<Vec<Partition>, HubError> {
        let numbers = Arc::new(Numbers::after(loaded.key_max, loaded.message_max));
        let now = self.clock.now();
        let mut partitions = Vec::new();
        for (index, durable) in durable.iter().enumerate() {
            let id = PartitionId(u32::try_from(index).expect("partitions are counted in u32"));
            let config = PartitionConfig {
                id,
                partitions: loaded.partitions,
                limits: self.limits.clone(),
                executor: self.executor.clone(),
                numbers: numbers.clone(),
                durable: durable.clone(),
                webhooks: self.webhooks.clone(),
                changes: self.changes.clone(),
                meters: self.meters.clone(),
                traces: self.traces.clone(),
            };
            let mut partition = Partition::new(config, Entropy::seeded(random_seed()));
            let open = loader::load(&*self.store, id)?;
            partition
                .recover(open, suspects, now)
                .map_err(|error| HubError::unreadable(format_args!("partition {}", id.0), &error))?;
            partitions.push(partition);
        }
        for (limiter, key, data) in &loaded.limiters {
            let Some(rule) = self.dispatcher.limiters().rule(limiter) else {
                continue;
            };
            let record = record::decode_bucket(data).map_err(|error| {
                HubError::unreadable(format_args!("limiter {limiter}, key {key}"), &error)
            })?;
            let name = BucketName {
                limiter: limiter.clone(),
                key: key.clone(),
            };
            let place = name.partition(loaded.partitions).0 as usize;
            partitions[place].restore_bucket(name, rule, record);
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

    fn stations(&self) -> &[Arc<Station>] {
        self.stations.get().map_or(&[], Vec::as_slice)
    }

    /// Asks each station for a round; one that has made none since long is stuck.
    pub(super) fn health(&self) -> Health {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.resize(self.stations().len(), (0, now));
        let mut problems = Vec::new();
        for (index, (rounds_seen, since)) in seen.iter_mut().enumerate() {
            let rounds = self.stations()[index].progress.rounds();
            if rounds != *rounds_seen {
                (*rounds_seen, *since) = (rounds, now);
            } else if now.duration_since(*since) > STUCK_AFTER {
                let seconds = now.duration_since(*since).as_secs();
                problems.push(format!("partition thread {index} has not moved for {seconds} s"));
            }
            let first = PartitionId(u32::try_from(index).unwrap_or(0));
            self.mailboxes.send(first, Input::Nudge);
        }
        problems.extend(self.refusal.current().map(|(time, cause)| {
            let seconds = time.as_secs();
            format!("the store has taken no commit for {seconds} s and is asked again: {cause}")
        }));
        Health {
            problems,
            stuck_threads: self.stuck.load(Ordering::Relaxed),
            draining: self.is_draining(),
        }
    }

    /// With what there is beside the partitions.
    pub(super) fn measure(&self, partitions: Measure) -> HubMeasure {
        let (running, waiting) = self.dispatcher.load();
        HubMeasure {
            partitions,
            commits: self.batches.load(Ordering::Relaxed),
            unapplied_bytes: self.store.unapplied_bytes(),
            free_bytes: self.store.free_bytes(),
            activities_running: running as u64,
            activities_waiting: waiting as u64,
            waiters: self.waiters.load(Ordering::Relaxed),
            stuck_threads: self.stuck.load(Ordering::Relaxed) as u64,
        }
    }

    /// Rounds of all stations so far.
    pub(super) fn rounds(&self) -> u64 {
        self.stations()
            .iter()
            .map(|station| station.progress.rounds())
            .sum()
    }

    /// Ends as a crash does: nothing is waited for, what is not durable is lost. The threads end, and
    /// soon after the store lets go of what it holds.
    pub(super) fn abandon(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        self.dispatcher.stop();
        self.dispatcher.cancel_all();
        self.mailboxes.close();
        self.queue.close();
        self.is_unwatched.store(true, Ordering::SeqCst);
        self.alarm.unpark();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(committer) = threads.committer else {
            return;
        };
        // On a thread of its own: this may run on any thread, the committer's included.
        let (store, marks) = (self.store.clone(), self.marks.clone());
        let stations = self.stations().to_vec();
        let writer = self.committer.get().cloned();
        let ended = spawn("dalsegno-end", move || {
            stations.iter().for_each(|station| station.close());
            let _ = committer.join();
            writer.inspect(|writer| writer.end());
            marks.clear();
            store.close();
        });
        if let Err(error) = ended {
            tracing::error!(%error, "the hub's store stays open until the process ends");
        }
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
        let (stations, marks) = (self.stations().to_vec(), self.marks.clone());
        let (alarm, is_unwatched) = (self.alarm.clone(), self.is_unwatched.clone());
        let joined = tokio::task::spawn_blocking(move || {
            stations.iter().for_each(|station| station.wait_until_closed());
            is_unwatched.store(true, Ordering::SeqCst);
            alarm.unpark();
            if let Some(watchdog) = threads.watchdog {
                let _ = watchdog.join();
            }
            queue.close();
            if let Some(committer) = threads.committer {
                let _ = committer.join();
            }
            marks.clear();
            store.close();
        });
        let _ = joined.await;
        left
    }
}

fn open_marks(path: Option<&Path>) -> Result<(Marks, Suspects), HubError> {
    let Some(path) = path else {
        return Ok((Marks::none(), Suspects::default()));
    };
    Marks::open(path).map_err(|error| HubError::io(&format!("open {}", path.display()), &error))
}

/// The last handle is gone: nobody can ask for anything any more.
impl Drop for Runtime {
    fn drop(&mut self) {
        self.abandon();
    }
}

pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, HubError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let span = tracing::Span::current();
    let run = move || {
        let _within = span.enter();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            let panic = panic_text(panic.as_ref());
            tracing::error!(
                panic,
                "a thread of the hub panicked; the process ends and recovers at its next start"
            );
            std::process::exit(STUCK);
        }
    };
    thread
        .spawn(run)
        .map_err(|error| HubError::io(&format!("start thread {name}"), &error))
}

/// Random bits of the operating system, by way of the standard library's hasher keys.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// Where effects go when their turn is durable.
#[derive(Debug)]
struct Released {
    executor: Arc<dyn Executor>,
    dispatcher: Arc<Dispatcher>,
    mailboxes: Arc<Mailboxes>,
    marks: Marks,
    runtime: tokio::runtime::Handle,
}

impl Release for Released {
    fn release(&mut self, partition: usize, effects: Vec<Effect>) {
        let id = PartitionId(u32::try_from(partition).expect("partitions are counted in u32"));
        for effect in effects {
            match effect {
                Effect::Dispatch(record) => self.dispatcher.dispatch(record),
                Effect::Run(admitted) => self.dispatcher.run(admitted),
                Effect::SendTurn(sender) => sender.send(),
                Effect::WithdrawTurn(turn) => self.executor.withdraw(&turn),
                Effect::Cancel { key, task } => self.dispatcher.cancel(key, task),
                Effect::Tell { instance, key, task } => self.dispatcher.tell(instance, key, task),
                Effect::RunOperation { entity, future } => self.run_operation(entity, future),
                Effect::Answer(give) => give(),
                Effect::Nudge => self.mailboxes.send(id, Input::Nudge),
            }
        }
    }
}

impl Released {
    fn run_operation(&self, entity: EntityId, future: futures::future::BoxFuture<'static, OperationsEnded>) {
        let mailboxes = self.mailboxes.clone();
        let name = entity.to_string();
        let partition = PartitionId::of(&name, mailboxes.partitions());
        let slot = self.marks.slot();
        // An operation elsewhere does not end this process.
        let is_marked = !self.executor.is_remote_entity(entity.name());
        self.runtime.spawn(async move {
            if is_marked {
                slot.set(&Mark::Turn(&name));
            }
            let ended = AssertUnwindSafe(future).catch_unwind().await;
            let ended = ended.unwrap_or_else(|panic| panicked(panic.as_ref()).into());
            slot.clear();
            mailboxes.send(partition, Input::OperationsEnded { entity, ended });
        });
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> OperationOutcome {
    OperationOutcome {
        outcome: Err(Failure::new("Panic", panic_text(panic))),
        state: None,
        effects: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_file_says_whether_another_start_may_succeed() {
        // Numbers of Linux: EIO, ENOSPC, EMFILE, EAGAIN, EACCES, EROFS.
        for (number, kind) in [
            (5, HubErrorKind::Transient),
            (28, HubErrorKind::Transient),
            (24, HubErrorKind::Transient),
            (11, HubErrorKind::Transient),
            (13, HubErrorKind::Refused),
            (30, HubErrorKind::Refused),
        ] {
            let error = HubError::io("open running", &io::Error::from_raw_os_error(number));
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().starts_with("cannot open running: "), "{error}");
        }
    }
}
