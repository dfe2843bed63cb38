//! Several hubs behind one host.

use std::sync::Arc;

use dalsegno_core::InstanceId;
use dalsegno_core::limits::Limits;
use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::HubOptions;
use dalsegno_host::HubList;
use dalsegno_store_memory::MemoryStore;

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
        assert!(reply.body.contains("it has default, orders"), "{reply:?}");
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
