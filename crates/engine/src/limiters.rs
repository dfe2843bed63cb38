//! Which limiter an activity passes, and in which bucket: chosen once, when it is dispatched.
//!
//! Who waits and who may go is decided by the partition that the bucket belongs to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dalsegno_core::PartitionId;
use dalsegno_core::limiter::LimiterRule;
use hashbrown::HashMap;

use crate::executor::Executor;
use crate::input::LimiterAsk;
use crate::task::TaskRecord;

/// A bucket: of which limiter, and for which key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketName {
    /// Limiter name.
    pub limiter: Arc<str>,
    /// Bucket key.
    pub key: Arc<str>,
}

impl BucketName {
    /// The partition it belongs to, of so many.
    pub fn partition(&self, partitions: u32) -> PartitionId {
        PartitionId::of(&format!("{}/{}", self.limiter, self.key), partitions)
    }
}

/// A task that may run, and the bucket that let it go: it gets back what the task took.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The task.
    pub record: Arc<TaskRecord>,
    /// `None`: no limiter is in its way.
    pub bucket: Option<BucketName>,
}

/// The limiters of a hub.
#[derive(Debug, Default)]
pub struct Limiters {
    rules: RwLock<HashMap<Arc<str>, LimiterRule>>,
    /// The limiters of activities that say nothing of it themselves.
    limited: RwLock<HashMap<Arc<str>, Arc<str>>>,
}

impl Limiters {
    /// Those with these rules.
    pub fn new(rules: impl IntoIterator<Item = (Arc<str>, LimiterRule)>) -> Self {
        Self {
            rules: RwLock::new(rules.into_iter().collect()),
            ..Self::default()
        }
    }

    /// What a task asks for before it runs: of the limiter that its code names, else of the one that
    /// the call names, else of the one that is configured. `None`: it passes none.
    pub fn ask(&self, executor: &dyn Executor, record: &Arc<TaskRecord>) -> Option<LimiterAsk> {
        let of_code = executor
            .activity_settings(&record.name)
            .and_then(|settings| settings.limiter);
        let is_of_code = of_code.is_some();
        let of_call = || record.options.limiter().map(Into::into);
        let limiter: Arc<str> = of_code
            .or_else(of_call)
            .or_else(|| read(&self.limited).get(&record.name).cloned())?;
        let Some(rule) = self.rule(&limiter) else {
            tracing::warn!(%limiter, activity = %record.name, "the hub has no limiter of this name; running without");
            return None;
        };
        // On the committer's thread, which must outlive it: the attempt will tell of the panic.
        let key = || executor.limiter_key(&record.name, record.input.as_ref());
        let key = match is_of_code {
            true => catch_unwind(AssertUnwindSafe(key)).unwrap_or_default(),
            false => record.options.limiter_key().into(),
        };
        Some(LimiterAsk {
            bucket: BucketName { limiter, key },
            rule,
            record: record.clone(),
        })
    }

    /// The same bucket again, for a task that it let go and that was told to come back later.
    pub fn ask_again(&self, admitted: &Admitted) -> Option<LimiterAsk> {
        let bucket = admitted.bucket.clone()?;
        Some(LimiterAsk {
            rule: self.rule(&bucket.limiter)?,
            bucket,
            record: admitted.record.clone(),
        })
    }

    /// What a limiter allows.
    pub fn rule(&self, limiter: &str) -> Option<LimiterRule> {
        read(&self.rules).get(limiter).cloned()
    }

    /// All limiters the hub has.
    pub fn rules(&self) -> Vec<(Arc<str>, LimiterRule)> {
        let rules = read(&self.rules);
        rules
            .iter()
            .map(|(name, rule)| (name.clone(), rule.clone()))
            .collect()
    }

    /// Sets what a limiter allows.
    pub fn set_rule(&self, limiter: Arc<str>, rule: LimiterRule) {
        write(&self.rules).insert(limiter, rule);
    }

    /// Lets an activity pass a limiter, whoever runs it.
    pub fn limit(&self, activity: Arc<str>, limiter: Arc<str>) {
        write(&self.limited).insert(activity, limiter);
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
