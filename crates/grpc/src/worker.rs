//! A worker of a hub elsewhere: runs what an [`Executor`] has, as the official SDKs do.
//!
//! One connection at a time. It takes what the hub sends, runs it and answers; when the connection
//! is lost it comes back, and activities that went on meanwhile answer then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dalsegno_core::{EntityId, Failure, InstanceId, Payload, TaskId};
use dalsegno_engine::Executor;
use dalsegno_engine::attempt::{AttemptLimits, run_attempt};
use dalsegno_engine::executor::{
    self, ActivityRequest, AttemptOutcome, CancelReason, Canceller, EntityEffect, Heartbeats,
    OperationOutcome, OperationRequest, OperationRun, Receipt,
};
use dalsegno_engine::request::LimiterOffer;
use hashbrown::HashMap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use crate::proto::history_event::Kind as WireEvent;
use crate::proto::task_hub_sidecar_service_client::TaskHubSidecarServiceClient;
use crate::proto::task_hub_worker_service_client::TaskHubWorkerServiceClient;
use crate::proto::work_answer::Answer;
use crate::proto::work_item::Request as Item;
use crate::worker_answers::Answers;
use crate::worker_turns::{Ran, Turns};
use crate::workers::Kind;
use crate::{fields, guid, proto, wire, worker_wire};

/// Where a worker works, and how.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Of the hub's host, such as `http://127.0.0.1:8080`.
    pub address: String,
    /// The hub's name.
    pub hub: String,
    /// What it calls itself in `worker list`.
    pub name: String,
    /// Shown with every call.
    pub key: Option<String>,
    /// Certificates in PEM that a host behind `https` is checked by; `None` takes the system's.
    pub trusted: Option<Vec<u8>>,
    /// At most so many turns, activities and entity operations at once; 0 leaves it to the hub.
    pub in_flight: [usize; 3],
    /// Threads that run turns.
    pub threads: usize,
    /// Memory of executions that stay alive between their turns.
    pub live_bytes_max: usize,
    /// A connection that is silent for longer is dead; hubs give a sign of life every 30 s.
    pub silence_max: Duration,
    /// The first and the longest pause before it connects again.
    pub back_off: (Duration, Duration),
}

impl WorkerSettings {
    /// Defaults, for the hub of that name at that address.
    pub fn new(address: impl Into<String>, hub: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            hub: hub.into(),
            name: format!("rust:{}:{}", std::process::id(), guid::new()),
            key: None,
            trusted: None,
            in_flight: [0; 3],
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            live_bytes_max: 256 * 1024 * 1024,
            silence_max: Duration::from_secs(120),
            back_off: (Duration::from_secs(1), Duration::from_secs(30)),
        }
    }
}

/// The versions of an orchestrator; `None` is without one.
pub type Versions = Vec<Option<Arc<str>>>;

/// What a worker runs.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    /// Orchestrators with the versions of each.
    pub orchestrators: Vec<(Arc<str>, Versions)>,
    /// Activities.
    pub activities: Vec<Arc<str>>,
    /// Entities.
    pub entities: Vec<Arc<str>>,
    /// Limiters, with the activities that pass them.
    pub limiters: Vec<LimiterOffer>,
}

impl Offers {
    /// Of an orchestrator that is there without a version, any version is taken and those that are
    /// not there are handed back: the protocol has no word for "without".
    fn filters(&self) -> proto::WorkItemFilters {
        let versions = |versions: &[Option<Arc<str>>]| {
            let named = versions
                .iter()
                .map(|version| version.as_deref().map(str::to_owned));
            named.collect::<Option<Vec<String>>>().unwrap_or_default()
        };
        let orchestrations = self
            .orchestrators
            .iter()
            .map(|(name, own)| proto::OrchestrationFilter {
                name: name.to_string(),
                versions: versions(own),
            });
        let activities = self.activities.iter().map(|name| proto::ActivityFilter {
            name: name.to_string(),
            versions: Vec::new(),
        });
        let entities = self.entities.iter().map(|name| proto::EntityFilter {
            name: name.to_string(),
        });
        proto::WorkItemFilters {
            orchestrations: orchestrations.collect(),
            activities: activities.collect(),
            entities: entities.collect(),
        }
    }
}

