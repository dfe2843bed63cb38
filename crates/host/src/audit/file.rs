//! The file of the audit log, written by a thread of its own and rotated by size.
//!
//! Callers wait until their records are in the file, so a slow disk slows down those that change
//! something, and never the threads that serve requests. A record that cannot be written is counted
//! and logged; the change that it is about stands.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use super::{AuditLimits, AuditRecord};

/// Writes that wait for the thread; further callers wait for a place.
const WRITES_WAITING_MAX: usize = 1_024;

/// Hands records to the thread that owns the file. The thread ends after the last writer is dropped
/// and everything is written.
#[derive(Clone, Debug)]
pub(super) struct FileWriter(mpsc::Sender<Write>);

/// Lines to append, and who waits for it.
struct Write {
    lines: Vec<u8>,
    records: u64,
    done: oneshot::Sender<()>,
}

impl FileWriter {
    pub(super) fn open(path: &Path, limits: AuditLimits, lost: Counter) -> io::Result<Self> {
        let mut file = RotatedFile::open(path, limits)?;
        let (writes, mut waiting) = mpsc::channel::<Write>(WRITES_WAITING_MAX);
        thread::Builder::new().name("audit".into()).spawn(move || {
            while let Some(write) = waiting.blocking_recv() {
                if let Err(error) = file.append(&write.lines) {
                    lost.inc_by(write.records);
                    tracing::error!(%error, path = %file.path.display(), "the audit file cannot be written");
                }
                // The caller may have disconnected.
                let _ = write.done.send(());
            }
        })?;
        Ok(Self(writes))
    }

    /// Returns when the records are in the file, or are counted as lost.
    pub(super) async fn write(&self, records: &[AuditRecord]) {
        if records.is_empty() {
            return;
        }
        let mut lines = Vec::new();
        for record in records {
            serde_json::to_writer(&mut lines, record).expect("a record has text keys only");
            lines.push(b'\n');
        }
        let (done, written) = oneshot::channel();
        let write = Write {
            lines,
            records: records.len() as u64,
            done,
        };
        if self.0.send(write).await.is_ok() {
            let _ = written.await;
        }
    }
}

struct RotatedFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    limits: AuditLimits,
}

impl RotatedFile {
    fn open(path: &Path, limits: AuditLimits) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        Ok(Self {
            path: path.to_owned(),
            bytes: file.metadata()?.len(),
            file,
            limits,
        })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.limits.file_bytes_max {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Gives each file the next number; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        // The last attempt may have ended before the new file was created.
        if !self.path.exists() {
            *self = Self::open(&self.path, self.limits)?;
            return Ok(());
        }
        for number in (1..self.limits.files_max).rev() {
            let from = match number {
                1 => self.path.clone(),
                _ => numbered(&self.path, number - 1),
            };
            match fs::rename(from, numbered(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.limits.files_max == 1 {
            fs::remove_file(&self.path)?;
        }
        *self = Self::open(&self.path, self.limits)?;
        Ok(())
    }
}

/// `audit.jsonl.3`
fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_rotated_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        for files_max in [1, 3] {
            let limits = AuditLimits {
                file_bytes_max: 10,
                files_max,
            };
            let mut file = RotatedFile::open(&path, limits).unwrap();
            for number in 0..5 {
                file.append(format!("line {number}\n").as_bytes()).unwrap();
            }
            let read = |path: PathBuf| fs::read_to_string(path).ok();
            let found = [
                path.clone(),
                numbered(&path, 1),
                numbered(&path, 2),
                numbered(&path, 3),
            ]
            .map(read);
            let line = |number| Some(format!("line {number}\n"));
            match files_max {
                1 => assert_eq!(found, [line(4), None, None, None]),
                _ => assert_eq!(found, [line(4), line(3), line(2), None]),
            }
        }
    }

    #[test]
    fn a_file_that_is_there_already_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        fs::write(&path, "earlier lines\n").unwrap();
        let limits = AuditLimits {
            file_bytes_max: 20,
            files_max: 2,
        };
        RotatedFile::open(&path, limits)
            .unwrap()
            .append(b"one more line\n")
            .unwrap();
        assert_eq!(fs::read_to_string(numbered(&path, 1)).unwrap(), "earlier lines\n");
    }
}
