//! `dalsegno raise`

use clap::Args;
use dalsegno_core::InstanceId;

use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno raise order-9 approved -d '{\"by\":\"Ada\"}'")]
pub(crate) struct Raise {
    /// Id of the instance
    #[arg(value_parser = input::id)]
    id: InstanceId,
    /// Name of the event
    event: String,
    /// Its data: JSON, @FILE, or - for stdin
    #[arg(long, short)]
    data: Option<String>,
}

impl Raise {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let data = input::payload(self.data.as_deref())?;
        session
            .ask(session.hub.raise_event(&self.id, &self.event, data))
            .await?;
        session.say(&format!("raised {} for {}", self.event, self.id));
        Ok(Exit::Ok)
    }
}
