//! `dalsegno terminate`

use clap::Args;
use dalsegno_core::InstanceId;
use dalsegno_engine::request::Scope;

use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct Terminate {
    /// Id of the instance
    #[arg(value_parser = input::id)]
    id: InstanceId,
    /// Why; becomes its output
    #[arg(long)]
    reason: Option<String>,
    /// Its children too
    #[arg(long)]
    recursive: bool,
}

impl Terminate {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let scope = if self.recursive {
            Scope::Recursive
        } else {
            Scope::Instance
        };
        session
            .ask(session.hub.terminate(&self.id, self.reason, scope))
            .await?;
        session.say(&format!("terminated {}", self.id));
        Ok(Exit::Ok)
    }
}
