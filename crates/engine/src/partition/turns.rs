//! Turns of orchestrations: from waiting messages to one commit.

use dalsegno_core::message::Target;
use dalsegno_core::orchestration::{Draft, Fate, NextExecution, TurnResult};
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::query::Status;
use dalsegno_core::store::{Apart, InstanceRow, Op};
use dalsegno_core::{Action, EventKind, Fault, InstanceId, Message, Payload, TaskId};

use super::job::{Job, Running, RunningTurn, Said, TurnDone, TurnJob};
use super::sizes::TurnLimits;
use super::slot::{Item, Resident, Slot, SlotState, put_back, take_batch};
use super::starts::{count_depth, delayed_start, fresh};
use super::traces::{follow, for_next_execution};
use super::{Partition, notes, values};
use crate::executor::{ExecutionInfo, TurnAddress};
use crate::record;
use crate::turn::Turn;

impl Partition {
    /// The first half of a turn. Turns that need no code are finished here.
    pub(super) fn begin_turn(&mut self, id: &InstanceId) -> Option<Job> {
        let now = self.now;
        let locked_entities_max = self.config.limits.locked_entities_max;
        let batch = take_batch(self.slots.get_mut(id)?, self.config.limits.turn_bytes_max);
        let batch = self.change_of_status_first(id, batch);
        let resident = self.slots.get_mut(id)?.resident_mut()?;
        let draft = resident
            .orchestration
            .draft(batch.iter().filter_map(Item::as_message), now);
        if !draft.needs_code() || (!draft.tells_code() && self.is_remote(id)) {
            self.conclude(id, draft, batch, Vec::new(), None);
            return None;
        }
        let slot = self.slots.get_mut(id)?;
        let resident = slot.resident_mut()?;
        if resident.live.is_none() && resident.history.is_none() {
            put_back(slot, batch);
            self.reload(id);
            return None;
        }
        if self.takes_suspicion(id) {
            put_back(self.slots.get_mut(id)?, batch);
            self.count_kill(id);
            return None;
        }
        let slot = self.slots.get_mut(id)?;
        let SlotState::Resident(mut resident) = std::mem::replace(&mut slot.state, SlotState::Running) else {
            return None;
        };
        let row = &resident.orchestration.row;
        let info = ExecutionInfo {
            instance: id.clone(),
            execution_id: row.execution_id,
            name: row.name.clone(),
            version: row.version.clone(),
            trace: resident.orchestration.trace_within(None),
            span: match resident.live {
                Some(_) => None,
                None => record::decode_extra(&row.extra).unwrap_or_default().span,
            },
            tags: row.tags.clone(),
            locked_entities_max,
        };
        let (live, history) = (resident.live.take(), resident.history.take());
        self.running = Some(Running::Turn(RunningTurn {
            id: id.clone(),
            resident,
            batch,
        }));
        self.turns_begun += 1;
        let address = TurnAddress {
            instance: id.clone(),
            number: self.turns_begun,
        };
        Some(Job::Turn(TurnJob {
            info,
            address,
            live,
            history,
            draft,
            limits: TurnLimits::of(&self.config.limits, self.now),
        }))
    }

    /// The second half: commits what the code asked for, or parks the instance.
    pub(super) fn finish_turn(&mut self, running: RunningTurn, done: TurnDone) {
        let RunningTurn {
            id,
            mut resident,
            batch,
        } = running;
        self.counters.replays += u64::from(done.replayed);
        resident.live = done.live;
        self.seat(&id, resident);
        match done.result {
            Ok(Said::Away(address, sender)) => self.send_away(&id, done.draft, batch, (address, sender)),
            Ok(Said::Actions(actions, unread)) => {
                self.conclude(&id, done.draft, batch, actions, Some(unread));
            }
            Err(fault) => {
                self.acquit(&id);
                self.park(&id, fault, batch);
            }
        }
        self.end_turn(&id);
    }

    /// The code does not come back: the instance is parked as it was before the turn.
    pub(super) fn abandon_turn(&mut self, running: RunningTurn, fault: Fault) {
        let RunningTurn { id, resident, batch } = running;
        self.seat(&id, resident);
        self.park(&id, fault, batch);
        self.end_turn(&id);
    }

    fn seat(&mut self, id: &InstanceId, resident: Box<Resident>) {
        self.counters.turns += 1;
        if let Some(slot) = self.slots.get_mut(id) {
            slot.state = SlotState::Resident(resident);
        }
    }

    pub(super) fn end_turn(&mut self, id: &InstanceId) {
        self.note_use(id);
        self.make_ready(id);
        if self.slots.get(id).is_some_and(|slot| slot.queue.is_empty()) {
            self.rest(id);
        }
    }

