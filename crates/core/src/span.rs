//! The spans of an execution, for tracing systems: what it did and when, from its history alone.
//!
//! Names and attributes are those of the Durable Task SDKs. Every id follows from the execution,
//! the task and the time it was asked for, so the same history gives the same spans however often
//! it is read, and what is handed to an activity can name a span that is told of only at the end.
//!
//! Does no export, and knows no clock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::action::TaskLabels;
use crate::event::{AttemptRecord, Attempts, ChildLink, Event, EventKind, ExecutionStarted};
use crate::failure::Failure;
use crate::id::{EntityId, ExecutionId, ExecutionKey, InstanceId, TaskId};
use crate::time::Timestamp;
use crate::trace::{Creation, TraceContext};

/// Names a span within its trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub u64);

impl SpanId {
    /// The one that no span has.
    pub const NONE: Self = Self(0);

    /// Of the creation of an execution.
    pub fn of_creation(execution: ExecutionId) -> Self {
        Self::of(execution, 1, 0)
    }

    /// Of an execution. The key tells it from that which a rewind puts in its place.
    pub fn of_execution(execution: ExecutionId, key: ExecutionKey) -> Self {
        Self::of(execution, 2, key.0)
    }

    /// Of a task that was asked for at a time.
    pub fn of_task(execution: ExecutionId, key: ExecutionKey, task: TaskId, at: Timestamp) -> Self {
        let asked = mix(at.as_micros().cast_unsigned()) ^ key.0;
        Self::of(execution, 3 | u64::from(task.0) << 8, asked)
    }

    /// Of the event at a place of a history.
    fn of_event(execution: ExecutionId, key: ExecutionKey, place: usize) -> Self {
        Self::of(execution, 4 | (place as u64) << 8, key.0)
    }

    fn of(execution: ExecutionId, role: u64, number: u64) -> Self {
        let words = [(execution.0 >> 64) as u64, execution.0 as u64, role, number];
        let mixed = words.into_iter().fold(0, |state, word| mix(state ^ word));
        Self(mixed.max(1))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SplitMix64, by Sebastiano Vigna (public domain).
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Who tells of the spans of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Spans {
    /// Nobody: the trace is handed on as it came.
    #[default]
    Untold,
    /// The hub: what a task leads to is under the span of the task.
    Told,
    /// The code itself, which runs elsewhere, with this span of the execution.
    ToldElsewhere(SpanId),
}

/// What a span says of who calls whom, in the words of OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Within the execution.
    Internal,
    /// It answers somebody.
    Server,
    /// It waits for somebody.
    Client,
    /// It sends and does not wait.
    Producer,
    /// It takes what somebody sent.
    Consumer,
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// A time.
    Time(Timestamp),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(i64::from(number))
    }
}

/// Names and values.
pub type Attributes = Vec<(&'static str, Value)>;

/// Something that happened within a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// What.
    pub name: &'static str,
    /// More of it.
    pub attributes: Attributes,
}

/// Something that took time, or happened, in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its id.
    pub id: SpanId,
    /// The span that it is under; `None` when the trace begins with it.
    pub parent: Option<SpanId>,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: SpanKind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// More of it.
    pub attributes: Attributes,
    /// What happened within it.
    pub moments: Vec<Moment>,
    /// What else led to it.
    pub links: Vec<TraceContext>,
    /// How it failed.
    pub failure: Option<String>,
}

/// The span that code elsewhere tells of itself, for an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanElsewhere {
    /// Its id.
    pub id: SpanId,
    /// When it began, as the code says.
    pub start: Option<Timestamp>,
}

/// An execution that ended, with what its spans are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedExecution {
    /// Its instance.
    pub instance: InstanceId,
    /// Its key.
    pub key: ExecutionKey,
    /// Its trace.
    pub trace: TraceContext,
    /// When the instance was created.
    pub created: Timestamp,
    /// Code elsewhere tells of the spans of this execution itself.
    pub elsewhere: Option<SpanElsewhere>,
    /// What happened, without values.
    pub history: Vec<Event>,
}

