//! Opening a hub's folder: lock, identity, tables, log. Start-up is recovery.
//!
//! Everything is read and checked before the first change, so a hub that is refused stays as it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use uuid::Uuid;

use crate::backup;
use crate::error::OpenError;
use crate::folders;
use crate::identity::{self, Identity, Stage};
use crate::log::disk::{Disk, FileId, Folder};
use crate::log::recovery::{Claim, LogError};
use crate::log::segment;
use crate::log::{self, Batch, Known, Log};
use crate::options::Options;
use crate::sqlite::schema::{self, Position};
use crate::sqlite::{self, write};

/// Held, as an OS lock, by the process that has the hub open; says which. It is for people, and
/// keeps two processes from creating a hub at once; what protects data is the lock of the log
/// segment that is written, since this file can be deleted or replaced.
pub(crate) const LOCK_FILE: &str = "lock";

/// How often the lock file is opened until the locked file is the one that has the name.
const LOCK_TRIES_MAX: u32 = 8;

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
const SQLITE_HEADER_BYTES: usize = 100;
/// Where a file of SQLite's has its user version, which is a hub's mark here; 0 in those of earlier
/// versions of dalsegno.
const USER_VERSION_AT: usize = 60;

/// A hub that is open.
pub(crate) struct Opened {
    pub(crate) lock: File,
    pub(crate) identity: Identity,
    /// The file of the tables.
    pub(crate) database: FileId,
    pub(crate) writer: Connection,
    pub(crate) position: Position,
    pub(crate) log: Log,
    /// Durable, and not yet in the tables.
    pub(crate) batches: Vec<Batch>,
}

/// Opens the hub in a folder, or makes one in a folder that is empty or not there.
pub(crate) fn open(folder: &Path, options: &Options) -> Result<Opened, OpenError> {
    if !folder.exists() {
        folders::create(folder).map_err(|error| OpenError::io("create the hub's folder", error))?;
    }
    check_folder(folder)?;
    let Locked { lock, claim } = lock_hub(folder)?;
    backup::tidy(folder).map_err(|error| OpenError::io("remove the rest of a backup", error))?;
    let disk = Arc::new(Folder::new(folder));
    let (identity, claim) = match Identity::read(folder)? {
        Some(identity) if identity.stage == Stage::Ready => (identity, claim),
        Some(half) => {
            check_never_opened(folder, &half, &claim)?;
            drop(claim);
            (
                create(folder, half)?,
                log::claim(disk.as_ref()).map_err(log_error)?,
            )
        }
        None => {
            // Again under the lock: somebody else may have begun meanwhile.
            check_folder(folder)?;
            let identity = Identity {
                store: Uuid::new_v4().as_u128(),
                partitions: options.partitions,
                stage: Stage::Creating,
            };
            (create(folder, identity)?, claim)
        }
    };
    // A connection that only reads leaves everything as it is, also when it is closed.
    let reader = open_tables(folder, &identity)?;
    let position = schema::read_position(&reader).map_err(|error| OpenError::sqlite("read", error))?;
    let known = known(&identity, &position);
    let found = log::find(disk.as_ref(), claim, &known, options.segment_bytes).map_err(log_error)?;
    drop(reader);
    // From here on it is sure that the hub is opened, and it is changed.
    let writer = sqlite::open_writer(&folder.join(sqlite::FILE))
        .and_then(|writer| schema::set_durable(&writer).map(|()| writer))
        .and_then(|writer| schema::upgrade(&writer, identity.store).map(|()| writer))
        .map_err(|error| OpenError::sqlite("set up", error))?;
    let database = disk
        .id_of(sqlite::FILE)
        .map_err(|error| OpenError::io("look at hub.db", error))?
        .ok_or_else(|| OpenError::damaged("hub.db is missing"))?;
    let (log, batches) = log::begin(disk, &known, options.segment_bytes, found).map_err(log_error)?;
    let opened = Position {
        durable: log.last(),
        segment: log.active_segment(),
        epoch: log.epoch(),
        ..position
    };
    note_opening(&writer, &identity, &position, &opened)?;
    let position = opened;
    // The tables name the segment of this opening now, and an idle hub has no checkpoint that would
    // give the others back.
    if let Err(error) = log.segments().recycle(position.applied, position.segment) {
        tracing::warn!(%error, "log segments could not be recycled");
    }
    Ok(Opened {
        lock,
        identity,
        database,
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
        LogError::InUse(how) => OpenError::in_use_without_lock(&how),
        LogError::Newer(found) => OpenError::newer("the log", found, segment::VERSION),
        LogError::Io(what, error) => OpenError::io(what, error),
    }
}

/// What a process holds that has a hub to itself.
pub(crate) struct Locked {
    pub(crate) lock: File,
    pub(crate) claim: Claim,
}

/// Takes the lock file and all segments of the log, or says who has them. Until then hub.db is
/// opened by nobody here: closing it would release the locks of SQLite in this whole process.
pub(crate) fn lock_hub(folder: &Path) -> Result<Locked, OpenError> {
    let mut lock = take_lock(folder)?;
    let claim = log::claim(&Folder::new(folder)).map_err(log_error)?;
    let note = |lock: &mut File| -> io::Result<()> {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    note(&mut lock).map_err(|error| OpenError::io("write the hub's lock", error))?;
    Ok(Locked { lock, claim })
}

/// Takes the lock file, or says who has it.
fn take_lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK_FILE);
    for _ in 0..LOCK_TRIES_MAX {
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
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
        // Somebody may have replaced the file between opening and locking it.
        if is_at(&lock, &path).map_err(|error| OpenError::io("look at the hub's lock", error))? {
            return Ok(lock);
        }
    }
    Err(OpenError::in_use_without_lock(
        "another process replaces the file",
    ))
}

