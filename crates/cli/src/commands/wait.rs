//! `dalsegno wait`

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::InstanceId;

use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno wait order-9 --timeout 5m")]
pub(crate) struct Wait {
    /// Id of the instance
    #[arg(add = ArgValueCompleter::new(complete::instances), value_parser = input::id)]
    id: InstanceId,
}

impl Wait {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let status = session.wait(&self.id, None).await?;
        Ok(session.ended(&status))
    }
}
