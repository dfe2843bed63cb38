//! Opening a hub's folder: lock, identity, tables, log. Start-up is recovery.
//!
//! Everything is read and checked before the first change, so a hub that is refused stays as it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use uuid::Uuid;

use crate::backup;
use crate::error::OpenError;
use crate::identity::{self, Identity, Stage};
use crate::log::disk::Folder;
use crate::log::recovery::LogError;
use crate::log::segment;
use crate::log::{self, Batch, Known, Log};
use crate::options::Options;
use crate::sqlite::schema::{self, Position};
use crate::sqlite::{self, write};

/// Held, as an OS lock, by the process that has the hub open; says which.
pub(crate) const LOCK_FILE: &str = "lock";

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
const SQLITE_HEADER_BYTES: u64 = 100;

/// A hub that is open.
pub(crate) struct Opened {
    pub(crate) lock: File,
    pub(crate) identity: Identity,
    pub(crate) writer: Connection,
    pub(crate) position: Position,
    pub(crate) log: Log,
    /// Durable, and not yet in the tables.
    pub(crate) batches: Vec<Batch>,
}

/// Opens the hub in a folder, or makes one in a folder that is empty or not there.
pub(crate) fn open(folder: &Path, options: &Options) -> Result<Opened, OpenError> {
    if !folder.exists() {
        make_folder(folder).map_err(|error| OpenError::io("make the hub's folder", error))?;
    }
    check_folder(folder)?;
    let lock = take_lock(folder)?;
    backup::tidy(folder).map_err(|error| OpenError::io("remove the rest of a backup", error))?;
    let identity = match Identity::read(folder)? {
        Some(identity) if identity.stage == Stage::Ready => identity,
        Some(half) => create(folder, half)?,
        None => {
            // Again under the lock: somebody else may have begun meanwhile.
            check_folder(folder)?;
            let identity = Identity {
                store: Uuid::new_v4().as_u128(),
                partitions: options.partitions,
                stage: Stage::Creating,
            };
            create(folder, identity)?
        }
    };
    // A connection that only reads leaves everything as it is, also when it is closed.
    let reader = open_tables(folder, &identity)?;
    let position = schema::read_position(&reader).map_err(|error| OpenError::sqlite("read", error))?;
    let known = known(&identity, &position);
    let disk = Arc::new(Folder::new(folder));
    let found = log::find(disk.as_ref(), &known, options.segment_bytes).map_err(log_error)?;
    drop(reader);
    // From here on it is sure that the hub is opened, and it is changed.
    let writer = sqlite::open_writer(&folder.join(sqlite::FILE))
        .and_then(|writer| schema::set_durable(&writer).map(|()| writer))
        .and_then(|writer| schema::upgrade(&writer).map(|()| writer))
        .map_err(|error| OpenError::sqlite("set up", error))?;
    let (log, batches) = log::begin(disk, &known, options.segment_bytes, found).map_err(log_error)?;
    let position = Position {
        durable: log.last(),
        segment: log.active_segment(),
        epoch: log.epoch(),
        ..position
    };
    note_opening(&writer, &identity, &position)
        .map_err(|error| OpenError::sqlite("note the opening", error))?;
    // The tables name the segment of this opening now, and an idle hub has no checkpoint that would
    // give the others back.
    if let Err(error) = log.segments().recycle(position.applied, position.segment) {
        tracing::warn!(%error, "log segments could not be recycled");
    }
    Ok(Opened {
        lock,
        identity,
        writer,
        position,
        log,
        batches,
    })
}

/// What the tables know about the log.
pub(crate) fn known(identity: &Identity, position: &Position) -> Known {
    Known {
        store: identity.store,
        epoch: position.epoch,
        applied: position.applied,
        durable: position.durable,
        segment: position.segment,
    }
}

pub(crate) fn log_error(error: LogError) -> OpenError {
    match error {
        LogError::Damaged(reason) => OpenError::damaged(&format!("the log is damaged: {reason}")),
        LogError::Newer(found) => OpenError::newer("the log", found, segment::VERSION),
        LogError::Io(what, error) => OpenError::io(what, error),
    }
}

/// Takes the lock, or says who has it.
pub(crate) fn take_lock(folder: &Path) -> Result<File, OpenError> {
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(LOCK_FILE))
        .map_err(|error| OpenError::io("open the hub's lock", error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Who holds it may be writing it just now.
            let _ = lock.read_to_string(&mut pid);
            let pid = pid.trim();
            return Err(OpenError::in_use(if pid.is_empty() { "(starting)" } else { pid }));
        }
        Err(fs::TryLockError::Error(error)) => return Err(OpenError::io("lock the hub", error)),
    }
    let note = |lock: &mut File| -> io::Result<()> {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    note(&mut lock).map_err(|error| OpenError::io("write the hub's lock", error))?;
    Ok(lock)
}