impl EndedExecution {
    /// Its spans, in the order of their ends.
    pub fn spans(&self) -> Vec<Span> {
        let started = self.history.iter().find_map(|event| match &event.kind {
            EventKind::ExecutionStarted(started) => Some(&**started),
            _ => None,
        });
        match started {
            Some(started) => Teller::new(self, started).tell(),
            None => Vec::new(),
        }
    }
}

/// The event without what users gave: spans say none of it.
pub fn without_values(event: &Event) -> Event {
    let mut event = event.clone();
    match &mut event.kind {
        EventKind::ExecutionStarted(started) => started.input = None,
        EventKind::TaskScheduled { input, .. }
        | EventKind::SubOrchestrationInstanceCreated { input, .. }
        | EventKind::EventSent { input, .. }
        | EventKind::EventRaised { input, .. }
        | EventKind::EntityOperationCalled { input, .. }
        | EventKind::EntityOperationSignaled { input, .. } => *input = None,
        EventKind::TaskCompleted { result, .. }
        | EventKind::SubOrchestrationInstanceCompleted { result, .. }
        | EventKind::EntityOperationCompleted { result, .. }
        | EventKind::ExecutionCompleted { result } => *result = None,
        _ => {}
    }
    event
}

/// Reads a history from its begin.
struct Teller<'e> {
    ended: &'e EndedExecution,
    started: &'e ExecutionStarted,
    /// The span of the execution.
    own: SpanId,
    /// What was before a rewind was told of when the execution before ended.
    rewound: Option<(usize, Timestamp)>,
    end: Timestamp,
    open: BTreeMap<TaskId, Open>,
    spans: Vec<Span>,
}

/// A task that has not ended yet.
struct Open {
    span: Span,
    /// Is told of only when it ends.
    is_silent: bool,
}

/// How a task ended.
enum TaskEnd<'e> {
    Completed,
    Failed(&'e Failure),
}

impl<'e> Teller<'e> {
    fn new(ended: &'e EndedExecution, started: &'e ExecutionStarted) -> Self {
        let own = ended.elsewhere.map(|span| span.id);
        let is_rewind = |event: &Event| matches!(event.kind, EventKind::ExecutionRewound { .. });
        let place = ended.history.iter().rposition(is_rewind);
        Self {
            ended,
            started,
            own: own.unwrap_or(SpanId::of_execution(started.execution_id, ended.key)),
            rewound: place.map(|place| (place, ended.history[place].at)),
            end: ended.history.last().map_or(ended.created, |event| event.at),
            open: BTreeMap::new(),
            spans: Vec::new(),
        }
    }

    fn tell(mut self) -> Vec<Span> {
        self.tell_creation();
        for (place, event) in self.ended.history.iter().enumerate() {
            self.take(place, event);
        }
        let open = std::mem::take(&mut self.open);
        for open in open.into_values().filter(|open| !open.is_silent) {
            let mut span = open.span;
            span.end = self.end.max(span.start);
            span.attributes.push((STATUS, "Running".into()));
            self.spans.push(span);
        }
        self.tell_execution();
        self.spans
    }

    fn is_elsewhere(&self) -> bool {
        self.ended.elsewhere.is_some()
    }

    fn tell_creation(&mut self) {
        let (trace, created) = (&self.ended.trace, self.ended.created);
        let Some(creation) = trace.creation().filter(|_| self.rewound.is_none()) else {
            return;
        };
        let mut attributes = self.of_orchestration(&self.started.name, self.started.version.as_deref());
        attributes.push((INSTANCE, self.ended.instance.as_str().into()));
        attributes.push((EXECUTION, Value::Text(self.started.execution_id.to_string())));
        if let Some(at) = self.started.scheduled_start {
            attributes.push((SCHEDULED, Value::Time(at)));
        }
        self.spans.push(Span {
            id: trace.parent_span(),
            parent: match creation {
                Creation::Begins => None,
                Creation::Under(span) => Some(span),
            },
            name: named(
                "create_orchestration",
                &self.started.name,
                self.started.version.as_deref(),
            ),
            kind: SpanKind::Producer,
            start: created,
            end: created,
            attributes,
            ..empty_span()
        });
    }

