//! What user code ran when the process died.
//!
//! Whoever is about to run user code writes into a slot of a small file whose code it is. Nothing
//! is synced: what is written survives the death of the process, and the death of the machine is
//! no fault of the code. What the file names at the next start is suspected of having killed the
//! process, and counted: see [`Suspects`].
//!
//! A mark costs a microsecond for each turn and attempt. So they are set only in a process whose
//! predecessor did not end cleanly: the first death tells nothing, those after it do.

use std::cell::Cell;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dalsegno_core::{ExecutionKey, TaskId};
use hashbrown::HashSet;

/// What stands in the place of the first slot while a hub is open.
const OPEN: &[u8] = b"open";

/// Room of one mark in the file. An id has up to 256 characters of up to 4 bytes, an entity's
/// two of them.
const SLOT_BYTES: usize = 4096;

/// Bytes before the id: checksum, kind, length of the id, task, key.
const HEAD_BYTES: usize = 24;

/// Whose code runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mark<'a> {
    /// A turn of this instance, or an operation of this entity (`@name@key`).
    Turn(&'a str),
    /// An attempt of this task.
    Attempt(ExecutionKey, TaskId),
}

/// Whose code ran when the process died.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Instances and entities (`@name@key`).
    pub ids: HashSet<String>,
    /// Activities.
    pub tasks: HashSet<(ExecutionKey, TaskId)>,
}

impl Suspects {
    /// Nobody is suspected.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.tasks.is_empty()
    }
}

/// The file, or nothing where marks are not kept. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Marks(Option<Arc<MarksFile>>);

#[derive(Debug)]
struct MarksFile {
    file: File,
    /// The process before this one died.
    is_armed: bool,
    /// The end was clean; who still runs, because he is stuck, is not marked any more.
    is_cleared: AtomicBool,
    slots: Mutex<Slots>,
}

impl MarksFile {
    fn is_cleared(&self) -> bool {
        self.is_cleared.load(Ordering::SeqCst)
    }
}

#[derive(Debug, Default)]
struct Slots {
    free: Vec<u32>,
    count: u32,
}

impl Marks {
    /// Marks that are kept nowhere.
    pub fn none() -> Self {
        Self::default()
    }

    /// Opens the file and begins it anew. Returns what it named: nothing after a clean end.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> io::Result<(Self, Suspects)> {
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        // It names instances; earlier versions left it readable by everybody.
        file.set_permissions(Permissions::from_mode(0o600))?;
        let is_armed = file.metadata()?.len() > 0;
        let suspects = read(&file)?;
        file.set_len(0)?;
        file.write_at(OPEN, 0)?;
        let file = MarksFile {
            file,
            is_armed,
            is_cleared: AtomicBool::new(false),
            slots: Mutex::default(),
        };
        Ok((Self(Some(Arc::new(file))), suspects))
    }

    /// A slot for one who runs user code; free again when it is dropped.
    pub fn slot(&self) -> Slot {
        let index = self.0.as_ref().map(|file| {
            let mut slots = file.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.free.pop().unwrap_or_else(|| {
                slots.count += 1;
                slots.count
            })
        });
        Slot {
            marks: self.clone(),
            index: index.unwrap_or_default(),
            is_set: Cell::new(false),
        }
    }

    /// The end was clean: nobody is suspected at the next start.
    pub fn clear(&self) {
        let Some(file) = &self.0 else { return };
        file.is_cleared.store(true, Ordering::SeqCst);
        if let Err(error) = file.file.set_len(0) {
            tracing::warn!(%error, "cannot empty the file of marks");
        }
    }
}

/// See [`Marks::slot`].
#[derive(Debug)]
pub struct Slot {
    marks: Marks,
    index: u32,
    is_set: Cell<bool>,
}

impl Slot {
    /// From now on this code runs. A mark that cannot be written is one that is missing later, no more.
    pub fn set(&self, mark: &Mark<'_>) {
        if let Some(file) = self.armed() {
            let mut bytes = [0; SLOT_BYTES];
            let length = encode(mark, &mut bytes);
            let place = u64::from(self.index) * SLOT_BYTES as u64;
            let _ = file.file.write_at(&bytes[..length], place);
            self.is_set.set(true);
        }
    }

    /// Is a mark kept at all?
    pub fn is_armed(&self) -> bool {
        self.armed().is_some()
    }

    fn armed(&self) -> Option<&MarksFile> {
        let file = self.marks.0.as_deref()?;
        (file.is_armed && !file.is_cleared()).then_some(file)
    }

