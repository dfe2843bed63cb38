//! The Durable Task gRPC protocol on a task hub: programs written with the official SDKs connect
//! to it as workers and as clients.
//!
//! [`Workers`](workers::Workers) holds the work that waits for workers,
//! [`RemoteExecutor`](executor::RemoteExecutor) gives the engine what they run, and
//! [`Sidecar`](service::Sidecar) answers the calls.

pub mod answers;
pub mod codec;
pub mod executor;
pub mod filter;
pub mod outcome;
pub mod service;
pub mod stream;
pub mod worker;
pub mod workers;

pub use tonic;

mod client_calls;
mod fields;
mod guid;
mod options;
mod plain;
mod wire;
mod worker_answers;
mod worker_calls;
mod worker_turns;
mod worker_wire;

/// The protocol's messages, its server and its client, generated from `proto/durabletask.proto`.
#[expect(clippy::allow_attributes, clippy::too_many_lines, reason = "generated code")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/_.rs"));
}
