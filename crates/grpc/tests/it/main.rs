//! The service as clients call it, on a hub in memory, without a network.

mod codes;
mod turns;
