//! Answers that workers still owe for turns that were taken back.
//!
//! A worker that names no completion token names the instance alone, so its answer to a turn that
//! was taken back looks like one to the instance's next turn. Until it has answered or its
//! connection ends, the instance's turns go to workers that name tokens only: whatever comes
//! without a token meanwhile is the answer that was owed.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Delivery;

#[derive(Debug, Default)]
pub(super) struct Owed {
    /// By instance. A worker owes an instance one answer at most: it gets no other turn of it.
    turns: HashMap<Arc<str>, Vec<Delivery>>,
}

impl Owed {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn add(&mut self, instance: &Arc<str>, delivery: Delivery) {
        let owed = self.turns.entry(instance.clone()).or_default();
        if !owed.iter().any(|known| known.stream == delivery.stream) {
            owed.push(delivery);
        }
    }

    /// Is an answer for a turn of this instance owed by any worker?
    pub(super) fn is_for(&self, instance: &str) -> bool {
        self.turns.contains_key(instance)
    }

    /// The stream that owes the first answer for this instance.
    pub(super) fn first(&self, instance: &str) -> Option<u64> {
        let owed = self.turns.get(instance)?;
        owed.first().map(|delivery| delivery.stream)
    }

    /// One answer for this instance came without a token; `false`: none was owed.
    pub(super) fn settle(&mut self, instance: &str) -> bool {
        let Some(owed) = self.turns.get_mut(instance) else {
            return false;
        };
        owed.remove(0);
        if owed.is_empty() {
            self.turns.remove(instance);
        }
        true
    }

    /// The stream to which a delivery went that is owed.
    pub(super) fn stream_of(&self, item: u64, number: u64) -> Option<u64> {
        let mut all = self.turns.values().flatten();
        let found = all.find(|delivery| delivery.item == item && delivery.number == number);
        found.map(|delivery| delivery.stream)
    }

    /// The stream has ended, or its answers are known by their tokens.
    pub(super) fn forget(&mut self, stream: u64) {
        self.turns.retain(|_, owed| {
            owed.retain(|delivery| delivery.stream != stream);
            !owed.is_empty()
        });
    }
}
