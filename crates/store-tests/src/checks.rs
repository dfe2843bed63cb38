//! The checks, one behaviour each.

use dalsegno_core::event::Parent;
use dalsegno_core::query::{EntityQuery, InstanceQuery, Status};
use dalsegno_core::store::{Commit, CommitError, Field, HistoryChunk, InstanceRow, Op, Owner, TimerRow};
use dalsegno_core::{Epoch, ExecutionKey, InstanceId, PartitionId, TaskId};

use crate::Subject;
use crate::compare::{all_entities, all_instances, joined};
use crate::rows::{
    append, append_in, at, entity_id, entity_row, epoch_of, events, full_row, instance_id, of_execution,
    plain_row, put, put_value,
};

type Check = fn(&mut dyn Subject);

/// Name and check.
pub(crate) const ALL: &[(&str, Check)] = &[
    ("an empty hub is empty", an_empty_hub_is_empty),
    ("positions are dense", positions_are_dense),
    ("an older epoch is fenced", an_older_epoch_is_fenced),
    ("a row comes back whole", a_row_comes_back_whole),
    (
        "a new execution replaces the row",
        a_new_execution_replaces_the_row,
    ),
    ("a touch changes two columns", a_touch_changes_two_columns),
    ("deleting goes by key", deleting_goes_by_key),
    ("histories are dense and apart", histories_are_dense_and_apart),
    ("messages, tasks and timers", messages_tasks_and_timers),
    ("entities", entities),
    ("values apart from their rows", values_apart_from_their_rows),
    ("values go with their owner", values_go_with_their_owner),
    ("limiters and meta", limiters_and_meta),
    ("lists filter and page", lists_filter_and_page),
    ("a page goes on when rows change", a_page_goes_on_when_rows_change),
    ("numbers are never reused", numbers_are_never_reused),
    ("a checkpoint changes nothing", a_checkpoint_changes_nothing),
];

/// Both before and after what is appended reached the tables, and after a restart.
fn in_every_state(subject: &mut dyn Subject, check: impl Fn(&dyn Subject)) {
    check(subject);
    subject.store().checkpoint().expect("the checkpoint succeeds");
    check(subject);
    subject.reopen();
    check(subject);
}

fn an_empty_hub_is_empty(subject: &mut dyn Subject) {
    in_every_state(subject, |subject| {
        let store = subject.store();
        let hub = store.load_hub().expect("it loads");
        assert_eq!(hub.partitions, crate::PARTITIONS);
        assert_eq!((hub.key_max, hub.message_max), (ExecutionKey(0), 0));
        assert!(hub.counts.iter().all(|(_, count)| *count == 0));
        assert!(hub.limiters.is_empty() && hub.meta.is_empty());
        let loaded = store.load(PartitionId(0)).expect("it loads");
        assert_eq!(loaded, dalsegno_core::store::Loaded::default());
        assert_eq!(store.instance(&instance_id("a")).expect("it reads"), None);
        assert_eq!(store.instance_by_key(ExecutionKey(1)).expect("it reads"), None);
        assert!(store.history(ExecutionKey(1)).expect("it reads").is_empty());
        assert_eq!(store.entity(&entity_id("c", "1")).expect("it reads"), None);
    });
}

fn positions_are_dense(subject: &mut dyn Subject) {
    let first = append(subject.store(), vec![put(plain_row(1, "a"))]);
    assert_eq!(append(subject.store(), Vec::new()).0, first.0 + 1);
    assert_eq!(
        subject
            .store()
            .append(&mut Vec::new())
            .expect("nothing is no error")
            .0,
        first.0 + 1
    );
    assert_eq!(
        subject.store().load_hub().expect("it loads").durable.0,
        first.0 + 1
    );
    subject.reopen();
    assert_eq!(
        subject.store().load_hub().expect("it loads").durable.0,
        first.0 + 1
    );
    assert_eq!(
        append(subject.store(), vec![put(plain_row(2, "b"))]).0,
        first.0 + 2
    );
}

