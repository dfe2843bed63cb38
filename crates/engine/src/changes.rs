//! The changes of all rows of a hub, for whoever shows a list of them.
//!
//! The last few are kept for all readers together. One that falls further behind is told to list
//! again, so no reader ever costs more than its place among them.

use std::sync::Arc;

use dalsegno_core::query::InstanceQuery;
use dalsegno_core::store::InstanceRow;
use dalsegno_core::{InstanceId, Payload};
use hashbrown::HashMap;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

/// Changes that are kept for slow readers.
pub const KEPT: usize = 1024;

/// Changes that are handed out together, one for each instance.
const BATCH_MAX: usize = 256;

/// Bytes of a custom status that is told along; a larger one is left out.
pub const CUSTOM_STATUS_BYTES_MAX: usize = 4096;

/// What became of the row of an instance.
#[derive(Clone, Debug, PartialEq)]
pub enum RowChange {
    /// It is now this, without input and output.
    Is(Box<InstanceRow>),
    /// It is no more.
    Removed(InstanceId),
}

impl RowChange {
    /// A row as it is told: without what only its reader wants.
    pub(crate) fn of(row: &InstanceRow) -> Self {
        let is_short = |custom: &Payload| custom.len_bytes() <= CUSTOM_STATUS_BYTES_MAX;
        Self::Is(Box::new(InstanceRow {
            input: None,
            output: None,
            extra: Vec::new(),
            custom_status: row.custom_status.clone().filter(is_short),
            ..row.clone()
        }))
    }

    fn id(&self) -> &InstanceId {
        match self {
            Self::Is(row) => &row.id,
            Self::Removed(id) => id,
        }
    }
}

/// Where changes are told once they are durable. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct ChangeSender(broadcast::Sender<Arc<RowChange>>);

impl Default for ChangeSender {
    fn default() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }
}

impl ChangeSender {
    /// Does anybody read?
    pub(crate) fn has_readers(&self) -> bool {
        self.0.receiver_count() > 0
    }

    pub(crate) fn tell(&self, change: Arc<RowChange>) {
        // The last reader may have gone.
        let _ = self.0.send(change);
    }

    pub(crate) fn reader(&self, query: InstanceQuery) -> HubChanges {
        HubChanges {
            receiver: self.0.subscribe(),
            query,
            must_list: true,
        }
    }
}

/// What a reader of all changes is told.
#[derive(Clone, Debug, PartialEq)]
pub enum HubChange {
    /// List again: what is committed after this is told, and nothing of before.
    Reset,
    /// The newest state of each of some instances.
    Rows(Vec<Arc<RowChange>>),
}

/// A reader of the changes of all rows that pass a filter.
///
/// The first thing it is told is to list. A row that is committed after that is told, in the order
/// of its instance's commits, though not every state it passes through; or the reader is told to
/// list again.
#[derive(Debug)]
pub struct HubChanges {
    receiver: broadcast::Receiver<Arc<RowChange>>,
    query: InstanceQuery,
    must_list: bool,
}

impl HubChanges {
    /// What is new; `None` when the hub ends. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<HubChange> {
        loop {
            if std::mem::take(&mut self.must_list) {
                return Some(HubChange::Reset);
            }
            match self.receiver.recv().await {
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => self.must_list = true,
                Ok(first) => {
                    let rows = self.batch(first);
                    if !self.must_list && !rows.is_empty() {
                        return Some(HubChange::Rows(rows));
                    }
                }
            }
        }
    }

    /// All there is, the last of each instance.
    fn batch(&mut self, first: Arc<RowChange>) -> Vec<Arc<RowChange>> {
        let mut places: HashMap<InstanceId, usize> = HashMap::new();
        let mut rows: Vec<Arc<RowChange>> = Vec::new();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(change) = next.take() {
            taken += 1;
            if self.is_wanted(&change) {
                match places.get(change.id()) {
                    Some(place) => rows[*place] = change,
                    None => {
                        places.insert(change.id().clone(), rows.len());
                        rows.push(change);
                    }
                }
            }
            if taken < BATCH_MAX {
                next = match self.receiver.try_recv() {
                    Ok(change) => Some(change),
                    Err(TryRecvError::Lagged(_)) => {
                        self.must_list = true;
                        None
                    }
                    Err(_) => None,
                };
            }
        }
        rows
    }

    /// Whoever goes is told to all: nobody knows any more whether he passed the filter.
    fn is_wanted(&self, change: &RowChange) -> bool {
        match change {
            RowChange::Is(row) => self.query.matches(row),
            RowChange::Removed(id) => {
                let prefix = self.query.id_prefix.as_deref().unwrap_or_default();
                id.as_str().starts_with(prefix)
            }
        }
    }
}
