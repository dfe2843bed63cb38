//! Runs the cases of a part on as many threads as the machine has processors, and stops at the first failure.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::broken::{Broken, Outcome};
use crate::ledger::{joined, lock};

/// More cases at once gain nothing: each has a host, clients and a worker.
const THREADS_MAX: usize = 4;

/// Runs a function for each case and returns the results, in no order.
pub(crate) fn run_all<C: Sync, R: Send>(
    cases: &[C],
    run: impl Fn(usize, &C) -> Outcome<R> + Sync,
) -> Outcome<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results = Mutex::new(Vec::new());
    let work = || -> Outcome {
        while !has_failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else {
                break;
            };
            match run(index, case) {
                Ok(result) => lock(&results).push(result),
                Err(broken) => {
                    has_failed.store(true, Ordering::Relaxed);
                    return Err(broken);
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(THREADS_MAX)).map(|_| scope.spawn(work)).collect();
        // All are waited for, so that no process outlives the attack.
        let ended: Vec<Outcome> = workers.into_iter().map(joined).collect();
        ended.into_iter().collect::<Outcome>()
    })?;
    let results = results.into_inner();
    results.map_err(|_| Broken::new("a thread of the attack panicked"))
}
