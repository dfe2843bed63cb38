//! One command to all instances that a filter finds, as a job of the host: how it is asked for and told
//! of. How it is done is in `jobs.rs`.

use axum::http::StatusCode;
use axum::response::Response;
use dalsegno_core::Timestamp;
use dalsegno_core::query::{InstanceQuery, LargeValues, Status};
use serde::{Deserialize, Serialize};

use super::jobs::{Job, Order};
use super::wire::{Json, RateWire, Unfit, instant_if, present, status};
use crate::http::auth::forbidden;
use crate::http::body::{self, json};
use crate::http::problem::{Place, Problem};
use crate::http::query::{check_span, invalid};
use crate::http::request::{Call, instance_id};
use crate::http::route::{Also, When};
use crate::http::time;
use crate::http::wire::to_json;
use crate::keys::Scope;
use crate::openapi::schemas;

/// The member of a bulk operation that says what is done.
const VERB: &str = "verb";

/// The second scope that each verb needs.
pub(super) const VERB_SCOPES: &[Also] = &[
    Also::member(VERB, "terminate", Scope::Control),
    Also::member(VERB, "cancel", Scope::Control),
    Also::member(VERB, "suspend", Scope::Control),
    Also::member(VERB, "resume", Scope::Control),
    Also::member(VERB, "rewind", Scope::Control),
    Also::member(VERB, "restart", Scope::Control),
    Also::member(VERB, "purge", Scope::Purge),
    Also::member(VERB, "raise", Scope::Signal),
];

/// What is done to each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationVerb {
    /// End it.
    Terminate,
    /// Ask it to end by its own code.
    Cancel,
    /// Make it pause.
    Suspend,
    /// Let it go on.
    Resume,
    /// Set a failed or parked one going again.
    Rewind,
    /// Start a finished one again.
    Restart,
    /// Delete a finished one.
    Purge,
    /// Raise an event for it.
    Raise,
}

use OperationVerb as Verb;

impl Verb {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Cancel => "cancel",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Rewind => "rewind",
            Self::Restart => "restart",
            Self::Purge => "purge",
            Self::Raise => "raise",
        }
    }

    /// The statuses it is for; others are not looked at. Rewind is also for those that are parked,
    /// which are Running.
    fn statuses(self) -> &'static [Status] {
        const UNFINISHED: &[Status] = &[Status::Pending, Status::Running, Status::Suspended];
        match self {
            Self::Terminate | Self::Cancel | Self::Raise => UNFINISHED,
            Self::Suspend => &[Status::Pending, Status::Running],
            Self::Resume => &[Status::Suspended],
            Self::Rewind => &[Status::Failed, Status::Running],
            Self::Restart | Self::Purge => &[
                Status::Completed,
                Status::Failed,
                Status::Terminated,
                Status::Canceled,
            ],
        }
    }
}

/// `POST operations`.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OperationBody {
    pub(crate) verb: Verb,
    pub(crate) r#where: OperationFilter,
    #[serde(default)]
    pub(crate) dry_run: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The name of the event to raise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub(crate) input: Json,
    /// Children too: terminate, purge.
    #[serde(default)]
    pub(crate) recursive: bool,
    /// No more than so many per time; as fast as it goes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<RateWire>,
}

/// Filters as of the list; `all` says that none is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OperationFilter {
    /// Any of these statuses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = schemas::status()))]
    pub statuses: Vec<String>,
    /// This orchestrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Ids that start so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// With all of these tags.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub tags: std::collections::BTreeMap<String, String>,
    /// Children of this instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Whose code waits for an event of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Failed, or not finished, and this activity is what failed last or waits for its next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_activity: Option<String>,
    /// Created at or after.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub created_from: Option<String>,
    /// Created at or before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub created_to: Option<String>,
    /// Every instance.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

impl OperationFilter {
    fn filters_nothing(&self) -> bool {
        self.statuses.is_empty()
            && self.name.is_none()
            && self.prefix.as_ref().is_none_or(String::is_empty)
            && self.tags.is_empty()
            && self.parent.is_none()
            && self.waiting_for.is_none()
            && self.failed_activity.is_none()
            && self.created_from.is_none()
            && self.created_to.is_none()
    }

    /// Those that a verb is for, among those that are asked for and were there at a time.
    pub(super) fn query(&self, verb: Verb, now: Timestamp) -> Result<InstanceQuery, Problem> {
        let refuse = |unfit: Unfit| Problem::bad_request("invalid_body", unfit.0).at(Place::Body);
        if self.filters_nothing() && !self.all {
            return Err(Problem::bad_request(
                "missing_parameter",
                "where names no filter: say what is meant, or \"all\": true, so that nobody commands everything by omission",
            )
            .param("where")
            .at(Place::Body));
        }
        let asked: Result<Vec<Status>, Unfit> = self.statuses.iter().map(|word| status(word)).collect();
        let asked = asked.map_err(refuse)?;
        let statuses: Vec<Status> = verb
            .statuses()
            .iter()
            .copied()
            .filter(|status| asked.is_empty() || asked.contains(status))
            .collect();
        if statuses.is_empty() {
            let fitting: Vec<&str> = verb.statuses().iter().map(|status| status.as_str()).collect();
            return Err(invalid("statuses", &self.statuses.join(","), &fitting.join(", ")).at(Place::Body));
        }
        let parent = self.parent.as_deref().map(instance_id).transpose();
        let from = instant_if(self.created_from.as_ref()).map_err(refuse)?;
        let to = instant_if(self.created_to.as_ref()).map_err(refuse)?;
        check_span(("createdFrom", from), ("createdTo", to)).map_err(|problem| problem.at(Place::Body))?;
        Ok(InstanceQuery {
            statuses,
            created_from: from,
            created_to: Some(to.map_or(now, |to| to.min(now))),
            id_prefix: self.prefix.clone().filter(|prefix| !prefix.is_empty()),
            name: self.name.clone(),
            tags: self.tags.clone().into_iter().collect(),
            parent: parent.map_err(|problem| problem.param("parent").at(Place::Body))?,
            waiting_for: self.waiting_for.clone(),
            failed_activity: self.failed_activity.clone(),
            limit: 0,
            after: None,
            large: LargeValues::LeaveOut,
        })
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// It goes on.
    Running,
    /// All that were found had their turn.
    Done,
    /// Somebody ended it.
    Canceled,
    /// The list could not be read.
    Failed,
}

use OperationState as Progress;

impl Progress {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
        }
    }
}

