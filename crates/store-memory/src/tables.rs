//! The tables of a hub and what each change does to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use dalsegno_core::query::Status;
use dalsegno_core::store::{
    Cause, Commit, EntityRow, HistoryChunk, InstanceRow, Loaded, Op, Owner, TimerRow,
};
use dalsegno_core::{EntityId, ExecutionKey, InstanceId, PartitionId, Payload, TaskId};

type NamedRecords = Vec<(Arc<str>, Vec<u8>)>;

/// Ordered maps, so that whatever is listed comes out the same each time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) instances: BTreeMap<InstanceId, InstanceRow>,
    /// The current execution of each instance, back to its id.
    ids: BTreeMap<ExecutionKey, InstanceId>,
    pub(crate) history: BTreeMap<ExecutionKey, Vec<HistoryChunk>>,
    messages: BTreeMap<(PartitionId, u64), Vec<u8>>,
    tasks: BTreeMap<(PartitionId, ExecutionKey, TaskId), Vec<u8>>,
    timers: BTreeMap<(PartitionId, TimerRow), ()>,
    pub(crate) payloads: BTreeMap<Owner, BTreeMap<u64, Payload>>,
    pub(crate) entities: BTreeMap<EntityId, EntityRow>,
    limiters: BTreeMap<(Arc<str>, Arc<str>), Vec<u8>>,
    meta: BTreeMap<Arc<str>, Vec<u8>>,
    pub(crate) key_max: ExecutionKey,
    pub(crate) message_max: u64,
}

