//! The place of one instance in memory: what waits for it and what is known of it.

use std::collections::VecDeque;
use std::sync::Arc;

use dalsegno_core::orchestration::{Draft, Orchestration};
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::query::Status;
use dalsegno_core::{Event, ExecutionKey, InstanceId, Message, TaskId};

use super::notes::awaited_of;
use super::poison::kills_of;
use super::sizes::fitting;
use crate::executor::Execution;
use crate::input::{Command, WaitFor};
use crate::request::InstanceStatus;
use crate::task::EventMark;
use crate::turn::{Effect, Reply, Turn};

/// One thing that waits for an instance or entity.
#[derive(Debug)]
pub(super) enum Item {
    /// A message; with a number when it is stored, with an answer when a client sent it, with a
    /// mark when that client may send it again.
    Message {
        sequence: Option<u64>,
        message: Message,
        answer: Option<Effect>,
        mark: Option<EventMark>,
    },
    /// A client's question or command.
    Command(Command),
    /// A parked instance is tried once more after a start.
    TryAgain,
}

impl Item {
    pub(super) fn message(sequence: Option<u64>, message: Message) -> Self {
        Self::Message {
            sequence,
            message,
            answer: None,
            mark: None,
        }
    }

    pub(super) fn mark(&self) -> Option<EventMark> {
        match self {
            Self::Message { mark, .. } => *mark,
            _ => None,
        }
    }

    pub(super) fn as_message(&self) -> Option<&Message> {
        match self {
            Self::Message { message, .. } => Some(message),
            _ => None,
        }
    }
}

/// The place of one instance.
#[derive(Debug)]
pub(super) struct Slot {
    /// Not yet looked at, in order of arrival.
    pub(super) queue: VecDeque<Item>,
    /// Messages that wait for a resume, a start or other code; all stored.
    pub(super) held: VecDeque<Item>,
    pub(super) state: SlotState,
    /// The last turn that touched it.
    pub(super) last_turn: u64,
    /// Is it in the ready list?
    pub(super) is_queued: bool,
    /// The execution that is read again, by which its timers find it meanwhile.
    pub(super) read_again: Option<ExecutionKey>,
}

#[derive(Debug)]
pub(super) enum SlotState {
    /// The store was asked, or will be.
    Loading,
    /// There is no such instance.
    Vacant,
    /// Here it is.
    Resident(Box<Resident>),
    /// Its code runs at this moment.
    Running,
    /// Its row cannot be read, and why.
    Damaged(String),
}

#[derive(Debug)]
pub(super) struct Resident {
    pub(super) orchestration: Orchestration,
    /// The user's code, alive since its last turn.
    pub(super) live: Option<Box<dyn Execution>>,
    /// Its history as loaded, until a turn replays it.
    pub(super) history: Option<Vec<Event>>,
    /// The row is not in the store yet.
    pub(super) is_new: bool,
    /// What its next turn has to commit along: the start that created it.
    pub(super) prelude: Option<Box<Turn>>,
    pub(super) live_bytes: usize,
    pub(super) tick: u64,
    /// How often the process died in its turns, since one last came back.
    pub(super) kills: u32,
    /// Events that its row says its code waits for.
    pub(super) awaited: Vec<Arc<str>>,
    /// What it did, without values, where it is told at its end.
    pub(super) trail: Option<Vec<Event>>,
    /// What its row holds beside the columns has to be written.
    pub(super) is_extra_changed: bool,
    /// Names of events that are part of its last turn, which the code was not given.
    pub(super) unseen: Vec<Arc<str>>,
    /// A turn that was sent to where its code runs and is not answered yet.
    pub(super) away: Option<Box<AwayTurn>>,
}

/// A turn whose code runs elsewhere. The state is as it was before: it can be withdrawn.
#[derive(Debug)]
pub(super) struct AwayTurn {
    pub(super) number: u64,
    pub(super) draft: Draft,
    /// Its messages, all stored.
    pub(super) batch: Vec<Item>,
}

impl Resident {
    pub(super) fn new(orchestration: Orchestration, history: Option<Vec<Event>>) -> Self {
        let kills = kills_of(&orchestration.row);
        let awaited = awaited_of(&orchestration.row);
        Self {
            orchestration,
            live: None,
            history,
            is_new: false,
            prelude: None,
            live_bytes: 0,
            tick: 0,
            kills,
            awaited,
            trail: None,
            is_extra_changed: false,
            unseen: Vec::new(),
            away: None,
        }
    }
}

