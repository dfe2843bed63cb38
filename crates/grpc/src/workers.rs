//! The work that waits for workers elsewhere, and who has what.
//!
//! Work is taken by the streams, one item at a time as their connection has room for it, so what a
//! slow worker does not take stays where it is: in the engine. Every delivery has a token of its
//! own; only the last one given out can end a turn.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use dalsegno_core::span::SpanElsewhere;
use dalsegno_core::{ExecutionId, Timestamp};
use dalsegno_engine::executor::{ActivityRequest, CancelReason, EntityEffect, TurnAddress};
use dalsegno_engine::request::WorkerStatus;
use hashbrown::HashMap;
use prost::bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::owed::Owed;
use crate::filter::Filter;
use crate::outcome::Outcome;
use crate::proto;
use crate::proto::work_item::Request;
use crate::wire::{self, Locks};

/// What a worker is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A turn of an orchestrator.
    Turn,
    /// One attempt of an activity.
    Activity,
    /// Operations of an entity.
    Entity,
}

/// One piece of work.
#[derive(Debug)]
pub struct Work {
    /// What it asks for, without the past of its execution.
    pub asked: Asked,
    /// What a turn's execution has been through.
    pub past: Past,
    /// Function name; lower case for entities.
    pub name: Arc<str>,
    /// Its version, or that of its orchestration.
    pub version: Option<Arc<str>>,
    /// Who asked.
    pub instance: Arc<str>,
    /// The time of a turn: that of its first event.
    pub began: Timestamp,
    /// The activity's task.
    pub task: i32,
    /// The execution of that task.
    pub execution: ExecutionId,
    /// The locks of its execution, by the worker's names for them.
    pub locks: Locks,
    /// What is here of the answer of a turn that comes in parts.
    pub parts: Parts,
    /// Answers to it that could not be used.
    pub bad_answers: u32,
    /// Where the answer goes.
    pub answer: Pending,
}

/// What a worker is asked to do. It is made into a message when it is sent, for most work is sent once.
#[derive(Debug)]
pub enum Asked {
    /// As a message already.
    Message(Box<Request>),
    /// An attempt of an activity.
    Attempt(Box<ActivityRequest>),
}

impl Asked {
    /// The message.
    pub fn message(&self) -> Request {
        match self {
            Self::Message(message) => Request::clone(message),
            Self::Attempt(attempt) => Request::ActivityRequest(wire::activity_request(attempt)),
        }
    }
}

/// What happened in an execution before the turn, and who is known to have it.
#[derive(Debug, Default)]
pub struct Past {
    /// Its events, encoded.
    pub events: Arc<Vec<Bytes>>,
    /// Bytes of them.
    pub bytes: usize,
    /// The delivery whose answer led here.
    pub kept: Option<Delivery>,
    /// Where it is noted by which delivery this turn was answered, once it was.
    pub answered: Arc<OnceLock<Delivery>>,
    /// The span that the code tells of itself, once it has said so.
    pub span: Arc<OnceLock<SpanElsewhere>>,
    /// The last delivery was without the events, as they are [`Past::kept`].
    pub is_left_out: bool,
}

/// One sending of an item to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    stream: u64,
    item: u64,
    number: u64,
}

/// What a worker that connects can do beyond the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// It reads long histories apart from the work item.
    pub streams_history: bool,
    /// It keeps executions between their turns, and tells when it no longer has one.
    pub keeps_executions: bool,
    /// It tells activities to end.
    pub hears_cancels: bool,
}

/// From so many bytes on, a history goes apart from its work item to whoever can read it there.
const STREAMED_BYTES: usize = 1024 * 1024;

/// Parts of a turn's answer, in order.
#[derive(Debug, Default)]
pub struct Parts {
    /// Their actions.
    pub actions: Vec<proto::OrchestratorAction>,
    /// What the first one said of it.
    pub events_taken: Option<i32>,
    /// There was one.
    pub has_begun: bool,
}

/// Where the answer to a piece of work goes.
#[derive(Debug)]
pub enum Pending {
    /// To the hub, as the end of this turn.
    Turn(TurnAddress),
    /// To the attempt that waits.
    Activity(oneshot::Sender<ActivityAnswer>),
    /// To the operation that waits.
    Entity(oneshot::Sender<EntityAnswer>),
}

/// An activity's answer, and who gave it.
#[derive(Debug)]
pub struct ActivityAnswer {
    /// What it said.
    pub response: proto::ActivityResponse,
    /// Told when it is durable.
    pub outcome: Outcome,
}

/// The answer to an entity's operations.
#[derive(Debug)]
pub struct EntityAnswer {
    /// What it said, but for its actions.
    pub result: proto::EntityBatchResult,
    /// What its operations ask of others.
    pub effects: Vec<EntityEffect>,
    /// Told when it is durable.
    pub outcome: Outcome,
}

