//! Who waits for which limiter bucket, and who may go.
//!
//! A waiting activity holds no slot and burns no attempt. Waiting is not stored: the task is, and
//! asks again after a restart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::limiter::{Bucket, Grant, LimiterRule};
use dalsegno_core::store::Op;
use dalsegno_core::{InstanceId, Timestamp};

use super::Partition;
use crate::input::{LimiterAsk, LimiterPlace};
use crate::limiters::{Admitted, BucketName};
use crate::record;
use crate::request::LimiterStatus;
use crate::task::TaskRecord;
use crate::turn::{Effect, Reply, Turn};

/// Buckets of a partition are looked through for idle ones when there are this many.
const BUCKETS_KEPT: usize = 64;

/// So many of those that wait for a bucket are told one by one.
const WAITERS_TOLD_MAX: usize = 20;

/// Tasks of one instance in one line that an explanation tells of.
const PLACES_TOLD_MAX: usize = 100;

/// The buckets that belong to one partition.
#[derive(Debug)]
pub(super) struct LimiterBank {
    buckets: BTreeMap<BucketName, Line>,
    /// When there are so many, those that are as new ones would be are dropped: keys come from
    /// users' data and do not end.
    sweep_at: usize,
}

impl Default for LimiterBank {
    fn default() -> Self {
        Self {
            buckets: BTreeMap::new(),
            sweep_at: BUCKETS_KEPT,
        }
    }
}

/// A bucket and the line before it.
#[derive(Debug)]
struct Line {
    bucket: Bucket,
    waiting: VecDeque<Arc<TaskRecord>>,
    next_grant: Option<Timestamp>,
}

impl Line {
    fn first_waiters(&self) -> Vec<(InstanceId, Arc<str>)> {
        let first = self.waiting.iter().take(WAITERS_TOLD_MAX);
        first
            .map(|record| (record.instance.clone(), record.name.clone()))
            .collect()
    }
}

impl LimiterBank {
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let waiting = self.buckets.values().filter(|line| !line.waiting.is_empty());
        waiting.filter_map(|line| line.next_grant).min()
    }

    /// Those who wait for a bucket.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Arc<TaskRecord>> {
        self.buckets.values().flat_map(|line| &line.waiting)
    }
}

impl Partition {
    /// Takes up a stored bucket. What was reserved before is forfeited.
    pub fn restore_bucket(
        &mut self,
        name: BucketName,
        rule: LimiterRule,
        record: dalsegno_core::limiter::BucketRecord,
    ) {
        let bucket = Bucket::restored(rule, record);
        self.limiters.buckets.insert(
            name,
            Line {
                bucket,
                waiting: VecDeque::new(),
                next_grant: None,
            },
        );
    }

    /// Before a bucket is made: forgets those that nobody uses, once there are many. Twice as many
    /// as are in use are kept at most, so that looking through them costs little.
    fn sweep_limiters(&mut self) {
        if self.limiters.buckets.len() < self.limiters.sweep_at {
            return;
        }
        let now = self.now;
        let mut ops = Vec::new();
        self.limiters.buckets.retain(|bucket, line| {
            let is_used = !line.waiting.is_empty() || !line.bucket.is_as_new(now);
            if !is_used {
                let (name, key) = (bucket.limiter.clone(), bucket.key.clone());
                ops.push(Op::DeleteLimiter { name, key });
            }
            is_used
        });
        self.limiters.sweep_at = BUCKETS_KEPT.max(2 * self.limiters.buckets.len());
        self.push_turn(Turn {
            ops,
            ..Turn::default()
        });
    }

    pub(super) fn acquire(&mut self, ask: LimiterAsk) {
        self.sweep_limiters();
        let now = self.now;
        let name = ask.bucket;
        let line = self.limiters.buckets.entry(name.clone()).or_insert_with(|| Line {
            bucket: Bucket::new(ask.rule, now),
            waiting: VecDeque::new(),
            next_grant: None,
        });
        line.waiting.push_back(ask.record);
        let is_open = line.next_grant.is_none_or(|next| next <= now);
        if is_open {
            self.grant(&name);
        }
    }

    pub(super) fn give_back(&mut self, name: &BucketName) {
        if let Some(line) = self.limiters.buckets.get_mut(name) {
            line.bucket.give_back();
            self.grant(name);
        }
    }

