//! The SDK, driven by hand-made events: no engine, no clock, no thread. But for `app`: the whole.

#![expect(clippy::unwrap_used, reason = "tests may, and their helpers with them")]

mod activities;
mod app;
mod attributes;
mod cancel;
mod combinators;
mod compensations;
mod driver;
mod entities;
mod faults;
mod harness;
mod hub;
mod idle;
mod lethal;
mod limiters;
mod logging;
mod parent_close;
mod testing;
