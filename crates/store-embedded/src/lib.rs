//! The embedded store: a log of commits in recycled segments, folded into SQLite.
//!
//! An append is one write and one sync of the log; a background checkpoint folds what survives
//! into `hub.db`. Opening is recovery; there is no other start-up path. See the modules: [`mod@verify`]
//! checks a hub that is not open.

pub mod backup;
mod checkpoint;
mod error;
mod folders;
mod identity;
mod log;
mod options;
mod overlay;
mod recovery;
pub mod repair;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod sqlite;
mod store;
pub mod verify;

pub use error::OpenError;
pub use options::Options;
pub use store::EmbeddedStore;
