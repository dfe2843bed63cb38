//! Where results are saved: a SQLite database of the app's own.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use crate::report::Checked;

/// The app's database file.
#[derive(Clone, Debug)]
pub struct Database {
    path: PathBuf,
}

impl Database {
    /// A database at this path; made when it is first used.
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
        }
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, packages INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS packages (
               run TEXT NOT NULL, name TEXT NOT NULL, latest_version TEXT, last_release_month TEXT, failure TEXT,
               PRIMARY KEY (run, name)) WITHOUT ROWID;",
        )?;
        Ok(connection)
    }

    /// Saves a run. Saving it again changes nothing: the activity that does it may be run twice.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn save(&self, run: &str, results: &[Checked]) -> rusqlite::Result<usize> {
        let mut connection = self.open()?;
        let transaction = connection.transaction()?;
        for result in results {
            let (name, version, month, failure) = match result {
                Checked::Found(package) => (
                    &package.name,
                    Some(&package.latest_version),
                    Some(&package.last_release_month),
                    None,
                ),
                Checked::Failed { name, message } => (name, None, None, Some(message)),
            };
            transaction.execute(
                "INSERT OR REPLACE INTO packages VALUES (?1, ?2, ?3, ?4, ?5)",
                params![run, name, version, month, failure],
            )?;
        }
        transaction.execute(
            "INSERT OR REPLACE INTO runs VALUES (?1, ?2)",
            params![run, results.len() as i64],
        )?;
        transaction.commit()?;
        Ok(results.len())
    }

    /// How many packages a run has saved.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn count(&self, run: &str) -> rusqlite::Result<usize> {
        let count = "SELECT count(*) FROM packages WHERE run = ?1";
        let count: i64 = self.open()?.query_row(count, [run], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }
}
