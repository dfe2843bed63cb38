//! Locks of entities whose holder is gone.

use dalsegno_core::message::Caller;
use dalsegno_core::store::{Commit, EntityRow, Op, Store};
use dalsegno_core::{EntityId, ExecutionKey, InstanceId, PartitionId, TaskId};
use dalsegno_engine::record;
use dalsegno_engine::request::{LivingHolder, RequestErrorKind};
use dalsegno_store_memory::MemoryStore;

use crate::world::{World, world_on};

/// A hub with an entity that an instance has locked, as a store may tell after a loss.
async fn world(holder: &str, execution: u64) -> (World, EntityId) {
    let store = MemoryStore::new(2);
    let id = EntityId::new("counter", "a").unwrap();
    let partition = PartitionId::of(&id.to_string(), 2);
    let caller = Caller {
        instance: InstanceId::trusted(holder),
        execution: ExecutionKey(execution),
        task: TaskId(0),
    };
    let row = EntityRow {
        queue: record::encode_holder(Some(&caller), 0),
        state: Some("5".into()),
        ..EntityRow::vacant(id.clone(), partition)
    };
    let commit = Commit {
        partition,
        epoch: store.load_hub().unwrap().epoch,
        ops: vec![Op::PutEntity(Box::new(row))],
    };
    store.append(&mut vec![commit]).unwrap();
    (
        world_on(store.reopen(), Default::default(), |server| server).await,
        id,
    )
}

#[tokio::test]
async fn an_entity_is_freed_of_a_holder_that_is_gone() {
    let (world, id) = world("gone", 7).await;
    let remote = world.remote();
    let told = remote.entity_told(&id).await.unwrap().unwrap();
    assert_eq!(told.lock_holder.as_deref(), Some("gone"));
    // What is asked of it waits for the lock.
    let signal = dalsegno_engine::request::Signal::new("add", Some("1".into()));
    remote.signal_entity(&id, signal).await.unwrap();
    let other = InstanceId::trusted("other");
    let refused = remote
        .unlock_entity(&id, &other, LivingHolder::Loses)
        .await
        .unwrap_err();
    assert_eq!(
        refused.detail,
        "entity @counter@a is locked by instance gone, not by other"
    );
    let holder = InstanceId::trusted("gone");
    remote
        .unlock_entity(&id, &holder, LivingHolder::Keeps)
        .await
        .unwrap();
    while world.hub.entity(&id).await.unwrap().unwrap().state != Some("6".into()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(remote.entity_told(&id).await.unwrap().unwrap().lock_holder, None);
    let refused = remote
        .unlock_entity(&id, &holder, LivingHolder::Keeps)
        .await
        .unwrap_err();
    assert_eq!(
        (refused.kind, refused.detail.as_str()),
        (RequestErrorKind::WrongState, "entity @counter@a is not locked")
    );
}

#[tokio::test]
async fn a_holder_that_lives_keeps_its_lock_unless_it_is_taken_by_force() {
    // The first execution of a hub has the first key; one that follows it is another.
    let keys = async |world: &World| {
        let id = world.running("Wait", "lives", "").await;
        world.hub.status(&id).await.unwrap().unwrap().row.key
    };
    let (probe, _) = self::world("nobody", 0).await;
    let key = keys(&probe).await;
    let (world, id) = self::world("lives", key.0).await;
    assert_eq!(keys(&world).await, key);
    let (remote, holder) = (world.remote(), InstanceId::trusted("lives"));
    let refused = remote
        .unlock_entity(&id, &holder, LivingHolder::Keeps)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, RequestErrorKind::WrongState);
    assert!(
        refused
            .detail
            .contains("has the lock of @counter@a and is Running: end it"),
        "{refused}"
    );
    remote
        .unlock_entity(&id, &holder, LivingHolder::Loses)
        .await
        .unwrap();
    assert_eq!(remote.entity_told(&id).await.unwrap().unwrap().lock_holder, None);

    // An execution that ended without a release: the instance began again.
    let (world, id) = self::world("lives", key.0 + 1_000_000).await;
    keys(&world).await;
    world
        .remote()
        .unlock_entity(&id, &holder, LivingHolder::Keeps)
        .await
        .unwrap();
}
