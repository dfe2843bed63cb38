//! `dalsegno terminate`

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::InstanceId;
use dalsegno_engine::request::Scope;
use dalsegno_host::v1::OperationVerb;

use crate::batch::{Batch, Order};
use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno terminate order-9 --reason 'lost'")]
pub(crate) struct Terminate {
    /// Id of the instance; or many, by --where
    #[arg(add = ArgValueCompleter::new(complete::instances), value_parser = input::id, required_unless_present = "filter", conflicts_with = "filter")]
    id: Option<InstanceId>,
    #[command(flatten)]
    batch: Batch,
    /// Why; becomes its output
    #[arg(long)]
    reason: Option<String>,
    /// Its children too
    #[arg(long)]
    recursive: bool,
}

impl Terminate {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let Some(id) = self.id else {
            return self.many(session).await;
        };
        let scope = if self.recursive {
            Scope::Recursive
        } else {
            Scope::Instance
        };
        session
            .ask(session.hub.terminate(&id, self.reason, scope))
            .await?;
        session.say(&format!("terminated {}", id));
        Ok(Exit::Ok)
    }

    async fn many(self, session: &Session) -> Result<Exit, Failure> {
        let order = Order::new(OperationVerb::Terminate)
            .reason(self.reason)
            .recursive(self.recursive);
        self.batch.run(session, &order).await
    }
}
