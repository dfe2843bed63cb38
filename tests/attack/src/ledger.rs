//! What clients asked of a hub and what the hub acknowledged, stored outside of the process under attack.
//!
//! Each operation has a number of its own. What was acknowledged has to be there once, what was asked without an
//! answer may be there once, and nothing else may be there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::broken::{Broken, Outcome, ensure};
use crate::http::{Request, Response};
use crate::process::{Host, Program};
use crate::random::Random;
use crate::worker::{Collected, END, Worker};

pub(crate) const API: &str = "/runtime/dalsegno/v1";

/// Entities that get signals.
const TALLIES: u64 = 4;

/// Threads that ask for what became of the operations.
const READERS: usize = 4;

/// Bytes of a large input: above the limit beyond which a value is stored outside of its row.
const LARGE_BYTES: usize = 100_000;

/// What is known of an operation that a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// The host has not answered: it may have happened.
    Asked,
    /// The host acknowledged it, or a response showed it.
    Acknowledged,
}

#[derive(Clone, Debug)]
struct InstanceRecord {
    input: String,
    start: Known,
    notes: BTreeMap<u64, Known>,
    termination: Option<Known>,
}

/// The ledger of one hub.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    last_number: u64,
    instances: BTreeMap<String, InstanceRecord>,
    tallies: BTreeMap<String, BTreeMap<u64, Known>>,
    acknowledged: u64,
}

/// One operation, as it is recorded before it is sent.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Start { id: String },
    Note { id: String, number: u64, is_there: bool },
    Signal { key: String, number: u64 },
    Terminate { id: String, is_there: bool },
    Read { id: String, is_there: bool },
    ReadTally { key: String },
}

impl Ledger {
    /// How many operations were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Records a start that will be asked for.
    pub(crate) fn plan_start(&mut self, size: usize) -> Operation {
        let id = format!("order-{}", self.next_number());
        let record = InstanceRecord {
            input: format!("{id} ").repeat(size / 8 + 1),
            start: Known::Asked,
            notes: BTreeMap::new(),
            termination: None,
        };
        self.instances.insert(id.clone(), record);
        Operation::Start { id }
    }

    /// Records a random operation that will be asked for.
    pub(crate) fn plan(&mut self, random: &mut Random) -> Operation {
        let choice = random.below(100);
        let instance = self.any_instance(random);
        match (choice, instance) {
            (80..95, _) => {
                let key = format!("tally-{}", random.below(TALLIES));
                let number = self.next_number();
                self.tallies
                    .entry(key.clone())
                    .or_default()
                    .insert(number, Known::Asked);
                Operation::Signal { key, number }
            }
            (95..100, _) => Operation::ReadTally {
                key: format!("tally-{}", random.below(TALLIES)),
            },
            (30..65, Some(id)) => {
                let number = self.next_number();
                let ask = |record: &mut InstanceRecord| {
                    record.notes.insert(number, Known::Asked);
                };
                let is_there = self.change(&id, ask);
                Operation::Note { id, number, is_there }
            }
            (65..77, Some(id)) => {
                let is_there = self.change(&id, |_| {});
                Operation::Read { id, is_there }
            }
            (77..80, Some(id)) => {
                let ask = |record: &mut InstanceRecord| {
                    record.termination.get_or_insert(Known::Asked);
                };
                let is_there = self.change(&id, ask);
                Operation::Terminate { id, is_there }
            }
            _ => {
                let size = if random.below(8) == 0 { LARGE_BYTES } else { 1 };
                self.plan_start(size)
            }
        }
    }

    fn any_instance(&self, random: &mut Random) -> Option<String> {
        let count = self.instances.len() as u64;
        // Of all instances, or of the later half of their ids: neither old nor new ones are left out.
        let skipped = count / 2 * random.below(2);
        let place = skipped + random.below((count - skipped).max(1));
        self.instances.keys().nth(place as usize).cloned()
    }

    /// Changes a record; returns whether its instance has to be there.
    fn change(&mut self, id: &str, change: impl FnOnce(&mut InstanceRecord)) -> bool {
        match self.instances.get_mut(id) {
            Some(record) => {
                change(record);
                record.start == Known::Acknowledged
            }
            None => false,
        }
    }

    /// Sends an operation.
    pub(crate) fn send(
        ledger: &Mutex<Self>,
        operation: &Operation,
        address: SocketAddr,
    ) -> std::io::Result<Response> {
        let (method, path, body) = lock(ledger).request(operation);
        let request = match method {
            "GET" => Request::get(&path),
            _ => Request::post(&path, &body),
        };
        request.send(address)
    }

