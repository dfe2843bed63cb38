//! What the machine gives: sync latency, CPU time and memory of this process.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Syncs measured for the latency that is printed beside every result.
const SYNCS: usize = 200;

/// Clock ticks per second of `/proc/self/stat`; 100 on every Linux that Rust's standard library supports.
const TICKS_PER_SECOND: u64 = 100;

/// The median time of a 4 KiB write and `fdatasync` onto a file that is already written.
pub(crate) fn sync_latency(folder: &Path) -> std::io::Result<Duration> {
    let path = folder.join("sync-probe");
    let mut file = File::create(&path)?;
    file.write_all(&vec![1; SYNCS * 4096])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = Instant::now();
        file.write_all(&[2; 4096])?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    fs::remove_file(path)?;
    times.sort();
    Ok(times[SYNCS / 2])
}

/// CPU time of this process so far, all threads, user and system.
pub(crate) fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<i64> = after_name
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // utime and stime are fields 14 and 15; of the fields behind the name, numeric ones begin at 4 (ppid).
    let ticks = fields
        .get(10)
        .zip(fields.get(11))
        .map_or(0, |(user, system)| user + system);
    let ticks = u64::try_from(ticks).unwrap_or(0);
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// Resident memory in bytes.
pub(crate) fn resident_bytes() -> u64 {
    number_in("/proc/self/status", "VmRSS:") * 1024
}

/// The most that was resident so far, in bytes.
pub(crate) fn peak_bytes() -> u64 {
    number_in("/proc/self/status", "VmHWM:") * 1024
}

/// What this process has done so far to be noticed when it idles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activity {
    /// CPU time.
    pub(crate) cpu: Duration,
    /// Bytes that went to the disk.
    pub(crate) written: u64,
    /// How often its threads were woken.
    pub(crate) wakes: u64,
}

/// So far, of all threads that live.
pub(crate) fn activity() -> Activity {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let status = threads.map(|thread| thread.path().join("status"));
    Activity {
        cpu: cpu_time(),
        written: number_in("/proc/self/io", "write_bytes:"),
        wakes: status
            .map(|path| number_in(path, "voluntary_ctxt_switches:"))
            .sum(),
    }
}

/// How long threads of this process were ready to run while others had the CPUs, all threads together.
pub(crate) fn cpu_wait() -> Duration {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// The number behind a name, 0 when there is none.
fn number_in(path: impl AsRef<Path>, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Runnable processes over the last minute: how busy others kept the machine.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0.0)
}
