//! Events, messages and the engine's other records as the bytes that stores keep.
//!
//! The only place of the engine that knows protobuf. Values of users pass as they are. Decoding
//! checks everything, because a stored record is an input like any other: it may be damaged, or
//! written by a newer version.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::action::{ChildOptions, TaskLabels, TaskOptions};
use dalsegno_core::event::{
    AttemptFailure, AttemptRecord, Attempts, ChildLink, Event, EventKind, ExecutionStarted, OneOfLock,
    Parent, ParentClosePolicy, ParentName,
};
use dalsegno_core::limiter::{BucketRecord, LimiterRule};
use dalsegno_core::message::{Caller, Outcome, ReusePolicy, StartRequest, Target};
use dalsegno_core::query::Status;
use dalsegno_core::retry::RetryPolicy;
use dalsegno_core::span::SpanElsewhere;
use dalsegno_core::trace::Creation;
use dalsegno_core::{
    EntityId, ExecutionId, ExecutionKey, Failure, InstanceId, Message, Payload, SpanId, TaskId, Timestamp,
    TraceContext,
};
use dalsegno_proto::storage as stored;
use prost::Message as _;

use crate::request::LimiterOffer;
use crate::task::{ChildRecord, EventMark, RowExtra, StoredTask, TaskRecord, UnconsumedEvents};
use crate::webhooks::WebhookSubscription;

use stored::event::Kind as StoredEvent;
use stored::message::Kind as StoredMessage;

/// The newest record format this version reads. Absent in a record stands for 1.
const FORMAT: u32 = 2;

/// The format of events whose value is elsewhere.
const FORMAT_APART: u32 = 2;

/// Causes of a failure that are kept, the outermost first. Deeper ones are cut: a decoder follows
/// only so many levels.
const CAUSES_MAX: usize = 24;

/// A record that cannot be read. The text says what is wrong, never what is inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    reason: String,
}

impl RecordError {
    /// The same error, with the name of the record.
    pub(crate) fn of(self, name: impl fmt::Display) -> Self {
        let reason = format!("{name}: {}", self.reason);
        Self { reason }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a stored record cannot be read: {}", self.reason)
    }
}

impl std::error::Error for RecordError {}

impl From<prost::DecodeError> for RecordError {
    fn from(error: prost::DecodeError) -> Self {
        damaged(error.to_string())
    }
}

/// Events as length-delimited records, one after the other.
pub fn encode_events(events: &[Event]) -> Vec<u8> {
    encode_events_apart(events, |_, _| None)
}

/// The same without the values that `number` gives a number to: these are found under it among
/// the payloads of the execution. It is asked with the place of each event among `events`.
pub fn encode_events_apart(
    events: &[Event],
    mut number: impl FnMut(usize, &EventKind) -> Option<u64>,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(events.len() * 64);
    for (place, event) in events.iter().enumerate() {
        let record = match number(place, &event.kind) {
            None => store_event(event),
            Some(number) => store_event_apart(event, number),
        };
        record
            .encode_length_delimited(&mut bytes)
            .expect("a Vec grows as needed");
    }
    bytes
}

/// Events as they were stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredEvents {
    /// In order. Those whose value is elsewhere have none.
    pub events: Vec<Event>,
    /// Which these are, by their place among `events`, and under which number to find the value.
    pub apart: Vec<(usize, u64)>,
}

/// What [`encode_events`] wrote, also several of its results joined.
///
/// # Errors
/// When a record is damaged or from a newer version.
pub fn decode_events(mut bytes: &[u8]) -> Result<StoredEvents, RecordError> {
    let mut stored = StoredEvents::default();
    while !bytes.is_empty() {
        let record = stored::Event::decode_length_delimited(&mut bytes)?;
        check_format(record.format)?;
        let mut kind = load_event(record.kind.ok_or_else(unknown_kind)?)?;
        if let Some(number) = record.value_number {
            if kind.value_mut().is_none() || kind.value().is_some() {
                return Err(damaged(
                    "an event says that a value of it is elsewhere, but has none",
                ));
            }
            stored.apart.push((stored.events.len(), number));
        }
        stored.events.push(Event {
            at: Timestamp::from_micros(record.at),
            kind,
        });
    }
    Ok(stored)
}

/// A message and whom it is for.
pub fn encode_message(target: &Target, message: &Message) -> Vec<u8> {
    let target = match target {
        Target::Orchestration(id) => stored::message::Target::Orchestration(id.as_str().to_owned()),
        Target::Entity(id) => stored::message::Target::Entity(store_entity(id)),
    };
    let record = stored::Message {
        format: 0,
        target: Some(target),
        kind: Some(store_message(message)),
    };
    record.encode_to_vec()
}

/// What [`encode_message`] wrote.
///
/// # Errors
/// When the record is damaged or from a newer version.
pub fn decode_message(bytes: &[u8]) -> Result<(Target, Message), RecordError> {
    let record = stored::Message::decode(bytes)?;
    check_format(record.format)?;
    let target = match record.target.ok_or_else(|| damaged("no target"))? {
        stored::message::Target::Orchestration(id) => Target::Orchestration(InstanceId::trusted(id)),
        stored::message::Target::Entity(id) => Target::Entity(load_entity(id)?),
    };
    let message = load_message(record.kind.ok_or_else(unknown_kind)?)?;
    Ok((target, message))
}

/// A pending task. Its execution and number are the key of its row.
pub fn encode_task(task: &StoredTask) -> Vec<u8> {
    match task {
        StoredTask::Activity(record) => encode_activity(record),
        StoredTask::Child(record) => encode_child(record),
        StoredTask::Told(instance) => stored::Task {
            kind: Some(stored::task::Kind::Told(instance.as_str().to_owned())),
            ..stored::Task::default()
        }
        .encode_to_vec(),
    }
}

