//! `dalsegno resume`

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::InstanceId;
use dalsegno_host::v1::OperationVerb;

use crate::batch::{Batch, Order};
use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno resume order-9")]
pub(crate) struct Resume {
    /// Id of the instance; or many, by --where
    #[arg(add = ArgValueCompleter::new(complete::instances), value_parser = input::id, required_unless_present = "filter", conflicts_with = "filter")]
    id: Option<InstanceId>,
    #[command(flatten)]
    batch: Batch,
    /// Why; stands in its history
    #[arg(long)]
    reason: Option<String>,
}

impl Resume {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let Some(id) = self.id else {
            return self.many(session).await;
        };
        session.ask(session.hub.resume(&id, self.reason)).await?;
        session.say(&format!("resumed {}", id));
        Ok(Exit::Ok)
    }

    async fn many(self, session: &Session) -> Result<Exit, Failure> {
        let order = Order::new(OperationVerb::Resume).reason(self.reason);
        self.batch.run(session, &order).await
    }
}
