//! What must have come out, once everything is at rest.

use dalsegno_core::event::ParentClosePolicy;
use dalsegno_core::orchestration::Orchestration;
use dalsegno_core::query::{LargeValues, Status};
use dalsegno_core::store::InstanceRow;
use dalsegno_core::{EntityId, Event, EventKind, ExecutionKey, PartitionId};
use dalsegno_engine::loader::{complete, read_entity, read_history};
use dalsegno_engine::record::decode_message;

use crate::program::{COUNTERS, counted, result_of};
use crate::scenario::World;
use crate::subject::{Presence, Role, Subject};

impl World {
    /// Is everything answered and everybody finished?
    pub(crate) fn is_settled(&mut self) -> Result<bool, String> {
        let is_answered = |subject: &Subject| {
            subject.start.is_done
                && subject.command.is_none()
                && subject.again.is_none()
                && subject.events.iter().all(|event| event.2.is_done)
                && (subject.presence != Presence::Purged
                    || subject.doomed.iter().all(|(_, asked)| asked.is_done))
        };
        let asked = self.subjects.iter().all(is_answered);
        if !asked || !self.open_signals.is_empty() || !self.unfinished()?.is_empty() {
            return Ok(false);
        }
        match self.subjects.iter().find(|subject| subject.wait.is_some()) {
            Some(subject) => Err(format!("who waits for {} was forgotten", subject.id)),
            None => Ok(true),
        }
    }

    fn row(&self, subject: &Subject) -> Result<Option<InstanceRow>, String> {
        let store = self.ground.store();
        let row = store.instance(&subject.id).map_err(|error| error.to_string())?;
        let Some(mut row) = row else {
            return Ok(None);
        };
        complete(&*store, &mut row, LargeValues::Read).map_err(|error| error.to_string())?;
        Ok(Some(row))
    }

    /// Who is not final, and what for; empty when all are.
    pub(crate) fn unfinished(&self) -> Result<String, String> {
        let mut open = Vec::new();
        for (number, subject) in self.subjects.iter().enumerate() {
            match self.row(subject)? {
                Some(_) if self.is_to_be_rewound(number)? => {
                    open.push(format!("{} has failed", subject.id));
                }
                Some(row) if row.status.is_final() => {}
                Some(row) => open.push(format!(
                    "{} ({:?}, runs {:?}, {:?}) is {} {:?}, {}",
                    subject.id,
                    subject.role,
                    subject.runs,
                    self.programs[subject.program].statements,
                    row.status.as_str(),
                    row.parked,
                    self.awaited(&row)?
                )),
                None if subject.presence != Presence::There => {}
                None => open.push(format!("{} is not there", subject.id)),
            }
        }
        Ok(open.join(", "))
    }

    /// What an instance waits for, for the report of a failure.
    fn awaited(&self, row: &InstanceRow) -> Result<String, String> {
        let history = read_history(&*self.ground.store(), row).map_err(|error| error.to_string())?;
        let orchestration = Orchestration::fold(row.clone(), &history);
        Ok(format!(
            "waits for {:?} after {} events: {}",
            orchestration.tasks(),
            history.len(),
            words(&history)
        ))
    }

