//! Every limit by name, with its default.
//!
//! A limit refuses at the edge or fails the step that met it; it never fails a commit or the host.

use std::time::Duration;

use crate::time::Timestamp;

/// Partitions of a new hub that nobody said otherwise of; config key `hub.partitions`. An existing
/// hub keeps its own for ever.
pub const HUB_PARTITIONS: u32 = 32;

/// The longest time from now to a timer, a scheduled start or a scheduled signal: 100 years, leap days
/// included. Fixed, because a longer one is a mistake in a calculation.
pub const TIMER_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

/// What messages say of a time beyond it.
pub const TOO_FAR_AHEAD: &str = "more than 100 years (36600 days) ahead";

/// Is this later than [`TIMER_MAX`] from now?
pub fn is_too_far_ahead(at: Timestamp, now: Timestamp) -> bool {
    at.since(now) > TIMER_MAX
}

/// Most bytes of one commit. A frame of the log counts its bytes in 32 bits; turns and batches stay
/// far below by `turn_bytes_max` and `batch_bytes_max`.
pub const COMMIT_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// The limits of a hub. Config keys are the field names, in section `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest input, output, event, custom status or entity state, in bytes.
    pub payload_bytes_max: usize,
    /// Larger values are kept apart from rows and histories, which are then read and written
    /// without them.
    pub payload_inline_bytes: usize,
    /// Most events in the history of one execution; beyond it the orchestration fails.
    pub history_events_max: u64,
    /// Most actions of one turn; beyond it the instance is parked (`BusyLoop`).
    pub turn_actions_max: usize,
    /// Most bytes of the values that one turn takes, and of those that it asks for, each. What waits
    /// beyond it is for the next turn; a turn that asks for more parks the instance (`Oversized`).
    pub turn_bytes_max: usize,
    /// Bytes of turns in one write to the disk; the others wait for the next. One turn is always taken.
    pub batch_bytes_max: usize,
    /// Longest turn or entity operation, in milliseconds; beyond it the instance is parked
    /// (`BusyLoop`) or the operation fails, and a fresh thread goes on with the others.
    pub turn_ms_max: u64,
    /// Most threads that may be stuck in user code; beyond it the process ends, to recover.
    pub stuck_threads_max: usize,
    /// Ends of the process while one and the same activity, turn or operation ran; from then on
    /// it is not run again: the activity or operation fails, the instance is parked.
    pub kills_max: u32,
    /// Most messages that wait for one instance; beyond it events are refused with 429.
    pub inbox_messages_max: usize,
    /// Memory for live futures, in bytes, and as much again for entities; the least recently used
    /// are evicted beyond it.
    pub futures_bytes_max: usize,
    /// Most activities that run at once in this process.
    pub activities_running_max: usize,
    /// Bytes of turns that ran ahead of the disk; partitions wait beyond it.
    pub unsynced_bytes_max: usize,
    /// Most entities in one lock.
    pub locked_entities_max: usize,
    /// Longest reason given to a command, in bytes.
    pub reason_bytes_max: usize,
    /// Longest name of an event, operation, orchestrator or tag, in bytes.
    pub name_bytes_max: usize,
    /// Most tags of one instance.
    pub tags_max: usize,
    /// Most clients that wait for instances at once.
    pub waiters_max: usize,
    /// Most requests of one key, or of one address without a key, that wait at once.
    pub waiters_per_key_max: usize,
    /// Bytes of values after which a page of a list ends, however many rows were asked for.
    pub page_bytes_max: usize,
    /// Most idempotency keys of events that one instance remembers; the oldest are forgotten.
    pub event_keys_max: usize,
    /// Most operations of an entity whose code is elsewhere that are sent to it at once.
    pub entity_batch_max: usize,
    /// Room on the hub's disk, in bytes, below which starts, events and signals of clients are
    /// refused with 507; what runs goes on. 0 never refuses.
    pub disk_free_bytes_min: u64,
    /// Deepest nesting of children.
    pub recursion_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes_max: 2 * 1024 * 1024,
            payload_inline_bytes: 64 * 1024,
            history_events_max: 1_000_000,
            turn_actions_max: 200_000,
            turn_bytes_max: 256 * 1024 * 1024,
            batch_bytes_max: 256 * 1024 * 1024,
            turn_ms_max: 10_000,
            stuck_threads_max: 8,
            kills_max: 10,
            inbox_messages_max: 100_000,
            futures_bytes_max: 256 * 1024 * 1024,
            activities_running_max: 1_000,
            unsynced_bytes_max: 32 * 1024 * 1024,
            locked_entities_max: 32,
            reason_bytes_max: 4 * 1024,
            name_bytes_max: 1024,
            tags_max: 32,
            waiters_max: 10_000,
            waiters_per_key_max: 100,
            page_bytes_max: 16 * 1024 * 1024,
            event_keys_max: 100,
            entity_batch_max: 100,
            disk_free_bytes_min: 256 * 1024 * 1024,
            recursion_max: 100,
        }
    }
}
