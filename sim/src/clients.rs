//! What clients ask for, and what they may be told.

use dalsegno_core::event::ParentClosePolicy;
use dalsegno_core::message::ReusePolicy;
use dalsegno_core::query::Status;
use dalsegno_core::{EntityId, EventKind, InstanceId, Message, Payload, hash};
use dalsegno_engine::input::{Command, IdOrigin, WaitFor};
use dalsegno_engine::loader::read_history;
use dalsegno_engine::request::{Answer, InstanceStatus, RequestErrorKind, StartOptions, Started};
use dalsegno_engine::simulation::Promise;
use dalsegno_engine::task::EventMark;

use crate::interpreter::{LATER, input_of, later};
use crate::program::{COUNTERS, below, is_fragile};
use crate::scenario::World;
use crate::subject::{Again, Asked, Kind, Presence, Role};

/// Events that no code waits for, of one instance.
const SURPLUS_MAX: usize = 5;

impl World {
    /// One client asks for one thing.
    pub(crate) fn act_as_client(&mut self) -> Result<(), String> {
        let number = below(&mut self.entropy, self.subjects.len());
        match below(&mut self.entropy, 8) {
            0 | 1 => self.start(number),
            2 | 3 => self.raise(number),
            4 => self.signal(),
            5 => self.start_again(number),
            6 => self.wait(number),
            _ => return self.command(number),
        }
        Ok(())
    }

    pub(crate) fn start(&mut self, number: usize) {
        let subject = &mut self.subjects[number];
        if !subject.start.is_open() {
            return;
        }
        let options = Box::new(StartOptions {
            name: self.executor.orchestrator_of(&subject.id).to_owned(),
            input: Some(input_of(subject.program)),
            scheduled_start: subject.scheduled,
            reuse: ReusePolicy::ReturnExisting,
            idempotency_key: Some(subject.id.to_string()),
            ..StartOptions::default()
        });
        let id = subject.id.clone();
        subject.start.promise = Some(self.hub.ask(subject.id.as_str(), |reply| Command::Start {
            id,
            is_new_id: IdOrigin::Given,
            options,
            reply,
        }));
    }

    /// Starts what was started before: again, instead, or to be refused.
    fn start_again(&mut self, number: usize) {
        let share = self.entropy.share();
        let kind = [
            Again::Restart,
            Again::Replace,
            Again::Reject,
            Again::ReturnExisting,
        ][below(&mut self.entropy, 4)];
        let subject = &mut self.subjects[number];
        let (rate, is_allowed) = match kind {
            Again::Restart => {
                let is_known = !is_fragile(&self.programs, subject.program);
                (self.swarm.restarts, is_known || subject.role == Role::Victim)
            }
            Again::Replace => (self.swarm.replacements, subject.role == Role::Victim),
            Again::Reject | Again::ReturnExisting => (self.swarm.probes, true),
        };
        let is_free = subject.start.is_done && subject.again.is_none();
        if !is_free || !is_allowed || subject.role == Role::Ephemeral || share >= rate {
            return;
        }
        let reuse = match kind {
            Again::Restart => ReusePolicy::RejectRunning,
            Again::Replace => ReusePolicy::TerminateAndStart,
            Again::Reject => ReusePolicy::Reject,
            Again::ReturnExisting => ReusePolicy::ReturnExisting,
        };
        if matches!(kind, Again::Restart | Again::Replace) {
            subject.starts_asked += 1;
            subject.is_terminated = false;
            subject.is_cancelled = false;
        }
        let options = Box::new(StartOptions {
            name: self.executor.orchestrator_of(&subject.id).to_owned(),
            input: Some(input_of(subject.program)),
            reuse,
            ..StartOptions::default()
        });
        let id = subject.id.clone();
        let promise = self.hub.ask(subject.id.as_str(), |reply| Command::Start {
            id,
            is_new_id: IdOrigin::Given,
            options,
            reply,
        });
        subject.again = Some((kind, promise));
    }

    pub(crate) fn raise(&mut self, number: usize) {
        let subject = &mut self.subjects[number];
        let open: Vec<usize> = (0..subject.events.len())
            .filter(|at| subject.events[*at].2.is_open())
            .collect();
        if open.is_empty() || !subject.start.is_done {
            return;
        }
        let at = open[below(&mut self.entropy, open.len())];
        let (name, value, asked) = &mut subject.events[at];
        let (id, key) = (subject.id.clone(), hash::wide(name));
        let input = Payload::from(value.to_string());
        // Every event has its own name, so that the name is as good a key as any.
        let mark = Some(EventMark {
            key,
            fingerprint: hash::fingerprint(&[name, input.as_str()]),
        });
        let message = Message::EventRaised {
            name: name.as_str().into(),
            input: Some(input),
            trace: None,
        };
        asked.promise = Some(self.hub.ask(subject.id.as_str(), |reply| Command::Raise {
            id,
            message,
            mark,
            reply,
        }));
    }

