//! The engine: what moves the instances of a task hub.

pub mod executor;
pub mod hub;
pub mod record;
pub mod request;

pub use executor::Executor;
pub use hub::TaskHub;
