//! A world in which things fail as planned, and which remembers what was done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno::{Error, Result};

/// The world. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct World(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// How often each thing is still to fail.
    failures: BTreeMap<String, u32>,
    log: Vec<String>,
}

impl World {
    /// A world in which each of these fails so many times first.
    pub fn failing<'a>(failures: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let failures = failures
            .into_iter()
            .map(|(what, times)| (what.to_owned(), times))
            .collect();
        Self(Arc::new(Mutex::new(State {
            failures,
            log: Vec::new(),
        })))
    }

    /// Does something, or fails to.
    ///
    /// # Errors
    /// As often as planned.
    pub fn act(&self, what: &str) -> Result<()> {
        let mut state = self.state();
        if let Some(left) = state.failures.get_mut(what).filter(|left| **left > 0) {
            *left -= 1;
            return Err(Error::msg(format!("{what} does not work")));
        }
        state.log.push(what.to_owned());
        Ok(())
    }

    /// What was done, in order.
    pub fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
