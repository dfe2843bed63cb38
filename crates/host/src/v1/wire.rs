//! The JSON of `/runtime/dalsegno/v1`, for the server and for [`RemoteHub`](crate::RemoteHub).
//!
//! Lossless: what is absent is left out, `null` is a stored null. Times are RFC 3339 with as many
//! digits as there are; durations are milliseconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::event::Parent;
use dalsegno_core::id::ID_CHARS_MAX;
use dalsegno_core::message::ReusePolicy;
use dalsegno_core::query::Status;
use dalsegno_core::store::{EntityRow, InstanceRow};
use dalsegno_core::{
    Divergence, EntityId, ExecutionId, ExecutionKey, Failure, Fault, FaultKind, InstanceId, PartitionId,
    Payload, TaskId, Timestamp, TraceContext,
};
use dalsegno_engine::hub::LimiterDefinition;
use dalsegno_engine::request::{
    InstanceStatus, LimiterChange, LimiterStatus, LivingHolder, PurgeQuery, StartOptions, Started,
    UnconsumedEvents, WorkerOffers, WorkerStatus, lock_holder, trace_of, unconsumed_of,
};
use dalsegno_engine::webhooks::WebhookSubscription;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::http::time::{self, ZoneRule};
use crate::http::wire::raw;
use crate::keys::Scope;
use crate::openapi::schemas;

/// What an answer did not hold, or held in another form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfit(pub(crate) String);

/// JSON of a payload; absent is `None`, `null` is a value.
pub(crate) type Json = Option<Box<RawValue>>;

pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

pub(crate) fn json(payload: Option<&Payload>) -> Json {
    payload.map(|payload| raw(Some(payload)))
}

pub(super) fn payload(json: Json) -> Option<Payload> {
    json.map(|json| Payload::from_json(json.get()))
}

pub(crate) fn instant(text: &str) -> Result<Timestamp, Unfit> {
    time::parse(text, ZoneRule::Required).map_err(|error| {
        Unfit(format!(
            "{text:?} is no time ({}): write it like 2026-03-01T09:30:00Z",
            error.code()
        ))
    })
}

pub(super) fn instant_if(text: Option<&String>) -> Result<Option<Timestamp>, Unfit> {
    text.map(|text| instant(text)).transpose()
}

fn hex_u128(text: &str) -> Result<u128, Unfit> {
    u128::from_str_radix(text, 16).map_err(|_| Unfit(format!("{text:?} is no execution id")))
}

pub(crate) fn status(word: &str) -> Result<Status, Unfit> {
    let found = Status::ALL
        .into_iter()
        .find(|status| status.as_str().eq_ignore_ascii_case(word));
    found.ok_or_else(|| Unfit(format!("{word:?} is no status")))
}

/// Words of [`ReusePolicy`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ReuseWord {
    /// Refuse while it lives, replace when finished.
    #[default]
    RejectRunning,
    /// Refuse, also when finished.
    Reject,
    /// Answer with the existing one.
    ReturnExisting,
    /// The same as `rejectRunning`.
    Replace,
    /// Terminate a living one and start anew.
    TerminateAndStart,
}

impl ReuseWord {
    /// As it is typed.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::RejectRunning => "rejectRunning",
            Self::Reject => "reject",
            Self::ReturnExisting => "returnExisting",
            Self::Replace => "replace",
            Self::TerminateAndStart => "terminateAndStart",
        }
    }
}

impl From<ReusePolicy> for ReuseWord {
    fn from(policy: ReusePolicy) -> Self {
        match policy {
            ReusePolicy::RejectRunning => Self::RejectRunning,
            ReusePolicy::Reject => Self::Reject,
            ReusePolicy::ReturnExisting => Self::ReturnExisting,
            ReusePolicy::Replace => Self::Replace,
            ReusePolicy::TerminateAndStart => Self::TerminateAndStart,
        }
    }
}

impl From<ReuseWord> for ReusePolicy {
    fn from(word: ReuseWord) -> Self {
        match word {
            ReuseWord::RejectRunning => Self::RejectRunning,
            ReuseWord::Reject => Self::Reject,
            ReuseWord::ReturnExisting => Self::ReturnExisting,
            ReuseWord::Replace => Self::Replace,
            ReuseWord::TerminateAndStart => Self::TerminateAndStart,
        }
    }
}

