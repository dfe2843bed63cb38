//! What clients ask of a hub, and what they get.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dalsegno_core::event::ParentClosePolicy;
use dalsegno_core::limiter::LimiterRule;
use dalsegno_core::message::ReusePolicy;
use dalsegno_core::query::Status;
use dalsegno_core::store::{EntityRow, InstanceRow, PayloadDigest};
use dalsegno_core::{Event, InstanceId, Payload, Timestamp, TraceContext};
use futures::future::BoxFuture;

use crate::record;
pub use crate::task::UnconsumedEvents;
use crate::webhooks::WebhookSubscription;

/// A start by a client.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// The orchestrator's name as the caller wrote it; matched exactly, then in any case.
    pub name: String,
    /// The version; `None` takes the highest registered.
    pub version: Option<String>,
    /// The instance id; `None` makes 32 hexadecimal digits.
    pub id: Option<InstanceId>,
    /// The input.
    pub input: Option<Payload>,
    /// Not before this.
    pub scheduled_start: Option<Timestamp>,
    /// Names and values to find it by.
    pub tags: Vec<(String, String)>,
    /// When the id is in use.
    pub reuse: ReusePolicy,
    /// Narrows `reuse`: only an instance in one of these statuses is replaced, others are refused.
    pub replaceable: Option<Vec<Status>>,
    /// A repeat with the same key gets the first answer again; with other data it is refused.
    pub idempotency_key: Option<String>,
    /// The trace that it is part of. No part of what tells a repeat from other data.
    pub trace: Option<TraceContext>,
    /// Its caller tells of its creation as a span itself: the one that `trace` names.
    pub is_told_elsewhere: bool,
    /// Who is told of its statuses.
    pub webhook: Option<WebhookSubscription>,
}

/// What a start gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The instance.
    pub id: InstanceId,
    /// Whether it was there before ([`ReusePolicy::ReturnExisting`] or a repeated idempotency key).
    pub existing: Option<Status>,
}

/// An external event by a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaisedEvent {
    /// Its name; matched in any case.
    pub name: String,
    /// Its data.
    pub input: Option<Payload>,
    /// A repeat with the same key, name and data is answered as the first was and not delivered
    /// again; with others it is refused. The instance remembers the last `event_keys_max` keys,
    /// over restarts, continue-as-new and rewind.
    pub idempotency_key: Option<String>,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
}

impl RaisedEvent {
    /// An event without further options.
    pub fn new(name: impl Into<String>, input: Option<Payload>) -> Self {
        Self {
            name: name.into(),
            input,
            ..Self::default()
        }
    }
}

/// A signal of an entity by a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    /// The operation's name; matched in any case.
    pub operation: String,
    /// Its input.
    pub input: Option<Payload>,
    /// Not before this.
    pub at: Option<Timestamp>,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
}

impl Signal {
    /// A signal without further options.
    pub fn new(operation: impl Into<String>, input: Option<Payload>) -> Self {
        Self {
            operation: operation.into(),
            input,
            ..Self::default()
        }
    }
}

/// Refuses an idempotency key that could not travel in a header as it is.
///
/// # Errors
/// `Invalid`, with what a key looks like.
pub fn check_idempotency_key(key: Option<&str>) -> Answer<()> {
    let Some(key) = key else { return Ok(()) };
    let is_printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !key.is_empty() && is_printable && key.trim().len() == key.len() {
        return Ok(());
    }
    let detail = "an idempotency key is printable ASCII, not empty, without spaces at its ends: \
                  take another, such as a UUID";
    Err(RequestError::new(RequestErrorKind::Invalid, detail))
}

/// What becomes of a limiter's rule: what is `None` stays, what is `Some(None)` limits no more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimiterChange {
    /// So many per period.
    pub rate: Option<Option<(u32, Duration)>>,
    /// Tokens that may be saved up; without it one second's worth.
    pub burst: Option<Option<u32>>,
    /// So many at once.
    pub concurrency: Option<Option<u32>>,
}

impl LimiterChange {
    /// The rule after it. A rate that goes takes its burst along.
    pub fn apply(&self, rule: &LimiterRule) -> LimiterRule {
        let rate = self.rate.unwrap_or(rule.rate);
        let burst = self.burst.unwrap_or(rule.burst);
        LimiterRule {
            rate,
            burst: burst.filter(|_| rate.is_some()),
            concurrency: self.concurrency.unwrap_or(rule.concurrency),
        }
    }
}

/// What a rewind, suspend and so on came to.
pub type Answer<T> = Result<T, RequestError>;