/// A pending activity.
pub fn encode_activity(task: &TaskRecord) -> Vec<u8> {
    let activity = stored::Activity {
        instance: task.instance.as_str().to_owned(),
        name: text(&task.name),
        input: payload(task.input.as_ref()),
        retry: task.options.retry.as_ref().map(store_retry),
        timeout_micros: task.options.timeout.map(micros),
        execution_id: task.execution_id.0.to_be_bytes().to_vec(),
        last_heartbeat: payload(task.last_heartbeat.as_ref()),
        trace: store_trace(task.trace.as_ref()),
        labels: task.options.labels.as_deref().map(store_labels),
        undo: task.options.undo,
    };
    let record = stored::Task {
        format: 0,
        kind: Some(stored::task::Kind::Activity(activity)),
        attempts: task.failed_attempts,
        scheduled: task.scheduled.as_micros(),
        due: task.due.map(Timestamp::as_micros),
        failures: task.failures.iter().map(store_attempt_failure).collect(),
        kills: task.kills,
    };
    record.encode_to_vec()
}

fn encode_child(task: &ChildRecord) -> Vec<u8> {
    let child = stored::Child {
        instance: task.instance.as_str().to_owned(),
        start: Some(store_start(&task.request)),
        retry: task.options.retry.as_ref().map(store_retry),
        parent_close: store_close(task.options.parent_close),
        parent_instance: task.parent_instance.as_str().to_owned(),
        undo: task.options.undo,
    };
    let record = stored::Task {
        format: 0,
        kind: Some(stored::task::Kind::Child(child)),
        attempts: task.failed_attempts,
        scheduled: task.scheduled.as_micros(),
        due: task.due.map(Timestamp::as_micros),
        failures: Vec::new(),
        kills: 0,
    };
    record.encode_to_vec()
}

/// What [`encode_task`] wrote under that key.
///
/// # Errors
/// When the record is damaged or from a newer version.
pub fn decode_task(key: ExecutionKey, task: TaskId, bytes: &[u8]) -> Result<StoredTask, RecordError> {
    let record = stored::Task::decode(bytes)?;
    check_format(record.format)?;
    let scheduled = Timestamp::from_micros(record.scheduled);
    let due = record.due.map(Timestamp::from_micros);
    let stored = match record.kind.ok_or_else(unknown_kind)? {
        stored::task::Kind::Activity(activity) => StoredTask::Activity(TaskRecord {
            instance: InstanceId::trusted(activity.instance),
            key,
            execution_id: load_execution_id(&activity.execution_id)?,
            task,
            name: activity.name.into(),
            input: activity.input.map(Payload::from),
            options: TaskOptions {
                retry: activity.retry.map(load_retry),
                timeout: activity.timeout_micros.map(Duration::from_micros),
                labels: activity.labels.map(load_labels),
                undo: activity.undo,
            },
            scheduled,
            failed_attempts: record.attempts,
            due,
            last_heartbeat: activity.last_heartbeat.map(Payload::from),
            failures: record.failures.into_iter().map(load_attempt_failure).collect(),
            kills: record.kills,
            trace: load_trace(activity.trace),
        }),
        stored::task::Kind::Told(instance) => StoredTask::Told(InstanceId::trusted(instance)),
        stored::task::Kind::Child(child) => StoredTask::Child(ChildRecord {
            instance: InstanceId::trusted(child.instance),
            parent_instance: InstanceId::trusted(child.parent_instance),
            request: load_start(child.start.ok_or_else(|| damaged("a child without request"))?)?,
            options: ChildOptions {
                retry: child.retry.map(load_retry),
                parent_close: load_close(child.parent_close)?,
                labels: None,
                undo: child.undo,
            },
            scheduled,
            failed_attempts: record.attempts,
            due,
        }),
    };
    Ok(stored)
}

/// What a status row holds beside its columns; empty when that is nothing.
pub fn encode_extra(extra: &RowExtra) -> Vec<u8> {
    if *extra == RowExtra::default() {
        return Vec::new();
    }
    let record = stored::RowExtra {
        format: 0,
        idempotency_key: extra.idempotency_key.clone(),
        start_fingerprint: extra.start_fingerprint,
        kills: extra.kills,
        depth: extra.depth,
        events: extra.events.iter().map(store_mark).collect(),
        trace: store_trace(extra.trace.as_ref()),
        parent_name: extra.parent_name.as_deref().map(store_parent_name),
        webhook: extra.webhook.as_ref().map(store_webhook),
        span: extra.span.map(|span| stored::SpanElsewhere {
            id: span.id.0,
            start: span.start.map(Timestamp::as_micros),
        }),
        awaited_events: extra.awaited_events.iter().map(ToString::to_string).collect(),
        failed_activity: extra.failed_activity.as_deref().map(str::to_owned),
        unconsumed_events: extra.unconsumed.names.iter().map(ToString::to_string).collect(),
        unconsumed_count: extra.unconsumed.count,
    };
    record.encode_to_vec()
}

/// What [`encode_extra`] wrote.
///
/// # Errors
/// When the record is damaged or from a newer version.
pub fn decode_extra(bytes: &[u8]) -> Result<RowExtra, RecordError> {
    let record = stored::RowExtra::decode(bytes)?;
    check_format(record.format)?;
    Ok(RowExtra {
        idempotency_key: record.idempotency_key,
        start_fingerprint: record.start_fingerprint,
        kills: record.kills,
        depth: record.depth,
        events: record.events.iter().map(load_mark).collect(),
        trace: load_trace(record.trace),
        parent_name: load_parent_name(record.parent_name)?,
        webhook: record.webhook.map(load_webhook),
        span: record.span.map(|span| SpanElsewhere {
            id: SpanId(span.id),
            start: span.start.map(Timestamp::from_micros),
        }),
        awaited_events: record.awaited_events.into_iter().map(Into::into).collect(),
        failed_activity: record.failed_activity.map(Into::into),
        unconsumed: UnconsumedEvents {
            count: record.unconsumed_count,
            names: record.unconsumed_events.into_iter().map(Into::into).collect(),
        },
    })
}

fn store_webhook(webhook: &WebhookSubscription) -> stored::Webhook {
    let statuses = webhook.statuses.iter().map(|status| u32::from(status.code()));
    stored::Webhook {
        url: webhook.url.clone(),
        statuses: statuses.collect(),
        secret: webhook.secret.clone(),
    }
}

