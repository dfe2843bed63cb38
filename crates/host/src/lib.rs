//! The faces of a task hub.
//!
//! HTTP in both forms (the management API of Durable Functions, and what that cannot say), the
//! app's own routes, timer triggers, configuration, keys, and the client that speaks to all this
//! from another process. Decides nothing about instances: that is the engine's.

pub mod app_routes;
pub mod audit;
mod authority;
pub mod config;
mod dashboard;
mod error_codes;
#[cfg(test)]
mod garbage;
mod http;
mod hubs;
pub mod key_file;
pub mod keys;
pub mod link_keys;
use dalsegno_engine::nearest;
mod observer;
mod openapi;
pub mod remote;
mod remote_changes;
mod remote_operations;
mod remote_watch;
pub mod schedule;
pub mod server;
mod service;
pub mod telemetry;
pub mod tls;
pub mod traces;
pub mod v1;
pub mod visible;
pub mod webhooks;

pub use app_routes::{AppRoutes, AuthLevel};
pub use error_codes::{ERROR_CODES, ErrorCode, error_code};
pub use http::grpc_calls::{grpc_scopes, grpc_second_scopes};
pub use http::links::{CheckStatus, Links, ManagementPayload};
pub use http::request::{RequestLinks, trace_in};
pub use hubs::{Created, HubKeeper, HubList, HubRefusal, unknown_hub};
pub use nearest::nearest;
pub use observer::Observer;
pub use openapi::document as openapi_document;
pub use remote::RemoteHub;
pub use remote_changes::{RemoteChange, RemoteChanges};
pub use remote_operations::NewOperation;
pub use remote_watch::RemoteWatch;
pub use server::Server;
pub use service::Service;
pub use v1::jobs::Operations;
