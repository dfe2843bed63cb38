//! Entities in memory, limited in bytes: the least recently used leave it, the store has them.

use std::collections::VecDeque;

use dalsegno_core::{EntityId, Payload};

use super::Partition;

/// What an entity takes besides its state, about.
const ENTITY_BYTES: usize = 512;

/// See the module.
#[derive(Debug)]
pub(super) struct EntityCache {
    bytes: usize,
    bytes_max: usize,
    tick: u64,
    /// Uses in order; stale ones are passed over.
    uses: VecDeque<(u64, EntityId)>,
}

/// What the cache knows of one entity.
#[derive(Debug, Default)]
pub(super) struct EntityUse {
    last_turn: u64,
    bytes: usize,
    tick: u64,
}

impl EntityCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: 0,
            bytes_max,
            tick: 0,
            uses: VecDeque::new(),
        }
    }
}

impl Partition {
    /// How many entities are in memory.
    pub fn entities_in_memory(&self) -> usize {
        self.entities.len()
    }

    /// This turn has touched it.
    pub(super) fn note_entity_use(&mut self, id: &EntityId, turn: u64) {
        let Some(slot) = self.entities.get_mut(id) else {
            return;
        };
        let state = slot.entity.as_ref().and_then(|entity| entity.row.state.as_ref());
        let bytes = ENTITY_BYTES + state.map_or(0, Payload::len_bytes);
        let cache = &mut self.entity_cache;
        cache.tick += 1;
        cache.bytes = cache.bytes + bytes - slot.last_use.bytes;
        cache.uses.push_back((cache.tick, id.clone()));
        slot.last_use = EntityUse {
            last_turn: turn,
            bytes,
            tick: cache.tick,
        };
        if cache.uses.len() > 2 * self.entities.len() + 4096 {
            let entities = &self.entities;
            cache
                .uses
                .retain(|(tick, id)| entities.get(id).is_some_and(|slot| slot.last_use.tick == *tick));
        }
    }

    /// Those beyond the limit leave, unless somebody waits for them or holds them.
    pub(super) fn evict_entities(&mut self, durable: u64) {
        while self.entity_cache.bytes > self.entity_cache.bytes_max {
            let Some((tick, id)) = self.entity_cache.uses.pop_front() else {
                return;
            };
            let Some(slot) = self.entities.get(&id).filter(|slot| slot.last_use.tick == tick) else {
                continue;
            };
            let EntityUse { last_turn, bytes, .. } = slot.last_use;
            if slot.is_idle() && last_turn <= durable {
                self.entities.remove(&id);
                self.entity_cache.bytes -= bytes;
            } else {
                return self.note_entity_use(&id, last_turn);
            }
        }
    }
}
