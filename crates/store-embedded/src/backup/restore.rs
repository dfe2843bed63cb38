//! From the file to a hub: the folder is made beside its place and gets its name when it is whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::frames::FrameReader;
use super::{BackupError, BackupInfo};
use crate::folders;
use crate::identity::Identity;
use crate::log::segment::{self, Header};
use crate::sqlite;
use crate::sqlite::schema::{self, Position};

/// The first line of the head, with the version of the whole.
const FIRST_LINE: &str = "dalsegno backup 1";
/// Length of the one segment of a hub that was restored: it is empty.
const SEGMENT_BYTES: u64 = 4096;
/// Behind the name of a folder that is being restored.
const UNFINISHED: &str = ".restoring";

/// What a file says of itself, in lines; the last ones are the hub's identity as its file has it.
pub(super) fn head(hub: &str, position: u64, bytes: u64, identity: &Identity) -> String {
    let hub: String = hub
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    format!(
        "{FIRST_LINE}\nhub {hub}\nposition {position}\nbytes {bytes}\n{}",
        identity.encode()
    )
}

fn read_head(text: &str) -> Result<(BackupInfo, Identity), BackupError> {
    let unfit = || BackupError::damaged("its head does not say what it has to");
    let mut rest = text;
    let mut line = |name: &str| -> Result<String, BackupError> {
        let (line, behind) = rest.split_once('\n').ok_or_else(unfit)?;
        rest = behind;
        line.strip_prefix(name).map(str::to_owned).ok_or_else(unfit)
    };
    let version = line("dalsegno backup ")?;
    if FIRST_LINE != format!("dalsegno backup {version}") {
        return Err(BackupError::other(format!(
            "it is a backup of version {version}, this version of dalsegno reads 1: use a newer one"
        )));
    }
    let hub = line("hub ")?;
    let position = line("position ")?.parse().map_err(|_| unfit())?;
    let database_bytes = line("bytes ")?.parse().map_err(|_| unfit())?;
    let identity = Identity::decode(rest.as_bytes()).map_err(BackupError::other)?;
    let info = BackupInfo {
        hub,
        store: format!("{:032x}", identity.store),
        partitions: identity.partitions,
        position,
        database_bytes,
    };
    Ok((info, identity))
}

/// Reads all of it; what is of the tables is handed on.
pub(super) fn read_whole(
    input: &mut dyn Read,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(BackupInfo, Identity), BackupError> {
    let mut frames = FrameReader::new(input);
    let (info, identity) = read_head(&frames.head()?)?;
    let mut bytes = 0;
    while let Some(data) = frames.data()? {
        bytes += data.len() as u64;
        take(&data).map_err(|error| BackupError::io("write hub.db", &error))?;
    }
    match bytes == info.database_bytes {
        true => Ok((info, identity)),
        false => Err(BackupError::damaged(
            "it does not hold as many bytes as its head says",
        )),
    }
}

/// Reads a file of a backup and says what it holds, if all of it is as it was written.
///
/// # Errors
/// When it cannot be read, is damaged, cut off, or no backup. What the hub in it means is to be
/// seen when it is restored and verified.
pub fn check_file(path: &Path) -> Result<BackupInfo, BackupError> {
    read_whole(&mut open(path)?, &mut |_| Ok(())).map(|(info, _)| info)
}

/// Makes a hub of a backup, in a folder that is not there or empty.
///
/// # Errors
/// When the folder has something in it, when the file is damaged or cannot be read, when the folder
/// cannot be written. Then there is no hub, nor half of one.
pub fn restore(path: &Path, folder: &Path) -> Result<BackupInfo, BackupError> {
    check_free(folder)?;
    let mut input = open(path)?;
    let unfinished = beside(folder)?;
    remove_all(&unfinished)?;
    let made = make(&mut input, &unfinished);
    let placed = made.and_then(|info| {
        fs::rename(&unfinished, folder)
            .and_then(|()| sync_folder(folder.parent()))
            .map_err(|error| BackupError::io(&format!("move the hub to {}", folder.display()), &error))?;
        Ok(info)
    });
    if placed.is_err() {
        remove_all(&unfinished)?;
    }
    placed
}

fn open(path: &Path) -> Result<io::BufReader<File>, BackupError> {
    let file = File::open(path);
    let file = file.map_err(|error| BackupError::io(&format!("open {}", path.display()), &error))?;
    Ok(io::BufReader::with_capacity(1 << 20, file))
}

/// Nothing is ever written over.
fn check_free(folder: &Path) -> Result<(), BackupError> {
    let mut entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(BackupError::io(
                &format!("look into {}", folder.display()),
                &error,
            ));
        }
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(BackupError::occupied(format!(
            "{} is not empty: a backup is restored into a folder that is not there yet; move that one away",
            folder.display()
        ))),
    }
}

