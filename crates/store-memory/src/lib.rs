//! A store in memory: the meaning of the store's trait in its plainest form.
//!
//! Users' tests and the simulator run on it, and the conformance suite takes it as the model that
//! other stores are compared with. Nothing survives the process.

mod store;
mod tables;

pub use store::MemoryStore;
