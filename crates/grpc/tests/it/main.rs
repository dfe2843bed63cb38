//! The service as clients call it, on a hub in memory, without a network.

mod actions;
mod codes;
mod missing;
mod world;
