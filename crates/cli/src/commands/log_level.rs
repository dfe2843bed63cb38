//! `dalsegno log-level`

use clap::Args;
use dalsegno_core::orchestration::json_string;

use crate::failure::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno log-level info,my_app=debug")]
pub(crate) struct LogLevel {
    /// A level such as debug, or a filter; without it, it is shown
    level: Option<String>,
}

impl LogLevel {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self.level {
            Some(level) => {
                session.ask(session.hub.set_log_level(&level)).await?;
                session.say(&format!("the host logs {level}"));
            }
            None => {
                let level = session.ask(session.hub.log_level()).await?;
                let json = format!("{{\"level\":{}}}", json_string(&level).as_str());
                session.prose(&level, &level, &json);
            }
        }
        Ok(Exit::Ok)
    }
}