    /// The execution as a whole. Code elsewhere tells of its own unless it was ended without it.
    fn tell_execution(&mut self) {
        let end = self
            .ended
            .history
            .iter()
            .rev()
            .find(|event| event.kind.is_final());
        let is_told_there = !matches!(
            end.map(|event| &event.kind),
            Some(EventKind::ExecutionTerminated { .. })
        );
        if self.is_elsewhere() && is_told_there {
            return;
        }
        let (status, failure) = match end.map(|event| &event.kind) {
            Some(EventKind::ExecutionCompleted { .. }) => ("Completed", None),
            Some(EventKind::ExecutionFailed { failure }) => ("Failed", Some(text_of(failure))),
            Some(EventKind::ExecutionCanceled { .. }) => ("Canceled", None),
            Some(EventKind::ExecutionTerminated { reason }) => {
                let reason = reason.as_deref().map(|reason| format!("terminated: {reason}"));
                (
                    "Terminated",
                    Some(reason.unwrap_or_else(|| "terminated".to_owned())),
                )
            }
            _ => ("ContinuedAsNew", None),
        };
        let first = self.ended.history.first().map(|event| event.at);
        let said = self.ended.elsewhere.and_then(|span| span.start);
        let start = self.rewound.map(|(_, at)| at).or(said).or(first);
        let mut attributes = self.of_orchestration(&self.started.name, self.started.version.as_deref());
        attributes.push((INSTANCE, self.ended.instance.as_str().into()));
        attributes.push((EXECUTION, Value::Text(self.started.execution_id.to_string())));
        attributes.push((STATUS, status.into()));
        self.spans.push(Span {
            id: self.own,
            parent: Some(self.ended.trace.parent_span()),
            name: named(
                "orchestration",
                &self.started.name,
                self.started.version.as_deref(),
            ),
            kind: SpanKind::Server,
            start: start.unwrap_or(self.ended.created),
            end: self.end,
            attributes,
            failure,
            ..empty_span()
        });
    }

    fn take(&mut self, place: usize, event: &'e Event) {
        let at = event.at;
        match &event.kind {
            EventKind::TaskScheduled { .. }
            | EventKind::TimerCreated { .. }
            | EventKind::SubOrchestrationInstanceCreated { .. }
            | EventKind::EntityOperationCalled { .. }
            | EventKind::EntityLockRequested { .. } => self.begin(at, &event.kind),
            EventKind::EventSent { .. }
            | EventKind::EntityOperationSignaled { .. }
            | EventKind::EventRaised { .. } => self.happen(place, at, &event.kind),
            EventKind::TaskCompleted { task, attempts, .. } => {
                self.attempt(*task, attempts);
                self.finish(place, *task, at, TaskEnd::Completed);
            }
            EventKind::TaskFailed {
                task,
                failure,
                attempts,
            } => {
                self.attempt(*task, attempts);
                self.finish(place, *task, at, TaskEnd::Failed(failure));
            }
            EventKind::TimerFired { task, .. }
            | EventKind::SubOrchestrationInstanceCompleted { task, .. }
            | EventKind::EntityOperationCompleted { task, .. }
            | EventKind::EntityLockGranted { task } => self.finish(place, *task, at, TaskEnd::Completed),
            EventKind::SubOrchestrationInstanceFailed { task, failure }
            | EventKind::EntityOperationFailed { task, failure } => {
                self.finish(place, *task, at, TaskEnd::Failed(failure));
            }
            _ => {}
        }
    }
}

