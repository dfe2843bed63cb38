//! One partition: the instances and entities whose ids hash to it, and all that moves them.
//!
//! Plain data and functions: no thread, clock, disk or lock. A shell feeds [`Partition::take`],
//! calls [`Partition::step`] while it does something, and carries away what collects in the
//! outbox. The simulator and the test hub are two other shells around the same code.

mod commands;
mod damage;
mod deliveries;
mod entities;
mod entity_cache;
mod explain;
mod instances;
mod job;
mod late;
mod limiters;
mod measure;
mod notes;
mod parking;
mod poison;
mod remote;
mod residence;
mod rewind;
mod sizes;
mod slot;
mod starts;
mod tasks;
mod timers;
mod traces;
mod turns;
mod values;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dalsegno_core::limits::Limits;
use dalsegno_core::message::Target;
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::store::{self, Op, TimerRow};
use dalsegno_core::{
    EntityId, ExecutionId, ExecutionKey, Fault, InstanceId, Message, PartitionId, TaskId, Timestamp,
};
use hashbrown::{HashMap, HashSet};

use self::deliveries::Deliveries;
use self::entities::EntitySlot;
use self::entity_cache::EntityCache;
use self::job::Running;
use self::limiters::LimiterBank;
use self::slot::{Futures, Item, Slot, Waiter};
use self::tasks::TOLD;
use crate::changes::ChangeSender;
use crate::executor::Executor;
use crate::input::{Command, Input, Load};
use crate::marks::Suspects;
use crate::meters::Meters;
use crate::record;
use crate::task::{ChildRecord, StoredTask, TaskRecord};
use crate::traces::Traces;
use crate::turn::{Delivery, Effect, Turn};
use crate::webhooks::{DELIVERY, GIVEN_UP, Webhooks};

pub(crate) use self::explain::{in_words, parked};
pub use self::job::{Done, Job};

/// Numbers that are unique in a hub. Shared by its partitions.
#[derive(Debug)]
pub struct Numbers {
    keys: AtomicU64,
    messages: AtomicU64,
}

impl Numbers {
    /// Goes on behind the highest ones in use.
    pub fn after(key_max: ExecutionKey, message_max: u64) -> Self {
        Self {
            keys: AtomicU64::new(key_max.0 + 1),
            messages: AtomicU64::new(message_max + 1),
        }
    }

    fn next_key(&self) -> ExecutionKey {
        ExecutionKey(self.keys.fetch_add(1, Ordering::Relaxed))
    }

    fn next_message(&self) -> u64 {
        self.messages.fetch_add(1, Ordering::Relaxed)
    }
}

/// Where random bits come from; seeded in simulation.
#[derive(Debug)]
pub struct Entropy(u64);

impl Entropy {
    /// The same seed gives the same bits.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64, by Sebastiano Vigna (public domain): good enough for ids and jitter.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1.
    pub fn share(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn execution_id(&mut self) -> ExecutionId {
        ExecutionId(u128::from(self.next_u64()) << 64 | u128::from(self.next_u64()))
    }
}

/// What a partition is told when it is made.
#[derive(Clone, Debug)]
pub struct PartitionConfig {
    /// Which one.
    pub id: PartitionId,
    /// How many there are in the hub.
    pub partitions: u32,
    /// The hub's limits.
    pub limits: Arc<Limits>,
    /// The user's code.
    pub executor: Arc<dyn Executor>,
    /// The hub's numbers.
    pub numbers: Arc<Numbers>,
    /// The highest turn of this partition that is durable; the committer raises it.
    pub durable: Arc<AtomicU64>,
    /// Who is told of statuses; nobody when `None`.
    pub webhooks: Option<Arc<dyn Webhooks>>,
    /// Where the changes of rows are told.
    pub changes: ChangeSender,
    /// What the hub measures.
    pub meters: Arc<Meters>,
    /// Who tells tracing systems of what instances did; nobody when `None`.
    pub traces: Option<Arc<dyn Traces>>,
}

/// Things that happened and that nobody else counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Turns with code.
    pub turns: u64,
    /// Messages for executions and tasks that are no more.
    pub dropped_messages: u64,
    /// Futures that left memory.
    pub evictions: u64,
    /// Histories replayed.
    pub replays: u64,
    /// Turns that ended in a fault.
    pub faults: u64,
}

