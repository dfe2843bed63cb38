//! A task hub in another process: the same questions and the same answers as
//! [`TaskHub`](dalsegno_engine::TaskHub), over `/runtime/dalsegno/v1`.
//!
//! What does not travel are the opaque parts of rows: `extra` of an instance, `queue` of an entity.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::event::Event;
use dalsegno_core::query::{EntityPage, EntityQuery, InstancePage, InstanceQuery, LargeValues, Status};
use dalsegno_core::store::{EntityRow, InstanceRow};
use dalsegno_core::{EntityId, InstanceId, TaskId, TraceContext};
use dalsegno_engine::hub::{LimiterDefinition, NewId};
use dalsegno_engine::request::{
    Answer, InstanceStatus, LimiterChange, LimiterStatus, LivingHolder, PurgeQuery, RaisedEvent,
    RequestError, RequestErrorKind, Scope, Signal, StartOptions, Started, check_idempotency_key,
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::error_codes::error_code;
use crate::http::links::{Links, encode};
use crate::http::problem::ProblemRead;
use crate::http::time;
use crate::v1::event_wire::EventWire;
use crate::v1::instances::{WAIT_SECONDS_MAX, cursor, cursor_text};
use crate::v1::wire::{
    CountWire, DeletedWire, EntityRowWire, InstanceWire, LimiterBody, LimiterPatch, LimiterWire, PageWire,
    PurgeBody, SignalBody, StartBody, StartedWire, Unfit, UnlockBody, json, status,
};
use crate::v1::{
    DeliveryWire, EntityTold, ExplanationWire, HubCreatedWire, HubInfo, HubStatsWire, LogLevelWire,
    RepairedWire, StuckWire, WorkerWire,
};
use crate::webhooks::innermost;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client that waits stays away when too many wait: the host's `Retry-After`.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// A client of a running host. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct RemoteHub {
    client: reqwest::Client,
    origin: Arc<str>,
    key: Option<Secret>,
    /// The host's own when `None`.
    hub: Option<Arc<str>>,
}

/// A copy of a hub on its way here.
#[derive(Debug)]
pub struct RemoteBackup(reqwest::Response);

impl RemoteBackup {
    /// What comes next; `None` at the end. Whether it is whole, only its reader can tell.
    ///
    /// # Errors
    /// `Unreachable` when the host breaks it off.
    pub async fn next(&mut self) -> Answer<Option<impl AsRef<[u8]> + use<>>> {
        self.0.chunk().await.map_err(|error| {
            let text = format!("the host broke off the backup: {}", innermost(&error));
            RequestError::new(RequestErrorKind::Unreachable, text)
        })
    }
}

/// Printed as stars.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug)]
enum For {
    Completion,
    Start,
}

fn connections() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .no_proxy()
}

impl RemoteHub {
    /// A client of the host at a URL such as `http://127.0.0.1:8080` or `https://hub.example.com`.
    /// Connects with the first request. The certificate of a host behind `https` is checked as the
    /// system does it.
    ///
    /// # Errors
    /// When the text is no `http` or `https` URL.
    pub fn new(url: &str) -> Answer<Self> {
        let origin = url.trim_end_matches('/');
        let parsed = reqwest::Url::parse(origin)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if parsed.is_none() {
            return Err(RequestError::new(
                RequestErrorKind::Invalid,
                format!("{url:?} is no address of a host: write it like http://127.0.0.1:8080"),
            ));
        }
        Ok(Self {
            client: connections().build().map_err(|error| internal(&error))?,
            origin: origin.into(),
            key: None,
            hub: None,
        })
    }

    /// Trusts these certificates, as PEM, and none but them: those of an authority of one's own, or the
    /// host's own certificate.
    ///
    /// # Errors
    /// When there is none in the text.
    pub fn trust(mut self, pem: &[u8]) -> Answer<Self> {
        let unreadable = |reason: &str| {
            RequestError::new(
                RequestErrorKind::Invalid,
                format!("these are no certificates in PEM: {reason}"),
            )
        };
        let trusted =
            reqwest::Certificate::from_pem_bundle(pem).map_err(|error| unreadable(&innermost(&error)))?;
        if trusted.is_empty() {
            return Err(unreadable("there is no \"BEGIN CERTIFICATE\" in it"));
        }
        let client = connections().tls_certs_only(trusted).build();
        self.client = client.map_err(|error| unreadable(&innermost(&error)))?;
        Ok(self)
    }

