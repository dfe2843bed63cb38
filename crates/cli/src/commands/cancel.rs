//! `dalsegno cancel`

use clap::Args;
use dalsegno_core::InstanceId;

use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// Id of the instance
    #[arg(value_parser = input::id)]
    id: InstanceId,
    /// Why; stands in its history
    #[arg(long)]
    reason: Option<String>,
}

impl Cancel {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        session.ask(session.hub.cancel(&self.id, self.reason)).await?;
        session.say(&format!("asked {} to end", self.id));
        Ok(Exit::Ok)
    }
}
