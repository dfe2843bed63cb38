//! One command to all instances that a filter finds, as a job of the host.
//!
//! A job walks the list page by page and goes on when its client has left. It lives in memory: an
//! end of the host ends it, and what it had done stays done. Only what existed when it began is
//! found, so a job that starts instances never meets its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use axum::response::Response;
use dalsegno_core::query::{InstanceQuery, LargeValues, Status};
use dalsegno_core::{InstanceId, Timestamp};
use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::NewId;
use dalsegno_engine::request::{Answer, RaisedEvent, RequestErrorKind, Scope as Family};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::wire::{Json, Unfit, instant_if, payload, present, status};
use crate::http::body::{self, json};
use crate::http::problem::{Place, Problem};
use crate::http::purge::purge;
use crate::http::query::invalid;
use crate::http::request::{Call, State, instance_id};
use crate::http::time;
use crate::http::wire::to_json;
use crate::keys::Scope;
use crate::openapi::schemas;

/// Jobs that run at once; one more is 429.
const RUNNING_MAX: usize = 4;
/// Jobs that are remembered; the oldest that has ended is forgotten.
const KEPT_MAX: usize = 100;
/// Instances that a job commands at once.
const AT_ONCE_MAX: usize = 32;
/// Rows that a job reads at once.
const PAGE_ROWS: usize = 500;
/// Ids that a job shows, and refusals.
const EXAMPLES_MAX: usize = 5;
const REFUSALS_MAX: usize = 20;

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

    fn scope(self) -> Scope {
        match self {
            Self::Purge => Scope::Purge,
            Self::Raise => Scope::Signal,
            _ => Scope::Control,
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
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
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
    fn query(&self, verb: Verb, now: Timestamp) -> Result<InstanceQuery, Problem> {
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
        let to = instant_if(self.created_to.as_ref()).map_err(refuse)?;
        Ok(InstanceQuery {
            statuses,
            created_from: instant_if(self.created_from.as_ref()).map_err(refuse)?,
            created_to: Some(to.map_or(now, |to| to.min(now))),
            id_prefix: self.prefix.clone().filter(|prefix| !prefix.is_empty()),
            name: self.name.clone(),
            tags: self.tags.clone().into_iter().collect(),
            parent: parent.map_err(|problem| problem.param("parent").at(Place::Body))?,
            waiting_for: self.waiting_for.clone(),
            failed_activity: self.failed_activity.clone(),
            limit: PAGE_ROWS,
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
    /// The list could not be read, or the host goes down.
    Failed,
}

use OperationState as Progress;

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

/// Commands to many instances that run in a host, and the last that ran.
#[derive(Debug, Default)]
pub struct Operations(Mutex<VecDeque<Arc<Job>>>);

#[derive(Debug)]
struct Job {
    told: Mutex<OperationWire>,
    is_canceled: std::sync::atomic::AtomicBool,
}

/// The command that each instance gets.
#[derive(Clone, Debug)]
struct Order {
    verb: Verb,
    reason: Option<String>,
    event: Option<RaisedEvent>,
    family: Family,
}

impl Operations {
    fn all(&self) -> Vec<OperationWire> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter().rev().map(|job| job.snapshot()).collect()
    }

    fn find(&self, id: &str) -> Result<Arc<Job>, Problem> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = jobs.iter().find(|job| job.snapshot().id == id);
        found.cloned().ok_or_else(|| {
            Problem::not_found().saying(format!(
                "there is no operation {id}: an end of the host forgets them"
            ))
        })
    }

    fn add(&self, told: OperationWire) -> Result<Arc<Job>, Problem> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_running = |job: &Arc<Job>| job.snapshot().state == Progress::Running;
        if jobs.iter().filter(|job| is_running(job)).count() >= RUNNING_MAX {
            return Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "busy",
                format!("{RUNNING_MAX} operations run already: wait for one, or cancel it"),
            ));
        }
        if jobs.len() >= KEPT_MAX
            && let Some(place) = jobs.iter().position(|job| !is_running(job))
        {
            jobs.remove(place);
        }
        let job = Arc::new(Job {
            told: Mutex::new(told),
            is_canceled: false.into(),
        });
        jobs.push_back(Arc::clone(&job));
        Ok(job)
    }
}

impl Job {
    fn snapshot(&self) -> OperationWire {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut OperationWire)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn is_canceled(&self) -> bool {
        self.is_canceled.load(std::sync::atomic::Ordering::Relaxed)
    }

    async fn run(&self, state: &State, order: Order, query: InstanceQuery, is_dry: bool) {
        let walked = self.walk(state, &order, query, is_dry).await;
        self.tell(|told| {
            told.ended = Some(time::exact(state.hub.now()));
            (told.state, told.problem) = match walked {
                Ok(progress) => (progress, None),
                Err(problem) => (Progress::Failed, Some(problem)),
            };
        });
    }

    async fn walk(
        &self,
        state: &State,
        order: &Order,
        mut query: InstanceQuery,
        is_dry: bool,
    ) -> Result<Progress, String> {
        loop {
            let page = state
                .hub
                .list(query.clone())
                .await
                .map_err(|error| error.detail)?;
            // Of those that run, only a parked one can be rewound.
            let fits = |row: &dalsegno_core::store::InstanceRow| {
                order.verb != Verb::Rewind || row.status == Status::Failed || row.parked.is_some()
            };
            let found: Vec<InstanceId> = page
                .rows
                .iter()
                .filter(|row| fits(row))
                .map(|row| row.id.clone())
                .collect();
            self.note_found(&found);
            if !is_dry {
                self.command_all(state, order, found).await;
            }
            if self.is_canceled() {
                return Ok(Progress::Canceled);
            }
            if *state.closing.borrow() {
                return Err("the host went down".into());
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(Progress::Done),
            }
        }
    }