/// Which finished instances to purge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PurgeQuery {
    /// Created at or after; required, so that nobody purges everything by omission.
    pub created_from: Option<Timestamp>,
    /// Created at or before; `None` is now.
    pub created_to: Option<Timestamp>,
    /// Any of these finished statuses; empty means all three.
    pub statuses: Vec<Status>,
}

/// What a purge by filter came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Instances that it deleted, children included.
    pub count: u64,
    /// It looked at every instance that matches. False when its time ended before.
    pub is_complete: bool,
}

/// Whether children go too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// This instance alone (children by their parent-close policy).
    #[default]
    Instance,
    /// With all its children.
    Recursive,
}

impl Scope {
    /// What that means for children that are terminated along.
    pub fn parent_close(self) -> ParentClosePolicy {
        match self {
            Self::Instance => ParentClosePolicy::Abandon,
            Self::Recursive => ParentClosePolicy::Terminate,
        }
    }
}

/// An instance as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceStatus {
    /// The row.
    pub row: InstanceRow,
    /// What holds it, in words for people; empty when it is final or simply at work.
    pub waits_for: Vec<String>,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
    /// Accepted events that its code was not given before the end.
    pub unconsumed: UnconsumedEvents,
}

impl InstanceStatus {
    /// A row, and what is known beside it.
    pub fn new(row: InstanceRow, waits_for: Vec<String>) -> Self {
        Self {
            trace: trace_of(&row),
            unconsumed: unconsumed_of(&row),
            row,
            waits_for,
        }
    }
}

/// The trace that an instance is part of.
pub fn trace_of(row: &InstanceRow) -> Option<TraceContext> {
    record::decode_extra(&row.extra).unwrap_or_default().trace
}

/// Accepted events that its code was not given before the end.
pub fn unconsumed_of(row: &InstanceRow) -> UnconsumedEvents {
    record::decode_extra(&row.extra).unwrap_or_default().unconsumed
}

/// The orchestration that holds an entity's lock.
pub fn lock_holder(row: &EntityRow) -> Option<InstanceId> {
    let (holder, _) = record::decode_holder(&row.queue).ok()?;
    holder.map(|holder| holder.instance)
}

/// What is done about a holder of a lock that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LivingHolder {
    /// It keeps the lock: the unlock is refused.
    #[default]
    Keeps,
    /// It loses the lock, and goes on as if it had it.
    Loses,
}

/// What stands before an entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntityQueue {
    /// How many wait or run.
    pub count: usize,
    /// The first of them, those that run before the others.
    pub first: Vec<EntityWaiter>,
}

/// One that stands before an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityWaiter {
    /// The operation; `None` for who wants the lock.
    pub operation: Option<Arc<str>>,
    /// The orchestration that is told the result; nobody is told that of a signal.
    pub caller: Option<InstanceId>,
    /// It is under way.
    pub is_running: bool,
}

/// Characters of a caller's text that a note keeps: a message may hold megabytes.
const NOTE_CHARS_MAX: usize = 300;

/// What an audit record says of a call beside its caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFacts {
    /// The instance, entity, hub or bulk operation that it is about.
    pub subject: Option<String>,
    /// The filter by which it selects many.
    pub filter: Option<String>,
    /// How many it changed.
    pub count: Option<u64>,
}

/// Carries the facts of a call from its handler to the endpoint that records it.
#[derive(Clone, Debug, Default)]
pub struct CallNote(Arc<Mutex<CallFacts>>);

impl CallNote {
    /// Notes the subject of the call. An empty text is none.
    pub fn subject(&self, subject: &str) {
        if !subject.is_empty() {
            self.change(|facts| facts.subject = Some(subject.chars().take(NOTE_CHARS_MAX).collect()));
        }
    }

    /// Notes the filter of the call.
    pub fn filter(&self, filter: &str) {
        self.change(|facts| facts.filter = Some(filter.chars().take(NOTE_CHARS_MAX).collect()));
    }

    /// Notes how many the call changed.
    pub fn count(&self, count: u64) {
        self.change(|facts| facts.count = Some(count));
    }

    /// Notes one of several subjects of the call, and counts it.
    pub fn add_subject(&self, subject: &str) {
        self.change(|facts| {
            let before = facts.subject.take();
            let text = before.map_or_else(|| subject.to_owned(), |before| format!("{before}, {subject}"));
            facts.subject = Some(text.chars().take(NOTE_CHARS_MAX).collect());
            facts.count = Some(facts.count.unwrap_or_default() + 1);
        });
    }

