//! Damaged files: copies of a real hub, each with one file missing, cut, of another hub, or changed in one byte.
//!
//! Of each copy `dalsegno verify` and a host are asked. They refuse it with a message and a documented exit code, or
//! what they answer is what the ledger says. A response may say that something is damaged; it may not be another
//! value, or nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::broken::{Broken, Outcome, ensure};
use crate::clients::Clients;
use crate::http::Request;
use crate::ledger::{API, Ledger, brief, lock, output};
use crate::owners::copy;
use crate::pool::run_all;
use crate::process::{Host, Start, printed};
use crate::random::Random;
use crate::worker::Worker;
use crate::{Attack, Report};

/// Copies of which one byte is changed.
const FLIPS: u64 = 300;

/// The exit code of a host that refuses a hub: no later start succeeds, so a service manager does not try again.
const REFUSED: i32 = 78;

/// The exit code of a host whose store failed while it ran.
const STORE_FAILED: i32 = 74;

/// Exit codes of `dalsegno verify`: sound, not sound, refused.
const VERDICTS: [i32; 3] = [0, 1, REFUSED];

/// Operations in each life of the hub that is damaged.
const OPERATIONS: u64 = 12;

/// Instances that wait for a timer, and instances that have completed.
const SLEEPING: usize = 1;
const COMPLETED: usize = 12;

/// Bytes of a large input, output or custom status.
const LARGE_BYTES: usize = 80_000;

/// Batches at the end of the log, and the key of the entity that they are about.
const LAST_BATCHES: u64 = 4;
const LAST_KEY: &str = "last";

/// Copies whose damage has to be noticed, of 100: else the attack hit nothing.
const NOTICED_PERCENT_MIN: u64 = 25;

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    Missing,
    Empty,
    CutInHalf,
    LastByteMissing,
    Zeroed,
    /// It is the file of another hub.
    Foreign,
    /// One byte is changed, at a place between 0 (first) and 1 (last).
    Flip {
        place: f64,
        bits: u8,
    },
}

#[derive(Clone, Debug)]
struct Case {
    file: String,
    damage: Damage,
}

/// How the cases came out.
#[derive(Debug, Default)]
struct Counts {
    refused: AtomicU64,
    /// The host answers, and says of something that it is damaged.
    reported: AtomicU64,
    /// The host answers what the ledger says.
    intact: AtomicU64,
}

pub(crate) fn run(attack: &Attack) -> Outcome<Report> {
    attack.in_folder("damage", |folder| {
        let hub = create(attack, &folder.join("hub"), 0)?;
        let other = create(attack, &folder.join("other"), 1)?;
        let answers = answers_of_copy(attack, &hub, &folder.join("intact"))?;
        ensure(
            answers_of_copy(attack, &hub, &folder.join("again"))? == answers,
            || "two copies of a hub that is not damaged answer differently".to_owned(),
        )?;
        let scene = Scene {
            attack,
            hub,
            other,
            answers,
            counts: Counts::default(),
        };
        let cases = scene.cases()?;
        run_all(&cases, |_, case| {
            attack.in_folder("damage", |folder| {
                let attacked = scene.attack_one(case, folder);
                attacked.map_err(|broken| broken.at(&format!("{case:?}")))
            })
        })?;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts {
            refused,
            reported,
            intact,
        } = &scene.counts;
        let (refused, reported, intact) = (of(refused), of(reported), of(intact));
        let what = format!(
            "{refused} refused, {reported} reported in responses, {intact} answered as the ledger says"
        );
        let count = cases.len() as u64;
        ensure((refused + reported) * 100 >= count * NOTICED_PERCENT_MIN, || {
            format!("too little damage was noticed to prove anything: {what}")
        })?;
        Ok(Report::new(count, what))
    })
}

/// Creates a hub with everything in it: three lives, of which the first ends with a checkpoint and the others by a
/// kill, so that something is in the log only.
fn create(attack: &Attack, folder: &Path, salt: u64) -> Outcome<PathBuf> {
    let ledger = Mutex::new(Ledger::default());
    for life in 0..3 {
        let host = Host::start_ready(attack.program.dev(folder))?;
        let worker = Worker::connect(host.address)?;
        if life == 0 {
            start_others(host.address)?;
        }
        Clients::new(host.address, attack.seed ^ (salt * 8 + life), Some(OPERATIONS)).run(&ledger)?;
        drop(worker);
        end_log(host.address)?;
        match life {
            0 => host.shut_down()?,
            _ => drop(host.kill()?),
        }
    }
    // The ledger says that the hub is right before anything is damaged.
    let settled = folder.with_extension("settled");
    copy(folder, &settled)?;
    lock(&ledger).settle(&attack.program, &settled)?;
    std::fs::remove_dir_all(settled)?;
    Ok(folder.to_owned())
}

