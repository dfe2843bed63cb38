//! `dalsegno restart`

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::InstanceId;
use dalsegno_engine::hub::NewId;
use dalsegno_host::v1::OperationVerb;

use super::start::after_start;
use crate::arguments::duration;
use crate::batch::{Batch, Order};
use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno restart order-9 --wait")]
pub(crate) struct Restart {
    /// Id of the finished instance; or many, by --where
    #[arg(add = ArgValueCompleter::new(complete::instances), value_parser = input::id, required_unless_present = "filter", conflicts_with = "filter")]
    id: Option<InstanceId>,
    #[command(flatten)]
    batch: Batch,
    /// Under the same id, which forgets its history
    #[arg(long, conflicts_with = "filter")]
    same_id: bool,
    /// Wait for the outcome; --wait=30s no longer than that
    #[arg(long, value_parser = duration, value_name = "TIME", num_args = 0..=1, require_equals = true, conflicts_with = "filter")]
    wait: Option<Option<Duration>>,
}

impl Restart {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let Some(id) = self.id else {
            return self.many(session).await;
        };
        let new_id = if self.same_id {
            NewId::Same
        } else {
            NewId::Generated
        };
        let started = session.ask(session.hub.restart(&id, new_id)).await?;
        session.say(&format!("started {}", started.id));
        after_start(session, &started, self.wait).await
    }

    async fn many(self, session: &Session) -> Result<Exit, Failure> {
        let order = Order::new(OperationVerb::Restart);
        self.batch.run(session, &order).await
    }
}