impl Counters {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            turns: self.turns + other.turns,
            dropped_messages: self.dropped_messages + other.dropped_messages,
            evictions: self.evictions + other.evictions,
            replays: self.replays + other.replays,
            faults: self.faults + other.faults,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Partition {
    config: PartitionConfig,
    entropy: Entropy,
    now: Timestamp,
    slots: HashMap<InstanceId, Slot>,
    /// Of executions that are resident or read again.
    keys: HashMap<ExecutionKey, InstanceId>,
    entities: HashMap<EntityId, EntitySlot>,
    entity_cache: EntityCache,
    /// Entities that cannot be read, and why.
    damaged_entities: HashMap<EntityId, String>,
    timers: BTreeSet<TimerRow>,
    /// Timers that fired and whose instance the store is asked for.
    fired: HashMap<ExecutionKey, Vec<TimerRow>>,
    /// Failed attempts of each open activity. A report of another attempt, or of an activity that
    /// was cancelled meanwhile, leads to no further attempt.
    attempts: HashMap<(ExecutionKey, TaskId), u32>,
    /// Tasks whose next attempt has a time.
    retries: BTreeMap<(Timestamp, ExecutionKey, TaskId), StoredTask>,
    /// Signals for later, by time and message number.
    delayed: BTreeMap<(Timestamp, u64), Delivery>,
    children: BTreeMap<(ExecutionKey, TaskId), ChildRecord>,
    limiters: LimiterBank,
    deliveries: Deliveries,
    waiters: HashMap<InstanceId, Vec<Waiter>>,
    ready: VecDeque<Target>,
    /// Slots that may leave memory once this turn is durable.
    settling: VecDeque<(u64, InstanceId)>,
    /// Instances to be read again once this turn is durable.
    reloads: VecDeque<(u64, Load)>,
    /// Reads that failed, by the time when they are tried again.
    rereads: VecDeque<(Timestamp, Load)>,
    futures: Futures,
    /// Instances and entities whose code ran when the process died, until they are met.
    suspects: HashSet<String>,
    /// What the job that is out left here.
    running: Option<Running>,
    turns_made: u64,
    /// Numbers the turns of code.
    turns_begun: u64,
    outbox: Outbox,
    /// What happened.
    pub counters: Counters,
}

/// So much room is kept in an outbox for the turns to come.
const OUTBOX_TURNS_KEPT: usize = 1_024;

/// What waits to be carried away.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Turns, in order.
    pub turns: Vec<Turn>,
    /// Reads, off this thread.
    pub loads: Vec<Load>,
}

impl Partition {
    /// An empty one; [`Partition::recover`] fills it.
    pub fn new(config: PartitionConfig, entropy: Entropy) -> Self {
        let bytes_max = config.limits.futures_bytes_max / config.partitions.max(1) as usize;
        let futures = Futures::new(bytes_max);
        Self {
            config,
            entropy,
            now: Timestamp::from_micros(0),
            slots: HashMap::new(),
            keys: HashMap::new(),
            entities: HashMap::new(),
            entity_cache: EntityCache::new(bytes_max),
            damaged_entities: HashMap::new(),
            timers: BTreeSet::new(),
            fired: HashMap::new(),
            attempts: HashMap::new(),
            retries: BTreeMap::new(),
            delayed: BTreeMap::new(),
            children: BTreeMap::new(),
            limiters: LimiterBank::default(),
            deliveries: Deliveries::default(),
            waiters: HashMap::new(),
            ready: VecDeque::new(),
            settling: VecDeque::new(),
            reloads: VecDeque::new(),
            rereads: VecDeque::new(),
            futures,
            suspects: HashSet::new(),
            running: None,
            turns_made: 0,
            turns_begun: 0,
            outbox: Outbox::default(),
            counters: Counters::default(),
        }
    }

