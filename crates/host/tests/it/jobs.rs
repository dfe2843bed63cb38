//! Commands to many instances, as jobs that outlive their host.

use std::sync::Arc;

use dalsegno_core::InstanceId;
use dalsegno_core::limits::Limits;
use dalsegno_core::query::Status;
use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::HubOptions;
use dalsegno_host::server::HttpSettings;
use dalsegno_host::v1::{OperationFilter, OperationState, OperationVerb, OperationWire};
use dalsegno_host::{HubList, NewOperation, RemoteHub, Server};
use dalsegno_store_memory::MemoryStore;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::world::world_with;

/// A host that ends as hosts do, and leaves its store.
struct Host {
    hub: TaskHub,
    remote: RemoteHub,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

fn open(store: &Arc<MemoryStore>) -> TaskHub {
    let options = HubOptions {
        threads: 1,
        ..HubOptions::default()
    };
    TaskHub::open(store.clone(), Arc::new(App), options).unwrap()
}

impl Host {
    async fn start(store: &Arc<MemoryStore>, settings: HttpSettings) -> Self {
        let hub = open(store);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let remote = RemoteHub::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::new(hub.clone()).settings(settings);
        let served = tokio::spawn(server.serve(listener, async {
            let _ = stopped.await;
        }));
        Self {
            hub,
            remote,
            stop,
            served,
        }
    }

    async fn end(self) {
        let _ = self.stop.send(());
        self.served.await.unwrap().unwrap();
        self.hub.shutdown(std::time::Duration::ZERO).await;
    }

    async fn waiting(&self, count: usize) {
        for number in 0..count {
            let options = dalsegno_engine::request::StartOptions {
                name: "Wait".into(),
                id: Some(InstanceId::trusted(format!("w{number}"))),
                ..Default::default()
            };
            self.hub.start(options).await.unwrap();
        }
    }