    fn request(&self, operation: &Operation) -> (&'static str, String, String) {
        match operation {
            Operation::Start { id } => {
                let input = self.instances.get(id).map(|record| record.input.as_str());
                let body = json!({"id": id, "input": input});
                ("POST", format!("{API}/orchestrators/Collect"), body.to_string())
            }
            Operation::Note { id, number, .. } => (
                "POST",
                format!("{API}/instances/{id}/events/note"),
                number.to_string(),
            ),
            Operation::Signal { key, number } => {
                let body = json!({"operation": "add", "input": number});
                (
                    "POST",
                    format!("{API}/entities/tally/{key}/signal"),
                    body.to_string(),
                )
            }
            Operation::Terminate { id, .. } => {
                ("POST", format!("{API}/instances/{id}/terminate"), String::new())
            }
            Operation::Read { id, .. } => ("GET", format!("{API}/instances/{id}"), String::new()),
            Operation::ReadTally { key } => ("GET", format!("{API}/entities/tally/{key}"), String::new()),
        }
    }

    /// Takes a response: records what it acknowledges or shows, fails on what may not be.
    pub(crate) fn take(&mut self, operation: &Operation, response: &Response) -> Outcome {
        let answered = || format!("{operation:?} was answered {} {}", response.status, response.body);
        match (response.status, operation) {
            (200..300, operation) => self.acknowledge(operation, response)?,
            // It may have happened.
            (500..600, _) => {}
            (404, Operation::ReadTally { .. }) => {}
            (404, Operation::Note { is_there, .. })
            | (404, Operation::Read { is_there, .. })
            | (404, Operation::Terminate { is_there, .. }) => {
                ensure(!is_there, || {
                    format!("an acknowledged start is lost: {}", answered())
                })?;
            }
            (410, Operation::Note { id, .. } | Operation::Terminate { id, .. }) => {
                let is_terminated = self
                    .instances
                    .get(id)
                    .is_some_and(|record| record.termination.is_some());
                ensure(is_terminated, || {
                    format!("the instance ended by itself: {}", answered())
                })?;
            }
            _ => return Err(Broken::new(answered())),
        }
        Ok(())
    }

    fn acknowledge(&mut self, operation: &Operation, response: &Response) -> Outcome {
        self.acknowledged += 1;
        match operation {
            Operation::Start { id } => {
                self.change(id, |record| record.start = Known::Acknowledged);
            }
            Operation::Note { id, number, .. } => {
                let seen = |record: &mut InstanceRecord| {
                    record.start = Known::Acknowledged;
                    record.notes.insert(*number, Known::Acknowledged);
                };
                self.change(id, seen);
            }
            Operation::Signal { key, number } => {
                self.tallies
                    .entry(key.clone())
                    .or_default()
                    .insert(*number, Known::Acknowledged);
            }
            Operation::Terminate { id, .. } => {
                let seen = |record: &mut InstanceRecord| {
                    record.start = Known::Acknowledged;
                    record.termination = Some(Known::Acknowledged);
                };
                self.change(id, seen);
            }
            Operation::Read { id, .. } => self.take_instance(id, &response.json()?)?,
            Operation::ReadTally { key } => self.take_tally(key, &response.json()?)?,
        }
        Ok(())
    }

    /// A response showed an instance, so it has to stay there.
    fn take_instance(&mut self, id: &str, shown: &Value) -> Outcome {
        let Some(record) = self.instances.get_mut(id) else {
            return Err(Broken::new(format!("{id} was never asked for: {shown}")));
        };
        record.start = Known::Acknowledged;
        ensure(shown["input"] == record.input.as_str(), || {
            format!(
                "{id} has another input than it was started with: {}",
                brief(shown)
            )
        })?;
        match (shown["status"].as_str(), record.termination) {
            (Some("Terminated"), Some(_)) => record.termination = Some(Known::Acknowledged),
            (Some("Pending" | "Running"), _) => {}
            _ => {
                return Err(Broken::new(format!(
                    "{id} has a state that no client asked for: {}",
                    brief(shown)
                )));
            }
        }
        Ok(())
    }

