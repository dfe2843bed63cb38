//! The simulator's own tests, and the loop of real kills.

#![expect(clippy::unwrap_used, reason = "tests may, and their helpers with them")]

mod kill;
mod seeds;