    /// Shows a key with every request.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(Secret(key.into()));
        self
    }

    /// Asks about this hub of the host, instead of the host's own.
    #[must_use]
    pub fn hub(mut self, name: impl Into<String>) -> Self {
        self.hub = Some(name.into().into());
        self
    }

    /// Names of the hubs that the host serves, its own first.
    ///
    /// # Errors
    /// As all requests: the kind says what to do.
    pub async fn hubs(&self) -> Answer<Vec<String>> {
        self.get("/hubs".into()).await
    }

    /// Makes a hub, unless it is there; says whether it was made.
    ///
    /// # Errors
    /// As all requests: the kind says what to do.
    pub async fn create_hub(&self, name: &str) -> Answer<bool> {
        let path = format!("/hubs/{}", segment(name)?);
        let created: HubCreatedWire = self.send(Method::PUT, path, None::<&()>).await?;
        Ok(created.created)
    }

    /// Deletes a hub with all that is in it.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name, `WrongState` when it cannot be deleted.
    pub async fn delete_hub(&self, name: &str) -> Answer<()> {
        let path = format!("/hubs/{}?confirm={}", segment(name)?, encode(name));
        self.done(self.request(Method::DELETE, &path)).await
    }

    /// What a hub takes, and how much is in it.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    pub async fn hub_stats(&self, name: &str) -> Answer<HubStatsWire> {
        self.get(format!("/hubs/{}/stats", segment(name)?)).await
    }

    /// Moves what cannot be read in a hub aside, with its bytes.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    pub async fn repair(&self, name: &str) -> Answer<RepairedWire> {
        let path = format!("/hubs/{}/repair", segment(name)?);
        self.send(Method::POST, path, None::<&()>).await
    }

    /// A copy of a hub, to be read piece by piece.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    pub async fn backup(&self, name: &str) -> Answer<RemoteBackup> {
        let path = format!("/hubs/{}/backup", segment(name)?);
        let request = self.request(Method::GET, &path);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let code = response.status();
        if code.is_success() {
            return Ok(RemoteBackup(response));
        }
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        Err(refusal(code, &text))
    }

    /// Where it speaks to.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The links of an instance as this client sees the host; without keys.
    pub fn links(&self, hub: &str) -> Links {
        Links::open(self.origin.to_string(), hub)
    }

    /// What the host says about itself.
    ///
    /// # Errors
    /// As all requests: the kind says what to do.
    pub async fn info(&self) -> Answer<HubInfo> {
        self.get("/hub".into()).await
    }

    /// Starts an orchestration.
    ///
    /// # Errors
    /// As [`TaskHub::start`](dalsegno_engine::TaskHub::start).
    pub async fn start(&self, options: StartOptions) -> Answer<Started> {
        let path = format!("/orchestrators/{}", segment(&options.name)?);
        let trace = options.trace.clone();
        let request = self.request(Method::POST, &path).json(&StartBody::from(options));
        let started: StartedWire = read(&self.text(traced(request, trace.as_ref())).await?)?;
        started.try_into().map_err(unfit)
    }

    /// Raises an external event.
    ///
    /// # Errors
    /// As [`TaskHub::raise_event`](dalsegno_engine::TaskHub::raise_event).
    pub async fn raise_event(&self, id: &InstanceId, event: RaisedEvent) -> Answer<()> {
        check_idempotency_key(event.idempotency_key.as_deref())?;
        let path = format!("{}/events/{}", instance(id), segment(&event.name)?);
        let body = event.input.map(|input| input.as_str().to_owned());
        let mut request = self
            .request(Method::POST, &path)
            .header("content-type", "application/json")
            .body(body.unwrap_or_default());
        if let Some(key) = event.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        self.done(traced(request, event.trace.as_ref())).await
    }

    /// Ends an instance.
    ///
    /// # Errors
    /// As [`TaskHub::terminate`](dalsegno_engine::TaskHub::terminate).
    pub async fn terminate(&self, id: &InstanceId, reason: Option<String>, scope: Scope) -> Answer<()> {
        let path = format!(
            "{}/terminate{}recursive={}",
            instance(id),
            reasoned(reason),
            recursive(scope)
        );
        self.done(self.request(Method::POST, &path)).await
    }

    /// Asks an instance to end by its own code.
    ///
    /// # Errors
    /// As [`TaskHub::cancel`](dalsegno_engine::TaskHub::cancel).
    pub async fn cancel(&self, id: &InstanceId, reason: Option<String>) -> Answer<()> {
        let path = format!("{}/cancel{}", instance(id), reasoned(reason));
        self.done(self.request(Method::POST, &path)).await
    }

    /// Stops an instance from taking messages.
    ///
    /// # Errors
    /// As [`TaskHub::suspend`](dalsegno_engine::TaskHub::suspend).
    pub async fn suspend(&self, id: &InstanceId, reason: Option<String>) -> Answer<()> {
        self.done(self.request(
            Method::POST,
            &format!("{}/suspend{}", instance(id), reasoned(reason)),
        ))
        .await
    }

    /// Lets it take messages again.
    ///
    /// # Errors
    /// As [`TaskHub::resume`](dalsegno_engine::TaskHub::resume).
    pub async fn resume(&self, id: &InstanceId, reason: Option<String>) -> Answer<()> {
        self.done(self.request(
            Method::POST,
            &format!("{}/resume{}", instance(id), reasoned(reason)),
        ))
        .await
    }

    /// Sets a failed or parked instance going again.
    ///
    /// # Errors
    /// As [`TaskHub::rewind`](dalsegno_engine::TaskHub::rewind).
    pub async fn rewind(&self, id: &InstanceId, reason: Option<String>) -> Answer<()> {
        self.done(self.request(
            Method::POST,
            &format!("{}/rewind{}", instance(id), reasoned(reason)),
        ))
        .await
    }

    /// Begins the next attempt now, of one activity or of all that wait for theirs.
    ///
    /// # Errors
    /// As [`TaskHub::retry_now`](dalsegno_engine::TaskHub::retry_now).
    pub async fn retry_now(&self, id: &InstanceId, task: Option<TaskId>) -> Answer<()> {
        let task = task.map_or_else(String::new, |task| format!("?task={}", task.0));
        self.done(self.request(Method::POST, &format!("{}/retry-now{task}", instance(id))))
            .await
    }

    /// Starts a finished orchestration again.
    ///
    /// # Errors
    /// As [`TaskHub::restart`](dalsegno_engine::TaskHub::restart).
    pub async fn restart(&self, id: &InstanceId, new_id: NewId) -> Answer<Started> {
        let path = format!("{}/restart?newId={}", instance(id), new_id != NewId::Same);
        let started: StartedWire = self.send(Method::POST, path, None::<&()>).await?;
        started.try_into().map_err(unfit)
    }

    /// Deletes a finished instance; says how many went.
    ///
    /// # Errors
    /// As [`TaskHub::purge`](dalsegno_engine::TaskHub::purge).
    pub async fn purge(&self, id: &InstanceId, scope: Scope) -> Answer<u64> {
        let path = format!("{}?recursive={}", instance(id), recursive(scope));
        let deleted: DeletedWire = self.send(Method::DELETE, path, None::<&()>).await?;
        Ok(deleted.deleted)
    }

    /// The same of one that is not finished, which is ended first, or whose row cannot be read.
    ///
    /// # Errors
    /// As [`RemoteHub::purge`].
    pub async fn purge_by_force(&self, id: &InstanceId, scope: Scope) -> Answer<u64> {
        let path = format!("{}?recursive={}&force=true", instance(id), recursive(scope));
        let deleted: DeletedWire = self.send(Method::DELETE, path, None::<&()>).await?;
        Ok(deleted.deleted)
    }

    /// Deletes finished instances by filter; says how many went.
    ///
    /// # Errors
    /// As [`TaskHub::purge_many`](dalsegno_engine::TaskHub::purge_many).
    pub async fn purge_many(&self, query: PurgeQuery) -> Answer<u64> {
        let deleted: DeletedWire = self
            .send(Method::POST, "/purge".into(), Some(&PurgeBody::from(query)))
            .await?;
        Ok(deleted.deleted)
    }

    /// The status of an instance.
    ///
    /// # Errors
    /// As [`TaskHub::status`](dalsegno_engine::TaskHub::status).
    pub async fn status(&self, id: &InstanceId) -> Answer<Option<InstanceStatus>> {
        let wire: Option<InstanceWire> = found(self.get(instance(id)).await)?;
        wire.map(|wire| wire.try_into().map_err(unfit)).transpose()
    }

    /// Why an instance does not move; `None` when there is none of this id.
    ///
    /// # Errors
    /// `Unreachable`, `Unauthorized`.
    pub async fn explain(&self, id: &InstanceId) -> Answer<Option<ExplanationWire>> {
        found(self.get(format!("{}/explain", instance(id))).await)
    }

    /// Instances that something holds which should not, so many at most.
    ///
    /// # Errors
    /// `Unreachable`, `Unauthorized`, `Invalid` for more than are told at once.
    pub async fn stuck(&self, most: usize) -> Answer<StuckWire> {
        self.get(format!("/stuck?top={most}")).await
    }

    /// Waits until it is final, at most `timeout`; `TimedOut` then.
    ///
    /// # Errors
    /// As [`TaskHub::wait_for_completion`](dalsegno_engine::TaskHub::wait_for_completion).
    pub async fn wait_for_completion(
        &self,
        id: &InstanceId,
        timeout: Option<Duration>,
    ) -> Answer<InstanceStatus> {
        self.wait(id, For::Completion, timeout).await
    }

    /// Waits until it has left Pending.
    ///
    /// # Errors
    /// As [`TaskHub::wait_for_start`](dalsegno_engine::TaskHub::wait_for_start).
    pub async fn wait_for_start(&self, id: &InstanceId, timeout: Option<Duration>) -> Answer<InstanceStatus> {
        self.wait(id, For::Start, timeout).await
    }

    /// One request waits a few minutes at most, so it is repeated while there is time.
    async fn wait(&self, id: &InstanceId, what: For, timeout: Option<Duration>) -> Answer<InstanceStatus> {
        let end = timeout.map(|timeout| Instant::now() + timeout);
        let most = Duration::from_secs_f64(WAIT_SECONDS_MAX);
        let word = match what {
            For::Completion => "completion",
            For::Start => "start",
        };
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let round = left.unwrap_or(most).min(most);
            let path = format!(
                "{}/wait?for={word}&timeout={:.3}",
                instance(id),
                round.as_secs_f64()
            );
            match self.get::<InstanceWire>(path).await {
                Err(error)
                    if error.kind == RequestErrorKind::TimedOut && left.is_none_or(|left| left > round) => {}
                Err(error)
                    if error.kind == RequestErrorKind::Busy && left.is_none_or(|left| left > BUSY_PAUSE) =>
                {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                answer => return answer?.try_into().map_err(unfit),
            }
        }
    }

    /// The current execution's history.
    ///
    /// # Errors
    /// As [`TaskHub::history`](dalsegno_engine::TaskHub::history).
    pub async fn history(&self, id: &InstanceId) -> Answer<Vec<Event>> {
        let events: Vec<EventWire> = self.get(format!("{}/history", instance(id))).await?;
        events
            .into_iter()
            .map(|event| event.try_into().map_err(unfit))
            .collect()
    }

    /// A page of instances, newest first.
    ///
    /// # Errors
    /// As [`TaskHub::list`](dalsegno_engine::TaskHub::list).
    pub async fn list(&self, query: InstanceQuery) -> Answer<InstancePage> {
        let page: PageWire<InstanceWire> = self.get(list_path(&query)).await?;
        let next = page
            .next
            .map(|text| cursor(&text).map_err(|problem| internal(&problem.detail)));
        Ok(InstancePage {
            rows: rows::<_, InstanceRow>(page.rows)?,
            next: next.transpose()?,
        })
    }

    /// How many instances are in each status.
    ///
    /// # Errors
    /// As [`TaskHub::counts`](dalsegno_engine::TaskHub::counts).
    pub async fn counts(&self) -> Answer<Vec<(Status, u64)>> {
        let counts: Vec<CountWire> = self.get("/counts".into()).await?;
        counts
            .iter()
            .map(|wire| Ok((status(&wire.status).map_err(unfit)?, wire.count)))
            .collect()
    }

    /// An entity's row.
    ///
    /// # Errors
    /// As [`TaskHub::entity`](dalsegno_engine::TaskHub::entity).
    pub async fn entity(&self, id: &EntityId) -> Answer<Option<EntityRow>> {
        let wire: Option<EntityRowWire> = found(self.get(entity(id)).await)?;
        wire.map(|wire| wire.try_into().map_err(unfit)).transpose()
    }

    /// The same with who has its lock and what stands before it.
    ///
    /// # Errors
    /// As [`RemoteHub::entity`].
    pub async fn entity_told(&self, id: &EntityId) -> Answer<Option<EntityTold>> {
        let json: Option<Box<RawValue>> = found(self.get(entity(id)).await)?;
        json.map(|json| EntityTold::read(&json).map_err(unfit))
            .transpose()
    }

    /// A page of entities, each with who has its lock; and where the next begins.
    ///
    /// # Errors
    /// As [`RemoteHub::list_entities`].
    pub async fn entities_told(&self, query: &EntityQuery) -> Answer<(Vec<EntityTold>, Option<EntityId>)> {
        let page: PageWire<Box<RawValue>> = self.get(entities_path(query)).await?;
        let next = page
            .next
            .map(|text| EntityId::parse(&text).map_err(|invalid| internal(&invalid)));
        let rows = page.rows.iter().map(|json| EntityTold::read(json).map_err(unfit));
        Ok((rows.collect::<Answer<_>>()?, next.transpose()?))
    }

    /// A page of entities.
    ///
    /// # Errors
    /// As [`TaskHub::list_entities`](dalsegno_engine::TaskHub::list_entities).
    pub async fn list_entities(&self, query: EntityQuery) -> Answer<EntityPage> {
        let page: PageWire<EntityRowWire> = self.get(entities_path(&query)).await?;
        let next = page
            .next
            .map(|text| EntityId::parse(&text).map_err(|invalid| internal(&invalid)));
        Ok(EntityPage {
            rows: rows::<_, EntityRow>(page.rows)?,
            next: next.transpose()?,
        })
    }

    /// Signals an entity.
    ///
    /// # Errors
    /// As [`TaskHub::signal_entity`](dalsegno_engine::TaskHub::signal_entity).
    pub async fn signal_entity(&self, id: &EntityId, signal: Signal) -> Answer<()> {
        let body = SignalBody {
            operation: signal.operation,
            input: json(signal.input.as_ref()),
            at: signal.at.map(time::exact),
        };
        let request = self.request(Method::POST, &format!("{}/signal", entity(id)));
        self.done(traced(request.json(&body), signal.trace.as_ref()))
            .await
    }

    /// Deletes an entity with its state.
    ///
    /// # Errors
    /// As [`TaskHub::delete_entity`](dalsegno_engine::TaskHub::delete_entity).
    pub async fn delete_entity(&self, id: &EntityId) -> Answer<bool> {
        let deleted: DeletedWire = self.send(Method::DELETE, entity(id), None::<&()>).await?;
        Ok(deleted.deleted > 0)
    }

    /// Frees an entity of a lock whose holder will not do so.
    ///
    /// # Errors
    /// As [`TaskHub::unlock_entity`](dalsegno_engine::TaskHub::unlock_entity).
    pub async fn unlock_entity(
        &self,
        id: &EntityId,
        holder: &InstanceId,
        living: LivingHolder,
    ) -> Answer<()> {
        let request = self.request(Method::POST, &format!("{}/unlock", entity(id)));
        self.done(request.json(&UnlockBody::new(holder, living))).await
    }

    /// All limiter buckets.
    ///
    /// # Errors
    /// As [`TaskHub::limiters`](dalsegno_engine::TaskHub::limiters).
    pub async fn limiters(&self) -> Answer<Vec<LimiterStatus>> {
        rows::<LimiterWire, _>(self.get("/limiters".into()).await?)
    }

    /// Deliveries to webhooks that wait or were given up, oldest first.
    ///
    /// # Errors
    /// As [`TaskHub::deliveries`](dalsegno_engine::TaskHub::deliveries).
    pub async fn deliveries(&self) -> Answer<Vec<DeliveryWire>> {
        self.get("/webhooks".into()).await
    }

    /// Workers elsewhere that are connected to the hub now.
    ///
    /// # Errors
    /// `Unreachable`, `Unauthorized`.
    pub async fn workers(&self) -> Answer<Vec<WorkerWire>> {
        self.get("/workers".into()).await
    }

    /// Gives no more work to the workers of a name, until they connect anew.
    ///
    /// # Errors
    /// `NotFound`, `Unreachable`, `Unauthorized`.
    pub async fn drain_worker(&self, name: &str) -> Answer<()> {
        let path = format!("/workers/{}/drain", segment(name)?);
        self.done(self.request(Method::POST, &path)).await
    }

    /// What the host logs.
    ///
    /// # Errors
    /// `Unreachable`, `Unauthorized`; when the host logs in its own way.
    pub async fn log_level(&self) -> Answer<String> {
        let wire: LogLevelWire = self.get("/log-level".into()).await?;
        Ok(wire.level)
    }

    /// Has the host log from a level on, or by a filter, until it ends.
    ///
    /// # Errors
    /// As [`RemoteHub::log_level`], and when the text is no level.
    pub async fn set_log_level(&self, level: &str) -> Answer<()> {
        let body = LogLevelWire {
            level: level.to_owned(),
        };
        self.done(self.request(Method::PUT, "/log-level").json(&body))
            .await
    }

    /// Changes a limiter's definition.
    ///
    /// # Errors
    /// As [`TaskHub::set_limiter`](dalsegno_engine::TaskHub::set_limiter).
    pub async fn set_limiter(&self, name: &str, definition: LimiterDefinition) -> Answer<()> {
        let path = format!("/limiters/{}", segment(name)?);
        self.done(
            self.request(Method::PUT, &path)
                .json(&LimiterBody::from(definition)),
        )
        .await
    }

    /// Changes some of a limiter's definition.
    ///
    /// # Errors
    /// As [`TaskHub::change_limiter`](dalsegno_engine::TaskHub::change_limiter).
    pub async fn change_limiter(&self, name: &str, change: LimiterChange) -> Answer<()> {
        let path = format!("/limiters/{}", segment(name)?);
        let request = self.request(Method::PATCH, &path);
        self.done(request.json(&LimiterPatch::from(change))).await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let hub = self.hub.as_deref().map_or_else(String::new, |hub| {
            let mark = if path.contains('?') { '&' } else { '?' };
            format!("{mark}taskHub={}", encode(hub))
        });
        let request = self
            .client
            .request(method, format!("{}/runtime/dalsegno/v1{path}{hub}", self.origin));
        match &self.key {
            Some(key) => request.header("x-functions-key", &key.0),
            None => request,
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: String) -> Answer<T> {
        self.send(Method::GET, path, None::<&()>).await
    }

    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: Option<&impl Serialize>,
    ) -> Answer<T> {
        let request = self.request(method, &path);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        read(&self.text(request).await?)
    }

    pub(crate) async fn done(&self, request: RequestBuilder) -> Answer<()> {
        self.text(request).await.map(drop)
    }

    async fn text(&self, request: RequestBuilder) -> Answer<String> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let code = response.status();
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        if code.is_success() {
            Ok(text)
        } else {
            Err(refusal(code, &text))
        }
    }

    /// The innermost cause says most: connection refused, timed out.
    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> RequestError {
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        RequestError::new(
            RequestErrorKind::Unreachable,
            format!("no host answers at {}: {cause}", self.origin),
        )
    }
}

