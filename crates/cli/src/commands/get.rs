//! `dalsegno get`

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::InstanceId;
use dalsegno_engine::request::{InstanceStatus, RequestError, RequestErrorKind};

use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno get order-9 --json")]
pub(crate) struct Get {
    /// Id of the instance
    #[arg(add = ArgValueCompleter::new(complete::instances), value_parser = input::id)]
    id: InstanceId,
}

impl Get {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let status = found(&self.id, session.ask(session.hub.status(&self.id)).await?)?;
        session.instance(&status);
        Ok(Exit::Ok)
    }
}

/// An instance that has to be there.
fn found(id: &InstanceId, status: Option<InstanceStatus>) -> Result<InstanceStatus, Failure> {
    status.ok_or_else(|| {
        RequestError::new(RequestErrorKind::NotFound, format!("there is no instance {id}"))
            .about(id)
            .into()
    })
}