/// What is asked for and answered later.
impl Teller<'_> {
    fn begin(&mut self, at: Timestamp, kind: &EventKind) {
        let Some((task, mut span)) = self.asked(kind) else {
            return;
        };
        let is_activity = matches!(kind, EventKind::TaskScheduled { .. });
        let is_lock = matches!(kind, EventKind::EntityLockRequested { .. });
        let is_timer = matches!(kind, EventKind::TimerCreated { .. });
        if self.is_elsewhere() {
            if !is_activity && !is_lock {
                return;
            }
            span.kind = SpanKind::Internal;
        }
        span.id = self.id_of(task, at);
        span.start = at;
        self.note_place(task, &mut span);
        let is_silent = is_timer || is_lock || self.is_elsewhere();
        self.open.insert(task, Open { span, is_silent });
    }

    /// What waits for an answer, without id and times.
    fn asked(&self, kind: &EventKind) -> Option<(TaskId, Span)> {
        Some(match kind {
            EventKind::TaskScheduled {
                task, name, options, ..
            } => {
                let labels = options.as_ref().and_then(|options| options.labels.as_deref());
                (*task, self.activity(name, labels))
            }
            EventKind::TimerCreated { task, fire_at } => {
                let attributes = vec![(TYPE, "timer".into()), (FIRE_AT, Value::Time(*fire_at))];
                let span = self.under_own("timer".to_owned(), SpanKind::Internal, attributes);
                (*task, span)
            }
            EventKind::SubOrchestrationInstanceCreated {
                task,
                name,
                version,
                instance,
                link: ChildLink::Awaited,
                ..
            } => {
                let mut attributes = self.of_orchestration(name, version.as_deref());
                attributes.push((TARGET, instance.as_str().into()));
                let name = named("orchestration", name, version.as_deref());
                (*task, self.under_own(name, SpanKind::Client, attributes))
            }
            EventKind::EntityOperationCalled {
                task,
                entity,
                operation,
                ..
            } => {
                let (name, attributes) = (entity_name(entity, operation), of_entity(entity, operation));
                (*task, self.under_own(name, SpanKind::Client, attributes))
            }
            EventKind::EntityLockRequested { task, entities, .. } => {
                let ids: Vec<String> = entities.iter().map(ToString::to_string).collect();
                let attributes = vec![(TYPE, "entity".into()), (TARGET, Value::Text(ids.join(",")))];
                let span = self.under_own("entity_lock".to_owned(), SpanKind::Internal, attributes);
                (*task, span)
            }
            _ => return None,
        })
    }

    /// An activity; where its code's own spans are told elsewhere, its wait, below the span it has there.
    fn activity(&self, name: &str, labels: Option<&TaskLabels>) -> Span {
        let mut attributes = vec![(TYPE, "activity".into()), (NAME, name.into())];
        if let Some(version) = labels.and_then(|labels| labels.version.as_deref()) {
            attributes.push((VERSION, version.into()));
        }
        if !self.is_elsewhere() {
            return self.under_own(format!("activity:{name}"), SpanKind::Client, attributes);
        }
        let own = labels.and_then(|labels| labels.trace.as_ref());
        let parent = own.map_or(self.own, TraceContext::parent_span);
        Span {
            parent: Some(parent),
            ..self.under_own(format!("activity_queue:{name}"), SpanKind::Internal, attributes)
        }
    }

    /// How the attempts of an activity went.
    fn attempt(&mut self, task: TaskId, attempts: &Attempts) {
        let is_elsewhere = self.is_elsewhere();
        let Some(open) = self.open.get_mut(&task) else {
            return;
        };
        open.span.attributes.push((ATTEMPTS, attempts.count.into()));
        let Some(record) = attempts.record.as_deref() else {
            return;
        };
        open.span.attributes.push((WORKER, (&*record.worker).into()));
        open.span.moments = moments(record);
        if is_elsewhere {
            open.span.end = record.started;
        }
    }

    fn finish(&mut self, place: usize, task: TaskId, at: Timestamp, end: TaskEnd<'_>) {
        let Some(Open { mut span, .. }) = self.open.remove(&task) else {
            return;
        };
        if let Some((rewound, since)) = self.rewound {
            if place < rewound {
                return;
            }
            span.start = span.start.max(since);
        }
        let is_queue = span.name.starts_with("activity_queue:");
        if !is_queue {
            span.end = at;
            let status = match end {
                TaskEnd::Completed => "Completed",
                TaskEnd::Failed(_) => "Failed",
            };
            span.attributes.push((STATUS, status.into()));
            span.failure = match end {
                TaskEnd::Completed => None,
                TaskEnd::Failed(failure) => Some(text_of(failure)),
            };
        }
        span.end = span.end.max(span.start);
        self.spans.push(span);
    }

    /// What is over as soon as it is asked for, and events that came.
    fn happen(&mut self, place: usize, at: Timestamp, kind: &EventKind) {
        let is_told = self.rewound.is_some_and(|(rewound, _)| place < rewound);
        if is_told || self.is_elsewhere() {
            return;
        }
        let mut span = match kind {
            EventKind::EventSent {
                task, instance, name, ..
            } => {
                let attributes = vec![
                    (TYPE, "event".into()),
                    (NAME, (&**name).into()),
                    (TARGET, instance.as_str().into()),
                ];
                let name = format!("orchestration_event:{name}");
                let mut span = self.under_own(name, SpanKind::Producer, attributes);
                self.note_place(*task, &mut span);
                Span {
                    id: self.id_of(*task, at),
                    ..span
                }
            }
            EventKind::EntityOperationSignaled {
                task,
                entity,
                operation,
                at: due,
                ..
            } => {
                let mut attributes = of_entity(entity, operation);
                attributes.extend(due.map(|due| (SCHEDULED, Value::Time(due))));
                let name = entity_name(entity, operation);
                let mut span = self.under_own(name, SpanKind::Producer, attributes);
                self.note_place(*task, &mut span);
                Span {
                    id: self.id_of(*task, at),
                    ..span
                }
            }
            EventKind::EventRaised { name, trace, .. } => {
                let attributes = vec![
                    (TYPE, "event".into()),
                    (NAME, (&**name).into()),
                    (TARGET, self.ended.instance.as_str().into()),
                ];
                let name = format!("orchestration_event:{name}");
                Span {
                    id: SpanId::of_event(self.started.execution_id, self.ended.key, place),
                    links: trace.iter().cloned().collect(),
                    ..self.under_own(name, SpanKind::Consumer, attributes)
                }
            }
            _ => return,
        };
        (span.start, span.end) = (at, at);
        self.spans.push(span);
    }

    fn id_of(&self, task: TaskId, at: Timestamp) -> SpanId {
        SpanId::of_task(self.started.execution_id, self.ended.key, task, at)
    }

    fn under_own(&self, name: String, kind: SpanKind, attributes: Attributes) -> Span {
        Span {
            parent: Some(self.own),
            name,
            kind,
            attributes,
            ..empty_span()
        }
    }

    fn note_place(&self, task: TaskId, span: &mut Span) {
        let instance = self.ended.instance.as_str().into();
        let execution = Value::Text(self.started.execution_id.to_string());
        span.attributes.extend([
            (INSTANCE, instance),
            (EXECUTION, execution),
            (TASK, task.0.into()),
        ]);
    }

    fn of_orchestration(&self, name: &Arc<str>, version: Option<&str>) -> Attributes {
        let mut attributes = vec![(TYPE, "orchestration".into()), (NAME, (&**name).into())];
        attributes.extend(version.map(|version| (VERSION, version.into())));
        attributes
    }
}