    /// All that can be told at the end.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.verify("at the end")?;
        for number in 0..self.subjects.len() {
            self.check_subject(number)?;
        }
        self.check_counters()?;
        self.check_rest()?;
        self.check_ledger()
    }

    fn check_subject(&mut self, number: usize) -> Result<(), String> {
        let subject = &self.subjects[number];
        let Some(row) = self.row(subject)? else {
            return match subject.presence {
                Presence::There => Err(format!("{} was acknowledged and is gone", subject.id)),
                Presence::Unknown | Presence::Purged => Ok(()),
            };
        };
        if subject.presence == Presence::Purged {
            return Err(format!("{} was purged and is there", subject.id));
        }
        self.check_time(subject, &row)?;
        self.marks.surplus_events += self.check_surplus(subject, &row)?;
        let status = row.status.as_str();
        if subject.is_terminated && row.status != Status::Terminated {
            return Err(format!("{} was terminated and is {status}", subject.id));
        }
        self.check_cancelled(number, &row)?;
        let subject = &self.subjects[number];
        if row.status == Status::Canceled && subject.role == Role::Victim {
            self.marks.canceled += 1;
            return Ok(());
        }
        if row.status == Status::Terminated && subject.role == Role::Victim {
            self.marks.terminated += 1;
            return Ok(());
        }
        if row.status == Status::Completed && subject.role == Role::Victim && self.is_late_to_see(&row)? {
            return Ok(());
        }
        if row.status == Status::Failed && self.swarm.has_tiny_history() {
            self.marks.histories_full += 1;
            return Ok(());
        }
        let expected = result_of(&self.programs, subject.program).to_string();
        let output = row.output.as_ref().map(|output| output.as_str().to_owned());
        if row.status != Status::Completed || output.as_deref() != Some(&expected) {
            return Err(format!(
                "{} is {status} with {output:?}, expected {expected}; {:?}, {}",
                subject.id,
                row.failure,
                self.awaited(&row)?
            ));
        }
        self.marks.completed += 1;
        self.marks.delayed_starts += u64::from(row.scheduled_start.is_some());
        Ok(())
    }

    /// It ended in the turn that brought the request; executions before may have heeded it already.
    fn is_late_to_see(&self, row: &InstanceRow) -> Result<bool, String> {
        let history = read_history(&*self.ground.store(), row).map_err(|error| error.to_string())?;
        Ok(ended_before_it_saw(&history))
    }

    /// One that was cancelled ends so, and so do the children that follow it, before time goes on.
    fn check_cancelled(&mut self, number: usize, row: &InstanceRow) -> Result<(), String> {
        let subject = &self.subjects[number];
        let may_end = [Status::Canceled, Status::Terminated].contains(&row.status)
            || (row.status == Status::Failed && self.swarm.has_tiny_history());
        let store = self.ground.store();
        let history = read_history(&*store, row).map_err(|error| error.to_string())?;
        let is_request = |event: &&Event| matches!(event.kind, EventKind::CancelRequested { .. });
        if subject.is_cancelled && !may_end && !ended_before_it_saw(&history) {
            return Err(format!(
                "{} was cancelled and is {}: {}",
                subject.id,
                row.status.as_str(),
                words(&history)
            ));
        }
        let Some(requested) = history.iter().find(is_request).map(|event| event.at) else {
            return Ok(());
        };
        let followers =
            history
                .iter()
                .take_while(|event| !is_request(event))
                .filter_map(|event| match &event.kind {
                    EventKind::SubOrchestrationInstanceCreated {
                        instance,
                        parent_close: ParentClosePolicy::Cancel,
                        ..
                    } => Some(instance),
                    _ => None,
                });
        for follower in followers {
            let child = store.instance(follower).map_err(|error| error.to_string())?;
            let Some(child) = child else { continue };
            self.marks.canceled_children += u64::from(child.status == Status::Canceled);
            let went_on = child.status == Status::Completed && child.completed > Some(requested);
            let own = read_history(&*store, &child).map_err(|error| error.to_string())?;
            if went_on && self.marks.clock_jumps == 0 && !ended_before_it_saw(&own) {
                return Err(format!(
                    "{follower} went on though {} was cancelled at {requested:?}: {} of {}",
                    row.id,
                    words(&own),
                    words(&history)
                ));
            }
        }
        Ok(())
    }

    /// Every event that was accepted is in the history, though no code waited for it. Says how many
    /// there are. A run that was put in the place of another has its own events.
    fn check_surplus(&self, subject: &Subject, row: &InstanceRow) -> Result<u64, String> {
        let is_first_run = subject.starts_asked == 0;
        if !is_first_run || self.swarm.has_tiny_history() {
            return Ok(0);
        }
        let history = read_history(&*self.ground.store(), row).map_err(|error| error.to_string())?;
        let accepted = subject.surplus.iter().filter(|(_, asked)| asked.is_done);
        let mut count = 0;
        for (name, _) in accepted {
            let is_it = |event: &Event| matches!(&event.kind, EventKind::EventRaised { name: found, .. } if **found == **name);
            if !history.iter().any(is_it) {
                return Err(format!(
                    "{name} of {} was accepted and is in no history: {}",
                    subject.id,
                    words(&history)
                ));
            }
            count += 1;
        }
        Ok(count)
    }

    /// Time in a history never goes back, and nothing begins before it is due.
    fn check_time(&self, subject: &Subject, row: &InstanceRow) -> Result<(), String> {
        let history = read_history(&*self.ground.store(), row).map_err(|error| error.to_string())?;
        if let Some(pair) = history.windows(2).find(|pair| pair[0].at > pair[1].at) {
            return Err(format!("time goes back in {}: {pair:?}", subject.id));
        }
        let is_start = |event: &&Event| matches!(event.kind, EventKind::ExecutionStarted(_));
        let begin = history.iter().find(is_start).map(|event| event.at);
        match (row.scheduled_start, begin) {
            (Some(due), Some(begin)) if begin < due => {
                Err(format!("{} began at {begin:?}, before {due:?}", subject.id))
            }
            _ => Ok(()),
        }
    }

    /// Counters hold what was acknowledged, each once; what is unknown may or may not be in.
    fn check_counters(&mut self) -> Result<(), String> {
        let is_victim = |subject: &Subject| subject.role == Role::Victim;
        if self.swarm.has_tiny_history() || self.subjects.iter().any(is_victim) {
            return Ok(());
        }
        let mut least = self.signals;
        let mut most = self.signals;
        for (number, amount) in self.maybe.iter().enumerate() {
            most[number] += amount;
        }
        for subject in &self.subjects {
            let amounts = counted(&self.programs, subject.program);
            let (certain, maybe) = subject.runs;
            for (number, amount) in amounts.into_iter().enumerate() {
                least[number] += certain * amount + maybe * amount.min(0);
                most[number] += certain * amount + maybe * amount.max(0);
            }
        }
        for number in 0..COUNTERS as usize {
            let id = EntityId::new("counter", &number.to_string()).map_err(|error| error.to_string())?;
            let row = read_entity(&*self.ground.store(), &id).map_err(|error| error.to_string())?;
            let state = row
                .and_then(|row| row.state)
                .map_or(0, |state| state.as_str().parse::<i64>().unwrap_or(i64::MIN));
            let range = least[number]..=most[number];
            if !range.contains(&state) {
                return Err(format!("counter {number} is {state}, expected {range:?}"));
            }
        }
        self.marks.exact += 1;
        Ok(())
    }

    /// At rest nothing is left over: no task, timer, message or lock, and nothing of what was purged.
    fn check_rest(&self) -> Result<(), String> {
        let store = self.ground.store();
        let hub = store.load_hub().map_err(|error| error.to_string())?;
        for partition in 0..hub.partitions {
            let loaded = store
                .load(PartitionId(partition))
                .map_err(|error| error.to_string())?;
            let left = [
                loaded.messages.len(),
                loaded.tasks.len(),
                loaded.timers.len(),
                loaded.busy_entities.len(),
            ];
            if left != [0; 4] {
                return Err(format!(
                    "at rest, messages, tasks, timers and locks are left: {left:?}, {:?}",
                    loaded
                        .messages
                        .iter()
                        .map(|(_, data)| decode_message(data))
                        .collect::<Vec<_>>()
                ));
            }
        }
        for subject in self
            .subjects
            .iter()
            .filter(|subject| subject.presence == Presence::Purged)
        {
            for (child, _) in &subject.doomed {
                let row = store.instance(child).map_err(|error| error.to_string())?;
                if row.is_some() {
                    return Err(format!("{child} was purged with its parent and is there"));
                }
            }
        }
        for key in (1..=hub.key_max.0).map(ExecutionKey) {
            let is_current = store
                .instance_by_key(key)
                .map_err(|error| error.to_string())?
                .is_some();
            let history = store.history(key).map_err(|error| error.to_string())?;
            if !is_current && !history.is_empty() {
                return Err(format!(
                    "the history of execution {} is left, which is no more",
                    key.0
                ));
            }
        }
        Ok(())
    }

    /// An attempt runs again after a crash, a takeover or a rewind, and for no other reason.
    fn check_ledger(&self) -> Result<(), String> {
        let ledger = self.ledger.lock().map_err(|error| error.to_string())?;
        let most = ledger.values().copied().max().unwrap_or(0);
        let reasons = self.marks.crashes + self.marks.takeovers + self.marks.rewinds_asked + 1;
        let allowed = 2 * u32::try_from(reasons).unwrap_or(u32::MAX);
        match most > allowed {
            true => Err(format!(
                "an activity ran {most} times, {allowed} can be explained"
            )),
            false => Ok(()),
        }
    }
}

/// Did the code end in the turn that brought the request, by what came before it?
fn ended_before_it_saw(history: &[Event]) -> bool {
    let last_turn = history.rsplit(|event| event.kind == EventKind::OrchestratorStarted);
    last_turn
        .take(1)
        .flatten()
        .any(|event| matches!(event.kind, EventKind::CancelRequested { .. }))
}

/// The names of a history's events, for the report of a failure.
fn words(history: &[Event]) -> String {
    let word = |event: &Event| {
        let text = format!("{:?}", event.kind);
        let end = text.find([' ', '(']).unwrap_or(text.len());
        text[..end].to_owned()
    };
    history.iter().map(word).collect::<Vec<_>>().join(" ")
}