impl Work {
    /// Of which kind it is.
    pub fn kind(&self) -> Kind {
        match self.answer {
            Pending::Turn(_) => Kind::Turn,
            Pending::Activity(_) => Kind::Activity,
            Pending::Entity(_) => Kind::Entity,
        }
    }
}

/// Limits of what workers may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct WorkerLimits {
    /// Items in flight on a stream whose worker names no limit: `grpc.in_flight_default`.
    pub in_flight_default: usize,
    /// A turn or an entity's operations that are not answered for so long are given to another: `grpc.turn_timeout`.
    pub turn_timeout: Duration,
    /// Bytes of one message that is taken: `grpc.message_bytes_max`.
    pub message_bytes_max: usize,
    /// How operations of entities are sent: `grpc.entity_items`.
    pub entity_items: EntityItems,
}

/// The two forms of work items of entities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntityItems {
    /// `entityRequestV2`, which all current SDKs take.
    #[default]
    V2,
    /// `entityRequest`, for workers that know nothing else.
    V1,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        Self {
            in_flight_default: 1_000,
            turn_timeout: Duration::from_secs(300),
            message_bytes_max: 64 * 1024 * 1024,
            entity_items: EntityItems::V2,
        }
    }
}

/// Pause before abandoned work is offered again: doubles from the first to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Answers to one piece of work that cannot be used; then it is given up.
pub(crate) const BAD_ANSWERS_MAX: u32 = 10;

/// Most SDKs receive messages of so many bytes unless told otherwise: a larger one may break the stream.
const RECEIVED_BYTES: usize = 4 * 1024 * 1024;

/// Most tokens are no longer.
const TOKEN_CHARS: usize = 48;

/// Streams that may break over one large item.
const BROKEN_MAX: u32 = 2;

/// Work that workers cannot receive.
#[derive(Debug)]
pub struct TooLarge {
    /// The work, taken out.
    pub work: Work,
    /// Its size.
    pub bytes: usize,
}

/// The workers of one hub.
#[derive(Debug)]
pub struct Workers {
    limits: WorkerLimits,
    secrets: (RandomState, RandomState),
    state: Mutex<State>,
    /// Told when the first deadline may have changed.
    deadline: Notify,
}

/// Items of one kind, name and version wait in one line.
type Line = (Kind, Arc<str>, Option<Arc<str>>);

#[derive(Debug, Default)]
struct State {
    items: HashMap<u64, Item>,
    waiting: HashMap<Line, VecDeque<u64>>,
    streams: BTreeMap<u64, Stream>,
    /// Deadlines of items in flight, ends of pauses.
    due: BTreeMap<(Instant, u64), ()>,
    last_item: u64,
    last_stream: u64,
    /// The stream that was woken last.
    turn_of: u64,
    /// The items of turns, of which an instance has one at a time, and the turns' numbers.
    turns: HashMap<Arc<str>, (u64, u64)>,
    /// Answers to come from workers that name no tokens.
    owed: Owed,
    /// Answers that were taken and are not durable yet, by their items.
    settling: HashMap<u64, Settling>,
    stale: u64,
    is_draining: bool,
}

/// An answer on its way to the disk.
#[derive(Debug)]
struct Settling {
    instance: Arc<str>,
    kind: Kind,
    /// Repeats of it, which come out as it does.
    repeats: Vec<Outcome>,
}

/// The work that an answer ends.
#[derive(Debug)]
pub struct Answered {
    /// The work, taken out.
    pub work: Work,
    /// To whom it was sent, if that is known.
    pub delivery: Option<Delivery>,
    item: u64,
}

#[derive(Debug)]
struct Item {
    work: Work,
    place: Place,
    deliveries: u64,
    abandoned: u32,
    /// Streams that ended while they had it, if it is large.
    broken: u32,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Waiting,
    /// On a stream, until then.
    Flying {
        stream: u64,
        since: Instant,
        until: Option<Instant>,
    },
    Pausing {
        until: Instant,
    },
}

#[derive(Debug)]
struct Stream {
    name: String,
    filter: Filter,
    in_flight: BTreeMap<Kind, usize>,
    most: BTreeMap<Kind, usize>,
    abilities: Abilities,
    /// Its worker has named a completion token: whatever it answers without one is not for its work.
    names_tokens: bool,
    /// What it is to be told before anything else.
    cancelled: VecDeque<proto::WorkItem>,
    waker: Option<Waker>,
    /// It gets no more work.
    is_draining: bool,
}

/// What a stream is told when it looks for work.
#[derive(Debug)]
pub enum Next {
    /// This is for it.
    Item(Box<proto::WorkItem>),
    /// Nothing now; it is woken.
    Nothing,
    /// No more will come.
    Ended,
}

/// Which work an answer is for, as the worker says.
#[derive(Clone, Copy, Debug)]
pub struct AnswerTo<'a> {
    /// The token of the delivery; some workers send none.
    pub token: &'a str,
    /// What was asked.
    pub kind: Kind,
    /// Who asked; empty where the answer has no word for it.
    pub instance: &'a str,
    /// The activity's task.
    pub task: i32,
}

