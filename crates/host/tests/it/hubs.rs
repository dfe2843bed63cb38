//! Several hubs behind one host.

use std::sync::Arc;

use dalsegno_core::InstanceId;
use dalsegno_core::limits::Limits;
use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::HubOptions;
use dalsegno_engine::request::StartOptions;
use dalsegno_host::{Created, HubKeeper, HubList, HubRefusal, unknown_hub};
use dalsegno_store_memory::MemoryStore;
use futures::future::BoxFuture;

use crate::app::App;
use crate::world::{P, World, world_with};

const OURS: &str = "/runtime/dalsegno/v1";

fn open(name: &str) -> TaskHub {
    let options = HubOptions {
        name: name.into(),
        threads: 1,
        ..HubOptions::default()
    };
    TaskHub::open(Arc::new(MemoryStore::new(2)), Arc::new(App), options).unwrap()
}

async fn world() -> (World, TaskHub) {
    let orders = open("orders");
    let list = HubList::new(open("default"));
    list.insert(orders.clone());
    let world = world_with(Limits::default(), |server| server.hubs(list)).await;
    (world, orders)
}

#[tokio::test]
async fn a_query_reaches_the_hub_that_it_names_in_both_apis() {
    let (world, orders) = world().await;
    let id = InstanceId::parse("w").unwrap();
    let started = world
        .post(&format!("{P}/orchestrators/Wait/w?taskHub=orders"), "")
        .await;
    assert_eq!(started.status, 202, "{started:?}");
    assert!(started.body.contains("taskHub=orders&connection"), "{started:?}");
    assert!(orders.status(&id).await.unwrap().is_some());
    for (path, status) in [
        (format!("{P}/instances/w"), 404),
        (format!("{P}/instances/w?taskHub=default"), 404),
        (format!("{P}/instances/w?taskHub="), 404),
        (format!("{P}/instances/w?taskhub=ORDERS"), 202),
        (format!("{OURS}/instances/w"), 404),
        (format!("{OURS}/instances/w?hub=orders"), 200),
        (format!("{OURS}/instances/w?taskHub=orders"), 200),
    ] {
        assert_eq!(world.get(&path).await.status, status, "{path}");
    }
    let raised = world
        .post(&format!("{P}/instances/w/raiseEvent/go?taskHub=orders"), "7")
        .await;
    assert_eq!(raised.status, 202, "{raised:?}");
    orders.wait_for_completion(&id, None).await.unwrap();
    let purged = world.delete(&format!("{P}/instances/w?taskHub=orders")).await;
    assert_eq!(purged.status, 200, "{purged:?}");
}

#[tokio::test]
async fn a_hub_that_is_not_here_is_refused_with_those_that_are() {
    let (world, _orders) = world().await;
    for path in [
        format!("{P}/instances?taskHub=order"),
        format!("{OURS}/instances?hub=order"),
    ] {
        let reply = world.get(&path).await;
        assert_eq!(
            (reply.status, reply.code()),
            (400, "unknown_hub".into()),
            "{path}"
        );
        assert!(reply.body.contains("only default, orders"), "{reply:?}");
    }
    let names = world.get(&format!("{OURS}/hubs")).await;
    assert_eq!(names.body, r#"["default","orders"]"#);
    assert_eq!(world.remote().hubs().await.unwrap(), ["default", "orders"]);
    let there = world.remote().hub("orders");
    assert_eq!(there.info().await.unwrap().name, "orders");
    assert_eq!(there.status(&InstanceId::trusted("w")).await.unwrap(), None);
}

#[tokio::test]
async fn two_hubs_whose_names_differ_in_case_are_two_hubs() {
    let list = HubList::new(open("default")).alias("elsewhere");
    list.insert(open("Orders"));
    let name = |wanted: &str| list.find(wanted).map(|hub| hub.name().to_owned());
    assert_eq!(name("orders").as_deref(), Some("Orders"));
    assert_eq!(name("elsewhere").as_deref(), Some("default"));
    list.insert(open("orders"));
    assert_eq!(name("orders").as_deref(), Some("orders"));
    assert_eq!(name("ORDERS"), None);
}

/// Keeps hubs in memory.
#[derive(Debug)]
struct Keeper(HubList);

impl HubKeeper for Keeper {
    fn create(&self, name: &str) -> BoxFuture<'_, Result<Created, HubRefusal>> {
        let name = name.to_owned();
        Box::pin(async move {
            if name == "bad" {
                return Err(HubRefusal::InvalidName("bad".into()));
            }
            if name == "full" {
                return Err(HubRefusal::TooMany("full".into()));
            }
            if self.0.find(&name).is_some() {
                return Ok(Created::Known);
            }
            self.0.insert(open(&name));
            Ok(Created::New)
        })
    }

    fn delete(&self, name: &str) -> BoxFuture<'_, Result<(), HubRefusal>> {
        let name = name.to_owned();
        Box::pin(async move {
            if name == "default" {
                return Err(HubRefusal::Fixed("the host's own".into()));
            }
            let Some(hub) = self.0.find(&name) else {
                return Err(HubRefusal::Unknown(unknown_hub(&name, &self.0.names())));
            };
            self.0.remove(&name);
            hub.retire("it was deleted").await;
            Ok(())
        })
    }
}

