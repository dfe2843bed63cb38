//! The way out for rows that cannot be read: they are moved aside, with their bytes.
//!
//! A hub whose rows are damaged serves everything else. What is damaged can be neither run nor
//! deleted, because nobody knows what it is; here it goes to the table `quarantine`, and with an
//! instance or entity goes what belongs to it. What is lost with it is for people to decide: a
//! backup may have it. A page that SQLite cannot read holds many rows, and there is no way out but a
//! backup.

use std::path::Path;

use dalsegno_core::store::{Moved, Store};

use crate::error::OpenError;
use crate::identity::Identity;
use crate::options::Options;
use crate::recovery::{self, Locked};
use crate::sqlite::{self, quarantine, read, schema};
use crate::store::EmbeddedStore;

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// The rows that it moved.
    pub moved: Vec<Moved>,
    /// What is wrong with the file still, as SQLite says it: pages that no repair mends.
    pub malformed: Vec<String>,
}

/// Moves every row that cannot be read into the table `quarantine`, and says which.
///
/// The hub is opened first, as a start does it, so that what is only in its log is in the tables.
///
/// # Errors
/// When the hub does not open, or its tables cannot be read to their end or written. Then nothing was
/// moved.
pub fn repair(folder: &Path) -> Result<Repaired, OpenError> {
    let store = EmbeddedStore::open(folder, Options::default())?;
    let folded = store.checkpoint();
    drop(store);
    folded
        .map_err(|error| OpenError::unread("fold the log", error))
        .and_then(|_| repair_tables(folder))
        .map_err(|error| error.in_folder(folder))
}

fn repair_tables(folder: &Path) -> Result<Repaired, OpenError> {
    let Locked { lock: _lock, claim } = recovery::lock_hub(folder)?;
    let identity =
        Identity::read(folder)?.ok_or_else(|| OpenError::damaged("the file identity is missing"))?;
    // Checks that these are the tables of this hub.
    drop(recovery::open_tables(folder, &identity)?);
    let repaired = sqlite::open_writer(&folder.join(sqlite::FILE))
        .and_then(|tables| {
            schema::set_durable(&tables)?;
            Ok(Repaired {
                moved: quarantine::move_damaged(&tables)?,
                malformed: read::malformed_pages(&tables)?,
            })
        })
        .map_err(|error| OpenError::sqlite("move damaged rows", error));
    drop(claim);
    repaired
}
