//! Why an instance does not move: the answer, in words and in fields.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::store::InstanceRow;
use dalsegno_core::{EntityId, Event, EventKind, InstanceId, TaskId, Timestamp};

/// One thing that holds an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// What holds it.
    pub kind: ReasonKind,
    /// The whole of it in words.
    pub text: String,
    /// The task that is awaited.
    pub task: Option<TaskId>,
    /// What is awaited by name: an activity, an orchestrator, an event, a limiter.
    pub name: Option<Arc<str>>,
    /// The child that is awaited.
    pub instance: Option<InstanceId>,
    /// The entities that are called, or whose locks are asked for or held.
    pub entities: Vec<EntityId>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// When it goes on by itself, if that is known.
    pub due: Option<Timestamp>,
    /// Attempts that failed.
    pub attempts_failed: Option<u32>,
    /// Attempts there are in all, of a policy with an end.
    pub attempts_max: Option<u32>,
    /// What the last attempt failed with.
    pub last_failure: Option<String>,
    /// Where the code waits: file, line and column.
    pub location: Option<String>,
    /// Who has what is waited for: the orchestration that holds a lock, the worker that has a turn.
    pub owner: Option<String>,
}

/// Where an attempt is that runs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptElsewhere {
    /// A worker has it, for so long.
    At {
        /// As the list of workers names it.
        worker: String,
        /// Since it was handed over.
        time: Duration,
    },
    /// None has it: why, in words.
    Waits(String),
}

/// What holds an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReasonKind {
    /// A fault: its code does not fit its history, or worse.
    Parked,
    /// Somebody suspended it.
    Suspended,
    /// Nobody offers the code that it needs.
    NoWorker,
    /// An attempt failed and the next has its time.
    Retry,
    /// The tokens or places of a limiter are used up.
    Limiter,
    /// Another orchestration holds a lock.
    Lock,
    /// All slots of this host are taken.
    Slot,
    /// Its start has its time.
    ScheduledStart,
    /// It was asked to end and has not yet.
    CancelRequested,
    /// Its code is at work, here or at a worker.
    Turn,
    /// An activity is at work.
    Activity,
    /// An external event.
    Event,
    /// A timer.
    Timer,
    /// A sub-orchestration.
    Child,
    /// An entity's answer.
    Entity,
    /// It holds locks, which hold others.
    LockHeld,
    /// What its code says beside.
    Code,
    /// There is more than is told.
    More,
}

impl ReasonKind {
    /// The word for it in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Suspended => "suspended",
            Self::NoWorker => "noWorker",
            Self::Retry => "retry",
            Self::Limiter => "limiter",
            Self::Lock => "lock",
            Self::Slot => "slot",
            Self::ScheduledStart => "scheduledStart",
            Self::CancelRequested => "cancelRequested",
            Self::Turn => "turn",
            Self::Activity => "activity",
            Self::Event => "event",
            Self::Timer => "timer",
            Self::Child => "child",
            Self::Entity => "entity",
            Self::LockHeld => "lockHeld",
            Self::Code => "code",
            Self::More => "more",
        }
    }

    /// Does it hold an instance that would otherwise move? A timer or an event that is awaited
    /// does not: that is what the code wants.
    pub fn is_stuck(self) -> bool {
        match self {
            Self::Parked | Self::Suspended | Self::NoWorker | Self::Retry | Self::Limiter | Self::Lock => {
                true
            }
            Self::Slot
            | Self::ScheduledStart
            | Self::CancelRequested
            | Self::Turn
            | Self::Activity
            | Self::Event
            | Self::Timer
            | Self::Child
            | Self::Entity
            | Self::LockHeld
            | Self::Code
            | Self::More => false,
        }
    }
}

impl fmt::Display for ReasonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Reason {
    /// A reason that is all in its words.
    pub fn new(kind: ReasonKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            task: None,
            name: None,
            instance: None,
            entities: Vec::new(),
            since: None,
            due: None,
            attempts_failed: None,
            attempts_max: None,
            last_failure: None,
            location: None,
            owner: None,
        }
    }

    /// The same, about something with a name.
    #[must_use]
    pub fn named(mut self, name: Arc<str>) -> Self {
        self.name = Some(name);
        self
    }
}

/// An instance, and why it does not move.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Its row.
    pub row: InstanceRow,
    /// What holds it, the gravest first; empty when it is finished or simply at work.
    pub reasons: Vec<Reason>,
}

impl Explanation {
    /// Put together from what a partition knows, what the code waits for, and the history.
    pub(crate) fn new(row: InstanceRow, known: Vec<Reason>, history: &[Event]) -> Self {
        let mut reasons = joined(known);
        let scheduled = scheduled(history);
        for reason in &mut reasons {
            let of_task = reason.task.and_then(|task| scheduled.get(&task));
            let since = of_task.copied().or_else(|| since_of(reason, &row, history));
            reason.since = reason.since.or(since);
        }
        reasons.sort_by_key(|reason| (reason.kind, reason.task));
        Self { row, reasons }
    }

    /// In one line.
    pub fn summary(&self) -> String {
        match self.reasons.first() {
            _ if self.row.status.is_final() => format!("it is {}", self.row.status.as_str()),
            None => "nothing holds it: it is at work".to_owned(),
            Some(first) => match self.reasons.len() - 1 {
                0 => first.text.clone(),
                1 => format!("{}; and one more", first.text),
                more => format!("{}; and {more} more", first.text),
            },
        }
    }

    /// Is there something that holds it and should not?
    pub fn is_stuck(&self) -> bool {
        self.reasons.iter().any(|reason| reason.kind.is_stuck())
    }
}

/// The code's word about a task says where it waits; the rest of it is told by the partition.
fn joined(known: Vec<Reason>) -> Vec<Reason> {
    let (said, mut reasons): (Vec<_>, Vec<_>) = known
        .into_iter()
        .partition(|reason| reason.kind == ReasonKind::Code && reason.task.is_some());
    for said in said {
        // If there is none it is answered already, and the code will know in its next turn.
        if let Some(reason) = reasons.iter_mut().find(|reason| reason.task == said.task) {
            reason.location = said.location;
        }
    }
    reasons
}

/// When each task was asked for, last.
fn scheduled(history: &[Event]) -> HashMap<TaskId, Timestamp> {
    let of_event = |event: &Event| {
        let task = match &event.kind {
            EventKind::TaskScheduled { task, .. }
            | EventKind::TimerCreated { task, .. }
            | EventKind::SubOrchestrationInstanceCreated { task, .. }
            | EventKind::EntityOperationCalled { task, .. }
            | EventKind::EntityLockRequested { task, .. } => *task,
            _ => return None,
        };
        Some((task, event.at))
    };
    history.iter().filter_map(of_event).collect()
}

/// When what is no task began.
fn since_of(reason: &Reason, row: &InstanceRow, history: &[Event]) -> Option<Timestamp> {
    match reason.kind {
        ReasonKind::Suspended => last(history, |kind| {
            matches!(kind, EventKind::ExecutionSuspended { .. })
        }),
        ReasonKind::CancelRequested => {
            last(history, |kind| matches!(kind, EventKind::CancelRequested { .. }))
        }
        ReasonKind::ScheduledStart => Some(row.created),
        ReasonKind::More | ReasonKind::Code => None,
        // The code has waited for it since its last turn, at least.
        _ => Some(row.updated),
    }
}

fn last(history: &[Event], is_it: impl Fn(&EventKind) -> bool) -> Option<Timestamp> {
    let found = history.iter().rev().find(|event| is_it(&event.kind));
    found.map(|event| event.at)
}
