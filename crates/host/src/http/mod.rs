//! The management API of Durable Functions, one file per resource, and what every route shares.
//!
//! Only `wire.rs` knows the JSON. Requests are matched with the table in `routes.rs`, because
//! literals match in any case and segments are decoded exactly once; the OpenAPI document is made
//! from the same table.

pub(crate) mod auth;
mod authorize;
pub(crate) mod body;
mod commands;
pub(crate) mod dispatch;
mod entities;
mod forwarding;
pub(crate) mod grpc;
pub(crate) mod grpc_calls;
pub(crate) mod health;
mod history;
pub(crate) mod links;
pub(crate) mod list;
pub(crate) mod metrics;
pub(crate) mod page_token;
pub(crate) mod path;
pub(crate) mod problem;
pub(crate) mod purge;
pub(crate) mod query;
pub(crate) mod request;
pub(crate) mod route;
pub(crate) mod routes;
mod start;
mod status;
pub(crate) mod time;
pub(crate) mod unread;
pub(crate) mod waits;
pub(crate) mod wire;