/// Refuses what is no hub and must not become one.
pub(crate) fn check_folder(folder: &Path) -> Result<(), OpenError> {
    if !folder.is_dir() {
        return Err(OpenError::foreign(format!(
            "{} is not a folder",
            folder.display()
        )));
    }
    if folder.join(identity::FILE).exists() {
        return Ok(());
    }
    let entries = fs::read_dir(folder).map_err(|error| OpenError::io("list the hub's folder", error))?;
    for entry in entries {
        let entry = entry.map_err(|error| OpenError::io("list the hub's folder", error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if identity::belongs_to_hub(&name) {
            return Err(OpenError::damaged(&format!(
                "the file identity is missing, but {name} is there"
            )));
        }
        if !identity::is_prelude(&name) {
            return Err(OpenError::foreign(format!(
                "{} is not a hub's folder, it holds {name}: choose an empty one",
                folder.display()
            )));
        }
    }
    Ok(())
}

/// SQLite takes an empty file for an empty database, and drops the `-wal` beside it.
fn check_database_file(folder: &Path) -> Result<(), OpenError> {
    let mut file = match File::open(folder.join(sqlite::FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::damaged("hub.db is missing"));
        }
        Err(error) => return Err(OpenError::io("open hub.db", error)),
    };
    let bytes = file
        .metadata()
        .map_err(|error| OpenError::io("look at hub.db", error))?
        .len();
    let mut magic = [0; SQLITE_MAGIC.len()];
    if bytes < SQLITE_HEADER_BYTES || file.read_exact(&mut magic).is_err() || magic != *SQLITE_MAGIC {
        return Err(OpenError::damaged(&format!(
            "hub.db is not a database ({bytes} bytes)"
        )));
    }
    Ok(())
}

/// Are these the tables of this hub, in a version that we know?
fn check_tables(connection: &Connection, identity: &Identity) -> Result<(), OpenError> {
    let found =
        schema::identity(connection).map_err(|error| OpenError::sqlite("read the identity", error))?;
    let Some((store, format)) = found else {
        return Err(OpenError::damaged("hub.db does not say which hub it belongs to"));
    };
    if format > schema::VERSION {
        return Err(OpenError::newer("hub.db", format, schema::VERSION));
    }
    if format < schema::UPGRADED_FROM {
        return Err(OpenError::older("hub.db", format, schema::VERSION));
    }
    if store != format!("{:032x}", identity.store) {
        return Err(OpenError::damaged("hub.db belongs to another hub"));
    }
    Ok(())
}

/// The tables of this hub, to be read only.
pub(crate) fn open_tables(folder: &Path, identity: &Identity) -> Result<Connection, OpenError> {
    check_database_file(folder)?;
    let reader = sqlite::open_reader(&folder.join(sqlite::FILE))
        .map_err(|error| OpenError::sqlite("open the database", error))?;
    check_tables(&reader, identity)?;
    Ok(reader)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::DirBuilder::new().mode(0o700).create(folder)
}

/// Makes tables and log from nothing. Anything in the folder is of an attempt that was cut off.
fn create(folder: &Path, mut identity: Identity) -> Result<Identity, OpenError> {
    let write = |identity: &Identity| {
        identity
            .write(folder)
            .map_err(|error| OpenError::io("write the file identity", error))
    };
    write(&identity)?;
    make_database(folder).map_err(|error| OpenError::io("make hub.db", error))?;
    let connection = sqlite::open_writer(&folder.join(sqlite::FILE))
        .map_err(|error| OpenError::sqlite("open the database", error))?;
    schema::create(&connection, identity.store)
        .map_err(|error| OpenError::sqlite("make the tables", error))?;
    drop(connection);
    identity.stage = Stage::Ready;
    write(&identity)?;
    Ok(identity)
}

/// An empty file with the right mode; SQLite gives its companions the same.
fn make_database(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if identity::belongs_to_hub(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(folder.join(sqlite::FILE))?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

fn note_opening(writer: &Connection, identity: &Identity, position: &Position) -> rusqlite::Result<()> {
    let transaction = writer.unchecked_transaction()?;
    schema::write_position(&transaction, position)?;
    let owner = format!("pid {}", std::process::id());
    for partition in 0..identity.partitions {
        write::put_lease(&transaction, partition, &owner, position.epoch)?;
    }
    transaction.commit()
}
