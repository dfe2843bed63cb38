//! The simulator's own tests, and the loop of real kills.

mod kill;
mod seeds;
