//! The service: which call goes where, and which hub is meant.

use std::sync::Arc;

use dalsegno_core::query::LargeValues;
use dalsegno_engine::TaskHub;
use dalsegno_engine::executor::ExecutionInfo;
use dalsegno_engine::request::{
    CallNote, CallScopes, CalledHub, NewHubs, RequestError, RequestErrorKind, SecondScope,
};

pub use dalsegno_engine::request::DEFAULT_HUB;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use crate::answers::{self, Outcomes};
use crate::client_calls::{self as client, Until};
use crate::outcome::Outcome;
use crate::proto;
use crate::proto::task_hub_sidecar_service_server::{TaskHubSidecarService, TaskHubSidecarServiceServer};
use crate::proto::task_hub_worker_service_server::{TaskHubWorkerService, TaskHubWorkerServiceServer};
use crate::stream::WorkItems;
use crate::wire::{self, Names};
use crate::worker_calls as worker;
use crate::workers::{Kind, Workers};

/// Most clients receive 4 MiB at a time: pieces of lists and histories stay below that.
const CHUNK_BYTES: usize = 3 * 1024 * 1024;

/// A hub, and the workers connected to it.
#[derive(Clone, Debug)]
pub struct Served {
    /// The hub.
    pub hub: TaskHub,
    /// Its workers.
    pub workers: Arc<Workers>,
}

/// What a call does when the hub that it names does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// The server refuses the call.
    Refuse,
    /// The server creates the hub, if it creates hubs on demand and the call may: workers and starts
    /// bring work.
    Create,
}

/// The hubs of a server, by name.
pub trait Hubs: Send + Sync + 'static {
    /// The hub that a call names. Records on `called` that it was created.
    fn hub(&self, called: &CalledHub, on_missing: OnMissing) -> BoxFuture<'_, Result<Arc<Served>, Status>>;

    /// Whether a worker of this hub will be welcome. Creates nothing: it is refused for a hub that
    /// neither exists nor will be created on demand.
    fn greet(&self, called: &CalledHub) -> BoxFuture<'_, Result<(), Status>> {
        let known = self.hub(called, OnMissing::Refuse);
        Box::pin(async move { welcome(&*known.await?) })
    }

    /// Creates the hub of that name, empty. A hub that exists stays as it is, or is deleted first.
    fn create(&self, name: &str, recreate: bool) -> BoxFuture<'_, Result<(), Status>> {
        let known = self.hub(&CalledHub::new(name, NewHubs::Refused), OnMissing::Refuse);
        Box::pin(async move {
            match recreate {
                true => Err(fixed()),
                false => known.await.map(drop),
            }
        })
    }

    /// Deletes the hub of that name with all that is in it.
    fn delete(&self, name: &str) -> BoxFuture<'_, Result<(), Status>> {
        let known = self.hub(&CalledHub::new(name, NewHubs::Refused), OnMissing::Refuse);
        Box::pin(async move { known.await.and(Err(fixed())) })
    }
}

/// Refuses workers of a hub that drains.
///
/// # Errors
/// UNAVAILABLE: the server is about to end.
pub fn welcome(served: &Served) -> Result<(), Status> {
    match served.workers.is_draining() {
        true => Err(Status::unavailable(
            "the server is going down: connect again in a moment",
        )),
        false => Ok(()),
    }
}

fn fixed() -> Status {
    Status::failed_precondition("this server's only task hub is neither created nor deleted by a call")
}

/// The only hub of a server.
#[derive(Debug)]
pub struct OneHub(Arc<Served>);

impl OneHub {
    /// Answers to its own name, and to `default`.
    pub fn new(served: Served) -> Self {
        Self(Arc::new(served))
    }
}

impl Hubs for OneHub {
    fn hub(&self, called: &CalledHub, _on_missing: OnMissing) -> BoxFuture<'_, Result<Arc<Served>, Status>> {
        let (name, own) = (called.name(), self.0.hub.name());
        let answer = match name == own || name == DEFAULT_HUB {
            true => Ok(self.0.clone()),
            false => Err(Status::not_found(format!(
                "there is no task hub \"{name}\" here; this server has \"{own}\""
            ))),
        };
        Box::pin(async move { answer })
    }
}

