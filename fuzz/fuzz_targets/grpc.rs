//! Any bytes at any call of the gRPC service: `cargo +nightly fuzz run grpc`.
//!
//! The first byte names the call, the rest is its message. What `tests/it/door.rs` of the crate
//! checks with changed good messages on every build is looked for here without an end.

#![no_main]

use std::cell::LazyCell;
use std::sync::Arc;

use dalsegno_engine::{HubOptions, TaskHub};
use dalsegno_grpc::executor::RemoteExecutor;
use dalsegno_grpc::proto::GetWorkItemsRequest;
use dalsegno_grpc::proto::task_hub_sidecar_service_client::TaskHubSidecarServiceClient;
use dalsegno_grpc::service::{OneHub, Served, Sidecar};
use dalsegno_grpc::tonic::Code;
use dalsegno_grpc::workers::{WorkerLimits, Workers};
use dalsegno_store_memory::MemoryStore;
use knock::{CALLS, Door};
use libfuzzer_sys::fuzz_target;
use nothing::Nothing;
use tokio::runtime::{Builder, Runtime};

#[path = "../../crates/grpc/tests/it/door/knock.rs"]
mod knock;
#[path = "../../crates/grpc/tests/it/world/nothing.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod nothing;

/// A hub in memory with a worker that takes everything and answers nothing: its work is in flight,
/// so an answer without a token, which names the instance only, reaches it.
struct House {
    runtime: Runtime,
    door: Door,
}

impl House {
    fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let inside = runtime.enter();
        let workers = Workers::new(WorkerLimits::default());
        let executor = RemoteExecutor::new(Arc::new(Nothing::default()), workers.clone());
        let options = HubOptions {
            threads: 1,
            ..HubOptions::default()
        };
        let hub = TaskHub::open(Arc::new(MemoryStore::new(2)), Arc::new(executor), options);
        let served = Served {
            hub: hub.expect("an empty store opens"),
            workers,
        };
        let hubs = Arc::new(OneHub::new(served));
        let service = Sidecar::service(hubs.clone(), 64 * 1024);
        let mut client = TaskHubSidecarServiceClient::new(service);
        drop(inside);
        let stream = runtime.block_on(client.get_work_items(GetWorkItemsRequest::default()));
        let mut stream = stream.expect("it connects").into_inner();
        runtime.spawn(async move { while let Ok(Some(_)) = stream.message().await {} });
        Self {
            runtime,
            door: Door::new(hubs),
        }
    }
}

thread_local! {
    static HOUSE: LazyCell<House> = const { LazyCell::new(House::new) };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((call, message)) = bytes.split_first() else {
        return;
    };
    let call = CALLS[usize::from(*call) % CALLS.len()];
    HOUSE.with(|house| {
        let answer = house.runtime.block_on(house.door.knock(call, message));
        if let Some((code, text)) = answer {
            assert!(
                !matches!(code, Code::Unknown | Code::Internal),
                "{call}: {code:?} {text}"
            );
        }
    });
});
