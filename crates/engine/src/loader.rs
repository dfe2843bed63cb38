//! Reads that partitions ask for, off their threads.

use std::sync::Arc;

use dalsegno_core::store::{ReadError, Store};
use dalsegno_core::{Event, InstanceId, PartitionId};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::input::{Input, Load, Loaded, StoredInstance};
use crate::mailbox::Mailboxes;
use crate::record;

/// Reads that are taken together by one blocking task.
const READS_MAX: usize = 256;

/// Serves reads until all who may ask are gone.
pub async fn serve(
    mut loads: UnboundedReceiver<(usize, Load)>,
    store: Arc<dyn Store>,
    mailboxes: Arc<Mailboxes>,
) {
    let mut batch = Vec::new();
    while loads.recv_many(&mut batch, READS_MAX).await > 0 {
        let (store, mailboxes) = (store.clone(), mailboxes.clone());
        let reads = std::mem::take(&mut batch);
        tokio::task::spawn_blocking(move || {
            for (index, load) in reads {
                let partition = PartitionId(u32::try_from(index).expect("partitions are counted in u32"));
                mailboxes.send(partition, Input::Loaded(read(&*store, load)));
            }
        });
    }
}

/// Answers one question of a partition.
pub fn read(store: &dyn Store, load: Load) -> Loaded {
    match load {
        Load::Instance(id) => Loaded::Instance {
            found: read_instance(store, &id, History::IfOpen),
            id,
        },
        Load::History(id) => Loaded::Instance {
            found: read_instance(store, &id, History::Always),
            id,
        },
        Load::Execution(key) => {
            let found = store.instance_by_key(key).map(|row| row.map(|row| row.id));
            Loaded::Execution {
                key,
                found: found.map_err(|error| error.to_string()),
            }
        }
        Load::Entity(id) => {
            let found = store.entity(&id).map_err(|error| error.to_string());
            Loaded::Entity { id, found }
        }
    }
}

#[derive(PartialEq)]
enum History {
    IfOpen,
    Always,
}

fn read_instance(
    store: &dyn Store,
    id: &InstanceId,
    wanted: History,
) -> Result<Option<StoredInstance>, String> {
    let row = store.instance(id).map_err(|error| error.to_string())?;
    let Some(row) = row else { return Ok(None) };
    let history = match row.status.is_final() && wanted == History::IfOpen {
        true => Ok(Vec::new()),
        false => read_history(store, &row).map_err(|error| error.to_string()),
    };
    Ok(Some(StoredInstance { row, history }))
}

/// The decoded history of a row's execution, as far as the row knows it.
///
/// # Errors
/// When the store cannot be read, or the records are damaged or not dense.
pub fn read_history(
    store: &dyn Store,
    row: &dalsegno_core::store::InstanceRow,
) -> Result<Vec<Event>, ReadError> {
    let mut events = Vec::new();
    for chunk in store.history(row.key)? {
        let decoded = record::decode_events(&chunk.data).map_err(|error| ReadError(Box::new(error)))?;
        if chunk.first != events.len() as u64 || decoded.len() != chunk.count as usize {
            let text = format!("the history of {} has a gap at event {}", row.id, events.len());
            return Err(ReadError(text.into()));
        }
        events.extend(decoded);
    }
    Ok(events)
}
