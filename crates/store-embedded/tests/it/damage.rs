//! Each damage to each file: refused in one sentence, and nothing changed.

use std::fs;
use std::path::{Path, PathBuf};

use dalsegno_core::store::Store;
use dalsegno_store_embedded::{EmbeddedStore, verify};
use tempfile::TempDir;

use crate::opening::fill;
use crate::{options, snapshot};

fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn refusal(folder: &Path) -> String {
    let before = snapshot(folder);
    let error = EmbeddedStore::open(folder, options()).map(drop).unwrap_err();
    assert!(!error.is_in_use(), "{error}");
    assert_eq!(snapshot(folder), before, "nothing may change: {error}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "one sentence: {text}");
    text
}

/// A hub that ended in a crash: 40 commits in the tables, 40 more in the log, a `-wal` that counts.
fn crashed_hub() -> TempDir {
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..1);
    let epoch = store.load_hub().unwrap().epoch;
    for key in 1..=80 {
        store
            .append(&mut vec![crate::opening::commit(epoch, key)])
            .unwrap();
        if key == 40 {
            store.checkpoint().unwrap();
        }
    }
    // As kill -9 leaves it: copied while it is open.
    let copied = copy(folder.path());
    fs::remove_file(copied.path().join("lock")).unwrap();
    store.abandon();
    copied
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("log.") && !name.contains("spare")
        })
        .collect();
    paths.sort();
    paths
}

/// A way to spoil a file.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 5] = [
    ("missing", |path| fs::remove_file(path).unwrap()),
    ("empty", |path| fs::write(path, b"").unwrap()),
    ("cut in half", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("its first byte flipped", |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[0] ^= 0x20;
        fs::write(path, bytes).unwrap();
    }),
    ("zeroed", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, vec![0; bytes.len()]).unwrap();
    }),
];

#[test]
fn a_damaged_identity_is_refused() {
    let hub = crashed_hub();
    for (what, damage) in DAMAGES {
        let hub = copy(hub.path());
        damage(&hub.path().join("identity"));
        let text = refusal(hub.path());
        assert!(text.contains("identity"), "{what}: {text}");
    }
    // Every single byte counts.
    let bytes = fs::read(hub.path().join("identity")).unwrap();
    for position in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1;
        fs::write(hub.path().join("identity"), damaged).unwrap();
        refusal(hub.path());
    }
}

#[test]
fn a_damaged_database_is_refused() {
    let hub = crashed_hub();
    for (what, damage) in DAMAGES {
        if what == "cut in half" {
            // The `-wal` has those pages: nothing is lost.
            continue;
        }
        let hub = copy(hub.path());
        damage(&hub.path().join("hub.db"));
        let text = refusal(hub.path());
        assert!(text.contains("hub.db"), "{what}: {text}");
    }
}

#[test]
fn a_damaged_segment_is_refused() {
    let hub = crashed_hub();
    let count = segments(hub.path()).len();
    assert!(count >= 2, "the test has to rotate");
    for index in 0..count {
        for (what, damage) in DAMAGES {
            let hub = copy(hub.path());
            let path = &segments(hub.path())[index];
            damage(path);
            if what == "missing" && index == 0 && EmbeddedStore::open(hub.path(), options()).is_ok() {
                // Everything in it is in the tables: that is what recycling does.
                continue;
            }
            let text = refusal(hub.path());
            assert!(text.contains("log"), "{what}, segment {index}: {text}");
        }
    }
}

#[test]
fn a_lost_wal_is_noticed_or_made_good_from_the_log() {
    // SQLite falls back to what it had before; the log must cover the difference, or we refuse.
    let hub = crashed_hub();
    for (what, damage) in DAMAGES {
        let hub = copy(hub.path());
        damage(&hub.path().join("hub.db-wal"));
        let _ = fs::remove_file(hub.path().join("hub.db-shm"));
        match EmbeddedStore::open(hub.path(), options()) {
            Ok(store) => {
                for key in [1, 40, 41, 80] {
                    let row = crate::opening::row(key);
                    assert_eq!(store.instance(&row.id).unwrap(), Some(row), "{what}");
                }
            }
            Err(error) => assert!(error.is_damaged(), "{what}: {error}"),
        }
    }
}

