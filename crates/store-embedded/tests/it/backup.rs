//! A backup is the whole hub as of one position, or it is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dalsegno_core::ExecutionKey;
use dalsegno_core::Timestamp;
use dalsegno_core::store::Store;
use dalsegno_store_embedded::backup::{check_file, restore};
use dalsegno_store_embedded::{EmbeddedStore, verify};
use dalsegno_store_memory::MemoryStore;
use dalsegno_store_tests::{Generator, PARTITIONS, Random, assert_same};
use tempfile::TempDir;

use crate::opening::{commit, fill};
use crate::options;

/// Bytes before the payload of a frame.
const FRAME_HEADER: usize = 20;

/// Writes a backup of an open store into a file.
fn save(store: &dyn Store, path: &Path) {
    let mut bytes = Vec::new();
    for piece in store.backup("default").unwrap().unwrap() {
        bytes.extend_from_slice(&piece.unwrap());
    }
    fs::write(path, bytes).unwrap();
}

/// A backup of a small hub, in a folder of its own.
fn saved() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let store = fill(&folder.path().join("hub"), 1..40);
    let path = folder.path().join("hub.backup");
    save(&store, &path);
    (folder, path)
}

#[test]
fn what_comes_out_of_a_backup_is_what_went_in() {
    let folder = TempDir::new().unwrap();
    let (hub, file, again) = (
        folder.path().join("hub"),
        folder.path().join("file"),
        folder.path().join("deep/again"),
    );
    let store = EmbeddedStore::open(&hub, options()).unwrap();
    let model = MemoryStore::new(PARTITIONS);
    let (epoch, model_epoch) = (store.load_hub().unwrap().epoch, model.load_hub().unwrap().epoch);
    let mut generator = Generator::new(7);
    let mut last = 0;
    for n in 0..200 {
        let mut batch = generator.batch(epoch, &model);
        let mut same = batch.clone();
        same.iter_mut().for_each(|commit| commit.epoch = model_epoch);
        last = store.append(&mut batch).unwrap().0;
        model.append(&mut same).unwrap();
        if n == 120 {
            store.checkpoint().unwrap();
        }
    }
    save(&store, &file);
    // What comes later is not in it.
    store.append(&mut vec![commit(epoch, 900_000)]).unwrap();
    drop(store);
    let info = restore(&file, &again).unwrap();
    assert_eq!(
        (info.hub.as_str(), info.partitions, info.position),
        ("default", PARTITIONS, last)
    );
    let restored = EmbeddedStore::open(&again, options()).unwrap();
    assert!(restored.load_hub().unwrap().epoch > epoch);
    assert_same(&restored, &model, &generator.known());
    assert_eq!(restored.instance_by_key(ExecutionKey(900_000)).unwrap(), None);
    // It goes on as any hub does, over a restart too.
    let epoch = restored.load_hub().unwrap().epoch;
    restored.append(&mut vec![commit(epoch, 900_000)]).unwrap();
    drop(restored);
    let restored = EmbeddedStore::open(&again, options()).unwrap();
    assert!(restored.instance_by_key(ExecutionKey(900_000)).unwrap().is_some());
}

#[test]
fn a_backup_under_load_is_of_one_position() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(EmbeddedStore::open(&folder.path().join("hub"), options()).unwrap());
    let epoch = store.load_hub().unwrap().epoch;
    store.append(&mut vec![commit(epoch, 1)]).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = {
        let (store, is_over) = (store.clone(), is_over.clone());
        std::thread::spawn(move || {
            let mut key = 1;
            while !is_over.load(Ordering::Relaxed) {
                key += 1;
                let lsn = store.append(&mut vec![commit(epoch, key)]).unwrap();
                assert_eq!(lsn.0, key, "a commit is an instance here");
                if key.is_multiple_of(50) {
                    store.checkpoint().unwrap();
                }
            }
            key
        })
    };
    let mut positions = Vec::new();
    for n in 0..5 {
        let file = folder.path().join(format!("file-{n}"));
        save(&*store, &file);
        let hub = folder.path().join(format!("restored-{n}"));
        let info = restore(&file, &hub).unwrap();
        let report = verify::verify(&hub).unwrap();
        assert!(report.is_sound(), "{report}");
        assert_eq!((report.instances, report.last), (info.position, info.position));
        positions.push(info.position);
    }
    is_over.store(true, Ordering::Relaxed);
    let end = writer.join().unwrap();
    assert!(positions.is_sorted() && positions[4] <= end);
    assert!(positions[0] < positions[4], "there was no load: {positions:?}");
}

