//! Runs the cases of a part on as many threads as the machine has processors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::broken::{Broken, Outcome, ensure};
use crate::ledger::{joined, lock};

/// More cases at once gain nothing: each has a host, clients and a worker.
const THREADS_MAX: usize = 4;

/// Failures after which the other cases are left out.
const FAILURES_MAX: usize = 5;

/// Runs a function for each case. Fails with the first few failures, each on a line.
pub(crate) fn run_all<C: Sync>(cases: &[C], run: impl Fn(usize, &C) -> Outcome + Sync) -> Outcome {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || -> Outcome {
        while lock(&failures).len() < FAILURES_MAX {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else {
                break;
            };
            if let Err(broken) = run(index, case) {
                lock(&failures).push(broken.to_string());
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
    let failures = failures
        .into_inner()
        .map_err(|_| Broken::new("a thread of the attack panicked"))?;
    ensure(failures.is_empty(), || failures.join("\n"))
}
