//! `dalsegno suspend`

use clap::Args;
use dalsegno_core::InstanceId;

use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct Suspend {
    /// Id of the instance
    #[arg(value_parser = input::id)]
    id: InstanceId,
    /// Why; stands in its history
    #[arg(long)]
    reason: Option<String>,
}

impl Suspend {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        session.ask(session.hub.suspend(&self.id, self.reason)).await?;
        session.say(&format!("suspended {}", self.id));
        Ok(Exit::Ok)
    }
}
