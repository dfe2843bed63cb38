//! What every store is held to.
//!
//! A store's own tests call [`conformance`] with a function that makes an empty hub. The checks
//! know the trait only; where an answer needs a judge, it is [`dalsegno_store_memory::MemoryStore`].

mod checks;
mod compare;
mod failing;
mod random;
mod rows;

pub use compare::{Known, assert_same};
pub use failing::{FailingStore, Fate, Faults, is_planned};
pub use random::{Generator, Random};
pub use rows::PARTITIONS;

use dalsegno_core::store::Store;

/// A hub under test, with [`PARTITIONS`] partitions.
pub trait Subject {
    /// The store as it is open now.
    fn store(&self) -> &dyn Store;

    /// Closes it and opens it again, as a restart does.
    fn reopen(&mut self);
}

/// Runs every check, each on a hub of its own. Panics at the first that fails, naming it.
pub fn conformance<S: Subject>(make: impl Fn() -> S) {
    for (name, check) in checks::ALL {
        eprintln!("conformance: {name}");
        check(&mut make());
    }
}

/// Random batches of changes, with reopenings and checkpoints in between, against the model.
pub fn random_operations<S: Subject>(seeds: std::ops::Range<u64>, make: impl Fn() -> S) {
    for seed in seeds {
        eprintln!("random operations: seed {seed}");
        random::compare_with_model(seed, &mut make());
    }
}

/// Are the slow tests to run? They are when `RUN_SLOW` is set to anything but nothing or 0.
pub fn is_slow_run() -> bool {
    std::env::var_os("RUN_SLOW").is_some_and(|value| says_yes(&value))
}

fn says_yes(value: &std::ffi::OsStr) -> bool {
    !value.is_empty() && value != "0"
}

#[cfg(test)]
mod tests {
    use dalsegno_store_memory::MemoryStore;

    use super::*;

    #[test]
    fn nothing_and_zero_ask_for_no_slow_run() {
        // A pass with RUN_SLOW=0 took as long as one with RUN_SLOW=1.
        let said = ["", "0", "1", "yes"].map(|value| says_yes(value.as_ref()));
        assert_eq!(said, [false, false, true, true]);
    }

    struct Model(MemoryStore);

    impl Subject for Model {
        fn store(&self) -> &dyn Store {
            &self.0
        }

        fn reopen(&mut self) {
            self.0 = self.0.reopen();
        }
    }

    #[test]
    fn the_model_passes_the_suite() {
        conformance(|| Model(MemoryStore::new(PARTITIONS)));
    }

    #[test]
    fn the_model_agrees_with_itself() {
        random_operations(0..20, || Model(MemoryStore::new(PARTITIONS)));
    }
}
