//! `dalsegno tail`: the changes of all instances as they are committed.

use clap::Args;
use dalsegno_core::store::InstanceRow;
use dalsegno_host::RemoteChange;
use dalsegno_host::v1::json;

use super::list::status;
use crate::arguments::Format;
use crate::failure::{Exit, Failure};
use crate::filter::Narrow;
use crate::output::Row;
use crate::session::Session;

const HEAD: [&str; 4] = ["TIME", "CHANGE", "ID", "NAME"];

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno tail --name ProcessOrder --status failed,completed")]
pub(crate) struct Tail {
    #[command(flatten)]
    narrow: Narrow,
    /// End after so many changes
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl Tail {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        session.follow(None, self.follow(session)).await
    }

    async fn follow(&self, session: &Session) -> Result<Exit, Failure> {
        refuse_of_lists(&self.narrow)?;
        let query = self.narrow.query();
        let mut changes = session.ask(session.hub.changes(&query)).await?;
        let mut told = 0;
        let mut is_first = true;
        while self.count.is_none_or(|most| told < most) {
            let next = changes.next();
            // Once, at the begin: afterwards it is plain that it works.
            let change = match is_first {
                true => {
                    session
                        .patiently(next, || "connected: nothing has changed for 2 s".into())
                        .await?
                }
                false => next.await?,
            };
            // The stream begins with one, which says nothing here.
            let is_begin = is_first && change == RemoteChange::Reset;
            is_first = is_begin;
            if !is_begin && tell(session, &self.narrow, change, |row| shown(session, row), &HEAD) {
                told += 1;
            }
        }
        Ok(Exit::Ok)
    }
}

/// Changes do not say who begins or ends to wait for an event.
pub(super) fn refuse_of_lists(narrow: &Narrow) -> Result<(), Failure> {
    match narrow.of_lists_alone() {
        None => Ok(()),
        Some(flag) => Err(
            Failure::usage(format!("{flag} is for lists: lines of changes do not tell it"))
                .help(format!("dalsegno list {flag} ..., or list --watch on a terminal")),
        ),
    }
}

/// Tells a change in a line; whether it was one that is wanted.
pub(super) fn tell(
    session: &Session,
    narrow: &Narrow,
    change: RemoteChange,
    shown: impl Fn(&InstanceRow) -> Row,
    head: &[&str],
) -> bool {
    match change {
        RemoteChange::Is(row) if narrow.wants(&row) => {
            session.line(head, &shown(&row));
            true
        }
        // Whether its status was wanted nobody knows any more.
        RemoteChange::Removed(id) if matches!(session.format(), Format::Json | Format::Jsonl) => {
            let json = format!("{{\"removed\":{}}}", serde_json::Value::from(id.as_str()));
            session.line(
                head,
                &Row {
                    id: id.to_string(),
                    cells: Vec::new(),
                    json,
                },
            );
            true
        }
        RemoteChange::Removed(id) => {
            session.say(&format!("deleted {id}"));
            false
        }
        RemoteChange::Lost => {
            session.say("the connection is lost: trying again");
            false
        }
        RemoteChange::Reset => {
            session.say("some changes may be missing here: dalsegno list has them");
            false
        }
        RemoteChange::Is(_) => false,
    }
}

fn shown(session: &Session, row: &InstanceRow) -> Row {
    Row {
        id: row.id.to_string(),
        cells: vec![
            session.time(row.updated),
            status(row),
            row.id.to_string(),
            row.name.to_string(),
        ],
        json: json::row(row),
    }
}