/// The service as routes, to be served over HTTP/2.
pub fn router(hubs: Arc<dyn Hubs>, message_bytes_max: usize) -> axum::Router {
    let answers = Sidecar::answers(hubs.clone(), message_bytes_max);
    let service = Sidecar::service(hubs, message_bytes_max);
    axum::Router::new()
        .route_service("/TaskHubSidecarService/{call}", service)
        .route_service("/TaskHubWorkerService/{call}", answers)
}

/// Answers the calls of workers and clients.
pub struct Sidecar {
    hubs: Arc<dyn Hubs>,
}

impl std::fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sidecar")
    }
}

impl Sidecar {
    /// For these hubs, as a service to be called.
    pub fn service(hubs: Arc<dyn Hubs>, message_bytes_max: usize) -> TaskHubSidecarServiceServer<Self> {
        TaskHubSidecarServiceServer::new(Self { hubs })
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(usize::MAX)
    }

    /// What our own workers use beside it.
    pub fn answers(hubs: Arc<dyn Hubs>, message_bytes_max: usize) -> TaskHubWorkerServiceServer<Self> {
        TaskHubWorkerServiceServer::new(Self { hubs })
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(usize::MAX)
    }

    /// The hub of a call that creates none.
    async fn served<T>(&self, request: &Request<T>) -> Result<Arc<Served>, Status> {
        self.hubs.hub(&called_hub(request), OnMissing::Refuse).await
    }

    /// The hub of a call that brings work, created on demand.
    async fn served_or_created<T>(&self, request: &Request<T>) -> Result<Arc<Served>, Status> {
        let called = called_hub(request);
        let on_missing = match called.new_hubs() {
            NewHubs::Allowed => OnMissing::Create,
            NewHubs::Refused => OnMissing::Refuse,
        };
        self.hubs.hub(&called, on_missing).await
    }

    /// The hub of a call that changes an instance; notes which, for the audit record.
    async fn served_about<T>(
        &self,
        request: &Request<T>,
        subject: impl Fn(&T) -> &String,
    ) -> Result<Arc<Served>, Status> {
        note(request).subject(subject(request.get_ref()));
        self.served(request).await
    }

    /// The same, of a call that brings something new.
    async fn made_about<T>(
        &self,
        request: &Request<T>,
        subject: impl Fn(&T) -> &String,
    ) -> Result<Arc<Served>, Status> {
        note(request).subject(subject(request.get_ref()));
        self.served_or_created(request).await
    }
}

/// The hub that a call names: as the endpoint that admitted the call resolved it, else by the
/// metadata of the call.
fn called_hub<T>(request: &Request<T>) -> CalledHub {
    if let Some(called) = request.extensions().get::<CalledHub>() {
        return called.clone();
    }
    let named = |key| request.metadata().get(key).and_then(|value| value.to_str().ok());
    let name = named("taskhub").or_else(|| named("durable-taskhub"));
    let name = name.filter(|name| !name.is_empty());
    CalledHub::new(name.unwrap_or(DEFAULT_HUB), NewHubs::Allowed)
}

/// Where the endpoint expects the facts for the audit record.
fn note<T>(request: &Request<T>) -> CallNote {
    request
        .extensions()
        .get::<CallNote>()
        .cloned()
        .unwrap_or_default()
}

/// The second scopes of the caller, as the endpoint that admitted the call found them.
fn second_scopes<T>(request: &Request<T>) -> CallScopes {
    let found = request.extensions().get::<CallScopes>();
    found.copied().unwrap_or_default()
}

/// Refuses a caller without a second scope that its message needs.
pub(crate) fn demand(scopes: CallScopes, scope: SecondScope, what: &str) -> Result<(), Status> {
    let name = match scope {
        SecondScope::Control => "control",
        SecondScope::Entity => "entity",
    };
    match scopes.has(scope) {
        true => Ok(()),
        false => Err(Status::permission_denied(format!(
            "{what} needs a key that has the scope {name} too"
        ))),
    }
}