    /// Which one it is.
    pub fn id(&self) -> PartitionId {
        self.config.id
    }

    /// Takes up what was open before a restart. The only way a partition starts. Suspected is
    /// whose code ran when the process died.
    ///
    /// # Errors
    /// When a stored record cannot be read; the text names it.
    pub fn recover(
        &mut self,
        loaded: store::Loaded,
        suspects: &Suspects,
        now: Timestamp,
    ) -> Result<(), record::RecordError> {
        self.now = now;
        self.suspect(suspects);
        for row in loaded.busy_entities {
            let name = row.id.clone();
            self.restore_entity(row)
                .map_err(|error| error.of(format_args!("entity {name}")))?;
        }
        for (sequence, data) in loaded.messages {
            let (target, message) = record::decode_message(&data)
                .map_err(|error| error.of(format_args!("message {sequence}")))?;
            self.deliver(Delivery {
                target,
                sequence,
                message,
            });
        }
        self.timers.extend(loaded.timers);
        let mut turn = Turn::default();
        for (key, task, data) in loaded.tasks {
            let is_suspect = suspects.tasks.contains(&(key, task));
            let stored = record::decode_task(key, task, &data)
                .map_err(|error| error.of(format_args!("task {task} of execution {}", key.0)))?;
            if let StoredTask::Activity(record) = &stored
                && matches!(&*record.name, DELIVERY | GIVEN_UP)
            {
                self.restore_delivery(record.clone());
                continue;
            }
            self.restore_task(stored, (key, task), is_suspect, &mut turn);
        }
        self.restore_deliveries(&mut turn);
        self.push_turn(turn);
        for id in loaded.parked {
            self.push_item(id, Item::TryAgain);
        }
        Ok(())
    }

    fn restore_task(
        &mut self,
        stored: StoredTask,
        (key, task): (ExecutionKey, TaskId),
        is_suspect: bool,
        turn: &mut Turn,
    ) {
        let due = match &stored {
            StoredTask::Activity(record) => {
                self.attempts.insert((key, task), record.failed_attempts);
                record.due
            }
            StoredTask::Child(child) => {
                self.children.insert((key, task), child.clone());
                child.due
            }
            StoredTask::Told(instance) => {
                self.attempts.insert((key, task), TOLD);
                if !planted::has(Bug::ToldTaskForgotten) {
                    self.withdraw_task(instance.clone(), key, task);
                }
                None
            }
        };
        match (due, stored) {
            // The retry that was due then is what ran.
            (_, StoredTask::Activity(mut record)) if is_suspect => {
                record.due = None;
                self.restore_activity(record, is_suspect, turn);
            }
            (Some(due), stored) => drop(self.retries.insert((due, key, task), stored)),
            (None, StoredTask::Activity(record)) => self.restore_activity(record, is_suspect, turn),
            (None, StoredTask::Child(_) | StoredTask::Told(_)) => {}
        }
    }

    /// Takes one thing in. Nothing runs yet.
    pub fn take(&mut self, input: Input, now: Timestamp) {
        self.now = self.now.max(now);
        match input {
            Input::Command(command) => self.take_command(command),
            Input::Deliver(delivery) => self.deliver(delivery),
            Input::AttemptEnded {
                record,
                outcome,
                heartbeat,
                run,
            } => self.end_attempt(record, outcome, heartbeat, run),
            Input::TurnEnded { turn, answer, reply } => self.end_away_turn(&turn, answer, reply),
            Input::TaskWithdrawn { instance, key, task } => self.withdraw_task(instance, key, task),
            Input::OperationsEnded { entity, ended } => self.end_operations(&entity, ended),
            Input::Loaded(loaded) => self.take_loaded(*loaded),
            Input::Acquire(ask) => self.acquire(ask),
            Input::GiveBack(bucket) => self.give_back(&bucket),
            Input::Shut { ask, retry_after } => self.shut(ask, retry_after),
            Input::RuleChanged { limiter, rule } => self.change_rule(&limiter, &rule),
            Input::Nudge => {}
        }
    }

