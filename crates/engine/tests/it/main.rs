//! The engine as its callers see it, with user code that misbehaves.

mod app;
mod deaths;
mod eviction;
mod reads;
mod remote;
mod rewinds;
mod simulated;
mod sizes;
mod threads;