    async fn until(&self, id: &str, wanted: impl Fn(&OperationWire) -> bool) -> OperationWire {
        loop {
            let told = self.remote.operation(id).await.unwrap();
            if wanted(&told) {
                return told;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn count(&self, status: Status) -> u64 {
        let counts = self.remote.counts().await.unwrap();
        counts.iter().find(|(one, _)| *one == status).unwrap().1
    }
}

fn order(verb: OperationVerb) -> NewOperation {
    NewOperation {
        verb,
        filter: OperationFilter {
            name: Some("Wait".into()),
            ..OperationFilter::default()
        },
        dry_run: false,
        reason: None,
        event: None,
        recursive: false,
        rate: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_rate_goes_on_after_a_restart() {
    let store = Arc::new(MemoryStore::new(2));
    let host = Host::start(&store, HttpSettings::default()).await;
    host.waiting(5).await;
    let slow = NewOperation {
        rate: Some((1, std::time::Duration::from_secs(3600))),
        ..order(OperationVerb::Suspend)
    };
    let id = host.remote.begin_operation(slow).await.unwrap().id;
    // The second has to wait for an hour.
    host.until(&id, |told| told.applied == 1).await;
    assert_eq!(host.count(Status::Suspended).await, 1);
    host.end().await;

    // A host that only shows does not go on with it, nor does it lose it.
    let settings = HttpSettings {
        is_read_only: true,
        ..HttpSettings::default()
    };
    let store = Arc::new(store.reopen());
    let host = Host::start(&store, settings).await;
    assert_eq!(host.count(Status::Suspended).await, 1);
    host.end().await;

    let store = Arc::new(store.reopen());
    let host = Host::start(&store, HttpSettings::default()).await;
    let told = host.until_there(&id).await;
    assert_eq!((told.state, told.rate.is_some()), (OperationState::Running, true));
    // A pace begins anew.
    let told = host.until(&id, |told| told.applied == 2).await;
    assert_eq!(told.examples.len(), 2, "{told:?}");
    assert_eq!(host.count(Status::Suspended).await, 2);
    host.remote.cancel_operation(&id).await.unwrap();
    let told = host
        .until(&id, |told| told.state != OperationState::Running)
        .await;
    assert_eq!(told.state, OperationState::Canceled);
    host.end().await;

    // What has ended is told of, and does not begin again.
    let store = Arc::new(store.reopen());
    let host = Host::start(&store, HttpSettings::default()).await;
    let told = host.until_there(&id).await;
    assert_eq!((told.state, told.applied), (OperationState::Canceled, 2));
    let all = host.remote.operations().await.unwrap();
    assert_eq!(all.len(), 1);
    host.end().await;
}

impl Host {
    /// Jobs are taken up behind the first answers.
    async fn until_there(&self, id: &str) -> OperationWire {
        loop {
            if let Ok(told) = self.remote.operation(id).await {
                return told;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// The process may die after the commands of a page and before that is stored.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_did_before_its_host_died_is_not_done_twice() {
    let store = Arc::new(MemoryStore::new(2));
    let host = Host::start(&store, HttpSettings::default()).await;
    host.waiting(3).await;
    let raise = NewOperation {
        event: Some(("other".into(), None)),
        ..order(OperationVerb::Raise)
    };
    let raised = host.remote.begin_operation(raise).await.unwrap().id;
    host.until(&raised, |told| told.state == OperationState::Done)
        .await;
    host.remote
        .terminate(&InstanceId::trusted("w0"), None, Default::default())
        .await
        .unwrap();
    host.remote
        .wait_for_completion(&InstanceId::trusted("w0"), None)
        .await
        .unwrap();
    let restarted = host
        .remote
        .begin_operation(order(OperationVerb::Restart))
        .await
        .unwrap()
        .id;
    host.until(&restarted, |told| told.state == OperationState::Done)
        .await;
    for id in [&raised, &restarted] {
        let name = format!("operation/{id}");
        let stored = String::from_utf8(host.hub.meta(&name).await.unwrap().unwrap()).unwrap();
        assert!(stored.contains("\"state\":\"done\""), "{stored}");
        let undone = stored.replace("\"state\":\"done\"", "\"state\":\"running\"");
        host.hub.set_meta(&name, Some(undone.into_bytes())).await.unwrap();
    }
    let instances = host.remote.list(Default::default()).await.unwrap().rows.len();
    host.end().await;

    let store = Arc::new(store.reopen());
    let host = Host::start(&store, HttpSettings::default()).await;
    for id in [&raised, &restarted] {
        host.until_there(id).await;
        let told = host.until(id, |told| told.state != OperationState::Running).await;
        assert_eq!((told.state, told.failed), (OperationState::Done, 0), "{told:?}");
        assert!(told.applied > 1, "it was met again: {told:?}");
    }
    assert_eq!(
        host.remote.list(Default::default()).await.unwrap().rows.len(),
        instances
    );
    let history = host.remote.history(&InstanceId::trusted("w1")).await.unwrap();
    let events = history
        .iter()
        .filter(|event| format!("{event:?}").contains("EventRaised"));
    assert_eq!(events.count(), 1, "{history:?}");
    host.end().await;
}

/// Waits until the store holds an append with this text.
async fn held(store: &Arc<MemoryStore>) {
    let store = store.clone();
    tokio::task::spawn_blocking(move || store.wait_until_held())
        .await
        .unwrap();
}

/// A job was shown as done before that was stored: after a crash it ran again.
#[tokio::test(flavor = "multi_thread")]
async fn no_response_shows_of_a_job_what_a_crash_takes_back() {
    let store = Arc::new(MemoryStore::new(2));
    let host = Host::start(&store, HttpSettings::default()).await;
    host.waiting(3).await;

    store.hold("\"state\":\"running\"");
    let remote = host.remote.clone();
    let begun = tokio::spawn(async move { remote.begin_operation(order(OperationVerb::Suspend)).await });
    held(&store).await;
    assert_eq!(
        host.remote.operations().await.unwrap().len(),
        0,
        "it may never be"
    );
    store.hold("\"state\":\"done\"");
    let id = begun.await.unwrap().unwrap().id;
    held(&store).await;
    let told = host.remote.operation(&id).await.unwrap();
    assert_eq!(
        (told.state, told.applied, told.ended),
        (OperationState::Running, 0, None)
    );
    let listed = host.remote.operations().await.unwrap();
    assert_eq!(
        listed.first().map(|told| told.state),
        Some(OperationState::Running)
    );

    // What a crash leaves behind at this moment continues, as was shown.
    let crashed = Arc::new(store.fork());
    let after = Host::start(&crashed, HttpSettings::default()).await;
    after.until_there(&id).await;
    after.until(&id, |told| told.state == OperationState::Done).await;
    after.end().await;
    store.release();
    let told = host.until(&id, |told| told.state == OperationState::Done).await;
    assert_eq!(told.applied, 3);
    host.end().await;
}

/// A job that was cancelled continued after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_does_not_continue_after_a_crash() {
    let store = Arc::new(MemoryStore::new(2));
    let host = Host::start(&store, HttpSettings::default()).await;
    host.waiting(3).await;
    let slow = NewOperation {
        rate: Some((1, std::time::Duration::from_secs(3600))),
        ..order(OperationVerb::Suspend)
    };
    let id = host.remote.begin_operation(slow).await.unwrap().id;
    host.until(&id, |told| told.applied == 1).await;
    store.hold("\"state\":\"canceled\"");
    host.remote.cancel_operation(&id).await.unwrap();
    held(&store).await;
    let crashed = Arc::new(store.fork());
    let after = Host::start(&crashed, HttpSettings::default()).await;
    after.until_there(&id).await;
    let told = after
        .until(&id, |told| told.state != OperationState::Running)
        .await;
    assert_eq!((told.state, told.applied), (OperationState::Canceled, 1));
    assert_eq!(after.count(Status::Suspended).await, 1);
    after.end().await;
    store.release();
    let told = host
        .until(&id, |told| told.state != OperationState::Running)
        .await;
    assert_eq!(told.state, OperationState::Canceled);
    host.end().await;
}

/// Jobs went to the host's own hub, whichever was named.
#[tokio::test]
async fn a_job_is_of_the_hub_that_is_named() {
    let orders = {
        let options = HubOptions {
            name: "orders".into(),
            threads: 1,
            ..HubOptions::default()
        };
        TaskHub::open(Arc::new(MemoryStore::new(2)), Arc::new(App), options).unwrap()
    };
    let main = open(&Arc::new(MemoryStore::new(2)));
    let list = HubList::new(main.clone());
    let world = world_with(Limits::default(), |server| server.hubs(list.clone())).await;
    list.insert(orders.clone());
    let there = world.remote().hub("orders");
    let id = InstanceId::trusted("w");
    for hub in [&main, &orders] {
        let options = dalsegno_engine::request::StartOptions {
            name: "Wait".into(),
            id: Some(id.clone()),
            ..Default::default()
        };
        hub.start(options).await.unwrap();
    }
    let begun = there
        .begin_operation(order(OperationVerb::Terminate))
        .await
        .unwrap();
    orders.wait_for_completion(&id, None).await.unwrap();
    let status = main.status(&id).await.unwrap().unwrap().row.status;
    assert!(!status.is_final(), "{status:?}");
    assert!(there.operation(&begun.id).await.is_ok());
    assert!(world.remote().operation(&begun.id).await.is_err());
    let refused = NewOperation {
        rate: Some((0, std::time::Duration::from_secs(1))),
        ..order(OperationVerb::Resume)
    };
    assert_eq!(
        there.begin_operation(refused).await.unwrap_err().code,
        "out_of_range"
    );
}

/// Four of one hub were all that the host ran.
#[tokio::test]
async fn the_operations_of_one_hub_do_not_hold_up_those_of_another() {
    let hub_named = |name: &str| {
        let options = HubOptions {
            name: name.into(),
            threads: 1,
            ..HubOptions::default()
        };
        TaskHub::open(Arc::new(MemoryStore::new(2)), Arc::new(App), options).unwrap()
    };
    let (main, orders) = (open(&Arc::new(MemoryStore::new(2))), hub_named("orders"));
    let list = HubList::new(main.clone());
    list.insert(orders.clone());
    let world = world_with(Limits::default(), |server| server.hubs(list)).await;
    let there = world.remote().hub("orders");
    for hub in [&main, &orders] {
        for number in 0..12 {
            let options = dalsegno_engine::request::StartOptions {
                name: "Wait".into(),
                id: Some(InstanceId::trusted(format!("w{number}"))),
                ..Default::default()
            };
            hub.start(options).await.unwrap();
        }
    }
    // The second instance of each has to wait for an hour.
    let endless = || NewOperation {
        rate: Some((1, std::time::Duration::from_secs(3600))),
        ..order(OperationVerb::Suspend)
    };
    for _ in 0..4 {
        there.begin_operation(endless()).await.unwrap();
    }
    let fifth = there.begin_operation(endless()).await.unwrap_err();
    assert_eq!(fifth.code, "busy");
    assert!(fifth.detail.contains("orders"), "{fifth:?}");
    assert!(world.remote().begin_operation(endless()).await.is_ok());
}
