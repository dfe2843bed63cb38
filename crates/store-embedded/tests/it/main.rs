//! The embedded store from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod backup;
mod checksums;
mod conformance;
mod damage;
mod opening;
mod owners;
mod repair;

use std::path::Path;
use std::time::Duration;

use dalsegno_store_embedded::Options;
use dalsegno_store_tests::PARTITIONS;

/// Small segments, so that they are rotated and recycled; checkpoints when asked for.
fn options() -> Options {
    Options {
        partitions: PARTITIONS,
        segment_bytes: 16 * 1024,
        checkpoint_interval: Duration::from_secs(3600),
        list_checkpoint_interval: Duration::ZERO,
        ..Options::default()
    }
}

/// Names, lengths and checksums of all files but the lock.
/// A reader of SQLite's may leave an empty write-ahead log behind, which says nothing.
fn snapshot(folder: &Path) -> Vec<(String, usize, u32)> {
    let mut files: Vec<(String, usize, u32)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name() != "lock" && !entry.file_name().to_string_lossy().ends_with("-shm"))
        .filter(|entry| entry.file_name() != "hub.db-wal" || entry.metadata().unwrap().len() > 0)
        .map(|entry| {
            let bytes = std::fs::read(entry.path()).unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, bytes.len(), crc32c::crc32c(&bytes))
        })
        .collect();
    files.sort();
    files
}
