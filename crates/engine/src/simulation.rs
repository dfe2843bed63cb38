//! A whole hub on one thread, under a virtual clock and a seeded scheduler.
//!
//! The partitions, their turns and the store's contract are the product's own; only threads, the
//! async runtime and the wall clock are replaced. Between any two steps a crash may come: what
//! was not appended is gone, what was appended is recovered. Test hubs and the simulator of the
//! project are built on this.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dalsegno_core::limiter::LimiterRule;
use dalsegno_core::limits::Limits;
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::store::{Commit, CommitError, Store};
use dalsegno_core::{EntityId, Epoch, ExecutionKey, InstanceId, PartitionId, Payload, TaskId, Timestamp};
use futures::future::BoxFuture;
use hashbrown::HashSet;

use crate::choices::ChoiceTree;
use crate::committer::append;
use crate::executor::{
    ActivityRequest, AttemptOutcome, CancelReason, Cancellation, Executor, Heartbeats, OperationsEnded,
    TurnAddress, TurnAnswer, cancellation,
};
use crate::input::{AttemptRun, Command, Input, Load};
use crate::limiters::{Admitted, BucketName, Limiters};
use crate::loader;
use crate::marks::Suspects;
use crate::partition::{Counters, Entropy, Numbers, Partition, PartitionConfig, Step, partition_of};
use crate::record;
use crate::request::Answer;
use crate::task::TaskRecord;
use crate::turn::{Effect, Reply, Turn};

/// How a simulated hub is made.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Same seed, same run.
    pub seed: u64,
    /// When its clock begins.
    pub start: Timestamp,
    /// The hub's limits.
    pub limits: Limits,
    /// How often an attempt's end is reported twice, 0 to 1.
    pub duplicates: f64,
    /// Limiters.
    pub limiters: Vec<(Arc<str>, LimiterRule)>,
    /// Whose code ran when the simulated process died.
    pub suspects: Suspects,
    /// Most turns in one batch; 0 for as many as there are.
    pub batch_turns_max: usize,
    /// Who chooses what happens next, instead of the seed.
    pub choices: Option<Arc<Mutex<ChoiceTree>>>,
    /// What is due may happen while other things are under way, such as a write to a slow disk; else it
    /// happens when nothing else does.
    pub wakes_when_due: bool,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            start: Timestamp::from_micros(1_767_225_600_000_000),
            limits: Limits::default(),
            duplicates: 0.0,
            limiters: Vec::new(),
            suspects: Suspects::default(),
            batch_turns_max: 0,
            choices: None,
            wakes_when_due: false,
        }
    }
}

/// An answer that may come.
#[derive(Debug)]
pub struct Promise<T>(Arc<Mutex<Option<Answer<T>>>>);

impl<T> Promise<T> {
    /// The answer, once; `None` while it has not come.
    pub fn take(&self) -> Option<Answer<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn promise<T: Send + 'static>() -> (Reply<T>, Promise<T>) {
    let place = Arc::new(Mutex::new(None));
    let answered = place.clone();
    let reply = Reply::new(move |answer| {
        *answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    });
    (reply, Promise(place))
}

/// Runs one attempt to its end.
pub type RunAttempt =
    Box<dyn FnMut(&ActivityRequest, BoxFuture<'static, AttemptOutcome>) -> AttemptOutcome + Send>;

/// Runs one entity operation that does I/O to its end.
pub type RunOperation = Box<dyn FnMut(BoxFuture<'static, OperationsEnded>) -> OperationsEnded + Send>;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Something moved.
    Moved,
    /// Nothing moves before this time.
    WaitsUntil(Timestamp),
    /// Nothing will move by itself.
    Idle,
}

/// See the module.
pub struct SimHub {
    executor: Arc<dyn Executor>,
    store: Arc<dyn Store>,
    epoch: Epoch,
    now: Timestamp,
    entropy: Entropy,
    partitions: Vec<Partition>,
    durable: Vec<Arc<AtomicU64>>,
    inboxes: Vec<VecDeque<Input>>,
    loads: Vec<(usize, Load)>,
    /// In the queue, not yet durable.
    turns: VecDeque<(usize, Turn)>,
    /// Turns at the front of the queue that are being appended, with their commits: a batch that
    /// was certainly not written is tried again as it is.
    batch: Option<(usize, Vec<Commit>)>,
    /// The store said that this process must not go on.
    is_over: bool,
    /// Durable, not yet let out.
    effects: VecDeque<(usize, Effect)>,
    running: Vec<Admitted>,
    /// Those among them that were told to end.
    told: HashSet<(ExecutionKey, TaskId)>,
    operations: Vec<(EntityId, BoxFuture<'static, OperationsEnded>)>,
    limiters: Limiters,
    duplicates: f64,
    batch_turns_max: usize,
    wakes_when_due: bool,
    chooser: Option<Arc<Mutex<ChoiceTree>>>,
    run_attempt: RunAttempt,
    run_operation: RunOperation,
    /// Attempts that were run, whatever came of them.
    pub attempts_run: u64,
}

impl fmt::Debug for SimHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimHub")
            .field("now", &self.now)
            .field("turns", &self.turns)
            .finish_non_exhaustive()
    }
}

