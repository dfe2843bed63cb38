//! Deliveries to webhooks: written with the status they tell of, one after the other to each
//! receiver, given up in the end.

use std::collections::VecDeque;
use std::sync::Arc;

use dalsegno_core::event::AttemptFailure;
use dalsegno_core::message::Outcome;
use dalsegno_core::query::Status;
use dalsegno_core::store::{InstanceRow, Op};
use dalsegno_core::{Failure, InstanceId, TaskId};
use hashbrown::HashMap;

use super::Partition;
use super::slot::Slot;
use super::tasks::kept;
use crate::record;
use crate::task::{FAILURES_KEPT, StoredTask, TaskRecord};
use crate::turn::{Effect, Reply, Turn};
use crate::webhooks::{self, DELIVERY, DeliveryStatus, GIVEN_UP, GIVEN_UP_KEPT, PENDING_MAX};

/// Every delivery is the only task of a key of its own: it outlives the execution it is about.
const TASK: TaskId = TaskId(0);

/// What is not delivered yet, and what never will be.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// By instance and receiver, oldest first; the first is under way or waits for its next attempt.
    lines: HashMap<(InstanceId, String), VecDeque<Arc<TaskRecord>>>,
    pending: usize,
    given_up: VecDeque<Arc<TaskRecord>>,
}

fn line_of(record: &TaskRecord) -> (InstanceId, String) {
    (record.instance.clone(), webhooks::target_of(record).to_owned())
}

impl Partition {
    /// Writes what others are to be told of the statuses that this turn leads to.
    pub(super) fn notify(&mut self, id: &InstanceId, turn: &mut Turn) {
        let told = std::mem::replace(&mut turn.moves_told, turn.moves.len());
        if told == turn.moves.len() || self.config.webhooks.is_none() {
            return;
        }
        let Some(row) = self.row(id).cloned() else { return };
        for number in told..turn.moves.len() {
            let (before, status) = turn.moves[number];
            let Some(status) = status.filter(|status| Some(*status) != before) else {
                continue;
            };
            for target in self.receivers(&row, status) {
                let content = webhooks::content(&target, &row, before, status, self.now);
                self.open_delivery(&row, content, turn);
            }
        }
    }

    fn receivers(&self, row: &InstanceRow, status: Status) -> Vec<String> {
        let Some(webhooks) = &self.config.webhooks else {
            return Vec::new();
        };
        let rules = webhooks.rules().iter();
        let mut targets: Vec<String> = rules
            .filter(|rule| {
                webhooks::is_wanted(&rule.statuses, status) && row.name.starts_with(&rule.name_prefix)
            })
            .map(webhooks::target_of_rule)
            .collect();
        if !row.extra.is_empty()
            && let Some(own) = record::decode_extra(&row.extra).unwrap_or_default().webhook
            && webhooks::is_wanted(&own.statuses, status)
        {
            targets.push(webhooks::target_of_subscription(&own));
        }
        targets
    }

    fn open_delivery(&mut self, row: &InstanceRow, content: dalsegno_core::Payload, turn: &mut Turn) {
        let resident = self.slots.get(&row.id).and_then(Slot::resident);
        let trace = resident.and_then(|resident| resident.orchestration.trace_within(None));
        let record = TaskRecord {
            instance: row.id.clone(),
            key: self.config.numbers.next_key(),
            execution_id: self.entropy.execution_id(),
            task: TASK,
            name: DELIVERY.into(),
            input: Some(content),
            options: Default::default(),
            scheduled: self.now,
            failed_attempts: 0,
            due: None,
            last_heartbeat: None,
            failures: Vec::new(),
            kills: 0,
            trace,
        };
        if self.deliveries.pending >= PENDING_MAX {
            let text = format!("{PENDING_MAX} deliveries wait already in this partition");
            return self.give_up(&record, Failure::new("TooMany", text), turn);
        }
        turn.ops.push(self.put_task(&record));
        let record = Arc::new(record);
        let line = self.deliveries.lines.entry(line_of(&record)).or_default();
        line.push_back(record.clone());
        self.deliveries.pending += 1;
        if line.len() == 1 {
            self.begin_delivery(record, turn);
        }
    }

