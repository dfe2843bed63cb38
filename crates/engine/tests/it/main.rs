//! The engine as its callers see it, with user code that misbehaves.

mod app;
mod threads;
