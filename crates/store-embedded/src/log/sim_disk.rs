//! A disk that forgets: sectors, names and lengths are durable only once they were synced.
//!
//! A crash keeps any subset of the unsynced sectors of 512 bytes and tears one of them. Names are
//! a journal: a crash keeps a prefix of what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_store_tests::Random;

use super::disk::{Disk, DiskFile, FileId};

const SECTOR: usize = 512;

/// Clones share the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the last sync of them.
    journal: Vec<Change>,
    syncs: usize,
    /// Operations until everything fails, as in a crash: `None` is never.
    fuel: Option<usize>,
    /// The next sync fails, and the pages are marked clean.
    fails_next_sync: bool,
    /// Bytes that all files may have.
    capacity: Option<usize>,
    /// Files that a handle has locked.
    locked: BTreeSet<usize>,
    /// Locks exclude nobody.
    ignores_locks: bool,
    interruption: Option<Interruption>,
}

/// Something else that happens between two operations.
struct Interruption {
    /// Operations until then.
    operations: usize,
    act: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interruption")
            .field("operations", &self.operations)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
enum Change {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// As programs see it.
    cached: Vec<u8>,
    /// As it is after a power loss, at least.
    durable: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: BTreeSet<usize>,
}

impl SimDisk {
    /// Syncs of files so far.
    pub fn syncs(&self) -> usize {
        self.lock().syncs
    }

    /// From now on so many operations succeed.
    pub fn crash_after(&self, operations: usize) {
        self.lock().fuel = Some(operations);
    }

    /// Did the crash happen?
    pub fn is_down(&self) -> bool {
        self.lock().fuel == Some(0)
    }

    /// The next sync of a file fails, and what it was to sync counts as clean.
    pub fn fail_next_sync(&self) {
        self.lock().fails_next_sync = true;
    }

    /// From now on a lock excludes nobody, as on a file system that has none.
    pub fn ignore_locks(&self) {
        self.lock().ignores_locks = true;
    }

    /// Another process acts after so many operations, before the next one.
    pub fn interrupt_after(&self, operations: usize, act: impl FnOnce() + Send + 'static) {
        self.lock().interruption = Some(Interruption {
            operations,
            act: Box::new(act),
        });
    }

    /// Is that still to come? It is forgotten then.
    pub fn forget_interruption(&self) -> bool {
        self.lock().interruption.take().is_some()
    }

    /// So many bytes fit on the disk.
    pub fn set_capacity(&self, capacity: Option<usize>) {
        self.lock().capacity = capacity;
    }

    /// The process is gone, the operating system lives: everything written is there.
    pub fn after_kill(&self) -> Self {
        let state = self.lock();
        let copy = State {
            files: state.files.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            journal: state.journal.clone(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(copy)),
        }
    }

    /// The power is gone: what was not synced is there in part.
    pub fn after_power_loss(&self, random: &mut Random) -> Self {
        let state = self.lock();
        let kept = random.below(state.journal.len() as u64 + 1) as usize;
        let mut names = state.durable_names.clone();
        for change in &state.journal[..kept] {
            change.apply(&mut names);
        }
        let files = state
            .files
            .iter()
            .map(|file| file.after_power_loss(random))
            .collect();
        let copy = State {
            files,
            durable_names: names.clone(),
            names,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(copy)),
        }
    }

    /// Changes a file behind everybody's back; false when it has no such byte.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let index = state.names[name];
        let file = &mut state.files[index];
        change(&mut file.cached);
        file.durable = file.cached.clone();
    }

    /// From now on nothing fails that has not failed yet.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.fuel = state.fuel.filter(|fuel| *fuel == 0);
        state.fails_next_sync = false;
        state.capacity = None;
    }

    /// A file as programs see it.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let state = self.lock();
        state.files[state.names[name]].cached.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for one operation, after what happens before it.
    fn enter(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let is_due = match &mut state.interruption {
            Some(interruption) if interruption.operations == 0 => true,
            Some(interruption) => {
                interruption.operations -= 1;
                false
            }
            None => false,
        };
        if is_due && let Some(interruption) = state.interruption.take() {
            drop(state);
            (interruption.act)();
            state = self.lock();
        }
        state
    }
}

