//! `dalsegno purge`

use std::io::{IsTerminal, Write};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::query::{InstanceQuery, Status};
use dalsegno_core::{InstanceId, Timestamp};
use dalsegno_engine::request::{PurgeQuery, RequestErrorKind, Scope};
use dalsegno_host::v1::{OperationVerb, json};

use crate::batch::{Batch, Order};
use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::{Row, shown};
use crate::session::Session;

/// Examples that the question shows.
const EXAMPLES: usize = 5;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno purge --since 2026-01-01 --until 2026-02-01 --status completed")]
pub(crate) struct Purge {
    /// Id of the finished instance; or many, by --since or --where
    #[arg(add = ArgValueCompleter::new(complete::instances), value_parser = input::id, required_unless_present_any = ["since", "filter"], conflicts_with_all = ["since", "filter"])]
    id: Option<InstanceId>,
    #[command(flatten)]
    batch: Batch,
    /// Its children too
    #[arg(long, conflicts_with = "since")]
    recursive: bool,
    /// Terminate it first if it is not finished
    #[arg(long, requires = "id")]
    force: bool,
    /// All finished ones created at or after
    #[arg(long, value_parser = input::past, value_name = "TIME", conflicts_with = "filter")]
    since: Option<Timestamp>,
    /// And at or before; without it until now
    #[arg(long, value_parser = input::past, value_name = "TIME", requires = "since")]
    until: Option<Timestamp>,
    /// And of these statuses, separated by commas
    #[arg(long, value_parser = finished, value_delimiter = ',', requires = "since")]
    status: Vec<Status>,
}

fn finished(text: &str) -> Result<Status, String> {
    let status = input::status(text)?;
    if status.is_final() {
        Ok(status)
    } else {
        Err("one of Completed, Failed, Terminated, Canceled".into())
    }
}

impl Purge {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        if self.batch.is_meant() {
            let order = Order::new(OperationVerb::Purge).recursive(self.recursive);
            return self.batch.run(session, &order).await;
        }
        let deleted = match &self.id {
            Some(id) => self.one(session, id).await?,
            None => self.many(session).await?,
        };
        let row = Row {
            id: deleted.to_string(),
            cells: vec![deleted.to_string()],
            json: json::deleted(deleted),
        };
        session.one(&["deleted"], &row);
        Ok(Exit::Ok)
    }

    async fn one(&self, session: &Session, id: &InstanceId) -> Result<u64, Failure> {
        let scope = if self.recursive {
            Scope::Recursive
        } else {
            Scope::Instance
        };
        let hub = &session.hub;
        let purge = async {
            match hub.purge(id, scope).await {
                Err(error) if self.force && error.kind == RequestErrorKind::InstanceRunning => {
                    hub.terminate(id, Some("purged".into()), scope).await?;
                    hub.wait_for_completion(id, None).await?;
                    hub.purge(id, scope).await
                }
                // Perhaps its row cannot be read: the host finds that out.
                Err(error) if self.force && error.kind == RequestErrorKind::Internal => {
                    hub.purge_by_force(id, scope).await
                }
                answer => answer,
            }
        };
        session.ask(purge).await
    }

    async fn many(&self, session: &Session) -> Result<u64, Failure> {
        if !self.batch.is_sure() && !self.confirmed(session).await? {
            session.say("nothing was deleted");
            return Ok(0);
        }
        let query = PurgeQuery {
            created_from: self.since,
            created_to: self.until,
            statuses: self.status.clone(),
        };
        session.ask(session.hub.purge_many(query)).await
    }

    /// Shows some of them and asks. Without a terminal nobody can answer.
    async fn confirmed(&self, session: &Session) -> Result<bool, Failure> {
        if !std::io::stdin().is_terminal() {
            return Err(
                Failure::usage("this deletes many instances and nobody can be asked").help("say --yes"),
            );
        }
        let finals: Vec<Status> = Status::ALL
            .into_iter()
            .filter(|status| status.is_final())
            .collect();
        let query = InstanceQuery {
            statuses: if self.status.is_empty() {
                finals
            } else {
                self.status.clone()
            },
            created_from: self.since,
            created_to: self.until,
            limit: EXAMPLES,
            ..InstanceQuery::default()
        };
        let page = session.ask(session.hub.list(query)).await?;
        let examples: Vec<String> = page.rows.iter().map(|row| shown(row.id.as_str())).collect();
        let more = if page.next.is_some() { " and more" } else { "" };
        let mut out = std::io::stderr();
        let asked = write!(out, "delete {}{more}? [y/N] ", examples.join(", ")).and_then(|()| out.flush());
        asked.map_err(|error| Failure::unexpected(&error))?;
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map_err(|error| Failure::unexpected(&error))?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
