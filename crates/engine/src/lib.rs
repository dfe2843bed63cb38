//! The engine: what moves the instances of a task hub.
//!
//! Decisions are functions over plain data ([`partition::Partition`], [`dalsegno_core`]); threads,
//! the async runtime and the store are a thin shell around them ([`hub::TaskHub`]).

pub mod alarm;
pub mod attempt;
pub mod changes;
pub mod choices;
pub mod clock;
pub mod commit_queue;
pub mod committer;
pub mod counts;
mod disk_space;
pub mod dispatcher;
pub mod executor;
pub mod explain;
pub mod hub;
pub mod input;
pub mod limiters;
pub mod loader;
pub mod mailbox;
pub mod marks;
pub mod meters;
pub mod nearest;
mod noted;
pub mod partition;
pub mod record;
pub mod request;
pub mod seen;
pub mod simulation;
pub mod station;
pub mod task;
pub mod traces;
pub mod turn;
pub mod verify;
pub mod webhooks;

pub use executor::Executor;
pub use hub::{HubError, HubErrorKind, HubOptions, TaskHub};