/// `POST orchestrators/{name}`.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct StartBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = schemas::INSTANCE_ID, "minLength" = 1, "maxLength" = ID_CHARS_MAX))]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    input: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    scheduled_start: Option<String>,
    reuse: ReuseWord,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = schemas::IDEMPOTENCY_KEY))]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<WebhookBody>,
}

/// Who is told of the instance's statuses.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct WebhookBody {
    url: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = schemas::status()))]
    statuses: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<WebhookSubscription> for WebhookBody {
    fn from(webhook: WebhookSubscription) -> Self {
        let word = |status: &Status| status.as_str().to_owned();
        Self {
            url: webhook.url,
            statuses: webhook.statuses.iter().map(word).collect(),
            secret: webhook.secret,
        }
    }
}

impl TryFrom<WebhookBody> for WebhookSubscription {
    type Error = Unfit;

    fn try_from(body: WebhookBody) -> Result<Self, Unfit> {
        let statuses: Result<_, Unfit> = body.statuses.iter().map(|word| status(word)).collect();
        Ok(Self {
            url: body.url,
            statuses: statuses?,
            secret: body.secret,
        })
    }
}

impl From<StartOptions> for StartBody {
    fn from(options: StartOptions) -> Self {
        Self {
            id: options.id.map(|id| id.to_string()),
            input: json(options.input.as_ref()),
            version: options.version,
            tags: options.tags.into_iter().collect(),
            scheduled_start: options.scheduled_start.map(time::exact),
            reuse: options.reuse.into(),
            idempotency_key: options.idempotency_key,
            webhook: options.webhook.map(WebhookBody::from),
        }
    }
}

impl StartBody {
    pub(super) fn into_options(self, name: String, id: Option<InstanceId>) -> Result<StartOptions, Unfit> {
        Ok(StartOptions {
            name,
            id,
            version: self.version,
            input: payload(self.input),
            scheduled_start: instant_if(self.scheduled_start.as_ref())?,
            tags: self.tags.into_iter().collect(),
            reuse: self.reuse.into(),
            replaceable: None,
            idempotency_key: self.idempotency_key,
            trace: None,
            is_told_elsewhere: false,
            webhook: self.webhook.map(WebhookSubscription::try_from).transpose()?,
        })
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(super) fn reuse(&self) -> ReuseWord {
        self.reuse
    }
}

/// What a start or restart gave.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct StartedWire {
    id: String,
    /// Status of the instance that was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = schemas::statuses()))]
    existing: Option<String>,
}

impl From<&Started> for StartedWire {
    fn from(started: &Started) -> Self {
        Self {
            id: started.id.to_string(),
            existing: started.existing.map(|status| status.as_str().to_owned()),
        }
    }
}

impl TryFrom<StartedWire> for Started {
    type Error = Unfit;

    fn try_from(wire: StartedWire) -> Result<Self, Unfit> {
        Ok(Self {
            id: InstanceId::trusted(wire.id),
            existing: wire.existing.map(|word| status(&word)).transpose()?,
        })
    }
}

/// A failure, whole.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct FailureWire {
    kind: String,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stack: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<Box<FailureWire>>,
    permanent: bool,
}

impl From<&Failure> for FailureWire {
    fn from(failure: &Failure) -> Self {
        Self {
            kind: failure.kind.clone(),
            message: failure.message.clone(),
            stack: failure.stack.clone(),
            cause: failure.cause.as_deref().map(|cause| Box::new(Self::from(cause))),
            permanent: failure.permanent,
        }
    }
}

impl From<FailureWire> for Failure {
    fn from(wire: FailureWire) -> Self {
        Self {
            kind: wire.kind,
            message: wire.message,
            stack: wire.stack,
            cause: wire.cause.map(|cause| Box::new(Self::from(*cause))),
            permanent: wire.permanent,
            properties: None,
        }
    }
}