/// What a worker calls itself.
fn worker_name<T>(request: &Request<T>) -> String {
    let named = |key| request.metadata().get(key).and_then(|value| value.to_str().ok());
    let agent = named("x-user-agent").or_else(|| named("user-agent"));
    let name = named("workerid").or(agent).unwrap_or("unnamed");
    name.chars().take(200).collect()
}

/// The status of a refusal.
pub(crate) fn refused(error: RequestError) -> Status {
    use RequestErrorKind as Kind;
    let RequestError { kind, detail, .. } = error;
    match kind {
        Kind::NotFound | Kind::OrchestratorNotFound | Kind::EntityNotFound => Status::not_found(detail),
        Kind::InstanceExists => Status::already_exists(detail),
        Kind::InstanceRunning
        | Kind::Finished
        | Kind::WrongState
        | Kind::IdempotencyConflict
        | Kind::EventIdReused => Status::failed_precondition(detail),
        Kind::OverLimit | Kind::Busy | Kind::InsufficientStorage => Status::resource_exhausted(detail),
        Kind::Invalid => Status::invalid_argument(detail),
        Kind::TimedOut => Status::deadline_exceeded(detail),
        Kind::Unavailable | Kind::Unreachable => Status::unavailable(detail),
        Kind::Unauthorized => Status::unauthenticated(detail),
        Kind::Internal => Status::internal(detail),
    }
}

type Answer<T> = Result<Response<T>, Status>;

/// How an answer of a worker came out.
async fn come_out(told: oneshot::Receiver<Result<(), Status>>) -> Result<(), Status> {
    told.await
        .expect("an outcome is told at the latest when it is dropped")
}

#[tonic::async_trait]
impl TaskHubWorkerService for Sidecar {
    type AnswerWorkItemsStream = Outcomes;

    async fn answer_work_items(
        &self,
        request: Request<Streaming<proto::WorkAnswer>>,
    ) -> Answer<Self::AnswerWorkItemsStream> {
        let served = self.served(&request).await?;
        Ok(Response::new(answers::take_all(served, request.into_inner())))
    }
}

#[tonic::async_trait]
impl TaskHubSidecarService for Sidecar {
    async fn hello(&self, request: Request<()>) -> Answer<()> {
        self.hubs.greet(&called_hub(&request)).await.map(Response::new)
    }

    type GetWorkItemsStream = WorkItems;

    async fn get_work_items(
        &self,
        request: Request<proto::GetWorkItemsRequest>,
    ) -> Answer<Self::GetWorkItemsStream> {
        let served = self.served_or_created(&request).await?;
        let (name, called) = (worker_name(&request), called_hub(&request));
        tracing::info!(hub = served.hub.name(), worker = name, "a worker connected");
        let mut request = request.into_inner();
        let limiters = std::mem::take(&mut request.limiters);
        if !limiters.is_empty() {
            let offers = wire::limiters(limiters)?;
            match called.takes_offers() {
                true => {
                    let record = |limiter: &str| called.record_offer(limiter);
                    served.hub.offer_limiters(offers, record).await.map_err(refused)?;
                }
                // The worker is welcome: it continues with the limiters that there are.
                false => tracing::info!(
                    worker = name,
                    "this host is read-only: offered limiters are ignored"
                ),
            }
        }
        worker::connect(&served, name, request).map(Response::new)
    }

    async fn complete_orchestrator_task(
        &self,
        request: Request<proto::OrchestratorResponse>,
    ) -> Answer<proto::CompleteTaskResponse> {
        let served = self.served(&request).await?;
        let (outcome, told) = Outcome::awaited();
        worker::complete_turn(&served, request.into_inner(), outcome);
        come_out(told).await?;
        Ok(Response::new(proto::CompleteTaskResponse {}))
    }

    async fn complete_activity_task(
        &self,
        request: Request<proto::ActivityResponse>,
    ) -> Answer<proto::CompleteTaskResponse> {
        let served = self.served(&request).await?;
        let (outcome, told) = Outcome::awaited();
        worker::complete_activity(&served, request.into_inner(), outcome);
        come_out(told).await?;
        Ok(Response::new(proto::CompleteTaskResponse {}))
    }