/// How much of an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    /// The rest follows.
    Part,
}

/// Why an answer ends nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoWork {
    /// What it is for has ended.
    Stale,
    /// Its token was never given out.
    Unknown,
    /// Its token is that of other work than the answer says, and which.
    Another(String),
}

impl Workers {
    /// Nobody yet.
    pub fn new(limits: WorkerLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            secrets: (RandomState::new(), RandomState::new()),
            state: Mutex::default(),
            deadline: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers work to whoever takes it, and returns its number.
    pub fn offer(&self, work: Work) -> u64 {
        let mut state = self.lock();
        let id = state.enter(work);
        state.line_up(id, false);
        id
    }

    /// Nobody wants the answer any more.
    pub fn withdraw(&self, id: u64) {
        self.lock().remove(id);
    }

    /// Tells an activity to end, where it runs; `false`: it is nowhere, or where nobody hears it.
    pub fn cancel(&self, id: u64, reason: CancelReason) -> bool {
        let reason = match reason {
            CancelReason::Terminated => proto::activity_cancelled::Reason::Terminated,
            CancelReason::Requested => proto::activity_cancelled::Reason::Requested,
            CancelReason::TimedOut => proto::activity_cancelled::Reason::TimedOut,
            // It goes on: a late answer counts when the hub is back.
            CancelReason::Shutdown => return false,
        };
        let mut state = self.lock();
        let Some(item) = state.items.get(&id) else {
            return false;
        };
        let Place::Flying { stream, .. } = item.place else {
            return false;
        };
        let message = proto::WorkItem {
            completion_token: self.token(id, item.deliveries),
            request: Some(proto::work_item::Request::ActivityCancelled(
                proto::ActivityCancelled {
                    reason: reason.into(),
                },
            )),
        };
        state.tell(stream, message)
    }

    /// The same, for a turn.
    pub fn withdraw_turn(&self, instance: &str, number: u64) {
        let mut state = self.lock();
        if let Some((id, of)) = state.turns.get(instance).copied()
            && of == number
        {
            state.remove(id);
        }
    }

    /// A worker connected; `most` are its limits of turns, activities and entities, 0 or less is none.
    pub fn connect(&self, name: String, filter: Filter, most: [i32; 3], abilities: Abilities) -> Option<u64> {
        let mut state = self.lock();
        if state.is_draining {
            return None;
        }
        state.last_stream += 1;
        let id = state.last_stream;
        let default = self.limits.in_flight_default;
        let limit = |wanted: i32| usize::try_from(wanted).ok().filter(|n| *n > 0).unwrap_or(default);
        let kinds = [Kind::Turn, Kind::Activity, Kind::Entity];
        let most = kinds.into_iter().zip(most.map(limit)).collect();
        state.streams.insert(
            id,
            Stream {
                name,
                filter,
                in_flight: BTreeMap::new(),
                most,
                abilities,
                // It is told of its executions by tokens.
                names_tokens: abilities.keeps_executions,
                cancelled: VecDeque::new(),
                waker: None,
                is_draining: false,
            },
        );
        Some(id)
    }

    /// Takes out the turns that nobody connected could have taken before this stream came: their time
    /// is that of when they were due, and code is to see the time at which it runs. Those that were
    /// sent once stay as they are, with what is known of their deliveries.
    pub fn take_unattended(&self, stream: u64) -> Vec<TurnAddress> {
        let mut state = self.lock();
        let Some(own) = state.streams.get(&stream) else {
            return Vec::new();
        };
        let takes = |stream: &Stream, (kind, name, version): &Line| {
            stream.filter.takes(*kind, name, version.as_deref())
        };
        let others = |line: &Line| {
            let mut others = state.streams.iter().filter(|(id, _)| **id != stream);
            others.any(|(_, other)| takes(other, line))
        };
        let unattended = |line: &Line| line.0 == Kind::Turn && takes(own, line) && !others(line);
        let lines = state.waiting.iter().filter(|(line, _)| unattended(line));
        let is_new = |id: &u64| state.items.get(id).is_some_and(|item| item.deliveries == 0);
        let mut found: Vec<u64> = lines
            .flat_map(|(_, ids)| ids.iter().copied().filter(is_new))
            .collect();
        found.sort_unstable();
        let address = |work: Work| match work.answer {
            Pending::Turn(address) => Some(address),
            Pending::Activity(_) | Pending::Entity(_) => None,
        };
        let taken = found.into_iter().filter_map(|id| state.remove(id));
        taken.filter_map(address).collect()
    }

    /// A stream is gone: what it had is for others, at once. Returned is what is too large for
    /// workers to receive, as far as can be seen: it broke two streams.
    #[must_use]
    pub fn disconnect(&self, stream: u64) -> Vec<TooLarge> {
        let mut state = self.lock();
        let gone = state.streams.remove(&stream);
        state.owed.end(stream);
        let mut lost: Vec<u64> = state
            .items
            .iter()
            .filter(|(_, item)| matches!(item.place, Place::Flying { stream: of, .. } if of == stream))
            .map(|(id, _)| *id)
            .collect();
        lost.sort_unstable_by(|a, b| b.cmp(a));
        tracing::info!(
            worker = gone.map(|stream| stream.name),
            given_back = lost.len(),
            "a worker disconnected"
        );
        let mut refused = Vec::new();
        for id in lost {
            state.land(id);
            match state.break_large(id) {
                Some(too_large) => refused.push(too_large),
                None => state.line_up(id, true),
            }
        }
        state.wake_all();
        refused
    }

    /// The next item for a stream.
    pub fn next(&self, stream: u64, waker: &Waker) -> Next {
        let mut state = self.lock();
        if state.is_draining {
            return Next::Ended;
        }
        if let Some(told) = state
            .streams
            .get_mut(&stream)
            .and_then(|stream| stream.cancelled.pop_front())
        {
            return Next::Item(Box::new(told));
        }
        let Some(id) = state.take_for(stream) else {
            if let Some(stream) = state.streams.get_mut(&stream) {
                stream.waker = Some(waker.clone());
            }
            return Next::Nothing;
        };
        let own = state.streams.get(&stream);
        let abilities = own.map(|own| own.abilities).unwrap_or_default();
        let names_tokens = own.is_some_and(|own| own.names_tokens);
        let State { items, owed, .. } = &mut *state;
        let Some(item) = items.get_mut(&id) else {
            return Next::Nothing;
        };
        item.deliveries += 1;
        item.work.parts = Parts::default();
        let kind = item.work.kind();
        let since = Instant::now();
        let until = (kind != Kind::Activity).then(|| since + self.limits.turn_timeout);
        item.place = Place::Flying { stream, since, until };
        if !names_tokens {
            let number = item.deliveries;
            let delivery = Delivery {
                stream,
                item: id,
                number,
            };
            owed.add(&item.work, delivery);
        }
        let message = proto::WorkItem {
            completion_token: self.token(id, item.deliveries),
            request: Some(self.request_for(&mut item.work, stream, abilities)),
        };
        if let Some(stream) = state.streams.get_mut(&stream) {
            *stream.in_flight.entry(kind).or_default() += 1;
        }
        if let Some(until) = until {
            state.due.insert((until, id), ());
            // Who keeps the time sleeps until the first one: later ones need not wake it.
            if state.due.keys().next() == Some(&(until, id)) {
                self.deadline.notify_one();
            }
        }
        Next::Item(Box::new(message))
    }

    /// The message with as much of the past as this worker needs.
    fn request_for(&self, work: &mut Work, stream: u64, abilities: Abilities) -> proto::work_item::Request {
        let mut message = work.asked.message();
        if let (EntityItems::V1, Request::EntityRequestV2(request)) = (self.limits.entity_items, &message) {
            return Request::EntityRequest(wire::entity_batch(request));
        }
        let proto::work_item::Request::OrchestratorRequest(request) = &mut message else {
            return message;
        };
        let past = &mut work.past;
        let is_here = |kept: &Delivery| abilities.keeps_executions && kept.stream == stream;
        let kept = past.kept.filter(is_here);
        past.is_left_out = kept.is_some();
        if let Some(kept) = kept {
            request.kept_execution = Some(proto::KeptExecution {
                completion_token: self.token(kept.item, kept.number),
                past_events: i32::try_from(past.events.len()).unwrap_or(i32::MAX),
            });
        } else if abilities.streams_history && past.bytes >= STREAMED_BYTES {
            request.requires_history_streaming = true;
        } else {
            request.past_events.clone_from(&past.events);
        }
        message
    }

    /// The past events of an instance's turn that is at a worker, with the execution's id.
    pub fn past_of(&self, instance: &str) -> Option<(Arc<Vec<Bytes>>, String)> {
        let state = self.lock();
        let (id, _) = state.turns.get(instance)?;
        let item = state.items.get(id)?;
        let is_out = matches!(item.place, Place::Flying { .. });
        let Asked::Message(message) = &item.work.asked else {
            return None;
        };
        match &**message {
            Request::OrchestratorRequest(request) if is_out => {
                let execution = request.execution_id.clone().unwrap_or_default();
                Some((item.work.past.events.clone(), execution))
            }
            _ => None,
        }
    }

    /// Takes the work that an answer is for. A late answer of an activity counts as long as there is
    /// none. Its outcome is told by what [`Workers::settle`] makes of it.
    ///
    /// # Errors
    /// Nothing is taken when the answer is too late or its token is that of other work.
    pub fn answered(&self, to: AnswerTo<'_>) -> Result<Answered, NoWork> {
        let mut state = self.lock();
        let id = self.find(&mut state, to, Extent::Whole)?;
        let item = state.items.get(&id).ok_or(NoWork::Stale)?;
        let delivered = match item.place {
            Place::Flying { stream, .. } => Some(Delivery {
                stream,
                item: id,
                number: item.deliveries,
            }),
            _ => None,
        };
        let work = state.remove(id).ok_or(NoWork::Stale)?;
        let settling = Settling {
            instance: work.instance.clone(),
            kind: to.kind,
            repeats: Vec::new(),
        };
        state.settling.insert(id, settling);
        Ok(Answered {
            work,
            delivery: delivered,
            item: id,
        })
    }

    /// The outcome of an answer that was taken, also for those who repeat it meanwhile: a repeat is
    /// acknowledged no earlier than what it repeats is durable.
    pub fn settle(self: &Arc<Self>, answered: &Answered, outcome: Outcome) -> Outcome {
        let (workers, item) = (self.clone(), answered.item);
        Outcome::new(move |result| {
            let settled = workers.lock().settling.remove(&item);
            for repeat in settled.into_iter().flat_map(|settled| settled.repeats) {
                repeat.tell(result.clone());
            }
            outcome.tell(result);
        })
    }

    /// Tells the outcome of an answer that came too late: with that of the answer which it repeats,
    /// if that one is not durable yet.
    pub fn tell_late(&self, to: AnswerTo<'_>, outcome: Outcome) {
        let item = self.read(to.token).map(|(id, _)| id);
        let is_repeat = |(id, settling): &(&u64, &mut Settling)| match item {
            Some(item) => **id == item,
            None => settling.kind == to.kind && &*settling.instance == to.instance,
        };
        let mut state = self.lock();
        match state.settling.iter_mut().find(is_repeat) {
            Some((_, settling)) => settling.repeats.push(outcome),
            None => {
                drop(state);
                outcome.tell(Ok(()));
            }
        }
    }

    /// The item that an answer is for.
    fn find(&self, state: &mut State, to: AnswerTo<'_>, extent: Extent) -> Result<u64, NoWork> {
        let found = match (to.token.is_empty(), extent) {
            (true, Extent::Whole) => state.find_unnamed(to),
            (true, Extent::Part) => state.find_part_unnamed(to),
            (false, _) => {
                let (id, delivery) = self.read(to.token).ok_or(NoWork::Unknown)?;
                state.find_named(id, delivery, to)
            }
        };
        state.stale += u64::from(found == Err(NoWork::Stale));
        found
    }

    /// Answers that came too late, since the hub was opened.
    pub fn stale(&self) -> u64 {
        self.lock().stale
    }

    /// Puts work back: it is offered again after a pause that grows.
    pub fn abandon(&self, token: &str, kind: Kind) -> Result<(), NoWork> {
        let (id, delivery) = self.read(token).ok_or(NoWork::Unknown)?;
        let mut state = self.lock();
        let is_current = |item: &Item| {
            item.work.kind() == kind
                && item.deliveries == delivery
                && matches!(item.place, Place::Flying { .. })
        };
        state.note_naming(id, delivery);
        if !state.items.get(&id).is_some_and(is_current) {
            state.stale += 1;
            return Err(NoWork::Stale);
        }
        state.land(id);
        state.pause(id);
        drop(state);
        self.deadline.notify_one();
        Ok(())
    }

    /// Work whose answer could not be used: it is offered again after a pause.
    pub fn offer_again(&self, work: Work) {
        let id = self.offer_paused(work);
        tracing::debug!(item = id, "an answer was refused; the work is offered again");
    }

    /// Work of an execution that the worker says it does not have: offered at once, with the past;
    /// after a pause, if that was sent already.
    pub fn offer_with_past(&self, mut work: Work) {
        if !work.past.is_left_out {
            return self.offer_again(work);
        }
        work.past.kept = None;
        let mut state = self.lock();
        let id = state.enter(work);
        state.line_up(id, true);
    }

    /// In one go: between an offer and a pause a stream could take it.
    fn offer_paused(&self, work: Work) -> u64 {
        let mut state = self.lock();
        let id = state.enter(work);
        state.pause(id);
        drop(state);
        self.deadline.notify_one();
        id
    }

    /// Ends pauses and takes back what is not answered; runs as long as the hub is served.
    pub async fn keep_time(self: Arc<Self>) {
        loop {
            let next = self.lock().due.keys().next().copied();
            match next {
                Some((at, _)) if at <= Instant::now() => self.lock().end_first(),
                Some((at, _)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.deadline.notified() => {}
                    }
                }
                None => self.deadline.notified().await,
            }
        }
    }