/// A status that this version does not know is none that it could tell of.
fn load_webhook(webhook: stored::Webhook) -> WebhookSubscription {
    let status = |code: u32| u8::try_from(code).ok().and_then(Status::from_code);
    WebhookSubscription {
        url: webhook.url,
        statuses: webhook.statuses.into_iter().filter_map(status).collect(),
        secret: webhook.secret,
    }
}

fn store_trace(trace: Option<&TraceContext>) -> Option<stored::TraceContext> {
    trace.map(|trace| stored::TraceContext {
        parent: trace.trace_parent().to_owned(),
        state: trace.trace_state().map(str::to_owned),
        creation_under: trace.creation().map(|creation| match creation {
            Creation::Begins => 0,
            Creation::Under(span) => span.0,
        }),
    })
}

/// Checked again: what is no trace context is none.
fn load_trace(trace: Option<stored::TraceContext>) -> Option<TraceContext> {
    let trace = trace?;
    let read = TraceContext::parse(&trace.parent, trace.state.as_deref())?;
    Some(match trace.creation_under {
        None => read,
        Some(0) => read.with_creation(Some(Creation::Begins)),
        Some(span) => read.with_creation(Some(Creation::Under(SpanId(span)))),
    })
}

fn store_mark(mark: &EventMark) -> stored::EventMark {
    stored::EventMark {
        key_high: (mark.key >> 64) as u64,
        key_low: mark.key as u64,
        fingerprint: mark.fingerprint,
    }
}

fn load_mark(mark: &stored::EventMark) -> EventMark {
    EventMark {
        key: u128::from(mark.key_high) << 64 | u128::from(mark.key_low),
        fingerprint: mark.fingerprint,
    }
}

/// Who holds an entity, and how often the process died in its operations; empty when there is nothing to say.
pub fn encode_holder(holder: Option<&Caller>, kills: u32) -> Vec<u8> {
    let record = stored::EntityQueue {
        format: 0,
        holder: holder.map(store_caller),
        is_busy: false,
        kills,
    };
    record.encode_to_vec()
}

/// What [`encode_holder`] wrote.
///
/// # Errors
/// When the record is damaged or from a newer version.
pub fn decode_holder(bytes: &[u8]) -> Result<(Option<Caller>, u32), RecordError> {
    let record = stored::EntityQueue::decode(bytes)?;
    check_format(record.format)?;
    Ok((record.holder.map(load_caller), record.kills))
}

/// A bucket of a limiter.
pub fn encode_bucket(bucket: &BucketRecord) -> Vec<u8> {
    let record = stored::Bucket {
        format: 0,
        tokens: bucket.tokens,
        updated: bucket.updated.as_micros(),
        blocked_until: bucket.blocked_until.map(Timestamp::as_micros),
    };
    record.encode_to_vec()
}

/// What [`encode_bucket`] wrote.
///
/// # Errors
/// When the record is damaged or from a newer version.
pub fn decode_bucket(bytes: &[u8]) -> Result<BucketRecord, RecordError> {
    let record = stored::Bucket::decode(bytes)?;
    check_format(record.format)?;
    if !record.tokens.is_finite() {
        return Err(damaged("a bucket without a finite number of tokens"));
    }
    Ok(BucketRecord {
        tokens: record.tokens,
        updated: Timestamp::from_micros(record.updated),
        blocked_until: record.blocked_until.map(Timestamp::from_micros),
    })
}

/// What a limiter allows.
pub fn encode_limiter_rule(rule: &LimiterRule) -> Vec<u8> {
    store_limiter(rule, &[]).encode_to_vec()
}

fn store_limiter(rule: &LimiterRule, activities: &[Arc<str>]) -> stored::LimiterRule {
    stored::LimiterRule {
        format: 0,
        rate_count: rule.rate.map(|(count, _)| count),
        rate_period_micros: rule.rate.map(|(_, period)| micros(period)),
        burst: rule.burst,
        concurrency: rule.concurrency,
        activities: activities.iter().map(text).collect(),
    }
}

/// A limiter that a worker offers, as the hub stores it; not its name.
pub fn encode_limiter_offer(offer: &LimiterOffer) -> Vec<u8> {
    store_limiter(&offer.rule, &offer.activities).encode_to_vec()
}

/// What [`encode_limiter_offer`] wrote of the limiter of that name.
///
/// # Errors
/// When the record is damaged or from a newer version.
pub fn decode_limiter_offer(name: &str, bytes: &[u8]) -> Result<LimiterOffer, RecordError> {
    let record = stored::LimiterRule::decode(bytes)?;
    let activities = record.activities.into_iter().map(Into::into).collect();
    Ok(LimiterOffer {
        name: name.into(),
        rule: decode_limiter_rule(bytes)?,
        activities,
    })
}

/// What [`encode_limiter_rule`] wrote.
///
/// # Errors
/// When the record is damaged or from a newer version.
pub fn decode_limiter_rule(bytes: &[u8]) -> Result<LimiterRule, RecordError> {
    let record = stored::LimiterRule::decode(bytes)?;
    check_format(record.format)?;
    let period = record.rate_period_micros.map(Duration::from_micros);
    Ok(LimiterRule {
        rate: record.rate_count.zip(period),
        burst: record.burst,
        concurrency: record.concurrency,
    })
}

fn check_format(format: u32) -> Result<(), RecordError> {
    if format > FORMAT {
        return Err(damaged(format!(
            "it has format {format}, this version knows up to {FORMAT}: use a newer version"
        )));
    }
    Ok(())
}

fn damaged(reason: impl Into<String>) -> RecordError {
    RecordError {
        reason: reason.into(),
    }
}

fn unknown_kind() -> RecordError {
    damaged("its kind is unknown: it is damaged or from a newer version")
}

fn store_event(event: &Event) -> stored::Event {
    stored::Event {
        format: 0,
        at: event.at.as_micros(),
        kind: Some(store_event_kind(&event.kind)),
        value_number: None,
    }
}

