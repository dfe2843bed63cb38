//! Random changes, and what the model makes of them.

use dalsegno_core::query::{EntityQuery, InstanceQuery, Status};
use dalsegno_core::store::{Commit, Field, Op, Owner, Store};
use dalsegno_core::{Epoch, ExecutionKey, Fault, FaultKind, PartitionId, Payload, TaskId, Timestamp};
use dalsegno_store_memory::MemoryStore;

use crate::Subject;
use crate::compare::{Known, all_entities, all_instances, assert_same, assert_same_points, joined};
use crate::rows::{PARTITIONS, at, entity_id, entity_row, full_row, instance_id, partition_of, plain_row};

const IDS: u64 = 12;
const STEPS: usize = 60;
/// Values of one owner.
pub(crate) const PAYLOADS: u64 = 4;

/// A small xorshift: the same numbers from the same seed, everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Any seed will do.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

impl Random {
    /// The same bytes with some changed, left out, doubled or put in.
    pub fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len() as u64 + 1) as usize;
            let length = (1 + self.below(4) as usize).min(bytes.len() - at);
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..at + length)),
                2 => {
                    let again = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, again);
                }
                3 => bytes.insert(at, self.below(256) as u8),
                _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        bytes
    }

    /// Up to so many characters of an alphabet.
    pub fn text(&mut self, alphabet: &str, characters_max: u64) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..self.below(characters_max + 1))
            .map(|_| alphabet[self.below(alphabet.len() as u64) as usize])
            .collect()
    }
}

/// Makes legal batches: histories go on where they end, executions keep their instance.
#[derive(Debug)]
pub struct Generator {
    random: Random,
    key_max: u64,
    message_max: u64,
}

