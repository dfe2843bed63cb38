//! Which limiter an activity passes, and in which bucket: chosen once, when it is dispatched.
//!
//! Who waits and who may go is decided by the partition that the bucket belongs to.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dalsegno_core::PartitionId;
use dalsegno_core::limiter::LimiterRule;
use hashbrown::HashMap;

use crate::executor::{ActivitySettings, Executor};
use crate::input::LimiterAsk;
use crate::task::TaskRecord;

/// Limiters that the hub has not and that are told of in the log.
const UNKNOWN_LIMITERS_TOLD_MAX: usize = 1_000;

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
    /// Limiters that were asked for and that the hub has not: each is told of once.
    unknown: Mutex<Told>,
}

/// Names that were told of: so many at most, for they may come from data of users. Those beyond are not
/// told of, since what would be told is the same.
#[derive(Debug, Default)]
struct Told(BTreeSet<Arc<str>>);

impl Told {
    fn is_first(&mut self, name: &Arc<str>) -> bool {
        self.0.len() < UNKNOWN_LIMITERS_TOLD_MAX && self.0.insert(name.clone())
    }
}

impl Limiters {
    /// Those with these rules.
    pub fn new(rules: impl IntoIterator<Item = (Arc<str>, LimiterRule)>) -> Self {
        Self {
            rules: RwLock::new(rules.into_iter().collect()),
            ..Self::default()
        }
    }

    /// What a task asks for before it runs: of the limiter that its code names, which the settings of
    /// the activity tell, else of the one that the call names, else of the one that is configured.
    /// `None`: it passes none.
    pub fn ask(
        &self,
        executor: &dyn Executor,
        settings: ActivitySettings,
        record: &Arc<TaskRecord>,
    ) -> Option<LimiterAsk> {
        let of_code = settings.limiter;
        let is_of_code = of_code.is_some();
        let of_call = || record.options.limiter().map(Into::into);
        let limiter: Arc<str> = of_code
            .or_else(of_call)
            .or_else(|| read(&self.limited).get(&record.name).cloned())?;
        let Some(rule) = self.rule(&limiter) else {
            if self
                .unknown
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_first(&limiter)
            {
                tracing::warn!(%limiter, activity = %record.name, "the hub has no limiter of this name; what asks for it runs without, which is not told again");
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each attempt wrote two warnings, for as long as the name was wrong.
    #[test]
    fn a_limiter_that_is_not_there_is_told_of_once() {
        let mut told = Told::default();
        let is_first: Vec<bool> = ["a", "a", "b", "a", "b"]
            .map(|name| told.is_first(&name.into()))
            .into();
        assert_eq!(is_first, [true, false, true, false, false]);
        let most = UNKNOWN_LIMITERS_TOLD_MAX;
        let more = (0..2 * most).filter(|number| told.is_first(&format!("{number}").into()));
        assert_eq!(more.count(), most - 2);
    }
}