impl Tables {
    /// Does every append to a history go on where that history ends?
    pub(crate) fn check(&self, batch: &[Commit]) -> Result<(), Cause> {
        let mut ends: BTreeMap<ExecutionKey, u64> = BTreeMap::new();
        for op in batch.iter().flat_map(|commit| &commit.ops) {
            match op {
                Op::AppendHistory {
                    key, first, count, ..
                } => {
                    let end = ends.entry(*key).or_insert_with(|| self.history_end(*key));
                    if *first != *end {
                        return Err(format!(
                            "the history of execution {} has {end} events, the append begins at {first}",
                            key.0
                        )
                        .into());
                    }
                    *end += u64::from(*count);
                }
                Op::DeleteExecution { key, .. } => {
                    ends.insert(*key, 0);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tasks and timers belong to the partition whose commit put them.
    pub(crate) fn apply(&mut self, commit: Commit) {
        let owner = commit.partition;
        for op in commit.ops {
            match op {
                Op::PutInstance(_) | Op::TouchInstance { .. } | Op::DeleteExecution { .. } => {
                    self.apply_instance(op);
                }
                Op::AppendHistory {
                    key,
                    first,
                    count,
                    data,
                } => {
                    self.key_max = self.key_max.max(key);
                    let chunk = HistoryChunk { first, count, data };
                    self.history.entry(key).or_default().push(chunk);
                }
                Op::PutMessage { partition, seq, data } => {
                    self.message_max = self.message_max.max(seq);
                    self.messages.insert((partition, seq), data);
                }
                Op::DeleteMessage { partition, seq } => {
                    self.messages.remove(&(partition, seq));
                }
                Op::PutTask { key, task, data } => {
                    self.key_max = self.key_max.max(key);
                    self.tasks.insert((owner, key, task), data);
                }
                Op::DeleteTask { key, task } => {
                    self.tasks.remove(&(owner, key, task));
                }
                Op::PutTimer { due, key, task } => {
                    self.key_max = self.key_max.max(key);
                    self.timers.insert((owner, timer(due, key, task)), ());
                }
                Op::DeleteTimer { due, key, task } => {
                    self.timers.remove(&(owner, timer(due, key, task)));
                }
                Op::PutPayload { owner, n, value } => {
                    if let Owner::Execution(key) = owner {
                        self.key_max = self.key_max.max(key);
                    }
                    self.payloads.entry(owner).or_default().insert(n, value);
                }
                Op::DeletePayload { owner, n } => {
                    if let Some(of) = self.payloads.get_mut(&owner) {
                        of.remove(&n);
                    }
                }
                _ => self.apply_named(op),
            }
        }
    }

    pub(crate) fn instance_by_key(&self, key: ExecutionKey) -> Option<&InstanceRow> {
        self.ids.get(&key).and_then(|id| self.instances.get(id))
    }

    pub(crate) fn counts(&self) -> Vec<(Status, u64)> {
        let count = |status| self.instances.values().filter(|row| row.status == status).count() as u64;
        Status::ALL
            .into_iter()
            .map(|status| (status, count(status)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    pub(crate) fn limiters(&self) -> Vec<(Arc<str>, Arc<str>, Vec<u8>)> {
        self.limiters
            .iter()
            .map(|((name, key), data)| (Arc::clone(name), Arc::clone(key), data.clone()))
            .collect()
    }

    pub(crate) fn meta(&self) -> NamedRecords {
        self.meta
            .iter()
            .map(|(name, data)| (Arc::clone(name), data.clone()))
            .collect()
    }

    pub(crate) fn load(&self, partition: PartitionId) -> Loaded {
        Loaded {
            messages: self
                .messages
                .iter()
                .filter(|((owner, _), _)| *owner == partition)
                .map(|((_, seq), data)| (*seq, data.clone()))
                .collect(),
            tasks: self
                .tasks
                .iter()
                .filter(|((owner, ..), _)| *owner == partition)
                .map(|((_, key, task), data)| (*key, *task, data.clone()))
                .collect(),
            timers: self
                .timers
                .keys()
                .filter(|(owner, _)| *owner == partition)
                .map(|(_, timer)| *timer)
                .collect(),
            parked: self
                .instances
                .values()
                .filter(|row| row.partition == partition && row.parked.is_some())
                .map(|row| row.id.clone())
                .collect(),
            busy_entities: self
                .entities
                .values()
                .filter(|row| row.partition == partition && !row.queue.is_empty())
                .cloned()
                .collect(),
        }
    }

    fn history_end(&self, key: ExecutionKey) -> u64 {
        self.history
            .get(&key)
            .and_then(|chunks| chunks.last())
            .map_or(0, |chunk| chunk.first + u64::from(chunk.count))
    }

    fn apply_instance(&mut self, op: Op) {
        match op {
            Op::PutInstance(row) => {
                self.key_max = self.key_max.max(row.key);
                self.ids.insert(row.key, row.id.clone());
                let key = row.key;
                if let Some(former) = self.instances.insert(row.id.clone(), *row)
                    && former.key != key
                {
                    self.ids.remove(&former.key);
                }
            }
            Op::TouchInstance { key, updated, events } => {
                let row = self.ids.get(&key).and_then(|id| self.instances.get_mut(id));
                if let Some(row) = row {
                    row.updated = updated;
                    row.events = events;
                }
            }
            Op::DeleteExecution { key, .. } => {
                self.history.remove(&key);
                self.payloads.remove(&Owner::Execution(key));
                if let Some(id) = self.ids.remove(&key) {
                    self.instances.remove(&id);
                }
            }
            _ => unreachable!("the caller passes changes of instances only"),
        }
    }

    fn apply_named(&mut self, op: Op) {
        match op {
            Op::PutEntity(row) => {
                self.entities.insert(row.id.clone(), *row);
            }
            Op::DeleteEntity { id } => {
                self.entities.remove(&id);
                self.payloads.remove(&Owner::Entity(id));
            }
            Op::PutLimiter { name, key, data } => {
                self.limiters.insert((name, key), data);
            }
            Op::DeleteLimiter { name, key } => {
                self.limiters.remove(&(name, key));
            }
            Op::PutMeta { name, data } => {
                self.meta.insert(name, data);
            }
            Op::DeleteMeta { name } => {
                self.meta.remove(&name);
            }
            _ => unreachable!("the caller passes changes of named records only"),
        }
    }
}

fn timer(due: dalsegno_core::Timestamp, key: ExecutionKey, task: TaskId) -> TimerRow {
    TimerRow { due, key, task }
}
