//! Tasks, timers and children of an execution: opened, tried again, ended.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::event::{AttemptFailure, AttemptRecord, Attempts, Parent, ParentClosePolicy};
use dalsegno_core::message::{ReusePolicy, Target};
use dalsegno_core::orchestration::TurnResult;
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::retry::RetryPolicy;
use dalsegno_core::store::{Op, TimerRow};
use dalsegno_core::{ExecutionKey, Failure, InstanceId, Message, Outcome, Payload, TaskId, Timestamp};

use super::Partition;
use super::sizes::{Sizes, checked_attempt, cut};
use super::slot::{Item, Slot};
use crate::executor::{AttemptOutcome, Receipt};
use crate::input::AttemptRun;
use crate::record;
use crate::task::{ChildRecord, FAILURE_TEXT_BYTES_MAX, FAILURES_KEPT, StoredTask, TaskRecord};
use crate::turn::{Effect, Turn};
use crate::webhooks::DELIVERY;

/// Stands for the count of failed attempts of a task that was told to end: none follows.
pub(super) const TOLD: u32 = u32::MAX;

impl Partition {
    /// Tasks, timers, children: everything that a turn opened or closed.
    pub(super) fn write_tasks(
        &mut self,
        id: &InstanceId,
        key: ExecutionKey,
        result: &mut TurnResult,
        turn: &mut Turn,
    ) {
        let Some(resident) = self.slots.get(id).and_then(Slot::resident) else {
            return;
        };
        let execution_id = resident.orchestration.row.execution_id;
        // Taken out of the result, which lives on until all is written: there may be very many of them.
        let tasks = std::mem::take(&mut result.tasks);
        turn.ops.reserve(tasks.len());
        turn.effects.reserve(tasks.len());
        for new in tasks {
            let record = TaskRecord {
                instance: id.clone(),
                key,
                execution_id,
                task: new.task,
                name: new.name,
                input: new.input,
                options: new.options,
                scheduled: self.now,
                failed_attempts: 0,
                due: None,
                last_heartbeat: None,
                failures: Vec::new(),
                kills: 0,
                trace: new.trace,
            };
            if !planted::has(Bug::TaskNotStored) {
                turn.ops.push(self.put_task(&record));
            }
            self.attempts.insert((key, record.task), 0);
            turn.effects.push(Effect::Dispatch(Arc::new(record)));
        }
        for (due, task) in &result.timers {
            turn.ops.push(Op::PutTimer {
                due: *due,
                key,
                task: *task,
            });
            self.timers.insert(TimerRow {
                due: *due,
                key,
                task: *task,
            });
        }
        for (due, task) in result
            .cleared_timers
            .iter()
            .filter(|_| !planted::has(Bug::TimerRowKept))
        {
            turn.ops.push(Op::DeleteTimer {
                due: *due,
                key,
                task: *task,
            });
            self.timers.remove(&TimerRow {
                due: *due,
                key,
                task: *task,
            });
        }
        for task in &result.cancelled {
            self.attempts.remove(&(key, *task));
            turn.ops.push(Op::DeleteTask { key, task: *task });
            turn.effects.push(Effect::Cancel { key, task: *task });
        }
        self.tell_tasks(id, key, result, turn);
        self.write_children(id, key, result, turn);
    }

    /// An activity whose orchestration was asked to end is not tried again, neither now nor after a crash.
    fn tell_tasks(&mut self, id: &InstanceId, key: ExecutionKey, result: &TurnResult, turn: &mut Turn) {
        for task in &result.told {
            self.attempts.insert((key, *task), TOLD);
            let data = record::encode_task(&StoredTask::Told(id.clone()));
            turn.ops.push(Op::PutTask {
                key,
                task: *task,
                data,
            });
            turn.effects.push(Effect::Tell {
                instance: id.clone(),
                key,
                task: *task,
            });
        }
    }