    /// A response showed what an entity holds, so it has to stay there.
    fn take_tally(&mut self, key: &str, shown: &Value) -> Outcome {
        let asked = self.tallies.entry(key.to_owned()).or_default();
        for number in shown["state"]["numbers"].as_array().into_iter().flatten() {
            let number = number.as_u64().unwrap_or(END);
            match asked.get_mut(&number) {
                Some(known) => *known = Known::Acknowledged,
                None => {
                    return Err(Broken::new(format!(
                        "{key} has the signal {number}, which no client sent"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Starts a host on the folder, lets a worker complete everything, and compares what came out with the ledger.
    pub(crate) fn settle(&self, program: &Program, folder: &Path) -> Outcome {
        let host = Host::start_ready(program.dev(folder))?;
        let worker = Worker::connect(host.address)?;
        let ids: Vec<&String> = self.instances.keys().collect();
        let share = ids.len().div_ceil(READERS).max(1);
        std::thread::scope(|scope| {
            let readers: Vec<_> = ids
                .chunks(share)
                .map(|ids| {
                    scope.spawn(|| {
                        ids.iter()
                            .try_for_each(|id| self.settle_instance(id, host.address))
                    })
                })
                .collect();
            readers.into_iter().try_for_each(joined)
        })?;
        for key in self.tallies.keys() {
            self.settle_tally(key, host.address)?;
        }
        drop(worker);
        host.shut_down()?;
        program.verify_sound(folder)
    }

    fn settle_instance(&self, id: &str, address: SocketAddr) -> Outcome {
        let Some(record) = self.instances.get(id) else {
            return Ok(());
        };
        let path = format!("{API}/instances/{id}");
        let shown = Request::get(&path).send(address)?;
        if shown.status == 404 && record.start == Known::Asked {
            return Ok(());
        }
        ensure(shown.status == 200, || {
            format!(
                "{id}, whose start was acknowledged, is lost: {} {}",
                shown.status, shown.body
            )
        })?;
        if shown.json()?["status"] == "Terminated" {
            return ensure(record.termination.is_some(), || {
                format!("{id} is terminated, and no client asked for it")
            });
        }
        ensure(record.termination != Some(Known::Acknowledged), || {
            format!("{id}, whose termination was acknowledged, runs")
        })?;
        let raised = Request::post(&format!("{path}/events/note"), &END.to_string()).send(address)?;
        ensure(raised.is_success(), || {
            format!("{id} takes no event: {} {}", raised.status, raised.body)
        })?;
        let output = output(id, address)?;
        let collected: Collected = serde_json::from_value(output)?;
        ensure(collected.input == record.input, || {
            format!("{id} saw another input than it was started with")
        })?;
        compare(&format!("the events of {id}"), &record.notes, &collected.notes)
    }

    fn settle_tally(&self, key: &str, address: SocketAddr) -> Outcome {
        let id = format!("read-{key}");
        let body = json!({"id": id, "input": key}).to_string();
        let started = Request::post(&format!("{API}/orchestrators/ReadTally"), &body).send(address)?;
        ensure(started.is_success(), || {
            format!("{id} does not start: {} {}", started.status, started.body)
        })?;
        let numbers: Vec<u64> = serde_json::from_value(output(&id, address)?)?;
        let asked = self.tallies.get(key).cloned().unwrap_or_default();
        compare(&format!("the signals of {key}"), &asked, &numbers)
    }
}

/// Waits for an instance to complete and returns its output.
pub(crate) fn output(id: &str, address: SocketAddr) -> Outcome<Value> {
    let waited = Request::get(&format!("{API}/instances/{id}/wait?timeout=60")).send(address)?;
    let shown = waited.json()?;
    ensure(waited.status == 200 && shown["status"] == "Completed", || {
        format!("{id} does not complete: {} {}", waited.status, brief(&shown))
    })?;
    Ok(shown["output"].clone())
}

/// Every acknowledged number once, every other one that was asked for at most once, and nothing else.
fn compare(what: &str, asked: &BTreeMap<u64, Known>, found: &[u64]) -> Outcome {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for number in found {
        *counts.entry(*number).or_default() += 1;
    }
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    ensure(twice.is_empty(), || format!("{what}: happened twice: {twice:?}"))?;
    let invented: Vec<_> = counts
        .keys()
        .filter(|number| !asked.contains_key(number))
        .collect();
    ensure(invented.is_empty(), || {
        format!("{what}: no client asked for {invented:?}")
    })?;
    let acknowledged = asked.iter().filter(|(_, known)| **known == Known::Acknowledged);
    let lost: Vec<_> = acknowledged
        .map(|(number, _)| number)
        .filter(|number| !counts.contains_key(number))
        .collect();
    ensure(lost.is_empty(), || {
        format!("{what}: acknowledged and lost: {lost:?}")
    })
}

/// A value for a message: long texts are cut.
pub(crate) fn brief(value: &Value) -> String {
    value.to_string().chars().take(600).collect()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of a thread; one that panicked is a mistake of the attack.
pub(crate) fn joined(thread: std::thread::ScopedJoinHandle<'_, Outcome>) -> Outcome {
    thread
        .join()
        .unwrap_or_else(|_| Err(Broken::new("a thread of the attack panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_a_repeated_and_an_invented_operation_are_found() {
        let asked = BTreeMap::from([(1, Known::Acknowledged), (2, Known::Asked)]);
        let check = |found: &[u64]| compare("x", &asked, found).map_err(|broken| broken.to_string());
        assert_eq!(check(&[1]), Ok(()));
        assert_eq!(check(&[2, 1]), Ok(()));
        assert_eq!(check(&[2]), Err("x: acknowledged and lost: [1]".into()));
        assert_eq!(check(&[1, 1]), Err("x: happened twice: [(1, 2)]".into()));
        assert_eq!(check(&[1, 3]), Err("x: no client asked for [3]".into()));
    }
}