#[test]
fn a_backup_with_any_region_damaged_is_refused_with_where() {
    let (folder, path) = saved();
    let whole = fs::read(&path).unwrap();
    let info = check_file(&path).unwrap();
    let head_len = u32::from_le_bytes(whole[4..8].try_into().unwrap()) as usize;
    let data = FRAME_HEADER + head_len;
    let end = whole.len() - FRAME_HEADER - 40;
    assert_eq!(
        end,
        data + FRAME_HEADER + usize::try_from(info.database_bytes).unwrap()
    );
    let random = &mut Random::new(1);
    let within =
        |random: &mut Random, from: usize, to: usize| from + random.below((to - from) as u64) as usize;
    let mut places: Vec<usize> = (0..FRAME_HEADER).collect();
    places.extend((0..20).map(|_| within(random, FRAME_HEADER, data)));
    places.extend(data..data + FRAME_HEADER);
    places.extend((0..60).map(|_| within(random, data + FRAME_HEADER, end)));
    places.extend(end..whole.len());
    let bad = folder.path().join("bad");
    for place in places {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << random.below(8);
        fs::write(&bad, &bytes).unwrap();
        let error = check_file(&bad).unwrap_err();
        assert!(error.is_damaged(), "byte {place}: {error}");
        let text = error.to_string();
        let told = match place {
            _ if text.contains("it does not begin as") => place < 4,
            _ if place < data => text.contains("at byte 0 of the file (its head)"),
            _ if place < end => text.contains(&format!("frame 1 at byte {data} of the file (hub.db")),
            _ => text.contains(&format!("frame 2 at byte {end} of the file")),
        };
        assert!(told, "byte {place}: {text}");
    }
}

#[test]
fn a_backup_that_is_cut_off_or_put_together_is_refused_and_leaves_nothing() {
    let (folder, path) = saved();
    let whole = fs::read(&path).unwrap();
    let other = {
        let store = fill(&folder.path().join("other"), 1..9);
        let path = folder.path().join("other.backup");
        save(&store, &path);
        fs::read(path).unwrap()
    };
    let head = FRAME_HEADER + u32::from_le_bytes(whole[4..8].try_into().unwrap()) as usize;
    let tail = whole.len() - FRAME_HEADER - 40;
    let cut = |len: usize| whole[..len].to_vec();
    let cases: [(&str, Vec<u8>); 8] = [
        ("empty", Vec::new()),
        (
            "text",
            b"this is some other file, of more than twenty bytes".to_vec(),
        ),
        ("cut in the head", cut(30)),
        ("cut in the data", cut(whole.len() / 2)),
        ("without its end", cut(tail)),
        ("one byte short", cut(whole.len() - 1)),
        ("something behind", [&whole[..], b"x"].concat()),
        ("the head of another", [&other[..head], &whole[head..]].concat()),
    ];
    let bad = folder.path().join("bad");
    let hub = folder.path().join("never");
    for (name, bytes) in cases {
        fs::write(&bad, bytes).unwrap();
        let checked = check_file(&bad).unwrap_err();
        let restored = restore(&bad, &hub).unwrap_err();
        assert!(
            checked.is_damaged() && restored.is_damaged(),
            "{name}: {restored}"
        );
        assert_eq!(checked.to_string(), restored.to_string(), "{name}");
        let left: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("never"))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_backup_is_never_restored_over_something() {
    let (folder, path) = saved();
    let hub = folder.path().join("hub");
    let error = restore(&path, &hub).unwrap_err();
    assert!(error.is_occupied(), "{error}");
    assert!(error.to_string().contains("is not empty"), "{error}");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    // An attempt that was cut off is no hindrance.
    fs::create_dir(folder.path().join("empty.restoring")).unwrap();
    fs::write(folder.path().join("empty.restoring/hub.db"), "half").unwrap();
    restore(&path, &empty).unwrap();
    assert!(verify::verify(&empty).unwrap().is_sound());
    assert!(!folder.path().join("empty.restoring").exists());
}

#[test]
fn a_copy_that_a_killed_process_left_goes_with_the_next_opening() {
    let folder = TempDir::new().unwrap();
    let hub = folder.path().join("hub");
    fill(&hub, 1..3).abandon();
    fs::write(hub.join("backup.0000000000000001"), "half").unwrap();
    let store = EmbeddedStore::open(&hub, options()).unwrap();
    assert!(!hub.join("backup.0000000000000001").exists());
    let pieces = store.backup("default").unwrap().unwrap();
    let names: Vec<String> = fs::read_dir(&hub)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!names.iter().any(|name| name.starts_with("backup.")), "{names:?}");
    drop(pieces);
}

#[test]
fn a_store_tells_what_it_takes() {
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..11);
    let size = store.size(Timestamp::from_micros(8)).unwrap().unwrap();
    assert_eq!((size.instances, size.created_since, size.events), (10, 3, 20));
    assert!(size.log_bytes > 0 && size.database_bytes > 4096);
}