    fn write_children(&mut self, id: &InstanceId, key: ExecutionKey, result: &TurnResult, turn: &mut Turn) {
        for new in &result.children {
            let child = ChildRecord {
                instance: new.instance.clone(),
                parent_instance: id.clone(),
                request: new.request.clone(),
                options: new.options.clone(),
                scheduled: self.now,
                failed_attempts: 0,
                due: None,
            };
            turn.ops.push(put_child(key, new.task, &child));
            self.children.insert((key, new.task), child);
        }
        self.tell_children(id, key, result, turn);
        for (task, instance, policy) in &result.orphans {
            let own = self
                .children
                .get(&(key, *task))
                .map(|child| child.options.parent_close);
            self.forget_child(key, *task, turn);
            let ends = *policy == ParentClosePolicy::Terminate || own == Some(ParentClosePolicy::Terminate);
            let reason = Some(format!("the parent {id} was terminated"));
            let parent = Some(as_parent(id, key, *task));
            let message = match own {
                _ if ends => Message::Terminate {
                    reason,
                    output: None,
                    children: *policy,
                    parent,
                },
                Some(ParentClosePolicy::Cancel) => Message::Cancel { reason, parent },
                _ => continue,
            };
            self.send(Target::Orchestration(instance.clone()), message, turn);
        }
    }

    /// Children whose parent was asked to end: by their policy they are too, and are not tried again.
    fn tell_children(&mut self, id: &InstanceId, key: ExecutionKey, result: &TurnResult, turn: &mut Turn) {
        for task in &result.abandoned {
            self.forget_child(key, *task, turn);
        }
        if result.told_children.is_empty() || planted::has(Bug::ChildNotTold) {
            return;
        }
        let reason = self.cancel_reason(id);
        for (task, instance, policy) in &result.told_children {
            if self.ends_retry(id, key, *task, turn) {
                continue;
            }
            let reason = Some(match &reason {
                Some(reason) => format!("the parent {id} was cancelled: {reason}"),
                None => format!("the parent {id} was cancelled"),
            });
            let parent = Some(as_parent(id, key, *task));
            let message = match policy {
                ParentClosePolicy::Terminate => Message::Terminate {
                    output: None,
                    reason,
                    children: ParentClosePolicy::Abandon,
                    parent,
                },
                _ => Message::Cancel { reason, parent },
            };
            self.send(Target::Orchestration(instance.clone()), message, turn);
        }
    }

    fn cancel_reason(&self, id: &InstanceId) -> Option<String> {
        let resident = self.slots.get(id).and_then(Slot::resident)?;
        resident.orchestration.cancel_request()?.reason.clone()
    }

    /// A child that is told to end is not started again. One that failed and waited for that is over.
    fn ends_retry(&mut self, id: &InstanceId, key: ExecutionKey, task: TaskId, turn: &mut Turn) -> bool {
        let Some(child) = self.children.get_mut(&(key, task)) else {
            return false;
        };
        child.options.retry = None;
        let Some(due) = child.due.take() else {
            turn.ops.push(put_child(key, task, child));
            return false;
        };
        self.retries.remove(&(due, key, task));
        self.forget_child(key, task, turn);
        let done = Message::ChildDone {
            execution: key,
            task,
            outcome: Err(Failure::cancelled(None)),
        };
        self.send(Target::Orchestration(id.clone()), done, turn);
        true
    }

    /// A task that was told to end and is not running ends here, if it has not ended already.
    pub(super) fn withdraw_task(&mut self, instance: InstanceId, key: ExecutionKey, task: TaskId) {
        if self.attempts.get(&(key, task)) != Some(&TOLD) {
            return;
        }
        self.attempts.remove(&(key, task));
        let message = Message::TaskDone {
            execution: key,
            task,
            outcome: Err(Failure::cancelled(None)),
            attempts: 0.into(),
        };
        self.push_item(instance, Item::message(None, message));
    }

    /// A child with options is no longer remembered.
    pub(super) fn forget_child(&mut self, key: ExecutionKey, task: TaskId, turn: &mut Turn) {
        if let Some(child) = self.children.remove(&(key, task)) {
            turn.ops.push(Op::DeleteTask { key, task });
            if let Some(due) = child.due {
                self.retries.remove(&(due, key, task));
            }
        }
    }

    /// An attempt ended: the task is done, or waits for its next attempt. Attempts leave no event.
    pub(super) fn end_attempt(
        &mut self,
        record: Arc<TaskRecord>,
        outcome: AttemptOutcome,
        heartbeat: Option<Payload>,
        run: AttemptRun,
    ) {
        self.config
            .meters
            .attempted(&record, &outcome, run.took, self.now);
        let is_told = self.attempts.get(&(record.key, record.task)) == Some(&TOLD);
        let sizes = Sizes::of(&self.config.limits);
        match checked_attempt(outcome, heartbeat.as_ref(), sizes) {
            AttemptOutcome::Failed { failure, .. } if is_told => {
                self.complete_task(&record, Err(failure), run)
            }
            AttemptOutcome::Limited { .. } if is_told => {
                self.complete_task(&record, Err(Failure::cancelled(None)), run);
            }
            AttemptOutcome::Completed(result) => self.complete_task(&record, Ok(result), run),
            AttemptOutcome::Failed { failure, retry_after } => {
                self.fail_attempt(&record, failure, retry_after, heartbeat, run);
            }
            AttemptOutcome::Limited { retry_after } => self.wait_without_attempt(&record, retry_after, run),
        }
    }

