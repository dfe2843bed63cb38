//! What a hub measures, as Prometheus has it.
//!
//! Counts and times are taken where things happen; what is a state is asked for when somebody
//! reads. Labels are names of code, never ids, and so many at most.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use dalsegno_core::Timestamp;
use dalsegno_core::query::Status;
use dalsegno_core::store::InstanceRow;
use hashbrown::HashMap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::executor::AttemptOutcome;
use crate::task::TaskRecord;

/// Names of code that get a label of their own; those after them share one.
const NAMES_MAX: usize = 500;

/// The label of names beyond [`NAMES_MAX`].
const OTHER: &str = "other";

/// Bounds of what lasts from a millisecond to a day, in seconds.
const LONG: [f64; 14] = [
    0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0,
];

/// Bounds of what a machine does, in seconds.
const SHORT: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0,
];

/// Bounds of how many turns share a commit.
const TURNS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1_024.0, 4_096.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    name: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempted {
    name: String,
    outcome: &'static str,
}

type Histograms<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

/// The instruments of one hub.
#[derive(Debug)]
pub struct Meters {
    orchestrators: ByName<OrchestratorMeter>,
    activities: ByName<ActivityMeter>,
    started: Counter,
    ended: Family<Ended, Counter>,
    orchestration_seconds: Histograms<Named>,
    attempts: Family<Attempted, Counter>,
    activity_seconds: Histograms<Named>,
    schedule_to_start_seconds: Histograms<Named>,
    limiter_wait_seconds: Histogram,
    timer_lag_seconds: Histogram,
    commit_seconds: Histogram,
    commit_turns: Histogram,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            orchestrators: ByName::default(),
            activities: ByName::default(),
            started: Counter::default(),
            ended: Family::default(),
            orchestration_seconds: Family::new_with_constructor(long),
            attempts: Family::default(),
            activity_seconds: Family::new_with_constructor(long),
            schedule_to_start_seconds: Family::new_with_constructor(long),
            limiter_wait_seconds: long(),
            timer_lag_seconds: Histogram::new(SHORT),
            commit_seconds: Histogram::new(SHORT),
            commit_turns: Histogram::new(TURNS),
        }
    }
}

fn long() -> Histogram {
    Histogram::new(LONG)
}