/// Appends a few small batches, which the comparison leaves out.
///
/// The store cannot distinguish damage to the last frame of the log from a write that a power loss cut off: it cuts both.
/// Every frame before has one behind it that says that it was durable.
fn end_log(address: SocketAddr) -> Outcome {
    for number in 1..=LAST_BATCHES {
        let path = format!("{API}/entities/tally/{LAST_KEY}/signal");
        let body = json!({"operation": "add", "input": number}).to_string();
        let signalled = Request::post(&path, &body).send(address)?;
        ensure(signalled.is_success(), || {
            format!("{LAST_KEY} takes no signal: {}", signalled.body)
        })?;
    }
    Ok(())
}

/// Starts instances that wait for a timer, with a large custom status, and completes others.
fn start_others(address: SocketAddr) -> Outcome {
    let start = |name: &str, id: &str, bytes: usize| -> Outcome {
        let input = format!("{id} ").repeat(bytes / 8 + 1);
        let body = json!({"id": id, "input": input}).to_string();
        let started = Request::post(&format!("{API}/orchestrators/{name}"), &body).send(address)?;
        ensure(started.is_success(), || {
            format!("{id} does not start: {}", started.body)
        })
    };
    for number in 0..SLEEPING {
        start("Sleep", &format!("sleep-{number}"), LARGE_BYTES)?;
    }
    for number in 0..COMPLETED {
        let id = format!("done-{number}");
        let bytes = if number % 6 == 0 { LARGE_BYTES } else { number * 50 };
        start("Return", &id, bytes)?;
        output(&id, address)?;
    }
    Ok(())
}

/// What a host answered: the body of each path, or the status that reports damage.
type Answers = BTreeMap<String, Result<Value, u16>>;

fn answers_of_copy(attack: &Attack, hub: &Path, to: &Path) -> Outcome<Answers> {
    copy(hub, to)?;
    let host = Host::start_ready(attack.program.dev(to))?;
    let answers = read_all(host.address, None)?;
    host.shut_down()?;
    std::fs::remove_dir_all(to)?;
    Ok(answers)
}

/// Reads everything that a hub shows: what is expected, or what its lists show.
fn read_all(address: SocketAddr, expected: Option<&Answers>) -> Outcome<Answers> {
    let lists = [
        "/instances?top=1000&largeValues=false",
        "/entities?top=1000",
        "/counts",
    ];
    let mut answers: Answers = BTreeMap::new();
    for list in lists {
        let path = format!("{API}{list}");
        answers.insert(path.clone(), read(address, &path)?);
    }
    let paths: Vec<String> = match expected {
        Some(expected) => expected.keys().cloned().collect(),
        None => answers.values().flatten().flat_map(paths).collect(),
    };
    for path in paths {
        if !answers.contains_key(&path) {
            answers.insert(path.clone(), read(address, &path)?);
        }
    }
    Ok(answers)
}

/// The paths of what a list shows.
fn paths(list: &Value) -> Vec<String> {
    let rows = list["rows"].as_array().into_iter().flatten();
    rows.flat_map(
        |row| match (row["id"].as_str(), row["name"].as_str(), row["key"].as_str()) {
            (_, Some(name), Some(key)) => vec![format!("{API}/entities/{name}/{key}")],
            (Some(id), ..) => {
                let path = format!("{API}/instances/{id}");
                vec![format!("{path}/history"), path]
            }
            _ => Vec::new(),
        },
    )
    .collect()
}

fn read(address: SocketAddr, path: &str) -> Outcome<Result<Value, u16>> {
    let response = Request::get(path).send(address)?;
    Ok(match response.status {
        200 => {
            let mut shown = response.json()?;
            if let Some(rows) = shown.get_mut("rows").and_then(Value::as_array_mut) {
                rows.retain(|row| row["key"] != LAST_KEY);
            }
            Ok(shown)
        }
        status => Err(status),
    })
}

/// The hub, another hub of the same kind, and what a host answers of the first one.
#[derive(Debug)]
struct Scene<'a> {
    attack: &'a Attack,
    hub: PathBuf,
    other: PathBuf,
    answers: Answers,
    counts: Counts,
}