/// A job, as it is told.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationWire {
    /// Its id.
    pub id: String,
    /// What is done to each.
    pub verb: Verb,
    /// To which.
    pub r#where: OperationFilter,
    /// It only looks.
    pub dry_run: bool,
    /// No more than so many per time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateWire>,
    /// How far it is.
    pub state: Progress,
    /// Found by the filter so far.
    pub matched: u64,
    /// Took the command.
    pub applied: u64,
    /// Were in another state when their turn came.
    pub skipped: u64,
    /// Refused it, or were refused.
    pub failed: u64,
    /// Some of the ids that were found.
    pub examples: Vec<String>,
    /// Some of the refusals.
    pub refusals: Vec<RefusalWire>,
    /// When it began.
    #[schemars(extend("format" = "date-time"))]
    pub started: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub ended: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Why one did not take the command.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RefusalWire {
    /// The instance.
    pub id: String,
    /// The code of the refusal.
    pub code: String,
    /// In words.
    pub detail: String,
}

pub(super) async fn begin(mut call: Call) -> Result<Response, Problem> {
    // It tells ids of what it finds.
    call.query()?;
    let body: OperationBody = body::ours(&call.body().await?)?;
    if !body.dry_run {
        permit(&call, body.verb)?;
    }
    let now = call.hub().now();
    let query = body.r#where.query(body.verb, now)?;
    check(&call, &body)?;
    let told = OperationWire {
        id: new_id()?,
        verb: body.verb,
        r#where: body.r#where.clone(),
        dry_run: body.dry_run,
        rate: body.rate,
        state: Progress::Running,
        matched: 0,
        applied: 0,
        skipped: 0,
        failed: 0,
        examples: Vec::new(),
        refusals: Vec::new(),
        started: time::exact(now),
        ended: None,
        problem: None,
    };
    let order = Order::new(&told.id, &body, call.trace());
    call.note.subject(&told.id);
    call.note
        .filter(&format!("{} {}", body.verb.as_str(), to_json(&body.r#where)));
    let answer = json(StatusCode::ACCEPTED, to_json(&told));
    let job = Job::new(call.hub(), told, body, query);
    call.state.operations.begin(&call.state, job, order).await?;
    Ok(answer)
}

/// Refuses a caller without the scope of a verb, and everybody a verb that the route names none for.
fn permit(call: &Call, verb: Verb) -> Result<(), Problem> {
    let when = When::Member(VERB, verb.as_str());
    match call.also.iter().any(|also| also.when == when) {
        true => call.permit_when(when),
        false => Err(forbidden()),
    }
}

/// What is said besides the filter.
fn check(call: &Call, body: &OperationBody) -> Result<(), Problem> {
    match (body.verb, &body.event) {
        (Verb::Raise, None) => {
            return Err(Problem::bad_request("missing_parameter", "event is missing")
                .param("event")
                .at(Place::Body));
        }
        (Verb::Raise, Some(name)) if name.is_empty() => {
            return Err(invalid("event", name, "the name of an event").at(Place::Body));
        }
        (Verb::Raise, Some(name)) => call.check_event_name(name)?,
        (_, Some(name)) => {
            return Err(invalid("event", name, "nothing: only raise has an event").at(Place::Body));
        }
        (_, None) => {}
    }
    if body.rate.is_some_and(|rate| rate.is_never()) {
        return Err(Problem::bad_request(
            "out_of_range",
            "a rate of none is no rate: leave it out, or give more than 0",
        )
        .param("rate")
        .at(Place::Body));
    }
    let most = call.hub().limits().reason_bytes_max;
    if body.reason.as_ref().is_some_and(|reason| reason.len() > most) {
        return Err(Problem::bad_request(
            "reason_too_long",
            format!("the reason is longer than reason_bytes_max, which is {most}: shorten it"),
        )
        .param("reason")
        .at(Place::Body));
    }
    Ok(())
}

/// Not to be guessed, and not to be met again after a restart.
fn new_id() -> Result<String, Problem> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            format!("no random numbers: {error}"),
        )
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn list(call: &Call) -> Result<Response, Problem> {
    call.query()?;
    Ok(json(
        StatusCode::OK,
        to_json(&call.state.operations.all(call.hub())),
    ))
}

pub(super) fn get(call: &Call, id: &str) -> Result<Response, Problem> {
    call.query()?;
    let job = call.state.operations.find(call.hub(), id)?;
    Ok(json(StatusCode::OK, to_json(&job.shown())))
}

/// Ends a job after the commands that are under way.
pub(super) async fn cancel(call: Call, id: String) -> Result<Response, Problem> {
    call.query()?;
    let job = call.state.operations.find(call.hub(), &id)?;
    permit(&call, job.verb())?;
    job.cancel().await?;
    Ok(json(StatusCode::ACCEPTED, to_json(&job.shown())))
}