fn an_older_epoch_is_fenced(subject: &mut dyn Subject) {
    let older = epoch_of(subject.store());
    subject.reopen();
    let epoch = epoch_of(subject.store());
    assert!(epoch > older, "every opening raises the epoch");
    let commit = |epoch: Epoch| Commit {
        partition: PartitionId(0),
        epoch,
        ops: vec![put(plain_row(1, "a"))],
    };
    // One stale commit refuses the whole batch.
    let refused = subject.store().append(&mut vec![commit(epoch), commit(older)]);
    assert!(matches!(refused, Err(CommitError::Fenced)), "{refused:?}");
    let last = subject
        .store()
        .append(&mut Vec::new())
        .expect("nothing is taken as well");
    assert_eq!(last, subject.store().load_hub().expect("it reads").durable);
    assert_eq!(
        subject.store().instance(&instance_id("a")).expect("it reads"),
        None
    );
    subject
        .store()
        .append(&mut vec![commit(epoch)])
        .expect("the current epoch is taken");
    assert!(
        subject
            .store()
            .instance(&instance_id("a"))
            .expect("it reads")
            .is_some()
    );
}

fn a_row_comes_back_whole(subject: &mut dyn Subject) {
    append(
        subject.store(),
        vec![put(full_row(1, "a")), put(plain_row(2, "b"))],
    );
    in_every_state(subject, |subject| {
        for expected in [full_row(1, "a"), plain_row(2, "b")] {
            let found = subject.store().instance(&expected.id).expect("it reads");
            assert_eq!(found.as_ref(), Some(&expected));
            let found = subject.store().instance_by_key(expected.key).expect("it reads");
            assert_eq!(found, Some(expected));
        }
    });
}

fn a_new_execution_replaces_the_row(subject: &mut dyn Subject) {
    append(
        subject.store(),
        vec![put(plain_row(1, "a")), events(1, 0, 1, b"old")],
    );
    subject.store().checkpoint().expect("the checkpoint succeeds");
    append(subject.store(), vec![put(full_row(2, "a"))]);
    in_every_state(subject, |subject| {
        let store = subject.store();
        assert_eq!(
            store.instance(&instance_id("a")).expect("it reads"),
            Some(full_row(2, "a"))
        );
        assert_eq!(store.instance_by_key(ExecutionKey(1)).expect("it reads"), None);
        // The former execution's history goes when it is deleted, not before.
        assert_eq!(joined(&store.history(ExecutionKey(1)).expect("it reads")).0, 1);
        assert_eq!(all_instances(store, &InstanceQuery::default(), 10).len(), 1);
    });
}

fn a_touch_changes_two_columns(subject: &mut dyn Subject) {
    let touch = |key, micros, events| Op::TouchInstance {
        key: ExecutionKey(key),
        updated: at(micros),
        events,
    };
    append(subject.store(), vec![put(full_row(1, "a"))]);
    subject.store().checkpoint().expect("the checkpoint succeeds");
    append(subject.store(), vec![touch(1, 77, 9), touch(5, 78, 1)]);
    in_every_state(subject, |subject| {
        let mut expected = full_row(1, "a");
        expected.updated = at(77);
        expected.events = 9;
        let found = subject.store().instance(&instance_id("a")).expect("it reads");
        assert_eq!(found.as_ref(), Some(&expected));
        let found = subject
            .store()
            .instance_by_key(ExecutionKey(1))
            .expect("it reads");
        assert_eq!(found, Some(expected));
    });
    // A touch of a former execution changes nothing.
    append(subject.store(), vec![put(plain_row(2, "a")), touch(1, 99, 99)]);
    in_every_state(subject, |subject| {
        let found = subject.store().instance(&instance_id("a")).expect("it reads");
        assert_eq!(found, Some(plain_row(2, "a")));
    });
}

fn deleting_goes_by_key(subject: &mut dyn Subject) {
    let delete = |key, id| Op::DeleteExecution {
        key: ExecutionKey(key),
        id: instance_id(id),
    };
    append(
        subject.store(),
        vec![
            put(plain_row(1, "a")),
            events(1, 0, 1, b"1"),
            // Neighbours by prefix of id and of key.
            put(plain_row(10, "aa")),
            events(10, 0, 1, b"10"),
            put(plain_row(11, "a-1")),
            events(11, 0, 1, b"11"),
        ],
    );
    subject.store().checkpoint().expect("the checkpoint succeeds");
    append(
        subject.store(),
        vec![
            delete(1, "a"),
            delete(7, "nobody"),
            // The row of "aa" moves on, then its former execution goes.
            put(plain_row(12, "aa")),
            delete(10, "aa"),
            // Came and went within one commit.
            put(plain_row(13, "brief")),
            events(13, 0, 1, b"13"),
            delete(13, "brief"),
        ],
    );
    in_every_state(subject, |subject| {
        let store = subject.store();
        let ids: Vec<String> = all_instances(store, &InstanceQuery::default(), 10)
            .iter()
            .map(|row| row.id.to_string())
            .collect();
        assert_eq!(ids, ["a-1", "aa"]);
        let key_of = |id: &str| {
            let row = store.instance(&instance_id(id)).expect("it reads");
            row.map(|row| row.key.0)
        };
        assert_eq!(
            ["a", "aa", "a-1", "brief"].map(key_of),
            [None, Some(12), Some(11), None]
        );
        let count = |key| joined(&store.history(ExecutionKey(key)).expect("it reads")).0;
        assert_eq!([1, 10, 11, 12, 13].map(count), [0, 0, 1, 0, 0]);
    });
}