    /// Commits a turn: state, messages in and out, tasks, timers and the status row, all at once.
    pub(super) fn conclude(
        &mut self,
        id: &InstanceId,
        draft: Draft,
        batch: Vec<Item>,
        actions: Vec<Action>,
        unread: Option<Vec<EventKind>>,
    ) {
        let events_max = self.config.limits.history_events_max;
        let event_keys_max = self.config.limits.event_keys_max;
        let mut turn = self.take_prelude(id);
        let mut fates = draft.fates.clone();
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        let failed = notes::failed_activity(&resident.orchestration, &draft);
        let before = RowMark {
            is_marked: remember_events(&mut resident.orchestration.row, &batch, event_keys_max)
                | notes::note(resident, failed, unread.is_some())
                | std::mem::take(&mut resident.is_extra_changed),
            ..RowMark::of(resident)
        };
        let delayed = delayed_start(&resident.orchestration.row);
        let mut result = resident.orchestration.conclude(draft, actions, events_max);
        count_depth(&resident.orchestration.row, &mut result);
        let key = resident.orchestration.row.key;
        let is_over = resident.orchestration.row.status.is_final();
        if unread.is_some() {
            self.acquit(id);
        }
        if is_over {
            self.forget_start(delayed, &mut turn);
            if unread.is_none() {
                self.note_unseen(id, &batch, &fates);
            }
            self.record_late_events(id, (&batch, &mut fates), &mut result, &mut turn);
        }
        self.write_tasks(id, key, &mut result, &mut turn);
        self.note_trail(id, &result.events, is_over || result.next.is_some(), &mut turn);
        match result.next.clone() {
            Some(next) => {
                self.continue_as_new(id, before.status, next, unread.unwrap_or_default(), &mut turn)
            }
            None => {
                self.write_row(id, &before, &result, &mut turn);
                self.note_history(id, &result.events);
            }
        }
        for (target, message) in result.outgoing {
            self.send(target, message, &mut turn);
        }
        self.sort_batch(id, batch, &fates, &mut turn);
        if is_over {
            self.drop_held(id, &mut turn);
        }
        if planted::has(Bug::TornCommit) {
            let is_row = |op: &Op| matches!(op, Op::PutInstance(_) | Op::TouchInstance { .. });
            let (rows, rest) = turn.ops.drain(..).partition(is_row);
            turn.ops = rest;
            self.push_turn(Turn {
                ops: rows,
                ..Turn::default()
            });
        }
        self.commit_slot(id, turn);
    }

    /// Consumed messages lose their rows, held ones get one.
    fn sort_batch(&mut self, id: &InstanceId, batch: Vec<Item>, fates: &[Fate], turn: &mut Turn) {
        for (item, fate) in batch.into_iter().zip(fates) {
            let Item::Message {
                sequence,
                message,
                answer,
                ..
            } = item
            else {
                continue;
            };
            turn.effects.extend(answer);
            match fate {
                Fate::Taken => self.forget_message(sequence, &message, turn),
                Fate::Dropped => {
                    self.counters.dropped_messages += 1;
                    self.forget_message(sequence, &message, turn);
                }
                Fate::Held => self.hold(id, sequence, message, turn),
            }
        }
    }

    /// A suspended instance may end by itself, when its history is full: what it holds goes with it.
    pub(super) fn drop_held(&mut self, id: &InstanceId, turn: &mut Turn) {
        if planted::has(Bug::HeldKeptAtEnd) {
            return;
        }
        let held = self.slots.get_mut(id).map(|slot| std::mem::take(&mut slot.held));
        for item in held.into_iter().flatten() {
            if let Item::Message {
                sequence, message, ..
            } = item
            {
                self.drop_message(sequence, &message, turn);
            }
        }
    }

    /// Stores a message that has to wait, if it is not stored yet.
    pub(super) fn hold(&mut self, id: &InstanceId, sequence: Option<u64>, message: Message, turn: &mut Turn) {
        let sequence = match sequence {
            Some(sequence) => sequence,
            None => {
                self.forget_message(None, &message, turn);
                let seq = self.config.numbers.next_message();
                let data = record::encode_message(&Target::Orchestration(id.clone()), &message);
                if !planted::has(Bug::HeldNotStored) {
                    turn.ops.push(Op::PutMessage {
                        partition: self.config.id,
                        seq,
                        data,
                    });
                }
                seq
            }
        };
        if let Some(slot) = self.slots.get_mut(id) {
            slot.held.push_back(Item::message(Some(sequence), message));
        }
    }

    /// Appends the history and writes the row, or only touches it.
    fn write_row(&mut self, id: &InstanceId, before: &RowMark, result: &TurnResult, turn: &mut Turn) {
        let inline_max = self.config.limits.payload_inline_bytes;
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        let is_put = resident.is_new || before.differs(resident);
        let row = &mut resident.orchestration.row;
        if is_put {
            values::put_instance(row, before.apart, inline_max, &mut turn.ops);
        }
        if !result.events.is_empty() {
            values::append_history(row, result.first_event, &result.events, inline_max, &mut turn.ops);
        }
        if !is_put && !result.events.is_empty() {
            turn.ops.push(Op::TouchInstance {
                key: row.key,
                updated: row.updated,
                events: row.events,
            });
        }
        resident.is_new = false;
        if before.status != row.status {
            turn.moves.push((Some(before.status), Some(row.status)));
        }
    }