/// Why an instance is parked.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FaultWire {
    kind: String,
    message: String,
    /// The two sides, where code and history went apart at one place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    divergence: Option<DivergenceWire>,
}

/// Where code and history went apart.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct DivergenceWire {
    /// What history records there; nothing when it ends there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<String>,
    /// What the code asked for instead; nothing when it asked for nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<String>,
    /// File, line and column of the code that asked, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
}

impl From<&Fault> for FaultWire {
    fn from(fault: &Fault) -> Self {
        Self {
            kind: fault.kind.as_str().to_owned(),
            message: fault.message.clone(),
            divergence: fault.divergence.as_deref().map(|sides| DivergenceWire {
                recorded: sides.recorded.clone(),
                asked: sides.asked.clone(),
                location: sides.location.clone(),
            }),
        }
    }
}

impl TryFrom<FaultWire> for Fault {
    type Error = Unfit;

    fn try_from(wire: FaultWire) -> Result<Self, Unfit> {
        let kind = FaultKind::ALL.into_iter().find(|kind| kind.as_str() == wire.kind);
        Ok(Self {
            kind: kind.ok_or_else(|| Unfit(format!("{:?} is no kind of fault", wire.kind)))?,
            message: wire.message,
            divergence: wire.divergence.map(|sides| {
                Box::new(Divergence {
                    recorded: sides.recorded,
                    asked: sides.asked,
                    location: sides.location,
                })
            }),
        })
    }
}

/// The headers of W3C Trace Context.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct TraceWire {
    parent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

impl From<&TraceContext> for TraceWire {
    fn from(trace: &TraceContext) -> Self {
        Self {
            parent: trace.trace_parent().to_owned(),
            state: trace.trace_state().map(str::to_owned),
        }
    }
}

/// Invalid is as good as absent.
pub(super) fn trace(wire: Option<TraceWire>) -> Option<TraceContext> {
    wire.and_then(|wire| TraceContext::parse(&wire.parent, wire.state.as_deref()))
}

/// Who waits for an instance.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ParentWire {
    instance_id: String,
    execution_key: u64,
    task: u32,
}

impl From<&Parent> for ParentWire {
    fn from(parent: &Parent) -> Self {
        Self {
            instance_id: parent.instance.to_string(),
            execution_key: parent.execution.0,
            task: parent.task.0,
        }
    }
}

impl From<ParentWire> for Parent {
    fn from(wire: ParentWire) -> Self {
        Self {
            instance: InstanceId::trusted(wire.instance_id),
            execution: ExecutionKey(wire.execution_key),
            task: TaskId(wire.task),
        }
    }
}

/// An instance, whole.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstanceWire {
    name: String,
    id: String,
    #[schemars(extend("enum" = schemas::statuses()))]
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    execution_id: String,
    execution_key: u64,
    partition: u32,
    #[schemars(extend("format" = "date-time"))]
    created: String,
    #[schemars(extend("format" = "date-time"))]
    updated: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    completed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    scheduled_start: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<ParentWire>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    input: Json,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    custom_status: Json,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    output: Json,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<FailureWire>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parked: Option<FaultWire>,
    events: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<TraceWire>,
    /// What holds it, in words; only when one instance is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waits_for: Vec<String>,
    /// Accepted events that came too late for the code; history has them behind the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unconsumed_events: Option<UnconsumedWire>,
}

/// Events that were accepted and that the code was not given.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnconsumedWire {
    /// How many.
    count: u64,
    /// The names of the first 20.
    names: Vec<String>,
}

impl UnconsumedWire {
    fn of(events: &UnconsumedEvents) -> Option<Self> {
        (events.count > 0).then(|| Self {
            count: events.count,
            names: events.names.iter().map(ToString::to_string).collect(),
        })
    }
}