/// The kinds of thing that may happen next.
#[derive(Clone, Copy)]
enum Choice {
    Deliver(usize),
    Step(usize),
    Commit,
    Release,
    Load(usize),
    EndAttempt(usize),
    EndOperation(usize),
}

impl SimHub {
    /// Opens a hub on a store, as after any start.
    ///
    /// # Errors
    /// When the store holds what cannot be read.
    pub fn open(
        store: Arc<dyn Store>,
        executor: Arc<dyn Executor>,
        options: SimOptions,
        run_attempt: RunAttempt,
        run_operation: RunOperation,
    ) -> Result<Self, String> {
        let loaded = store.load_hub().map_err(|error| error.to_string())?;
        let count = loaded.partitions as usize;
        let mut hub = Self {
            executor,
            store,
            epoch: loaded.epoch,
            now: options.start,
            entropy: Entropy::seeded(options.seed),
            partitions: Vec::new(),
            durable: (0..count).map(|_| Arc::default()).collect(),
            inboxes: (0..count).map(|_| VecDeque::new()).collect(),
            loads: Vec::new(),
            turns: VecDeque::new(),
            batch: None,
            is_over: false,
            effects: VecDeque::new(),
            running: Vec::new(),
            told: HashSet::new(),
            operations: Vec::new(),
            duplicates: options.duplicates,
            batch_turns_max: options.batch_turns_max,
            chooser: options.choices,
            wakes_when_due: options.wakes_when_due,
            limiters: Limiters::new(options.limiters.iter().cloned()),
            run_attempt,
            run_operation,
            attempts_run: 0,
        };
        hub.recover(&loaded, Arc::new(options.limits), &options.suspects)?;
        Ok(hub)
    }

    fn recover(
        &mut self,
        loaded: &dalsegno_core::store::HubLoaded,
        limits: Arc<Limits>,
        suspects: &Suspects,
    ) -> Result<(), String> {
        let numbers = Arc::new(Numbers::after(loaded.key_max, loaded.message_max));
        for index in 0..loaded.partitions {
            let config = PartitionConfig {
                id: PartitionId(index),
                partitions: loaded.partitions,
                limits: limits.clone(),
                executor: self.executor.clone(),
                numbers: numbers.clone(),
                durable: self.durable[index as usize].clone(),
                webhooks: None,
                changes: Default::default(),
                meters: Default::default(),
                traces: None,
            };
            let mut partition = Partition::new(config, Entropy::seeded(self.entropy.next_u64()));
            let open = loader::load(&*self.store, PartitionId(index)).map_err(|error| error.to_string())?;
            partition
                .recover(open, suspects, self.now)
                .map_err(|error| error.to_string())?;
            self.partitions.push(partition);
        }
        for (limiter, key, data) in &loaded.limiters {
            let Some(rule) = self.limiters.rule(limiter) else {
                continue;
            };
            let bucket = record::decode_bucket(data).map_err(|error| error.to_string())?;
            let name = BucketName {
                limiter: limiter.clone(),
                key: key.clone(),
            };
            let place = name.partition(loaded.partitions).0 as usize;
            self.partitions[place].restore_bucket(name, rule, bucket);
        }
        for index in 0..self.partitions.len() {
            self.carry_away(index);
        }
        Ok(())
    }

