//! A host that only shows: what gRPC may do there.

use axum::Router;
use axum::http::HeaderMap;
use dalsegno_core::limits::Limits;
use dalsegno_host::server::HttpSettings;

use crate::world::{World, world_with};

/// Looks, and what workers do to go on with what there is.
const PASS: [&str; 17] = [
    "Hello",
    "GetInstance",
    "WaitForInstanceStart",
    "WaitForInstanceCompletion",
    "QueryInstances",
    "ListInstanceIds",
    "StreamInstanceHistory",
    "GetEntity",
    "QueryEntities",
    "GetWorkItems",
    "AnswerWorkItems",
    "CompleteOrchestratorTask",
    "CompleteActivityTask",
    "CompleteEntityTask",
    "AbandonTaskOrchestratorWorkItem",
    "AbandonTaskActivityWorkItem",
    "AbandonTaskEntityWorkItem",
];

/// What would change the hub.
const REFUSED: [&str; 13] = [
    "StartInstance",
    "RaiseEvent",
    "TerminateInstance",
    "SuspendInstance",
    "ResumeInstance",
    "RestartInstance",
    "RewindInstance",
    "SkipGracefulOrchestrationTerminations",
    "PurgeInstances",
    "SignalEntity",
    "CleanEntityStorage",
    "CreateTaskHub",
    "DeleteTaskHub",
];

const PERMISSION_DENIED: &str = "7";

/// A host with a service that takes whatever gets through the door.
async fn world(is_read_only: bool) -> World {
    let service = Router::new().fallback(async || {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", "0".parse().unwrap());
        headers
    });
    let settings = HttpSettings {
        is_read_only,
        ..HttpSettings::default()
    };
    world_with(Limits::default(), |server| {
        server.settings(settings).grpc(service)
    })
    .await
}

async fn code(world: &World, call: &str) -> (String, String) {
    let path = format!("/TaskHubSidecarService/{call}");
    let headers = [("content-type", "application/grpc")];
    let reply = world.send("POST", &path, &headers, b"").await;
    let header = |name| reply.header(name).unwrap_or_default().to_owned();
    (header("grpc-status"), header("grpc-message"))
}

#[tokio::test]
async fn what_would_change_the_hub_is_refused_over_grpc_too() {
    let (open, shows) = (world(false).await, world(true).await);
    for call in PASS {
        assert_eq!(code(&shows, call).await.0, "0", "{call}");
    }
    for call in REFUSED {
        assert_eq!(code(&open, call).await.0, "0", "{call}");
        let (status, message) = code(&shows, call).await;
        assert_eq!(status, PERMISSION_DENIED, "{call}");
        assert!(message.contains("read%5Fonly"), "{call}: {message}");
    }
    assert_eq!(code(&shows, "Nonsense").await.0, PERMISSION_DENIED);
}

#[test]
fn every_call_of_the_protocol_is_one_or_the_other() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../grpc/proto/durabletask.proto");
    let protocol = std::fs::read_to_string(path).unwrap();
    let calls = protocol.lines().filter_map(|line| {
        let call = line.trim().strip_prefix("rpc ")?;
        call.split('(').next().map(str::trim)
    });
    let mut seen = 0;
    for call in calls {
        assert!(PASS.contains(&call) != REFUSED.contains(&call), "{call}");
        seen += 1;
    }
    assert!(seen >= 30, "{seen} calls");
}
