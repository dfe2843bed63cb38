//! The log over a simulated disk: crashes, torn tails, failed syncs, full disks, damages.

use std::sync::{Arc, Mutex};

use dalsegno_core::store::{Apart, Commit, Op};
use dalsegno_core::{Epoch, PartitionId};
use dalsegno_store_tests::Random;
use expect_test::expect;

use super::disk::Disk;
use super::recovery::LogError;
use super::sim_disk::SimDisk;
use super::*;

const STORE: u128 = 0x00112233_44556677_8899aabb_ccddeeff;
/// So short that the first segment has the full length.
const SEGMENT_BYTES: u64 = 4096;
/// So long that the first segment of an opening is shorter.
const GROWING_BYTES: u64 = 64 * 1024;

/// What the tables would hold: the last position of each opening that they know, and how far they are.
fn unknown() -> Known {
    Known {
        store: STORE,
        epoch: 0,
        applied: 0,
        durable: 0,
        segment: 0,
    }
}

/// A batch that can be told from every other, of a length that varies.
fn batch(n: u64, len: usize) -> Vec<Commit> {
    vec![Commit {
        partition: PartitionId(0),
        epoch: Epoch(1),
        ops: vec![Op::PutMessage {
            partition: PartitionId(0),
            seq: n,
            data: vec![n as u8; len],
        }],
    }]
}

fn open_sim(disk: &SimDisk, known: &Known) -> Result<(Log, Vec<Batch>), LogError> {
    open_sized(disk, known, SEGMENT_BYTES)
}

fn open_sized(disk: &SimDisk, known: &Known, segment_bytes: u64) -> Result<(Log, Vec<Batch>), LogError> {
    let found = find(disk, claim(disk)?, known, segment_bytes)?;
    begin(Arc::new(disk.clone()), known, segment_bytes, found)
}

/// Opens and notes the opening, as the tables do.
fn reopen(disk: &SimDisk, known: &mut Known) -> (Log, Vec<Batch>) {
    let (log, batches) = open_sim(disk, known).unwrap();
    note(known, &log);
    (log, batches)
}

fn note(known: &mut Known, log: &Log) {
    known.epoch = log.epoch();
    known.segment = log.active_segment();
    known.durable = log.last();
}

fn positions(batches: &[Batch]) -> Vec<u64> {
    batches.iter().map(|batch| batch.lsn).collect()
}