    /// Ends all streams and takes no new ones.
    pub fn drain(&self) {
        let mut state = self.lock();
        state.is_draining = true;
        state.wake_all();
    }

    /// Gives no more work to the streams of this name, until they connect anew; says how many there are.
    /// They stay open, since a worker whose stream ends connects again.
    pub fn drain_worker(&self, name: &str) -> usize {
        let mut state = self.lock();
        let own = state.streams.values_mut().filter(|stream| stream.name == name);
        let drained = own.map(|stream| stream.is_draining = true).count();
        // Work may have been meant for one of them: others look.
        state.wake_all();
        drained
    }

    /// Does it take no new streams?
    pub fn is_draining(&self) -> bool {
        self.lock().is_draining
    }

    /// The highest version of an orchestrator that a connected worker lists.
    pub fn highest_version(&self, orchestrator: &str) -> Option<Arc<str>> {
        let state = self.lock();
        let versions = state
            .streams
            .values()
            .flat_map(|stream| stream.filter.versions(orchestrator));
        versions
            .max_by(|one, other| by_number(one, other))
            .map(Into::into)
    }

    /// Who is connected.
    pub fn list(&self) -> Vec<WorkerStatus> {
        let state = self.lock();
        let count = |stream: &Stream, kind| stream.in_flight.get(&kind).copied().unwrap_or_default();
        let status = |stream: &Stream| WorkerStatus {
            name: stream.name.clone(),
            turns: count(stream, Kind::Turn),
            activities: count(stream, Kind::Activity),
            operations: count(stream, Kind::Entity),
            offers: stream.filter.offers(),
            is_draining: stream.is_draining,
        };
        state.streams.values().map(status).collect()
    }

