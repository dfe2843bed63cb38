//! One process at a time: what happens to files beside the data does not let a second one in, and a
//! process whose hub is another's acknowledges nothing.

use std::fs;
use std::path::Path;

use dalsegno_core::Epoch;
use dalsegno_core::query::InstanceQuery;
use dalsegno_core::store::Store;
use dalsegno_store_embedded::{EmbeddedStore, verify};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::opening::{commit, fill, row};
use crate::{options, snapshot};

/// Appends one more commit and returns why that was refused. All openings here are the first.
fn refused(store: &EmbeddedStore, key: u64) -> String {
    let refusal = store.append(&mut vec![commit(Epoch(1), key)]);
    let text = refusal.unwrap_err().to_string();
    let read = store.append(&mut Vec::new());
    assert!(read.is_err(), "an answer without a commit follows: {text}");
    assert!(
        store.list(&InstanceQuery::default()).is_err(),
        "it lists after: {text}"
    );
    assert!(store.instance(&row(1).id).is_err(), "it reads after: {text}");
    text
}

fn check_in_use(folder: &Path) {
    let error = EmbeddedStore::open(folder, options()).unwrap_err();
    assert!(error.is_in_use(), "{error}");
    assert_eq!(
        error.to_string(),
        "hub is in use, though its file `lock` was deleted or replaced: another process has \
         log.0000000000000001 locked; end that process first"
    );
    let error = verify::verify(folder).unwrap_err();
    assert!(error.is_in_use(), "{error}");
}

#[test]
fn a_hub_whose_lock_file_is_deleted_or_replaced_stays_in_use() {
    // Both hosts answered 202, and every start that the first had acknowledged was lost.
    for replaces in [false, true] {
        let folder = TempDir::new().unwrap();
        let store = fill(folder.path(), 1..4);
        let lock = folder.path().join("lock");
        match replaces {
            true => {
                fs::write(folder.path().join("lock.new"), "1\n").unwrap();
                fs::rename(folder.path().join("lock.new"), &lock).unwrap();
            }
            false => fs::remove_file(&lock).unwrap(),
        }
        check_in_use(folder.path());
        // Nobody is told that the one who was refused has it.
        assert!(
            !fs::read_to_string(&lock)
                .unwrap()
                .contains(&std::process::id().to_string())
        );
        let epoch = store.load_hub().unwrap().epoch;
        store.append(&mut vec![commit(epoch, 4)]).unwrap();
        store.checkpoint().unwrap();
        drop(store);
        let store = EmbeddedStore::open(folder.path(), options()).unwrap();
        assert_eq!(store.instance(&row(4).id).unwrap(), Some(row(4)));
    }
}

#[test]
fn a_hub_that_rotated_its_log_stays_in_use() {
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..101);
    fs::remove_file(folder.path().join("lock")).unwrap();
    let error = EmbeddedStore::open(folder.path(), options()).unwrap_err();
    assert!(error.is_in_use(), "{error}");
    assert!(!error.to_string().contains("log.0000000000000001 "), "{error}");
    store.close();
    EmbeddedStore::open(folder.path(), options()).unwrap();
}

#[test]
fn a_host_whose_folder_was_moved_acknowledges_nothing() {
    let root = TempDir::new().unwrap();
    let (hub, moved) = (root.path().join("hub"), root.path().join("moved"));
    let store = fill(&hub, 1..4);
    fs::rename(&hub, &moved).unwrap();
    let text = refused(&store, 4);
    assert!(text.contains("was moved, replaced or deleted"), "{text}");
    assert!(!hub.exists());
    drop(store);
    let store = EmbeddedStore::open(&moved, options()).unwrap();
    assert_eq!(store.instance(&row(3).id).unwrap(), Some(row(3)));
}

#[test]
fn a_host_whose_folder_is_another_hub_by_now_changes_nothing_in_it() {
    let root = TempDir::new().unwrap();
    let (hub, moved) = (root.path().join("hub"), root.path().join("moved"));
    let store = fill(&hub, 1..101);
    fs::rename(&hub, &moved).unwrap();
    let other = fill(&hub, 1..101);
    let before = snapshot(&hub);
    // The checkpoint of the first knows segments of these names.
    assert!(store.checkpoint().is_err());
    let text = refused(&store, 101);
    assert!(!text.is_empty());
    drop(store);
    assert_eq!(snapshot(&hub), before);
    let epoch = other.load_hub().unwrap().epoch;
    other.append(&mut vec![commit(epoch, 101)]).unwrap();
    drop(other);
    let report = verify::verify(&hub).unwrap();
    assert!(report.is_sound() && report.last == 101, "{report}");
}

#[test]
fn a_host_whose_log_segment_was_replaced_by_a_copy_acknowledges_nothing() {
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..4);
    let segment = folder.path().join("log.0000000000000001");
    fs::copy(&segment, folder.path().join("copy")).unwrap();
    fs::rename(folder.path().join("copy"), &segment).unwrap();
    let text = refused(&store, 4);
    assert!(text.contains("log.0000000000000001 is not the file"), "{text}");
}

#[test]
fn a_host_whose_tables_a_later_opening_has_folds_and_acknowledges_nothing() {
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..4);
    let tables = Connection::open(folder.path().join("hub.db")).unwrap();
    let raised = "UPDATE hub SET value = 2 WHERE name = 'epoch'";
    assert_eq!(tables.execute(raised, []).unwrap(), 1);
    assert!(store.checkpoint().is_err());
    let count = |table: &str| -> i64 {
        tables
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!((count("instances"), count("history")), (0, 0));
    let text = refused(&store, 4);
    assert_eq!(text, "another host owns the partition");
}

#[test]
fn a_host_whose_database_was_replaced_folds_and_acknowledges_nothing() {
    // What it folded went into a file without a name, and the log segments that had it were removed.
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..4);
    let tables = folder.path().join("hub.db");
    fs::copy(&tables, folder.path().join("copy")).unwrap();
    fs::rename(folder.path().join("copy"), &tables).unwrap();
    assert!(store.checkpoint().is_err());
    let text = refused(&store, 4);
    assert_eq!(text, "another host owns the partition");
}

#[test]
fn a_copy_of_a_hub_is_a_hub_of_its_own() {
    let (folder, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    drop(fill(folder.path(), 1..4));
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    for folder in [folder.path(), copy.path()] {
        let store = EmbeddedStore::open(folder, options()).unwrap();
        let epoch = store.load_hub().unwrap().epoch;
        store.append(&mut vec![commit(epoch, 4)]).unwrap();
        assert_eq!(store.instance(&row(4).id).unwrap(), Some(row(4)));
    }
}
