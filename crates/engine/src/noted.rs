//! Lists by what rows note for the hub alone: events that are awaited, activities that failed.
//!
//! No store can look there, so its pages are gone through. Only instances that can be meant are read:
//! what is finished waits for nothing, and what has completed did not fail.

use std::collections::HashSet;

use dalsegno_core::InstanceId;
use dalsegno_core::query::{InstanceCursor, InstancePage, InstanceQuery, LargeValues, Status};
use dalsegno_core::store::{InstanceRow, ReadError, Store};

use crate::{loader, record};

/// Rows read at once, and rows looked at for one page, which then ends early with a place to go on from.
const ROWS_READ: usize = 500;
const ROWS_LOOKED_AT_MAX: usize = 50_000;

/// What is looked for.
#[derive(Debug)]
pub(crate) struct Noted {
    awaited: Option<String>,
    failed: Option<String>,
    /// Instances that are between two attempts of that activity.
    retrying: HashSet<InstanceId>,
}

impl Noted {
    /// `None` when a query asks for nothing of that kind.
    pub(crate) fn new(query: &InstanceQuery, retrying: HashSet<InstanceId>) -> Option<Self> {
        let awaited = query.waiting_for.as_ref().map(|name| name.to_lowercase());
        let failed = query.failed_activity.clone();
        (awaited.is_some() || failed.is_some()).then_some(Self {
            awaited,
            failed,
            retrying,
        })
    }

    fn can_be(&self, status: Status) -> bool {
        match status {
            Status::Pending | Status::Running | Status::Suspended => true,
            Status::Failed => self.awaited.is_none(),
            Status::Completed | Status::Terminated | Status::Canceled => false,
        }
    }

    fn is_meant(&self, row: &InstanceRow) -> bool {
        let extra = record::decode_extra(&row.extra).unwrap_or_default();
        let is_awaited = |name: &String| extra.awaited_events.iter().any(|awaited| **awaited == **name);
        let has_failed =
            |name: &String| extra.failed_activity.as_deref() == Some(name) || self.retrying.contains(&row.id);
        self.awaited.as_ref().is_none_or(is_awaited) && self.failed.as_ref().is_none_or(has_failed)
    }
}

/// A page of those that are meant, with the values that are wanted.
///
/// # Errors
/// When the store cannot be read, or a value is missing.
pub(crate) fn list(
    store: &dyn Store,
    query: InstanceQuery,
    noted: &Noted,
    bytes_max: usize,
) -> Result<InstancePage, ReadError> {
    let asked = |status: &Status| query.statuses.is_empty() || query.statuses.contains(status);
    let statuses = Status::ALL
        .into_iter()
        .filter(|status| noted.can_be(*status) && asked(status));
    let mut read = InstanceQuery {
        statuses: statuses.collect(),
        limit: ROWS_READ,
        large: LargeValues::LeaveOut,
        ..query.clone()
    };
    if read.statuses.is_empty() {
        return Ok(InstancePage::default());
    }
    let (mut rows, mut looked_at) = (Vec::new(), 0);
    loop {
        let page = store.list(&read)?;
        for row in page.rows {
            if rows.len() == query.limit {
                // The one that is too many is found again.
                let next = rows.last().map(cursor);
                return loader::completed(store, InstancePage { rows, next }, query.large, bytes_max);
            }
            if noted.is_meant(&row) {
                rows.push(row);
            }
        }
        looked_at += ROWS_READ;
        if page.next.is_none() || looked_at >= ROWS_LOOKED_AT_MAX {
            let next = page.next;
            return loader::completed(store, InstancePage { rows, next }, query.large, bytes_max);
        }
        read.after = page.next;
    }
}

fn cursor(row: &InstanceRow) -> InstanceCursor {
    InstanceCursor {
        created: row.created,
        id: row.id.clone(),
    }
}