    /// Ends the execution and begins the next, which gets the unread events.
    fn continue_as_new(
        &mut self,
        id: &InstanceId,
        status_before: Status,
        next: NextExecution,
        unread: Vec<EventKind>,
        turn: &mut Turn,
    ) {
        let key = self.config.numbers.next_key();
        let execution_id = self.entropy.execution_id();
        let inline_max = self.config.limits.payload_inline_bytes;
        let now = self.now;
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let Some(resident) = slot.resident_mut() else {
            return;
        };
        let old = &resident.orchestration.row;
        let old_key = old.key;
        let mut row = InstanceRow {
            key,
            execution_id,
            version: next.version.or_else(|| old.version.clone()),
            status: Status::Running,
            updated: old.updated.max(now),
            input: next.input,
            events: 0,
            apart: Apart::default(),
            extra: for_next_execution(&old.extra),
            ..old.clone()
        };
        let cancel = resident.orchestration.cancel_request();
        let cancel = cancel.filter(|_| !planted::has(Bug::CancelLostAtContinueAsNew));
        let cancel = cancel.map(|request| Message::Cancel {
            reason: request.reason.clone(),
            parent: None,
        });
        let bytes = resident.live_bytes;
        turn.ops.push(Op::DeleteExecution {
            key: old_key,
            id: id.clone(),
        });
        values::put_instance(&mut row, Apart::default(), inline_max, &mut turn.ops);
        if status_before != Status::Running {
            turn.moves.push((Some(status_before), Some(Status::Running)));
        }
        *resident = Resident::new(fresh(row), Some(Vec::new()));
        follow(self.config.traces.as_ref(), resident);
        self.futures.forget(bytes);
        self.keys.remove(&old_key);
        self.keys.insert(key, id.clone());
        let begin = Message::TimerFired {
            execution: key,
            task: TaskId::START,
            fire_at: now,
        };
        let events = unread.into_iter().filter_map(|kind| match kind {
            EventKind::EventRaised { name, input, trace } => {
                Some(Message::EventRaised { name, input, trace })
            }
            _ => None,
        });
        let messages: Vec<_> = std::iter::once(begin).chain(cancel).chain(events).collect();
        let count = messages.len();
        self.deliver_again(id, messages, turn);
        if count > 1 {
            self.renumber_events(id, count, turn);
        }
    }

    /// Stored events that wait behind the first so many messages come after them also when all are
    /// read back from the store, where numbers say what came first.
    fn renumber_events(&mut self, id: &InstanceId, first: usize, turn: &mut Turn) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        for item in slot.queue.iter_mut().skip(first) {
            let Item::Message {
                sequence: Some(sequence),
                message: message @ Message::EventRaised { .. },
                ..
            } = item
            else {
                continue;
            };
            let seq = self.config.numbers.next_message();
            turn.ops.push(Op::DeleteMessage {
                partition: self.config.id,
                seq: std::mem::replace(sequence, seq),
            });
            turn.ops.push(Op::PutMessage {
                partition: self.config.id,
                seq,
                data: record::encode_message(&Target::Orchestration(id.clone()), message),
            });
        }
    }
}

/// Notes the keys that events of this batch came with, in the row that is committed with them;
/// says whether there were any. The oldest beyond the limit are forgotten.
pub(super) fn remember_events(row: &mut InstanceRow, batch: &[Item], event_keys_max: usize) -> bool {
    let marks = || batch.iter().filter_map(Item::mark);
    if marks().next().is_none() {
        return false;
    }
    let mut extra = record::decode_extra(&row.extra).unwrap_or_default();
    extra.events.extend(marks());
    let surplus = extra.events.len().saturating_sub(event_keys_max);
    extra.events.drain(..surplus);
    row.extra = record::encode_extra(&extra);
    true
}

/// What clients see of a row and a turn may change.
struct RowMark {
    status: Status,
    custom_status: Option<Payload>,
    is_parked: bool,
    kills: u32,
    /// It has got new event keys to remember.
    is_marked: bool,
    apart: Apart,
}

impl RowMark {
    fn of(resident: &Resident) -> Self {
        let row = &resident.orchestration.row;
        Self {
            status: row.status,
            custom_status: row.custom_status.clone(),
            is_parked: row.parked.is_some(),
            kills: resident.kills,
            is_marked: false,
            apart: row.apart,
        }
    }

    fn differs(&self, resident: &Resident) -> bool {
        let row = &resident.orchestration.row;
        self.is_marked
            || self.kills != resident.kills
            || self.status != row.status
            || self.is_parked != row.parked.is_some()
            || self.custom_status != row.custom_status
    }
}
