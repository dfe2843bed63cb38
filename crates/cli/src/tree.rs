//! What an instance has done and waits for, as a tree.

use std::collections::HashMap;

use dalsegno_core::event::{Attempts, Event, EventKind};
use dalsegno_core::query::Status;
use dalsegno_core::{Failure, InstanceId, TaskId, Timestamp};
use dalsegno_host::v1::{ReasonWire, json};

use crate::output::{cut, shown};
use crate::time::{between, short};

/// So many of the same that are done are one line.
const FOLDED_MIN: usize = 4;

/// A task, an event, an instance.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) kind: &'static str,
    pub(crate) state: State,
    pub(crate) label: String,
    pub(crate) began: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    /// What else there is to say.
    pub(crate) notes: Vec<String>,
    /// The instance that it is.
    pub(crate) instance: Option<InstanceId>,
    pub(crate) branches: Vec<Branch>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Done,
    Failed,
    Ended,
    Waits,
}

/// Which letters may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Letters {
    Unicode,
    Ascii,
}

impl State {
    pub(crate) fn of(status: Status) -> Self {
        match status {
            Status::Completed => Self::Done,
            Status::Failed => Self::Failed,
            Status::Terminated | Status::Canceled => Self::Ended,
            _ => Self::Waits,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Ended => "ended",
            Self::Waits => "waits",
        }
    }

    fn mark(self, letters: Letters) -> &'static str {
        match (letters, self) {
            (Letters::Ascii, Self::Done) => "[ok]",
            (Letters::Ascii, Self::Failed) => "[failed]",
            (Letters::Ascii, Self::Ended) => "[ended]",
            (Letters::Ascii, Self::Waits) => "[waits]",
            (Letters::Unicode, Self::Done) => "✓",
            (Letters::Unicode, Self::Failed) => "✗",
            (Letters::Unicode, Self::Ended) => "⊘",
            (Letters::Unicode, Self::Waits) => "⧖",
        }
    }
}

impl Branch {
    pub(crate) fn new(kind: &'static str, label: impl Into<String>, began: Timestamp) -> Self {
        Self {
            kind,
            state: State::Waits,
            label: label.into(),
            began,
            ended: None,
            notes: Vec::new(),
            instance: None,
            branches: Vec::new(),
        }
    }

    pub(crate) fn end(&mut self, state: State, at: Timestamp) {
        (self.state, self.ended) = (state, Some(at));
    }

    fn done(mut self) -> Self {
        self.end(State::Done, self.began);
        self
    }

    /// The whole of it, a line each.
    pub(crate) fn text(&self, letters: Letters, now: Timestamp, all: bool) -> String {
        let mut lines = vec![self.line(letters, now)];
        self.draw(&mut lines, "", letters, now, all);
        lines.join("\n")
    }

    fn draw(&self, lines: &mut Vec<String>, indent: &str, letters: Letters, now: Timestamp, all: bool) {
        let folded = match all {
            true => self.branches.clone(),
            false => fold(&self.branches),
        };
        let (tee, bar, corner) = match letters {
            Letters::Unicode => ("├ ", "│ ", "└ "),
            Letters::Ascii => ("|- ", "|  ", "`- "),
        };
        for (place, branch) in folded.iter().enumerate() {
            let is_last = place + 1 == folded.len();
            let lead = if is_last { corner } else { tee };
            lines.push(format!("{indent}{lead}{}", branch.line(letters, now)));
            let below = if is_last {
                " ".repeat(bar.chars().count())
            } else {
                bar.to_owned()
            };
            branch.draw(lines, &format!("{indent}{below}"), letters, now, all);
        }
    }