    /// Is somebody connected who takes this activity, in some version?
    pub fn offers_activity(&self, name: &str) -> bool {
        let state = self.lock();
        state.streams.values().any(|stream| stream.filter.names(name))
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.lock().streams.len()
    }

    /// Keeps a part of a turn's answer until the rest is here.
    ///
    /// # Errors
    /// As [`Workers::answered`].
    pub fn keep_part(
        &self,
        to: AnswerTo<'_>,
        actions: Vec<proto::OrchestratorAction>,
        events_taken: Option<i32>,
    ) -> Result<(), NoWork> {
        let mut state = self.lock();
        let id = self.find(&mut state, to, Extent::Part)?;
        let item = state.items.get_mut(&id).ok_or(NoWork::Stale)?;
        let parts = &mut item.work.parts;
        parts.actions.extend(actions);
        // Only the first part tells how many events were taken.
        if !parts.has_begun {
            parts.events_taken = events_taken;
            parts.has_begun = true;
        }
        Ok(())
    }

    fn token(&self, id: u64, delivery: u64) -> String {
        let proof = self.proof(id, delivery);
        let mut token = String::with_capacity(TOKEN_CHARS);
        // A string takes whatever is written to it.
        let _ = write!(token, "{id:x}.{delivery:x}.{proof:x}");
        token
    }

