//! The service as clients call it, on a hub in memory, without a network.

mod answers;
mod codes;
mod turns;
