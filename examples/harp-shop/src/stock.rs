//! The entities.

use dalsegno::entity;
use serde::{Deserialize, Serialize};

/// Counts what was ordered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Counter {
    count: i64,
    note: Option<String>,
}

#[entity]
impl Counter {
    /// Adds; gives the sum.
    pub fn add(&mut self, amount: i64) -> i64 {
        self.count += amount;
        self.count
    }

    /// Writes something beside it.
    pub fn note(&mut self, text: String) {
        self.note = Some(text);
    }
}

/// Only one uses it at a time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Till {
    uses: u32,
}

#[entity]
impl Till {
    /// Opens it; gives how often it was opened.
    pub fn open(&mut self) -> u32 {
        self.uses += 1;
        self.uses
    }
}