/// Is this file the one that has this name?
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let file = file.metadata()?;
    Ok((file.dev(), file.ino()) == (found.dev(), found.ino()))
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

/// SQLite takes an empty file for an empty database, and drops the `-wal` beside it. And it reads a
/// `-wal` into whatever file is there: so the file itself has to be of this hub.
fn check_database_file(folder: &Path, identity: &Identity) -> Result<(), OpenError> {
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
    let mut header = [0; SQLITE_HEADER_BYTES];
    let is_whole = match file.read_exact(&mut header) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(OpenError::io("read hub.db", error)),
    };
    if !is_whole || !header.starts_with(SQLITE_MAGIC) {
        return Err(OpenError::damaged(&format!(
            "hub.db is not a database ({bytes} bytes)"
        )));
    }
    let mark = &header[USER_VERSION_AT..USER_VERSION_AT + 4];
    let mark = u32::from_be_bytes(mark.try_into().expect("4 bytes"));
    match mark == 0 || mark == schema::file_mark(identity.store) {
        true => Ok(()),
        false => Err(OpenError::damaged("hub.db belongs to another hub")),
    }
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
    check_database_file(folder, identity)?;
    let reader = sqlite::open_reader(&folder.join(sqlite::FILE))
        .map_err(|error| OpenError::sqlite("open the database", error))?;
    check_tables(&reader, identity)?;
    Ok(reader)
}

/// A hub that says it was never created holds no commit, so it can be created again. One that does
/// was opened, and somebody may have been answered: its identity is of an older copy.
fn check_never_opened(folder: &Path, identity: &Identity, claim: &Claim) -> Result<(), OpenError> {
    let commits = claim
        .commits(identity.store)
        .map_err(|error| OpenError::io("read a log segment", error))?;
    // Tables that cannot be read are those of an attempt that was cut off.
    let epoch = sqlite::open_reader(&folder.join(sqlite::FILE))
        .and_then(|tables| schema::epoch(&tables))
        .unwrap_or_default();
    let proof = match commits {
        Some(segment) => format!("{segment} holds commits"),
        None if epoch > 0 => format!("hub.db was opened {epoch} times"),
        None => return Ok(()),
    };
    Err(OpenError::damaged(&format!(
        "the file identity says that the hub was never created, but {proof}"
    )))
}

/// Creates the tables of a new hub. Anything in the folder is of an attempt that was cut off.
///
/// The last step, which replaces the file `identity`, is the one that counts: before it the next
/// opening begins again, and no opening has got further than here.
fn create(folder: &Path, identity: Identity) -> Result<Identity, OpenError> {
    create_by_steps(folder, identity, &mut |_| Ok(()))
}

/// What `create` does, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    SyncFolders,
    WriteIdentity,
    CreateDatabase,
    CreateTables,
    CheckTables,
    CommitIdentity,
}

