//! A real server on loopback, spoken to byte by byte, and the remote client against it.

#![expect(clippy::unwrap_used, reason = "tests may, and their helpers with them")]

mod access;
mod app;
mod auth;
mod described;
mod ends;
mod hubs;
mod jobs;
mod large;
mod limits;
mod management;
mod observed;
mod read_only;
mod remote;
mod revoked;
mod stream;
mod tables;
mod timers;
mod tls;
mod unlocks;
mod world;
