//! `kill -9` at random moments: while the host starts, while it recovers, and under load.

use std::sync::Mutex;
use std::time::Duration;

use crate::broken::{Broken, Outcome, ensure};
use crate::clients::Clients;
use crate::ledger::{Ledger, lock};
use crate::process::{Host, Start};
use crate::random::Random;
use crate::worker::Worker;
use crate::{Attack, Report};

/// Kills of one hub, after which everything in it is completed and compared with the ledger.
const KILLS_PER_HUB: u64 = 25;

/// The longest life of a host from the start of its clients.
const LIFE_MS_MAX: u64 = 250;

/// The longest time after which a start is killed.
const START_MS_MAX: u64 = 150;

/// Acknowledged operations without which the attack proves too little.
const ACKNOWLEDGED_PER_KILL_MIN: u64 = 3;

pub(crate) fn run(attack: &Attack) -> Outcome<Report> {
    let kills = attack.kills;
    let hubs = kills.div_ceil(KILLS_PER_HUB);
    let mut acknowledged = 0;
    for hub in 0..hubs {
        let count = KILLS_PER_HUB.min(kills - hub * KILLS_PER_HUB);
        acknowledged += attack.in_folder("kills", |folder| {
            let mut random = Random::of_case(attack.seed, hub);
            let ledger = Mutex::new(Ledger::default());
            for kill in 0..count {
                one_life(attack, folder, kill, &mut random, &ledger)
                    .map_err(|broken| broken.at(&format!("hub {hub}, kill {kill}")))?;
            }
            let ledger = lock(&ledger);
            attack.program.verify_sound(&folder.join("hub"))?;
            ledger.settle(&attack.program, &folder.join("hub"))?;
            Ok(ledger.acknowledged())
        })?;
    }
    ensure(acknowledged >= kills * ACKNOWLEDGED_PER_KILL_MIN, || {
        format!(
            "only {acknowledged} operations were acknowledged in {kills} lives: too few to prove anything"
        )
    })?;
    Ok(Report::new(
        kills,
        format!("{acknowledged} acknowledged operations"),
    ))
}

/// Starts a host, lets clients and in most lives a worker at it, and kills it.
fn one_life(
    attack: &Attack,
    folder: &std::path::Path,
    kill: u64,
    random: &mut Random,
    ledger: &Mutex<Ledger>,
) -> Outcome {
    let command = attack.program.dev(&folder.join("hub"));
    if kill % 5 == 4 {
        let host = Host::spawn(command)?;
        std::thread::sleep(Duration::from_millis(random.below(START_MS_MAX)));
        return no_panic(&host.kill()?.printed);
    }
    let host = match Host::start(command)? {
        Start::Ready(host) => host,
        Start::Ended(ended) => {
            return Err(Broken::new(format!(
                "the host does not start after a kill: {}: {}",
                ended.status, ended.printed
            )));
        }
    };
    let worker = match kill % 3 {
        0 => None,
        _ => Some(Worker::start(host.address)?),
    };
    let clients = Clients::new(host.address, random.number(), None);
    let lifetime = Duration::from_millis(5 + random.below(LIFE_MS_MAX));
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(|| clients.run(ledger));
        std::thread::sleep(lifetime);
        let ended = host.kill();
        let asked = running
            .join()
            .unwrap_or_else(|_| Err(Broken::new("a client panicked")));
        asked.and(ended)
    })?;
    drop(worker);
    no_panic(&ended.printed)
}

fn no_panic(printed: &str) -> Outcome {
    ensure(!printed.contains("panicked"), || {
        format!("the host panicked: {printed}")
    })
}
