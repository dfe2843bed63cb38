//! Which values go with their row or event, and which are kept apart.
//!
//! A large value is written once, in the commit in which it comes up, and belongs to its execution
//! or entity. Rows that are written again and again, and histories, only say that it is there.

use dalsegno_core::store::{Apart, EntityRow, Field, InstanceRow, Op, Owner};
use dalsegno_core::{Event, EventKind, Payload};

use crate::record;

/// Values of events are numbered from here, by the number of the event. Those of the row are below.
const EVENT_VALUES: u64 = 16;

/// Writes a row. `before` is what was stored apart of this execution so far.
pub(super) fn put_instance(row: &mut InstanceRow, before: Apart, inline_max: usize, ops: &mut Vec<Op>) {
    let owner = Owner::Execution(row.key);
    for field in Field::OF_INSTANCE {
        let n = field.number();
        match row.value(field).filter(|_| !row.apart.has(field)) {
            Some(value) if is_large(value, inline_max) => {
                ops.push(Op::PutPayload {
                    owner: owner.clone(),
                    n,
                    value: value.clone(),
                });
                row.apart.set(field, true);
            }
            _ if before.has(field) && !row.apart.has(field) => {
                ops.push(Op::DeletePayload {
                    owner: owner.clone(),
                    n,
                });
            }
            _ => {}
        }
    }
    let mut stored = row.clone();
    for field in Field::OF_INSTANCE
        .into_iter()
        .filter(|field| row.apart.has(*field))
    {
        stored.fill(field, None);
    }
    ops.push(Op::PutInstance(Box::new(stored)));
}

/// Appends events to the history of a row's execution. The row is written already, if it changes.
pub(super) fn append_history(
    row: &InstanceRow,
    first: u64,
    events: &[Event],
    inline_max: usize,
    ops: &mut Vec<Op>,
) {
    let owner = Owner::Execution(row.key);
    // What one event brings and the next passes on is written once.
    let mut written: Vec<(Payload, u64)> = Vec::new();
    let data = record::encode_events_apart(events, |place, kind| {
        let value = kind.value().filter(|value| is_large(value, inline_max))?;
        if let Some(field) = same_in_row(row, kind, value) {
            return Some(field.number());
        }
        if let Some((_, n)) = written.iter().find(|(other, _)| other == value) {
            return Some(*n);
        }
        let n = EVENT_VALUES + first + place as u64;
        written.push((value.clone(), n));
        ops.push(Op::PutPayload {
            owner: owner.clone(),
            n,
            value: value.clone(),
        });
        Some(n)
    });
    ops.push(Op::AppendHistory {
        key: row.key,
        first,
        count: events.len() as u32,
        data,
    });
}

/// Input and output are in the row and in the history, and stored apart once for both. The input may
/// come up again in any event: it stays as long as the execution.
fn same_in_row(row: &InstanceRow, kind: &EventKind, value: &Payload) -> Option<Field> {
    let is_same = |field: &Field| row.apart.has(*field) && row.value(*field) == Some(value);
    let output = matches!(kind, EventKind::ExecutionCompleted { .. }).then_some(Field::Output);
    output.into_iter().chain([Field::Input]).find(is_same)
}

/// Writes an entity. Its state counts as changed when it differs from the one `before`.
pub(super) fn put_entity(row: &mut EntityRow, before: &EntityRow, inline_max: usize, ops: &mut Vec<Op>) {
    let owner = Owner::Entity(row.id.clone());
    let n = Field::State.number();
    let large = row.state.as_ref().filter(|state| is_large(state, inline_max));
    match large {
        Some(_) if before.is_state_apart && before.state == row.state => {}
        Some(state) => ops.push(Op::PutPayload {
            owner,
            n,
            value: state.clone(),
        }),
        None if before.is_state_apart => ops.push(Op::DeletePayload { owner, n }),
        None => {}
    }
    row.is_state_apart = large.is_some();
    let state = row.state.clone().filter(|_| !row.is_state_apart);
    ops.push(Op::PutEntity(Box::new(EntityRow { state, ..row.clone() })));
}

fn is_large(value: &Payload, inline_max: usize) -> bool {
    value.len_bytes() > inline_max
}

#[cfg(test)]
mod tests {
    use dalsegno_core::query::Status;
    use dalsegno_core::{ExecutionId, ExecutionKey, InstanceId, PartitionId, TaskId, Timestamp};

    use super::*;

    const INLINE_MAX: usize = 8;
    const LARGE: &str = "\"a large value\"";

    fn row() -> InstanceRow {
        let at = Timestamp::from_micros(0);
        InstanceRow {
            key: ExecutionKey(5),
            partition: PartitionId(0),
            id: InstanceId::trusted("i"),
            execution_id: ExecutionId(1),
            name: "o".into(),
            version: None,
            status: Status::Running,
            created: at,
            updated: at,
            completed: None,
            scheduled_start: None,
            parent: None,
            tags: Vec::new(),
            input: Some(LARGE.into()),
            custom_status: Some("1".into()),
            output: None,
            failure: None,
            parked: None,
            events: 0,
            extra: Vec::new(),
            apart: Apart::default(),
        }
    }

    /// Numbers of the values that were put and deleted, and the row.
    fn written(row: &mut InstanceRow, before: Apart) -> (Vec<u64>, Vec<u64>, InstanceRow) {
        let mut ops = Vec::new();
        put_instance(row, before, INLINE_MAX, &mut ops);
        let (mut put, mut deleted, mut stored) = (Vec::new(), Vec::new(), None);
        for op in ops {
            match op {
                Op::PutPayload { n, .. } => put.push(n),
                Op::DeletePayload { n, .. } => deleted.push(n),
                Op::PutInstance(row) => stored = Some(*row),
                other => panic!("{other:?}"),
            }
        }
        (put, deleted, stored.expect("the row is written"))
    }