const TYPE: &str = "durabletask.type";
const NAME: &str = "durabletask.task.name";
const VERSION: &str = "durabletask.task.version";
const INSTANCE: &str = "durabletask.task.instance_id";
const EXECUTION: &str = "durabletask.task.execution_id";
const STATUS: &str = "durabletask.task.status";
const TASK: &str = "durabletask.task.task_id";
const OPERATION: &str = "durabletask.task.operation";
const SCHEDULED: &str = "durabletask.task.scheduled_time";
const TARGET: &str = "durabletask.event.target_instance_id";
const FIRE_AT: &str = "durabletask.fire_at";
const ATTEMPTS: &str = "dalsegno.attempts";
const WORKER: &str = "dalsegno.worker";

fn empty_span() -> Span {
    Span {
        id: SpanId::NONE,
        parent: None,
        name: String::new(),
        kind: SpanKind::Internal,
        start: Timestamp::MIN,
        end: Timestamp::MIN,
        attributes: Vec::new(),
        moments: Vec::new(),
        links: Vec::new(),
        failure: None,
    }
}

fn named(prefix: &str, name: &str, version: Option<&str>) -> String {
    match version {
        Some(version) => format!("{prefix}:{name}:{version}"),
        None => format!("{prefix}:{name}"),
    }
}