impl From<UnconsumedWire> for UnconsumedEvents {
    fn from(wire: UnconsumedWire) -> Self {
        Self {
            count: wire.count,
            names: wire.names.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<&InstanceRow> for InstanceWire {
    fn from(row: &InstanceRow) -> Self {
        Self {
            name: row.name.to_string(),
            id: row.id.to_string(),
            status: row.status.as_str().to_owned(),
            version: row.version.as_deref().map(str::to_owned),
            execution_id: row.execution_id.to_string(),
            execution_key: row.key.0,
            partition: row.partition.0,
            created: time::exact(row.created),
            updated: time::exact(row.updated),
            completed: row.completed.map(time::exact),
            scheduled_start: row.scheduled_start.map(time::exact),
            parent: row.parent.as_ref().map(ParentWire::from),
            tags: row.tags.iter().cloned().collect(),
            input: json(row.input.as_ref()),
            custom_status: json(row.custom_status.as_ref()),
            output: json(row.output.as_ref()),
            failure: row.failure.as_ref().map(FailureWire::from),
            parked: row.parked.as_ref().map(FaultWire::from),
            events: row.events,
            trace: trace_of(row).as_ref().map(TraceWire::from),
            waits_for: Vec::new(),
            unconsumed_events: UnconsumedWire::of(&unconsumed_of(row)),
        }
    }
}

impl From<&InstanceStatus> for InstanceWire {
    fn from(status: &InstanceStatus) -> Self {
        Self {
            waits_for: status.waits_for.clone(),
            unconsumed_events: UnconsumedWire::of(&status.unconsumed),
            trace: status.trace.as_ref().map(TraceWire::from),
            ..Self::from(&status.row)
        }
    }
}

impl TryFrom<InstanceWire> for InstanceStatus {
    type Error = Unfit;

    fn try_from(mut wire: InstanceWire) -> Result<Self, Unfit> {
        let waits_for = std::mem::take(&mut wire.waits_for);
        let trace = trace(wire.trace.take());
        let unconsumed = wire.unconsumed_events.take();
        Ok(Self {
            row: wire.try_into()?,
            waits_for,
            trace,
            unconsumed: unconsumed.map(UnconsumedEvents::from).unwrap_or_default(),
        })
    }
}

/// All but `extra`, which is the engine's own.
impl TryFrom<InstanceWire> for InstanceRow {
    type Error = Unfit;

    fn try_from(wire: InstanceWire) -> Result<Self, Unfit> {
        Ok(Self {
            key: ExecutionKey(wire.execution_key),
            partition: PartitionId(wire.partition),
            id: InstanceId::trusted(wire.id),
            execution_id: ExecutionId(hex_u128(&wire.execution_id)?),
            name: wire.name.into(),
            version: wire.version.map(Into::into),
            status: status(&wire.status)?,
            created: instant(&wire.created)?,
            updated: instant(&wire.updated)?,
            completed: instant_if(wire.completed.as_ref())?,
            scheduled_start: instant_if(wire.scheduled_start.as_ref())?,
            parent: wire.parent.map(Parent::from),
            tags: wire.tags.into_iter().collect(),
            input: payload(wire.input),
            custom_status: payload(wire.custom_status),
            output: payload(wire.output),
            failure: wire.failure.map(Failure::from),
            parked: wire.parked.map(Fault::try_from).transpose()?,
            events: wire.events,
            extra: Vec::new(),
            apart: Default::default(),
        })
    }
}

/// A page; `next` goes into the next request's `after`.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct PageWire<T> {
    pub(crate) rows: Vec<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// How many instances are in a status.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct CountWire {
    #[schemars(extend("enum" = schemas::statuses()))]
    pub(crate) status: String,
    pub(crate) count: u64,
}

/// `POST instances/{id}/cancel`.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelBody {
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// `POST purge`.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["createdFrom"]))]
pub(crate) struct PurgeBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, extend("format" = "date-time"))]
    pub(super) created_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    created_to: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = schemas::finished_status()))]
    statuses: Vec<String>,
}

impl From<PurgeQuery> for PurgeBody {
    fn from(query: PurgeQuery) -> Self {
        Self {
            created_from: query.created_from.map(time::exact),
            created_to: query.created_to.map(time::exact),
            statuses: query
                .statuses
                .iter()
                .map(|status| status.as_str().to_owned())
                .collect(),
        }
    }
}

impl TryFrom<PurgeBody> for PurgeQuery {
    type Error = Unfit;