fn store_event_apart(event: &Event, number: u64) -> stored::Event {
    let mut event = event.clone();
    if let Some(value) = event.kind.value_mut() {
        *value = None;
    }
    stored::Event {
        format: FORMAT_APART,
        value_number: Some(number),
        ..store_event(&event)
    }
}

/// What one call said of its activity, if anything.
fn load_options(
    retry: Option<stored::Retry>,
    timeout_micros: Option<u64>,
    labels: Option<stored::Labels>,
    undo: bool,
) -> Option<Box<TaskOptions>> {
    let options = TaskOptions {
        retry: retry.map(load_retry),
        timeout: timeout_micros.map(Duration::from_micros),
        labels: labels.map(load_labels),
        undo,
    };
    (options != TaskOptions::default()).then(|| Box::new(options))
}

fn store_labels(labels: &TaskLabels) -> stored::Labels {
    stored::Labels {
        version: labels.version.as_ref().map(text),
        tags: labels.tags.iter().cloned().collect(),
        trace: store_trace(labels.trace.as_ref()),
    }
}

fn load_labels(labels: stored::Labels) -> Box<TaskLabels> {
    Box::new(TaskLabels {
        version: labels.version.map(Into::into),
        tags: labels.tags.into_iter().collect(),
        trace: load_trace(labels.trace),
    })
}

#[expect(clippy::too_many_lines, reason = "one match over all events")]
fn store_event_kind(kind: &EventKind) -> StoredEvent {
    match kind {
        EventKind::OrchestratorStarted => StoredEvent::OrchestratorStarted(stored::Empty {}),
        EventKind::OrchestratorCompleted => StoredEvent::OrchestratorCompleted(stored::Empty {}),
        EventKind::ExecutionStarted(started) => StoredEvent::ExecutionStarted(store_started(started)),
        EventKind::TaskScheduled {
            task,
            name,
            input,
            options,
        } => StoredEvent::TaskScheduled(stored::TaskScheduled {
            task: task.0,
            name: text(name),
            input: payload(input.as_ref()),
            retry: options
                .as_ref()
                .and_then(|options| options.retry.as_ref())
                .map(store_retry),
            timeout_micros: options.as_ref().and_then(|options| options.timeout).map(micros),
            labels: options
                .as_ref()
                .and_then(|options| options.labels.as_deref())
                .map(store_labels),
            undo: options.as_ref().is_some_and(|options| options.undo),
        }),
        EventKind::TaskCompleted {
            task,
            result,
            attempts,
        } => StoredEvent::TaskCompleted(stored::TaskCompleted {
            task: task.0,
            result: payload(result.as_ref()),
            attempts: attempts.count,
            last_attempt: store_attempt(attempts),
        }),
        EventKind::TaskFailed {
            task,
            failure,
            attempts,
        } => StoredEvent::TaskFailed(stored::TaskFailed {
            task: task.0,
            failure: Some(store_failure(failure)),
            attempts: attempts.count,
            last_attempt: store_attempt(attempts),
        }),
        EventKind::TimerCreated { task, fire_at } => StoredEvent::TimerCreated(store_timer(*task, *fire_at)),
        EventKind::TimerFired { task, fire_at } => StoredEvent::TimerFired(store_timer(*task, *fire_at)),
        EventKind::SubOrchestrationInstanceCreated {
            task,
            name,
            version,
            instance,
            input,
            link,
            parent_close,
            undo,
        } => StoredEvent::ChildCreated(stored::ChildCreated {
            task: task.0,
            name: text(name),
            version: version.as_ref().map(text),
            instance: instance.as_str().to_owned(),
            input: payload(input.as_ref()),
            detached: *link == ChildLink::Detached,
            parent_close: store_close(*parent_close),
            undo: *undo,
        }),
        EventKind::SubOrchestrationInstanceCompleted { task, result } => {
            StoredEvent::ChildCompleted(store_result(*task, result.as_ref()))
        }
        EventKind::SubOrchestrationInstanceFailed { task, failure } => {
            StoredEvent::ChildFailed(store_task_failure(*task, failure))
        }
        EventKind::EventSent {
            task,
            instance,
            name,
            input,
        } => StoredEvent::EventSent(stored::EventSent {
            task: task.0,
            instance: instance.as_str().to_owned(),
            name: text(name),
            input: payload(input.as_ref()),
        }),
        EventKind::EventRaised { name, input, trace } => {
            StoredEvent::EventRaised(store_event_raised(name, input.as_ref(), trace.as_ref()))
        }
        EventKind::EntityOperationCalled {
            task,
            entity,
            operation,
            input,
            request,
        } => StoredEvent::EntityOperationCalled(stored::EntityOperation {
            task: task.0,
            entity: Some(store_entity(entity)),
            operation: text(operation),
            input: payload(input.as_ref()),
            at: None,
            request: request.as_ref().map(text),
        }),
        EventKind::EntityOperationSignaled {
            task,
            entity,
            operation,
            input,
            at,
            request,
        } => StoredEvent::EntityOperationSignaled(stored::EntityOperation {
            task: task.0,
            entity: Some(store_entity(entity)),
            operation: text(operation),
            input: payload(input.as_ref()),
            at: at.map(Timestamp::as_micros),
            request: request.as_ref().map(text),
        }),
        EventKind::EntityOperationCompleted { task, result } => {
            StoredEvent::EntityOperationCompleted(store_result(*task, result.as_ref()))
        }
        EventKind::EntityOperationFailed { task, failure } => {
            StoredEvent::EntityOperationFailed(store_task_failure(*task, failure))
        }
        EventKind::EntityLockRequested {
            task,
            entities,
            request,
        } => StoredEvent::EntityLockRequested(stored::EntityLock {
            task: task.0,
            entities: entities.iter().map(store_entity).collect(),
            request: request.as_ref().map(text),
        }),
        EventKind::EntityLockGranted { task } => {
            StoredEvent::EntityLockGranted(stored::TaskOnly { task: task.0 })
        }
        EventKind::EntityUnlockSent { lock, only } => StoredEvent::EntityUnlockSent(stored::EntityUnlock {
            task: lock.0,
            entity: only.as_ref().map(|only| store_entity(&only.entity)),
            number: only.as_ref().map_or(0, |only| only.task.0),
        }),
        EventKind::ExecutionSuspended { reason } => StoredEvent::ExecutionSuspended(store_reason(reason)),
        EventKind::ExecutionResumed { reason } => StoredEvent::ExecutionResumed(store_reason(reason)),
        EventKind::ExecutionRewound { reason } => StoredEvent::ExecutionRewound(store_reason(reason)),
        EventKind::ExecutionCompleted { result } => StoredEvent::ExecutionCompleted(stored::Outcome {
            value: payload(result.as_ref()),
        }),
        EventKind::ExecutionFailed { failure } => StoredEvent::ExecutionFailed(store_failure(failure)),
        EventKind::ExecutionTerminated { reason } => StoredEvent::ExecutionTerminated(store_reason(reason)),
        EventKind::CancelRequested { reason } => StoredEvent::CancelRequested(store_reason(reason)),
        EventKind::ExecutionCanceled { failure } => StoredEvent::ExecutionCanceled(store_failure(failure)),
    }
}