fn entity_name(entity: &EntityId, operation: &str) -> String {
    format!("entity:{}:{operation}", entity.name())
}

fn of_entity(entity: &EntityId, operation: &str) -> Attributes {
    vec![
        (TYPE, "entity".into()),
        (NAME, entity.name().into()),
        (OPERATION, operation.into()),
        (TARGET, Value::Text(entity.to_string())),
    ]
}

fn text_of(failure: &Failure) -> String {
    match failure.kind.is_empty() {
        true => failure.message.clone(),
        false => format!("{}: {}", failure.kind, failure.message),
    }
}

/// The attempts that failed, and when the last one began.
fn moments(record: &AttemptRecord) -> Vec<Moment> {
    let failed = record.failures.iter().map(|failure| Moment {
        at: failure.at,
        name: "attempt_failed",
        attributes: vec![
            ("exception.type", failure.kind.as_str().into()),
            ("exception.message", failure.message.as_str().into()),
        ],
    });
    let begun = Moment {
        at: record.started,
        name: "attempt_started",
        attributes: Vec::new(),
    };
    failed.chain([begun]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::TaskOptions;

    const EXECUTION: ExecutionId = ExecutionId(0x2c5e);
    const KEY: ExecutionKey = ExecutionKey(7);

    fn at(micros: i64, kind: EventKind) -> Event {
        Event {
            at: Timestamp::from_micros(micros),
            kind,
        }
    }

    fn trace() -> TraceContext {
        TraceContext::begun(1, SpanId(0xc0), true)
    }

    fn started() -> EventKind {
        EventKind::ExecutionStarted(Box::new(ExecutionStarted {
            name: "order".into(),
            version: None,
            execution_id: EXECUTION,
            input: Some("\"secret\"".to_owned().into()),
            parent: None,
            parent_name: None,
            scheduled_start: None,
            trace: Some(trace()),
        }))
    }

    fn scheduled(task: u32, trace: Option<TraceContext>) -> EventKind {
        let labels = TaskLabels {
            trace,
            ..TaskLabels::default()
        };
        EventKind::TaskScheduled {
            task: TaskId(task),
            name: "pay".into(),
            input: Some("\"secret\"".to_owned().into()),
            options: Some(Box::new(TaskOptions {
                labels: Some(Box::new(labels)),
                ..TaskOptions::default()
            })),
        }
    }

    fn completed(task: u32, began: i64) -> EventKind {
        let record = AttemptRecord {
            started: Timestamp::from_micros(began),
            worker: "w".into(),
            failures: Vec::new(),
        };
        EventKind::TaskCompleted {
            task: TaskId(task),
            result: None,
            attempts: Attempts {
                count: 1,
                record: Some(Box::new(record)),
            },
        }
    }

    fn ended(elsewhere: Option<SpanElsewhere>, history: Vec<Event>) -> EndedExecution {
        EndedExecution {
            instance: InstanceId::trusted("o"),
            key: KEY,
            trace: trace(),
            created: Timestamp::from_micros(1),
            elsewhere,
            history: history.iter().map(without_values).collect(),
        }
    }

    /// Name, id, parent, begin and end of each.
    fn shown(ended: &EndedExecution) -> Vec<(String, SpanId, Option<SpanId>, i64, i64)> {
        let spans = ended.spans().into_iter();
        let times = |span: &Span| (span.start.as_micros(), span.end.as_micros());
        spans
            .map(|span| {
                (
                    span.name.clone(),
                    span.id,
                    span.parent,
                    times(&span).0,
                    times(&span).1,
                )
            })
            .collect()
    }

    #[test]
    fn what_is_open_at_the_end_ends_there_and_timers_that_did_not_fire_are_none() {
        let timer = EventKind::TimerCreated {
            task: TaskId(1),
            fire_at: Timestamp::from_micros(99),
        };
        let history = vec![
            at(10, EventKind::OrchestratorStarted),
            at(10, started()),
            at(10, scheduled(0, None)),
            at(10, timer),
            at(20, EventKind::ExecutionCompleted { result: None }),
        ];
        let own = SpanId::of_execution(EXECUTION, KEY);
        let pay = SpanId::of_task(EXECUTION, KEY, TaskId(0), Timestamp::from_micros(10));
        let ended = ended(None, history);
        assert_eq!(
            shown(&ended),
            [
                ("create_orchestration:order".into(), SpanId(0xc0), None, 1, 1),
                ("activity:pay".into(), pay, Some(own), 10, 20),
                ("orchestration:order".into(), own, Some(SpanId(0xc0)), 10, 20),
            ]
        );
        assert_eq!(shown(&ended), shown(&ended), "the same history, the same spans");
        assert!(!format!("{:?}", ended.spans()).contains("secret"));
    }

    #[test]
    fn code_that_tells_of_its_spans_is_told_of_waits_only() {
        let elsewhere = SpanElsewhere {
            id: SpanId(0xe),
            start: Some(Timestamp::from_micros(9)),
        };
        let lock = |task| EventKind::EntityLockRequested {
            task: TaskId(task),
            entities: vec![EntityId::new("stock", "a").expect("valid")],
            request: None,
        };
        let theirs = trace().under(SpanId(0xabc));
        let begin = vec![
            at(10, EventKind::OrchestratorStarted),
            at(10, started()),
            at(10, scheduled(0, Some(theirs))),
            at(10, lock(1)),
            at(30, completed(0, 15)),
            at(40, EventKind::EntityLockGranted { task: TaskId(1) }),
        ];
        let lock = SpanId::of_task(EXECUTION, KEY, TaskId(1), Timestamp::from_micros(10));
        let pay = SpanId::of_task(EXECUTION, KEY, TaskId(0), Timestamp::from_micros(10));
        let mut wanted = vec![
            ("create_orchestration:order".to_owned(), SpanId(0xc0), None, 1, 1),
            ("activity_queue:pay".to_owned(), pay, Some(SpanId(0xabc)), 10, 15),
            ("entity_lock".to_owned(), lock, Some(SpanId(0xe)), 10, 40),
        ];
        let end = |kind| [begin.clone(), vec![at(50, kind)]].concat();
        let completed = EventKind::ExecutionCompleted { result: None };
        assert_eq!(shown(&ended(Some(elsewhere), end(completed))), wanted);
        // It does not hear of a termination: that is told here, under the id it gave to others.
        let terminated = EventKind::ExecutionTerminated { reason: None };
        wanted.push((
            "orchestration:order".into(),
            SpanId(0xe),
            Some(SpanId(0xc0)),
            9,
            50,
        ));
        let ended = ended(Some(elsewhere), end(terminated));
        assert_eq!(shown(&ended), wanted);
        let last = ended.spans().pop().expect("there are some");
        assert_eq!(last.failure.as_deref(), Some("terminated"));
    }

    #[test]
    fn ids_differ_by_execution_key_task_and_time_and_are_never_nothing() {
        let now = Timestamp::from_micros(5);
        let mut ids = vec![
            SpanId::of_creation(EXECUTION),
            SpanId::of_execution(EXECUTION, KEY),
            SpanId::of_execution(EXECUTION, ExecutionKey(8)),
            SpanId::of_execution(ExecutionId(1), KEY),
            SpanId::of_event(EXECUTION, KEY, 0),
            SpanId::of_event(EXECUTION, KEY, 1),
            SpanId::of_task(EXECUTION, KEY, TaskId(0), now),
            SpanId::of_task(EXECUTION, KEY, TaskId(1), now),
            SpanId::of_task(EXECUTION, KEY, TaskId(0), Timestamp::from_micros(6)),
        ];
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 9);
        assert!(!ids.contains(&SpanId::NONE));
    }
}