    fn begin_delivery(&mut self, record: Arc<TaskRecord>, turn: &mut Turn) {
        let place = (record.key, record.task);
        self.attempts.insert(place, record.failed_attempts);
        match record.due {
            Some(due) => {
                let stored = StoredTask::Activity((*record).clone());
                self.retries.insert((due, place.0, place.1), stored);
            }
            None => turn.effects.push(Effect::Dispatch(record)),
        }
    }

    /// What was open before a restart. Nothing begins before all are here.
    pub(super) fn restore_delivery(&mut self, record: TaskRecord) {
        let record = Arc::new(record);
        if &*record.name == GIVEN_UP {
            self.deliveries.given_up.push_back(record);
            return;
        }
        self.deliveries.pending += 1;
        let line = self.deliveries.lines.entry(line_of(&record)).or_default();
        line.push_back(record);
    }

    pub(super) fn restore_deliveries(&mut self, turn: &mut Turn) {
        self.deliveries
            .given_up
            .make_contiguous()
            .sort_by_key(|record| record.key);
        let mut first = Vec::new();
        for line in self.deliveries.lines.values_mut() {
            // Keys rise, so their order is that of the statuses.
            line.make_contiguous().sort_by_key(|record| record.key);
            first.extend(line.front().cloned());
        }
        first.sort_by_key(|record| record.key);
        for record in first {
            self.begin_delivery(record, turn);
        }
    }

    /// The first of its line waits for its next attempt.
    pub(super) fn note_delivery(&mut self, record: &TaskRecord) {
        if let Some(line) = self.deliveries.lines.get_mut(&line_of(record))
            && let Some(first) = line.front_mut()
        {
            *first = Arc::new(record.clone());
        }
    }

    /// It arrived, or is tried no more: the next in line begins, in the same commit.
    pub(super) fn end_delivery(&mut self, record: &TaskRecord, outcome: Outcome) {
        let place = (record.key, record.task);
        if self.attempts.get(&place) != Some(&record.failed_attempts) {
            self.counters.dropped_messages += 1;
            return;
        }
        self.attempts.remove(&place);
        let mut turn = Turn::default();
        match outcome {
            Ok(_) => turn.ops.push(Op::DeleteTask {
                key: record.key,
                task: record.task,
            }),
            Err(failure) => self.give_up(record, failure, &mut turn),
        }
        let line = line_of(record);
        let mut next = None;
        if let Some(records) = self.deliveries.lines.get_mut(&line) {
            records.pop_front();
            self.deliveries.pending -= 1;
            next = records.front().cloned();
        }
        match next {
            Some(next) => self.begin_delivery(next, &mut turn),
            None => drop(self.deliveries.lines.remove(&line)),
        }
        self.push_turn(turn);
    }

    /// It stays where people find it.
    fn give_up(&mut self, record: &TaskRecord, failure: Failure, turn: &mut Turn) {
        tracing::warn!(
            instance_id = %record.instance,
            delivery = %record.execution_id,
            attempts = record.failed_attempts + 1,
            %failure,
            "a delivery to a webhook is given up"
        );
        let mut record = record.clone();
        record.name = GIVEN_UP.into();
        record.failed_attempts += 1;
        record.due = None;
        if record.failures.len() == FAILURES_KEPT {
            record.failures.remove(0);
        }
        record.failures.push(AttemptFailure {
            at: self.now,
            kind: kept(failure.kind),
            message: kept(failure.message),
        });
        turn.ops.push(self.put_task(&record));
        self.deliveries.given_up.push_back(Arc::new(record));
        if self.deliveries.given_up.len() > GIVEN_UP_KEPT
            && let Some(oldest) = self.deliveries.given_up.pop_front()
        {
            turn.ops.push(Op::DeleteTask {
                key: oldest.key,
                task: oldest.task,
            });
        }
    }

    pub(super) fn answer_deliveries(&mut self, reply: Reply<Vec<DeliveryStatus>>) {
        let waiting = self.deliveries.lines.values().flatten();
        let all = self.deliveries.given_up.iter().chain(waiting);
        let mut statuses: Vec<_> = all.map(|record| DeliveryStatus::of(record)).collect();
        statuses.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        self.answer_now(reply.with(Ok(statuses)));
    }
}
