//! Webhooks: who is told of the status of instances, and how the telling is carried out.
//!
//! What has to be told is a task like an activity's, written in the commit that changes the status;
//! it is dispatched, tried again and found after a restart as any activity is. Only its end is
//! another: nobody waits for it. This module knows no HTTP; that is [`Webhooks::deliver`]'s.

use std::fmt;
use std::sync::Arc;

use dalsegno_core::orchestration::json_string;
use dalsegno_core::query::Status;
use dalsegno_core::retry::RetryPolicy;
use dalsegno_core::store::InstanceRow;
use dalsegno_core::{EntityId, InstanceId, Payload, TaskId, Timestamp};
use futures::future::BoxFuture;
use hashbrown::HashMap;

use crate::executor::{
    ActivityRequest, ActivitySettings, AttemptOutcome, Execution, ExecutionInfo, Executor, OperationRequest,
    OperationRun, OperationsEnded, TurnAddress,
};
use crate::explain::AttemptElsewhere;
use crate::request::WorkerStatus;
use crate::task::TaskRecord;

/// The name under which deliveries are tasks.
pub const DELIVERY: &str = "dalsegno.webhook";

/// The name of those that were given up: kept to be looked at, never run.
pub const GIVEN_UP: &str = "dalsegno.webhook.given-up";

/// Deliveries that wait in one partition; more are given up at once.
pub const PENDING_MAX: usize = 10_000;

/// Deliveries that were given up and are kept in one partition; the oldest go.
pub const GIVEN_UP_KEPT: usize = 100;

/// What ends the target within a delivery, and begins the rest. No JSON string can hold it.
const AFTER_TARGET: &str = ",\"at\":";

/// Who is told of one instance, as its start says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookSubscription {
    /// Where.
    pub url: String,
    /// Of which statuses; empty means the final ones.
    pub statuses: Vec<Status>,
    /// The webhook of the configuration whose secret signs; `None` takes the hub's own.
    pub secret: Option<String>,
}

/// Who is told of all instances of a hub, as its configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRule {
    /// Its name; the URL is the deliverer's.
    pub name: Arc<str>,
    /// Of which statuses; empty means the final ones.
    pub statuses: Vec<Status>,
    /// Only of orchestrators whose name begins so.
    pub name_prefix: String,
}

/// Tells others what became of instances.
pub trait Webhooks: Send + Sync + fmt::Debug + 'static {
    /// Who is told of all instances.
    fn rules(&self) -> &[WebhookRule];

    /// May an instance be told of there?
    ///
    /// # Errors
    /// Why not, and what to do.
    fn check(&self, subscription: &WebhookSubscription) -> Result<(), String>;

    /// How a delivery is run and tried again.
    fn settings(&self) -> ActivitySettings;

    /// One attempt of a delivery, whose input is made by this module.
    fn deliver(&self, request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome>;
}

/// A delivery as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryStatus {
    /// The id under which the receiver gets it, the same in every attempt.
    pub id: String,
    /// The instance it is about.
    pub instance: InstanceId,
    /// What it says: receiver, status and time, as JSON.
    pub content: Payload,
    /// When the status was reached.
    pub at: Timestamp,
    /// Attempts that failed.
    pub failed_attempts: u32,
    /// When the next begins, if one waits.
    pub next_attempt: Option<Timestamp>,
    /// Nobody tries any more.
    pub is_given_up: bool,
    /// Why the last attempt failed.
    pub last_failure: Option<String>,
}

impl DeliveryStatus {
    pub(crate) fn of(record: &TaskRecord) -> Self {
        let failure = record.failures.last();
        Self {
            id: record.execution_id.to_string(),
            instance: record.instance.clone(),
            content: record.input.clone().unwrap_or_else(|| Payload::from("{}")),
            at: record.scheduled,
            failed_attempts: record.failed_attempts,
            next_attempt: record.due,
            is_given_up: &*record.name == GIVEN_UP,
            last_failure: failure.map(|failure| format!("{}: {}", failure.kind, failure.message)),
        }
    }
}

/// Is one told of this status who has asked for those?
pub(crate) fn is_wanted(statuses: &[Status], status: Status) -> bool {
    match statuses.is_empty() {
        true => status.is_final(),
        false => statuses.contains(&status),
    }
}

/// The receiver of a rule.
pub(crate) fn target_of_rule(rule: &WebhookRule) -> String {
    format!("\"hook\":{}", json_string(&rule.name).as_str())
}

