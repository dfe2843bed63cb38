//! Two stores side by side.

use dalsegno_core::query::{EntityPage, EntityQuery, InstancePage, InstanceQuery};
use dalsegno_core::store::{EntityRow, HistoryChunk, HubLoaded, InstanceRow, Owner, Store};
use dalsegno_core::{EntityId, Epoch, ExecutionKey, InstanceId, PartitionId};

use crate::random::PAYLOADS;
use crate::rows::PARTITIONS;

/// What to ask for one by one; the rest is listed.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Instances that are, or were.
    pub instances: Vec<InstanceId>,
    /// Executions that are, or were.
    pub keys: Vec<ExecutionKey>,
    /// Entities that are, or were.
    pub entities: Vec<EntityId>,
}

/// Panics unless both stores answer every question alike. Epochs may differ.
pub fn assert_same(subject: &dyn Store, model: &dyn Store, known: &Known) {
    assert_same_points(subject, model, known);
    for partition in (0..PARTITIONS).map(PartitionId) {
        let found = subject.load(partition).expect("the partition loads");
        assert_eq!(
            found,
            model.load(partition).expect("the model loads"),
            "{partition:?}"
        );
    }
    assert_eq!(hub(subject), hub(model));
    let found = all_instances(subject, &InstanceQuery::default(), 7);
    assert_eq!(found, all_instances(model, &InstanceQuery::default(), 7));
    let found = all_entities(subject, &EntityQuery::default(), 3);
    assert_eq!(found, all_entities(model, &EntityQuery::default(), 3));
}

/// The questions that go past the overlay of a store, not past its checkpoint.
pub(crate) fn assert_same_points(subject: &dyn Store, model: &dyn Store, known: &Known) {
    for id in &known.instances {
        let found = subject.instance(id).expect("the instance is read");
        assert_eq!(
            found,
            model.instance(id).expect("the model reads"),
            "instance {id}"
        );
    }
    for key in &known.keys {
        let found = subject.instance_by_key(*key).expect("the execution is read");
        assert_eq!(
            found,
            model.instance_by_key(*key).expect("the model reads"),
            "{key:?}"
        );
        let found = joined(&subject.history(*key).expect("the history is read"));
        assert_eq!(
            found,
            joined(&model.history(*key).expect("the model reads")),
            "history of {key:?}"
        );
        assert_same_payloads(subject, model, &Owner::Execution(*key));
    }
    for id in &known.entities {
        let found = subject.entity(id).expect("the entity is read");
        assert_eq!(found, model.entity(id).expect("the model reads"), "entity {id}");
        assert_same_payloads(subject, model, &Owner::Entity(id.clone()));
    }
}

fn assert_same_payloads(subject: &dyn Store, model: &dyn Store, owner: &Owner) {
    for n in 0..PAYLOADS {
        let found = subject.payload(owner, n).expect("the value is read");
        let expected = model.payload(owner, n).expect("the model reads");
        assert_eq!(found, expected, "value {n} of {owner:?}");
    }
}

/// How many events a history has, and all its bytes. Asserts that it is dense from 0.
pub(crate) fn joined(chunks: &[HistoryChunk]) -> (u64, Vec<u8>) {
    let mut next = 0;
    let mut data = Vec::new();
    for chunk in chunks {
        assert_eq!(chunk.first, next, "a history is dense from 0");
        next += u64::from(chunk.count);
        data.extend_from_slice(&chunk.data);
    }
    (next, data)
}

/// Every page, joined.
pub(crate) fn all_instances(store: &dyn Store, query: &InstanceQuery, limit: usize) -> Vec<InstanceRow> {
    let mut query = InstanceQuery {
        limit,
        ..query.clone()
    };
    let mut rows = Vec::new();
    loop {
        let InstancePage { rows: page, next } = store.list(&query).expect("the list is read");
        assert!(page.len() <= limit, "a page holds no more than asked for");
        rows.extend(page);
        if next.is_none() {
            return rows;
        }
        query.after = next;
    }
}

/// Every page, joined.
pub(crate) fn all_entities(store: &dyn Store, query: &EntityQuery, limit: usize) -> Vec<EntityRow> {
    let mut query = EntityQuery {
        limit,
        ..query.clone()
    };
    let mut rows = Vec::new();
    loop {
        let EntityPage { rows: page, next } = store.list_entities(&query).expect("the list is read");
        assert!(page.len() <= limit, "a page holds no more than asked for");
        rows.extend(page);
        if next.is_none() {
            return rows;
        }
        query.after = next;
    }
}

fn hub(store: &dyn Store) -> HubLoaded {
    let mut hub = store.load_hub().expect("the hub loads");
    hub.epoch = Epoch(0);
    hub.counts.retain(|(_, count)| *count > 0);
    hub.counts.sort_unstable();
    hub.limiters.sort();
    hub.meta.sort();
    hub
}