    /// Activities that run at this moment: those that are suspected if the process died now.
    pub fn running_tasks(&self) -> impl Iterator<Item = (ExecutionKey, TaskId)> + '_ {
        let running = self.running.iter();
        running.map(|admitted| (admitted.record.key, admitted.record.task))
    }

    /// How many entities are in memory.
    pub fn entities_in_memory(&self) -> usize {
        self.partitions.iter().map(Partition::entities_in_memory).sum()
    }

    /// The virtual time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The store, as it is now.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What happened in all partitions.
    pub fn counters(&self) -> Counters {
        self.partitions
            .iter()
            .fold(Counters::default(), |sum, partition| {
                sum.plus(&partition.counters)
            })
    }

    /// Asks something of the partition of an id (`@name@key` for entities).
    pub fn ask<T: Send + 'static>(
        &mut self,
        id: &str,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Promise<T> {
        let (reply, promise) = promise();
        let partition = self.partition_of(id);
        self.inboxes[partition].push_back(Input::Command(command(reply)));
        promise
    }

    /// Code that runs elsewhere has answered a turn, see [`TaskHub::end_turn`](crate::TaskHub::end_turn).
    pub fn end_turn(&mut self, turn: TurnAddress, answer: TurnAnswer) -> Promise<bool> {
        let (reply, promise) = promise();
        let partition = self.partition_of(turn.instance.as_str());
        self.inboxes[partition].push_back(Input::TurnEnded { turn, answer, reply });
        promise
    }

    fn partition_of(&self, id: &str) -> usize {
        PartitionId::of(id, self.partitions.len() as u32).0 as usize
    }

    /// Lets one thing happen, chosen by the seed among all that may.
    ///
    /// # Errors
    /// When the store refuses a batch. After [`CommitError::NotApplied`] a later step tries it
    /// again; after any other the process is over, see [`SimHub::is_over`].
    pub fn step(&mut self) -> Result<Stepped, CommitError> {
        if self.is_over {
            return Ok(Stepped::Idle);
        }
        let choices = self.choices();
        if choices.is_empty() {
            let due = self.partitions.iter().filter_map(Partition::next_due).min();
            return Ok(match due {
                Some(due) if due > self.now => Stepped::WaitsUntil(due),
                Some(_) => {
                    (0..self.partitions.len()).for_each(|index| self.step_partition(index));
                    Stepped::Moved
                }
                None => Stepped::Idle,
            });
        }
        let chosen = choices[self.pick(choices.len())];
        self.perform(chosen)?;
        Ok(Stepped::Moved)
    }

    fn pick(&mut self, count: usize) -> usize {
        if let Some(chooser) = &self.chooser {
            let mut tree = chooser.lock().unwrap_or_else(PoisonError::into_inner);
            return tree.choose(count);
        }
        (self.entropy.next_u64() % count as u64) as usize
    }

    fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (index, partition) in self.partitions.iter().enumerate() {
            if !self.inboxes[index].is_empty() {
                choices.push(Choice::Deliver(index));
            }
            let is_due = || partition.next_due().is_some_and(|due| due <= self.now);
            if partition.is_ready() || (self.wakes_when_due && is_due()) {
                choices.push(Choice::Step(index));
            }
        }
        if !self.turns.is_empty() {
            choices.push(Choice::Commit);
        }
        if !self.effects.is_empty() {
            choices.push(Choice::Release);
        }
        choices.extend((0..self.loads.len()).map(Choice::Load));
        choices.extend((0..self.running.len()).map(Choice::EndAttempt));
        choices.extend((0..self.operations.len()).map(Choice::EndOperation));
        choices
    }

    fn perform(&mut self, choice: Choice) -> Result<(), CommitError> {
        match choice {
            Choice::Deliver(index) => {
                if let Some(input) = self.inboxes[index].pop_front() {
                    self.partitions[index].take(input, self.now);
                    self.carry_away(index);
                }
            }
            Choice::Step(index) => self.step_partition(index),
            Choice::Commit => return self.commit(),
            Choice::Release => {
                if let Some((index, effect)) = self.effects.pop_front() {
                    self.release(index, effect);
                }
            }
            Choice::Load(at) => {
                let (index, load) = self.loads.swap_remove(at);
                self.inboxes[index].push_back(Input::Loaded(Box::new(loader::read(&*self.store, load))));
            }
            Choice::EndAttempt(at) => {
                let admitted = self.running.swap_remove(at);
                self.attempt(admitted);
            }
            Choice::EndOperation(at) => {
                let (entity, future) = self.operations.swap_remove(at);
                let ended = (self.run_operation)(future);
                let partition = PartitionId::of(&entity.to_string(), self.partitions.len() as u32).0 as usize;
                self.inboxes[partition].push_back(Input::OperationsEnded { entity, ended });
            }
        }
        Ok(())
    }

    fn step_partition(&mut self, index: usize) {
        let partition = &mut self.partitions[index];
        if let Step::Run(job) = partition.step(self.now) {
            let mut next = Some(job);
            while let Some(job) = next {
                next = partition.finish(job.run(&*self.executor));
            }
        }
        self.carry_away(index);
    }

    /// As the real shell does it: first the queue, then the receivers.
    fn carry_away(&mut self, index: usize) {
        let outbox = self.partitions[index].take_outbox();
        for mut turn in outbox.turns {
            let deliveries = std::mem::take(&mut turn.deliveries);
            if planted::has(Bug::EffectBeforeSync) {
                self.effects
                    .extend(turn.effects.drain(..).map(|effect| (index, effect)));
            }
            self.turns.push_back((index, turn));
            for delivery in deliveries {
                let place = partition_of(&delivery.target, self.partitions.len() as u32).0 as usize;
                self.inboxes[place].push_back(Input::Deliver(delivery));
            }
        }
        self.loads
            .extend(outbox.loads.into_iter().map(|load| (index, load)));
    }

    /// Makes some of the queue durable: at least one turn, by the seed up to all.
    fn commit(&mut self) -> Result<(), CommitError> {
        let (count, mut commits) = match self.batch.take() {
            Some(batch) => batch,
            None => self.gather(),
        };
        if let Err(error) = append(&*self.store, &mut commits) {
            if matches!(error, CommitError::NotApplied(_)) {
                self.batch = Some((count, commits));
            } else {
                self.end();
            }
            return Err(error);
        }
        for (index, turn) in self.turns.drain(..count) {
            self.durable[index].store(turn.number, Ordering::Release);
            self.effects
                .extend(turn.effects.into_iter().map(|effect| (index, effect)));
        }
        Ok(())
    }

    /// Takes the commits of the first turns in the queue.
    fn gather(&mut self) -> (usize, Vec<Commit>) {
        let most = match self.batch_turns_max {
            0 => self.turns.len(),
            most => most.min(self.turns.len()),
        };
        let count = 1 + self.pick(most);
        let mut commits = Vec::new();
        for (index, turn) in self.turns.iter_mut().take(count) {
            if !turn.ops.is_empty() {
                commits.push(Commit {
                    partition: PartitionId(*index as u32),
                    epoch: self.epoch,
                    ops: std::mem::take(&mut turn.ops),
                });
            }
        }
        (count, commits)
    }

    /// As the real process ends: nothing that waits is ever let out.
    fn end(&mut self) {
        self.is_over = true;
        self.turns.clear();
        self.effects.clear();
        self.running.clear();
        self.told.clear();
        self.operations.clear();
        self.loads.clear();
    }

    /// Has the store made the process end? Then nothing moves any more, and recovery is the way on.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    fn release(&mut self, index: usize, effect: Effect) {
        match effect {
            Effect::Dispatch(record) => self.dispatch(record),
            Effect::Run(admitted) => self.running.push(admitted),
            Effect::SendTurn(sender) => sender.send(),
            Effect::WithdrawTurn(turn) => self.executor.withdraw(&turn),
            Effect::Cancel { key, task } => self.cancel(key, task),
            Effect::Tell { instance, key, task } => self.tell(index, instance, key, task),
            Effect::RunOperation { entity, future } => self.operations.push((entity, future)),
            Effect::Answer(give) => give(),
            Effect::Nudge => self.inboxes[index].push_back(Input::Nudge),
        }
    }

    fn cancel(&mut self, key: ExecutionKey, task: TaskId) {
        let found = self
            .running
            .iter()
            .position(|admitted| (admitted.record.key, admitted.record.task) == (key, task));
        if let Some(admitted) = found.map(|at| self.running.swap_remove(at)) {
            self.give_back(admitted.bucket);
        }
    }

    /// One that runs goes on and its outcome counts, or it is withdrawn: both happen.
    fn tell(&mut self, index: usize, instance: InstanceId, key: ExecutionKey, task: TaskId) {
        let is_running = self
            .running
            .iter()
            .any(|admitted| (admitted.record.key, admitted.record.task) == (key, task));
        if is_running && self.entropy.share() < 0.5 {
            self.told.insert((key, task));
            return;
        }
        self.cancel(key, task);
        self.inboxes[index].push_back(Input::TaskWithdrawn { instance, key, task });
    }

    fn give_back(&mut self, bucket: Option<BucketName>) {
        if let Some(bucket) = bucket {
            self.send_to_limiter(&bucket, Input::GiveBack(bucket.clone()));
        }
    }

    fn dispatch(&mut self, record: Arc<TaskRecord>) {
        let Some(settings) = self.executor.activity_settings(&record.name) else {
            return;
        };
        match self.limiters.ask(&*self.executor, settings, &record) {
            Some(ask) => self.send_to_limiter(&ask.bucket.clone(), Input::Acquire(ask)),
            None => self.running.push(Admitted { record, bucket: None }),
        }
    }

    fn send_to_limiter(&mut self, bucket: &BucketName, input: Input) {
        let place = bucket.partition(self.durable.len() as u32).0 as usize;
        self.inboxes[place].push_back(input);
    }

    fn attempt(&mut self, admitted: Admitted) {
        let record = &admitted.record;
        self.attempts_run += 1;
        let heartbeats = Heartbeats::default();
        let (mut canceller, mut cancelled) = (None, Cancellation::never());
        if self.told.remove(&(record.key, record.task)) {
            let (tells, told) = cancellation();
            tells.cancel(CancelReason::Requested);
            (canceller, cancelled) = (Some(tells), told);
        }
        let request = ActivityRequest::new(record, cancelled, heartbeats.clone());
        let future = self.executor.run_activity(request.clone());
        let outcome = (self.run_attempt)(&request, future);
        drop(canceller);
        let run = AttemptRun {
            worker: "simulation".into(),
            took: Duration::ZERO,
            receipt: request.receipt,
        };
        self.report(admitted, outcome, heartbeats.latest().details, run);
    }

    fn report(
        &mut self,
        admitted: Admitted,
        outcome: AttemptOutcome,
        heartbeat: Option<Payload>,
        run: AttemptRun,
    ) {
        if let AttemptOutcome::Limited { retry_after } = outcome
            && let Some(ask) = self.limiters.ask_again(&admitted)
        {
            return self.send_to_limiter(&ask.bucket.clone(), Input::Shut { ask, retry_after });
        }
        let Admitted { record, bucket } = admitted;
        self.give_back(bucket);
        let place = PartitionId::of(record.instance.as_str(), self.partitions.len() as u32).0 as usize;
        let ended = |record| Input::AttemptEnded {
            record,
            outcome: outcome.clone(),
            heartbeat: heartbeat.clone(),
            run: run.clone(),
        };
        if self.entropy.share() < self.duplicates {
            self.inboxes[place].push_back(ended(record.clone()));
        }
        self.inboxes[place].push_back(ended(record));
    }

    /// Lets time pass; what becomes due happens in the next steps.
    pub fn advance(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    /// Steps until nothing moves; the clock jumps to what is due up to `until`.
    ///
    /// # Errors
    /// When the store refuses a batch.
    pub fn run(&mut self, until: Timestamp) -> Result<(), CommitError> {
        loop {
            match self.step()? {
                Stepped::Moved => {}
                Stepped::WaitsUntil(due) if due <= until => self.now = due,
                Stepped::WaitsUntil(_) | Stepped::Idle => return Ok(()),
            }
        }
    }
}