/// The request as part of a trace.
fn traced(request: RequestBuilder, trace: Option<&TraceContext>) -> RequestBuilder {
    let Some(trace) = trace else { return request };
    let request = request.header("traceparent", trace.trace_parent());
    match trace.trace_state() {
        Some(state) => request.header("tracestate", state),
        None => request,
    }
}

pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Answer<T> {
    serde_json::from_str(text).map_err(|error| unfit(Unfit(error.to_string())))
}

/// What a refusal says; without a body, what its status says.
pub(crate) fn refusal(code: StatusCode, text: &str) -> RequestError {
    let read: Option<ProblemRead> = serde_json::from_str(text).ok();
    let kind = read
        .as_ref()
        .and_then(|read| RequestErrorKind::from_code(&read.code))
        .unwrap_or(kind(code));
    let detail = match (&read, kind) {
        (Some(read), _) => read.detail.clone(),
        (None, RequestErrorKind::Unauthorized) if code == StatusCode::UNAUTHORIZED => {
            "the host wants a key and does not know this one".into()
        }
        (None, RequestErrorKind::Unauthorized) => "the key is not good for this".into(),
        (None, _) => format!("the host answered {code}: is it a dalsegno host?"),
    };
    let known = read.as_ref().and_then(|read| error_code(&read.code));
    RequestError {
        kind,
        code: match known {
            Some(entry) => entry.code,
            None if code == StatusCode::FORBIDDEN => "forbidden",
            None => kind.code(),
        },
        detail,
        id: read.and_then(|read| read.id),
    }
}

