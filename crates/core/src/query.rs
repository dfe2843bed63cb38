//! Which instances and entities are asked for, page by page.

use crate::id::{EntityId, ExecutionKey, InstanceId};
use crate::store::{EntityRow, InstanceRow};
use crate::time::Timestamp;

/// The status of an instance as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Has not had its first turn.
    Pending,
    /// Is at it, waits, or is parked.
    Running,
    /// Takes no messages until resumed.
    Suspended,
    /// Returned. Final.
    Completed,
    /// Failed. Final until rewound.
    Failed,
    /// Was ended. Final.
    Terminated,
    /// Was asked to end, and did so by itself. Final.
    Canceled,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Suspended,
        Self::Completed,
        Self::Failed,
        Self::Terminated,
        Self::Canceled,
    ];

    /// Is it one that ends an instance?
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Terminated | Self::Canceled
        )
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Suspended => "Suspended",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Terminated => "Terminated",
            Self::Canceled => "Canceled",
        }
    }

    /// Number in stored records; final ones are 10 and above.
    pub fn code(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Running => 1,
            Self::Suspended => 2,
            Self::Completed => 10,
            Self::Failed => 11,
            Self::Terminated => 12,
            Self::Canceled => 13,
        }
    }

    /// The status with a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }
}

/// Which values that are stored apart are read for an answer. Those left out are absent in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LargeValues {
    /// All.
    #[default]
    Read,
    /// All but inputs of instances.
    LeaveOutInputs,
    /// None.
    LeaveOut,
}

/// Rows on a page when nothing else is said.
pub const PAGE_ROWS: usize = 100;

/// Filters combine with AND; what is empty or `None` does not filter.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceQuery {
    /// Any of these.
    pub statuses: Vec<Status>,
    /// Created at or after.
    pub created_from: Option<Timestamp>,
    /// Created at or before.
    pub created_to: Option<Timestamp>,
    /// The id starts with this, in exact case.
    pub id_prefix: Option<String>,
    /// The orchestrator's name, exact.
    pub name: Option<String>,
    /// All of these tags, exact.
    pub tags: Vec<(String, String)>,
    /// Children of this instance.
    pub parent: Option<InstanceId>,
    /// Waits for an external event of this name, in any case. A hub looks at it, no store.
    pub waiting_for: Option<String>,
    /// An activity of this name failed it, or has failed while it goes on. A hub looks at it, no store.
    pub failed_activity: Option<String>,
    /// Instances on the page at most ([`PAGE_ROWS`] by default); the caller has checked it.
    pub limit: usize,
    /// Go on behind this one.
    pub after: Option<InstanceCursor>,
    /// What a hub adds to what its store has listed.
    pub large: LargeValues,
}

impl Default for InstanceQuery {
    fn default() -> Self {
        Self {
            statuses: Vec::new(),
            created_from: None,
            created_to: None,
            id_prefix: None,
            name: None,
            tags: Vec::new(),
            parent: None,
            waiting_for: None,
            failed_activity: None,
            limit: PAGE_ROWS,
            after: None,
            large: LargeValues::Read,
        }
    }
}

impl InstanceQuery {
    /// Does a row pass the filters of a store? Neither paging is looked at nor what a hub keeps opaque.
    pub fn matches(&self, row: &InstanceRow) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&row.status))
            && self.created_from.is_none_or(|from| row.created >= from)
            && self.created_to.is_none_or(|to| row.created <= to)
            && self
                .id_prefix
                .as_ref()
                .is_none_or(|prefix| row.id.as_str().starts_with(prefix))
            && self.name.as_ref().is_none_or(|name| *row.name == **name)
            && self.tags.iter().all(|tag| row.tags.contains(tag))
            && self.is_of_parent(row)
    }
}

impl InstanceQuery {
    fn is_of_parent(&self, row: &InstanceRow) -> bool {
        self.parent.as_ref().is_none_or(|wanted| {
            row.parent
                .as_ref()
                .is_some_and(|parent| parent.instance == *wanted)
        })
    }
}

/// Newest first, then by id: where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceCursor {
    /// Creation time of the last row.
    pub created: Timestamp,
    /// Its id.
    pub id: InstanceId,
}

/// Rows, newest first, then by id; `next` is set when there may be more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstancePage {
    /// The rows.
    pub rows: Vec<InstanceRow>,
    /// Where the next page begins.
    pub next: Option<InstanceCursor>,
}

/// Which entities.
#[derive(Clone, Debug, PartialEq)]
pub struct EntityQuery {
    /// The entity name, lower case.
    pub name: Option<String>,
    /// Last operation at or after.
    pub from: Option<Timestamp>,
    /// Last operation at or before.
    pub to: Option<Timestamp>,
    /// Entities on the page at most ([`PAGE_ROWS`] by default).
    pub limit: usize,
    /// Go on behind this one.
    pub after: Option<EntityId>,
    /// What a hub adds to what its store has listed.
    pub large: LargeValues,
}

impl Default for EntityQuery {
    fn default() -> Self {
        Self {
            name: None,
            from: None,
            to: None,
            limit: PAGE_ROWS,
            after: None,
            large: LargeValues::Read,
        }
    }
}

/// Entities with state, by name, then key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntityPage {
    /// The rows.
    pub rows: Vec<EntityRow>,
    /// Where the next page begins.
    pub next: Option<EntityId>,
}

/// What a purge by filter removes: finished instances only, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeMatch {
    /// The instance.
    pub id: InstanceId,
    /// The execution that was matched; a newer one is not removed.
    pub key: ExecutionKey,
}