    /// A client raises an event that no code waits for. Once it is accepted, the history has it at the end.
    pub(crate) fn raise_surplus(&mut self) {
        let rate = self.swarm.surplus_events;
        if rate == 0.0 || self.surplus.share() >= rate {
            return;
        }
        let number = below(&mut self.surplus, self.subjects.len());
        let subject = &mut self.subjects[number];
        if !subject.start.is_done || subject.surplus.len() == SURPLUS_MAX {
            return;
        }
        let name = format!("surplus-{}", subject.surplus.len());
        let (id, message) = (
            subject.id.clone(),
            Message::EventRaised {
                name: name.as_str().into(),
                input: None,
                trace: None,
            },
        );
        let promise = self.hub.ask(subject.id.as_str(), |reply| Command::Raise {
            id,
            message,
            mark: None,
            reply,
        });
        let asked = Asked {
            promise: Some(promise),
            ..Asked::new()
        };
        subject.surplus.push((name, asked));
    }

    fn signal(&mut self) {
        let counter = below(&mut self.entropy, COUNTERS as usize);
        let amount = 1 + below(&mut self.entropy, 5) as i64;
        let entity = EntityId::new("counter", &counter.to_string()).expect("digits are a valid key");
        let delay = std::time::Duration::from_millis(below(&mut self.entropy, 5_000) as u64);
        let at = (self.entropy.share() < self.swarm.delayed_signals).then(|| self.hub.now() + delay);
        let (operation, input) = match at {
            Some(at) => (LATER, later(amount, at)),
            None => ("add", Payload::from(amount.to_string())),
        };
        let id = entity.to_string();
        let promise = self.hub.ask(&id, |reply| Command::Signal {
            entity,
            operation: operation.into(),
            input: Some(input),
            at,
            trace: None,
            reply,
        });
        self.open_signals.push((counter, amount, promise));
    }

    fn wait(&mut self, number: usize) {
        let share = self.entropy.share();
        let subject = &mut self.subjects[number];
        if !subject.start.is_done || subject.wait.is_some() || share >= self.swarm.probes {
            return;
        }
        let id = subject.id.clone();
        subject.wait = Some(self.hub.ask(subject.id.as_str(), |reply| Command::Wait {
            id,
            until: WaitFor::Completion,
            ticket: 0,
            reply,
        }));
    }

    /// A command that gives no value, if this subject may be treated so.
    fn command(&mut self, number: usize) -> Result<(), String> {
        if self.subjects[number].role == Role::Victim && self.happens(self.swarm.cancellations) {
            return self.ask_command(number, Kind::Cancel);
        }
        let share = self.entropy.share();
        let own = match self.subjects[number].role {
            Role::Steady => Kind::Rewind,
            Role::Victim => Kind::Terminate,
            Role::Ephemeral => Kind::Purge,
        };
        let kind = [Kind::Suspend, Kind::Resume, Kind::Rewind, own, own][below(&mut self.entropy, 5)];
        let rate = match kind {
            Kind::Suspend | Kind::Resume => self.swarm.suspensions,
            Kind::Terminate | Kind::Cancel => self.swarm.terminations,
            Kind::Rewind => self.swarm.rewinds,
            Kind::Purge => self.swarm.purges,
        };
        if share < rate {
            self.ask_command(number, kind)?;
        }
        Ok(())
    }

    pub(crate) fn ask_command(&mut self, number: usize, kind: Kind) -> Result<(), String> {
        if !self.subjects[number].start.is_done || self.subjects[number].command.is_some() {
            return Ok(());
        }
        if kind == Kind::Purge {
            self.choose_children(number)?;
        }
        self.marks.rewinds_asked += u64::from(kind == Kind::Rewind);
        let subject = &mut self.subjects[number];
        subject.termination_asked = subject.starts_asked;
        let (id, reason) = (subject.id.clone(), None);
        let promise = self.hub.ask(subject.id.as_str(), |reply| match kind {
            Kind::Suspend => Command::Suspend { id, reason, reply },
            Kind::Resume => Command::Resume { id, reason, reply },
            Kind::Rewind => Command::Rewind { id, reason, reply },
            Kind::Purge => purge(id, reply),
            Kind::Cancel => Command::Cancel { id, reason, reply },
            Kind::Terminate => Command::Terminate {
                id,
                reason,
                output: None,
                children: ParentClosePolicy::Terminate,
                reply,
            },
        });
        subject.command = Some((kind, promise));
        Ok(())
    }