fn beside(folder: &Path) -> Result<PathBuf, BackupError> {
    let name = folder.file_name().ok_or_else(|| {
        BackupError::other(format!("{} is no name of a folder to be made", folder.display()))
    })?;
    let mut name = OsString::from(name);
    name.push(UNFINISHED);
    Ok(folder.with_file_name(name))
}

/// What an attempt left that was cut off.
fn remove_all(folder: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::io(&format!("remove {}", folder.display()), &error))
        }
        _ => Ok(()),
    }
}

/// A whole hub in a new folder, durable.
fn make(input: &mut dyn Read, folder: &Path) -> Result<BackupInfo, BackupError> {
    let failed = |error: io::Error| BackupError::io(&format!("write into {}", folder.display()), &error);
    folders::create(folder).map_err(failed)?;
    let database = folder.join(sqlite::FILE);
    let mut file = create(&database).map_err(failed)?;
    let (info, identity) = read_whole(input, &mut |data| file.write_all(data))?;
    file.sync_all().map_err(failed)?;
    drop(file);
    let position = settle(&database, &identity, &info)?;
    begin_log(folder, &identity, &position).map_err(failed)?;
    identity.write(folder).map_err(failed)?;
    sync_folder(Some(folder)).map_err(failed)?;
    Ok(info)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Makes of the copy the tables of a hub whose log is empty.
fn settle(database: &Path, identity: &Identity, info: &BackupInfo) -> Result<Position, BackupError> {
    let unfit = |text: &str| BackupError::damaged(format!("hub.db in it {text}"));
    let settle = || -> rusqlite::Result<(Option<(String, u32)>, Position)> {
        let tables = sqlite::open_writer(database)?;
        schema::set_durable(&tables)?;
        let found = schema::identity(&tables)?;
        let position = schema::read_position(&tables)?;
        let position = Position {
            durable: position.applied,
            segment: position.segment.max(1),
            ..position
        };
        let transaction = tables.unchecked_transaction()?;
        schema::write_position(&transaction, &position)?;
        transaction.commit()?;
        Ok((found, position))
    };
    let (found, position) = settle().map_err(|error| unfit(&format!("cannot be read ({error})")))?;
    match found {
        Some((store, format)) if store == info.store && format == schema::VERSION => {}
        Some((store, _)) if store != format!("{:032x}", identity.store) => {
            return Err(unfit("belongs to another hub"));
        }
        Some((_, format)) if format > schema::VERSION => {
            return Err(BackupError::other(format!(
                "hub.db in it has format {format}, this version knows up to {}: use a newer version of dalsegno",
                schema::VERSION
            )));
        }
        Some(_) => {}
        None => return Err(unfit("does not say which hub it belongs to")),
    }
    match position.applied == info.position {
        true => Ok(position),
        false => Err(unfit("is of another position than its head says")),
    }
}

/// The segment that the tables say is there, with nothing in it.
fn begin_log(folder: &Path, identity: &Identity, position: &Position) -> io::Result<()> {
    let header = Header {
        store: identity.store,
        segment: position.segment,
        first_lsn: position.applied + 1,
        base_lsn: position.applied,
        epoch: position.epoch,
        bytes: SEGMENT_BYTES,
    };
    let mut bytes = header.encode().to_vec();
    bytes.resize(usize::try_from(SEGMENT_BYTES).map_err(io::Error::other)?, 0);
    let mut file = create(&folder.join(segment::name(position.segment)))?;
    file.write_all(&bytes)?;
    file.sync_all()
}

fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