fn kind(code: StatusCode) -> RequestErrorKind {
    match code.as_u16() {
        400 | 415 => RequestErrorKind::Invalid,
        401 | 403 => RequestErrorKind::Unauthorized,
        404 => RequestErrorKind::NotFound,
        408 => RequestErrorKind::TimedOut,
        409 => RequestErrorKind::WrongState,
        410 => RequestErrorKind::Finished,
        413 | 431 => RequestErrorKind::OverLimit,
        429 => RequestErrorKind::Busy,
        503 => RequestErrorKind::Unavailable,
        507 => RequestErrorKind::InsufficientStorage,
        _ => RequestErrorKind::Internal,
    }
}

pub(crate) fn internal(error: &impl ToString) -> RequestError {
    RequestError::new(RequestErrorKind::Internal, error.to_string())
}

pub(crate) fn unfit(unfit: Unfit) -> RequestError {
    let detail = format!(
        "the host's answer does not fit: {}: are client and host of one version?",
        unfit.0
    );
    RequestError::new(RequestErrorKind::Internal, detail)
}

fn found<T>(answer: Answer<T>) -> Answer<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == RequestErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn rows<W, R>(wires: Vec<W>) -> Answer<Vec<R>>
where
    R: TryFrom<W, Error = Unfit>,
{
    wires
        .into_iter()
        .map(|wire| R::try_from(wire).map_err(unfit))
        .collect()
}

