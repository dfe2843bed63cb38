//! What the clock makes due: timers, next attempts, signals for later, limiter grants.

use dalsegno_core::planted::{self, Bug};
use dalsegno_core::store::TimerRow;
use dalsegno_core::{ExecutionKey, InstanceId, Message};

use super::Partition;
use super::slot::Item;
use crate::input::{Load, Unread};

/// Timers that fire in one step, so that a burst does not keep others waiting.
const FIRED_PER_STEP_MAX: usize = 1_000;

impl Partition {
    /// Fires what is due now. Never early: `now` has reached the due time.
    pub(super) fn fire_due(&mut self) {
        for _ in 0..FIRED_PER_STEP_MAX {
            match self.timers.first() {
                Some(timer) if timer.due <= self.now || planted::has(Bug::TimerEarly) => {}
                _ => break,
            }
            if let Some(timer) = self.timers.pop_first() {
                self.fire(timer);
            }
        }
        while self
            .retries
            .first_key_value()
            .is_some_and(|((due, ..), _)| *due <= self.now)
        {
            if let Some(((_, key, task), stored)) = self.retries.pop_first() {
                self.try_again(key, task, stored);
            }
        }
        while self
            .delayed
            .first_key_value()
            .is_some_and(|((due, _), _)| *due <= self.now)
        {
            if let Some((_, delivery)) = self.delayed.pop_first() {
                self.deliver(delivery);
            }
        }
        self.read_again();
        self.grant_due();
    }

    fn fire(&mut self, timer: TimerRow) {
        self.config.meters.fired(timer.due, self.now);
        match self.keys.get(&timer.key).cloned() {
            Some(id) => self.push_item(id, fired(timer)),
            None => {
                let waiting = self.fired.entry(timer.key).or_default();
                waiting.push(timer);
                if waiting.len() == 1 {
                    self.outbox.loads.push(Load::Execution(timer.key));
                }
            }
        }
    }

    /// The store knows whose timer it was; a timer of an execution that is no more is deleted.
    pub(super) fn take_loaded_execution(
        &mut self,
        key: ExecutionKey,
        found: Result<Option<InstanceId>, Unread>,
    ) {
        let found = match found {
            Ok(found) => found,
            Err(unread) if !unread.is_damage => return self.read_later(Load::Execution(key), &unread),
            Err(unread) => {
                tracing::error!(
                    key = key.0,
                    error = unread.text,
                    "the instance of a timer is damaged; the timer stays stored"
                );
                self.fired.remove(&key);
                return;
            }
        };
        let timers = self.fired.remove(&key).unwrap_or_default();
        for timer in timers {
            match &found {
                Some(id) => self.push_item(id.clone(), fired(timer)),
                None => self.delete_timer(timer),
            }
        }
    }

    fn delete_timer(&mut self, timer: TimerRow) {
        let TimerRow { due, key, task } = timer;
        let op = dalsegno_core::store::Op::DeleteTimer { due, key, task };
        self.push_turn(crate::turn::Turn {
            ops: vec![op],
            ..Default::default()
        });
    }
}

fn fired(timer: TimerRow) -> Item {
    Item::message(
        None,
        Message::TimerFired {
            execution: timer.key,
            task: timer.task,
            fire_at: timer.due,
        },
    )
}