    fn try_from(body: PurgeBody) -> Result<Self, Unfit> {
        Ok(Self {
            created_from: instant_if(body.created_from.as_ref())?,
            created_to: instant_if(body.created_to.as_ref())?,
            statuses: body
                .statuses
                .iter()
                .map(|word| status(word))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// How many were deleted.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct DeletedWire {
    pub(crate) deleted: u64,
}

/// An entity, but for its queue.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EntityRowWire {
    name: String,
    key: String,
    partition: u32,
    #[schemars(extend("format" = "date-time"))]
    last_operation: String,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    state: Json,
    /// Operations wait, or it is locked.
    busy: bool,
    /// The orchestration that holds its lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock_holder: Option<String>,
}

impl From<&EntityRow> for EntityRowWire {
    fn from(row: &EntityRow) -> Self {
        Self {
            name: row.id.name().to_owned(),
            key: row.id.key().to_owned(),
            partition: row.partition.0,
            last_operation: time::exact(row.last_operation),
            state: json(row.state.as_ref()),
            busy: !row.queue.is_empty(),
            lock_holder: lock_holder(row).map(|id| id.to_string()),
        }
    }
}

impl TryFrom<EntityRowWire> for EntityRow {
    type Error = Unfit;

    fn try_from(wire: EntityRowWire) -> Result<Self, Unfit> {
        Ok(Self {
            id: EntityId::new(&wire.name, &wire.key).map_err(|invalid| Unfit(invalid.reason))?,
            partition: PartitionId(wire.partition),
            last_operation: instant(&wire.last_operation)?,
            state: payload(wire.state),
            is_state_apart: false,
            queue: Vec::new(),
        })
    }
}

/// `POST entities/{name}/{key}/signal`.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignalBody {
    pub(crate) operation: String,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub(crate) input: Json,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) at: Option<String>,
}

/// A whole number. In JSON `5.0` is one too, and some clients write it so.
fn whole<'de, D: Deserializer<'de>, N: TryFrom<u64>>(deserializer: D) -> Result<N, D::Error> {
    number(&serde_json::Number::deserialize(deserializer)?)
}

/// The same, or nothing.
fn whole_if<'de, D: Deserializer<'de>, N: TryFrom<u64>>(deserializer: D) -> Result<Option<N>, D::Error> {
    let given = Option::<serde_json::Number>::deserialize(deserializer)?;
    given.map(|given| number(&given)).transpose()
}

fn number<N: TryFrom<u64>, E: serde::de::Error>(given: &serde_json::Number) -> Result<N, E> {
    // Beyond 2^53 a number with a point is not exact.
    let exact = |number: &f64| number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(number);
    let number = given
        .as_u64()
        .or_else(|| given.as_f64().filter(exact).map(|number| number as u64));
    let number = number.and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| {
        let bits = 8 * std::mem::size_of::<N>();
        E::custom(format!("{given} is no whole number of {bits} bits"))
    })
}

/// So many per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateWire {
    /// So many
    #[serde(deserialize_with = "whole")]
    #[schemars(range(min = 1))]
    count: u32,
    /// in so many milliseconds.
    #[serde(deserialize_with = "whole")]
    #[schemars(range(min = 1))]
    period_ms: u64,
}

impl RateWire {
    pub(super) fn is_never(self) -> bool {
        self.count == 0 || self.period_ms == 0
    }

    /// From one to the next.
    pub(super) fn interval(self) -> Duration {
        Duration::from_millis(self.period_ms) / self.count.max(1)
    }

    pub(super) fn in_a_second(self) -> usize {
        let count = u64::from(self.count).saturating_mul(1000) / self.period_ms.max(1);
        usize::try_from(count).unwrap_or(usize::MAX)
    }
}

impl From<(u32, Duration)> for RateWire {
    fn from((count, period): (u32, Duration)) -> Self {
        Self {
            count,
            period_ms: u64::try_from(period.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl From<RateWire> for (u32, Duration) {
    fn from(wire: RateWire) -> Self {
        (wire.count, Duration::from_millis(wire.period_ms))
    }
}

/// `PUT limiters/{name}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("anyOf" = schemas::one_is_given(["rate", "concurrency"])))]
pub(crate) struct LimiterBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<RateWire>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "whole_if")]
    burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "whole_if")]
    #[schemars(range(min = 1))]
    concurrency: Option<u32>,
}