impl Slot {
    pub(super) fn new(state: SlotState) -> Self {
        Self {
            queue: VecDeque::new(),
            held: VecDeque::new(),
            state,
            last_turn: 0,
            is_queued: false,
            read_again: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.held.is_empty()
            && !self.is_away()
            && !matches!(self.state, SlotState::Loading | SlotState::Running)
    }

    /// Is a turn of it out, at where its code runs?
    pub(super) fn is_away(&self) -> bool {
        self.resident().is_some_and(|resident| resident.away.is_some())
    }

    pub(super) fn resident(&self) -> Option<&Resident> {
        match &self.state {
            SlotState::Resident(resident) => Some(resident),
            _ => None,
        }
    }

    pub(super) fn resident_mut(&mut self) -> Option<&mut Resident> {
        match &mut self.state {
            SlotState::Resident(resident) => Some(resident),
            _ => None,
        }
    }
}

/// What a turn looks at: what was held, if it may move now, and the messages at the front, of so many
/// bytes together.
pub(super) fn take_batch(slot: &mut Slot, bytes_max: usize) -> Vec<Item> {
    let mut batch = take_waiting(slot);
    let count = fitting(batch.iter().map(Item::as_message), bytes_max);
    if count == batch.len() {
        return batch;
    }
    if moves(slot) {
        let rest = batch.split_off(count);
        put_back(slot, rest);
        return batch;
    }
    // What has everything else move comes first, and alone: the rest follows when it does.
    let count = match batch.iter().position(is_key) {
        Some(at) => {
            batch[..=at].rotate_right(1);
            1
        }
        None => count,
    };
    let rest = batch.split_off(count);
    put_back(slot, rest);
    batch
}

/// Does what was held move with the next turn?
fn moves(slot: &Slot) -> bool {
    slot.resident().is_some_and(|resident| {
        let row = &resident.orchestration.row;
        row.status != Status::Suspended && row.parked.is_none() && row.events > 0
    })
}

/// Does it have what was held move?
fn is_key(item: &Item) -> bool {
    match item.as_message() {
        Some(Message::Terminate { .. }) => !planted::has(Bug::HeldKeptAtEnd),
        message => matches!(
            message,
            Some(
                Message::Resume { .. }
                    | Message::Cancel { .. }
                    | Message::TimerFired {
                        task: TaskId::START,
                        ..
                    }
            )
        ),
    }
}

fn take_waiting(slot: &mut Slot) -> Vec<Item> {
    let count = slot
        .queue
        .iter()
        .take_while(|item| match item.as_message() {
            Some(Message::Start(_) | Message::Rewind { .. }) | None => false,
            Some(_) => true,
        })
        .count();
    let fresh: Vec<Item> = slot.queue.drain(..count).collect();
    if slot.held.is_empty() {
        return fresh;
    }
    if !moves(slot) && !fresh.iter().any(is_key) {
        return fresh;
    }
    let mut batch = Vec::with_capacity(slot.held.len() + fresh.len());
    batch.extend(slot.held.drain(..));
    batch.extend(fresh);
    batch
}

/// Undoes [`take_batch`].
pub(super) fn put_back(slot: &mut Slot, batch: Vec<Item>) {
    for item in batch.into_iter().rev() {
        slot.queue.push_front(item);
    }
}

/// A client that waits for an instance.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) until: WaitFor,
    pub(super) ticket: u64,
    pub(super) reply: Reply<Option<InstanceStatus>>,
}

/// The cache of live futures, limited in bytes; the least recently used go first.
#[derive(Debug)]
pub(super) struct Futures {
    bytes: usize,
    bytes_max: usize,
    tick: u64,
    /// Uses in order; stale ones are passed over.
    uses: VecDeque<(u64, InstanceId)>,
}

impl Futures {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: 0,
            bytes_max,
            tick: 0,
            uses: VecDeque::new(),
        }
    }

    /// Notes a use and returns its tick.
    pub(super) fn touch(&mut self, id: &InstanceId, bytes_before: usize, bytes: usize) -> u64 {
        self.bytes = self.bytes + bytes - bytes_before.min(self.bytes + bytes);
        self.tick += 1;
        self.uses.push_back((self.tick, id.clone()));
        self.tick
    }

    pub(super) fn forget(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn is_over(&self) -> bool {
        self.bytes > self.bytes_max
    }

    pub(super) fn oldest(&mut self) -> Option<(u64, InstanceId)> {
        self.uses.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.uses.len()
    }

    /// Drops stale uses when they outnumber the real ones by far.
    pub(super) fn compact(&mut self, is_current: impl Fn(u64, &InstanceId) -> bool) {
        self.uses.retain(|(tick, id)| is_current(*tick, id));
    }
}