    /// What only this server can know of a delivery.
    fn proof(&self, id: u64, delivery: u64) -> u128 {
        let hash = |secret: &RandomState| u128::from(secret.hash_one((id, delivery)));
        hash(&self.secrets.0) << 64 | hash(&self.secrets.1)
    }

    fn read(&self, token: &str) -> Option<(u64, u64)> {
        // One way to write each: hexadecimal numbers are also read with a sign and in capitals.
        let is_written_so = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'.');
        if !token.bytes().all(is_written_so) {
            return None;
        }
        let mut parts = token.split('.');
        let id = u64::from_str_radix(parts.next()?, 16).ok()?;
        let delivery = u64::from_str_radix(parts.next()?, 16).ok()?;
        let proof = u128::from_str_radix(parts.next()?, 16).ok()?;
        let is_ours = proof == self.proof(id, delivery) && parts.next().is_none();
        is_ours.then_some((id, delivery))
    }
}

/// Numbers between dots by their values, all else as text.
fn by_number(one: &str, other: &str) -> std::cmp::Ordering {
    let parts = |text: &str| -> Vec<(Option<u64>, String)> {
        text.split('.')
            .map(|part| (part.parse().ok(), part.to_owned()))
            .collect()
    };
    parts(one).cmp(&parts(other))
}

impl State {
    /// Numbers an item that is in no line yet.
    fn enter(&mut self, work: Work) -> u64 {
        self.last_item += 1;
        let id = self.last_item;
        if let Pending::Turn(address) = &work.answer {
            self.turns.insert(work.instance.clone(), (id, address.number));
        }
        let item = Item {
            work,
            place: Place::Waiting,
            deliveries: 0,
            abandoned: 0,
            broken: 0,
        };
        self.items.insert(id, item);
        id
    }

    /// Counts a stream that ended with a large item; takes the item out when it is the second.
    fn break_large(&mut self, id: u64) -> Option<TooLarge> {
        let item = self.items.get_mut(&id)?;
        let bytes = item.work.asked.message().encoded_len() + item.work.past.bytes;
        if bytes <= RECEIVED_BYTES {
            return None;
        }
        item.broken += 1;
        if item.broken < BROKEN_MAX {
            return None;
        }
        item.place = Place::Waiting;
        let work = self.remove(id)?;
        Some(TooLarge { work, bytes })
    }