#[expect(clippy::too_many_lines, reason = "one match over all events")]
fn load_event(kind: StoredEvent) -> Result<EventKind, RecordError> {
    Ok(match kind {
        StoredEvent::OrchestratorStarted(_) => EventKind::OrchestratorStarted,
        StoredEvent::OrchestratorCompleted(_) => EventKind::OrchestratorCompleted,
        StoredEvent::ExecutionStarted(started) => {
            EventKind::ExecutionStarted(Box::new(load_started(started)?))
        }
        StoredEvent::TaskScheduled(event) => EventKind::TaskScheduled {
            task: TaskId(event.task),
            name: event.name.into(),
            input: event.input.map(Payload::from),
            options: load_options(event.retry, event.timeout_micros, event.labels, event.undo),
        },
        StoredEvent::TaskCompleted(event) => EventKind::TaskCompleted {
            task: TaskId(event.task),
            result: event.result.map(Payload::from),
            attempts: load_attempts(event.attempts, event.last_attempt),
        },
        StoredEvent::TaskFailed(event) => EventKind::TaskFailed {
            task: TaskId(event.task),
            failure: required_failure(event.failure)?,
            attempts: load_attempts(event.attempts, event.last_attempt),
        },
        StoredEvent::TimerCreated(timer) => EventKind::TimerCreated {
            task: TaskId(timer.task),
            fire_at: Timestamp::from_micros(timer.fire_at),
        },
        StoredEvent::TimerFired(timer) => EventKind::TimerFired {
            task: TaskId(timer.task),
            fire_at: Timestamp::from_micros(timer.fire_at),
        },
        StoredEvent::ChildCreated(event) => EventKind::SubOrchestrationInstanceCreated {
            task: TaskId(event.task),
            name: event.name.into(),
            version: event.version.map(Into::into),
            instance: InstanceId::trusted(event.instance),
            input: event.input.map(Payload::from),
            link: if event.detached {
                ChildLink::Detached
            } else {
                ChildLink::Awaited
            },
            parent_close: load_close(event.parent_close)?,
            undo: event.undo,
        },
        StoredEvent::ChildCompleted(event) => EventKind::SubOrchestrationInstanceCompleted {
            task: TaskId(event.task),
            result: event.value.map(Payload::from),
        },
        StoredEvent::ChildFailed(event) => EventKind::SubOrchestrationInstanceFailed {
            task: TaskId(event.task),
            failure: required_failure(event.failure)?,
        },
        StoredEvent::EventSent(event) => EventKind::EventSent {
            task: TaskId(event.task),
            instance: InstanceId::trusted(event.instance),
            name: event.name.into(),
            input: event.input.map(Payload::from),
        },
        StoredEvent::EventRaised(event) => EventKind::EventRaised {
            name: event.name.into(),
            input: event.input.map(Payload::from),
            trace: load_trace(event.trace),
        },
        StoredEvent::EntityOperationCalled(event) => EventKind::EntityOperationCalled {
            task: TaskId(event.task),
            entity: required_entity(event.entity)?,
            operation: event.operation.into(),
            input: event.input.map(Payload::from),
            request: event.request.map(Into::into),
        },
        StoredEvent::EntityOperationSignaled(event) => EventKind::EntityOperationSignaled {
            task: TaskId(event.task),
            entity: required_entity(event.entity)?,
            operation: event.operation.into(),
            input: event.input.map(Payload::from),
            at: event.at.map(Timestamp::from_micros),
            request: event.request.map(Into::into),
        },
        StoredEvent::EntityOperationCompleted(event) => EventKind::EntityOperationCompleted {
            task: TaskId(event.task),
            result: event.value.map(Payload::from),
        },
        StoredEvent::EntityOperationFailed(event) => EventKind::EntityOperationFailed {
            task: TaskId(event.task),
            failure: required_failure(event.failure)?,
        },
        StoredEvent::EntityLockRequested(event) => EventKind::EntityLockRequested {
            task: TaskId(event.task),
            entities: load_entities(event.entities)?,
            request: event.request.map(Into::into),
        },
        StoredEvent::EntityLockGranted(event) => EventKind::EntityLockGranted {
            task: TaskId(event.task),
        },
        StoredEvent::EntityUnlockSent(event) => EventKind::EntityUnlockSent {
            lock: TaskId(event.task),
            only: match event.entity {
                None => None,
                entity => Some(Box::new(OneOfLock {
                    task: TaskId(event.number),
                    entity: required_entity(entity)?,
                })),
            },
        },
        StoredEvent::ExecutionSuspended(reason) => EventKind::ExecutionSuspended { reason: reason.text },
        StoredEvent::ExecutionResumed(reason) => EventKind::ExecutionResumed { reason: reason.text },
        StoredEvent::ExecutionRewound(reason) => EventKind::ExecutionRewound { reason: reason.text },
        StoredEvent::ExecutionCompleted(outcome) => EventKind::ExecutionCompleted {
            result: outcome.value.map(Payload::from),
        },
        StoredEvent::ExecutionFailed(failure) => EventKind::ExecutionFailed {
            failure: load_failure(failure),
        },
        StoredEvent::ExecutionTerminated(reason) => EventKind::ExecutionTerminated { reason: reason.text },
        StoredEvent::CancelRequested(reason) => EventKind::CancelRequested { reason: reason.text },
        StoredEvent::ExecutionCanceled(failure) => EventKind::ExecutionCanceled {
            failure: load_failure(failure),
        },
    })
}