/// The receiver of a subscription.
pub(crate) fn target_of_subscription(subscription: &WebhookSubscription) -> String {
    let mut target = format!("\"url\":{}", json_string(&subscription.url).as_str());
    if let Some(secret) = &subscription.secret {
        target += &format!(",\"secret\":{}", json_string(secret).as_str());
    }
    target
}

/// What the deliverer is given: receiver, then what happened.
pub(crate) fn content(
    target: &str,
    row: &InstanceRow,
    before: Option<Status>,
    status: Status,
    at: Timestamp,
) -> Payload {
    let text = |text: &str| json_string(text).as_str().to_owned();
    let before = before.map_or("null".into(), |before| text(before.as_str()));
    Payload::from(format!(
        "{{{target}{AFTER_TARGET}{},\"instance\":{},\"execution\":\"{}\",\"name\":{},\"status\":{},\"before\":{before}}}",
        at.as_micros(),
        text(row.id.as_str()),
        row.execution_id,
        text(&row.name),
        text(status.as_str()),
    ))
}

/// The receiver within a delivery: those for one receiver about one instance go one after the other.
pub(crate) fn target_of(record: &TaskRecord) -> &str {
    let content = record.input.as_ref().map_or("", Payload::as_str);
    content.split(AFTER_TARGET).next().unwrap_or_default()
}

/// User code, and deliveries beside it.
#[derive(Debug)]
pub(crate) struct WithWebhooks {
    pub(crate) code: Arc<dyn Executor>,
    pub(crate) webhooks: Arc<dyn Webhooks>,
}

impl Executor for WithWebhooks {
    fn execution(&self, info: &ExecutionInfo) -> Option<Box<dyn Execution>> {
        self.code.execution(info)
    }

    fn default_version(&self, orchestrator: &str) -> Option<Arc<str>> {
        self.code.default_version(orchestrator)
    }

    fn orchestrators(&self) -> Vec<Arc<str>> {
        self.code.orchestrators()
    }

    fn orchestrator_named(&self, name: &str) -> Option<Arc<str>> {
        self.code.orchestrator_named(name)
    }

    fn is_remote(&self, orchestrator: &str, version: Option<&str>) -> bool {
        self.code.is_remote(orchestrator, version)
    }

    fn is_remote_entity(&self, entity: &str) -> bool {
        self.code.is_remote_entity(entity)
    }

    fn drain_worker(&self, name: &str) -> usize {
        self.code.drain_worker(name)
    }

    fn workers(&self) -> Vec<WorkerStatus> {
        self.code.workers()
    }

    fn explain_activity(&self, name: &str) -> Option<String> {
        self.code.explain_activity(name)
    }

    fn attempts_elsewhere(&self, instance: &InstanceId) -> HashMap<TaskId, AttemptElsewhere> {
        self.code.attempts_elsewhere(instance)
    }

    fn withdraw(&self, turn: &TurnAddress) {
        self.code.withdraw(turn);
    }

    fn activities(&self) -> Vec<Arc<str>> {
        self.code.activities()
    }

    fn entities(&self) -> Vec<Arc<str>> {
        self.code.entities()
    }

    fn activity_settings(&self, name: &str) -> Option<ActivitySettings> {
        match name == DELIVERY {
            true => Some(self.webhooks.settings()),
            false => self.code.activity_settings(name),
        }
    }

    fn limiter_key(&self, activity: &str, input: Option<&Payload>) -> Arc<str> {
        self.code.limiter_key(activity, input)
    }

    fn run_activity(&self, request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome> {
        match &*request.name == DELIVERY {
            true => self.webhooks.deliver(request),
            false => self.code.run_activity(request),
        }
    }

    fn run_operation(
        &self,
        entity: &EntityId,
        state: Option<&Payload>,
        request: OperationRequest,
        now: Timestamp,
    ) -> Option<OperationRun> {
        self.code.run_operation(entity, state, request, now)
    }

    fn run_operations(
        &self,
        entity: &EntityId,
        state: Option<&Payload>,
        requests: Vec<OperationRequest>,
        now: Timestamp,
    ) -> Option<BoxFuture<'static, OperationsEnded>> {
        self.code.run_operations(entity, state, requests, now)
    }
}

/// How long a delivery is tried when nothing else is said.
pub const RETRY_DEFAULT: RetryPolicy = RetryPolicy::exponential(u32::MAX, std::time::Duration::from_secs(5))
    .jitter(0.2)
    .deadline(std::time::Duration::from_secs(24 * 3600));
