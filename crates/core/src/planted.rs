//! Bugs on purpose, to test the tests: the simulator switches one on and has to find it.
//!
//! Without the feature `planted-bugs` every question is answered `false` when compiling, and
//! nothing of this is in a product build.

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Bug {
    /// Answers and activities leave before their commit is durable.
    EffectBeforeSync = 1,
    /// A second completion of a task in one batch is taken too.
    CompletionTakenTwice,
    /// A completion for an older execution is taken.
    OldExecutionTaken,
    /// Unread events are lost at continue-as-new.
    EventsLostAtContinueAsNew,
    /// An end of an execution keeps its locks.
    LocksKeptAtEnd,
    /// A fired timer keeps its row.
    TimerRowKept,
    /// A consumed message keeps its row.
    MessageRowKept,
    /// A scheduled activity is not stored.
    TaskNotStored,
    /// A message to another instance is delivered but not stored.
    MessageNotStored,
    /// A message that a suspended instance holds is not stored.
    HeldNotStored,
    /// The parent is not told of its child's end.
    ParentNotTold,
    /// A failed entity operation keeps what it did to the state.
    FailedOperationKept,
    /// The status row is committed apart from the history.
    TornCommit,
    /// A grant that nobody wants is not answered with a release.
    GrantNotReleased,
    /// A timer fires before it is due.
    TimerEarly,
    /// Entity state is written only when it is idle.
    EntityNotStored,
    /// A host whose partitions another has taken still answers what needs no commit.
    FencedAnswers,
    /// A batch whose outcome is unknown counts as written.
    UnknownTakenAsDone,
    /// A batch that was not written is passed over.
    RefusedBatchLost,
    /// A rewound instance keeps only what is left of its history, not the answers that were no failures.
    AnswersLostAtRewind,
    /// A purge is answered and not stored.
    PurgeNotStored,
    /// The time of a delayed start is not stored.
    DelayedStartNotStored,
    /// A start that replaces a living instance forgets to release what that one holds.
    LocksKeptAtReplacement,
    /// A signal for later is not stored.
    DelayedSignalNotStored,
    /// A batch is acknowledged before the log is synced.
    AppendNotSynced,
    /// A segment is recycled though the tables lack its last batch.
    SegmentRecycledEarly,
    /// Recovery takes the last batch of a torn log for its tail and cuts it off.
    LastBatchCutOff,
    /// A termination leaves behind what the instance held.
    HeldKeptAtEnd,
    /// What came before a start is not looked at again after it.
    EarlyEventsForgotten,
    /// An instance that ends before its delayed start leaves the timer of that start behind.
    StartTimerKeptAtEnd,
    /// A turn's time may be before a timer that fired, when the clock was set back.
    TimeBeforeTimer,
    /// A failed attempt leads to the next one though it was reported before, or was cancelled.
    AttemptsNotTold,
    /// A request to cancel that was taken is not carried over continue-as-new.
    CancelLostAtContinueAsNew,
    /// After a crash nobody answers for an activity that was told to end.
    ToldTaskForgotten,
    /// A child is not told that its parent was cancelled.
    ChildNotTold,
    /// What a turn that is sent elsewhere tells of is acknowledged and not stored.
    AwayMessagesNotStored,
    /// Any answer from elsewhere ends the turn that is out.
    StaleTurnTaken,
    /// What came while a turn was out is not looked at again.
    HeldForgottenAfterAway,
    /// Events that the code elsewhere has not taken count as taken.
    RestOfTurnForgotten,
    /// A turn that was taken back is forgotten with what it told of.
    WithdrawnTurnForgotten,
    /// An event that comes while the last turn of an instance is out is in no history.
    LateEventsDropped,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 41] = [
        Self::EffectBeforeSync,
        Self::CompletionTakenTwice,
        Self::OldExecutionTaken,
        Self::EventsLostAtContinueAsNew,
        Self::LocksKeptAtEnd,
        Self::TimerRowKept,
        Self::MessageRowKept,
        Self::TaskNotStored,
        Self::MessageNotStored,
        Self::HeldNotStored,
        Self::ParentNotTold,
        Self::FailedOperationKept,
        Self::TornCommit,
        Self::GrantNotReleased,
        Self::TimerEarly,
        Self::EntityNotStored,
        Self::FencedAnswers,
        Self::UnknownTakenAsDone,
        Self::RefusedBatchLost,
        Self::AnswersLostAtRewind,
        Self::PurgeNotStored,
        Self::DelayedStartNotStored,
        Self::LocksKeptAtReplacement,
        Self::DelayedSignalNotStored,
        Self::AppendNotSynced,
        Self::SegmentRecycledEarly,
        Self::LastBatchCutOff,
        Self::HeldKeptAtEnd,
        Self::EarlyEventsForgotten,
        Self::StartTimerKeptAtEnd,
        Self::TimeBeforeTimer,
        Self::AttemptsNotTold,
        Self::CancelLostAtContinueAsNew,
        Self::ToldTaskForgotten,
        Self::ChildNotTold,
        Self::AwayMessagesNotStored,
        Self::StaleTurnTaken,
        Self::HeldForgottenAfterAway,
        Self::RestOfTurnForgotten,
        Self::WithdrawnTurnForgotten,
        Self::LateEventsDropped,
    ];
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Bug;

    static ON: AtomicU32 = AtomicU32::new(0);

    /// Switches one bug on, or all off.
    pub fn plant(bug: Option<Bug>) {
        ON.store(bug.map_or(0, |bug| bug as u32), Ordering::Relaxed);
    }

    /// Is this bug on?
    pub fn has(bug: Bug) -> bool {
        ON.load(Ordering::Relaxed) == bug as u32
    }
}

#[cfg(not(feature = "planted-bugs"))]
mod switch {
    use super::Bug;

    /// Is this bug on? Never, in a product build.
    pub const fn has(_bug: Bug) -> bool {
        false
    }
}

pub use switch::*;