    /// The code came back.
    pub fn clear(&self) {
        if let Some(file) = &self.marks.0
            && self.is_set.take()
            && !file.is_cleared()
        {
            let place = u64::from(self.index) * SLOT_BYTES as u64;
            let _ = file.file.write_at(&[0; HEAD_BYTES], place);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(file) = &self.marks.0 {
            let mut slots = file.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.free.push(self.index);
        }
    }
}

fn encode(mark: &Mark<'_>, bytes: &mut [u8; SLOT_BYTES]) -> usize {
    let (kind, id, key, task) = match mark {
        Mark::Turn(id) => (1_u16, *id, 0, 0),
        Mark::Attempt(key, task) => (2, "", key.0, task.0),
    };
    let id = &id.as_bytes()[..id.len().min(SLOT_BYTES - HEAD_BYTES)];
    let end = HEAD_BYTES + id.len();
    bytes[4..6].copy_from_slice(&kind.to_le_bytes());
    bytes[6..8].copy_from_slice(&(id.len() as u16).to_le_bytes());
    bytes[8..12].copy_from_slice(&task.to_le_bytes());
    bytes[16..24].copy_from_slice(&key.to_le_bytes());
    bytes[HEAD_BYTES..end].copy_from_slice(id);
    let checksum = crc32c::crc32c(&bytes[4..end]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    end
}

fn read(file: &File) -> io::Result<Suspects> {
    let mut suspects = Suspects::default();
    let length = file.metadata()?.len();
    let mut bytes = vec![0; SLOT_BYTES];
    for place in (0..length).step_by(SLOT_BYTES) {
        bytes.fill(0);
        let there = file.read_at(&mut bytes, place)?;
        if there >= HEAD_BYTES {
            note(&bytes, &mut suspects);
        }
    }
    Ok(suspects)
}

/// A mark that is not whole was being written or cleared when the process died: no code ran.
fn note(bytes: &[u8], suspects: &mut Suspects) {
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let Some(id) = bytes.get(HEAD_BYTES..HEAD_BYTES + usize::from(half(6))) else {
        return;
    };
    if word(0) != crc32c::crc32c(&bytes[4..HEAD_BYTES + id.len()]) {
        return;
    }
    match half(4) {
        1 => {
            if let Ok(id) = std::str::from_utf8(id) {
                suspects.ids.insert(id.to_owned());
            }
        }
        2 => {
            let key = u64::from(word(16)) | u64::from(word(20)) << 32;
            suspects.tasks.insert((ExecutionKey(key), TaskId(word(8))));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks in a process whose predecessor died.
    fn armed(path: &Path) -> Marks {
        std::fs::write(path, OPEN).unwrap();
        Marks::open(path).unwrap().0
    }

    #[test]
    fn the_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("running");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let _marks = Marks::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_ran_at_the_end_is_named_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("running");
        let marks = armed(&path);
        let (first, second, third) = (marks.slot(), marks.slot(), marks.slot());
        first.set(&Mark::Turn("order 1 – ü"));
        second.set(&Mark::Attempt(ExecutionKey(u64::MAX - 1), TaskId(7)));
        third.set(&Mark::Turn("done"));
        third.clear();
        drop(third);
        let again = marks.slot();
        again.set(&Mark::Turn("@counter@a"));
        again.set(&Mark::Turn("@c@b"));

        let (_, suspects) = Marks::open(&path).unwrap();
        assert_eq!(suspects.ids, ["order 1 – ü", "@c@b"].map(str::to_owned).into());
        assert_eq!(suspects.tasks, [(ExecutionKey(u64::MAX - 1), TaskId(7))].into());
        let (_, suspects) = Marks::open(&path).unwrap();
        assert!(suspects.is_empty(), "counted once");
    }

    #[test]
    fn marks_are_set_only_after_an_unclean_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("running");
        let (first, suspects) = Marks::open(&path).unwrap();
        assert!(suspects.is_empty());
        first.slot().set(&Mark::Turn("a"));
        let (second, suspects) = Marks::open(&path).unwrap();
        assert!(suspects.is_empty(), "the first death tells nothing");
        second.slot().set(&Mark::Turn("a"));
        let (third, suspects) = Marks::open(&path).unwrap();
        assert_eq!(suspects.ids, ["a".to_owned()].into());
        third.slot().set(&Mark::Turn("a"));
        third.clear();
        let (fourth, suspects) = Marks::open(&path).unwrap();
        assert!(suspects.is_empty(), "it ended cleanly");
        fourth.slot().set(&Mark::Turn("a"));
        assert!(
            Marks::open(&path).unwrap().1.is_empty(),
            "and so nothing was marked"
        );
    }

    #[test]
    fn who_comes_back_after_a_clean_end_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("running");
        let marks = armed(&path);
        let slot = marks.slot();
        slot.set(&Mark::Turn("a"));
        marks.clear();
        slot.clear();
        slot.set(&Mark::Turn("b"));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn damage_names_nobody_and_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("running");
        let mut mark = [0; SLOT_BYTES];
        let length = encode(&Mark::Turn("victim"), &mut mark);
        let with = |mark: &[u8]| {
            let mut bytes = vec![0; SLOT_BYTES];
            bytes.extend_from_slice(mark);
            std::fs::write(&path, &bytes).unwrap();
            Marks::open(&path).unwrap().1
        };
        assert_eq!(with(&mark[..length]).ids.len(), 1);
        for at in 0..length {
            let mut bytes = mark;
            bytes[at] ^= 0x40;
            assert!(with(&bytes[..length]).is_empty(), "byte {at}");
        }
        for cut in 0..length {
            assert!(with(&mark[..cut]).is_empty(), "cut at {cut}");
        }
    }
}
