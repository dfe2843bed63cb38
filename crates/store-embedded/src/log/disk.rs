//! The disk under the log: a folder of files, as little of it as the log needs.
//!
//! A seam, so that tests can put a disk there which tears sectors, loses names and fails to sync.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, RenameFlags, StatxFlags};
use rustix::io::Errno;

/// Bytes written at a time when a file is filled.
const FILL_BYTES: usize = 1 << 20;

/// A folder.
pub(crate) trait Disk: Send + Sync + fmt::Debug {
    /// Names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// A new, empty file; an error when the name is taken.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// A file that is there.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name; fails with `AlreadyExists` when that name is taken.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// The file that has this name now; `None` when no file has it. Opens nothing.
    fn id_of(&self, name: &str) -> io::Result<Option<FileId>>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync_names(&self) -> io::Result<()>;
}

/// Identifies a file whatever its name: a file that is deleted and created again has another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// A file of it.
pub(crate) trait DiskFile: Send + Sync + fmt::Debug {
    /// Identifies the file of this handle.
    fn id(&self) -> io::Result<FileId>;
    /// Locks the file for this handle until it is unlocked or dropped. False when another handle
    /// has it locked, in whatever process.
    fn try_lock(&self) -> io::Result<bool>;
    /// Releases the lock of this handle.
    fn unlock(&self) -> io::Result<()>;
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills the buffer from a position.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// All of it.
    fn read_whole(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.len()?).map_err(io::Error::other)?];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }
    /// Writes all bytes at a position; the file grows as needed.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes it that long, with room for all of it; what was never written reads as zeros.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.fill(bytes)
    }
    /// The same, all of it written, so that no later write changes more than data.
    fn fill(&self, bytes: u64) -> io::Result<()> {
        let zeros = vec![0; FILL_BYTES];
        let mut position = 0;
        while position < bytes {
            let part = (bytes - position).min(FILL_BYTES as u64);
            self.write_at(position, &zeros[..part as usize])?;
            position += part;
        }
        Ok(())
    }
    /// Makes what was written durable, and the length.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the operating system.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }
}

impl Disk for Folder {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // Our names are ASCII; others are not ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path.join(name))?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(name))?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        match rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // Not every file system can. Two processes that race here have both passed the lock.
            Err(Errno::NOSYS | Errno::INVAL) if fs::symlink_metadata(&to).is_err() => fs::rename(from, to),
            Err(Errno::NOSYS | Errno::INVAL) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn id_of(&self, name: &str) -> io::Result<Option<FileId>> {
        FileId::at(CWD, &self.path.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl FileId {
    /// The file of this name; of the descriptor itself when the name is empty.
    ///
    /// Asks for nothing else: a system that was asked for the times of a file writes them again at
    /// the next write, and a sync of the log then takes a third longer.
    fn at(folder: impl AsFd, path: &Path) -> io::Result<Option<Self>> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        match rustix::fs::statx(folder, path, flags, StatxFlags::INO) {
            Ok(found) => Ok(Some(Self {
                device: u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor),
                inode: found.stx_ino,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl DiskFile for File {
    fn id(&self) -> io::Result<FileId> {
        FileId::at(self, Path::new(""))?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn try_lock(&self) -> io::Result<bool> {
        match Self::try_lock(self) {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        Self::unlock(self)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, position)
    }

    /// Into memory that is not filled with zeros first: that took as long as the rest of a start.
    fn read_whole(&self) -> io::Result<Vec<u8>> {
        let len = DiskFile::len(self)?;
        let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
        let mut file = self;
        file.seek(SeekFrom::Start(0))?;
        file.take(len).read_to_end(&mut bytes)?;
        match bytes.len() as u64 == len {
            true => Ok(bytes),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, position)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            // Not every file system can.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.fill(bytes),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