    /// Does what is due and runs one turn, or begins it: the job is run by the caller, who holds
    /// nothing of the partition meanwhile. `None` with an idle partition means nothing to do.
    pub fn step(&mut self, now: Timestamp) -> Step {
        self.now = self.now.max(now);
        self.fire_due();
        self.settle();
        let Some(target) = self.ready.pop_front() else {
            return Step::Idle;
        };
        let job = match target {
            Target::Orchestration(id) => self.process_instance(&id),
            Target::Entity(id) => self.process_entity(&id),
        };
        job.map_or(Step::Moved, Step::Run)
    }

    /// Takes what the code said. An entity may have its next operation run in the same turn:
    /// nothing else may be done with the partition before that.
    pub fn finish(&mut self, done: Done) -> Option<Job> {
        match (self.running.take()?, done) {
            (Running::Turn(running), Done::Turn(done)) => {
                self.finish_turn(running, done);
                None
            }
            (Running::Operation(turn), Done::Operation(run)) => self.finish_operation(turn, run),
            _ => None,
        }
    }

    /// Goes on without the job that is out: its code has taken too long and may never come back.
    /// The orchestration is parked; the operation fails.
    pub fn abandon(&mut self, fault: Fault) {
        match self.running.take() {
            Some(Running::Turn(running)) => self.abandon_turn(running, fault),
            Some(Running::Operation(turn)) => self.abandon_operation(turn, &fault),
            None => {}
        }
    }

    /// What collected since the last time.
    pub fn take_outbox(&mut self) -> Outbox {
        std::mem::take(&mut self.outbox)
    }

    /// Takes back an outbox that was emptied: its room is used again.
    pub fn return_outbox(&mut self, emptied: Outbox) {
        if self.outbox.turns.is_empty() && emptied.turns.capacity() <= OUTBOX_TURNS_KEPT {
            self.outbox.turns = emptied.turns;
        }
    }

    /// When the clock alone makes something due.
    pub fn next_due(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|timer| timer.due);
        let retry = self.retries.keys().next().map(|(due, ..)| *due);
        let delayed = self.delayed.keys().next().map(|(due, _)| *due);
        let reread = self.rereads.front().map(|(due, _)| *due);
        [timer, retry, delayed, reread, self.limiters.next_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Is something waiting to be processed?
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty() || self.can_settle()
    }

    fn durable(&self) -> u64 {
        self.config.durable.load(Ordering::Acquire)
    }

    fn deliver(&mut self, delivery: Delivery) {
        if let Message::Operation { at: Some(at), .. } = &delivery.message
            && *at > self.now
        {
            self.delayed.insert((*at, delivery.sequence), delivery);
            return;
        }
        let Delivery {
            target,
            sequence,
            message,
        } = delivery;
        if self.retry_child(Some(sequence), &message) {
            return;
        }
        let item = Item::message(Some(sequence), message);
        match target {
            Target::Orchestration(id) => self.push_item(id, item),
            Target::Entity(id) => self.push_entity_item(id, item),
        }
    }

