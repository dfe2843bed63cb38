//! The same test many times: by seeds, or by every sequence of choices.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use dalsegno_core::Event;
use dalsegno_engine::choices::ChoiceTree;

use super::hub::TestHub;
use super::memory::Memory;
use super::world::Setup;
use crate::app::App;

/// Names the one seed to run.
const SEED_VARIABLE: &str = "SEED";

/// Choices in which the runs of [`TestHub::explore_all_interleavings`] differ.
const CHOICES_MAX: usize = 200;

/// What [`TestHub::explore_all_interleavings`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explored {
    /// How many sequences were run.
    pub runs: u64,
    /// Whether these are all there are.
    pub is_complete: bool,
}

impl TestHub {
    /// Runs a test for every seed in three ways: orchestrations stay in memory, are replayed before
    /// every turn, are replayed now and then. All three must come to the same histories.
    ///
    /// A failure tells its seed; the environment variable `SEED` runs that one alone.
    ///
    /// # Panics
    /// When the test panics, or histories differ: the code then depends on something that a replay
    /// does not repeat.
    ///
    /// # Example
    /// ```
    /// use dalsegno::testing::TestHub;
    /// use dalsegno::{App, OrchestrationContext, Result, activity, join_all, orchestrator};
    ///
    /// #[activity]
    /// async fn square(number: u64) -> u64 {
    ///     number * number
    /// }
    ///
    /// #[orchestrator]
    /// async fn sum(ctx: &OrchestrationContext) -> Result<u64> {
    ///     let squares = join_all((1..4).map(|number| ctx.call(square, number))).await;
    ///     Ok(squares.into_iter().sum::<Result<u64, _>>()?)
    /// }
    ///
    /// TestHub::explore(|| App::new().register(sum).register(square), 0..20, |hub| {
    ///     let instance = hub.start(sum, ());
    ///     hub.run();
    ///     assert_eq!(instance.output().unwrap(), 14);
    /// });
    /// ```
    #[track_caller]
    pub fn explore(app: impl Fn() -> App, seeds: Range<u64>, test: impl Fn(&Self)) {
        let place = Location::caller();
        for seed in seeds_to_run(seeds) {
            let kept = run_seed(&app, seed, Memory::Keep, place, &test);
            for memory in [Memory::Evict, Memory::Random] {
                let other = run_seed(&app, seed, memory, place, &test);
                if let Some(difference) = difference(&kept, &other) {
                    panic!(
                        "kept in memory and with {memory:?} the histories differ. {difference}\n{}",
                        how_to_repeat(seed, place)
                    );
                }
            }
        }
    }

    /// Runs a test for every order in which things can happen, up to `runs_max` of them. For small
    /// cases: two activities and an event have some thousands.
    ///
    /// The hub has one partition, reports nothing twice, and the runs differ in their first 200
    /// choices at most.
    ///
    /// # Panics
    /// When the test panics.
    ///
    /// # Example
    /// ```
    /// use dalsegno::testing::TestHub;
    /// use dalsegno::{App, OrchestrationContext, Result, activity, orchestrator};
    ///
    /// #[activity]
    /// async fn one() -> u32 {
    ///     1
    /// }
    /// #[orchestrator]
    /// async fn only(ctx: &OrchestrationContext) -> Result<u32> {
    ///     Ok(ctx.call(one, ()).await?)
    /// }
    /// let explored = TestHub::explore_all_interleavings(
    ///     || App::new().register(only).register(one),
    ///     10_000,
    ///     |hub| {
    ///         let instance = hub.start(only, ());
    ///         hub.run();
    ///         assert_eq!(instance.output().unwrap(), 1);
    ///     },
    /// );
    /// assert!(explored.is_complete);
    /// ```
    #[track_caller]
    pub fn explore_all_interleavings(app: impl Fn() -> App, runs_max: u64, test: impl Fn(&Self)) -> Explored {
        let tree = Arc::new(Mutex::new(ChoiceTree::new(CHOICES_MAX)));
        for runs in 1..=runs_max {
            let setup = Setup {
                seed: 0,
                memory: Memory::Keep,
                choices: Some(tree.clone()),
            };
            let ran = catch_unwind(AssertUnwindSafe(|| test(&Self::with(app(), setup))));
            let mut tree = tree.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(panic) = ran {
                eprintln!("run {runs} failed, with these choices: {:?}", tree.path());
                resume_unwind(panic);
            }
            if !tree.next_run() {
                return Explored {
                    runs,
                    is_complete: true,
                };
            }
        }
        Explored {
            runs: runs_max,
            is_complete: false,
        }
    }
}

fn seeds_to_run(seeds: Range<u64>) -> Range<u64> {
    let told = std::env::var(SEED_VARIABLE).ok();
    match told.and_then(|seed| seed.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => seeds,
    }
}

fn how_to_repeat(seed: u64, place: &Location<'_>) -> String {
    format!("repeat it with {SEED_VARIABLE}={seed} cargo test; explored at {place}")
}

fn run_seed(
    app: &impl Fn() -> App,
    seed: u64,
    memory: Memory,
    place: &Location<'_>,
    test: &impl Fn(&TestHub),
) -> BTreeMap<String, Vec<Event>> {
    let setup = Setup {
        seed,
        memory,
        choices: None,
    };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let hub = TestHub::with(app(), setup);
        test(&hub);
        hub.world().histories()
    }));
    ran.unwrap_or_else(|panic| {
        eprintln!("seed {seed} failed ({memory:?}): {}", how_to_repeat(seed, place));
        resume_unwind(panic)
    })
}

/// The first place where two hubs recorded something else.
fn difference(kept: &BTreeMap<String, Vec<Event>>, other: &BTreeMap<String, Vec<Event>>) -> Option<String> {
    let ids = kept.keys().chain(other.keys());
    let mut pairs = ids.map(|id| (id, kept.get(id), other.get(id)));
    pairs.find_map(|(id, kept, other)| {
        let (kept, other) = (
            kept.map_or(&[][..], Vec::as_slice),
            other.map_or(&[][..], Vec::as_slice),
        );
        let at = (0..kept.len().max(other.len())).find(|at| kept.get(*at) != other.get(*at))?;
        Some(format!(
            "Instance {id}, event {at}: kept {:?}, else {:?}",
            kept.get(at),
            other.get(at)
        ))
    })
}
