//! Answers on one stream, and by calls where there is none.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use dalsegno_grpc::proto;
use dalsegno_grpc::proto::OrchestrationStatus as Wire;
use dalsegno_grpc::proto::task_hub_worker_service_client::TaskHubWorkerServiceClient;
use dalsegno_grpc::proto::work_answer::Answer;
use dalsegno_grpc::service::{Hubs, OneHub, Sidecar, router};
use dalsegno_grpc::tonic::{Code, IntoRequest};
use dalsegno_grpc::worker::{Offers, Worker, WorkerSettings};
use futures::{SinkExt, StreamExt, channel::mpsc};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use crate::world::{Client, Nothing, client_of, completion, named, response, schedule, served, turn};

const MESSAGE_BYTES: usize = 1024 * 1024;

#[tokio::test]
async fn answers_on_one_stream_come_out_as_calls_do() {
    let (served, _workers) = served();
    let hubs: Arc<dyn Hubs> = Arc::new(OneHub::new(served.clone()));
    let mut client = client_of(served);
    let mut stream = client
        .get_work_items(proto::GetWorkItemsRequest::default())
        .await
        .expect("it connects")
        .into_inner();
    let (mut answers, sent) = mpsc::unbounded();
    let service = Sidecar::answers(hubs, MESSAGE_BYTES);
    let mut answering = TaskHubWorkerServiceClient::new(service);
    let outcomes = answering.answer_work_items(sent).await;
    let mut outcomes = outcomes.expect("there is such a stream").into_inner();
    client.start_instance(named("a")).await.expect("it starts");
    let (token, _) = turn(&mut stream).await;
    let twice = vec![completion(1, Wire::Completed), completion(2, Wire::Completed)];
    let given = [
        (None, Code::InvalidArgument),
        (
            Some(Answer::Turn(response("a", "1.1.00", Vec::new()))),
            Code::NotFound,
        ),
        (
            Some(Answer::Activity(proto::ActivityResponse {
                completion_token: "nonsense".to_owned(),
                ..Default::default()
            })),
            Code::NotFound,
        ),
        (
            Some(Answer::Entity(proto::EntityBatchResult {
                completion_token: "nonsense".to_owned(),
                ..Default::default()
            })),
            Code::NotFound,
        ),
        (
            Some(Answer::Turn(response("a", &token, twice))),
            Code::InvalidArgument,
        ),
        // It was refused, so that token is no longer good.
        (Some(Answer::Turn(response("a", &token, Vec::new()))), Code::Ok),
    ];
    for (number, (answer, code)) in (7..).zip(given) {
        let answer = proto::WorkAnswer { number, answer };
        answers.send(answer).await.expect("it listens");
        let outcome = outcomes.next().await.expect("it answers").expect("it answers");
        assert_eq!((outcome.number, Code::from(outcome.code)), (number, code));
        assert_eq!(outcome.message.is_empty(), code == Code::Ok, "{outcome:?}");
    }
    drop(answers);
    assert!(outcomes.next().await.is_none(), "who gives no more hears no more");
}

/// A server on a port of its own that keeps the paths of what it is asked.
async fn serve(routes: axum::Router) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let kept = asked.clone();
    let routes = routes.layer(axum::middleware::map_request(move |request: Request| {
        kept.lock()
            .expect("nobody panics")
            .push(request.uri().path().to_owned());
        std::future::ready(request)
    }));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(routes.clone());
            tokio::spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                // A worker that goes away ends it.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, asked)
}

/// Runs one activity at a worker on that server.
async fn run_one(mut client: Client, address: SocketAddr) {
    let executor = Nothing::with_activity("act");
    let ran: Arc<AtomicUsize> = executor.ran.clone();
    let offers = Offers {
        activities: vec!["act".into()],
        ..Offers::default()
    };
    let settings = WorkerSettings::new(format!("http://{address}"), "default");
    let worker = Worker::start(Arc::new(executor), offers, settings).expect("the settings are good");
    worker.connected().await;
    let filters = proto::WorkItemFilters {
        orchestrations: vec![proto::OrchestrationFilter {
            name: "o".to_owned(),
            versions: Vec::new(),
        }],
        ..Default::default()
    };
    let request = proto::GetWorkItemsRequest {
        work_item_filters: Some(filters),
        ..Default::default()
    };
    let stream = client.get_work_items(request.into_request()).await;
    let mut stream = stream.expect("it connects").into_inner();
    client.start_instance(named("a")).await.expect("it starts");
    let (token, _) = turn(&mut stream).await;
    let asked = response("a", &token, vec![schedule(1)]);
    client
        .complete_orchestrator_task(asked)
        .await
        .expect("it is taken");
    let (_, request) = turn(&mut stream).await;
    assert_eq!(request.new_events.len(), 2, "it is completed");
    assert_eq!(ran.load(Ordering::SeqCst), 1);
    let left = worker.drain(Duration::from_secs(20)).await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_worker_answers_on_the_stream_or_by_calls_where_there_is_none() {
    for has_stream in [true, false] {
        let (served, _workers) = served();
        let hubs: Arc<dyn Hubs> = Arc::new(OneHub::new(served.clone()));
        let routes = match has_stream {
            true => router(hubs, MESSAGE_BYTES),
            false => axum::Router::new().route_service(
                "/TaskHubSidecarService/{call}",
                Sidecar::service(hubs, MESSAGE_BYTES),
            ),
        };
        let (address, asked) = serve(routes).await;
        run_one(client_of(served), address).await;
        let asked = asked.lock().expect("nobody panics").clone();
        let calls = asked.iter().filter(|path| path.ends_with("CompleteActivityTask"));
        assert_eq!(calls.count(), usize::from(!has_stream), "{asked:?}");
    }
}