    async fn complete_entity_task(
        &self,
        request: Request<proto::EntityBatchResult>,
    ) -> Answer<proto::CompleteTaskResponse> {
        let served = self.served(&request).await?;
        let (outcome, told) = Outcome::awaited();
        worker::complete_entity(&served, request.into_inner(), outcome);
        come_out(told).await?;
        Ok(Response::new(proto::CompleteTaskResponse {}))
    }

    async fn abandon_task_orchestrator_work_item(
        &self,
        request: Request<proto::AbandonOrchestrationTaskRequest>,
    ) -> Answer<proto::AbandonOrchestrationTaskResponse> {
        let served = self.served(&request).await?;
        worker::abandon(&served, &request.into_inner().completion_token, Kind::Turn)?;
        Ok(Response::new(proto::AbandonOrchestrationTaskResponse {}))
    }

    async fn abandon_task_activity_work_item(
        &self,
        request: Request<proto::AbandonActivityTaskRequest>,
    ) -> Answer<proto::AbandonActivityTaskResponse> {
        let served = self.served(&request).await?;
        worker::abandon(&served, &request.into_inner().completion_token, Kind::Activity)?;
        Ok(Response::new(proto::AbandonActivityTaskResponse {}))
    }

    async fn abandon_task_entity_work_item(
        &self,
        request: Request<proto::AbandonEntityTaskRequest>,
    ) -> Answer<proto::AbandonEntityTaskResponse> {
        let served = self.served(&request).await?;
        worker::abandon(&served, &request.into_inner().completion_token, Kind::Entity)?;
        Ok(Response::new(proto::AbandonEntityTaskResponse {}))
    }

    async fn start_instance(
        &self,
        request: Request<proto::CreateInstanceRequest>,
    ) -> Answer<proto::CreateInstanceResponse> {
        note(&request).subject(&request.get_ref().instance_id);
        client::check_start(request.get_ref(), second_scopes(&request))?;
        let served = self.made_about(&request, |request| &request.instance_id).await?;
        let note = note(&request);
        let instance_id = client::start(&served, request.into_inner()).await?;
        note.subject(&instance_id);
        Ok(Response::new(proto::CreateInstanceResponse { instance_id }))
    }