    #[test]
    fn a_large_value_is_written_once_and_replaced_when_it_changes() {
        let mut row = row();
        let (put, deleted, stored) = written(&mut row, Apart::default());
        assert_eq!((put, deleted), (vec![0], vec![]));
        assert_eq!(stored.input, None);
        assert_eq!(stored.custom_status, Some("1".into()));
        assert_eq!(row.input, Some(LARGE.into()), "memory keeps it");

        let before = row.apart;
        let (put, deleted, stored) = written(&mut row, before);
        assert_eq!((put, deleted), (vec![], vec![]), "nothing has changed");
        assert_eq!((stored.input, stored.apart), (None, row.apart));

        row.set_value(Field::CustomStatus, Some(LARGE.into()));
        assert_eq!(written(&mut row, before).0, [1]);
        let before = row.apart;
        row.set_value(Field::CustomStatus, Some(format!("{LARGE} ").into()));
        let (put, deleted, _) = written(&mut row, before);
        assert_eq!((put, deleted), (vec![1], vec![]), "the new one takes its place");
        let before = row.apart;
        row.set_value(Field::CustomStatus, Some("2".into()));
        let (put, deleted, stored) = written(&mut row, before);
        assert_eq!((put, deleted), (vec![], vec![1]));
        assert_eq!(stored.custom_status, Some("2".into()));
    }

    #[test]
    fn a_row_that_was_read_without_its_values_is_written_without_them() {
        let mut row = row();
        written(&mut row, Apart::default());
        row.fill(Field::Input, None);
        let before = row.apart;
        let (put, deleted, stored) = written(&mut row, before);
        assert_eq!((put, deleted), (vec![], vec![]));
        assert!(stored.apart.has(Field::Input));
    }

    #[test]
    fn the_output_of_row_and_history_is_written_once() {
        let mut row = row();
        row.set_value(Field::Output, Some(LARGE.into()));
        let event = |kind| Event {
            at: Timestamp::from_micros(1),
            kind,
        };
        let result = |result: &str| EventKind::TaskCompleted {
            task: TaskId(0),
            result: Some(result.into()),
            attempts: 1.into(),
        };
        let events = [
            event(result("\"another large value\"")),
            event(result("1")),
            event(EventKind::ExecutionCompleted {
                result: row.output.clone(),
            }),
        ];
        let mut ops = Vec::new();
        put_instance(&mut row, Apart::default(), INLINE_MAX, &mut ops);
        append_history(&row, 10, &events, INLINE_MAX, &mut ops);
        let put: Vec<u64> = ops
            .iter()
            .filter_map(|op| match op {
                Op::PutPayload { n, .. } => Some(*n),
                _ => None,
            })
            .collect();
        assert_eq!(put, [0, 2, EVENT_VALUES + 10]);
        let Some(Op::AppendHistory { data, .. }) = ops.last() else {
            panic!("the history comes last");
        };
        let stored = record::decode_events(data).expect("it was just written");
        assert_eq!(stored.apart, [(0, EVENT_VALUES + 10), (2, 2)]);
    }

    #[test]
    fn a_value_that_is_passed_on_is_written_once() {
        let mut row = row();
        let other = "\"another large value\"";
        let event = |kind| Event {
            at: Timestamp::from_micros(1),
            kind,
        };
        let result = |value: &str| {
            event(EventKind::TaskCompleted {
                task: TaskId(0),
                result: Some(value.into()),
                attempts: 1.into(),
            })
        };
        let scheduled = |value: &str| {
            event(EventKind::TaskScheduled {
                task: TaskId(1),
                name: "a".into(),
                input: Some(value.into()),
                options: Default::default(),
            })
        };
        let events = [result(other), scheduled(LARGE), scheduled(other)];
        let mut ops = Vec::new();
        put_instance(&mut row, Apart::default(), INLINE_MAX, &mut ops);
        append_history(&row, 10, &events, INLINE_MAX, &mut ops);
        let put = ops.iter().filter(|op| matches!(op, Op::PutPayload { .. }));
        assert_eq!(put.count(), 2, "the input and the other one");
        let Some(Op::AppendHistory { data, .. }) = ops.last() else {
            panic!("the history comes last");
        };
        let stored = record::decode_events(data).expect("it was just written");
        let number = EVENT_VALUES + 10;
        assert_eq!(stored.apart, [(0, number), (1, 0), (2, number)]);
    }

    #[test]
    fn the_state_of_an_entity_is_written_when_it_changes() {
        let before = EntityRow {
            id: dalsegno_core::EntityId::new("counter", "a").expect("a good name"),
            partition: PartitionId(0),
            last_operation: Timestamp::from_micros(0),
            state: Some(LARGE.into()),
            is_state_apart: true,
            queue: Vec::new(),
        };
        let written = |state: Option<&str>| {
            let mut row = EntityRow {
                state: state.map(Payload::from),
                queue: vec![1],
                ..before.clone()
            };
            let mut ops = Vec::new();
            put_entity(&mut row, &before, INLINE_MAX, &mut ops);
            ops.pop();
            ops
        };
        assert_eq!(written(Some(LARGE)), [], "only the queue has changed");
        let owner = Owner::Entity(before.id.clone());
        let longer = format!("{LARGE} ");
        assert_eq!(
            written(Some(&longer)),
            [Op::PutPayload {
                owner: owner.clone(),
                n: 0,
                value: longer.as_str().into()
            }]
        );
        for small in [Some("1"), None] {
            let deleted = Op::DeletePayload {
                owner: owner.clone(),
                n: 0,
            };
            assert_eq!(written(small), [deleted]);
        }
    }
}
