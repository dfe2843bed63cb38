//! The changes of one instance as they become durable.
//!
//! Nothing is queued for a reader. It waits as any client waits, for there to be more than it has
//! seen; then it reads on from the store, a page at a time. So a slow reader costs what a quick one
//! costs, and a reader that comes back goes on where it was.

use std::collections::VecDeque;

use dalsegno_core::query::{InstanceQuery, LargeValues};
use dalsegno_core::store::InstanceRow;
use dalsegno_core::{Event, InstanceId};

use super::TaskHub;
use crate::changes::HubChanges;
use crate::loader;
use crate::request::{Answer, InstanceStatus, RequestError, RequestErrorKind};
use crate::seen::{Seen, state_of};

/// How often an instance is looked at again whose history went while it was read.
const TRIES_MAX: usize = 10;

/// Something new of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Whoever has seen this goes on behind it.
    pub seen: Seen,
    /// What is new.
    pub event: WatchEvent,
}

/// The kinds of change.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// From here on it is another execution than the reader saw before: the first, or one after
    /// continue-as-new, a rewind or a new start. Its history follows from its begin.
    Execution(InstanceStatus),
    /// A history event. Number and order are those of the history.
    History(u64, Event),
    /// Status, custom status or fault are now these. Between two of them there may have been others.
    Status(InstanceStatus),
    /// It is finished, and nothing follows.
    End(InstanceStatus),
}

/// A reader of the changes of one instance.
#[derive(Debug)]
pub struct Watch {
    hub: TaskHub,
    id: InstanceId,
    large: LargeValues,
    seen: Seen,
    /// What was read and not handed out yet: one page at most.
    page: VecDeque<Change>,
}

impl TaskHub {
    /// The changes of all rows from now on that pass a filter; its statuses are not looked at, for
    /// whoever shows a list has to learn of those that leave it.
    pub fn changes(&self, query: InstanceQuery) -> HubChanges {
        let query = InstanceQuery {
            statuses: Vec::new(),
            ..query
        };
        self.runtime.changes.reader(query)
    }

    /// The changes of an instance behind a place in them; with `None` all there is of its current
    /// execution. Begins with an answer: that of an instance that does not exist is `NotFound`.
    ///
    /// What the reader may rely on: every event of an execution's history once and in order, as long
    /// as the hub has it, and the newest status behind them. What an execution has recorded goes
    /// when it continues as new, is purged or replaced; what the reader had not read of it then is
    /// not told, and the next execution is announced.
    ///
    /// # Errors
    /// `NotFound`, `Busy`, `Internal`; `Invalid` for a place that is behind the end.
    pub async fn watch(&self, id: &InstanceId, after: Option<Seen>, large: LargeValues) -> Answer<Watch> {
        let mut watch = Watch {
            hub: self.clone(),
            id: id.clone(),
            large,
            seen: after.unwrap_or_default(),
            page: VecDeque::new(),
        };
        let status = self.status_with(id, LargeValues::LeaveOut).await?;
        let row = status.ok_or_else(|| RequestError::not_found(id))?.row;
        // The end that was told may be that of another execution by now.
        watch.seen.is_end &= watch.seen.execution == row.key && row.status.is_final();
        if watch.seen.execution == row.key && watch.seen.events > row.events {
            let detail = format!(
                "instance {id} has {} history events and not {}: begin without a place",
                row.events, watch.seen.events
            );
            return Err(RequestError::new(RequestErrorKind::Invalid, detail).about(id));
        }
        Ok(watch)
    }
}

impl Watch {
    /// Where the reader is: behind the last change it was given.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Has the end been told?
    pub fn is_over(&self) -> bool {
        self.seen.is_end
    }

    /// The next change, once it is durable; `None` after the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `NotFound` when the instance was purged; `Busy`, `Unavailable`, `Internal`: a new watch from
    /// [`Watch::seen`] goes on.
    pub async fn next(&mut self) -> Answer<Option<Change>> {
        let mut tries = 0;
        loop {
            if let Some(change) = self.page.pop_front() {
                self.seen = change.seen;
                return Ok(Some(change));
            }
            if self.seen.is_end {
                return Ok(None);
            }
            if tries == TRIES_MAX {
                let detail = format!(
                    "the history of instance {} cannot be read on: verify the hub",
                    self.id
                );
                return Err(RequestError::new(RequestErrorKind::Internal, detail).about(&self.id));
            }
            tries += 1;
            self.page = self.read().await?;
        }
    }

    /// The page behind what was seen; empty when the execution went meanwhile.
    async fn read(&self) -> Answer<VecDeque<Change>> {
        let status = self.hub.changed(&self.id, self.seen).await?;
        let (seen, large) = (self.seen, self.large);
        let bytes_max = self.hub.limits().page_bytes_max;
        let page = self.hub.runtime.blocking(move |store| {
            let row = &status.row;
            let first = if seen.execution == row.key { seen.events } else { 0 };
            let missing = row.events.saturating_sub(first);
            let mut events = match missing {
                0 => Vec::new(),
                _ => loader::read_history_page(store, row, first, large, bytes_max)?,
            };
            events.truncate(usize::try_from(missing).unwrap_or(usize::MAX));
            Ok(page(seen, status, events))
        });
        page.await
    }
}

/// What a reader is told who has seen so much, of an instance as it is and events behind that.
fn page(mut seen: Seen, mut status: InstanceStatus, events: Vec<Event>) -> VecDeque<Change> {
    let mut page = VecDeque::new();
    let row = &mut status.row;
    // It is in the history's first event.
    row.input = None;
    let is_gone = |seen: &Seen, row: &InstanceRow| events.is_empty() && seen.events < row.events;
    if seen.execution != row.key {
        seen = Seen {
            execution: row.key,
            ..Seen::default()
        };
        if is_gone(&seen, row) {
            return page;
        }
        page.push_back(Change {
            seen,
            event: WatchEvent::Execution(status.clone()),
        });
    }
    if is_gone(&seen, &status.row) {
        return page;
    }
    for event in events {
        let number = seen.events;
        seen.events += 1;
        page.push_back(Change {
            seen,
            event: WatchEvent::History(number, event),
        });
    }
    if seen.events < status.row.events {
        return page;
    }
    let state = state_of(&status.row);
    if seen.state != state {
        seen.state = state;
        page.push_back(Change {
            seen,
            event: WatchEvent::Status(status.clone()),
        });
    }
    if status.row.status.is_final() {
        seen.is_end = true;
        page.push_back(Change {
            seen,
            event: WatchEvent::End(status),
        });
    }
    page
}