    fn group(&self, id: u64) -> Option<Line> {
        let work = &self.items.get(&id)?.work;
        Some((work.kind(), work.name.clone(), work.version.clone()))
    }

    /// Puts an item into its line and wakes who may take it.
    fn line_up(&mut self, id: u64, is_first: bool) {
        let Some(group) = self.group(id) else { return };
        if let Some(item) = self.items.get_mut(&id) {
            item.place = Place::Waiting;
        }
        let (kind, name, version) = group.clone();
        let line = self.waiting.entry(group).or_default();
        match is_first {
            true => line.push_front(id),
            false => line.push_back(id),
        }
        self.wake_for(id, kind, &name, version.as_deref());
    }

    fn unline(&mut self, id: u64) {
        let Some(group) = self.group(id) else { return };
        if let Some(line) = self.waiting.get_mut(&group) {
            line.retain(|other| *other != id);
            if line.is_empty() {
                self.waiting.remove(&group);
            }
        }
    }

    /// Wakes the next idle stream, going round, that takes such work.
    fn wake_for(&mut self, id: u64, kind: Kind, name: &str, version: Option<&str>) {
        let takes = |stream: &Stream| {
            stream.waker.is_some()
                && stream.has_room(kind)
                && stream.filter.takes(kind, name, version)
                && self.may_have(stream, id)
        };
        let last = self.turn_of;
        let after = self.streams.range(last + 1..).find(|(_, stream)| takes(stream));
        let found = after.or_else(|| self.streams.range(..=last).find(|(_, stream)| takes(stream)));
        let Some(id) = found.map(|(id, _)| *id) else {
            return;
        };
        self.turn_of = id;
        if let Some(waker) = self.streams.get_mut(&id).and_then(|stream| stream.waker.take()) {
            waker.wake();
        }
    }

    /// Tells a stream something, if it hears it.
    fn tell(&mut self, stream: u64, message: proto::WorkItem) -> bool {
        let Some(stream) = self.streams.get_mut(&stream) else {
            return false;
        };
        if !stream.abilities.hears_cancels {
            return false;
        }
        stream.cancelled.push_back(message);
        if let Some(waker) = stream.waker.take() {
            waker.wake();
        }
        true
    }

    fn wake_all(&mut self) {
        for stream in self.streams.values_mut() {
            if let Some(waker) = stream.waker.take() {
                waker.wake();
            }
        }
    }

    /// The oldest item that a stream may take, out of its line.
    fn take_for(&mut self, stream: u64) -> Option<u64> {
        let stream = self.streams.get(&stream)?;
        let fits = |(kind, name, version): &&Line| {
            stream.has_room(*kind) && stream.filter.takes(*kind, name, version.as_deref())
        };
        let lines = self.waiting.iter().filter(|(group, _)| fits(group));
        let first = |line: &VecDeque<u64>| {
            let mut places = line.iter().copied().enumerate();
            places.find(|(_, id)| self.may_have(stream, *id))
        };
        let oldest = lines.filter_map(|(group, line)| Some((first(line)?, group)));
        let ((at, id), group) = oldest.min_by_key(|((_, id), _)| *id)?;
        let group = group.clone();
        let line = self.waiting.get_mut(&group)?;
        line.remove(at);
        if line.is_empty() {
            self.waiting.remove(&group);
        }
        Some(id)
    }

    /// An item is no longer at its stream, which has room again.
    fn land(&mut self, id: u64) {
        let Some(item) = self.items.get(&id) else { return };
        let Place::Flying { stream, until, .. } = item.place else {
            return;
        };
        let kind = item.work.kind();
        if let Some(until) = until {
            self.due.remove(&(until, id));
        }
        if let Some(stream) = self.streams.get_mut(&stream) {
            let count = stream.in_flight.entry(kind).or_default();
            *count = count.saturating_sub(1);
            if let Some(waker) = stream.waker.take() {
                waker.wake();
            }
        }
    }

    fn remove(&mut self, id: u64) -> Option<Work> {
        match self.items.get(&id)?.place {
            Place::Waiting => self.unline(id),
            Place::Flying { .. } => self.land(id),
            Place::Pausing { until } => drop(self.due.remove(&(until, id))),
        }
        let work = self.items.remove(&id)?.work;
        if self
            .turns
            .get(&work.instance)
            .is_some_and(|(turn, _)| *turn == id)
        {
            self.turns.remove(&work.instance);
        }
        Some(work)
    }