/// Asks before each step, so that tests can fail there.
fn create_by_steps(
    folder: &Path,
    mut identity: Identity,
    before: &mut dyn FnMut(Step) -> io::Result<()>,
) -> Result<Identity, OpenError> {
    let mut begin = |step| before(step).map_err(|error| OpenError::io("create the hub", error));
    let write = |identity: &Identity| {
        identity
            .write(folder)
            .map_err(|error| OpenError::io("write the file identity", error))
    };
    begin(Step::SyncFolders)?;
    folders::sync_names(folder).map_err(|error| OpenError::io("sync the hub's folder", error))?;
    begin(Step::WriteIdentity)?;
    write(&identity)?;
    begin(Step::CreateDatabase)?;
    make_database(folder).map_err(|error| OpenError::io("create hub.db", error))?;
    begin(Step::CreateTables)?;
    // Whatever is wrong with the tables, they are created again: no opening has used them. SQLite
    // calls a read that fails damage, too.
    let failed = |error: OpenError| OpenError::io("create hub.db", io::Error::other(error));
    sqlite::open_writer(&folder.join(sqlite::FILE))
        .and_then(|connection| schema::create(&connection, identity.store))
        .map_err(|error| failed(OpenError::sqlite("create the tables", error)))?;
    begin(Step::CheckTables)?;
    check_created(folder, &identity).map_err(failed)?;
    begin(Step::CommitIdentity)?;
    identity.stage = Stage::Ready;
    write(&identity)?;
    Ok(identity)
}

/// Reads the tables as the next opening will: SQLite may have lost what it was told, and said so to nobody.
fn check_created(folder: &Path, identity: &Identity) -> Result<(), OpenError> {
    let tables = open_tables(folder, identity)?;
    let check = || -> rusqlite::Result<(Position, String)> {
        let journal = tables.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        Ok((schema::read_position(&tables)?, journal))
    };
    match check().map_err(|error| OpenError::sqlite("read the tables", error))? {
        (position, journal) if position == Position::default() && journal == "wal" => Ok(()),
        (_, journal) => Err(OpenError::damaged(&format!(
            "hub.db is not as it was created (journal_mode is {journal})"
        ))),
    }
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

/// Raises the epoch in the tables, which fences the checkpoint of any former owner, if they are
/// still as they were read.
fn note_opening(
    writer: &Connection,
    identity: &Identity,
    read: &Position,
    opened: &Position,
) -> Result<(), OpenError> {
    let note = || -> rusqlite::Result<bool> {
        let transaction = Transaction::new_unchecked(writer, TransactionBehavior::Immediate)?;
        if schema::read_position(&transaction)? != *read {
            return Ok(false);
        }
        schema::write_position(&transaction, opened)?;
        let owner = format!("pid {}", std::process::id());
        for partition in 0..identity.partitions {
            write::put_lease(&transaction, partition, &owner, opened.epoch)?;
        }
        transaction.commit()?;
        Ok(true)
    };
    match note() {
        Ok(true) => Ok(()),
        Ok(false) => Err(OpenError::in_use_without_lock("another process writes to hub.db")),
        Err(error) => Err(OpenError::sqlite("note the opening", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 6] = [
        Step::SyncFolders,
        Step::WriteIdentity,
        Step::CreateDatabase,
        Step::CreateTables,
        Step::CheckTables,
        Step::CommitIdentity,
    ];

    fn identity() -> Identity {
        Identity {
            store: 7,
            partitions: 2,
            stage: Stage::Creating,
        }
    }

    #[test]
    fn a_creation_that_fails_at_any_step_is_begun_again() {
        // An I/O error at the first start left a folder at which every later start panicked.
        for (index, failing) in STEPS.into_iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let mut seen = Vec::new();
            let mut fail = |step| {
                seen.push(step);
                match step == failing {
                    true => Err(io::Error::other("input/output error")),
                    false => Ok(()),
                }
            };
            let error = create_by_steps(folder.path(), identity(), &mut fail).unwrap_err();
            assert!(error.is_transient(), "{failing:?}: {error}");
            assert_eq!(seen, STEPS[..=index]);
            let opened = open(folder.path(), &Options::default()).unwrap();
            assert_eq!(opened.position.epoch, 1, "{failing:?}");
            assert_eq!(opened.identity.stage, Stage::Ready);
        }
    }

    #[test]
    fn tables_that_are_not_as_they_were_created_are_noticed_before_the_hub_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mut spoil = |step| {
            if step == Step::CheckTables {
                let tables = Connection::open(folder.path().join(sqlite::FILE)).unwrap();
                tables.execute_batch("PRAGMA journal_mode = DELETE").unwrap();
            }
            Ok(())
        };
        let error = create_by_steps(folder.path(), identity(), &mut spoil).unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(error.to_string().contains("journal_mode is delete"), "{error}");
        open(folder.path(), &Options::default()).unwrap();
    }

    #[test]
    fn a_hub_that_an_earlier_version_created_in_another_journal_mode_opens() {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), identity()).unwrap();
        let tables = Connection::open(folder.path().join(sqlite::FILE)).unwrap();
        tables.execute_batch("PRAGMA journal_mode = DELETE").unwrap();
        drop(tables);
        open(folder.path(), &Options::default()).unwrap();
    }
}