/// A worker that runs until it is drained or dropped.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    running: JoinHandle<()>,
}

/// What a worker has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerCounts {
    /// Turns whose execution was still alive.
    pub kept: u64,
    /// Turns whose execution was replayed from its history.
    pub replayed: u64,
    /// Turns for which the history had to be asked for: their execution was kept no longer.
    pub asked: u64,
    /// Connections made.
    pub connections: u64,
}

/// A connection, and the stream of answers if the hub has one.
#[derive(Clone, Debug)]
struct Connection {
    client: Client,
    answers: Option<Answers>,
}

type Client = TaskHubSidecarServiceClient<InterceptedService<Channel, Identity>>;

/// Says with every call which hub is meant, and who calls.
#[derive(Clone, Debug)]
struct Identity {
    hub: MetadataValue<Ascii>,
    name: MetadataValue<Ascii>,
    key: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Identity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("taskhub", self.hub.clone());
        metadata.insert("workerid", self.name.clone());
        if let Some(key) = &self.key {
            metadata.insert("x-functions-key", key.clone());
        }
        Ok(request)
    }
}

#[derive(Debug)]
struct Shared {
    executor: Arc<dyn Executor>,
    offers: Offers,
    settings: WorkerSettings,
    endpoint: Endpoint,
    identity: Identity,
    turns: Turns,
    /// Permits of activities that want few of them at once here.
    slots: HashMap<Arc<str>, Arc<Semaphore>>,
    /// The connection, while there is one.
    connection: watch::Sender<Option<Connection>>,
    state: Mutex<State>,
    idle: Notify,
}

#[derive(Debug, Default)]
struct State {
    in_flight: HashMap<String, Flight>,
    is_draining: bool,
    connections: u64,
}

/// What runs here.
#[derive(Debug)]
struct Flight {
    kind: Kind,
    canceller: Option<Canceller>,
}

impl Connection {
    async fn give(mut self, answer: Answer) -> Result<(), Status> {
        if let Some(answers) = self.answers.filter(|answers| !answers.is_over()) {
            return answers.give(answer).await;
        }
        match answer {
            Answer::Turn(response) => self.client.complete_orchestrator_task(response).await.map(drop),
            Answer::Activity(response) => self.client.complete_activity_task(response).await.map(drop),
            Answer::Entity(result) => self.client.complete_entity_task(result).await.map(drop),
        }
    }
}

impl Worker {
    /// Connects, and goes on connecting, in the background.
    ///
    /// # Errors
    /// When the address, the hub's name or the key cannot be used.
    pub fn start(
        executor: Arc<dyn Executor>,
        offers: Offers,
        settings: WorkerSettings,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared::new(executor, offers, settings)?);
        let running = tokio::spawn(shared.clone().run());
        Ok(Self { shared, running })
    }

    /// Returns as soon as there is a connection.
    pub async fn connected(&self) {
        let mut connection = self.shared.connection.subscribe();
        // The sender lives as long as this.
        let _ = connection.wait_for(Option::is_some).await;
    }

    /// What it has done so far.
    pub fn counts(&self) -> WorkerCounts {
        let turns = self.shared.turns.counts();
        let read = |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
        WorkerCounts {
            kept: read(&turns.kept),
            replayed: read(&turns.replayed),
            asked: read(&turns.asked),
            connections: self.shared.lock().connections,
        }
    }

    /// Work items that it has now: received, and not yet acknowledged by the host.
    pub fn in_flight(&self) -> usize {
        self.shared.lock().in_flight.len()
    }

    /// Takes nothing more, lets what runs finish for at most `grace`, hands the rest back and
    /// disconnects. Says how much that was.
    pub async fn drain(self, grace: Duration) -> usize {
        self.shared.lock().is_draining = true;
        let _ = tokio::time::timeout(grace, self.shared.until_idle()).await;
        let left = self.shared.hand_back().await;
        self.running.abort();
        self.shared.connection.send_replace(None);
        left
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.running.abort();
        self.shared.connection.send_replace(None);
        for (_, flight) in self.shared.lock().in_flight.drain() {
            if let Some(canceller) = flight.canceller {
                canceller.cancel(CancelReason::Shutdown);
            }
        }
    }
}