impl From<LimiterDefinition> for LimiterBody {
    fn from(definition: LimiterDefinition) -> Self {
        Self {
            rate: definition.rate.map(RateWire::from),
            burst: definition.burst,
            concurrency: definition.concurrency,
        }
    }
}

impl From<LimiterBody> for LimiterDefinition {
    fn from(body: LimiterBody) -> Self {
        Self {
            rate: body.rate.map(Into::into),
            burst: body.burst,
            concurrency: body.concurrency,
        }
    }
}

/// `PATCH limiters/{name}`: what is not there stays, what is `null` limits no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimiterPatch {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schemars(with = "Option<RateWire>")]
    rate: Option<Option<RateWire>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given_whole")]
    #[schemars(with = "Option<u32>")]
    burst: Option<Option<u32>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given_whole")]
    #[schemars(with = "Option<u32>", range(min = 1))]
    concurrency: Option<Option<u32>>,
}

/// Absent and `null` are two things.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn given_whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    whole_if(deserializer).map(Some)
}

impl From<LimiterChange> for LimiterPatch {
    fn from(change: LimiterChange) -> Self {
        Self {
            rate: change.rate.map(|rate| rate.map(RateWire::from)),
            burst: change.burst,
            concurrency: change.concurrency,
        }
    }
}

impl From<LimiterPatch> for LimiterChange {
    fn from(patch: LimiterPatch) -> Self {
        Self {
            rate: patch.rate.map(|rate| rate.map(Into::into)),
            burst: patch.burst,
            concurrency: patch.concurrency,
        }
    }
}

/// `POST entities/{name}/{key}/unlock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnlockBody {
    /// The instance that has the lock, as `lockHolder` of the entity tells.
    #[schemars(extend("pattern" = schemas::INSTANCE_ID, "minLength" = 1, "maxLength" = ID_CHARS_MAX))]
    pub(super) holder: String,
    /// Take it from one that lives too, which goes on as if it had the lock.
    #[serde(default)]
    pub(super) force: bool,
}

impl UnlockBody {
    pub(crate) fn new(holder: &InstanceId, living: LivingHolder) -> Self {
        Self {
            holder: holder.to_string(),
            force: living == LivingHolder::Loses,
        }
    }
}

/// A bucket.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LimiterWire {
    name: String,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<RateWire>,
    burst: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    tokens: f64,
    running: u32,
    waiting: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    blocked_until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    next_grant: Option<String>,
    #[serde(default)]
    waiters: Vec<LimiterWaiterWire>,
}

/// One that waits for a limiter.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct LimiterWaiterWire {
    instance_id: String,
    activity: String,
}

impl From<&LimiterStatus> for LimiterWire {
    fn from(status: &LimiterStatus) -> Self {
        Self {
            name: status.name.to_string(),
            key: status.key.to_string(),
            rate: status.rate.map(RateWire::from),
            burst: status.burst,
            concurrency: status.concurrency,
            tokens: status.tokens,
            running: status.running,
            waiting: status.waiting,
            blocked_until: status.blocked_until.map(time::exact),
            next_grant: status.next_grant.map(time::exact),
            waiters: (status.waiters.iter())
                .map(|(instance, activity)| LimiterWaiterWire {
                    instance_id: instance.to_string(),
                    activity: activity.to_string(),
                })
                .collect(),
        }
    }
}

impl TryFrom<LimiterWire> for LimiterStatus {
    type Error = Unfit;

    fn try_from(wire: LimiterWire) -> Result<Self, Unfit> {
        Ok(Self {
            name: Arc::from(wire.name),
            key: Arc::from(wire.key),
            rate: wire.rate.map(Into::into),
            burst: wire.burst,
            concurrency: wire.concurrency,
            tokens: wire.tokens,
            running: wire.running,
            waiting: wire.waiting,
            blocked_until: instant_if(wire.blocked_until.as_ref())?,
            next_grant: instant_if(wire.next_grant.as_ref())?,
            waiters: (wire.waiters.into_iter())
                .map(|waiter| (InstanceId::trusted(waiter.instance_id), waiter.activity.into()))
                .collect(),
        })
    }
}

