//! Deterministic simulation of dalsegno.
//!
//! Random programs run on the engine's own partitions over a store that keeps exactly what was
//! appended. Crashes come between any two steps; clients start, raise, signal, suspend and
//! terminate meanwhile. Then the faults stop, everything has to come to rest, and an exact model
//! says what must have come out. The same seed gives the same run.

mod checks;
mod clients;
mod ground;
pub mod interpreter;
pub mod program;
pub mod scenario;
mod subject;
mod swarm;
