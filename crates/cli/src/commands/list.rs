//! `dalsegno list`

use clap::Args;
use dalsegno_core::Timestamp;
use dalsegno_core::query::{InstanceQuery, LargeValues, Status};
use dalsegno_core::store::InstanceRow;
use dalsegno_host::v1::json;

use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::Row;
use crate::session::Session;

/// Rows of one request.
const PAGE_ROWS: usize = 1_000;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno list --status failed --since 2026-03-01 -o id")]
pub(crate) struct List {
    /// Only these statuses, separated by commas
    #[arg(long, value_parser = input::status, value_delimiter = ',')]
    status: Vec<Status>,
    /// Only this orchestrator
    #[arg(long)]
    name: Option<String>,
    /// Only ids that start so
    #[arg(long)]
    prefix: Option<String>,
    /// Only with this tag; may be repeated
    #[arg(long = "tag", value_parser = input::tag, value_name = "NAME=VALUE")]
    tags: Vec<(String, String)>,
    /// Created at or after
    #[arg(long, value_parser = input::time)]
    since: Option<Timestamp>,
    /// Created at or before
    #[arg(long, value_parser = input::time)]
    until: Option<Timestamp>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    top: u64,
}

impl List {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let most = usize::try_from(self.top).unwrap_or(usize::MAX);
        let mut query = InstanceQuery {
            statuses: self.status,
            created_from: self.since,
            created_to: self.until,
            id_prefix: self.prefix,
            name: self.name,
            tags: self.tags,
            limit: most.min(PAGE_ROWS),
            after: None,
            large: LargeValues::LeaveOut,
        };
        let mut rows = Vec::new();
        let more = loop {
            let page = session.ask(session.hub.list(query.clone())).await?;
            rows.extend(page.rows.iter().map(shown));
            query.limit = most.saturating_sub(rows.len()).min(PAGE_ROWS);
            query.after = page.next;
            if query.after.is_none() || query.limit == 0 {
                break query.after.is_some();
            }
        };
        session.rows(&["ID", "NAME", "STATUS", "CREATED", "UPDATED"], &rows);
        if more {
            session.say(&format!("there are more: --top {}", most.saturating_mul(10)));
        }
        Ok(Exit::Ok)
    }
}

fn shown(row: &InstanceRow) -> Row {
    let status = match &row.parked {
        Some(_) => format!("{} (parked)", row.status.as_str()),
        None => row.status.as_str().to_owned(),
    };
    Row {
        id: row.id.to_string(),
        cells: vec![
            row.id.to_string(),
            row.name.to_string(),
            status,
            json::time(row.created),
            json::time(row.updated),
        ],
        json: json::row(row),
    }
}