    /// As a recursive purge does it: the children are read from the history beforehand.
    fn choose_children(&mut self, number: usize) -> Result<(), String> {
        let subject = &mut self.subjects[number];
        if !subject.doomed.is_empty() {
            return Ok(());
        }
        let store = self.ground.store();
        let row = store.instance(&subject.id).map_err(|error| error.to_string())?;
        let Some(row) = row.filter(|row| row.status.is_final()) else {
            return Ok(());
        };
        let history = read_history(&*store, &row).map_err(|error| error.to_string())?;
        let children = history.into_iter().filter_map(|event| match event.kind {
            EventKind::SubOrchestrationInstanceCreated { instance, .. } => Some(instance),
            _ => None,
        });
        subject.doomed = children.map(|child| (child, Asked::new())).collect();
        Ok(())
    }

    /// Without faults everything that is owed is asked for until it is done.
    pub(crate) fn ask_for_the_rest(&mut self) -> Result<(), String> {
        for number in 0..self.subjects.len() {
            self.start(number);
            // Who is told that too much waits asks again later, so that time can pass meanwhile.
            if self.entropy.share() < 0.02 {
                self.raise(number);
            }
            self.purge_children(number);
            if self.entropy.share() < 0.01 {
                let kind = match self.is_to_be_rewound(number)? {
                    true => Kind::Rewind,
                    false => Kind::Resume,
                };
                self.ask_command(number, kind)?;
            }
        }
        Ok(())
    }

    /// Failed because the world was broken, which it no longer is.
    pub(crate) fn is_to_be_rewound(&self, number: usize) -> Result<bool, String> {
        let subject = &self.subjects[number];
        if self.swarm.has_tiny_history() || !is_fragile(&self.programs, subject.program) {
            return Ok(false);
        }
        let row = self.ground.store().instance(&subject.id);
        let row = row.map_err(|error| error.to_string())?;
        Ok(row.is_some_and(|row| row.status == Status::Failed))
    }

    fn purge_children(&mut self, number: usize) {
        let subject = &mut self.subjects[number];
        if subject.presence != Presence::Purged {
            return;
        }
        for (child, asked) in subject.doomed.iter_mut().filter(|(_, asked)| asked.is_open()) {
            let id = child.clone();
            asked.promise = Some(self.hub.ask(child.as_str(), |reply| purge(id, reply)));
        }
    }

    /// Takes the answers that have come, and judges them.
    pub(crate) fn collect(&mut self) -> Result<(), String> {
        for number in 0..self.subjects.len() {
            self.collect_events(number)?;
            self.collect_command(number);
            self.collect_again(number);
            let subject = &mut self.subjects[number];
            if subject.start.take().is_some() {
                subject.start.is_done = true;
            }
            if let Some(answer) = subject.wait.as_ref().and_then(Promise::take) {
                subject.wait = None;
                self.judge_wait(number, answer);
            }
        }
        let signals = &mut self.signals;
        self.open_signals.retain(|(counter, amount, promise)| {
            let answered = promise.take().is_some();
            if answered {
                signals[*counter] += amount;
            }
            !answered
        });
        self.problem.take().map_or(Ok(()), Err)
    }