    fn note_found(&self, found: &[InstanceId]) {
        self.tell(|told| {
            told.matched += found.len() as u64;
            let room = EXAMPLES_MAX.saturating_sub(told.examples.len());
            told.examples
                .extend(found.iter().take(room).map(ToString::to_string));
        });
    }

    async fn command_all(&self, state: &State, order: &Order, found: Vec<InstanceId>) {
        futures::stream::iter(found)
            .for_each_concurrent(AT_ONCE_MAX, |id| async move {
                if !self.is_canceled() && !*state.closing.borrow() {
                    let outcome = order.give(&state.hub, &id).await;
                    self.note_outcome(&id, outcome);
                }
            })
            .await;
    }

    fn note_outcome(&self, id: &InstanceId, outcome: Answer<()>) {
        use RequestErrorKind as Kind;
        self.tell(|told| match outcome {
            Ok(()) => told.applied += 1,
            Err(error) => {
                match error.kind {
                    // It changed between the page and the command.
                    Kind::NotFound | Kind::Finished | Kind::WrongState | Kind::InstanceRunning => {
                        told.skipped += 1;
                    }
                    _ => told.failed += 1,
                }
                if told.refusals.len() < REFUSALS_MAX {
                    told.refusals.push(RefusalWire {
                        id: id.to_string(),
                        code: error.kind.code().to_owned(),
                        detail: error.detail,
                    });
                }
            }
        });
    }
}

impl Order {
    fn read(call: &Call, body: &OperationBody) -> Result<Self, Problem> {
        let missing = |what: &str| {
            Problem::bad_request("missing_parameter", format!("{what} is missing"))
                .param(what)
                .at(Place::Body)
        };
        let event = match (body.verb, &body.event) {
            (Verb::Raise, None) => return Err(missing("event")),
            (Verb::Raise, Some(name)) => {
                call.check_event_name(name)?;
                Some(RaisedEvent {
                    name: name.clone(),
                    input: payload(body.input.clone()),
                    idempotency_key: None,
                    trace: call.trace(),
                })
            }
            (_, Some(name)) => {
                return Err(invalid("event", name, "nothing: only raise has an event").at(Place::Body));
            }
            (_, None) => None,
        };
        let most = call.hub().limits().reason_bytes_max;
        if body.reason.as_ref().is_some_and(|reason| reason.len() > most) {
            return Err(Problem::bad_request(
                "reason_too_long",
                format!("the reason is longer than reason_bytes_max, which is {most}: shorten it"),
            )
            .param("reason")
            .at(Place::Body));
        }
        Ok(Self {
            verb: body.verb,
            reason: body.reason.clone(),
            event,
            family: match body.recursive {
                true => Family::Recursive,
                false => Family::Instance,
            },
        })
    }

    async fn give(&self, hub: &TaskHub, id: &InstanceId) -> Answer<()> {
        let reason = self.reason.clone();
        match self.verb {
            Verb::Terminate => hub.terminate(id, reason, self.family).await,
            Verb::Cancel => hub.cancel(id, reason).await,
            Verb::Suspend => hub.suspend(id, reason).await,
            Verb::Resume => hub.resume(id, reason).await,
            Verb::Rewind => hub.rewind(id, reason).await,
            Verb::Restart => hub.restart(id, NewId::Generated).await.map(drop),
            Verb::Purge => purge(hub, id, self.family, false).await.map(drop),
            Verb::Raise => match &self.event {
                Some(event) => hub.raise_event(id, event.clone()).await,
                None => Ok(()),
            },
        }
    }
}

pub(super) async fn begin(mut call: Call) -> Result<Response, Problem> {
    // It tells ids of what it finds.
    call.permit(Scope::Read)?;
    call.query()?;
    let body: OperationBody = body::ours(&call.body().await?)?;
    if !body.dry_run {
        call.permit(body.verb.scope())?;
    }
    let now = call.hub().now();
    let query = body.r#where.query(body.verb, now)?;
    let order = Order::read(&call, &body)?;
    let told = OperationWire {
        id: new_id()?,
        verb: body.verb,
        r#where: body.r#where,
        dry_run: body.dry_run,
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
    let answer = json(StatusCode::ACCEPTED, to_json(&told));
    let job = call.state.operations.add(told)?;
    let state = Arc::clone(&call.state);
    tokio::spawn(async move { job.run(&state, order, query, body.dry_run).await });
    Ok(answer)
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
    call.permit(Scope::Read)?;
    call.query()?;
    Ok(json(StatusCode::OK, to_json(&call.state.operations.all())))
}

pub(super) fn get(call: &Call, id: &str) -> Result<Response, Problem> {
    call.permit(Scope::Read)?;
    call.query()?;
    let job = call.state.operations.find(id)?;
    Ok(json(StatusCode::OK, to_json(&job.snapshot())))
}

/// Ends a job after the commands that are under way.
pub(super) fn cancel(call: &Call, id: &str) -> Result<Response, Problem> {
    call.permit(Scope::Read)?;
    call.query()?;
    let job = call.state.operations.find(id)?;
    call.permit(job.snapshot().verb.scope())?;
    job.is_canceled.store(true, std::sync::atomic::Ordering::Relaxed);
    Ok(json(StatusCode::ACCEPTED, to_json(&job.snapshot())))
}