    pub(super) fn complete_task(&mut self, record: &TaskRecord, outcome: Outcome, run: AttemptRun) {
        if &*record.name == DELIVERY {
            return self.end_delivery(record, outcome);
        }
        self.attempts.remove(&(record.key, record.task));
        let took = i64::try_from(run.took.as_micros()).unwrap_or(i64::MAX);
        let started = self.now.as_micros().saturating_sub(took);
        let receipt = run.receipt;
        let attempts = Attempts {
            count: record.failed_attempts + 1,
            record: Some(Box::new(AttemptRecord {
                started: record.scheduled.max(Timestamp::from_micros(started)),
                worker: run.worker,
                failures: record.failures.clone(),
            })),
        };
        let message = Message::TaskDone {
            execution: record.key,
            task: record.task,
            outcome,
            attempts,
        };
        let answer = receipt
            .is_requested()
            .then(|| Effect::Answer(Box::new(move || receipt.give())));
        self.push_item(
            record.instance.clone(),
            Item::Message {
                sequence: None,
                message,
                answer,
                mark: None,
            },
        );
    }

    /// A report that changes nothing is acknowledged behind what came before it: it may repeat one
    /// whose outcome is not durable yet.
    fn acknowledge(&mut self, receipt: Receipt) {
        if receipt.is_requested() {
            self.answer_now(Effect::Answer(Box::new(move || receipt.give())));
        }
    }

    /// Is this the attempt that is under way? Reports may come twice, and after a cancellation.
    fn is_current(&mut self, record: &TaskRecord) -> bool {
        let current = self.attempts.get(&(record.key, record.task));
        let is_current = current == Some(&record.failed_attempts) || planted::has(Bug::AttemptsNotTold);
        self.counters.dropped_messages += u64::from(!is_current);
        is_current
    }

    fn fail_attempt(
        &mut self,
        record: &TaskRecord,
        failure: Failure,
        retry_after: Option<Duration>,
        heartbeat: Option<Payload>,
        run: AttemptRun,
    ) {
        if !self.is_current(record) {
            return self.acknowledge(run.receipt);
        }
        let attempt = record.failed_attempts + 1;
        let policy = self.retry_policy(record);
        let draw = self.entropy.share();
        let next = match failure.permanent {
            true => None,
            false => policy.next_attempt(attempt, record.scheduled, self.now, draw, retry_after),
        };
        let Some(due) = next else {
            return self.complete_task(record, Err(failure), run);
        };
        let mut again = record.clone();
        again.failed_attempts = attempt;
        again.due = Some(due);
        again.kills = 0;
        again.last_heartbeat = heartbeat.or(again.last_heartbeat);
        if again.failures.len() == FAILURES_KEPT {
            again.failures.remove(0);
        }
        again.failures.push(AttemptFailure {
            at: self.now,
            kind: kept(failure.kind),
            message: kept(failure.message),
        });
        self.postpone(again, run);
    }

    /// A 429 without a limiter: the task waits and burns no attempt; the retry deadline bounds it.
    fn wait_without_attempt(&mut self, record: &TaskRecord, retry_after: Duration, run: AttemptRun) {
        if !self.is_current(record) {
            return self.acknowledge(run.receipt);
        }
        let due = self.now + retry_after;
        let deadline = self.retry_policy(record).deadline;
        if deadline.is_some_and(|deadline| due > record.scheduled + deadline) {
            let message = format!("limited for another {retry_after:?}, which is beyond the retry deadline");
            return self.complete_task(record, Err(Failure::new("Limited", message)), run);
        }
        let again = TaskRecord {
            due: Some(due),
            kills: 0,
            ..record.clone()
        };
        self.postpone(again, run);
    }

    fn postpone(&mut self, record: TaskRecord, run: AttemptRun) {
        self.attempts
            .insert((record.key, record.task), record.failed_attempts);
        if &*record.name == DELIVERY {
            self.note_delivery(&record);
        }
        let op = self.put_task(&record);
        let due = record.due.unwrap_or(self.now);
        self.retries
            .insert((due, record.key, record.task), StoredTask::Activity(record));
        let receipt = run.receipt;
        let answer = receipt
            .is_requested()
            .then(|| Effect::Answer(Box::new(move || receipt.give())));
        self.push_turn(Turn {
            ops: vec![op],
            effects: answer.into_iter().collect(),
            ..Turn::default()
        });
    }