    fn collect_events(&mut self, number: usize) -> Result<(), String> {
        let subject = &mut self.subjects[number];
        for (_, _, asked) in &mut subject.events {
            let Some(answer) = asked.take() else { continue };
            match answer.map_err(|error| error.kind) {
                Ok(()) => asked.is_done = true,
                Err(RequestErrorKind::Finished) => (asked.is_done, asked.is_late) = (true, true),
                Err(RequestErrorKind::NotFound) if subject.presence != Presence::There => {
                    asked.is_done = true;
                }
                Err(RequestErrorKind::Busy) => self.marks.busy += 1,
                Err(kind) => return Err(format!("an event for {} was answered {kind:?}", subject.id)),
            }
        }
        for (_, asked) in &mut subject.surplus {
            let Some(answer) = asked.take() else { continue };
            match answer.map_err(|error| error.kind) {
                Ok(()) => asked.is_done = true,
                Err(RequestErrorKind::Finished | RequestErrorKind::NotFound | RequestErrorKind::Busy) => {}
                Err(kind) => return Err(format!("an event for {} was answered {kind:?}", subject.id)),
            }
        }
        for (child, asked) in &mut subject.doomed {
            let Some(answer) = asked.take() else { continue };
            match answer.map_err(|error| error.kind) {
                Ok(()) => self.marks.purged_children += 1,
                // An earlier purge of it was not answered.
                Err(RequestErrorKind::NotFound) => {}
                // The parent failed for want of room in its history and left the child alone.
                Err(RequestErrorKind::InstanceRunning) if self.swarm.has_tiny_history() => continue,
                Err(kind) => return Err(format!("the purge of the child {child} was answered {kind:?}")),
            }
            asked.is_done = true;
        }
        Ok(())
    }

    fn collect_command(&mut self, number: usize) {
        let subject = &mut self.subjects[number];
        let Some((kind, promise)) = &subject.command else {
            return;
        };
        let (kind, Some(answer)) = (*kind, promise.take()) else {
            return;
        };
        subject.command = None;
        let may_be_gone = subject.presence != Presence::There;
        let may_fail = is_fragile(&self.programs, subject.program) || self.swarm.has_tiny_history();
        let refusal = answer.err().map(|error| error.kind);
        let is_right = match (kind, refusal) {
            (_, Some(RequestErrorKind::NotFound)) => may_be_gone,
            (Kind::Rewind, None) => {
                self.marks.rewound += 1;
                subject.repeat_late_events();
                may_fail && !subject.is_terminated
            }
            (Kind::Purge, None) => {
                self.marks.purged += 1;
                subject.presence = Presence::Purged;
                true
            }
            (Kind::Terminate, None) => {
                subject.is_terminated =
                    subject.again.is_none() && subject.starts_asked == subject.termination_asked;
                true
            }
            (Kind::Cancel, None) => {
                subject.is_cancelled =
                    subject.again.is_none() && subject.starts_asked == subject.termination_asked;
                !subject.is_terminated
            }
            (Kind::Suspend | Kind::Resume, None) => !subject.is_terminated,
            (Kind::Purge, Some(kind)) => kind == RequestErrorKind::InstanceRunning,
            (Kind::Terminate | Kind::Cancel, Some(kind)) => kind == RequestErrorKind::Finished,
            (_, Some(kind)) => {
                kind == RequestErrorKind::Finished
                    || (kind == RequestErrorKind::WrongState && !subject.is_terminated)
            }
        };
        if kind == Kind::Purge && refusal == Some(RequestErrorKind::NotFound) {
            subject.presence = Presence::Purged;
        }
        if !is_right {
            self.problem = Some(format!("{kind:?} of {} was answered {refusal:?}", subject.id));
        }
    }

    fn collect_again(&mut self, number: usize) {
        let subject = &mut self.subjects[number];
        let Some((kind, promise)) = &subject.again else {
            return;
        };
        let (kind, Some(answer)) = (*kind, promise.take()) else {
            return;
        };
        subject.again = None;
        let is_right = match (kind, &answer) {
            (Again::Restart | Again::Replace, Ok(Started { existing: None, .. })) => {
                subject.runs.0 += 1;
                subject.reset_events();
                match kind {
                    Again::Restart => self.marks.restarted += 1,
                    _ => self.marks.replaced += 1,
                }
                true
            }
            (Again::Restart | Again::Reject, Err(error)) => error.kind == RequestErrorKind::InstanceExists,
            (Again::ReturnExisting, Ok(started)) => started.existing.is_some(),
            _ => false,
        };
        if !is_right {
            self.problem = Some(format!("{kind:?} of {} was answered {answer:?}", subject.id));
        }
    }

    fn judge_wait(&mut self, number: usize, answer: Answer<Option<InstanceStatus>>) {
        let subject = &self.subjects[number];
        self.marks.waited += 1;
        let is_right = match &answer {
            Ok(Some(status)) => status.row.status.is_final(),
            Ok(None) => subject.presence != Presence::There || subject.role == Role::Ephemeral,
            Err(_) => false,
        };
        if !is_right {
            self.problem = Some(format!("who waited for {} was told {answer:?}", subject.id));
        }
    }
}

fn purge(id: InstanceId, reply: dalsegno_engine::turn::Reply<()>) -> Command {
    Command::Purge { id, key: None, reply }
}
