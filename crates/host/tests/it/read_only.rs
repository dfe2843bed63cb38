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

/// The calls of the protocol.
fn calls() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../grpc/proto/durabletask.proto");
    let protocol = std::fs::read_to_string(path).unwrap();
    let calls = protocol.lines().filter_map(|line| {
        let call = line.trim().strip_prefix("rpc ")?;
        call.split('(').next().map(|call| call.trim().to_owned())
    });
    calls.collect()
}

#[tokio::test]
async fn what_would_change_the_hub_is_refused_over_grpc_too() {
    let (open, shows) = (world(false).await, world(true).await);
    let (passing, refused): (Vec<_>, Vec<_>) = calls()
        .into_iter()
        .partition(|call| PASS.contains(&call.as_str()));
    assert_eq!(passing.len(), PASS.len(), "{passing:?}");
    assert!(refused.len() >= 13, "{refused:?}");
    for call in passing {
        assert_eq!(code(&shows, &call).await.0, "0", "{call}");
    }
    for call in refused {
        assert_eq!(code(&open, &call).await.0, "0", "{call}");
        let (status, message) = code(&shows, &call).await;
        assert_eq!(status, PERMISSION_DENIED, "{call}");
        assert!(message.contains("read%5Fonly"), "{call}: {message}");
    }
    assert_eq!(code(&shows, "Nonsense").await.0, PERMISSION_DENIED);
}