    fn line(&self, letters: Letters, now: Timestamp) -> String {
        let mut notes = Vec::new();
        let took = between(self.began, self.ended.unwrap_or(now));
        if self.ended != Some(self.began) {
            notes.push(short(took));
        }
        notes.extend(self.notes.iter().map(|note| shown(note)));
        let mut line = format!("{} {}", self.state.mark(letters), shown(&self.label));
        if !notes.is_empty() {
            line += &format!(" ({})", notes.join(", "));
        }
        match letters {
            Letters::Unicode => line,
            Letters::Ascii => line.replace('…', "...").replace('×', "x").replace('·', "-"),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let branches: Vec<_> = self.branches.iter().map(Self::json).collect();
        serde_json::json!({
            "kind": self.kind,
            "state": self.state.word(),
            "label": self.label,
            "began": json::time(self.began),
            "ended": self.ended.map(json::time),
            "notes": self.notes,
            "instance": self.instance.as_ref().map(InstanceId::as_str),
            "branches": branches,
        })
    }
}

/// Many of the same that are done, behind one another, as one.
fn fold(branches: &[Branch]) -> Vec<Branch> {
    let is_same = |a: &Branch, b: &Branch| {
        let is_leaf = |branch: &Branch| branch.state == State::Done && branch.branches.is_empty();
        is_leaf(a) && is_leaf(b) && a.kind == b.kind && a.label == b.label
    };
    let mut folded = Vec::new();
    for run in branches.chunk_by(is_same) {
        match run {
            [first, .., last] if run.len() >= FOLDED_MIN => {
                let ends = run.iter().filter_map(|branch| branch.ended);
                let mut one = first.clone();
                one.label = format!("{} ×{}", first.label, run.len());
                one.notes.clear();
                one.ended = ends.max_by_key(|at| at.as_micros()).or(last.ended);
                folded.push(one);
            }
            _ => folded.extend_from_slice(run),
        }
    }
    folded
}

/// What a history tells, with what is known of what it waits for.
pub(crate) fn branches(events: &[Event], reasons: &[ReasonWire], now: Timestamp) -> Vec<Branch> {
    let mut growing = Growing::default();
    for event in events {
        growing.take(event);
    }
    for reason in reasons {
        growing.explain(reason, now);
    }
    growing.branches
}

#[derive(Default)]
struct Growing {
    branches: Vec<Branch>,
    places: HashMap<TaskId, usize>,
}

impl Growing {
    fn open(&mut self, task: TaskId, branch: Branch) {
        self.places.insert(task, self.branches.len());
        self.branches.push(branch);
    }

    fn close(&mut self, task: TaskId, state: State, at: Timestamp) -> Option<&mut Branch> {
        let branch = self.branches.get_mut(*self.places.get(&task)?)?;
        branch.end(state, at);
        Some(branch)
    }

    fn fail(&mut self, task: TaskId, failure: &Failure, at: Timestamp) -> Option<&mut Branch> {
        let branch = self.close(task, State::Failed, at)?;
        branch.notes.push(cut(&failure.to_string()));
        Some(branch)
    }

    fn take(&mut self, event: &Event) {
        use EventKind as Kind;
        let at = event.at;
        match &event.kind {
            Kind::TaskCompleted { task, attempts, .. } => {
                let branch = self.close(*task, State::Done, at);
                note_attempts(branch, attempts);
            }
            Kind::TaskFailed {
                task,
                failure,
                attempts,
            } => {
                let branch = self.fail(*task, failure, at);
                note_attempts(branch, attempts);
            }
            Kind::SubOrchestrationInstanceCompleted { task, .. }
            | Kind::EntityOperationCompleted { task, .. }
            | Kind::EntityLockGranted { task }
            | Kind::TimerFired { task, .. } => drop(self.close(*task, State::Done, at)),
            Kind::SubOrchestrationInstanceFailed { task, failure }
            | Kind::EntityOperationFailed { task, failure } => drop(self.fail(*task, failure, at)),
            kind => {
                self.begin(kind, at);
                self.note(kind, at);
            }
        }
    }