impl Shared {
    fn new(executor: Arc<dyn Executor>, offers: Offers, settings: WorkerSettings) -> Result<Self, String> {
        let address = &settings.address;
        let is_secure = address.starts_with("https://");
        if !is_secure && !address.starts_with("http://") {
            return Err(format!(
                "{address:?} is no address of a host: write it like http://127.0.0.1:8080"
            ));
        }
        let endpoint = Endpoint::from_shared(address.clone())
            .map_err(|error| format!("{address:?} is no address of a host: {error}"))?
            .connect_timeout(Duration::from_secs(10))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        let endpoint = match is_secure {
            true => endpoint
                .tls_config(tls(settings.trusted.as_deref()))
                .map_err(|error| format!("the certificates to trust: {}", with_causes(&error)))?,
            false => endpoint,
        };
        let text = |what: &str, text: &str| {
            MetadataValue::try_from(text)
                .map_err(|_| format!("{what} {text:?} has characters that a header cannot have"))
        };
        let identity = Identity {
            hub: text("the hub's name", &settings.hub)?,
            name: text("the worker's name", &settings.name)?,
            key: match &settings.key {
                Some(key) => {
                    let key = MetadataValue::try_from(key.as_str());
                    Some(key.map_err(|_| "the key has characters that a header cannot have".to_owned())?)
                }
                None => None,
            },
        };
        let limited = offers.activities.iter().filter_map(|name| {
            let most = executor.activity_settings(name)?.concurrency_per_host?;
            Some((name.clone(), Arc::new(Semaphore::new(most))))
        });
        let turns = Turns::new(&executor, settings.threads, settings.live_bytes_max);
        Ok(Self {
            slots: limited.collect(),
            turns: turns.map_err(|error| format!("no thread can be started: {error}"))?,
            executor,
            offers,
            settings,
            endpoint,
            identity,
            connection: watch::channel(None).0,
            state: Mutex::default(),
            idle: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self: Arc<Self>) {
        let (first, longest) = self.settings.back_off;
        let mut pause = first;
        loop {
            let before = self.lock().connections;
            let ended = self.clone().work().await;
            self.connection.send_replace(None);
            if self.lock().connections > before {
                pause = first;
            }
            let wait = jittered(pause);
            let address = &self.settings.address;
            tracing::warn!(address, reason = %ended, wait = ?wait, "no connection to the hub; it is tried again");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// One connection, from its beginning to its end; says why it ended.
    async fn work(self: Arc<Self>) -> String {
        let channel = match self.endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => return with_causes(&error),
        };
        let mut client =
            TaskHubSidecarServiceClient::with_interceptor(channel.clone(), self.identity.clone())
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(usize::MAX);
        if let Err(status) = client.hello(()).await {
            return status.message().to_owned();
        }
        let wanted = |most: usize| i32::try_from(most).unwrap_or(i32::MAX);
        let [turns, activities, entities] = self.settings.in_flight.map(wanted);
        let request = proto::GetWorkItemsRequest {
            max_concurrent_orchestration_work_items: turns,
            max_concurrent_activity_work_items: activities,
            max_concurrent_entity_work_items: entities,
            capabilities: vec![
                proto::WorkerCapability::KeepsExecutions.into(),
                proto::WorkerCapability::HearsCancels.into(),
            ],
            work_item_filters: Some(self.offers.filters()),
            limiters: self.offers.limiters.iter().map(wire::limiter_of).collect(),
            ..Default::default()
        };
        let mut items = match client.get_work_items(request).await {
            Ok(items) => items.into_inner(),
            Err(status) => return status.message().to_owned(),
        };
        let answers = match self.open_answers(channel).await {
            Ok(answers) => answers,
            Err(status) => return status.message().to_owned(),
        };
        self.connection.send_replace(Some(Connection { client, answers }));
        self.lock().connections += 1;
        tracing::info!(
            address = self.settings.address,
            hub = self.settings.hub,
            "connected to the hub"
        );
        loop {
            match tokio::time::timeout(self.settings.silence_max, items.message()).await {
                Err(_) => return "the connection was silent for too long".to_owned(),
                Ok(Err(status)) => return status.message().to_owned(),
                Ok(Ok(None)) => return "the host goes down".to_owned(),
                Ok(Ok(Some(item))) => self.take(item),
            }
        }
    }

    /// The stream of answers; `None`: the hub knows only calls.
    async fn open_answers(&self, channel: Channel) -> Result<Option<Answers>, Status> {
        let mut client = TaskHubWorkerServiceClient::with_interceptor(channel, self.identity.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        let (answers, sent) = Answers::new();
        match client.answer_work_items(sent).await {
            Ok(outcomes) => answers.listen(outcomes.into_inner()),
            Err(status) if status.code() == Code::Unavailable || is_of_transport(&status) => {
                return Err(status);
            }
            Err(status) => {
                tracing::debug!(%status, "the hub takes no stream of answers; each is a call");
                return Ok(None);
            }
        }
        Ok(Some(answers))
    }

    fn take(self: &Arc<Self>, item: proto::WorkItem) {
        let token = item.completion_token;
        let kind = match &item.request {
            Some(Item::OrchestratorRequest(_)) => Kind::Turn,
            Some(Item::ActivityRequest(_)) => Kind::Activity,
            Some(Item::EntityRequest(_) | Item::EntityRequestV2(_)) => Kind::Entity,
            Some(Item::ActivityCancelled(cancelled)) => return self.cancel(&token, cancelled.reason()),
            Some(Item::HealthPing(_)) | None => return,
        };
        if self.lock().is_draining {
            let shared = self.clone();
            tokio::spawn(async move { shared.abandon(kind, token).await });
            return;
        }
        match item.request {
            Some(Item::OrchestratorRequest(request)) => self.take_turn(request, token),
            Some(Item::ActivityRequest(request)) => self.take_activity(request, token),
            Some(Item::EntityRequestV2(request)) => {
                let operations = request.operation_requests.into_iter().filter_map(operation);
                self.take_entity(
                    request.instance_id,
                    request.entity_state,
                    operations.collect(),
                    token,
                );
            }
            Some(Item::EntityRequest(request)) => {
                let operations = request.operations.into_iter().map(|operation| OperationRequest {
                    operation: operation.operation.into(),
                    input: operation.input.map(Payload::from),
                    trace: wire::trace(operation.trace_context),
                });
                self.take_entity(
                    request.instance_id,
                    request.entity_state,
                    operations.collect(),
                    token,
                );
            }
            Some(Item::ActivityCancelled(_) | Item::HealthPing(_)) | None => {}
        }
    }

    /// The hub wants an activity to end.
    fn cancel(&self, token: &str, reason: proto::activity_cancelled::Reason) {
        use proto::activity_cancelled::Reason;
        let reason = match reason {
            Reason::Terminated => CancelReason::Terminated,
            Reason::Requested => CancelReason::Requested,
            Reason::TimedOut => CancelReason::TimedOut,
        };
        self.tell(token, reason);
    }

    fn tell(&self, token: &str, reason: CancelReason) {
        if let Some(Flight {
            canceller: Some(canceller),
            ..
        }) = self.lock().in_flight.get(token)
        {
            canceller.cancel(reason);
        }
    }

    fn take_turn(self: &Arc<Self>, request: proto::OrchestratorRequest, token: String) {
        self.begin(&token, Kind::Turn, None);
        let (shared, runtime) = (self.clone(), tokio::runtime::Handle::current());
        let instance = request.instance_id.clone();
        self.turns.run(request, token.clone(), move |ran| {
            runtime.spawn(async move {
                match ran {
                    Ran::Answered(response) => {
                        let response = proto::OrchestratorResponse {
                            completion_token: token.clone(),
                            ..response
                        };
                        shared.answer(&token, Answer::Turn(response)).await;
                    }
                    Ran::NotHere(reason) => {
                        tracing::warn!(instance_id = instance, reason, "a turn is handed back");
                        shared.abandon(Kind::Turn, token.clone()).await;
                    }
                }
                shared.end(&token);
            });
        });
    }

    fn take_activity(self: &Arc<Self>, request: proto::ActivityRequest, token: String) {
        let (canceller, cancelled) = executor::cancellation();
        self.begin(&token, Kind::Activity, Some(canceller));
        let shared = self.clone();
        tokio::spawn(async move {
            let instance = request.orchestration_instance.clone().unwrap_or_default();
            let task_id = request.task_id;
            let heartbeats = Heartbeats::default();
            let attempt = shared.attempt(request, cancelled, &heartbeats, &token);
            let Some(outcome) = attempt.await else {
                // Handed back already, or wanted by nobody.
                return shared.end(&token);
            };
            let (result, failure_details) = wire::outcome_of(outcome);
            let response = proto::ActivityResponse {
                instance_id: instance.instance_id,
                task_id,
                result,
                failure_details,
                completion_token: token.clone(),
                last_heartbeat: wire::text_of(heartbeats.latest().details.as_ref()),
            };
            shared.answer(&token, Answer::Activity(response)).await;
            shared.end(&token);
        });
    }

    /// `None`: the worker goes down, and nobody waits for the outcome.
    async fn attempt(
        &self,
        request: proto::ActivityRequest,
        cancelled: executor::Cancellation,
        heartbeats: &Heartbeats,
        token: &str,
    ) -> Option<AttemptOutcome> {
        let name: Arc<str> = request.name.as_str().into();
        let slot = self.slots.get(&name).cloned();
        let _permit = match &slot {
            Some(slot) => slot.acquire().await.ok(),
            None => None,
        };
        let settings = self.executor.activity_settings(&name).unwrap_or_default();
        let timeout = match fields::duration_if("timeout", request.timeout) {
            Ok(timeout) => timeout,
            Err(bad) => {
                let failure = Failure::new(
                    "InvalidRequest",
                    format!("the hub asked for activity {name}: {bad}"),
                );
                return Some(AttemptOutcome::Failed {
                    failure: failure.permanent(),
                    retry_after: None,
                });
            }
        };
        let limits = AttemptLimits {
            timeout: timeout.or(settings.timeout),
            heartbeat: settings.heartbeat,
        };
        let request = activity_request(request, name, cancelled.clone(), heartbeats.clone());
        let running = self.executor.run_activity(request);
        let tell_it = || self.tell(token, CancelReason::TimedOut);
        run_attempt(running, &limits, heartbeats, cancelled, tell_it).await
    }

    fn take_entity(
        self: &Arc<Self>,
        id: String,
        state: Option<String>,
        operations: Vec<OperationRequest>,
        token: String,
    ) {
        self.begin(&token, Kind::Entity, None);
        let shared = self.clone();
        tokio::spawn(async move {
            match shared.operate(&id, state.map(Payload::from), operations).await {
                Some(result) => {
                    let result = proto::EntityBatchResult {
                        completion_token: token.clone(),
                        ..result
                    };
                    shared.answer(&token, Answer::Entity(result)).await;
                }
                None => {
                    tracing::warn!(
                        entity = id,
                        "no such entity is registered here; its operations are handed back"
                    );
                    shared.abandon(Kind::Entity, token.clone()).await;
                }
            }
            shared.end(&token);
        });
    }

    /// Runs operations one after the other. `None`: there is no such entity here.
    async fn operate(
        &self,
        id: &str,
        mut state: Option<Payload>,
        operations: Vec<OperationRequest>,
    ) -> Option<proto::EntityBatchResult> {
        let entity: EntityId = wire::entity_id(id).ok()?;
        let mut result = proto::EntityBatchResult::default();
        for request in operations {
            let begun = now();
            let run = self
                .executor
                .run_operation(&entity, state.as_ref(), request, begun)?;
            let outcome = match run {
                OperationRun::Done(outcome) => outcome,
                OperationRun::Later(running) => running.await,
            };
            let OperationOutcome {
                outcome,
                state: after,
                effects,
            } = outcome;
            let (start_time_utc, end_time_utc) = (Some(wire::timestamp(begun)), Some(wire::timestamp(now())));
            let kind = match outcome {
                Ok(value) => {
                    let actions = effects.into_iter().map(effect);
                    result.actions.extend(actions);
                    proto::operation_result::Kind::Success(proto::OperationResultSuccess {
                        result: wire::text_of(value.as_ref()),
                        start_time_utc,
                        end_time_utc,
                    })
                }
                Err(failure) => proto::operation_result::Kind::Failure(proto::OperationResultFailure {
                    failure_details: Some(wire::failure_of(&failure)),
                    start_time_utc,
                    end_time_utc,
                }),
            };
            result.results.push(proto::OperationResult { kind: Some(kind) });
            state = after;
        }
        result.entity_state = wire::text_of(state.as_ref());
        Some(result)
    }

    fn begin(&self, token: &str, kind: Kind, canceller: Option<Canceller>) {
        let flight = Flight { kind, canceller };
        self.lock().in_flight.insert(token.to_owned(), flight);
    }

    fn end(&self, token: &str) {
        let mut state = self.lock();
        state.in_flight.remove(token);
        if state.in_flight.is_empty() {
            drop(state);
            self.idle.notify_waiters();
        }
    }

    async fn until_idle(&self) {
        loop {
            let told = self.idle.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.lock().in_flight.is_empty() {
                return;
            }
            told.await;
        }
    }

    /// Gives back what has not ended; says how much.
    async fn hand_back(&self) -> usize {
        let left: Vec<_> = self.lock().in_flight.drain().collect();
        let count = left.len();
        let abandon = left.into_iter().map(|(token, flight)| {
            if let Some(canceller) = &flight.canceller {
                canceller.cancel(CancelReason::Shutdown);
            }
            self.abandon(flight.kind, token)
        });
        let all = futures::future::join_all(abandon);
        // Who is not there to take them back does so by losing the connection.
        let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
        count
    }

    async fn abandon(&self, kind: Kind, completion_token: String) {
        let Some(Connection { mut client, .. }) = self.connection.borrow().clone() else {
            return;
        };
        let answer = match kind {
            Kind::Turn => {
                let request = proto::AbandonOrchestrationTaskRequest { completion_token };
                client
                    .abandon_task_orchestrator_work_item(request)
                    .await
                    .map(drop)
            }
            Kind::Activity => {
                let request = proto::AbandonActivityTaskRequest { completion_token };
                client.abandon_task_activity_work_item(request).await.map(drop)
            }
            Kind::Entity => {
                let request = proto::AbandonEntityTaskRequest { completion_token };
                client.abandon_task_entity_work_item(request).await.map(drop)
            }
        };
        if let Err(status) = answer {
            tracing::debug!(%status, "work could not be handed back");
        }
    }

    /// Answers over whatever connection there is, for as long as the answer may be wanted.
    async fn answer(&self, token: &str, answer: Answer) {
        for _ in 0..ANSWER_TRIES {
            let mut connections = self.connection.subscribe();
            let connected = connections.wait_for(Option::is_some);
            let Ok(Ok(connection)) = tokio::time::timeout(ANSWER_WAIT, connected)
                .await
                .map(|found| found.map(|connection| connection.clone()))
            else {
                return;
            };
            let Some(connection) = connection else { return };
            connections.mark_unchanged();
            match connection.give(answer.clone()).await {
                Ok(()) => return,
                Err(status) if status.code() == Code::Unavailable || is_of_transport(&status) => {
                    tracing::debug!(token, %status, "an answer was not taken; it is tried again");
                    // Until there is another connection, or this one has recovered.
                    let _ = tokio::time::timeout(self.settings.back_off.0, connections.changed()).await;
                }
                // Work of a server that is no more.
                Err(status) if status.code() == Code::NotFound => {
                    tracing::debug!(token, %status, "an answer came too late");
                    return;
                }
                Err(status) => {
                    tracing::warn!(token, %status, "an answer was refused");
                    return;
                }
            }
        }
    }
}

/// How a host is checked.
fn tls(trusted: Option<&[u8]>) -> ClientTlsConfig {
    let config = ClientTlsConfig::new();
    match trusted {
        Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
        None => config.with_native_roots(),
    }
}

/// How often an answer is sent, and how long it waits for a connection.
const ANSWER_TRIES: u32 = 10;
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// The call did not get through: no server said anything.
fn is_of_transport(status: &Status) -> bool {
    use std::error::Error as _;
    matches!(status.code(), Code::Unknown | Code::Cancelled) && status.source().is_some()
}

fn activity_request(
    request: proto::ActivityRequest,
    name: Arc<str>,
    cancelled: executor::Cancellation,
    heartbeats: Heartbeats,
) -> ActivityRequest {
    let instance = request.orchestration_instance.unwrap_or_default();
    let is_known = |details: String| (!details.is_empty()).then(|| Payload::from(details));
    ActivityRequest {
        instance: InstanceId::trusted(instance.instance_id),
        execution_id: worker_wire::execution_id(&instance.execution_id.unwrap_or_default()),
        task: TaskId(u32::try_from(request.task_id).unwrap_or_default()),
        name,
        input: request.input.map(Payload::from),
        attempt: u32::try_from(request.attempt).unwrap_or(1).max(1),
        last_heartbeat: request.last_heartbeat.and_then(is_known),
        trace: wire::trace(request.parent_trace_context),
        cancelled,
        heartbeats,
        options: Default::default(),
        receipt: Receipt::default(),
    }
}

fn operation(event: proto::HistoryEvent) -> Option<OperationRequest> {
    let (operation, input) = match event.kind? {
        WireEvent::EntityOperationSignaled(signal) => (signal.operation, signal.input),
        WireEvent::EntityOperationCalled(call) => (call.operation, call.input),
        _ => return None,
    };
    Some(OperationRequest {
        operation: operation.into(),
        input: input.map(Payload::from),
        trace: None,
    })
}

fn effect(effect: EntityEffect) -> proto::OperationAction {
    let kind = match effect {
        EntityEffect::Signal {
            entity,
            operation,
            input,
            at,
        } => proto::operation_action::Kind::SendSignal(proto::SendSignalAction {
            instance_id: entity.to_string(),
            name: operation.to_string(),
            input: wire::text_of(input.as_ref()),
            scheduled_time: at.map(wire::timestamp),
            ..Default::default()
        }),
        EntityEffect::Start {
            name,
            version,
            instance,
            input,
        } => proto::operation_action::Kind::StartNewOrchestration(proto::StartNewOrchestrationAction {
            instance_id: instance.as_str().to_owned(),
            name: name.to_string(),
            version: version.map(|version| version.to_string()),
            input: wire::text_of(input.as_ref()),
            ..Default::default()
        }),
    };
    proto::OperationAction {
        id: 0,
        kind: Some(kind),
    }
}

fn now() -> dalsegno_core::Timestamp {
    use dalsegno_engine::clock::{Clock as _, SystemClock};
    SystemClock::default().now()
}

/// Between half of it and all of it, so that many workers do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without chance it is the whole.
    let _ = getrandom::fill(&mut byte);
    pause - pause.mul_f64(f64::from(byte[0]) / 510.0)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