    /// What was noted.
    pub fn facts(&self) -> CallFacts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut CallFacts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The hub of a call that names none.
pub const DEFAULT_HUB: &str = "default";

/// Whether a call may create the hub that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewHubs {
    /// It may, if the host creates hubs on demand.
    Allowed,
    /// It may not: the host is read-only.
    Refused,
}

/// Records that a call created its hub; ready when the record is durable.
pub type RecordCreation = dyn Fn() -> BoxFuture<'static, ()> + Send + Sync;

/// The hub that a call names. The endpoint that admits a call resolves the name once and attaches it
/// to the call, so that the service acts on the very hub that was checked.
#[derive(Clone)]
pub struct CalledHub {
    name: Arc<str>,
    new_hubs: NewHubs,
    record_creation: Option<Arc<RecordCreation>>,
    offers: CallNote,
}

impl fmt::Debug for CalledHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CalledHub")
            .field("name", &self.name)
            .field("new_hubs", &self.new_hubs)
            .finish_non_exhaustive()
    }
}

impl CalledHub {
    /// The hub of this name.
    pub fn new(name: &str, new_hubs: NewHubs) -> Self {
        Self {
            name: name.into(),
            new_hubs,
            record_creation: None,
            offers: CallNote::default(),
        }
    }

    /// The same hub, with what records its creation.
    #[must_use]
    pub fn recorded_by(self, record: Arc<RecordCreation>) -> Self {
        Self {
            record_creation: Some(record),
            ..self
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the call may create it.
    pub fn new_hubs(&self) -> NewHubs {
        self.new_hubs
    }

    /// Records that the call created it. Whoever creates the hub awaits this, in a task that outlives
    /// the call: a caller that disconnects must not leave a hub behind that no record names.
    pub async fn record_created(&self) {
        if let Some(record) = &self.record_creation {
            record().await;
        }
    }

    /// Whether limiters that the call offers are taken: not on a read-only host.
    pub fn takes_offers(&self) -> bool {
        self.new_hubs == NewHubs::Allowed
    }

    /// Records that the call changes what a limiter allows, or which activities pass it.
    pub fn record_offer(&self, limiter: &str) {
        self.offers.add_subject(limiter);
    }

    /// The limiters that the call changed, if it changed any.
    pub fn offers(&self) -> Option<&CallNote> {
        Some(&self.offers).filter(|offers| offers.facts().count.is_some())
    }
}

/// A scope that some calls need besides that of their kind, depending on what they ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondScope {
    /// To end a running instance.
    Control,
    /// To delete an entity.
    Entity,
}

/// Which second scopes the caller of a call has. Without an endpoint that knows keys, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallScopes {
    /// Whether it has [`SecondScope::Control`].
    pub control: bool,
    /// Whether it has [`SecondScope::Entity`].
    pub entity: bool,
}

impl Default for CallScopes {
    fn default() -> Self {
        Self {
            control: true,
            entity: true,
        }
    }
}

impl CallScopes {
    /// Whether the caller has this one.
    pub fn has(self, scope: SecondScope) -> bool {
        match scope {
            SecondScope::Control => self.control,
            SecondScope::Entity => self.entity,
        }
    }
}

/// A worker elsewhere that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// What it calls itself.
    pub name: String,
    /// Turns that it has.
    pub turns: usize,
    /// Attempts of activities that it has.
    pub activities: usize,
    /// Operations of entities that it has.
    pub operations: usize,
    /// What it said it offers; `None` when it takes whatever there is.
    pub offers: Option<WorkerOffers>,
    /// It gets no more work, and finishes what it has.
    pub is_draining: bool,
}

/// Names of what a worker offers, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerOffers {
    /// Orchestrators.
    pub orchestrators: Vec<String>,
    /// Activities.
    pub activities: Vec<String>,
    /// Entities.
    pub entities: Vec<String>,
}

/// A limiter that the app of a worker defines, and the activities of that app that pass it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimiterOffer {
    /// Its name.
    pub name: Arc<str>,
    /// What it allows, where nobody else says it.
    pub rule: LimiterRule,
    /// Names of activities.
    pub activities: Vec<Arc<str>>,
}

