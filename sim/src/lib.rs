//! Deterministic simulation of dalsegno.
//!
//! Random programs run on the engine's own partitions, over a store in memory or over the embedded
//! store's log on a simulated disk; a share of them at simulated workers. Each seed has its own swarm of faults: crashes
//! between any two steps, store errors, hubs taken over, disks that tear and fail, clocks that
//! jump, tiny limits. Clients start, raise, signal, suspend, terminate, replace, rewind, restart
//! and purge meanwhile, and every answer is judged. Then the faults stop, everything has to come
//! to rest, and an exact model says what must have come out. The same seed gives the same run.

mod checks;
mod clients;
mod elsewhere;
mod ground;
pub mod interpreter;
pub mod program;
pub mod scenario;
mod subject;
mod swarm;