impl Generator {
    /// A generator for a hub that is empty.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            key_max: 0,
            message_max: 0,
        }
    }

    /// Everything that may be there.
    pub fn known(&self) -> Known {
        Known {
            instances: (0..IDS).map(|n| instance_id(&name(n))).collect(),
            keys: (1..=self.key_max + 1).map(ExecutionKey).collect(),
            entities: (0..4).map(|n| entity_id("counter", &n.to_string())).collect(),
        }
    }

    /// The next batch for a hub whose contents `model` has; the model has not taken it yet.
    pub fn batch(&mut self, epoch: Epoch, model: &MemoryStore) -> Vec<Commit> {
        let draft = model.fork();
        let draft_epoch = draft.load_hub().expect("the model reads").epoch;
        let mut batch = Vec::new();
        for _ in 0..=self.random.below(4) {
            let mut commit = self.commit(&draft);
            commit.epoch = draft_epoch;
            draft
                .append(&mut vec![commit.clone()])
                .expect("the generator is legal");
            commit.epoch = epoch;
            batch.push(commit);
        }
        batch
    }

    fn commit(&mut self, model: &MemoryStore) -> Commit {
        let key = self.key();
        let id = instance_id(&name(key % IDS));
        let mut ops = Vec::new();
        let mut end = joined(&model.history(ExecutionKey(key)).expect("the model reads")).0;
        for _ in 0..=self.random.below(6) {
            match self.random.below(6) {
                0 => ops.push(self.instance_op(key, &mut end)),
                1 => {
                    let count = self.random.below(3) as u32;
                    ops.push(Op::AppendHistory {
                        key: ExecutionKey(key),
                        first: end,
                        count,
                        data: vec![key as u8; count as usize * 3],
                    });
                    end += u64::from(count);
                }
                2 => ops.push(self.message_op()),
                3 => ops.push(self.task_op(key)),
                4 => ops.push(self.payload_op(key)),
                _ => ops.push(self.named_op()),
            }
        }
        Commit {
            partition: partition_of(&id),
            epoch: Epoch(0),
            ops,
        }
    }

    fn key(&mut self) -> u64 {
        if self.key_max == 0 || self.random.one_in(3) {
            self.key_max += 1;
            self.key_max
        } else {
            1 + self.random.below(self.key_max)
        }
    }

    fn instance_op(&mut self, key: u64, end: &mut u64) -> Op {
        let id = name(key % IDS);
        match self.random.below(6) {
            0 => Op::TouchInstance {
                key: ExecutionKey(key),
                updated: self.time(),
                events: *end,
            },
            1 => {
                *end = 0;
                Op::DeleteExecution {
                    key: ExecutionKey(key),
                    id: instance_id(&id),
                }
            }
            _ => {
                let mut row = if self.random.one_in(3) {
                    full_row(key, &id)
                } else {
                    plain_row(key, &id)
                };
                row.status = Status::ALL[self.random.below(6) as usize];
                // No draw: the golden bytes of the log are made of these.
                if let Some(failure) = row.failure.as_mut().filter(|_| key % 5 == 4) {
                    failure.properties = Some(Payload::from(r#"{"code": 7}"#));
                }
                row.created = at(self.random.below(5) as i64);
                row.updated = self.time();
                row.events = *end;
                row.parked = self
                    .random
                    .one_in(4)
                    .then(|| Fault::new(FaultKind::Missing, "no code"));
                if self.random.one_in(4) {
                    row.output = None;
                    row.apart.set(Field::Output, true);
                } else if self.random.one_in(8) {
                    row.output = Some(Payload::from(format!("\"{}\"", "x".repeat(100_000))));
                }
                Op::PutInstance(Box::new(row))
            }
        }
    }

    fn message_op(&mut self) -> Op {
        let partition = PartitionId(self.random.below(u64::from(PARTITIONS)) as u32);
        if self.random.one_in(2) || self.message_max == 0 {
            // Now and then a message is put again.
            let seq = if self.random.one_in(8) && self.message_max > 0 {
                1 + self.random.below(self.message_max)
            } else {
                self.message_max += 1;
                self.message_max
            };
            Op::PutMessage {
                partition,
                seq,
                data: seq.to_le_bytes().to_vec(),
            }
        } else {
            let seq = self.message_max - self.random.below(self.message_max.min(6));
            Op::DeleteMessage { partition, seq }
        }
    }

    fn payload_op(&mut self, key: u64) -> Op {
        let owner = if self.random.one_in(3) {
            Owner::Entity(entity_id("counter", &self.random.below(4).to_string()))
        } else {
            Owner::Execution(ExecutionKey(key))
        };
        let n = self.random.below(PAYLOADS);
        if self.random.one_in(4) {
            return Op::DeletePayload { owner, n };
        }
        let length = if self.random.one_in(8) { 100_000 } else { 10 };
        let value = Payload::from("7".repeat(length));
        Op::PutPayload { owner, n, value }
    }

    fn task_op(&mut self, key: u64) -> Op {
        let key = ExecutionKey(key);
        let task = TaskId(self.random.below(3) as u32);
        let due = at(self.random.below(3) as i64);
        match self.random.below(4) {
            0 => Op::PutTask {
                key,
                task,
                data: vec![self.random.below(256) as u8; 5],
            },
            1 => Op::DeleteTask { key, task },
            2 => Op::PutTimer { due, key, task },
            _ => Op::DeleteTimer { due, key, task },
        }
    }

    fn named_op(&mut self) -> Op {
        let n = self.random.below(4).to_string();
        let data = vec![self.random.below(256) as u8; 4];
        match self.random.below(6) {
            0 | 1 => {
                let state = (!self.random.one_in(3)).then_some("{}");
                let mut row = entity_row("counter", &n, state);
                row.last_operation = self.time();
                if self.random.one_in(2) {
                    row.queue = data;
                }
                row.is_state_apart = state.is_none() && self.random.one_in(2);
                Op::PutEntity(Box::new(row))
            }
            2 => Op::DeleteEntity {
                id: entity_id("counter", &n),
            },
            3 => Op::PutLimiter {
                name: "github".into(),
                key: n.into(),
                data,
            },
            4 => Op::DeleteLimiter {
                name: "github".into(),
                key: n.into(),
            },
            _ if self.random.one_in(3) => Op::DeleteMeta { name: n.into() },
            _ => Op::PutMeta { name: n.into(), data },
        }
    }

    fn time(&mut self) -> Timestamp {
        at(self.random.below(1_000) as i64)
    }
}

/// One seed: batches go to both, with checkpoints and reopenings of the subject in between.
pub(crate) fn compare_with_model(seed: u64, subject: &mut dyn Subject) {
    let model = MemoryStore::new(PARTITIONS);
    let model_epoch = model.load_hub().expect("the model reads").epoch;
    let mut generator = Generator::new(seed);
    let mut random = Random::new(seed ^ 0x5eed);
    let mut epoch = subject.store().load_hub().expect("the hub loads").epoch;
    for _ in 0..STEPS {
        let mut batch = generator.batch(epoch, &model);
        let mut same = batch.clone();
        same.iter_mut().for_each(|commit| commit.epoch = model_epoch);
        let lsn = subject.store().append(&mut batch).expect("the append succeeds");
        assert!(batch.is_empty(), "what is durable is taken");
        assert_eq!(model.append(&mut same).expect("the model takes it"), lsn);
        match random.below(12) {
            0 => {
                subject.reopen();
                let next = subject.store().load_hub().expect("the hub loads").epoch;
                assert!(next > epoch, "every opening raises the epoch");
                epoch = next;
            }
            1 => {
                subject.store().checkpoint().expect("the checkpoint succeeds");
            }
            2 => compare_lists(&mut random, subject.store(), &model),
            3 => assert_same(subject.store(), &model, &generator.known()),
            4..=7 => assert_same_points(subject.store(), &model, &generator.known()),
            _ => {}
        }
    }
    subject.reopen();
    assert_same(subject.store(), &model, &generator.known());
}

fn compare_lists(random: &mut Random, subject: &dyn Store, model: &dyn Store) {
    let time = |random: &mut Random| random.one_in(2).then(|| at(random.below(6) as i64));
    let query = InstanceQuery {
        statuses: Status::ALL.into_iter().filter(|_| random.one_in(3)).collect(),
        created_from: time(random),
        created_to: time(random),
        id_prefix: random.one_in(2).then(|| "in".to_owned()),
        name: random.one_in(3).then(|| "Order".to_owned()),
        tags: if random.one_in(4) {
            vec![("b'%_\"".into(), "ü".into())]
        } else {
            Vec::new()
        },
        ..InstanceQuery::default()
    };
    let limit = 1 + random.below(5) as usize;
    let found = all_instances(subject, &query, limit);
    assert_eq!(found, all_instances(model, &query, limit), "{query:?}");
    let query = EntityQuery {
        name: random.one_in(2).then(|| "counter".to_owned()),
        from: random.one_in(2).then(|| at(random.below(1_000) as i64)),
        to: random.one_in(2).then(|| at(random.below(1_000) as i64)),
        ..EntityQuery::default()
    };
    let found = all_entities(subject, &query, limit);
    assert_eq!(found, all_entities(model, &query, limit), "{query:?}");
}

fn name(n: u64) -> String {
    // Prefixes of one another, on purpose.
    match n {
        0 => "in".to_owned(),
        1 => "In-1".to_owned(),
        n => format!("in-{n}"),
    }
}
