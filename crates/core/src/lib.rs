//! The state machine of dalsegno.
//!
//! What an orchestration, an entity and a limiter *are* and how they move: values and functions
//! over them. Knows no clock, thread, disk, network or randomness; whoever calls passes `now` and
//! stores what comes back. Everything that can be simulated is simulated because of this.

pub mod action;
pub mod entity;
pub mod event;
pub mod failure;
pub mod hash;
pub mod id;
pub mod limiter;
pub mod limits;
pub mod message;
pub mod orchestration;
pub mod payload;
pub mod planted;
pub mod query;
pub mod retry;
pub mod rewind;
pub mod span;
pub mod store;
pub mod time;
pub mod trace;

pub use action::Action;
pub use event::{Event, EventKind};
pub use failure::{CANCELLED, Divergence, Failure, Fault, FaultKind};
pub use id::{EntityId, Epoch, ExecutionId, ExecutionKey, InstanceId, PartitionId, TaskId};
pub use message::{Message, Outcome};
pub use payload::Payload;
pub use span::SpanId;
pub use time::Timestamp;
pub use trace::TraceContext;
