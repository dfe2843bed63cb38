//! `dalsegno raise`

use clap::Args;
use dalsegno_core::InstanceId;
use dalsegno_engine::request::RaisedEvent;

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
    /// A repeat with the same key is answered again and not delivered twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Raise {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let data = input::payload(self.data.as_deref())?;
        let event = RaisedEvent {
            name: self.event.clone(),
            input: data,
            idempotency_key: self.idempotency_key,
            trace: None,
        };
        session.ask(session.hub.raise_event(&self.id, event)).await?;
        session.say(&format!("raised {} for {}", self.event, self.id));
        Ok(Exit::Ok)
    }
}
