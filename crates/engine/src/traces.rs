//! The seam to who tells tracing systems of what instances did.

use std::fmt;

use dalsegno_core::span::EndedExecution;

/// Takes the executions that ended. What it is given is durable, and given once in a process: a
/// crash between the two loses it.
pub trait Traces: fmt::Debug + Send + Sync {
    /// Is this trace recorded? `given` is what the caller says of it, if there is one.
    fn samples(&self, trace: u128, given: Option<bool>) -> bool;

    /// An execution ended. Called where commits are made: it may not wait.
    fn ended(&self, execution: EndedExecution);
}