    fn pause(&mut self, id: u64) {
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        let (first, most) = BACK_OFF;
        let times = item.abandoned.max(item.work.bad_answers.saturating_sub(1));
        let pause = first.saturating_mul(1 << times.min(10)).min(most);
        item.abandoned += 1;
        let until = Instant::now() + pause;
        item.place = Place::Pausing { until };
        self.due.insert((until, id), ());
    }

    /// The first deadline has come.
    fn end_first(&mut self) {
        let Some(((_, id), ())) = self.due.pop_first() else {
            return;
        };
        match self.items.get(&id).map(|item| item.place) {
            Some(Place::Pausing { .. }) => self.line_up(id, true),
            Some(Place::Flying { .. }) => {
                tracing::warn!(
                    item = id,
                    "a worker has not answered in time; its work is for others"
                );
                if let Some(item) = self.items.get(&id).filter(|item| item.work.parts.has_begun) {
                    self.owed.cut_in_parts(&item.work);
                }
                self.land(id);
                self.line_up(id, true);
            }
            _ => {}
        }
    }

    /// Whether this stream may have that item. A worker that names no tokens may not, while its answer
    /// could be taken for one that is owed.
    fn may_have(&self, stream: &Stream, id: u64) -> bool {
        if self.owed.is_empty() || stream.names_tokens {
            return true;
        }
        !self.items.get(&id).is_some_and(|item| self.owed.bars(&item.work))
    }

    /// Whether an item is at a worker by this delivery.
    fn is_out(&self, delivery: &Delivery) -> bool {
        self.items.get(&delivery.item).is_some_and(|item| {
            item.deliveries == delivery.number
                && matches!(item.place, Place::Flying { stream, .. } if stream == delivery.stream)
        })
    }

    /// The item of an answer with a token.
    fn find_named(&mut self, id: u64, delivery: u64, to: AnswerTo<'_>) -> Result<u64, NoWork> {
        let is_current = |item: &&Item| {
            let is_flying = matches!(item.place, Place::Flying { .. }) && item.deliveries == delivery;
            item.work.kind() == to.kind && (is_flying || to.kind == Kind::Activity)
        };
        self.note_naming(id, delivery);
        let item = self.items.get(&id).filter(is_current).ok_or(NoWork::Stale)?;
        let Work { instance, task, .. } = &item.work;
        if !to.instance.is_empty() && to.instance != &**instance {
            return Err(NoWork::Another(format!(
                "instanceId: the completion token is for instance {instance}, the answer names {}",
                to.instance
            )));
        }
        if to.kind == Kind::Activity && !to.instance.is_empty() && to.task != *task {
            return Err(NoWork::Another(format!(
                "taskId: the completion token is for task {task} of instance {instance}, the answer names {}",
                to.task
            )));
        }
        Ok(id)
    }

    /// The item of an answer without a token: one that such a worker has, of the instance and kind
    /// that the answer names.
    fn find_unnamed(&mut self, to: AnswerTo<'_>) -> Result<u64, NoWork> {
        let settled = self.owed.settle(to).ok_or(NoWork::Stale)?;
        if settled.is_last && !self.waiting.is_empty() {
            self.wake_all();
        }
        let mut latest_first = settled.deliveries.iter().rev();
        let found = latest_first.find(|delivery| self.is_out(delivery));
        let id = found.ok_or(NoWork::Stale)?.item;
        if !settled.is_in_parts {
            return Ok(id);
        }
        // Parts of its answer were dropped: the whole is asked for again once nothing else is owed.
        if settled.is_last {
            self.land(id);
            self.line_up(id, true);
        }
        Err(NoWork::Stale)
    }

    /// The item of a part of an answer without a token. Where several such answers are to come, it is
    /// not known which of them the part belongs to, and none of them counts.
    fn find_part_unnamed(&mut self, to: AnswerTo<'_>) -> Result<u64, NoWork> {
        match self.owed.only(to).filter(|delivery| self.is_out(delivery)) {
            Some(delivery) => Ok(delivery.item),
            None => {
                self.owed.note_part(to);
                Err(NoWork::Stale)
            }
        }
    }

    /// An answer names the token of a delivery: its worker is one that names tokens.
    fn note_naming(&mut self, id: u64, delivery: u64) {
        let current = self.items.get(&id).and_then(|item| match item.place {
            Place::Flying { stream, .. } if item.deliveries == delivery => Some(stream),
            _ => None,
        });
        let Some(stream) = current.or_else(|| self.owed.stream_of(id, delivery)) else {
            return;
        };
        let Some(own) = self.streams.get_mut(&stream).filter(|own| !own.names_tokens) else {
            return;
        };
        own.names_tokens = true;
        self.owed.forget(stream);
        self.wake_all();
    }
}

impl Stream {
    fn has_room(&self, kind: Kind) -> bool {
        let in_flight = self.in_flight.get(&kind).copied().unwrap_or_default();
        !self.is_draining && in_flight < self.most.get(&kind).copied().unwrap_or_default()
    }
}

mod explain;
mod owed;

#[cfg(test)]
mod tests;
