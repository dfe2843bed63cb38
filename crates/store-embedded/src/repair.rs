//! The way out for rows that cannot be read: they are moved aside, with their bytes.
//!
//! A hub whose rows are damaged serves everything else. What is damaged can be neither run nor
//! deleted, because nobody knows what it is; here it goes to the table `quarantine`, and with an
//! instance or entity goes what belongs to it. What is lost with it is for people to decide: a
//! backup may have it.

use std::path::Path;

use dalsegno_core::store::{Moved, Store};

use crate::error::OpenError;
use crate::identity::Identity;
use crate::options::Options;
use crate::recovery::{self, Locked};
use crate::sqlite::{self, quarantine, schema};
use crate::store::EmbeddedStore;

/// Moves every row that cannot be read into the table `quarantine`, and says which.
///
/// The hub is opened first, as a start does it, so that what is only in its log is in the tables.
///
/// # Errors
/// When the hub does not open, or its tables cannot be written. Then nothing was moved.
pub fn repair(folder: &Path) -> Result<Vec<Moved>, OpenError> {
    let store = EmbeddedStore::open(folder, Options::default())?;
    store
        .checkpoint()
        .map_err(|error| OpenError::io("fold the log", std::io::Error::other(error)))?;
    drop(store);
    let Locked { lock: _lock, claim } = recovery::lock_hub(folder)?;
    let identity =
        Identity::read(folder)?.ok_or_else(|| OpenError::damaged("the file identity is missing"))?;
    // Checks that these are the tables of this hub.
    drop(recovery::open_tables(folder, &identity)?);
    let moved = sqlite::open_writer(&folder.join(sqlite::FILE))
        .and_then(|tables| {
            schema::set_durable(&tables)?;
            quarantine::move_damaged(&tables)
        })
        .map_err(|error| OpenError::sqlite("move damaged rows", error));
    drop(claim);
    moved
}