#[expect(clippy::too_many_lines, reason = "one match over all messages")]
fn store_message(message: &Message) -> StoredMessage {
    match message {
        Message::TaskDone {
            execution,
            task,
            outcome,
            attempts,
        } => StoredMessage::TaskDone(store_completion(*execution, *task, outcome, Some(attempts))),
        Message::TimerFired {
            execution,
            task,
            fire_at,
        } => StoredMessage::TimerFired(stored::Firing {
            execution: execution.0,
            task: task.0,
            fire_at: fire_at.as_micros(),
        }),
        Message::ChildDone {
            execution,
            task,
            outcome,
        } => StoredMessage::ChildDone(store_completion(*execution, *task, outcome, None)),
        Message::EntityAnswered {
            execution,
            task,
            outcome,
        } => StoredMessage::EntityAnswered(store_completion(*execution, *task, outcome, None)),
        Message::LockGranted {
            execution,
            task,
            entities,
        } => StoredMessage::LockGranted(stored::Grant {
            execution: execution.0,
            task: task.0,
            entities: entities.iter().map(store_entity).collect(),
        }),
        Message::EventRaised { name, input, trace } => {
            StoredMessage::EventRaised(store_event_raised(name, input.as_ref(), trace.as_ref()))
        }
        Message::Start(request) => StoredMessage::Start(store_start(request)),
        Message::Terminate {
            reason,
            output,
            children,
            parent,
        } => StoredMessage::Terminate(stored::Terminate {
            reason: reason.clone(),
            output: payload(output.as_ref()),
            children: store_close(*children),
            parent: parent.as_ref().map(store_parent),
        }),
        Message::Cancel { reason, parent } => StoredMessage::Cancel(stored::Reason {
            parent: parent.as_ref().map(store_parent),
            ..store_reason(reason)
        }),
        Message::Suspend { reason } => StoredMessage::Suspend(store_reason(reason)),
        Message::Resume { reason } => StoredMessage::Resume(store_reason(reason)),
        Message::Rewind { reason, parent } => StoredMessage::Rewind(stored::Rewind {
            reason: reason.clone(),
            parent: parent.as_ref().map(store_parent),
        }),
        Message::Operation {
            operation,
            input,
            caller,
            at,
            trace,
        } => StoredMessage::Operation(stored::Operation {
            operation: text(operation),
            input: payload(input.as_ref()),
            caller: caller.as_ref().map(store_caller),
            at: at.map(Timestamp::as_micros),
            trace: store_trace(trace.as_ref()),
        }),
        Message::Lock {
            caller,
            entities,
            position,
        } => StoredMessage::Lock(stored::Lock {
            caller: Some(store_caller(caller)),
            entities: entities.iter().map(store_entity).collect(),
            position: *position,
        }),
        Message::Unlock { execution, task } => StoredMessage::Unlock(stored::Addressee {
            execution: execution.0,
            task: task.0,
        }),
    }
}

fn load_message(kind: StoredMessage) -> Result<Message, RecordError> {
    Ok(match kind {
        StoredMessage::TaskDone(mut done) => Message::TaskDone {
            execution: ExecutionKey(done.execution),
            task: TaskId(done.task),
            attempts: load_attempts(done.attempts, done.last_attempt.take()),
            outcome: load_outcome(done),
        },
        StoredMessage::TimerFired(firing) => Message::TimerFired {
            execution: ExecutionKey(firing.execution),
            task: TaskId(firing.task),
            fire_at: Timestamp::from_micros(firing.fire_at),
        },
        StoredMessage::ChildDone(done) => Message::ChildDone {
            execution: ExecutionKey(done.execution),
            task: TaskId(done.task),
            outcome: load_outcome(done),
        },
        StoredMessage::EntityAnswered(done) => Message::EntityAnswered {
            execution: ExecutionKey(done.execution),
            task: TaskId(done.task),
            outcome: load_outcome(done),
        },
        StoredMessage::LockGranted(grant) => Message::LockGranted {
            execution: ExecutionKey(grant.execution),
            task: TaskId(grant.task),
            entities: load_entities(grant.entities)?,
        },
        StoredMessage::EventRaised(event) => Message::EventRaised {
            name: event.name.into(),
            input: event.input.map(Payload::from),
            trace: load_trace(event.trace),
        },
        StoredMessage::Start(start) => Message::Start(Box::new(load_start(start)?)),
        StoredMessage::Terminate(terminate) => Message::Terminate {
            children: load_close(terminate.children)?,
            reason: terminate.reason,
            output: terminate.output.map(Payload::from),
            parent: terminate.parent.map(load_parent),
        },
        StoredMessage::Cancel(reason) => Message::Cancel {
            reason: reason.text,
            parent: reason.parent.map(load_parent),
        },
        StoredMessage::Suspend(reason) => Message::Suspend { reason: reason.text },
        StoredMessage::Resume(reason) => Message::Resume { reason: reason.text },
        StoredMessage::Rewind(rewind) => Message::Rewind {
            reason: rewind.reason,
            parent: rewind.parent.map(load_parent),
        },
        StoredMessage::Operation(operation) => Message::Operation {
            operation: operation.operation.into(),
            input: operation.input.map(Payload::from),
            caller: operation.caller.map(load_caller),
            at: operation.at.map(Timestamp::from_micros),
            trace: load_trace(operation.trace),
        },
        StoredMessage::Lock(lock) => Message::Lock {
            caller: load_caller(lock.caller.ok_or_else(|| damaged("a lock without caller"))?),
            entities: load_entities(lock.entities)?,
            position: lock.position,
        },
        StoredMessage::Unlock(unlock) => Message::Unlock {
            execution: ExecutionKey(unlock.execution),
            task: TaskId(unlock.task),
        },
    })
}

