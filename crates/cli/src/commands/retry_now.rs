//! `dalsegno retry-now`

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::{InstanceId, TaskId};

use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno retry-now order-9 6")]
pub(crate) struct RetryNow {
    /// Id of the instance
    #[arg(add = ArgValueCompleter::new(complete::instances), value_parser = input::id)]
    id: InstanceId,
    /// Number of the task, as explain tells it; without it all that wait
    task: Option<u32>,
}

impl RetryNow {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let task = self.task.map(TaskId);
        let asked = session.ask(session.hub.retry_now(&self.id, task)).await;
        asked.map_err(|failure| match failure.exit {
            Exit::Conflict => failure.help(format!("dalsegno explain {}", self.id)),
            _ => failure,
        })?;
        let what = task.map_or_else(|| "all that waits".to_owned(), |task| format!("task {task}"));
        session.say(&format!("{what} of {} is tried again now", self.id));
        Ok(Exit::Ok)
    }
}
