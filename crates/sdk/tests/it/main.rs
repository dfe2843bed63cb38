//! The SDK, driven by hand-made events: no engine, no clock, no thread.

mod activities;
mod attributes;
mod combinators;
mod driver;
mod entities;
mod faults;
mod harness;
mod hub;
mod idle;
mod logging;
mod testing;