    /// A 429: the shared bucket is shut for all, and the task waits at its head.
    pub(super) fn shut(&mut self, ask: LimiterAsk, retry_after: Duration) {
        let now = self.now;
        let name = ask.bucket;
        let line = self.limiters.buckets.entry(name.clone()).or_insert_with(|| Line {
            bucket: Bucket::new(ask.rule, now),
            waiting: VecDeque::new(),
            next_grant: None,
        });
        line.bucket.give_back();
        line.bucket.shut(retry_after, now);
        line.waiting.push_front(ask.record);
        let op = put_limiter(&name, &line.bucket);
        self.push_turn(Turn {
            ops: vec![op],
            ..Turn::default()
        });
        self.grant(&name);
    }

    pub(super) fn change_rule(&mut self, limiter: &Arc<str>, rule: &LimiterRule) {
        let names: Vec<BucketName> = self
            .limiters
            .buckets
            .keys()
            .filter(|name| name.limiter == *limiter)
            .cloned()
            .collect();
        for name in names {
            if let Some(line) = self.limiters.buckets.get_mut(&name) {
                line.bucket.rule = rule.clone();
                let most = f64::from(rule.burst_tokens());
                line.bucket.record.tokens = line.bucket.record.tokens.min(most);
            }
            self.grant(&name);
        }
    }

    /// Buckets whose next token is there.
    pub(super) fn grant_due(&mut self) {
        let now = self.now;
        if self.limiters.next_due().is_none_or(|due| due > now) {
            return;
        }
        let is_due =
            |line: &Line| !line.waiting.is_empty() && line.next_grant.is_some_and(|next| next <= now);
        let names: Vec<BucketName> = self
            .limiters
            .buckets
            .iter()
            .filter(|(_, line)| is_due(line))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.grant(&name);
        }
    }

    /// Lets go as many as may. They run once the tokens they used are taken in the store.
    fn grant(&mut self, name: &BucketName) {
        let now = self.now;
        let Some(line) = self.limiters.buckets.get_mut(name) else {
            return;
        };
        let mut turn = Turn::default();
        line.next_grant = None;
        while let Some(first) = line.waiting.front() {
            match line.bucket.ask(line.waiting.len(), now) {
                Grant::Go => {}
                Grant::GoAfterCommit => turn.ops = vec![put_limiter(name, &line.bucket)],
                Grant::At(next) => {
                    line.next_grant = Some(next);
                    break;
                }
                Grant::WhenFree => break,
            }
            self.config
                .meters
                .granted(first.due.unwrap_or(first.scheduled), now);
            turn.effects.push(Effect::Run(Admitted {
                record: first.clone(),
                bucket: Some(name.clone()),
            }));
            line.waiting.pop_front();
        }
        self.push_turn(turn);
    }

    /// Where the tasks of an instance stand in the lines here.
    pub(super) fn answer_places(&mut self, instance: &InstanceId, reply: Reply<Vec<LimiterPlace>>) {
        let mut places = Vec::new();
        for (name, line) in &self.limiters.buckets {
            let own = line.waiting.iter().enumerate();
            let own = own.filter(|(_, record)| record.instance == *instance);
            places.extend(own.take(PLACES_TOLD_MAX).map(|(before, record)| LimiterPlace {
                execution: record.key,
                task: record.task,
                limiter: name.limiter.clone(),
                key: name.key.clone(),
                before,
                next_grant: line.next_grant,
            }));
        }
        self.answer_now(reply.with(Ok(places)));
    }

    pub(super) fn answer_limiters(&mut self, reply: Reply<Vec<LimiterStatus>>) {
        let now = self.now;
        let statuses = self.limiters.buckets.iter().map(|(name, line)| LimiterStatus {
            name: name.limiter.clone(),
            key: name.key.clone(),
            rate: line.bucket.rule.rate,
            burst: line.bucket.rule.burst_tokens(),
            concurrency: line.bucket.rule.concurrency,
            tokens: line.bucket.tokens(now),
            running: line.bucket.running,
            waiting: line.waiting.len(),
            blocked_until: line.bucket.record.blocked_until.filter(|until| *until > now),
            next_grant: line.next_grant.filter(|_| !line.waiting.is_empty()),
            waiters: line.first_waiters(),
        });
        let answer = reply.with(Ok(statuses.collect()));
        self.answer_now(answer);
    }
}

fn put_limiter(name: &BucketName, bucket: &Bucket) -> Op {
    let data = record::encode_bucket(&bucket.record);
    Op::PutLimiter {
        name: name.limiter.clone(),
        key: name.key.clone(),
        data,
    }
}