fn histories_are_dense_and_apart(subject: &mut dyn Subject) {
    append(
        subject.store(),
        vec![
            events(1, 0, 2, b"ab"),
            events(2, 0, 1, b"x"),
            events(1, 2, 1, b"c"),
        ],
    );
    subject.store().checkpoint().expect("the checkpoint succeeds");
    append(subject.store(), vec![events(1, 3, 2, b"de")]);
    subject.store().checkpoint().expect("the checkpoint succeeds");
    append(subject.store(), vec![events(2, 1, 0, b""), events(1, 5, 1, b"f")]);
    in_every_state(subject, |subject| {
        let history = |key| joined(&subject.store().history(ExecutionKey(key)).expect("it reads"));
        assert_eq!(history(1), (6, b"abcdef".to_vec()));
        assert_eq!(history(2), (1, b"x".to_vec()));
        let page = |first, bytes_max| {
            let store = subject.store();
            joined_page(
                &store
                    .history_page(ExecutionKey(1), first, bytes_max)
                    .expect("it reads"),
            )
        };
        // A page begins with the chunk that holds its first event and ends behind the bytes it may have.
        let all = subject.store().history(ExecutionKey(1)).expect("it reads");
        for first in 0..7 {
            let rest: Vec<_> = all
                .iter()
                .filter(|chunk| chunk.first + u64::from(chunk.count) > first)
                .cloned()
                .collect();
            assert_eq!(page(first, usize::MAX), joined_page(&rest), "from {first}");
            assert_eq!(
                page(first, 1),
                joined_page(&rest[..rest.len().min(1)]),
                "one from {first}"
            );
        }
    });
}

fn messages_tasks_and_timers(subject: &mut dyn Subject) {
    let (p, key) = (PartitionId(1), ExecutionKey(4));
    let message = |partition, seq: u64| Op::PutMessage {
        partition,
        seq,
        data: seq.to_string().into_bytes(),
    };
    let task = |task, data: &[u8]| Op::PutTask {
        key,
        task: TaskId(task),
        data: data.to_vec(),
    };
    let timer = |due, task| Op::PutTimer {
        due: at(due),
        key,
        task: TaskId(task),
    };
    append_in(
        subject.store(),
        p,
        vec![
            message(PartitionId(2), 9),
            message(p, 8),
            message(p, 3),
            task(0, b"first"),
            task(1, b"goes"),
            timer(50, 2),
            timer(-50, 3),
            timer(60, 4),
        ],
    );
    subject.store().checkpoint().expect("the checkpoint succeeds");
    append_in(
        subject.store(),
        p,
        vec![
            message(p, 11),
            Op::DeleteMessage { partition: p, seq: 3 },
            Op::DeleteMessage { partition: p, seq: 9 },
            task(0, b"second"),
            Op::DeleteTask { key, task: TaskId(1) },
            Op::DeleteTimer {
                due: at(60),
                key,
                task: TaskId(4),
            },
            task(5, b"brief"),
            Op::DeleteTask { key, task: TaskId(5) },
        ],
    );
    in_every_state(subject, |subject| {
        let loaded = subject.store().load(p).expect("it loads");
        assert_eq!(loaded.messages, [(8, b"8".to_vec()), (11, b"11".to_vec())]);
        assert_eq!(loaded.tasks, [(key, TaskId(0), b"second".to_vec())]);
        let row = |due, task| TimerRow {
            due: at(due),
            key,
            task: TaskId(task),
        };
        assert_eq!(loaded.timers, [row(-50, 3), row(50, 2)]);
        let other = subject.store().load(PartitionId(2)).expect("it loads");
        assert_eq!(other.messages, [(9, b"9".to_vec())]);
        assert!(other.tasks.is_empty() && other.timers.is_empty());
    });
}