    fn take_command(&mut self, command: Command) {
        match command {
            Command::Signal {
                entity,
                operation,
                input,
                at,
                trace,
                reply,
            } => {
                let message = Message::Operation {
                    operation,
                    input,
                    caller: None,
                    at,
                    trace,
                };
                self.take_signal(entity, message, reply);
            }
            Command::EntityRow { entity, reply } => self.answer_entity(&entity, reply),
            Command::EntityQueue { entity, reply } => self.answer_entity_queue(&entity, reply),
            Command::DeleteEntity { entity, reply } => {
                let command = Command::DeleteEntity {
                    entity: entity.clone(),
                    reply,
                };
                self.push_entity_item(entity, Item::Command(command));
            }
            Command::UnlockEntity {
                entity,
                holder,
                reply,
            } => {
                let command = Command::UnlockEntity {
                    entity: entity.clone(),
                    holder,
                    reply,
                };
                self.push_entity_item(entity, Item::Command(command));
            }
            Command::Measure { reply } => self.answer_measure(reply),
            Command::Limiters { reply } => self.answer_limiters(reply),
            Command::Places { instance, reply } => self.answer_places(&instance, reply),
            Command::Stuck { most, reply } => self.answer_stuck(most, reply),
            Command::Retrying { activity, reply } => self.answer_retrying(&activity, reply),
            Command::SetMeta { name, data, reply } => {
                let op = match data {
                    Some(data) => Op::PutMeta { name, data },
                    None => Op::DeleteMeta { name },
                };
                let effects = vec![reply.with(Ok(()))];
                self.push_turn(Turn {
                    ops: vec![op],
                    effects,
                    ..Turn::default()
                });
            }
            Command::Deliveries { reply } => self.answer_deliveries(reply),
            command @ (Command::Holds { .. }
            | Command::HoldsEntity { .. }
            | Command::NoteRemoved { .. }
            | Command::Forget { .. }
            | Command::ReadDamagedAgain { .. }) => self.take_repair_command(command),
            Command::Barrier { reply } => self.answer_now(reply.with(Ok(()))),
            Command::StopWaiting { id, ticket } => self.stop_waiting(&id, ticket),
            command => self.take_instance_command(command),
        }
    }

    fn answer_now(&mut self, answer: Effect) {
        self.push_turn(Turn {
            effects: vec![answer],
            ..Turn::default()
        });
    }

    /// Numbers a turn and puts it into the outbox; an empty one vanishes.
    fn push_turn(&mut self, mut turn: Turn) -> u64 {
        if turn.ops.is_empty()
            && turn.effects.is_empty()
            && turn.deliveries.is_empty()
            && turn.moves.is_empty()
        {
            return self.turns_made;
        }
        self.turns_made += 1;
        turn.number = self.turns_made;
        self.outbox.turns.push(turn);
        self.turns_made
    }

    /// Stores a message and sends it on its way, in the commit of `turn`.
    fn send(&mut self, target: Target, message: Message, turn: &mut Turn) {
        let sequence = self.config.numbers.next_message();
        let data = record::encode_message(&target, &message);
        let partition = self.partition_of(&target);
        if !planted::has(Bug::MessageNotStored) {
            turn.ops.push(Op::PutMessage {
                partition,
                seq: sequence,
                data,
            });
        }
        turn.deliveries.push(Delivery {
            target,
            sequence,
            message,
        });
    }

    fn partition_of(&self, target: &Target) -> PartitionId {
        partition_of(target, self.config.partitions)
    }

    fn put_task(&self, record: &TaskRecord) -> Op {
        let data = record::encode_activity(record);
        Op::PutTask {
            key: record.key,
            task: record.task,
            data,
        }
    }
}

/// The partition a target belongs to.
pub fn partition_of(target: &Target, partitions: u32) -> PartitionId {
    match target {
        Target::Orchestration(id) => PartitionId::of(id.as_str(), partitions),
        Target::Entity(id) => PartitionId::of(&id.to_string(), partitions),
    }
}

/// What a step came to.
#[expect(
    clippy::large_enum_variant,
    reason = "most steps are jobs, and a box would cost each of them"
)]
#[derive(Debug)]
pub enum Step {
    /// Nothing is ready.
    Idle,
    /// Something moved; there may be more.
    Moved,
    /// Code has to run: [`Job::run`], then [`Partition::finish`].
    Run(Job),
}
