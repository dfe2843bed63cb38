//! `dalsegno hub`

use clap::Subcommand;

use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Hub {
    /// List the task hubs of the host, its own first
    #[command(after_help = "Example: dalsegno hub list")]
    List,
}

impl Hub {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let names = session.ask(session.hub.hubs()).await?;
        session.rows(&["HUB"], &names.into_iter().map(shown).collect::<Vec<_>>());
        Ok(Exit::Ok)
    }
}

fn shown(name: String) -> Row {
    Row {
        json: serde_json::Value::from(name.as_str()).to_string(),
        id: name.clone(),
        cells: vec![name],
    }
}