fn entities(subject: &mut dyn Subject) {
    let with_queue = |key: &str| {
        let mut row = entity_row("counter", key, None);
        row.queue = vec![1, 2];
        row
    };
    append(
        subject.store(),
        vec![
            Op::PutEntity(Box::new(entity_row("counter", "B", Some("1")))),
            Op::PutEntity(Box::new(entity_row("counter", "a", Some("2")))),
            Op::PutEntity(Box::new(entity_row("bank", "z", Some("3")))),
            Op::PutEntity(Box::new(with_queue("busy"))),
            Op::PutEntity(Box::new(entity_row("counter", "gone", Some("4")))),
        ],
    );
    subject.store().checkpoint().expect("the checkpoint succeeds");
    append(
        subject.store(),
        vec![
            Op::DeleteEntity {
                id: entity_id("counter", "gone"),
            },
            Op::DeleteEntity {
                id: entity_id("counter", "never"),
            },
            Op::PutEntity(Box::new(entity_row("counter", "B", Some("5")))),
        ],
    );
    in_every_state(subject, |subject| {
        let store = subject.store();
        let found = store.entity(&entity_id("counter", "B")).expect("it reads");
        assert_eq!(found, Some(entity_row("counter", "B", Some("5"))));
        assert_eq!(store.entity(&entity_id("counter", "b")).expect("it reads"), None);
        assert_eq!(
            store.entity(&entity_id("counter", "gone")).expect("it reads"),
            None
        );
        let ids = |query: &EntityQuery| -> Vec<String> {
            let rows = all_entities(store, query, 1);
            rows.iter().map(|row| row.id.to_string()).collect()
        };
        assert_eq!(
            ids(&EntityQuery::default()),
            ["@bank@z", "@counter@B", "@counter@a"]
        );
        let of_bank = EntityQuery {
            name: Some("bank".into()),
            ..EntityQuery::default()
        };
        assert_eq!(ids(&of_bank), ["@bank@z"]);
        let later = EntityQuery {
            from: Some(at(11)),
            ..EntityQuery::default()
        };
        assert!(ids(&later).is_empty());
        let busy = with_queue("busy");
        let loaded = store.load(busy.partition).expect("it loads");
        assert_eq!(loaded.busy_entities, [busy]);
    });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn values_apart_from_their_rows(subject: &mut dyn Subject) {
    let mut row = plain_row(1, "a");
    row.apart.set(Field::Input, true);
    row.apart.set(Field::Output, true);
    let mut entity = entity_row("counter", "a", None);
    entity.is_state_apart = true;
    let (execution, owner) = (of_execution(1), Owner::Entity(entity.id.clone()));
    let large = format!("\"{}ü\"", "x".repeat(3_000_000));
    append(
        subject.store(),
        vec![
            put(row.clone()),
            put_value(execution.clone(), 0, &large),
            put_value(execution.clone(), 2, "2"),
            put_value(execution.clone(), 1 << 24, "{}"),
            Op::PutEntity(Box::new(entity.clone())),
            put_value(owner.clone(), 0, &large),
        ],
    );
    in_every_state(subject, |subject| {
        let store = subject.store();
        assert_eq!(
            store.instance(&row.id).expect("it reads").as_ref(),
            Some(&row),
            "the row comes without"
        );
        assert_eq!(all_instances(store, &InstanceQuery::default(), 5), [row.clone()]);
        assert_eq!(
            all_entities(store, &EntityQuery::default(), 5),
            [entity.clone()],
            "an entity with its state elsewhere has state"
        );
        let value = |owner: &Owner, n| store.payload(owner, n).expect("it reads");
        assert_eq!(value(&execution, 0), Some(large.as_str().into()));
        assert_eq!(value(&execution, 2), Some("2".into()));
        assert_eq!(value(&execution, 1 << 24), Some("{}".into()));
        assert_eq!(value(&owner, 0), Some(large.as_str().into()));
        assert_eq!(value(&execution, 1), None);
        let digest = |owner: &Owner, n| store.payload_digest(owner, n).expect("it reads");
        let of_large = digest(&execution, 0).expect("it is there");
        assert_eq!(of_large.bytes, large.len() as u64);
        assert_eq!(Some(of_large), digest(&owner, 0), "the same value elsewhere");
        let of_object = digest(&execution, 1 << 24).map(|digest| (digest.bytes, hex(&digest.sha256)));
        let known = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(
            of_object,
            Some((2, known.to_owned())),
            "the hash everybody else has"
        );
        assert_eq!(digest(&execution, 1), None);
        assert_eq!(value(&of_execution(2), 0), None);
    });
    append(
        subject.store(),
        vec![
            put_value(execution.clone(), 2, "3"),
            Op::DeletePayload {
                owner: execution.clone(),
                n: 0,
            },
        ],
    );
    in_every_state(subject, |subject| {
        let value = |n| subject.store().payload(&execution, n).expect("it reads");
        assert_eq!((value(0), value(2)), (None, Some("3".into())));
    });
}

fn values_go_with_their_owner(subject: &mut dyn Subject) {
    let entity = entity_row("counter", "a", Some("1"));
    let owner = Owner::Entity(entity.id.clone());
    for is_folded in [false, true] {
        let key = 10 + u64::from(is_folded);
        append(
            subject.store(),
            vec![
                put(plain_row(key, "a")),
                put_value(of_execution(key), 0, "1"),
                put_value(of_execution(key), 99, "2"),
                put_value(of_execution(key + 10), 0, "3"),
                Op::PutEntity(Box::new(entity.clone())),
                put_value(owner.clone(), 0, "4"),
                put_value(owner.clone(), 1, "5"),
            ],
        );
        if is_folded {
            subject.store().checkpoint().expect("the checkpoint succeeds");
        }
        append(
            subject.store(),
            vec![
                Op::DeleteExecution {
                    key: ExecutionKey(key),
                    id: instance_id("a"),
                },
                Op::DeleteEntity {
                    id: entity.id.clone(),
                },
                // It comes again, with one value only.
                Op::PutEntity(Box::new(entity.clone())),
                put_value(owner.clone(), 1, "6"),
            ],
        );
        in_every_state(subject, |subject| {
            let value = |owner: &Owner, n| subject.store().payload(owner, n).expect("it reads");
            assert_eq!(value(&of_execution(key), 0), None);
            assert_eq!(value(&of_execution(key), 99), None);
            assert_eq!(
                value(&of_execution(key + 10), 0),
                Some("3".into()),
                "a neighbour's"
            );
            assert_eq!(value(&owner, 0), None);
            assert_eq!(value(&owner, 1), Some("6".into()));
        });
    }
}

fn limiters_and_meta(subject: &mut dyn Subject) {
    let limiter = |key: &str, data: &[u8]| Op::PutLimiter {
        name: "github".into(),
        key: key.into(),
        data: data.to_vec(),
    };
    let meta = |name: &str, data: &[u8]| Op::PutMeta {
        name: name.into(),
        data: data.to_vec(),
    };
    append(
        subject.store(),
        vec![
            limiter("", b"1"),
            limiter("k", b"2"),
            meta("a", b"1"),
            meta("applied_lsn", b"2"),
        ],
    );
    subject.store().checkpoint().expect("the checkpoint succeeds");
    append(
        subject.store(),
        vec![
            limiter("", b"3"),
            Op::DeleteLimiter {
                name: "github".into(),
                key: "k".into(),
            },
            Op::DeleteMeta { name: "a".into() },
        ],
    );
    in_every_state(subject, |subject| {
        let hub = subject.store().load_hub().expect("it loads");
        assert_eq!(hub.limiters, [("github".into(), "".into(), b"3".to_vec())]);
        assert_eq!(hub.meta, [("applied_lsn".into(), b"2".to_vec())]);
    });
}

/// Of every kind that a filter looks at.
fn rows_to_list() -> Vec<InstanceRow> {
    let mut rows = Vec::new();
    for n in 0..40_u64 {
        let mut row = plain_row(n + 1, &format!("{}-{n:02}", ["ab", "AB", "a%"][n as usize % 3]));
        row.created = at((n / 4) as i64);
        row.status = Status::ALL[n as usize % 6];
        row.name = ["Order", "order"][n as usize % 2].into();
        if n % 7 == 3 {
            row.parent = Some(Parent {
                instance: InstanceId::trusted(["the \"parent\"", "The"][n as usize % 2]),
                execution: ExecutionKey(n),
                task: TaskId(1),
            });
        }
        if n % 5 == 0 {
            row.tags = vec![("team".into(), "red".into()), ("x".into(), n.to_string())];
        }
        rows.push(row);
    }
    rows
}

fn lists_filter_and_page(subject: &mut dyn Subject) {
    let mut rows = rows_to_list();
    append(subject.store(), rows.iter().cloned().map(put).collect());
    rows.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    let any = InstanceQuery::default;
    let queries = [
        any(),
        InstanceQuery {
            statuses: vec![Status::Running, Status::Failed],
            ..any()
        },
        InstanceQuery {
            created_from: Some(at(2)),
            created_to: Some(at(7)),
            ..any()
        },
        InstanceQuery {
            id_prefix: Some("a%".into()),
            ..any()
        },
        InstanceQuery {
            id_prefix: Some("AB-1".into()),
            name: Some("order".into()),
            ..any()
        },
        InstanceQuery {
            tags: vec![("team".into(), "red".into())],
            statuses: vec![Status::Pending, Status::Terminated],
            ..any()
        },
        InstanceQuery {
            name: Some("nobody".into()),
            ..any()
        },
        InstanceQuery {
            parent: Some(InstanceId::trusted("the \"parent\"")),
            ..any()
        },
        InstanceQuery {
            parent: Some(InstanceId::trusted("the \"parent\"")),
            statuses: vec![Status::Running],
            ..any()
        },
        InstanceQuery {
            parent: Some(InstanceId::trusted("the")),
            ..any()
        },
    ];
    in_every_state(subject, |subject| {
        for query in &queries {
            let expected: Vec<_> = rows.iter().filter(|row| query.matches(row)).cloned().collect();
            for limit in [1, 3, expected.len().max(1), 100] {
                assert_eq!(
                    all_instances(subject.store(), query, limit),
                    expected,
                    "{query:?}"
                );
            }
        }
    });
}

fn a_page_goes_on_when_rows_change(subject: &mut dyn Subject) {
    let rows = (1..=6).map(|n| put(plain_row(n, &format!("i{n}"))));
    append(subject.store(), rows.collect());
    let mut query = InstanceQuery {
        limit: 2,
        ..InstanceQuery::default()
    };
    let page = subject.store().list(&query).expect("it lists");
    query.after = page.next;
    // The last row of the page goes, one before it comes, the rest moves.
    let mut early = plain_row(7, "i0");
    early.updated = at(9_999);
    append(
        subject.store(),
        vec![
            Op::DeleteExecution {
                key: ExecutionKey(2),
                id: instance_id("i2"),
            },
            put(early),
            put(plain_row(8, "i4")),
        ],
    );
    query.limit = 10;
    let page = subject.store().list(&query).expect("it lists");
    let ids: Vec<String> = page.rows.iter().map(|row| row.id.to_string()).collect();
    assert_eq!(ids, ["i3", "i4", "i5", "i6"]);
    assert_eq!(page.next, None);
}

fn numbers_are_never_reused(subject: &mut dyn Subject) {
    append(
        subject.store(),
        vec![
            put(plain_row(41, "a")),
            Op::PutMessage {
                partition: PartitionId(3),
                seq: 17,
                data: vec![1],
            },
            Op::DeleteExecution {
                key: ExecutionKey(41),
                id: instance_id("a"),
            },
            Op::DeleteMessage {
                partition: PartitionId(3),
                seq: 17,
            },
        ],
    );
    subject.reopen();
    in_every_state(subject, |subject| {
        let hub = subject.store().load_hub().expect("it loads");
        assert_eq!((hub.key_max, hub.message_max), (ExecutionKey(41), 17));
        assert!(hub.counts.iter().all(|(_, count)| *count == 0));
    });
}

fn a_checkpoint_changes_nothing(subject: &mut dyn Subject) {
    let last = append(
        subject.store(),
        vec![put(full_row(1, "a")), events(1, 0, 3, b"abc")],
    );
    assert_eq!(subject.store().checkpoint().expect("it succeeds"), last);
    assert_eq!(subject.store().unapplied_bytes(), 0);
    assert_eq!(subject.store().checkpoint().expect("it succeeds"), last);
    in_every_state(subject, |subject| {
        let hub = subject.store().load_hub().expect("it loads");
        assert_eq!(hub.durable, last);
        assert_eq!(hub.counts, [(Status::Running, 1)]);
    });
}

/// Numbers and bytes of chunks, whatever they begin with.
fn joined_page(chunks: &[HistoryChunk]) -> Vec<(u64, u32, Vec<u8>)> {
    let parts = |chunk: &HistoryChunk| (chunk.first, chunk.count, chunk.data.clone());
    chunks.iter().map(parts).collect()
}
