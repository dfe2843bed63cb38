//! A hub in memory behind the service, its clients, and a worker made of calls.

mod nothing;

use std::sync::Arc;

use dalsegno_core::limits::Limits;
use dalsegno_engine::clock::Clock;
use dalsegno_engine::traces::Traces;
use dalsegno_engine::{HubOptions, TaskHub};
use dalsegno_grpc::executor::RemoteExecutor;
use dalsegno_grpc::proto;
use dalsegno_grpc::proto::OrchestrationStatus as Wire;
use dalsegno_grpc::proto::task_hub_sidecar_service_client::TaskHubSidecarServiceClient;
use dalsegno_grpc::proto::task_hub_sidecar_service_server::TaskHubSidecarServiceServer;
use dalsegno_grpc::service::{OneHub, Served, Sidecar};
use dalsegno_grpc::tonic::{Code, Status, Streaming};
use dalsegno_grpc::workers::{WorkerLimits, Workers};
use dalsegno_store_memory::MemoryStore;
use futures::StreamExt;

pub(crate) use nothing::Nothing;

pub(crate) type Client = TaskHubSidecarServiceClient<TaskHubSidecarServiceServer<Sidecar>>;

pub(crate) fn client() -> (Client, Arc<Workers>) {
    client_with(Limits::default())
}

pub(crate) fn client_with(limits: Limits) -> (Client, Arc<Workers>) {
    let (served, workers) = served_with(limits);
    (client_of(served), workers)
}

pub(crate) fn client_of(served: Served) -> Client {
    let service = Sidecar::service(Arc::new(OneHub::new(served)), 64 * 1024 * 1024);
    TaskHubSidecarServiceClient::new(service)
}

/// A hub in memory.
pub(crate) fn served() -> (Served, Arc<Workers>) {
    served_with(Limits::default())
}

fn served_with(limits: Limits) -> (Served, Arc<Workers>) {
    let workers = Workers::new(WorkerLimits::default());
    served_by(Arc::new(MemoryStore::new(2)), limits, workers, None)
}

/// A hub in memory whose workers have these limits.
pub(crate) fn served_to(workers: WorkerLimits) -> (Served, Arc<Workers>) {
    let store = Arc::new(MemoryStore::new(2));
    served_by(store, Limits::default(), Workers::new(workers), None)
}

/// A hub on this store, which is told of.
pub(crate) fn served_on(store: Arc<MemoryStore>, traces: Option<Arc<dyn Traces>>) -> (Served, Arc<Workers>) {
    let workers = Workers::new(WorkerLimits::default());
    served_by(store, Limits::default(), workers, traces)
}

fn served_by(
    store: Arc<MemoryStore>,
    limits: Limits,
    workers: Arc<Workers>,
    traces: Option<Arc<dyn Traces>>,
) -> (Served, Arc<Workers>) {
    let options = HubOptions {
        limits,
        traces,
        ..HubOptions::default()
    };
    served_with_options(store, workers, options)
}

/// A hub in memory, on this clock.
pub(crate) fn served_at(clock: Arc<dyn Clock>) -> (Served, Arc<Workers>) {
    let options = HubOptions {
        clock: Some(clock),
        ..HubOptions::default()
    };
    let workers = Workers::new(WorkerLimits::default());
    served_with_options(Arc::new(MemoryStore::new(2)), workers, options)
}

fn served_with_options(
    store: Arc<MemoryStore>,
    workers: Arc<Workers>,
    options: HubOptions,
) -> (Served, Arc<Workers>) {
    let executor = RemoteExecutor::new(Arc::new(Nothing::default()), workers.clone());
    let options = HubOptions {
        threads: 1,
        ..options
    };
    let hub = TaskHub::open(store, Arc::new(executor), options);
    let served = Served {
        hub: hub.expect("an empty store opens"),
        workers: workers.clone(),
    };
    (served, workers)
}

/// A worker's stream, past its first sign of life.
pub(crate) async fn connect(client: &mut Client) -> Streaming<proto::WorkItem> {
    let mut stream = connect_with(client, Vec::new()).await;
    let first = stream.next().await.expect("it lives").expect("it lives");
    assert!(matches!(
        first.request,
        Some(proto::work_item::Request::HealthPing(_))
    ));
    stream
}

/// A worker's stream, of one that says what it can do.
pub(crate) async fn connect_with(client: &mut Client, capabilities: Vec<i32>) -> Streaming<proto::WorkItem> {
    let request = proto::GetWorkItemsRequest {
        capabilities,
        ..Default::default()
    };
    let stream = client.get_work_items(request).await;
    stream.expect("it connects").into_inner()
}

