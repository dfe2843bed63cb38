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
    for field in Field::OF_INSTANCE.into_iter().filter(|field| row.apart.has(*field)) {
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
    let data = record::encode_events_apart(events, |place, kind| {
        let value = kind.value().filter(|value| is_large(value, inline_max))?;
        if let Some(field) = same_in_row(row, kind) {
            return Some(field.number());
        }
        let n = EVENT_VALUES + first + place as u64;
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

/// Input and output are in the row and in the history, and stored apart once for both.
fn same_in_row(row: &InstanceRow, kind: &EventKind) -> Option<Field> {
    let field = match kind {
        EventKind::ExecutionStarted(_) => Field::Input,
        EventKind::ExecutionCompleted { .. } => Field::Output,
        _ => return None,
    };
    let is_same = row.apart.has(field) && row.value(field) == kind.value();
    is_same.then_some(field)
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