#[test]
fn files_of_another_hub_are_refused() {
    let (hub, other) = (crashed_hub(), crashed_hub());
    for name in ["hub.db", "identity"] {
        let hub = copy(hub.path());
        for companion in ["hub.db-wal", "hub.db-shm"] {
            if name == "hub.db" {
                fs::copy(other.path().join(companion), hub.path().join(companion)).unwrap();
            }
        }
        fs::copy(other.path().join(name), hub.path().join(name)).unwrap();
        let text = refusal(hub.path());
        assert!(text.contains("another hub"), "{name}: {text}");
    }
    let hub = copy(hub.path());
    let name = segments(hub.path())[1].file_name().unwrap().to_owned();
    fs::copy(other.path().join(&name), hub.path().join(&name)).unwrap();
    let text = refusal(hub.path());
    assert!(text.contains("another hub"), "{text}");
}

#[test]
fn a_database_of_another_hub_beside_our_wal_is_refused() {
    // SQLite reads the -wal into whatever file is there, so the table that says which hub it is was ours.
    let (hub, other) = (crashed_hub(), crashed_hub());
    for name in ["hub.db", "hub.db-wal"] {
        let mixed = copy(hub.path());
        fs::copy(other.path().join(name), mixed.path().join(name)).unwrap();
        let _ = fs::remove_file(mixed.path().join("hub.db-shm"));
        let text = refusal(mixed.path());
        let expected = format!(
            "{}: hub.db belongs to another hub: restore the hub from a backup",
            mixed.path().display()
        );
        assert_eq!(text, expected, "{name}");
    }
}

#[test]
fn a_newer_format_is_refused_by_both_versions() {
    let hub = crashed_hub();
    let path = hub.path().join("identity");
    let text = fs::read_to_string(&path).unwrap();
    let body = text
        .rsplit_once("crc32c")
        .unwrap()
        .0
        .replace("format 1", "format 2");
    fs::write(
        &path,
        format!("{body}crc32c {:08x}\n", crc32c::crc32c(body.as_bytes())),
    )
    .unwrap();
    assert_eq!(
        refusal(hub.path()),
        "the hub has format 2, this version knows up to 1: use a newer version of dalsegno"
    );
}

#[test]
fn what_is_no_hub_is_left_alone() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("thesis.txt"), b"text").unwrap();
    let text = refusal(folder.path());
    assert!(
        text.contains("is not a hub's folder, it holds thesis.txt"),
        "{text}"
    );
    assert_eq!(snapshot(folder.path()).len(), 1);
    let file = folder.path().join("thesis.txt");
    let error = EmbeddedStore::open(&file, options()).unwrap_err();
    assert!(
        error.is_foreign() && error.to_string().contains("is not a folder"),
        "{error}"
    );
    assert!(verify::verify(folder.path()).unwrap_err().is_foreign());
}

#[test]
fn flipped_bits_in_histories_are_noticed() {
    let folder = TempDir::new().unwrap();
    drop(fill(folder.path(), 1..21));
    let path = folder.path().join("hub.db");
    let mut bytes = fs::read(&path).unwrap();
    // Runs of one execution's events; some may be left over in free space.
    let mut position = 0;
    while let Some(found) = bytes[position..].windows(100).position(|run| run == [7; 100]) {
        bytes[position + found + 50] ^= 1;
        position += found + 100;
    }
    assert!(position > 0);
    fs::write(&path, bytes).unwrap();
    let report = verify::verify(folder.path()).unwrap();
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.contains("execution 7")),
        "{report}"
    );
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    assert!(store.history(dalsegno_core::ExecutionKey(7)).is_err());
    assert_eq!(store.history(dalsegno_core::ExecutionKey(8)).unwrap().len(), 1);
}
