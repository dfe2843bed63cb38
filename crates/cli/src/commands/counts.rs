//! `dalsegno counts`

use clap::Args;
use dalsegno_host::v1::json;

use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno counts -o csv")]
pub(crate) struct Counts {}

impl Counts {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let counts = session.ask(session.hub.counts()).await?;
        let rows: Vec<Row> = counts
            .iter()
            .map(|(status, count)| Row {
                id: status.as_str().to_owned(),
                cells: vec![status.as_str().to_owned(), count.to_string()],
                json: json::count(*status, *count),
            })
            .collect();
        session.rows(&["STATUS", "COUNT"], &rows);
        Ok(Exit::Ok)
    }
}
