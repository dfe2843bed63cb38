//! One entity as JSON: its row, who has its lock, and what stands before it.

use dalsegno_core::store::EntityRow;
use dalsegno_engine::request::{EntityQueue, EntityWaiter};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::{EntityRowWire, Unfit};

/// One entity, and what stands before it.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct EntityWire {
    #[serde(flatten)]
    row: EntityRowWire,
    /// How many wait or run.
    waiting: usize,
    /// The first of them.
    queue: Vec<EntityWaiterWire>,
}

/// One that stands before an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EntityWaiterWire {
    /// `operation` or `lock`.
    pub kind: String,
    /// Which operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The orchestration that waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// It is under way.
    pub running: bool,
}

/// An entity as a host tells it, with what its row alone does not say.
#[derive(Clone, Debug)]
pub struct EntityTold {
    /// Its row.
    pub row: EntityRow,
    /// The orchestration that has its lock.
    pub lock_holder: Option<String>,
    /// How many stand before it; 0 in a list.
    pub waiting: usize,
    /// The first of them.
    pub queue: Vec<EntityWaiterWire>,
    /// All of it, as it came.
    pub json: String,
}

/// What is beside the row.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BesideWire {
    #[serde(default)]
    lock_holder: Option<String>,
    #[serde(default)]
    waiting: usize,
    #[serde(default)]
    queue: Vec<EntityWaiterWire>,
}

impl EntityTold {
    pub(crate) fn read(json: &RawValue) -> Result<Self, Unfit> {
        let unfit = |error: serde_json::Error| Unfit(error.to_string());
        let row: EntityRowWire = serde_json::from_str(json.get()).map_err(unfit)?;
        let beside: BesideWire = serde_json::from_str(json.get()).map_err(unfit)?;
        Ok(Self {
            row: row.try_into()?,
            lock_holder: beside.lock_holder,
            waiting: beside.waiting,
            queue: beside.queue,
            json: json.get().to_owned(),
        })
    }
}

impl EntityWire {
    pub(crate) fn new(row: &EntityRow, queue: &EntityQueue) -> Self {
        Self {
            row: row.into(),
            waiting: queue.count,
            queue: queue.first.iter().map(EntityWaiterWire::from).collect(),
        }
    }
}

impl From<&EntityWaiter> for EntityWaiterWire {
    fn from(waiter: &EntityWaiter) -> Self {
        Self {
            kind: match waiter.operation {
                Some(_) => "operation",
                None => "lock",
            }
            .to_owned(),
            operation: waiter.operation.as_deref().map(str::to_owned),
            caller: waiter.caller.as_ref().map(ToString::to_string),
            running: waiter.is_running,
        }
    }
}
