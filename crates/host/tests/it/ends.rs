//! Hubs that are dropped without a goodbye.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::InstanceId;
use dalsegno_engine::request::{RequestErrorKind, StartOptions};
use dalsegno_engine::{HubOptions, TaskHub};
use dalsegno_store_memory::MemoryStore;

use crate::app::App;

/// Long enough for anything that happens at all.
const SOON: Duration = Duration::from_secs(20);

fn options(id: &str) -> StartOptions {
    StartOptions {
        name: "Wait".into(),
        id: Some(InstanceId::trusted(id)),
        ..StartOptions::default()
    }
}

/// Until nobody else holds these.
async fn let_go(store: &Arc<MemoryStore>, code: &Arc<App>) {
    let alone = async {
        while Arc::strong_count(store) > 1 || Arc::strong_count(code) > 1 {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(SOON, alone).await;
    ended.expect("every thread lets go of the store and of the code");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_dropped_ends_its_threads_and_what_was_acknowledged_stays() {
    let store = Arc::new(MemoryStore::new(4));
    let code = Arc::new(App);
    let hub = TaskHub::open(store.clone(), code.clone(), HubOptions::default()).unwrap();
    hub.start(options("a")).await.unwrap();
    let id = InstanceId::trusted("a");
    drop(hub);
    let_go(&store, &code).await;

    let store = Arc::new(store.reopen());
    let hub = TaskHub::open(store.clone(), code.clone(), HubOptions::default()).unwrap();
    assert!(hub.status(&id).await.unwrap().is_some());
    let waits = {
        let (hub, id) = (hub.clone(), id.clone());
        tokio::spawn(async move { hub.wait_for_completion(&id, None).await })
    };
    hub.abandon();
    let waited = tokio::time::timeout(SOON, waits)
        .await
        .expect("nobody waits for ever");
    assert_eq!(waited.unwrap().unwrap_err().kind, RequestErrorKind::Unavailable);
    let late = hub.status(&id).await.unwrap_err();
    assert_eq!(late.kind, RequestErrorKind::Unavailable);
    hub.abandon();
    drop(hub);
    let_go(&store, &code).await;
}
