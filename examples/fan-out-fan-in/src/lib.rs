//! **Fan-out, fan-in.** Many functions at once, then one result.
//!
//! A call is on its way when it is made, not when it is awaited. So a loop that makes calls fans out
//! and `join_all` fans in, with the results in the order of the calls, whichever ended first.
//!
//! One that fails does not spoil the others: `join_all` waits for every one and gives a `Result`
//! each. Collecting them into one `Result` gives the first failure in the order of the calls, the
//! same in every replay. `try_join_all` would give the failure that came first, and not wait.

use dalsegno::{App, Error, OrchestrationContext, Result, TaskError, activity, join_all, orchestrator};
use serde::{Deserialize, Serialize};

/// Processes every task at once; fails when one of them fails, but not before all have ended.
#[orchestrator(name = "FanOutFanInOrchestrator")]
pub async fn fan_out_fan_in(ctx: &OrchestrationContext, tasks: Vec<String>) -> Result<Vec<String>> {
    let calls = tasks.into_iter().map(|task| ctx.call(process_task, task));
    let results: Result<Vec<String>, TaskError> = join_all(calls).await.into_iter().collect();
    Ok(results?)
}

/// What came of many tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Results, in the order of the tasks.
    pub completed: Vec<String>,
    /// Why the others failed, in the order of the tasks.
    pub failed: Vec<String>,
}

/// Processes every task at once and keeps what could be had.
#[orchestrator(name = "FanOutBestEffort")]
pub async fn best_effort(ctx: &OrchestrationContext, tasks: Vec<String>) -> Result<Summary> {
    let calls = tasks.into_iter().map(|task| ctx.call(process_task, task));
    let mut summary = Summary {
        completed: Vec::new(),
        failed: Vec::new(),
    };
    for result in join_all(calls).await {
        match result {
            Ok(text) => summary.completed.push(text),
            Err(error) => summary.failed.push(error.failure().message.clone()),
        }
    }
    Ok(summary)
}

/// Processes one task. A task named "bad" cannot be processed.
#[activity(name = "ProcessTask")]
pub async fn process_task(task: String) -> Result<String> {
    match task.starts_with("bad") {
        true => Err(Error::msg(format!("{task} cannot be processed")).permanent()),
        false => Ok(format!("{task} completed")),
    }
}

/// The app: everything above.
pub fn app() -> App {
    App::new()
        .register(fan_out_fan_in)
        .register(best_effort)
        .register(process_task)
}