/// A name as a segment of a path. A URL cannot say an empty one, nor `.` and `..`.
pub(crate) fn segment(name: &str) -> Answer<String> {
    if matches!(name, "" | "." | "..") {
        return Err(RequestError::new(
            RequestErrorKind::Invalid,
            format!("{name:?} is no name"),
        ));
    }
    Ok(encode(name))
}

pub(crate) fn instance(id: &InstanceId) -> String {
    format!("/instances/{}", encode(id.as_str()))
}

fn entity(id: &EntityId) -> String {
    let key = if id.key().is_empty() {
        "$".into()
    } else {
        encode(id.key())
    };
    format!("/entities/{}/{key}", encode(id.name()))
}

/// `?reason=…&`, ready for one more parameter.
fn reasoned(reason: Option<String>) -> String {
    format!("?reason={}&", encode(&reason.unwrap_or_default()))
}

fn recursive(scope: Scope) -> bool {
    scope == Scope::Recursive
}

fn list_path(query: &InstanceQuery) -> String {
    let mut pairs = vec![("top", query.limit.to_string())];
    pairs.extend(
        query
            .statuses
            .iter()
            .map(|status| ("status", status.as_str().to_owned())),
    );
    pairs.extend(narrowed(query));
    pairs.extend(query.after.as_ref().map(|after| ("after", cursor_text(after))));
    pairs.extend(query.waiting_for.clone().map(|event| ("waitingFor", event)));
    pairs.extend(query.failed_activity.clone().map(|name| ("failedActivity", name)));
    pairs.extend(without_large(query.large));
    with_query("/instances", &pairs)
}