#[tokio::test]
async fn hubs_are_made_and_deleted_by_request() {
    let list = HubList::new(open("default"));
    let keeper = Arc::new(Keeper(list.clone()));
    let world = world_with(Limits::default(), |server| {
        server.hubs(list.clone()).keeper(keeper)
    })
    .await;
    for (method, path, status, code) in [
        ("PUT", "hubs/orders", 201, ""),
        ("PUT", "hubs/orders", 200, ""),
        ("PUT", "hubs/bad", 400, "invalid_hub_name"),
        ("PUT", "hubs/full", 409, "too_many_hubs"),
        ("GET", "hubs/orders/stats", 200, ""),
        ("GET", "hubs/order/stats", 404, "unknown_hub"),
        ("GET", "hubs/orders/backup", 409, "not_on_disk"),
        ("GET", "hubs/order/backup", 404, "unknown_hub"),
        ("DELETE", "hubs/orders", 400, "missing_parameter"),
        ("DELETE", "hubs/orders?confirm=order", 400, "invalid_parameter"),
        ("DELETE", "hubs/default?confirm=default", 409, "hub_is_fixed"),
        ("DELETE", "hubs/orders?confirm=orders", 204, ""),
        ("DELETE", "hubs/orders?confirm=orders", 404, "unknown_hub"),
    ] {
        let reply = world.send(method, &format!("{OURS}/{path}"), &[], b"").await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{method} {path} {reply:?}"
        );
    }
    let unkept = world_with(Limits::default(), |server| server).await;
    for (method, path) in [("PUT", "hubs/x"), ("DELETE", "hubs/x?confirm=x")] {
        let reply = unkept.send(method, &format!("{OURS}/{path}"), &[], b"").await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (409, "hub_is_fixed"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn jobs_of_a_hub_that_is_deleted_are_not_those_of_the_next_of_its_name() {
    let list = HubList::new(open("default"));
    let keeper = Arc::new(Keeper(list.clone()));
    let world = world_with(Limits::default(), |server| {
        server.hubs(list.clone()).keeper(keeper)
    })
    .await;
    let jobs = format!("{OURS}/operations?hub=orders");
    // As many as may run at once, each between two instances for an hour.
    let slow =
        br#"{"verb": "suspend", "where": {"name": "Wait"}, "rate": {"count": 1, "periodMs": 3600000}}"#;
    for _ in 0..2 {
        let made = world.send("PUT", &format!("{OURS}/hubs/orders"), &[], b"").await;
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(world.get(&jobs).await.body, "[]");
        let orders = list.find("orders").unwrap();
        for number in 0..8 {
            let start = StartOptions {
                name: "Wait".into(),
                id: Some(InstanceId::trusted(format!("w{number}"))),
                ..StartOptions::default()
            };
            orders.start(start).await.unwrap();
        }
        for _ in 0..4 {
            let begun = world.send("POST", &jobs, &[], slow).await;
            assert_eq!(begun.status, 202, "{begun:?}");
        }
        let one_more = world.send("POST", &jobs, &[], slow).await;
        assert_eq!((one_more.status, one_more.code()), (429, "busy".into()));
        let path = format!("{OURS}/hubs/orders?confirm=orders");
        let deleted = world.send("DELETE", &path, &[], b"").await;
        assert_eq!(deleted.status, 204, "{deleted:?}");
    }
}

#[tokio::test]
async fn waits_and_streams_of_a_hub_that_is_deleted_end_and_say_why() {
    let list = HubList::new(open("default"));
    let keeper = Arc::new(Keeper(list.clone()));
    let world = world_with(Limits::default(), |server| {
        server.hubs(list.clone()).keeper(keeper)
    })
    .await;
    let orders = open("orders");
    list.insert(orders.clone());
    let start = StartOptions {
        name: "Wait".into(),
        id: Some(InstanceId::parse("w").unwrap()),
        ..StartOptions::default()
    };
    orders.start(start).await.unwrap();
    let wait = format!("{OURS}/instances/w/wait?hub=orders");
    let (instance, all) = (
        format!("{OURS}/instances/w/stream?hub=orders"),
        format!("{OURS}/stream?hub=orders"),
    );
    let delete = async {
        while orders.measure().await.is_ok_and(|measure| measure.waiters < 2) {
            tokio::task::yield_now().await;
        }
        world.delete(&format!("{OURS}/hubs/orders?confirm=orders")).await
    };
    let (waited, instance, all, deleted) =
        tokio::join!(world.get(&wait), world.get(&instance), world.get(&all), delete);
    assert_eq!(deleted.status, 204, "{deleted:?}");
    assert_eq!(
        (waited.status, waited.code().as_str()),
        (404, "not_found"),
        "{waited:?}"
    );
    assert!(waited.body.contains("it was deleted"), "{waited:?}");
    for stream in [instance, all] {
        assert!(stream.body.contains("event: problem"), "{stream:?}");
        assert!(stream.body.contains("it was deleted"), "{stream:?}");
    }
}