impl State {
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.fuel {
            Some(0) => Err(io::Error::other("the machine is down")),
            Some(fuel) => {
                *fuel -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Looking at a name costs no step of a crash, so that a seed that found something still does.
    fn check_up(&self) -> io::Result<()> {
        match self.fuel {
            Some(0) => Err(io::Error::other("the machine is down")),
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.journal.push(change);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Content {
    fn after_power_loss(&self, random: &mut Random) -> Self {
        let mut bytes = self.durable.clone();
        let torn = random.below(self.dirty.len() as u64 + 1) as usize;
        // All, most, half, few or none of the sectors.
        let share = random.below(5);
        for (n, sector) in self.dirty.iter().enumerate() {
            let start = sector * SECTOR;
            let end = self.cached.len().min(start + SECTOR);
            let keeps = random.below(4) < share;
            let kept = match (n == torn, keeps) {
                (true, _) => start + random.below((end - start) as u64 + 1) as usize,
                (false, true) => end,
                (false, false) => start,
            };
            if kept > start {
                if bytes.len() < kept {
                    bytes.resize(kept, 0);
                }
                bytes[start..kept].copy_from_slice(&self.cached[start..kept]);
            }
        }
        Self {
            cached: bytes.clone(),
            durable: bytes,
            dirty: Default::default(),
        }
    }
}

impl Disk for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut state = self.enter();
        state.operate()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.enter();
        state.operate()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let index = state.files.len();
        state.files.push(Content::default());
        state.change(Change::Create(name.to_owned(), index));
        drop(state);
        self.open_index(index)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.enter();
        state.operate()?;
        let index = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        drop(state);
        self.open_index(index)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.enter();
        state.operate()?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn id_of(&self, name: &str) -> io::Result<Option<FileId>> {
        let state = self.enter();
        state.check_up()?;
        Ok(state.names.get(name).map(|index| file_id(*index)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.enter();
        state.operate()?;
        state.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.enter();
        state.operate()?;
        state.durable_names = state.names.clone();
        state.journal.clear();
        Ok(())
    }
}

impl SimDisk {
    fn open_index(&self, index: usize) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SimFile {
            disk: self.clone(),
            index,
            has_lock: AtomicBool::new(false),
        }))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    index: usize,
    has_lock: AtomicBool,
}

fn file_id(index: usize) -> FileId {
    FileId {
        device: 0,
        inode: index as u64,
    }
}

impl SimFile {
    fn release(&self) {
        if self.has_lock.swap(false, Ordering::SeqCst) {
            self.disk.lock().locked.remove(&self.index);
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.release();
    }
}

impl DiskFile for SimFile {
    fn id(&self) -> io::Result<FileId> {
        Ok(file_id(self.index))
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.disk.enter();
        state.check_up()?;
        if state.ignores_locks || self.has_lock.load(Ordering::SeqCst) {
            return Ok(true);
        }
        let is_free = state.locked.insert(self.index);
        self.has_lock.store(is_free, Ordering::SeqCst);
        Ok(is_free)
    }

    fn unlock(&self) -> io::Result<()> {
        self.release();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.index].cached.len() as u64)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.enter();
        state.operate()?;
        let start = position as usize;
        let bytes = state.files[self.index]
            .cached
            .get(start..start + buffer.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.enter();
        state.operate()?;
        let end = position as usize + bytes.len();
        let used: usize = state.files.iter().map(|file| file.cached.len()).sum();
        let grows = end.saturating_sub(state.files[self.index].cached.len());
        if state.capacity.is_some_and(|capacity| used + grows > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = &mut state.files[self.index];
        if file.cached.len() < end {
            file.cached.resize(end, 0);
        }
        file.cached[position as usize..end].copy_from_slice(bytes);
        file.dirty
            .extend(position as usize / SECTOR..end.div_ceil(SECTOR));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.enter();
        state.operate()?;
        state.syncs += 1;
        let fails = std::mem::take(&mut state.fails_next_sync);
        let file = &mut state.files[self.index];
        if fails {
            // As ext4 does: the pages count as clean, though the disk never got them.
            file.dirty.clear();
            return Err(io::Error::other("input/output error"));
        }
        file.durable = file.cached.clone();
        file.dirty.clear();
        Ok(())
    }
}
