//! The service as clients call it, on a hub in memory, without a network.

mod actions;
mod answers;
mod codes;
mod door;
mod identity;
mod limiters;
mod links;
mod missing;
mod refusals;
mod spans;
mod tokens;
mod turns;
mod world;