/// The next turn, and its token; signs of life are passed over.
pub(crate) async fn turn(stream: &mut Streaming<proto::WorkItem>) -> (String, proto::OrchestratorRequest) {
    loop {
        let item = stream.next().await.expect("it lives").expect("it lives");
        match item.request {
            Some(proto::work_item::Request::OrchestratorRequest(request)) => {
                return (item.completion_token, request);
            }
            Some(proto::work_item::Request::HealthPing(_)) => {}
            other => panic!("{other:?} is no turn"),
        }
    }
}

pub(crate) fn named(id: &str) -> proto::CreateInstanceRequest {
    proto::CreateInstanceRequest {
        instance_id: id.to_owned(),
        name: "o".to_owned(),
        ..Default::default()
    }
}

pub(crate) fn reusing(id: &str, statuses: &[Wire]) -> proto::CreateInstanceRequest {
    let replaceable_status = statuses.iter().map(|status| i32::from(*status)).collect();
    proto::CreateInstanceRequest {
        orchestration_id_reuse_policy: Some(proto::OrchestrationIdReusePolicy {
            replaceable_status,
            ..Default::default()
        }),
        ..named(id)
    }
}

pub(crate) fn completion(id: i32, status: Wire) -> proto::OrchestratorAction {
    let complete = proto::CompleteOrchestrationAction {
        orchestration_status: status.into(),
        ..Default::default()
    };
    proto::OrchestratorAction {
        id,
        kind: Some(proto::orchestrator_action::Kind::CompleteOrchestration(complete)),
    }
}

pub(crate) fn schedule(id: i32) -> proto::OrchestratorAction {
    let task = proto::ScheduleTaskAction {
        name: "act".to_owned(),
        ..Default::default()
    };
    action(id, proto::orchestrator_action::Kind::ScheduleTask(task))
}

pub(crate) fn response(
    id: &str,
    token: &str,
    actions: Vec<proto::OrchestratorAction>,
) -> proto::OrchestratorResponse {
    proto::OrchestratorResponse {
        instance_id: id.to_owned(),
        completion_token: token.to_owned(),
        actions,
        ..Default::default()
    }
}

pub(crate) async fn state(client: &mut Client, id: &str) -> Option<proto::OrchestrationState> {
    let request = proto::GetInstanceRequest {
        instance_id: id.to_owned(),
        get_inputs_and_outputs: true,
    };
    let answer = client
        .get_instance(request)
        .await
        .expect("it answers")
        .into_inner();
    assert_eq!(answer.exists, answer.orchestration_state.is_some());
    answer.orchestration_state
}

pub(crate) fn code<T>(answer: Result<T, Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// An answer that is not the last, with these actions.
pub(crate) fn action(id: i32, kind: proto::orchestrator_action::Kind) -> proto::OrchestratorAction {
    proto::OrchestratorAction { id, kind: Some(kind) }
}

/// The next activity, entity or turn, and its token; signs of life are passed over.
pub(crate) async fn item(stream: &mut Streaming<proto::WorkItem>) -> (String, proto::work_item::Request) {
    loop {
        let item = stream.next().await.expect("it lives").expect("it lives");
        match item.request {
            Some(proto::work_item::Request::HealthPing(_)) | None => {}
            Some(request) => return (item.completion_token, request),
        }
    }
}

/// An instance once it has ended.
pub(crate) async fn ended(client: &mut Client, id: &str) -> proto::OrchestrationState {
    let request = proto::GetInstanceRequest {
        instance_id: id.to_owned(),
        get_inputs_and_outputs: true,
    };
    let answer = client
        .wait_for_instance_completion(request)
        .await
        .expect("it answers");
    answer.into_inner().orchestration_state.expect("it is there")
}

pub(crate) fn success(result: Option<&str>) -> proto::OperationResult {
    let success = proto::OperationResultSuccess {
        result: result.map(str::to_owned),
        ..Default::default()
    };
    proto::OperationResult {
        kind: Some(proto::operation_result::Kind::Success(success)),
    }
}

pub(crate) fn failure(kind: &str, message: &str) -> proto::OperationResult {
    let failure = proto::OperationResultFailure {
        failure_details: Some(proto::TaskFailureDetails {
            error_type: kind.to_owned(),
            error_message: message.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    proto::OperationResult {
        kind: Some(proto::operation_result::Kind::Failure(failure)),
    }
}