fn text(text: &Arc<str>) -> String {
    (**text).to_owned()
}

fn payload(payload: Option<&Payload>) -> Option<String> {
    payload.map(|payload| payload.as_str().to_owned())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn store_reason(reason: &Option<String>) -> stored::Reason {
    stored::Reason {
        text: reason.clone(),
        parent: None,
    }
}

fn store_timer(task: TaskId, fire_at: Timestamp) -> stored::Timer {
    stored::Timer {
        task: task.0,
        fire_at: fire_at.as_micros(),
    }
}

fn store_result(task: TaskId, result: Option<&Payload>) -> stored::Result {
    stored::Result {
        task: task.0,
        value: payload(result),
    }
}

fn store_task_failure(task: TaskId, failure: &Failure) -> stored::TaskFailure {
    stored::TaskFailure {
        task: task.0,
        failure: Some(store_failure(failure)),
    }
}

fn store_event_raised(
    name: &Arc<str>,
    input: Option<&Payload>,
    trace: Option<&TraceContext>,
) -> stored::EventRaised {
    stored::EventRaised {
        name: text(name),
        input: payload(input),
        trace: store_trace(trace),
    }
}

fn store_completion(
    execution: ExecutionKey,
    task: TaskId,
    outcome: &Outcome,
    attempts: Option<&Attempts>,
) -> stored::Completion {
    let (value, failure) = match outcome {
        Ok(value) => (payload(value.as_ref()), None),
        Err(failure) => (None, Some(store_failure(failure))),
    };
    stored::Completion {
        execution: execution.0,
        task: task.0,
        value,
        failure,
        attempts: attempts.map_or(0, |attempts| attempts.count),
        last_attempt: attempts.and_then(store_attempt),
    }
}

fn load_outcome(completion: stored::Completion) -> Outcome {
    match completion.failure {
        Some(failure) => Err(load_failure(failure)),
        None => Ok(completion.value.map(Payload::from)),
    }
}

fn store_attempt(attempts: &Attempts) -> Option<stored::AttemptRecord> {
    attempts.record.as_ref().map(|record| stored::AttemptRecord {
        started: record.started.as_micros(),
        worker: text(&record.worker),
        failures: record.failures.iter().map(store_attempt_failure).collect(),
    })
}

fn load_attempts(count: u32, record: Option<stored::AttemptRecord>) -> Attempts {
    let load = |record: stored::AttemptRecord| AttemptRecord {
        started: Timestamp::from_micros(record.started),
        worker: record.worker.into(),
        failures: record.failures.into_iter().map(load_attempt_failure).collect(),
    };
    Attempts {
        count,
        record: record.map(load).map(Box::new),
    }
}

fn store_attempt_failure(failure: &AttemptFailure) -> stored::AttemptFailure {
    stored::AttemptFailure {
        at: failure.at.as_micros(),
        kind: failure.kind.clone(),
        message: failure.message.clone(),
    }
}

fn load_attempt_failure(failure: stored::AttemptFailure) -> AttemptFailure {
    AttemptFailure {
        at: Timestamp::from_micros(failure.at),
        kind: failure.kind,
        message: failure.message,
    }
}

fn store_failure(failure: &Failure) -> stored::Failure {
    store_failure_to(failure, CAUSES_MAX)
}

fn store_failure_to(failure: &Failure, causes: usize) -> stored::Failure {
    let cause = failure.cause.as_ref().filter(|_| causes > 0);
    stored::Failure {
        kind: failure.kind.clone(),
        message: failure.message.clone(),
        stack: failure.stack.clone(),
        cause: cause.map(|cause| Box::new(store_failure_to(cause, causes - 1))),
        permanent: failure.permanent,
        properties: payload(failure.properties.as_ref()),
    }
}

fn load_failure(failure: stored::Failure) -> Failure {
    Failure {
        kind: failure.kind,
        message: failure.message,
        stack: failure.stack,
        cause: failure.cause.map(|cause| Box::new(load_failure(*cause))),
        permanent: failure.permanent,
        properties: failure.properties.map(Payload::from),
    }
}

fn required_failure(failure: Option<stored::Failure>) -> Result<Failure, RecordError> {
    failure
        .map(load_failure)
        .ok_or_else(|| damaged("a failure is missing"))
}

fn store_entity(id: &EntityId) -> stored::EntityId {
    stored::EntityId {
        name: id.name().to_owned(),
        key: id.key().to_owned(),
    }
}

fn load_entity(id: stored::EntityId) -> Result<EntityId, RecordError> {
    EntityId::new(&id.name, &id.key).map_err(|error| damaged(format!("an entity id: {error}")))
}

fn required_entity(id: Option<stored::EntityId>) -> Result<EntityId, RecordError> {
    load_entity(id.ok_or_else(|| damaged("an entity is missing"))?)
}

fn load_entities(ids: Vec<stored::EntityId>) -> Result<Vec<EntityId>, RecordError> {
    ids.into_iter().map(load_entity).collect()
}

fn store_parent(parent: &Parent) -> stored::Parent {
    stored::Parent {
        instance: parent.instance.as_str().to_owned(),
        execution: parent.execution.0,
        task: parent.task.0,
    }
}

fn load_parent(parent: stored::Parent) -> Parent {
    Parent {
        instance: InstanceId::trusted(parent.instance),
        execution: ExecutionKey(parent.execution),
        task: TaskId(parent.task),
    }
}

fn store_parent_name(parent: &ParentName) -> stored::ParentName {
    stored::ParentName {
        name: text(&parent.name),
        version: parent.version.as_ref().map(text),
        execution_id: parent.execution_id.0.to_be_bytes().to_vec(),
    }
}

fn load_parent_name(parent: Option<stored::ParentName>) -> Result<Option<Arc<ParentName>>, RecordError> {
    let Some(parent) = parent else { return Ok(None) };
    Ok(Some(Arc::new(ParentName {
        name: parent.name.into(),
        version: parent.version.map(Into::into),
        execution_id: load_execution_id(&parent.execution_id)?,
    })))
}

fn store_caller(caller: &Caller) -> stored::Parent {
    stored::Parent {
        instance: caller.instance.as_str().to_owned(),
        execution: caller.execution.0,
        task: caller.task.0,
    }
}

fn load_caller(caller: stored::Parent) -> Caller {
    Caller {
        instance: InstanceId::trusted(caller.instance),
        execution: ExecutionKey(caller.execution),
        task: TaskId(caller.task),
    }
}

fn store_started(started: &ExecutionStarted) -> stored::ExecutionStarted {
    stored::ExecutionStarted {
        name: text(&started.name),
        version: started.version.as_ref().map(text),
        execution_id: started.execution_id.0.to_be_bytes().to_vec(),
        input: payload(started.input.as_ref()),
        parent: started.parent.as_ref().map(store_parent),
        parent_name: started.parent_name.as_deref().map(store_parent_name),
        scheduled_start: started.scheduled_start.map(Timestamp::as_micros),
        trace: store_trace(started.trace.as_ref()),
    }
}

fn load_started(started: stored::ExecutionStarted) -> Result<ExecutionStarted, RecordError> {
    Ok(ExecutionStarted {
        name: started.name.into(),
        version: started.version.map(Into::into),
        execution_id: load_execution_id(&started.execution_id)?,
        input: started.input.map(Payload::from),
        parent: started.parent.map(load_parent),
        parent_name: load_parent_name(started.parent_name)?,
        scheduled_start: started.scheduled_start.map(Timestamp::from_micros),
        trace: load_trace(started.trace),
    })
}

fn load_execution_id(bytes: &[u8]) -> Result<ExecutionId, RecordError> {
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| damaged("an execution id is not 16 bytes long"))?;
    Ok(ExecutionId(u128::from_be_bytes(bytes)))
}