/// The filters that lists and streams share.
pub(crate) fn narrowed(query: &InstanceQuery) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    pairs.extend(
        query
            .tags
            .iter()
            .map(|(name, value)| ("tag", format!("{name}={value}"))),
    );
    pairs.extend(query.name.clone().map(|name| ("name", name)));
    pairs.extend(query.id_prefix.clone().map(|prefix| ("prefix", prefix)));
    let parent = query.parent.as_ref();
    pairs.extend(parent.map(|parent| ("parent", parent.to_string())));
    pairs.extend(query.created_from.map(|at| ("createdFrom", time::exact(at))));
    pairs.extend(query.created_to.map(|at| ("createdTo", time::exact(at))));
    pairs
}

fn entities_path(query: &EntityQuery) -> String {
    let mut pairs = vec![("top", query.limit.to_string())];
    pairs.extend(query.name.clone().map(|name| ("name", name)));
    pairs.extend(query.from.map(|at| ("lastOperationFrom", time::exact(at))));
    pairs.extend(query.to.map(|at| ("lastOperationTo", time::exact(at))));
    pairs.extend(query.after.as_ref().map(|after| ("after", after.to_string())));
    pairs.extend(without_large(query.large));
    with_query("/entities", &pairs)
}

fn without_large(large: LargeValues) -> Option<(&'static str, String)> {
    (large == LargeValues::LeaveOut).then(|| ("largeValues", "false".to_owned()))
}

