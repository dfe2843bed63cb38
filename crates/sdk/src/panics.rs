//! Panics of orchestrators: caught, told where people look for them, and kept out of stderr.
//!
//! A parked instance is tried again with every build, so the panic hook of the process would print
//! the same panic again and again. The instance's status says it, with its source line.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether an orchestrator's code runs on this thread.
    static IN_ORCHESTRATOR: Cell<bool> = const { Cell::new(false) };
    /// Where it panicked last.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic that was caught.
pub(crate) struct Caught {
    /// What was thrown.
    pub(crate) payload: Box<dyn Any + Send>,
    /// File, line and column; not known when another hook stands in the way.
    pub(crate) place: Option<String>,
}

/// Puts a hook before the process's own. It is silent about what [`catch_quietly`] catches.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match IN_ORCHESTRATOR.get() {
            true => remember(info),
            false => before(info),
        }));
    });
}

fn remember(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string);
    PLACE.with_borrow_mut(|kept| *kept = place);
}

/// Runs an orchestrator's code; its panic comes back as a value.
pub(crate) fn catch_quietly<T>(body: impl FnOnce() -> T) -> Result<T, Caught> {
    let outer = IN_ORCHESTRATOR.replace(true);
    let caught = catch_unwind(AssertUnwindSafe(body));
    IN_ORCHESTRATOR.set(outer);
    caught.map_err(|payload| Caught {
        payload,
        place: PLACE.take(),
    })
}

/// Whether a panic can be caught at all in this build.
pub(crate) const CAN_BE_CAUGHT: bool = cfg!(panic = "unwind");