/// A limiter bucket as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct LimiterStatus {
    /// Limiter name.
    pub name: Arc<str>,
    /// Bucket key; empty for the only one.
    pub key: Arc<str>,
    /// Tokens per `period`.
    pub rate: Option<(u32, Duration)>,
    /// Tokens that may be saved up.
    pub burst: u32,
    /// Most that run at once.
    pub concurrency: Option<u32>,
    /// Tokens there are now.
    pub tokens: f64,
    /// How many run now.
    pub running: u32,
    /// How many wait.
    pub waiting: usize,
    /// No grants before this, because a 429 said so.
    pub blocked_until: Option<Timestamp>,
    /// When the first of the waiting gets its turn, as things stand.
    pub next_grant: Option<Timestamp>,
    /// The first of those that wait: whose task, and which activity.
    pub waiters: Vec<(InstanceId, Arc<str>)>,
}

/// The code of a refusal because of damage in the store.
pub const HUB_DAMAGED: &str = "hub_damaged";

/// Why a request was refused. The text says what, where and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// What kind of refusal it is.
    pub kind: RequestErrorKind,
    /// The stable word for it: that of the kind, or a finer one of a host elsewhere.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// Whom it is about.
    pub id: Option<String>,
}

/// The kinds of refusal; the words are those of HTTP problems and CLI errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestErrorKind {
    /// No such instance, entity or limiter.
    NotFound,
    /// No such orchestrator among the registered.
    OrchestratorNotFound,
    /// No such entity name among the registered.
    EntityNotFound,
    /// The id is in use by an instance that lives.
    InstanceExists,
    /// The instance lives and has to be terminated first.
    InstanceRunning,
    /// The instance is finished; events and commands come too late.
    Finished,
    /// The command does not fit the state.
    WrongState,
    /// The idempotency key was used with other data.
    IdempotencyConflict,
    /// The idempotency key came with another event.
    EventIdReused,
    /// Something is larger or more than a limit allows.
    OverLimit,
    /// Too many wait already: try later.
    Busy,
    /// The hub's disk has too little room for new work.
    InsufficientStorage,
    /// An argument makes no sense.
    Invalid,
    /// The time given for a wait is over; the instance goes on.
    TimedOut,
    /// The hub is starting or going down.
    Unavailable,
    /// The key is missing, unknown, or not good for this; only from another process.
    Unauthorized,
    /// Nobody answers at the address; only from another process.
    Unreachable,
    /// Our fault, or the store's.
    Internal,
}

impl RequestErrorKind {
    /// The code of HTTP problems and CLI errors.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::OrchestratorNotFound => "orchestrator_not_found",
            Self::EntityNotFound => "entity_not_found",
            Self::InstanceExists => "instance_exists",
            Self::InstanceRunning => "instance_running",
            Self::Finished => "finished",
            Self::WrongState => "wrong_state",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::EventIdReused => "event_id_reused",
            Self::OverLimit => "over_limit",
            Self::Busy => "busy",
            Self::InsufficientStorage => "insufficient_storage",
            Self::Invalid => "invalid",
            Self::TimedOut => "timed_out",
            Self::Unavailable => "unavailable",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
            Self::Internal => "internal",
        }
    }

    /// The kind with a code, as read back by a remote client.
    pub fn from_code(code: &str) -> Option<Self> {
        [
            Self::NotFound,
            Self::OrchestratorNotFound,
            Self::EntityNotFound,
            Self::InstanceExists,
            Self::InstanceRunning,
            Self::Finished,
            Self::WrongState,
            Self::IdempotencyConflict,
            Self::EventIdReused,
            Self::OverLimit,
            Self::Busy,
            Self::InsufficientStorage,
            Self::Invalid,
            Self::TimedOut,
            Self::Unavailable,
            Self::Unauthorized,
            Self::Unreachable,
            Self::Internal,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
    }
}

impl RequestError {
    /// A refusal of a kind, with its text.
    pub fn new(kind: RequestErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            code: kind.code(),
            detail: detail.into(),
            id: None,
        }
    }

    /// What is stored is damaged: a finer code than that of its kind.
    pub(crate) fn damaged(detail: impl Into<String>) -> Self {
        Self {
            code: HUB_DAMAGED,
            ..Self::new(RequestErrorKind::Internal, detail)
        }
    }

    /// No instance has that id.
    pub(crate) fn not_found(id: &InstanceId) -> Self {
        let detail = format!("no instance {id} is here: look for it with list, or check the hub");
        Self::new(RequestErrorKind::NotFound, detail).about(id)
    }

    /// The same, about an id.
    #[must_use]
    pub fn about(mut self, id: impl fmt::Display) -> Self {
        self.id = Some(id.to_string());
        self
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for RequestError {}

/// A history without its large values.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// All events; those whose value is large come without it.
    pub events: Vec<Event>,
    /// Length and hash of each such value, by the place of its event.
    pub left_out: Vec<(usize, PayloadDigest)>,
}