    /// What has an end of its own.
    fn begin(&mut self, kind: &EventKind, at: Timestamp) {
        use EventKind as Kind;
        match kind {
            Kind::TaskScheduled { task, name, .. } => self.open(*task, Branch::new("activity", &**name, at)),
            Kind::TimerCreated { task, fire_at } => {
                let label = format!("timer {}", json::time(*fire_at));
                self.open(*task, Branch::new("timer", label, at));
            }
            Kind::SubOrchestrationInstanceCreated {
                task, name, instance, ..
            } => {
                let mut branch = Branch::new("orchestration", format!("{name} {instance}"), at);
                branch.instance = Some(instance.clone());
                self.open(*task, branch);
            }
            Kind::EntityOperationCalled {
                task,
                entity,
                operation,
                ..
            } => self.open(*task, Branch::new("entity", format!("{entity} {operation}"), at)),
            Kind::EntityLockRequested { task, entities, .. } => {
                let names: Vec<String> = entities.iter().map(ToString::to_string).collect();
                self.open(
                    *task,
                    Branch::new("lock", format!("lock {}", names.join(" ")), at),
                );
            }
            _ => {}
        }
    }

    /// What is done when it is told.
    fn note(&mut self, kind: &EventKind, at: Timestamp) {
        use EventKind as Kind;
        let because = |word: &str, reason: &Option<String>| match reason {
            Some(reason) => format!("{word}: {}", cut(reason)),
            None => word.to_owned(),
        };
        let (kind, label) = match kind {
            Kind::EventSent { instance, name, .. } => ("sent", format!("event \"{name}\" to {instance}")),
            Kind::EventRaised { name, .. } => ("event", format!("event \"{name}\"")),
            Kind::EntityOperationSignaled {
                entity, operation, ..
            } => ("signal", format!("{entity} {operation} (signal)")),
            Kind::ExecutionSuspended { reason } => ("note", because("suspended", reason)),
            Kind::ExecutionResumed { reason } => ("note", because("resumed", reason)),
            Kind::ExecutionRewound { reason } => ("note", because("rewound", reason)),
            Kind::CancelRequested { reason } => ("note", because("asked to end", reason)),
            _ => return,
        };
        self.branches.push(Branch::new(kind, label, at).done());
    }

    /// Why something waits: at its task, else as a branch of its own.
    fn explain(&mut self, reason: &ReasonWire, now: Timestamp) {
        let of_task = reason.task.and_then(|task| self.places.get(&TaskId(task)));
        if let Some(branch) = of_task.and_then(|place| self.branches.get_mut(*place)) {
            branch.notes.extend(notes(reason, now));
            return;
        }
        let since = reason.since.as_deref().and_then(json::parse_time);
        let label = match (reason.kind.as_str(), &reason.name) {
            ("event", Some(name)) => format!("event \"{name}\""),
            _ => reason.text.clone(),
        };
        let mut branch = Branch::new("reason", label, since.unwrap_or(now));
        if since.is_none() {
            // Nothing is known of how long; nothing is said.
            branch.ended = Some(now);
        }
        self.branches.push(branch);
    }
}

fn note_attempts(branch: Option<&mut Branch>, attempts: &Attempts) {
    if let Some(branch) = branch.filter(|_| attempts.count > 1) {
        branch.notes.insert(0, format!("{} attempts", attempts.count));
    }
}

/// What holds a task, in few words.
fn notes(reason: &ReasonWire, now: Timestamp) -> Vec<String> {
    let due = reason.due.as_deref().and_then(json::parse_time);
    let due = due.map(|due| format!("due in {}", short(between(now, due))));
    let attempt = reason.attempt.map(|attempt| match reason.attempts_max {
        Some(most) => format!("attempt {attempt} of {most}"),
        None => format!("attempt {attempt}"),
    });
    match reason.kind.as_str() {
        "retry" => attempt.into_iter().chain(due).collect(),
        "activity" | "timer" | "child" | "entity" | "event" => due.into_iter().collect(),
        _ => vec![cut(&reason.text)],
    }
}