fn refusal(result: Result<(Log, Vec<Batch>), LogError>) -> String {
    match result {
        Ok((_, batches)) => panic!("opened with {:?}", positions(&batches)),
        Err(LogError::Damaged(reason)) => reason,
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn an_append_is_one_sync() {
    let disk = SimDisk::default();
    let (mut log, _) = open_sim(&disk, &unknown()).unwrap();
    let before = disk.syncs();
    for n in 1..=10 {
        assert_eq!(log.append(&batch(n, 100)).unwrap(), n);
    }
    assert_eq!(disk.syncs(), before + 10);
}

#[test]
fn what_was_appended_comes_back_over_many_segments() {
    let disk = SimDisk::default();
    let mut known = unknown();
    let (mut log, _) = reopen(&disk, &mut known);
    for n in 1..=100 {
        log.append(&batch(n, (n as usize * 37) % 900)).unwrap();
    }
    assert!(log.active_segment() > 5, "the test has to rotate");
    let (log, batches) = reopen(&disk.after_kill(), &mut known);
    assert_eq!(positions(&batches), (1..=100).collect::<Vec<u64>>());
    for found in &batches {
        assert_eq!(found.commits, batch(found.lsn, (found.lsn as usize * 37) % 900));
    }
    assert_eq!((log.last(), log.epoch()), (100, 2));
}

#[test]
fn an_empty_log_is_short_and_its_segments_grow_with_what_is_written() {
    let disk = SimDisk::default();
    let lengths = |disk: &SimDisk| -> Vec<usize> {
        let names = disk.names().unwrap();
        let logs = names.iter().filter(|name| segment::number_of(name).is_some());
        logs.map(|name| disk.content(name).len()).collect()
    };
    let mut known = unknown();
    for _ in 0..3 {
        let (log, _) = open_sized(&disk, &known, GROWING_BYTES).unwrap();
        note(&mut known, &log);
        log.segments().recycle(0, known.segment).unwrap();
        log.segments().prepare().unwrap();
        assert_eq!(lengths(&disk), [4096], "an opening adds nothing");
        assert!(!disk.names().unwrap().iter().any(|name| name.contains("spare")));
    }
    let (mut log, _) = open_sized(&disk, &known, GROWING_BYTES).unwrap();
    note(&mut known, &log);
    for n in 1..=120 {
        log.append(&batch(n, 1_000)).unwrap();
        log.segments().prepare().unwrap();
    }
    assert_eq!(lengths(&disk), [4096, 4096, 64 * 1024, 64 * 1024]);
    note(&mut known, &log);
    known.applied = 60;
    log.segments().recycle(60, known.segment).unwrap();
    let (log, batches) = open_sized(&disk.after_kill(), &known, GROWING_BYTES).unwrap();
    assert_eq!(positions(&batches), (61..=120).collect::<Vec<u64>>());
    assert_eq!(log.last(), 120);
}

#[test]
fn a_batch_longer_than_a_segment_gets_one_of_its_own() {
    let disk = SimDisk::default();
    let mut known = unknown();
    let (mut log, _) = reopen(&disk, &mut known);
    log.append(&batch(1, 10)).unwrap();
    log.append(&batch(2, 50_000)).unwrap();
    log.append(&batch(3, 10)).unwrap();
    let (_, batches) = reopen(&disk.after_kill(), &mut known);
    assert_eq!(positions(&batches), [1, 2, 3]);
    assert_eq!(batches[1].commits, batch(2, 50_000));
}

#[test]
fn full_segments_are_used_again_and_their_old_frames_are_not_seen() {
    let disk = SimDisk::default();
    let mut known = unknown();
    let (mut log, _) = reopen(&disk, &mut known);
    for n in 1..=200 {
        log.append(&batch(n, 300)).unwrap();
        if n % 10 == 0 {
            known.applied = n;
            note(&mut known, &log);
            log.segments().recycle(n, known.segment).unwrap();
            log.segments().prepare().unwrap();
        }
    }
    let names = disk.names().unwrap();
    assert!(names.len() <= 6, "segments pile up: {names:?}");
    let (log, batches) = reopen(&disk.after_kill(), &mut known);
    assert_eq!(positions(&batches), Vec::<u64>::new());
    assert_eq!(log.last(), 200);
}

/// The next segment is begun, and the checkpoint has not heard of it: everything in the one before is
/// folded, but the tables say that it is there.
#[test]
fn a_segment_that_the_tables_name_stays() {
    let disk = SimDisk::default();
    let mut known = unknown();
    let (mut log, _) = reopen(&disk, &mut known);
    let mut last = 0;
    while log.active_segment() == known.segment {
        last += 1;
        log.append(&batch(last, 300)).unwrap();
    }
    (known.applied, known.durable) = (last - 1, last - 1);
    log.segments().recycle(known.applied, known.segment).unwrap();
    let (log, batches) = reopen(&disk.after_kill(), &mut known);
    assert_eq!((log.last(), positions(&batches)), (last, vec![last]));
}

/// One life after the other, each ended by a crash in the middle of something.
fn crash_many_times(seed: u64, lives: usize) -> usize {
    let mut random = Random::new(seed);
    let mut disk = SimDisk::default();
    let mut known = unknown();
    let segment_bytes = if seed.is_multiple_of(2) {
        SEGMENT_BYTES
    } else {
        GROWING_BYTES
    };
    let mut acknowledged = 0;
    // Appends whose outcome nobody knows, beyond the acknowledged.
    let mut crashes = 0;
    for life in 0..lives {
        disk.crash_after(20 + random.below(400) as usize);
        if let Ok((mut log, batches)) = open_sized(&disk, &known, segment_bytes) {
            assert_eq!(
                positions(&batches),
                (known.applied + 1..=log.last()).collect::<Vec<u64>>(),
                "seed {seed}, life {life}: dense behind the tables"
            );
            assert!(
                log.last() >= acknowledged,
                "seed {seed}, life {life}: position {acknowledged} was acknowledged, {} is the last",
                log.last()
            );
            for found in &batches {
                assert_eq!(
                    found.commits,
                    batch(found.lsn, length(found.lsn)),
                    "seed {seed}, life {life}"
                );
            }
            assert!(log.epoch() > known.epoch);
            // Now and then it ends before the tables know of this opening.
            if !random.one_in(8) {
                // From here on all of that has effects.
                acknowledged = log.last();
                note(&mut known, &log);
                live(&mut random, &disk, &mut log, &mut known, &mut acknowledged);
            }
        } else {
            assert!(
                disk.is_down(),
                "seed {seed}, life {life}: refused: {:?}",
                open_sized(&disk, &known, segment_bytes).err()
            );
        }
        crashes += 1;
        disk = if random.one_in(3) {
            disk.after_kill()
        } else {
            disk.after_power_loss(&mut random)
        };
    }
    crashes
}

fn length(n: u64) -> usize {
    (n as usize * 131) % 1_800
}

fn live(random: &mut Random, disk: &SimDisk, log: &mut Log, known: &mut Known, acknowledged: &mut u64) {
    if random.one_in(10) {
        disk.fail_next_sync();
    }
    loop {
        let n = log.last() + 1;
        match log.append(&batch(n, length(n))) {
            Ok(lsn) => {
                assert_eq!(lsn, n);
                *acknowledged = lsn;
            }
            Err(AppendError::NotWritten(_)) if !disk.is_down() => continue,
            Err(_) => return,
        }
        if random.one_in(6) {
            // A checkpoint: the tables and their position move together, then segments go.
            known.applied = *acknowledged - random.below(*acknowledged - known.applied + 1);
            known.durable = *acknowledged;
            known.segment = log.active_segment();
            let _ = log
                .segments()
                .recycle(known.applied, known.segment)
                .and_then(|()| log.segments().prepare());
        }
    }
}

#[test]
fn no_crash_loses_what_was_acknowledged() {
    let seeds = if dalsegno_store_tests::is_slow_run() {
        2_000
    } else {
        120
    };
    let crashes: usize = (0..seeds).map(|seed| crash_many_times(seed, 25)).sum();
    assert!(crashes >= 2_000);
}

#[test]
fn a_failed_sync_is_never_retried_and_the_frame_is_written_again_at_the_next_opening() {
    let disk = SimDisk::default();
    let mut known = unknown();
    let (mut log, _) = reopen(&disk, &mut known);
    log.append(&batch(1, 100)).unwrap();
    disk.fail_next_sync();
    assert!(matches!(log.append(&batch(2, 100)), Err(AppendError::Broken(_))));
    let syncs = disk.syncs();
    assert!(matches!(
        log.append(&batch(2, 100)),
        Err(AppendError::NotWritten(_))
    ));
    assert_eq!(disk.syncs(), syncs);
    // The next process still sees the frame in the cache, and acts on it.
    let disk = disk.after_kill();
    let (_, batches) = reopen(&disk, &mut known);
    assert_eq!(positions(&batches), [1, 2]);
    // So a power loss after that must not take it away.
    let disk = disk.after_power_loss(&mut Random::new(1));
    let (_, batches) = reopen(&disk, &mut known);
    assert_eq!(positions(&batches), [1, 2]);
}

#[test]
fn a_full_disk_is_met_before_anything_is_written() {
    let disk = SimDisk::default();
    let mut known = unknown();
    let (mut log, _) = reopen(&disk, &mut known);
    disk.set_capacity(Some(SEGMENT_BYTES as usize + 100));
    let mut n = 0;
    let refused = loop {
        match log.append(&batch(n + 1, 200)) {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::NotWritten(_)), "{refused:?}");
    assert!(n > 5);
    disk.set_capacity(None);
    assert_eq!(log.append(&batch(n + 1, 200)).unwrap(), n + 1);
    let (_, batches) = reopen(&disk.after_kill(), &mut known);
    assert_eq!(batches.len() as u64, n + 1);
}

/// Three frames in one segment, and where each begins.
fn three_frames() -> (SimDisk, Known, [usize; 4]) {
    let disk = SimDisk::default();
    let mut known = unknown();
    let (mut log, _) = reopen(&disk, &mut known);
    let mut starts = [segment::HEADER_BYTES; 4];
    for n in 1..=3 {
        log.append(&batch(n, 40)).unwrap();
        let bytes = log.frame().len() as u64;
        starts[n as usize] = starts[n as usize - 1] + bytes as usize;
    }
    (disk, known, starts)
}

#[test]
fn every_byte_of_the_last_three_frames_is_missed_rightly() {
    let (disk, known, starts) = three_frames();
    let name = segment::name(1);
    let whole = disk.content(&name);
    let (mut cut, mut refused) = (0, 0);
    for position in starts[0]..starts[3] {
        let disk = disk.after_kill();
        disk.damage(&name, |bytes| bytes[position] ^= 0x55);
        if position >= starts[2] {
            // The last frame: nothing says that it was durable.
            let (_, batches) = open_sim(&disk, &known).unwrap();
            assert_eq!(positions(&batches), [1, 2], "byte {position}");
            cut += 1;
        } else {
            let reason = refusal(open_sim(&disk, &known));
            assert!(reason.contains("was durable"), "byte {position}: {reason}");
            assert_eq!(disk.content(&name).len(), whole.len());
            refused += 1;
        }
    }
    assert!(cut > 50 && refused > 100);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_to_whole_frames() {
    let (disk, known, starts) = three_frames();
    let name = segment::name(1);
    for position in starts[0]..=starts[3] {
        let disk = disk.after_kill();
        disk.damage(&name, |bytes| bytes[position..].fill(0));
        let (_, batches) = open_sim(&disk, &known).unwrap();
        let whole = starts[1..].iter().filter(|end| **end <= position).count();
        // Padding is zero anyway, so a frame may be whole a little earlier.
        assert!([whole, whole + 1].contains(&batches.len()), "byte {position}");
    }
}

#[test]
fn damages_of_segments_are_refused_by_name() {
    let disk = SimDisk::default();
    let mut known = unknown();
    let (mut log, _) = reopen(&disk, &mut known);
    for n in 1..=40 {
        log.append(&batch(n, 300)).unwrap();
    }
    known.segment = log.active_segment();
    assert_eq!(known.segment, 4);
    let refused = |change: &dyn Fn(&SimDisk)| {
        let disk = disk.after_kill();
        change(&disk);
        refusal(open_sim(&disk, &known))
    };
    let name = |number| segment::name(number);
    expect!["log.0000000000000002 is missing"].assert_eq(&refused(&|disk| {
        disk.remove(&name(2)).unwrap();
    }));
    expect!["positions 1 to 11 are missing before log.0000000000000002"].assert_eq(&refused(&|disk| {
        disk.remove(&name(1)).unwrap();
    }));
    expect!["log.0000000000000004 is missing"].assert_eq(&refused(&|disk| {
        disk.remove(&name(4)).unwrap();
    }));
    expect!["the first bytes of log.0000000000000004 are damaged"].assert_eq(&refused(&|disk| {
        disk.damage(&name(4), |bytes| bytes.clear());
    }));
    expect!["log.0000000000000003 has 1000 bytes, it was written with 4096"].assert_eq(&refused(&|disk| {
        disk.damage(&name(3), |bytes| bytes.truncate(1000));
    }));
    expect!["the first bytes of log.0000000000000001 are damaged"].assert_eq(&refused(&|disk| {
        disk.damage(&name(1), |bytes| bytes[40] ^= 1);
    }));
    expect!["the end of log.0000000000000001 is damaged"].assert_eq(&refused(&|disk| {
        disk.damage(&name(1), |bytes| {
            let seal = bytes.windows(4).rposition(|kind| kind == [2, 0, 0, 0]).unwrap();
            bytes[seal] = 9;
        });
    }));
    let other = Known { store: 7, ..known };
    expect!["log.0000000000000001 belongs to another hub"]
        .assert_eq(&refusal(open_sim(&disk.after_kill(), &other)));
    let newer_tables = Known {
        applied: 99,
        durable: 99,
        ..known
    };
    expect!["it ends at position 40, but hub.db holds everything up to 99: it is an older copy"]
        .assert_eq(&refusal(open_sim(&disk.after_kill(), &newer_tables)));
}

#[test]
fn a_segment_that_was_never_synced_may_be_shorter_than_it_says() {
    // A process was killed while it filled a spare; the next one took that spare for its segment
    // and lost its power before the first sync: the name and the header were there, the end of
    // the file was not, and the hub was refused.
    let disk = SimDisk::default();
    let (_log, _) = open_sim(&disk, &unknown()).unwrap();
    disk.damage(&segment::name(1), |bytes| bytes.truncate(1_000));
    let (log, batches) = open_sim(&disk.after_kill(), &unknown()).unwrap();
    assert_eq!((batches.len(), log.epoch()), (0, 2));
}

/// Once released these bytes never change: an older hub always opens.
#[test]
fn the_bytes_of_a_segment_are_golden() {
    let disk = SimDisk::default();
    let mut known = unknown();
    let (mut log, _) = reopen(&disk, &mut known);
    log.append(&batch(1, 3)).unwrap();
    log.append(&every_change()).unwrap();
    let content = disk.content(&segment::name(1));
    let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let lines: Vec<String> = content[..used.next_multiple_of(8)]
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    expect![[r#"
        44414c5345474e4f010000000875d0ef00112233445566778899aabbccddeeff
        0100000000000000010000000000000000000000000000000100000000000000
        00100000000000000b000000c99296bc01000000000000000100000000000000
        0100000000000000000000000000000001000101050001030101010000000000
        55010000cdb61af8010000000000000002000000000000000100000000000000
        0100000000000000010301120801010500010801000000000000000201d00200
        0a000102030204696e2d3204020001030202020601010c07636f756e74657201
        33070201057e7e7e7e7e0b07636f756e746572013102d80e0204838383830904
        04010d0667697468756201300445454545110102020a37373737373737373737
        120104011001310f013004cacacaca01bf07030304696e2d3300000000000000
        030000000000000007054f726465720102ca010002016100056227255f2202c3
        bc0300ff0103322e300980f785ffffc7d00719706172656e74202271756f7465
        642220c3bc6ec3af636f64658080808010ffffffff0f277b226e223a20312e30
        2c2022626967223a2031323334353637383930313233343536373839307d046e
        756c6c060754696d656f75740a6e6f20616e737765720a096174206c696e6520
        31010005726573657408076e6f20636f6465040e066769746875620131000000"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_damaged_batch_is_an_error_and_never_a_panic() {
    let mut bytes = Vec::new();
    codec::encode_batch(&every_change(), &mut bytes);
    assert_eq!(codec::decode_batch(&bytes).unwrap(), every_change());
    let mut refused = 0;
    for position in 0..bytes.len() {
        assert!(codec::decode_batch(&bytes[..position]).is_err());
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[position] ^= flip;
            refused += usize::from(codec::decode_batch(&damaged).is_err());
        }
    }
    assert!(refused > 100);
}

#[test]
fn no_change_of_a_frame_goes_unnoticed() {
    let mut random = Random::new(7);
    let seed = frame::seed(STORE, 1);
    let mut original = Vec::new();
    frame::begin(&mut original);
    codec::encode_batch(&every_change(), &mut original);
    frame::finish(&mut original, seed, frame::KIND_BATCH, 7, 3, 6);
    let whole = frame::read(&original, seed).unwrap();
    // What stands behind the payload fills up to the next frame, or is the next frame.
    let end = frame::HEADER_BYTES + whole.len;
    for _ in 0..20_000 {
        let changed = random.mutate(&original);
        let is_taken = frame::read(&changed, seed).is_some();
        assert!(!is_taken || changed.starts_with(&original[..end]), "{changed:?}");
        assert!(is_taken || !changed.starts_with(&original), "{changed:?}");
        assert!(frame::read(&changed, frame::seed(STORE, 2)).is_none());
    }
}

#[test]
fn what_is_taken_of_a_changed_batch_reads_the_same_again() {
    let mut random = Random::new(8);
    let mut original = Vec::new();
    codec::encode_batch(&every_change(), &mut original);
    let mut taken = 0;
    for _ in 0..20_000 {
        let Ok(batch) = codec::decode_batch(&random.mutate(&original)) else {
            continue;
        };
        let mut bytes = Vec::new();
        codec::encode_batch(&batch, &mut bytes);
        assert_eq!(codec::decode_batch(&bytes).unwrap(), batch);
        taken += 1;
    }
    assert!(taken > 100, "{taken} taken");
}

/// Small, and a row has all that a row may have.
fn is_telling(op: &Op) -> bool {
    match op {
        Op::PutInstance(row) => row.failure.is_some() && row.apart != Apart::default(),
        Op::PutPayload { value, .. } => value.len_bytes() < 999,
        _ => true,
    }
}

/// A commit with one of each change, made by the generator of the suite's random operations.
fn every_change() -> Vec<Commit> {
    let model = dalsegno_store_memory::MemoryStore::new(dalsegno_store_tests::PARTITIONS);
    let mut generator = dalsegno_store_tests::Generator::new(3);
    let ops: Vec<Op> = (0..60)
        .flat_map(|_| generator.batch(Epoch(1), &model))
        .flat_map(|commit| commit.ops)
        .filter(is_telling)
        .collect();
    let mut seen = Vec::new();
    let one_each = ops
        .into_iter()
        .filter(|op| {
            let kind = std::mem::discriminant(op);
            let is_new = !seen.contains(&kind);
            seen.push(kind);
            is_new
        })
        .collect::<Vec<Op>>();
    assert_eq!(one_each.len(), 18, "one of each change");
    vec![Commit {
        partition: PartitionId(3),
        epoch: Epoch(1),
        ops: one_each,
    }]
}

#[test]
fn the_writer_of_a_log_has_its_last_segment_locked() {
    let disk = SimDisk::default();
    let (mut log, _) = open_sim(&disk, &unknown()).unwrap();
    let refused = |disk: &SimDisk| match open_sim(disk, &unknown()) {
        Err(LogError::InUse(how)) => how,
        other => panic!("not refused: {other:?}"),
    };
    expect!["another process has log.0000000000000001 locked"].assert_eq(&refused(&disk));
    for n in 1..=40 {
        log.append(&batch(n, 300)).unwrap();
    }
    // Those before it are not: they may be read, and removed once they are folded.
    expect!["another process has log.0000000000000004 locked"].assert_eq(&refused(&disk));
    assert_eq!(log.append(&batch(41, 300)).unwrap(), 41, "the writer goes on");
    log.close();
    let (_, batches) = open_sim(&disk, &unknown()).unwrap();
    assert_eq!(batches.len(), 41);
}

/// A process of its own that has the log, or tried to.
#[derive(Debug, Default)]
struct Host {
    log: Option<Log>,
    acknowledged: Vec<u64>,
    is_lost: bool,
}

impl Host {
    /// Opens the log, if no other process is noticed.
    fn open(disk: &SimDisk, known: &Known) -> Self {
        match open_sim(disk, known) {
            Ok((log, _)) => Self {
                log: Some(log),
                ..Self::default()
            },
            Err(LogError::InUse(_)) => Self::default(),
            Err(error) => panic!("refused for another reason: {error:?}"),
        }
    }

    /// As the committer does it: what was certainly not written is tried again.
    fn append(&mut self, len: usize) {
        let Some(log) = self.log.as_mut().filter(|_| !self.is_lost) else {
            return;
        };
        let n = log.last() + 1;
        for _ in 0..3 {
            match log.append(&batch(n, len)) {
                Ok(lsn) => return self.acknowledged.push(lsn),
                Err(AppendError::NotWritten(_)) => {}
                Err(AppendError::Lost(_)) => {
                    self.is_lost = true;
                    return;
                }
                Err(error) => panic!("failed for another reason: {error:?}"),
            }
        }
        panic!("the log takes nothing and does not say why");
    }
}

/// Lengths of batches: a mark of each host is in them, so that one's is not taken for the other's.
const FIRST_LEN: usize = 300;
const SECOND_LEN: usize = 301;

/// What both hosts acknowledged is in the log that the next opening finds, each at its position.
fn check_acknowledged(what: &str, disk: &SimDisk, known: &Known, first: &Host, second: &Host) {
    let (_, batches) = open_sim(&disk.after_kill(), known).unwrap();
    for (host, len) in [(first, FIRST_LEN), (second, SECOND_LEN)] {
        for lsn in &host.acknowledged {
            let found = batches.iter().find(|batch| batch.lsn == *lsn);
            assert!(
                found.is_some_and(|found| found.commits == batch(*lsn, len)),
                "{what}: position {lsn} was acknowledged and is lost"
            );
        }
    }
}

/// Both hosts of a hub answered, and what the first one had acknowledged was gone: only a file beside
/// the data was locked, and somebody had deleted it. Where locks exclude nobody, the mark of the
/// later opening has to do.
#[test]
fn an_opening_between_any_two_steps_of_an_append_is_noticed_before_the_batch_is_acknowledged() {
    let (mut opened, mut rotated) = (0, 0);
    for step in 0.. {
        let disk = SimDisk::default();
        disk.ignore_locks();
        let mut known = unknown();
        let (log, _) = reopen(&disk, &mut known);
        let mut first = Host {
            log: Some(log),
            ..Host::default()
        };
        let second: Arc<Mutex<Option<Host>>> = Arc::default();
        let (other, place) = (disk.clone(), Arc::clone(&second));
        disk.interrupt_after(step, move || {
            let mut host = Host::open(&other, &known);
            (0..3).for_each(|_| host.append(SECOND_LEN));
            *place.lock().unwrap() = Some(host);
        });
        (0..30).for_each(|_| first.append(FIRST_LEN));
        if disk.forget_interruption() {
            break;
        }
        let mut second = second.lock().unwrap().take().unwrap();
        let what = format!("step {step}");
        if second.log.is_some() {
            opened += 1;
            rotated += usize::from(first.log.as_ref().unwrap().active_segment() > 1);
            (0..30).for_each(|_| second.append(SECOND_LEN));
            first.append(FIRST_LEN);
            assert!(first.is_lost, "{what}: the first host goes on");
            assert!(!second.is_lost && second.acknowledged.len() == 33, "{what}");
        }
        check_acknowledged(&what, &disk, &known, &first, &second);
    }
    assert!(
        opened > 80 && rotated > 20,
        "{opened} openings, {rotated} behind a rotation"
    );
}

#[test]
fn appends_between_any_two_steps_of_an_opening_are_found_by_it_or_not_acknowledged() {
    let (mut refused, mut opened) = (0, 0);
    for step in 0.. {
        let disk = SimDisk::default();
        disk.ignore_locks();
        let mut known = unknown();
        let (log, _) = reopen(&disk, &mut known);
        let first = Arc::new(Mutex::new(Host {
            log: Some(log),
            ..Host::default()
        }));
        // Two appends before the next segment is begun: the third rotates.
        (0..9).for_each(|_| first.lock().unwrap().append(FIRST_LEN));
        let host = Arc::clone(&first);
        disk.interrupt_after(step, move || {
            (0..3).for_each(|_| host.lock().unwrap().append(FIRST_LEN));
        });
        let mut second = Host::open(&disk, &known);
        if disk.forget_interruption() {
            break;
        }
        let mut first = first.lock().unwrap();
        match second.log {
            Some(_) => opened += 1,
            None => refused += 1,
        }
        (0..5).for_each(|_| second.append(SECOND_LEN));
        first.append(FIRST_LEN);
        assert!(first.is_lost || second.log.is_none(), "step {step}: both go on");
        check_acknowledged(&format!("step {step}"), &disk, &known, &first, &second);
    }
    assert!(refused > 3 && opened > 5, "{refused} refused, {opened} opened");
}

#[test]
fn a_segment_that_is_not_at_its_name_any_more_takes_nothing() {
    let lost = |change: &dyn Fn(&SimDisk)| {
        let disk = SimDisk::default();
        let (mut log, _) = open_sim(&disk, &unknown()).unwrap();
        log.append(&batch(1, 100)).unwrap();
        change(&disk);
        let syncs = disk.syncs();
        let lost = match log.append(&batch(2, 100)) {
            Err(AppendError::Lost(lost)) => lost.to_string(),
            other => panic!("not lost: {other:?}"),
        };
        assert_eq!(disk.syncs(), syncs, "it is noticed before the sync");
        assert!(matches!(
            log.append(&batch(2, 100)),
            Err(AppendError::NotWritten(_))
        ));
        lost
    };
    let name = segment::name(1);
    let moved = "log.0000000000000001 is not the file that this process writes: the hub's folder was moved, \
                 replaced or deleted";
    assert_eq!(lost(&|disk| disk.rename(&name, "elsewhere").unwrap()), moved);
    assert_eq!(lost(&|disk| disk.remove(&name).unwrap()), moved);
    // A copy has another identity, though every byte is the same.
    let replaced = lost(&|disk| {
        let bytes = disk.content(&name);
        disk.remove(&name).unwrap();
        disk.create(&name).unwrap().write_at(0, &bytes).unwrap();
    });
    assert_eq!(replaced, moved);
    let other =
        "another process has opened the hub and begun log.0000000000000002: only one host may have a folder";
    assert_eq!(lost(&|disk| drop(disk.create(&segment::name(2)).unwrap())), other);
}

fn append_many(log: &mut Log, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        log.append(&batch(n, 300)).unwrap();
    }
}

#[test]
fn a_file_that_an_earlier_opening_wrote_is_never_used_again() {
    // A process that lost its hub may still write into the segment that it has open.
    let disk = SimDisk::default();
    let mut known = unknown();
    let (mut log, _) = reopen(&disk, &mut known);
    append_many(&mut log, 1..=40);
    log.close();
    let earlier: Vec<_> = (1..=4)
        .map(|number| disk.id_of(&segment::name(number)).unwrap().unwrap())
        .collect();
    let (mut log, _) = reopen(&disk, &mut known);
    known.applied = 40;
    log.segments().recycle(40, known.segment).unwrap();
    for n in 41..=200 {
        append_many(&mut log, n..=n);
        log.segments().recycle(n - 1, log.active_segment()).unwrap();
    }
    for name in disk.names().unwrap() {
        let id = disk.id_of(&name).unwrap().unwrap();
        assert!(!earlier.contains(&id), "{name}");
    }
    let spares = disk.names().unwrap();
    assert!(spares.iter().any(|name| name.contains("spare")), "{spares:?}");
}

#[test]
fn a_segment_in_another_folder_of_that_name_is_not_recycled() {
    let disk = SimDisk::default();
    let (mut log, _) = open_sim(&disk, &unknown()).unwrap();
    append_many(&mut log, 1..=20);
    // Another hub's folder has taken the place of ours.
    let name = segment::name(1);
    disk.remove(&name).unwrap();
    disk.create(&name).unwrap();
    let other = disk.id_of(&name).unwrap();
    assert!(log.segments().recycle(20, 9).is_err());
    assert_eq!(disk.id_of(&name).unwrap(), other);
}

/// The length of a frame has 32 bits: a longer batch ended the process, which met it again at each
/// start.
#[test]
fn a_batch_that_no_frame_holds_is_refused_and_not_written() {
    assert!(frame::check_payload(frame::PAYLOAD_BYTES_MAX).is_ok());
    let refused = frame::check_payload(frame::PAYLOAD_BYTES_MAX + 1).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("2147483649 bytes") && text.contains("turn_bytes_max"),
        "{text}"
    );
    assert!(u32::try_from(frame::PAYLOAD_BYTES_MAX).is_ok());
}