/// `GET hub`: what this host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubInfo {
    /// The hub's name.
    pub name: String,
    /// The server's version.
    pub version: String,
    /// Names of the orchestrators registered here.
    pub orchestrators: Vec<String>,
    /// Names of the activities.
    pub activities: Vec<String>,
    /// Names of the entities.
    pub entities: Vec<String>,
    /// Whether it refuses whatever would change the hub.
    #[serde(default)]
    pub read_only: bool,
    /// What the caller may do.
    #[serde(default)]
    pub scopes: Vec<Scope>,
}

/// A worker elsewhere that is connected, and how many items of each kind it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerWire {
    /// What it calls itself.
    pub name: String,
    /// Turns of orchestrations.
    pub turns: usize,
    /// Attempts of activities.
    pub activities: usize,
    /// Operations of entities.
    pub operations: usize,
    /// What it said it offers; without it, it takes whatever there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offers: Option<OffersWire>,
    /// It gets no more work, and finishes what it has.
    #[serde(default)]
    pub draining: bool,
}

/// Names of what a worker offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OffersWire {
    /// Orchestrators.
    pub orchestrators: Vec<String>,
    /// Activities.
    pub activities: Vec<String>,
    /// Entities.
    pub entities: Vec<String>,
}

impl From<WorkerOffers> for OffersWire {
    fn from(offers: WorkerOffers) -> Self {
        Self {
            orchestrators: offers.orchestrators,
            activities: offers.activities,
            entities: offers.entities,
        }
    }
}

