//! One owner of a hub, whatever happens to its lock file and its folder while a host runs.
//!
//! Every process on the folder has a ledger. Either the second process is refused, or the first one ends before it
//! acknowledges anything that the folder then lacks.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use crate::broken::{Broken, Outcome, ensure};
use crate::clients::{Acknowledgement, Clients};
use crate::ledger::{Ledger, lock};
use crate::process::{Ended, Host, Start};
use crate::random::Random;
use crate::{Attack, Report};

/// A host that has lost its hub ends with this code.
const EXIT_LOST_HUB: i32 = 74;

/// A start on a hub that another process has open ends with this code.
const EXIT_IN_USE: i32 = 4;

/// Operations before the attack on the folder, and after it.
const OPERATIONS: u64 = 25;

/// Operations while the folder is attacked.
const LOAD: u64 = 500;

/// Starts of a second host while the lock is deleted under load.
const SECOND_STARTS: u64 = 6;

/// Hosts that start at once on a folder that does not exist.
const RACING_STARTS: u64 = 5;

/// One attack: its name and what it does.
type Case = (&'static str, fn(&Scene<'_>) -> Outcome);

const CASES: [Case; 9] = [
    ("the lock is deleted", lock_deleted),
    ("the lock is replaced", lock_replaced),
    (
        "the lock is deleted again and again under load",
        lock_deleted_under_load,
    ),
    ("the folder is moved away", folder_moved),
    ("the folder is moved away and back", folder_moved_and_back),
    ("a copy takes the place of the folder", folder_replaced_by_copy),
    (
        "an empty folder takes the place of the folder",
        folder_replaced_by_empty,
    ),
    (
        "copies take the places of the log segments",
        segments_replaced_by_copies,
    ),
    ("several hosts create the same hub", created_by_several),
];

pub(crate) fn run(attack: &Attack) -> Outcome<Report> {
    let mut acknowledged = 0;
    for (index, (name, case)) in CASES.into_iter().enumerate() {
        acknowledged += attack.in_folder("owners", |folder| {
            let scene = Scene {
                attack,
                folder,
                seed: Random::of_case(attack.seed, index as u64).number(),
                ledger: Mutex::default(),
            };
            case(&scene).map_err(|broken| broken.at(name))?;
            Ok(lock(&scene.ledger).acknowledged())
        })?;
    }
    Ok(Report::new(
        CASES.len() as u64,
        format!("{acknowledged} acknowledged operations"),
    ))
}

/// A hub, and the ledger of the first host on it.
#[derive(Debug)]
struct Scene<'a> {
    attack: &'a Attack,
    folder: &'a Path,
    seed: u64,
    ledger: Mutex<Ledger>,
}

impl Scene<'_> {
    fn hub(&self) -> std::path::PathBuf {
        self.folder.join("hub")
    }

    fn command(&self) -> Command {
        self.attack.program.dev(&self.hub())
    }

    /// A host that has acknowledged something.
    fn first_host(&self) -> Outcome<Host> {
        let host = Host::start_ready(self.command())?;
        self.ask(&host, 1)?;
        Ok(host)
    }

    fn ask(&self, host: &Host, salt: u64) -> Outcome<Vec<Acknowledgement>> {
        Clients::new(host.address, self.seed ^ salt, Some(OPERATIONS)).run(&self.ledger)
    }

    /// Starts a second host, which has to be refused because the hub is in use.
    fn second_is_refused(&self) -> Outcome {
        let refused = Host::start_refused(self.command())?;
        refused.expect(&[EXIT_IN_USE])?;
        ensure(refused.printed.contains("in use"), || {
            format!(
                "the refusal does not say that the hub is in use: {}",
                refused.printed
            )
        })
    }

    /// Asks a host that has lost its hub: it ends, and acknowledges nothing before.
    fn first_loses(&self, host: Host) -> Outcome {
        let acknowledged = self.ask(&host, 2)?;
        let ended = host.wait_for_end()?;
        ended.expect(&[EXIT_LOST_HUB])?;
        ensure(acknowledged.is_empty(), || {
            format!("acknowledged by a host that had lost its hub: {acknowledged:?}")
        })
    }

    fn settle(&self, folder: &Path) -> Outcome {
        self.attack.program.verify_sound(folder)?;
        lock(&self.ledger).settle(&self.attack.program, folder)
    }
}

fn lock_deleted(scene: &Scene<'_>) -> Outcome {
    let host = scene.first_host()?;
    std::fs::remove_file(scene.hub().join("lock"))?;
    scene.second_is_refused()?;
    continues(scene, host)
}

fn lock_replaced(scene: &Scene<'_>) -> Outcome {
    let host = scene.first_host()?;
    let replacement = scene.hub().join("lock.replacement");
    std::fs::write(&replacement, "1\n")?;
    std::fs::rename(&replacement, scene.hub().join("lock"))?;
    scene.second_is_refused()?;
    continues(scene, host)
}

/// The first host continues, and everything that it acknowledges is there.
fn continues(scene: &Scene<'_>, host: Host) -> Outcome {
    let acknowledged = scene.ask(&host, 2)?;
    ensure(!acknowledged.is_empty(), || {
        format!("the first host acknowledges nothing any more: {}", host.text())
    })?;
    no_panic(&host.kill()?)?;
    scene.settle(&scene.hub())
}

