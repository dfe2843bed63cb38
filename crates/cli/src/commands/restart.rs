//! `dalsegno restart`

use std::time::Duration;

use clap::Args;
use dalsegno_core::InstanceId;
use dalsegno_engine::hub::NewId;

use super::start::after_start;
use crate::arguments::duration;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Id of the finished instance
    #[arg(value_parser = input::id)]
    id: InstanceId,
    /// Under the same id, which forgets its history
    #[arg(long)]
    same_id: bool,
    /// Wait for the outcome; --wait=30s no longer than that
    #[arg(long, value_parser = duration, value_name = "TIME", num_args = 0..=1, require_equals = true)]
    wait: Option<Option<Duration>>,
}

impl Restart {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let new_id = if self.same_id {
            NewId::Same
        } else {
            NewId::Generated
        };
        let started = session.ask(session.hub.restart(&self.id, new_id)).await?;
        session.say(&format!("started {}", started.id));
        after_start(session, &started, self.wait).await
    }
}