fn store_start(request: &StartRequest) -> stored::Start {
    let reuse = match request.reuse {
        ReusePolicy::RejectRunning => stored::ReusePolicy::RejectRunning,
        ReusePolicy::Reject => stored::ReusePolicy::Reject,
        ReusePolicy::ReturnExisting => stored::ReusePolicy::ReturnExisting,
        ReusePolicy::Replace => stored::ReusePolicy::Replace,
        ReusePolicy::TerminateAndStart => stored::ReusePolicy::TerminateAndStart,
    };
    stored::Start {
        name: text(&request.name),
        version: request.version.as_ref().map(text),
        input: payload(request.input.as_ref()),
        parent: request.parent.as_ref().map(store_parent),
        parent_name: request.parent_name.as_deref().map(store_parent_name),
        reuse: reuse.into(),
        depth: request.depth,
        tags: request.tags.iter().cloned().collect(),
        trace: store_trace(request.trace.as_ref()),
    }
}

fn load_start(start: stored::Start) -> Result<StartRequest, RecordError> {
    let reuse = stored::ReusePolicy::try_from(start.reuse)
        .map_err(|_| damaged(format!("reuse policy {} is unknown", start.reuse)))?;
    Ok(StartRequest {
        name: start.name.into(),
        version: start.version.map(Into::into),
        input: start.input.map(Payload::from),
        parent: start.parent.map(load_parent),
        parent_name: load_parent_name(start.parent_name)?,
        depth: start.depth,
        tags: start.tags.into_iter().collect(),
        trace: load_trace(start.trace),
        reuse: match reuse {
            stored::ReusePolicy::RejectRunning => ReusePolicy::RejectRunning,
            stored::ReusePolicy::Reject => ReusePolicy::Reject,
            stored::ReusePolicy::ReturnExisting => ReusePolicy::ReturnExisting,
            stored::ReusePolicy::Replace => ReusePolicy::Replace,
            stored::ReusePolicy::TerminateAndStart => ReusePolicy::TerminateAndStart,
        },
    })
}

fn store_close(policy: ParentClosePolicy) -> i32 {
    match policy {
        ParentClosePolicy::Abandon => stored::ParentClosePolicy::Abandon.into(),
        ParentClosePolicy::Terminate => stored::ParentClosePolicy::Terminate.into(),
        ParentClosePolicy::Cancel => stored::ParentClosePolicy::Cancel.into(),
    }
}

fn load_close(policy: i32) -> Result<ParentClosePolicy, RecordError> {
    match stored::ParentClosePolicy::try_from(policy) {
        Ok(stored::ParentClosePolicy::Abandon) => Ok(ParentClosePolicy::Abandon),
        Ok(stored::ParentClosePolicy::Terminate) => Ok(ParentClosePolicy::Terminate),
        Ok(stored::ParentClosePolicy::Cancel) => Ok(ParentClosePolicy::Cancel),
        Err(_) => Err(damaged(format!("parent-close policy {policy} is unknown"))),
    }
}

fn store_retry(policy: &RetryPolicy) -> stored::Retry {
    stored::Retry {
        attempts_max: policy.attempts_max,
        first_interval_micros: micros(policy.first_interval),
        coefficient: policy.coefficient,
        interval_max_micros: micros(policy.interval_max),
        jitter: policy.jitter,
        deadline_micros: policy.deadline.map(micros),
    }
}

fn load_retry(policy: stored::Retry) -> RetryPolicy {
    RetryPolicy {
        attempts_max: policy.attempts_max,
        first_interval: Duration::from_micros(policy.first_interval_micros),
        coefficient: policy.coefficient,
        interval_max: Duration::from_micros(policy.interval_max_micros),
        jitter: policy.jitter,
        deadline: policy.deadline_micros.map(Duration::from_micros),
    }
}

#[cfg(test)]
mod tests;