fn lock_deleted_under_load(scene: &Scene<'_>) -> Outcome {
    let host = scene.first_host()?;
    let clients = Clients::new(host.address, scene.seed ^ 2, Some(LOAD));
    let killed = std::thread::scope(|scope| {
        let running = scope.spawn(|| clients.run(&scene.ledger));
        let refused = (0..SECOND_STARTS).try_for_each(|_| {
            // A refused host creates the file again.
            let _ = std::fs::remove_file(scene.hub().join("lock"));
            scene.second_is_refused()
        });
        let killed = host.kill();
        let asked = running
            .join()
            .unwrap_or_else(|_| Err(Broken::new("a client panicked")));
        refused.and(asked.map(drop)).and(killed)
    })?;
    no_panic(&killed)?;
    scene.settle(&scene.hub())
}

fn folder_moved(scene: &Scene<'_>) -> Outcome {
    let host = scene.first_host()?;
    let moved = scene.folder.join("moved");
    std::fs::rename(scene.hub(), &moved)?;
    scene.first_loses(host)?;
    ensure(!scene.hub().exists(), || {
        "the host created a folder where its own was".to_owned()
    })?;
    scene.settle(&moved)
}

fn folder_moved_and_back(scene: &Scene<'_>) -> Outcome {
    let host = scene.first_host()?;
    let moved = scene.folder.join("moved");
    let clients = Clients::new(host.address, scene.seed ^ 2, Some(LOAD));
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(|| clients.run(&scene.ledger));
        let moves = std::fs::rename(scene.hub(), &moved).and_then(|()| std::fs::rename(&moved, scene.hub()));
        // The host has noticed or it has not: either way nothing acknowledged is lost.
        let second = scene.start_beside(&host);
        let ended = host.kill();
        let asked = running
            .join()
            .unwrap_or_else(|_| Err(Broken::new("a client panicked")));
        moves?;
        second.and(asked.map(drop)).and(ended)
    })?;
    match ended.code() {
        None => no_panic(&ended)?,
        Some(_) => ended.expect(&[EXIT_LOST_HUB])?,
    }
    scene.settle(&scene.hub())
}

impl Scene<'_> {
    /// A second host is refused while the first one runs; it starts when the first one has ended.
    fn start_beside(&self, first: &Host) -> Outcome {
        match Host::start(self.command())? {
            Start::Ended(ended) => ended.expect(&[EXIT_IN_USE]),
            Start::Ready(second) => {
                // The pipe of a process closes when it has ended.
                let is_over = first.has_closed_stderr();
                no_panic(&second.kill()?)?;
                ensure(is_over, || {
                    "a second host started beside the first one".to_owned()
                })
            }
        }
    }
}

fn folder_replaced_by_copy(scene: &Scene<'_>) -> Outcome {
    let host = scene.first_host()?;
    let moved = scene.folder.join("moved");
    std::fs::rename(scene.hub(), &moved)?;
    copy(&moved, &scene.hub())?;
    let copied = Mutex::new(lock(&scene.ledger).clone());
    // The copy has other files: it is a hub of its own, which no process has open.
    let second = Host::start_ready(scene.command())?;
    let acknowledged = Clients::new(second.address, scene.seed ^ 3, Some(OPERATIONS)).run(&copied)?;
    ensure(!acknowledged.is_empty(), || {
        format!("the second host acknowledges nothing: {}", second.text())
    })?;
    scene.first_loses(host)?;
    no_panic(&second.kill()?)?;
    lock(&copied).settle(&scene.attack.program, &scene.hub())?;
    scene.settle(&moved)
}

fn folder_replaced_by_empty(scene: &Scene<'_>) -> Outcome {
    let host = scene.first_host()?;
    let moved = scene.folder.join("moved");
    std::fs::rename(scene.hub(), &moved)?;
    let second = Host::start_ready(scene.command())?;
    let other = Mutex::new(Ledger::default());
    let acknowledged = Clients::new(second.address, scene.seed ^ 3, Some(OPERATIONS)).run(&other)?;
    ensure(!acknowledged.is_empty(), || {
        format!("the second host acknowledges nothing: {}", second.text())
    })?;
    scene.first_loses(host)?;
    no_panic(&second.kill()?)?;
    lock(&other).settle(&scene.attack.program, &scene.hub())?;
    scene.settle(&moved)
}

fn segments_replaced_by_copies(scene: &Scene<'_>) -> Outcome {
    let host = scene.first_host()?;
    for entry in std::fs::read_dir(scene.hub())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("log.") {
            let copied = path.with_file_name("copy");
            std::fs::copy(&path, &copied)?;
            std::fs::rename(&copied, &path)?;
        }
    }
    scene.first_loses(host)?;
    scene.settle(&scene.hub())
}

fn created_by_several(scene: &Scene<'_>) -> Outcome {
    let starts = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..RACING_STARTS)
            .map(|_| scope.spawn(|| Host::start(scene.command())))
            .collect();
        let joined = starting.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|start| start.unwrap_or_else(|_| Err(Broken::new("a start panicked"))))
            .collect::<Outcome<Vec<_>>>()
    })?;
    let mut hosts = Vec::new();
    for start in starts {
        match start {
            Start::Ready(host) => hosts.push(host),
            Start::Ended(ended) => ended.expect(&[EXIT_IN_USE])?,
        }
    }
    let count = hosts.len();
    ensure(count == 1, || format!("{count} hosts own the same new hub"))?;
    for host in hosts {
        scene.ask(&host, 1)?;
        no_panic(&host.kill()?)?;
    }
    scene.settle(&scene.hub())
}

/// Copies the files of a folder and of the folders in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Outcome {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        match path.is_dir() {
            true => copy(&path, &target)?,
            false => drop(std::fs::copy(&path, &target)?),
        }
    }
    Ok(())
}

fn no_panic(ended: &Ended) -> Outcome {
    ensure(!ended.printed.contains("panicked"), || {
        format!("the host panicked: {}", ended.printed)
    })
}
