//! Rows and commits to test with.

use dalsegno_core::event::Parent;
use dalsegno_core::query::Status;
use dalsegno_core::store::{Apart, Commit, EntityRow, InstanceRow, Lsn, Op, Owner, Store};
use dalsegno_core::{
    Divergence, EntityId, Epoch, ExecutionId, ExecutionKey, Failure, Fault, FaultKind, InstanceId,
    PartitionId, Payload, TaskId, Timestamp,
};

/// Partitions of every hub under test.
pub const PARTITIONS: u32 = 4;

pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

pub(crate) fn instance_id(text: &str) -> InstanceId {
    InstanceId::trusted(text)
}

pub(crate) fn entity_id(name: &str, key: &str) -> EntityId {
    EntityId::new(name, key).expect("the tests use well-formed names")
}

pub(crate) fn partition_of(id: &InstanceId) -> PartitionId {
    PartitionId::of(id.as_str(), PARTITIONS)
}

/// A row with nothing that may be absent.
pub(crate) fn plain_row(key: u64, id: &str) -> InstanceRow {
    let id = instance_id(id);
    InstanceRow {
        key: ExecutionKey(key),
        partition: partition_of(&id),
        id,
        execution_id: ExecutionId(u128::from(key) << 64 | 7),
        name: "Order".into(),
        version: None,
        status: Status::Running,
        created: at(1_000),
        updated: at(2_000),
        completed: None,
        scheduled_start: None,
        parent: None,
        tags: Vec::new(),
        input: None,
        custom_status: None,
        output: None,
        failure: None,
        parked: None,
        events: 0,
        extra: Vec::new(),
        apart: Apart::default(),
    }
}

/// A row in which everything is there.
pub(crate) fn full_row(key: u64, id: &str) -> InstanceRow {
    InstanceRow {
        version: Some("2.0".into()),
        completed: Some(at(-5)),
        scheduled_start: Some(at(i64::from(i32::MAX) * 1_000_000)),
        parent: Some(Parent {
            instance: instance_id("parent \"quoted\" ünïcode"),
            execution: ExecutionKey(u64::from(u32::MAX) + 1),
            task: TaskId::START,
        }),
        tags: vec![("a".into(), String::new()), ("b'%_\"".into(), "ü".into())],
        input: Some(Payload::from(r#"{"n": 1.0, "big": 12345678901234567890}"#)),
        custom_status: Some(Payload::from("null")),
        output: Some(Payload::from(r#""text""#)),
        failure: Some(Failure {
            kind: "Timeout".into(),
            message: "no answer\n".into(),
            stack: Some("at line 1".into()),
            cause: Some(Box::new(Failure::new("", "reset").permanent())),
            permanent: false,
            properties: None,
        }),
        parked: Some(Fault {
            kind: FaultKind::Diverged,
            message: "recorded this, asked that".into(),
            divergence: Some(Box::new(Divergence {
                recorded: Some("this".into()),
                asked: Some("that".into()),
                location: None,
            })),
        }),
        events: 3,
        extra: vec![0, 255, 1],
        ..plain_row(key, id)
    }
}

pub(crate) fn entity_row(name: &str, key: &str, state: Option<&str>) -> EntityRow {
    let id = entity_id(name, key);
    EntityRow {
        partition: PartitionId::of(&id.to_string(), PARTITIONS),
        id,
        last_operation: at(10),
        state: state.map(Payload::from),
        is_state_apart: false,
        queue: Vec::new(),
    }
}

pub(crate) fn put(row: InstanceRow) -> Op {
    Op::PutInstance(Box::new(row))
}

pub(crate) fn of_execution(key: u64) -> Owner {
    Owner::Execution(ExecutionKey(key))
}

pub(crate) fn put_value(owner: Owner, n: u64, value: &str) -> Op {
    let value = Payload::from(value);
    Op::PutPayload { owner, n, value }
}

pub(crate) fn events(key: u64, first: u64, count: u32, data: &[u8]) -> Op {
    Op::AppendHistory {
        key: ExecutionKey(key),
        first,
        count,
        data: data.to_vec(),
    }
}

pub(crate) fn epoch_of(store: &dyn Store) -> Epoch {
    store.load_hub().expect("the hub loads").epoch
}

/// Appends one commit of partition 0.
pub(crate) fn append(store: &dyn Store, ops: Vec<Op>) -> Lsn {
    append_in(store, PartitionId(0), ops)
}

pub(crate) fn append_in(store: &dyn Store, partition: PartitionId, ops: Vec<Op>) -> Lsn {
    let commit = Commit {
        partition,
        epoch: epoch_of(store),
        ops,
    };
    store.append(&mut vec![commit]).expect("the append succeeds")
}