pub(crate) fn with_query(path: &str, pairs: &[(&str, String)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    format!("{path}?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_come_back_as_they_were() {
        let body = r#"{"type":"x","title":"t","status":409,"detail":"order-1 is Running","code":"wrong_state","id":"order-1","Message":"t","ExceptionMessage":"d"}"#;
        assert_eq!(
            refusal(StatusCode::CONFLICT, body),
            RequestError::new(RequestErrorKind::WrongState, "order-1 is Running").about("order-1")
        );
        for (code, body, wanted) in [
            (401, "", RequestErrorKind::Unauthorized),
            (403, "", RequestErrorKind::Unauthorized),
            (404, "<html>", RequestErrorKind::NotFound),
            (
                400,
                r#"{"code":"invalid_instance_id","detail":"d"}"#,
                RequestErrorKind::Invalid,
            ),
            (502, "", RequestErrorKind::Internal),
        ] {
            assert_eq!(
                refusal(StatusCode::from_u16(code).unwrap(), body).kind,
                wanted,
                "{code}"
            );
        }
    }

    #[test]
    fn the_code_is_the_hosts_own_and_the_kind_follows_from_the_status() {
        for (status, body, kind, code) in [
            (
                403,
                r#"{"code":"read_only","detail":"d"}"#,
                RequestErrorKind::Unauthorized,
                "read_only",
            ),
            (
                400,
                r#"{"code":"unknown_hub","detail":"d"}"#,
                RequestErrorKind::Invalid,
                "unknown_hub",
            ),
            (
                400,
                r#"{"code":"of_a_later_version","detail":"d"}"#,
                RequestErrorKind::Invalid,
                "invalid",
            ),
            (403, "", RequestErrorKind::Unauthorized, "forbidden"),
            (401, "", RequestErrorKind::Unauthorized, "unauthorized"),
        ] {
            let error = refusal(StatusCode::from_u16(status).unwrap(), body);
            assert_eq!((error.kind, error.code), (kind, code), "{status} {body}");
        }
    }

    #[test]
    fn addresses_are_checked_and_paths_encoded() {
        for url in ["", "localhost:8080", "ftp://x", "http://"] {
            assert_eq!(
                RemoteHub::new(url).unwrap_err().kind,
                RequestErrorKind::Invalid,
                "{url}"
            );
        }
        let query = InstanceQuery {
            statuses: vec![Status::Failed],
            tags: vec![("a b".into(), "1&2".into())],
            limit: 5,
            ..InstanceQuery::default()
        };
        assert_eq!(
            list_path(&query),
            "/instances?top=5&status=Failed&tag=a%20b%3D1%262"
        );
        assert_eq!(
            entity(&EntityId::new("Counter", "").unwrap()),
            "/entities/counter/$"
        );
        assert_eq!(instance(&InstanceId::trusted("a b%")), "/instances/a%20b%25");
        assert!(segment("..").is_err());
    }

    #[test]
    fn the_key_is_not_printed() {
        let hub = RemoteHub::new("http://127.0.0.1:1/").unwrap().key("dsk_secret");
        assert!(!format!("{hub:?}").contains("secret"));
    }
}