    async fn get_instance(
        &self,
        request: Request<proto::GetInstanceRequest>,
    ) -> Answer<proto::GetInstanceResponse> {
        let served = self.served(&request).await?;
        client::get(&served, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn wait_for_instance_start(
        &self,
        request: Request<proto::GetInstanceRequest>,
    ) -> Answer<proto::GetInstanceResponse> {
        let served = self.served(&request).await?;
        let answer = client::wait(&served, request.into_inner(), Until::Started).await;
        answer.map(Response::new)
    }

    async fn wait_for_instance_completion(
        &self,
        request: Request<proto::GetInstanceRequest>,
    ) -> Answer<proto::GetInstanceResponse> {
        let served = self.served(&request).await?;
        let answer = client::wait(&served, request.into_inner(), Until::Completed).await;
        answer.map(Response::new)
    }

    async fn raise_event(
        &self,
        request: Request<proto::RaiseEventRequest>,
    ) -> Answer<proto::RaiseEventResponse> {
        let served = self
            .served_about(&request, |request| &request.instance_id)
            .await?;
        client::raise(&served, request.into_inner()).await?;
        Ok(Response::new(proto::RaiseEventResponse {}))
    }

    async fn terminate_instance(
        &self,
        request: Request<proto::TerminateRequest>,
    ) -> Answer<proto::TerminateResponse> {
        let served = self
            .served_about(&request, |request| &request.instance_id)
            .await?;
        client::terminate(&served, request.into_inner()).await?;
        Ok(Response::new(proto::TerminateResponse {}))
    }

    async fn suspend_instance(
        &self,
        request: Request<proto::SuspendRequest>,
    ) -> Answer<proto::SuspendResponse> {
        let served = self
            .served_about(&request, |request| &request.instance_id)
            .await?;
        client::suspend(&served, request.into_inner()).await?;
        Ok(Response::new(proto::SuspendResponse {}))
    }

    async fn resume_instance(&self, request: Request<proto::ResumeRequest>) -> Answer<proto::ResumeResponse> {
        let served = self
            .served_about(&request, |request| &request.instance_id)
            .await?;
        client::resume(&served, request.into_inner()).await?;
        Ok(Response::new(proto::ResumeResponse {}))
    }

    async fn restart_instance(
        &self,
        request: Request<proto::RestartInstanceRequest>,
    ) -> Answer<proto::RestartInstanceResponse> {
        let served = self
            .served_about(&request, |request| &request.instance_id)
            .await?;
        let instance_id = client::restart(&served, request.into_inner()).await?;
        Ok(Response::new(proto::RestartInstanceResponse { instance_id }))
    }

    async fn rewind_instance(
        &self,
        request: Request<proto::RewindInstanceRequest>,
    ) -> Answer<proto::RewindInstanceResponse> {
        let served = self
            .served_about(&request, |request| &request.instance_id)
            .await?;
        client::rewind(&served, request.into_inner()).await?;
        Ok(Response::new(proto::RewindInstanceResponse {}))
    }

    async fn skip_graceful_orchestration_terminations(
        &self,
        request: Request<proto::SkipGracefulOrchestrationTerminationsRequest>,
    ) -> Answer<proto::SkipGracefulOrchestrationTerminationsResponse> {
        let served = self.served(&request).await?;
        let batch = request.get_ref().instance_batch.as_ref();
        if let Some(batch) = batch {
            note(&request).filter(&client::batch_text(&batch.instance_ids));
        }
        let unterminated_instance_ids = client::skip_graceful(&served, request.into_inner()).await?;
        Ok(Response::new(
            proto::SkipGracefulOrchestrationTerminationsResponse {
                unterminated_instance_ids,
            },
        ))
    }

    async fn purge_instances(
        &self,
        request: Request<proto::PurgeInstancesRequest>,
    ) -> Answer<proto::PurgeInstancesResponse> {
        let served = self.served(&request).await?;
        let (note, scopes) = (note(&request), second_scopes(&request));
        let purged = client::purge(&served, request.into_inner(), &note, scopes).await?;
        Ok(Response::new(purged))
    }

    async fn query_instances(
        &self,
        request: Request<proto::QueryInstancesRequest>,
    ) -> Answer<proto::QueryInstancesResponse> {
        let served = self.served(&request).await?;
        client::query(&served, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_instance_ids(
        &self,
        request: Request<proto::ListInstanceIdsRequest>,
    ) -> Answer<proto::ListInstanceIdsResponse> {
        let served = self.served(&request).await?;
        client::list_ids(&served, request.into_inner())
            .await
            .map(Response::new)
    }

    type StreamInstanceHistoryStream = BoxStream<'static, Result<proto::HistoryChunk, Status>>;

    async fn stream_instance_history(
        &self,
        request: Request<proto::StreamInstanceHistoryRequest>,
    ) -> Answer<Self::StreamInstanceHistoryStream> {
        let served = self.served(&request).await?;
        let request = request.into_inner();
        if request.for_work_item_processing {
            return past(&served, &request).map(|chunks| Response::new(chunks.boxed()));
        }
        let chunks = history(&served, &request.instance_id).await?;
        Ok(Response::new(Box::pin(stream::iter(chunks.into_iter().map(Ok)))))
    }

    async fn signal_entity(
        &self,
        request: Request<proto::SignalEntityRequest>,
    ) -> Answer<proto::SignalEntityResponse> {
        let served = self.made_about(&request, |request| &request.instance_id).await?;
        client::signal(&served, request.into_inner()).await?;
        Ok(Response::new(proto::SignalEntityResponse {}))
    }

    async fn get_entity(
        &self,
        request: Request<proto::GetEntityRequest>,
    ) -> Answer<proto::GetEntityResponse> {
        let served = self.served(&request).await?;
        client::get_entity(&served, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn query_entities(
        &self,
        request: Request<proto::QueryEntitiesRequest>,
    ) -> Answer<proto::QueryEntitiesResponse> {
        let served = self.served(&request).await?;
        client::query_entities(&served, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn clean_entity_storage(
        &self,
        request: Request<proto::CleanEntityStorageRequest>,
    ) -> Answer<proto::CleanEntityStorageResponse> {
        // Cleaned as it goes: an entity without state, queue and lock has no row.
        self.served(&request).await?;
        Ok(Response::new(proto::CleanEntityStorageResponse::default()))
    }

    async fn create_task_hub(
        &self,
        request: Request<proto::CreateTaskHubRequest>,
    ) -> Answer<proto::CreateTaskHubResponse> {
        let name = called_hub(&request).name().to_owned();
        note(&request).subject(&name);
        let recreate = request.into_inner().recreate_if_exists;
        self.hubs.create(&name, recreate).await?;
        Ok(Response::new(proto::CreateTaskHubResponse {}))
    }

    async fn delete_task_hub(
        &self,
        request: Request<proto::DeleteTaskHubRequest>,
    ) -> Answer<proto::DeleteTaskHubResponse> {
        let called = called_hub(&request);
        note(&request).subject(called.name());
        self.hubs.delete(called.name()).await?;
        Ok(Response::new(proto::DeleteTaskHubResponse {}))
    }
}

/// The past events of the turn that is at a worker, in pieces as they are asked for.
fn past(
    served: &Served,
    request: &proto::StreamInstanceHistoryRequest,
) -> Result<impl Stream<Item = Result<proto::HistoryChunk, Status>> + use<>, Status> {
    let instance = request.instance_id.as_str();
    let found = served.workers.past_of(instance).filter(|(_, execution)| {
        let asked = request.execution_id.as_deref().unwrap_or_default();
        asked.is_empty() || asked == execution
    });
    let (events, _) = found.ok_or_else(|| {
        Status::failed_precondition(format!(
            "no turn of instance {instance} is at a worker: forWorkItemProcessing asks for the past events of one"
        ))
    })?;
    let mut sizes = events.iter().map(Bytes::len).peekable();
    let (mut cuts, mut end) = (Vec::new(), 0);
    while sizes.peek().is_some() {
        let from = end;
        let mut bytes = 0;
        while let Some(size) = sizes.next_if(|size| bytes == 0 || bytes + size <= CHUNK_BYTES) {
            bytes += size;
            end += 1;
        }
        cuts.push(from..end);
    }
    let chunk = move |range: std::ops::Range<usize>| {
        let events = events.get(range).unwrap_or_default().iter().cloned();
        let events = events.map(proto::HistoryEvent::decode).collect::<Result<_, _>>();
        events
            .map(|events| proto::HistoryChunk { events })
            .map_err(|error| Status::internal(format!("an event of the history cannot be read: {error}")))
    };
    Ok(stream::iter(cuts).map(chunk))
}

/// A history in pieces that every client can receive.
async fn history(served: &Served, instance: &str) -> Result<Vec<proto::HistoryChunk>, Status> {
    let id = wire::instance_id(instance).map_err(Status::invalid_argument)?;
    let status = served
        .hub
        .status_with(&id, LargeValues::LeaveOut)
        .await
        .map_err(refused)?
        .ok_or_else(|| Status::not_found(format!("there is no instance {id}")))?;
    let events = served.hub.history(&id).await.map_err(refused)?;
    let info = ExecutionInfo {
        instance: id,
        execution_id: status.row.execution_id,
        name: status.row.name,
        version: status.row.version,
        trace: None,
        span: None,
        tags: status.row.tags,
        locked_entities_max: 0,
    };
    let mut names = Names::default();
    let mut chunks = vec![proto::HistoryChunk::default()];
    let mut bytes = 0;
    for event in &events {
        let Some(message) = names.event(event, &info) else {
            continue;
        };
        let size = message.encoded_len();
        if bytes > 0 && bytes + size > CHUNK_BYTES {
            chunks.push(proto::HistoryChunk::default());
            bytes = 0;
        }
        bytes += size;
        if let Some(chunk) = chunks.last_mut() {
            chunk.events.push(message);
        }
    }
    Ok(chunks)
}
