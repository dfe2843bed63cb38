//! `dalsegno version`: of this program, and of the host.

use clap::Args;
use serde_json::json;

use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno version --json")]
pub(crate) struct Version {}

impl Version {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let own = env!("CARGO_PKG_VERSION");
        // A host that cannot be reached takes nothing away from what is known here.
        let host = match session.ask(session.hub.info()).await {
            Ok(info) => Some(info.version),
            Err(failure) => {
                session.say(&format!(
                    "{} does not tell its version: {}",
                    session.hub.origin(),
                    failure.message()
                ));
                None
            }
        };
        let row = Row {
            id: own.to_owned(),
            cells: vec![own.to_owned(), host.clone().unwrap_or_default()],
            json: json!({"client": own, "host": host}).to_string(),
        };
        session.one(&["client", "host"], &row);
        Ok(Exit::Ok)
    }
}
