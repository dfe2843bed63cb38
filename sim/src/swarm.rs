//! What a seed's run is like: each class of fault and request is off, or at a rate of its own.

use dalsegno_core::limits::Limits;
use dalsegno_engine::partition::Entropy;

use crate::program::below;

/// Rates from 0 to 1, per step or per request; a class is off in half of the seeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Swarm {
    /// The process is killed.
    pub(crate) crashes: f64,
    /// Another host takes the hub over, and the former does not know yet.
    pub(crate) takeovers: f64,
    /// The store says that a batch was certainly not written.
    pub(crate) refusals: f64,
    /// The store cannot tell whether a batch was written.
    pub(crate) unknowns: f64,
    /// The store cannot read a row just now.
    pub(crate) failed_reads: f64,
    /// An attempt's end is reported twice.
    pub(crate) duplicates: f64,
    /// The clock jumps ahead, or back at a restart.
    pub(crate) clock_jumps: f64,
    /// A checkpoint begins or ends.
    pub(crate) checkpoints: f64,
    /// The disk fails: dies at an operation, fails a sync, is full.
    pub(crate) disk_faults: f64,
    /// Share of the steps in which a client asks for something; never 0.
    pub(crate) clients: f64,
    /// Clients suspend and resume.
    pub(crate) suspensions: f64,
    /// Clients terminate.
    pub(crate) terminations: f64,
    /// Share of what clients ask of victims that are requests to cancel.
    pub(crate) cancellations: f64,
    /// Clients put a new start in place of a living instance.
    pub(crate) replacements: f64,
    /// Clients start a finished instance again.
    pub(crate) restarts: f64,
    /// Clients rewind, whatever the state.
    pub(crate) rewinds: f64,
    /// Clients purge.
    pub(crate) purges: f64,
    /// Clients ask what changes nothing: starts that are refused, waits, statuses.
    pub(crate) probes: f64,
    /// The outside world breaks.
    pub(crate) outages: f64,
    /// Share of the starts that are for later.
    pub(crate) delayed_starts: f64,
    /// Share of the signals that are for later.
    pub(crate) delayed_signals: f64,
    /// Chance that what ran, or might have run, when the process died is suspected of it.
    pub(crate) suspicions: f64,
    /// Share of the instances whose code runs at workers; all of them in some seeds.
    pub(crate) elsewhere: f64,
    /// A worker takes a turn and is gone.
    pub(crate) lost_turns: f64,
    /// Clients raise events that no code waits for.
    pub(crate) surplus_events: f64,
    /// A worker takes only some of a turn's events.
    pub(crate) short_turns: f64,
    /// The log is real and the disk is simulated.
    pub(crate) is_on_disk: bool,
    /// Most turns in a batch; 0 is no limit.
    pub(crate) batch_turns_max: usize,
    /// The hub's limits, some of them tiny.
    pub(crate) limits: Limits,
}

/// Events that a tiny history may have.
const TINY_HISTORY: u64 = 20;

/// Chosen so that the seeds that once found a bug go on to be what they were, without cancellations.
const CANCELLATIONS_SALT: u64 = 18_892;

/// The same for code that runs elsewhere.
const DISTANCE_SALT: u64 = 49127;

/// The same for events that no code waits for.
const SURPLUS_SALT: u64 = 1_008_417;

impl Swarm {
    /// The swarm of a seed.
    pub(crate) fn of(entropy: &mut Entropy, seed: u64) -> Self {
        let mut limits = Limits {
            // Nobody here kills the process: however often one is suspected, it may go on.
            kills_max: u32::MAX,
            ..Limits::default()
        };
        let mut flip = |one_in: usize| below(entropy, one_in) == 0;
        if flip(2) {
            limits.futures_bytes_max = 1;
        }
        if flip(6) {
            limits.history_events_max = TINY_HISTORY;
        }
        if flip(2) {
            limits.inbox_messages_max = 1;
        }
        if flip(3) {
            // Almost every value is large then, and kept apart.
            limits.payload_inline_bytes = 2;
        }
        let is_on_disk = flip(4);
        let mut distance = Entropy::seeded(seed ^ DISTANCE_SALT);
        let elsewhere = match below(&mut distance, 8) {
            0..=3 => 0.0,
            4 => 1.0,
            _ => distance.share(),
        };
        let batch_turns_max = usize::from(flip(4));
        Self {
            crashes: rate(entropy, 0.03),
            takeovers: rate(entropy, 0.004),
            refusals: rate(entropy, 0.2),
            unknowns: rate(entropy, 0.02),
            failed_reads: rate(entropy, 0.3),
            duplicates: rate(entropy, 0.3),
            clock_jumps: rate(entropy, 0.01),
            checkpoints: rate(entropy, 0.1),
            disk_faults: rate(entropy, 0.01),
            clients: 0.05 + 0.4 * entropy.share(),
            suspensions: rate(entropy, 1.0),
            terminations: rate(entropy, 1.0),
            // Drawn apart, so that it does not shift what follows.
            cancellations: rate(&mut Entropy::seeded(seed ^ CANCELLATIONS_SALT), 1.0),
            replacements: rate(entropy, 0.6),
            restarts: rate(entropy, 0.6),
            rewinds: rate(entropy, 1.0),
            purges: rate(entropy, 1.0),
            probes: rate(entropy, 0.5),
            outages: rate(entropy, 0.3),
            delayed_starts: rate(entropy, 1.0),
            delayed_signals: rate(entropy, 1.0),
            suspicions: rate(entropy, 1.0),
            elsewhere,
            surplus_events: rate(&mut Entropy::seeded(seed ^ SURPLUS_SALT), 0.05),
            lost_turns: rate(&mut distance, 0.5),
            short_turns: rate(&mut distance, 0.5),
            is_on_disk,
            batch_turns_max,
            limits,
        }
    }

    /// May an orchestration fail for want of room in its history?
    pub(crate) fn has_tiny_history(&self) -> bool {
        self.limits.history_events_max == TINY_HISTORY
    }

    /// The same without faults.
    #[must_use]
    pub(crate) fn healed(&self) -> Self {
        Self {
            limits: self.limits.clone(),
            elsewhere: self.elsewhere,
            is_on_disk: self.is_on_disk,
            batch_turns_max: self.batch_turns_max,
            ..Self::default()
        }
    }
}

fn rate(entropy: &mut Entropy, most: f64) -> f64 {
    let share = entropy.share();
    // Both in every seed, so that a class that is off does not shift what follows.
    match entropy.share() < 0.5 {
        true => 0.0,
        false => share * most,
    }
}