impl From<WorkerStatus> for WorkerWire {
    fn from(status: WorkerStatus) -> Self {
        Self {
            name: status.name,
            turns: status.turns,
            activities: status.activities,
            operations: status.operations,
            draining: status.is_draining,
            offers: status.offers.map(OffersWire::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::samples::{at, row};

    fn there_and_back<W: Serialize + for<'de> Deserialize<'de>>(wire: &W) -> W {
        serde_json::from_str(&serde_json::to_string(wire).unwrap()).unwrap()
    }

    #[test]
    fn an_instance_comes_back_as_it_went() {
        let mut full = row(Status::Failed);
        full.created = at("2026-03-01T09:30:00.123456Z");
        full.completed = Some(at("2026-03-01T09:31:00Z"));
        full.scheduled_start = Some(at("2026-03-01T09:29:00Z"));
        full.parent = Some(Parent {
            instance: InstanceId::trusted("p"),
            execution: ExecutionKey(u64::MAX),
            task: TaskId(2),
        });
        full.tags = vec![("a".into(), "1".into()), ("b".into(), String::new())];
        full.input = Some("null".into());
        full.custom_status = None;
        full.failure = Some(Failure {
            cause: Some(Box::new(Failure::new("C", "c"))),
            ..Failure::new("A", "a")
        });
        full.parked = Some(Fault {
            divergence: Some(Box::new(Divergence {
                recorded: Some("an activity".into()),
                asked: None,
                location: Some("src/main.rs:7:9".into()),
            })),
            ..Fault::new(FaultKind::Surplus, "no code")
        });
        let status = InstanceStatus {
            row: full,
            waits_for: vec!["a worker".into()],
            trace: TraceContext::parse(
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                Some("a=1"),
            ),
            unconsumed: UnconsumedEvents {
                count: 21,
                names: vec!["go".into()],
            },
        };
        let back = InstanceStatus::try_from(there_and_back(&InstanceWire::from(&status))).unwrap();
        assert_eq!(back, status);
    }

    #[test]
    fn golden_instance() {
        let mut row = row(Status::Running);
        row.version = None;
        row.tags = vec![("team".into(), "blue".into())];
        expect_test::expect![[r#"{"name":"HelloCities","id":"I","status":"Running","executionId":"0000000000000000000000000000feed","executionKey":7,"partition":3,"created":"2026-03-01T09:30:00.9Z","updated":"2026-03-01T09:30:02.1Z","tags":{"team":"blue"},"input":[1.10],"customStatus":{"step":3},"output":["Hello Tokyo!"],"events":9}"#]]
        .assert_eq(&serde_json::to_string(&InstanceWire::from(&row)).unwrap());
    }

    #[test]
    fn starts_purges_and_limiters_come_back_as_they_went() {
        let options = StartOptions {
            name: "Hello".into(),
            version: Some("2".into()),
            id: Some(InstanceId::trusted("i")),
            input: Some("null".into()),
            scheduled_start: Some(at("2026-03-01T09:30:00.5Z")),
            tags: vec![("a".into(), "1".into())],
            reuse: ReusePolicy::TerminateAndStart,
            replaceable: None,
            idempotency_key: Some("k".into()),
            trace: None,
            is_told_elsewhere: false,
            webhook: Some(WebhookSubscription {
                url: "https://example.com/hook".into(),
                statuses: vec![Status::Failed],
                secret: Some("audit".into()),
            }),
        };
        let body = there_and_back(&StartBody::from(options.clone()));
        let id = body.id().map(InstanceId::trusted);
        assert_eq!(
            format!("{:?}", body.into_options("Hello".into(), id).unwrap()),
            format!("{options:?}")
        );

        let purge = PurgeQuery {
            created_from: Some(at("2026-03-01T00:00:00Z")),
            created_to: None,
            statuses: vec![Status::Failed],
        };
        assert_eq!(
            PurgeQuery::try_from(there_and_back(&PurgeBody::from(purge.clone()))).unwrap(),
            purge
        );

        let limiter = LimiterStatus {
            name: "github".into(),
            key: "".into(),
            rate: Some((5000, Duration::from_secs(3600))),
            burst: 100,
            concurrency: None,
            tokens: 12.5,
            running: 1,
            waiting: 2,
            blocked_until: Some(at("2026-03-01T00:00:00Z")),
            next_grant: None,
            waiters: vec![(InstanceId::trusted("order-9"), "pick".into())],
        };
        assert_eq!(
            LimiterStatus::try_from(there_and_back(&LimiterWire::from(&limiter))).unwrap(),
            limiter
        );
        let definition = LimiterDefinition {
            rate: limiter.rate,
            burst: Some(1),
            concurrency: Some(2),
        };
        assert_eq!(
            LimiterDefinition::from(there_and_back(&LimiterBody::from(definition.clone()))),
            definition
        );
    }

    /// A fuzzer wrote `468.0` where the schema says that whole numbers are taken, and was refused.
    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        for (number, wanted) in [
            ("468", Some(468)),
            ("468.0", Some(468)),
            ("4.68e2", Some(468)),
            ("4294967295.0", Some(u32::MAX)),
            ("4294967296", None),
            ("468.5", None),
            ("-1", None),
            ("1e300", None),
            ("\"468\"", None),
        ] {
            let body = format!(r#"{{"burst":{number},"rate":{{"count":{number},"periodMs":{number}}}}}"#);
            let read = crate::http::body::ours::<LimiterBody>(body.as_bytes());
            let read = read.ok().map(LimiterDefinition::from);
            assert_eq!(read.as_ref().and_then(|read| read.burst), wanted, "{number}");
            let period = wanted.map(|number| Duration::from_millis(number.into()));
            assert_eq!(read.and_then(|read| read.rate), wanted.zip(period), "{number}");
        }
    }

    #[test]
    fn our_own_bodies_refuse_what_they_do_not_know() {
        for body in [
            r#"{"idd":"x"}"#,
            r#"{"id":"x","id":"y"}"#,
            r#"{"reuse":"maybe"}"#,
            r#"{"tags":{"a":1}}"#,
            "[]",
        ] {
            assert!(
                crate::http::body::ours::<StartBody>(body.as_bytes()).is_err(),
                "{body}"
            );
        }
        let body: StartBody = crate::http::body::ours(br#"{"scheduledStart":"2026-03-01"}"#).unwrap();
        assert!(
            body.into_options("x".into(), None)
                .unwrap_err()
                .0
                .contains("zone_required")
        );
    }
}
