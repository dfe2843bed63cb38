//! A number that many may add to.

use dalsegno::{OrchestrationContext, Result, entity, orchestrator};
use serde::{Deserialize, Serialize};

/// A counter.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    /// Adds; gives the new value.
    pub fn add(&mut self, amount: i64) -> i64 {
        self.value += amount;
        self.value
    }

    /// Begins again.
    pub fn reset(&mut self) {
        self.value = 0;
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.value
    }
}

/// Signals a counter many times, without waiting, then asks for its value: what one sends to an
/// entity arrives in the order it was sent.
#[orchestrator(name = "CountUp")]
pub async fn count_up(ctx: &OrchestrationContext, (key, times): (String, u32)) -> Result<i64> {
    let counter = ctx.entity::<Counter>(key);
    for _ in 0..times {
        counter.add(1).signal();
    }
    Ok(counter.get().await?)
}