impl Scene<'_> {
    /// Every kind of damage to every file, and the flips.
    fn cases(&self) -> Outcome<Vec<Case>> {
        let mut files: Vec<String> = Vec::new();
        for entry in std::fs::read_dir(&self.hub)? {
            let entry = entry?;
            if entry.path().is_file() {
                files.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        files.sort();
        let mut cases = Vec::new();
        for file in &files {
            let damages = [
                Damage::Missing,
                Damage::Empty,
                Damage::CutInHalf,
                Damage::LastByteMissing,
                Damage::Zeroed,
                Damage::Foreign,
            ];
            cases.extend(damages.map(|damage| Case {
                file: file.clone(),
                damage,
            }));
        }
        let mut random = Random::new(self.attack.seed);
        let of_kind = |prefix: &str| {
            files
                .iter()
                .filter(|file| file.starts_with(prefix))
                .collect::<Vec<_>>()
        };
        let (tables, log) = (of_kind("hub.db"), of_kind("log."));
        for _ in 0..FLIPS {
            // Most bytes are in the tables and in the log; the others are a few hundred.
            let kind = match random.below(10) {
                0..5 => &tables,
                5..9 => &log,
                _ => &files.iter().collect::<Vec<_>>(),
            };
            let file = kind[random.below(kind.len() as u64) as usize].clone();
            let place = random.below(1 << 30) as f64 / f64::from(1 << 30);
            let bits = 1 + random.below(255) as u8;
            cases.push(Case {
                file,
                damage: Damage::Flip { place, bits },
            });
        }
        Ok(cases)
    }

    fn attack_one(&self, case: &Case, folder: &Path) -> Outcome {
        let (verified, started) = (folder.join("verified"), folder.join("hub"));
        for hub in [&verified, &started] {
            copy(&self.hub, hub)?;
            self.damage(case, hub)?;
        }
        let output = self
            .attack
            .program
            .command()
            .arg("verify")
            .arg(&verified)
            .output()?;
        let text = printed(&output);
        ensure(
            output.status.code().is_some_and(|code| VERDICTS.contains(&code)),
            || format!("`dalsegno verify` ended with {}: {text}", output.status),
        )?;
        ensure(!text.contains("panicked"), || {
            format!("`dalsegno verify` panicked: {text}")
        })?;
        let is_sound = output.status.success();
        match Host::start(self.attack.program.dev(&started))? {
            Start::Ended(ended) => {
                ended.expect(&[REFUSED])?;
                ensure(ended.printed.contains("error["), || {
                    format!("a start was refused without a message: {}", ended.printed)
                })?;
                ensure(!is_sound, || {
                    format!("verify calls the hub sound, a host refuses it: {}", ended.printed)
                })?;
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Start::Ready(host) => self.compare(host, is_sound),
        }
    }

    /// A host that opens a damaged hub answers what the ledger says, or that something is damaged.
    fn compare(&self, host: Host, is_sound: bool) -> Outcome {
        let address = host.address;
        let answers = read_all(address, Some(&self.answers));
        let ended = host.kill()?;
        ensure(!ended.printed.contains("panicked"), || {
            format!("the host panicked: {}", ended.printed)
        })?;
        let answers = match (answers, ended.code()) {
            (Ok(answers), _) => answers,
            // It noticed while it was asked.
            (Err(_), Some(_)) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                return ended.expect(&[STORE_FAILED]);
            }
            (Err(broken), None) => return Err(broken),
        };
        // The log of a host names what a list has to leave out.
        let is_left_out = says_damaged(&ended.printed);
        let mut is_reported = false;
        for (path, expected) in &self.answers {
            let found = answers.get(path);
            match (found, expected) {
                (Some(found), expected) if found == expected => {}
                (Some(Err(500..600)), _) => is_reported = true,
                (Some(Ok(found)), Ok(expected)) if is_marked(found, expected, is_left_out) => {
                    is_reported = true
                }
                _ => {
                    let found = found.map(|found| found.as_ref().map(brief));
                    let expected = expected.as_ref().map(brief);
                    return Err(Broken::new(format!(
                        "GET {path} was answered {found:?}, not {expected:?}"
                    )));
                }
            }
        }
        ensure(!(is_sound && is_reported), || {
            "verify calls the hub sound, and responses report damage".to_owned()
        })?;
        let count = if is_reported {
            &self.counts.reported
        } else {
            &self.counts.intact
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn damage(&self, case: &Case, hub: &Path) -> Outcome {
        let path = hub.join(&case.file);
        let mut bytes = std::fs::read(&path)?;
        match case.damage {
            Damage::Missing => return Ok(std::fs::remove_file(&path)?),
            Damage::Empty => bytes.clear(),
            Damage::CutInHalf => bytes.truncate(bytes.len() / 2),
            Damage::LastByteMissing => drop(bytes.pop()),
            Damage::Zeroed => bytes.fill(0),
            Damage::Foreign => match std::fs::read(self.other.join(&case.file)) {
                Ok(foreign) => bytes = foreign,
                // The other hub has no file of that name.
                Err(_) => bytes.fill(0xff),
            },
            Damage::Flip { place, bits } => {
                // A segment of the log is longer than what is written in it.
                let used = bytes
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |last| last + 1);
                let position = (place * used as f64) as usize;
                if let Some(byte) = bytes.get_mut(position) {
                    *byte ^= bits;
                }
            }
        }
        Ok(std::fs::write(&path, bytes)?)
    }
}

/// Whether all that differs from what was expected is marked as damaged, or left out of a list and named in the log.
fn is_marked(found: &Value, expected: &Value, is_left_out: bool) -> bool {
    let (Some(rows), Some(expected)) = (found["rows"].as_array(), expected["rows"].as_array()) else {
        return says_damaged(&found["parked"].to_string());
    };
    let is_good = |row: &Value| expected.contains(row) || says_damaged(&row["parked"].to_string());
    rows.iter().all(is_good) && (is_left_out || rows.len() == expected.len())
}

fn says_damaged(text: &str) -> bool {
    text.to_ascii_lowercase().contains("damaged")
}