impl Meters {
    /// Puts the instruments where a reader finds them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "orchestrations_started",
            "Orchestrations that began to exist, children included",
            self.started.clone(),
        );
        registry.register(
            "orchestrations_ended",
            "Orchestrations that ended, by orchestrator and status",
            self.ended.clone(),
        );
        registry.register_with_unit(
            "orchestration",
            "From creation to end of an orchestration",
            Unit::Seconds,
            self.orchestration_seconds.clone(),
        );
        registry.register(
            "activity_attempts",
            "Attempts of activities that came back, by activity and outcome",
            self.attempts.clone(),
        );
        registry.register_with_unit(
            "activity",
            "How long an attempt of an activity ran",
            Unit::Seconds,
            self.activity_seconds.clone(),
        );
        registry.register_with_unit(
            "activity_schedule_to_start",
            "From when an activity was asked for, or its next attempt was due, to when it ran",
            Unit::Seconds,
            self.schedule_to_start_seconds.clone(),
        );
        registry.register_with_unit(
            "limiter_wait",
            "How long an activity waited for its limiter",
            Unit::Seconds,
            self.limiter_wait_seconds.clone(),
        );
        registry.register_with_unit(
            "timer_lag",
            "How much later than it was due a timer fired",
            Unit::Seconds,
            self.timer_lag_seconds.clone(),
        );
        registry.register_with_unit(
            "commit",
            "How long it took to make a batch of turns durable",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register(
            "commit_turns",
            "How many turns one batch made durable",
            self.commit_turns.clone(),
        );
    }

    /// A durable turn changed a status.
    pub(crate) fn moved(&self, change: (Option<Status>, Option<Status>)) {
        if let (None, Some(_)) = change {
            self.started.inc();
        }
    }

    /// An orchestration has ended.
    pub(crate) fn ended(&self, row: &InstanceRow) {
        let meter = self.orchestrators.get(&row.name, |name| OrchestratorMeter {
            name: name.to_owned(),
            seconds: self.seconds_of(name),
        });
        let labels = Ended {
            name: meter.name.clone(),
            status: row.status.as_str(),
        };
        self.ended.get_or_create(&labels).inc();
        meter
            .seconds
            .observe(row.updated.since(row.created).as_secs_f64());
    }

    fn seconds_of(&self, name: &str) -> Histogram {
        let labels = Named {
            name: name.to_owned(),
        };
        self.orchestration_seconds.get_or_create(&labels).clone()
    }

    /// An attempt came back that had run for so long.
    pub(crate) fn attempted(
        &self,
        record: &TaskRecord,
        outcome: &AttemptOutcome,
        took: Duration,
        now: Timestamp,
    ) {
        let meter = self.activities.get(&record.name, |name| self.activity(name));
        let count = match outcome {
            AttemptOutcome::Completed(_) => &meter.completed,
            AttemptOutcome::Failed { .. } => &meter.failed,
            AttemptOutcome::Limited { .. } => &meter.limited,
        };
        count.inc();
        meter.seconds.observe(took.as_secs_f64());
        // Of later attempts it is not known any more when they were due.
        if record.failed_attempts == 0 {
            let waited = now.since(record.scheduled).saturating_sub(took);
            meter.waited.observe(waited.as_secs_f64());
        }
    }

    fn activity(&self, name: &str) -> ActivityMeter {
        let named = Named {
            name: name.to_owned(),
        };
        let attempts = |outcome| {
            let labels = Attempted {
                name: name.to_owned(),
                outcome,
            };
            self.attempts.get_or_create(&labels).clone()
        };
        ActivityMeter {
            completed: attempts("completed"),
            failed: attempts("failed"),
            limited: attempts("limited"),
            seconds: self.activity_seconds.get_or_create(&named).clone(),
            waited: self.schedule_to_start_seconds.get_or_create(&named).clone(),
        }
    }

    /// A limiter let an activity go that had come at that time.
    pub(crate) fn granted(&self, wanted: Timestamp, now: Timestamp) {
        self.limiter_wait_seconds.observe(now.since(wanted).as_secs_f64());
    }

    /// A timer fired.
    pub(crate) fn fired(&self, due: Timestamp, now: Timestamp) {
        self.timer_lag_seconds.observe(now.since(due).as_secs_f64());
    }

    /// A batch is durable.
    pub(crate) fn committed(&self, turns: usize, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_turns.observe(turns as f64);
    }
}

#[derive(Debug)]
struct OrchestratorMeter {
    name: String,
    seconds: Histogram,
}

#[derive(Debug)]
struct ActivityMeter {
    completed: Counter,
    failed: Counter,
    limited: Counter,
    seconds: Histogram,
    waited: Histogram,
}

/// The instruments of each name; clients of other languages may send any.
#[derive(Debug)]
struct ByName<M>(RwLock<HashMap<Arc<str>, Arc<M>>>);

impl<M> Default for ByName<M> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<M> ByName<M> {
    fn get(&self, name: &Arc<str>, make: impl Fn(&str) -> M) -> Arc<M> {
        let find = |name: &str| {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            (known.get(name).cloned(), known.len() >= NAMES_MAX)
        };
        let (found, is_full) = find(name);
        if let Some(meter) = found {
            return meter;
        }
        let name: Arc<str> = if is_full { OTHER.into() } else { name.clone() };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let meter = known.entry(name.clone()).or_insert_with(|| Arc::new(make(&name)));
        meter.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_most_share_a_label() {
        let names = ByName::default();
        let label = |name: &str| names.get(&name.into(), str::to_owned).to_string();
        for number in 0..NAMES_MAX {
            assert_eq!(label(&format!("n{number}")), format!("n{number}"));
        }
        assert_eq!(label("one more"), OTHER);
        assert_eq!(label("another"), OTHER);
        assert_eq!(label("n7"), "n7");
    }
}
