//! Instances under test, and what is known of each from the answers that clients got.

use dalsegno_core::{InstanceId, Timestamp};
use dalsegno_engine::partition::Entropy;
use dalsegno_engine::request::{InstanceStatus, Started};
use dalsegno_engine::simulation::Promise;

use crate::interpreter::event_name;
use crate::program::{Program, Statement, below, is_fragile};

/// Something a client asked for and has to ask again until it is answered.
#[derive(Debug)]
pub(crate) struct Asked<T> {
    /// The request under way.
    pub(crate) promise: Option<Promise<T>>,
    /// It was answered for good.
    pub(crate) is_done: bool,
    /// The answer was that it comes too late.
    pub(crate) is_late: bool,
}

impl<T> Asked<T> {
    /// Not asked yet.
    pub(crate) fn new() -> Self {
        Self {
            promise: None,
            is_done: false,
            is_late: false,
        }
    }

    /// May it be asked?
    pub(crate) fn is_open(&self) -> bool {
        !self.is_done && self.promise.is_none()
    }

    /// The answer, if it has come.
    pub(crate) fn take(&mut self) -> Option<dalsegno_engine::request::Answer<T>> {
        let answer = self.promise.as_ref().and_then(Promise::take);
        if answer.is_some() {
            self.promise = None;
        }
        answer
    }
}

/// What clients may do to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Suspend, resume, rewind and start it again: its sums stay exact.
    Steady,
    /// Also terminate, cancel and replace it: what it counted is not known.
    Victim,
    /// Purge it once it is finished.
    Ephemeral,
}

/// Commands that give no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Suspend,
    Resume,
    Terminate,
    Cancel,
    Rewind,
    Purge,
}

/// Starts of an instance that was started before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// Only if it is finished.
    Restart,
    /// In any case.
    Replace,
    /// Never: it exists.
    Reject,
    /// Gives the existing one.
    ReturnExisting,
}

/// Is it still there?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    There,
    /// A purge was not answered.
    Unknown,
    Purged,
}

/// One instance under test.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) id: InstanceId,
    pub(crate) program: usize,
    pub(crate) role: Role,
    /// Not to begin before this.
    pub(crate) scheduled: Option<Timestamp>,
    pub(crate) start: Asked<Started>,
    /// Events its program and no child waits for, by name.
    pub(crate) events: Vec<(String, i64, Asked<()>)>,
    /// Events that no code waits for, by name.
    pub(crate) surplus: Vec<(String, Asked<()>)>,
    pub(crate) command: Option<(Kind, Promise<()>)>,
    pub(crate) again: Option<(Again, Promise<Started>)>,
    pub(crate) wait: Option<Promise<Option<InstanceStatus>>>,
    /// Executions of the whole program that were acknowledged, and those that may have been.
    pub(crate) runs: (i64, i64),
    /// Requests that could begin a new run, to tell what a termination was about.
    pub(crate) starts_asked: u64,
    /// `starts_asked` when the termination under way was asked.
    pub(crate) termination_asked: u64,
    /// A termination was acknowledged and nothing can have begun since.
    pub(crate) is_terminated: bool,
    /// The same for a request to cancel.
    pub(crate) is_cancelled: bool,
    pub(crate) presence: Presence,
    /// Children that go with it.
    pub(crate) doomed: Vec<(InstanceId, Asked<()>)>,
}

impl Subject {
    /// A new one with a random program and role.
    pub(crate) fn random(entropy: &mut Entropy, programs: &[Program], number: usize) -> Self {
        let program = choose_program(entropy, programs);
        let statements = programs[program].statements.iter().enumerate();
        let events = statements.filter_map(|(at, statement)| match statement {
            Statement::Event(value) => Some((event_name(at), *value, Asked::new())),
            _ => None,
        });
        let role = match below(entropy, 10) {
            0..=2 => Role::Victim,
            // What a purged one had counted before it failed would not be known.
            3 | 4 if !is_fragile(programs, program) => Role::Ephemeral,
            _ => Role::Steady,
        };
        Self {
            id: InstanceId::trusted(format!("subject-{number}")),
            program,
            role,
            scheduled: None,
            start: Asked::new(),
            events: events.collect(),
            surplus: Vec::new(),
            command: None,
            again: None,
            wait: None,
            runs: (1, 0),
            starts_asked: 0,
            termination_asked: 0,
            is_terminated: false,
            is_cancelled: false,
            presence: Presence::There,
            doomed: Vec::new(),
        }
    }

    /// A new run waits for its events anew. One that is raised twice is read once.
    pub(crate) fn reset_events(&mut self) {
        for (_, _, asked) in &mut self.events {
            asked.is_done = false;
        }
    }

    /// A rewound run waits for the events that were refused while it had failed; those that were
    /// taken are its own.
    pub(crate) fn repeat_late_events(&mut self) {
        for (_, _, asked) in self.events.iter_mut().filter(|event| event.2.is_late) {
            (asked.is_done, asked.is_late) = (false, false);
        }
    }

    /// The process is gone: what was asked and not answered may have been done.
    pub(crate) fn forget_promises(&mut self) {
        self.start.promise = None;
        self.wait = None;
        for (_, _, asked) in &mut self.events {
            asked.promise = None;
        }
        for (_, asked) in &mut self.surplus {
            asked.promise = None;
        }
        for (_, asked) in &mut self.doomed {
            asked.promise = None;
        }
        match self.command.take() {
            Some((Kind::Purge, _)) => self.presence = Presence::Unknown,
            Some((Kind::Rewind, _)) => self.repeat_late_events(),
            Some(_) | None => {}
        }
        if let Some((Again::Restart | Again::Replace, _)) = self.again.take() {
            self.runs.1 += 1;
            self.reset_events();
        }
    }
}

/// The number of a program whose children wait for no events: nobody knows their ids.
pub fn choose_program(entropy: &mut Entropy, programs: &[Program]) -> usize {
    fn waits(programs: &[Program], number: usize) -> bool {
        programs[number]
            .statements
            .iter()
            .any(|statement| match statement {
                Statement::Event(_) => true,
                Statement::Child(child) => waits(programs, *child),
                _ => false,
            })
    }
    let fits = |number: &usize| {
        let children = programs[*number]
            .statements
            .iter()
            .filter_map(|statement| match statement {
                Statement::Child(child) => Some(*child),
                _ => None,
            });
        !children.into_iter().any(|child| waits(programs, child))
    };
    let fitting: Vec<usize> = (0..programs.len()).filter(fits).collect();
    fitting[below(entropy, fitting.len())]
}