    /// Makes the next attempts of an instance due now: of one activity, or of all that wait for theirs.
    pub(super) fn make_retries_due(&mut self, id: &InstanceId, wanted: Option<TaskId>) -> Vec<Op> {
        let now = self.now;
        let is_meant = |record: &TaskRecord| {
            record.instance == *id
                && &*record.name != DELIVERY
                && wanted.is_none_or(|wanted| wanted == record.task)
        };
        let places = self.retries.iter().filter_map(|(place, stored)| match stored {
            StoredTask::Activity(record) if is_meant(record) => Some(*place),
            _ => None,
        });
        let places: Vec<_> = places.collect();
        let mut ops = Vec::with_capacity(places.len());
        for place in places {
            let Some(StoredTask::Activity(mut record)) = self.retries.remove(&place) else {
                continue;
            };
            record.due = Some(now.min(place.0));
            ops.push(self.put_task(&record));
            self.retries
                .insert((now.min(place.0), place.1, place.2), StoredTask::Activity(record));
        }
        ops
    }

    fn retry_policy(&self, record: &TaskRecord) -> RetryPolicy {
        let defined = || {
            self.config
                .executor
                .activity_settings(&record.name)
                .and_then(|settings| settings.retry)
        };
        record.options.retry.or_else(defined).unwrap_or(RetryPolicy::NONE)
    }

    /// A task or child whose next attempt is due.
    pub(super) fn try_again(&mut self, key: ExecutionKey, task: TaskId, stored: StoredTask) {
        let mut turn = Turn::default();
        match stored {
            StoredTask::Told(_) => return,
            // It was cancelled while it waited.
            StoredTask::Activity(record) if !self.is_current(&record) => return,
            StoredTask::Activity(mut record) => {
                record.due = None;
                turn.effects.push(Effect::Dispatch(Arc::new(record)));
            }
            StoredTask::Child(mut child) => {
                child.due = None;
                let mut request = child.request.clone();
                request.reuse = ReusePolicy::Replace;
                turn.ops.push(put_child(key, task, &child));
                let target = Target::Orchestration(child.instance.clone());
                self.children.insert((key, task), child);
                self.send(target, Message::Start(Box::new(request)), &mut turn);
            }
        }
        self.push_turn(turn);
    }

    /// A child failed: is it tried again? Then its parent does not hear of it.
    pub(super) fn retry_child(&mut self, sequence: Option<u64>, message: &Message) -> bool {
        let Message::ChildDone {
            execution,
            task,
            outcome: Err(failure),
        } = message
        else {
            return false;
        };
        let Some(child) = self.children.get(&(*execution, *task)) else {
            return false;
        };
        let Some(policy) = child.options.retry.filter(|_| !failure.permanent) else {
            return false;
        };
        let draw = self.entropy.share();
        let attempt = child.failed_attempts + 1;
        let Some(due) = policy.next_attempt(attempt, child.scheduled, self.now, draw, None) else {
            return false;
        };
        let again = ChildRecord {
            failed_attempts: attempt,
            due: Some(due),
            ..child.clone()
        };
        let mut turn = Turn {
            ops: vec![put_child(*execution, *task, &again)],
            ..Turn::default()
        };
        if let Some(seq) = sequence {
            turn.ops.push(Op::DeleteMessage {
                partition: self.config.id,
                seq,
            });
        }
        self.children.insert((*execution, *task), again.clone());
        self.retries
            .insert((due, *execution, *task), StoredTask::Child(again));
        self.push_turn(turn);
        true
    }
}

/// This execution as the parent of what a task started.
fn as_parent(id: &InstanceId, key: ExecutionKey, task: TaskId) -> Parent {
    Parent {
        instance: id.clone(),
        execution: key,
        task,
    }
}

pub(super) fn put_child(key: ExecutionKey, task: TaskId, child: &ChildRecord) -> Op {
    let data = record::encode_task(&StoredTask::Child(child.clone()));
    Op::PutTask { key, task, data }
}

/// As much of a text as a task keeps of a failure.
pub(super) fn kept(mut text: String) -> String {
    cut(&mut text, FAILURE_TEXT_BYTES_MAX);
    text
}
