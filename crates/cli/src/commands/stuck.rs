//! `dalsegno stuck`: what does not move and should.

use clap::Args;
use dalsegno_host::v1::{ExplanationWire, json};

use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

const HEAD: [&str; 5] = ["ID", "NAME", "STATUS", "SINCE", "WHY"];

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno stuck --top 20\n         dalsegno explain ID tells all of one")]
pub(crate) struct Stuck {
    /// Instances at most, up to 1000
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    top: usize,
}

impl Stuck {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let stuck = session.ask(session.hub.stuck(self.top)).await?;
        session.rows(
            &HEAD,
            &stuck
                .rows
                .iter()
                .map(|row| shown(session, row))
                .collect::<Vec<_>>(),
        );
        if stuck.more {
            session.say("there are more: --top shows up to 1000");
        }
        Ok(Exit::Ok)
    }
}

fn shown(session: &Session, explanation: &ExplanationWire) -> Row {
    Row {
        id: explanation.id.clone(),
        cells: vec![
            explanation.id.clone(),
            explanation.name.clone(),
            explanation.status.clone(),
            session.time_text(&explanation.since),
            explanation.summary.clone(),
        ],
        json: json::explanation(explanation),
    }
}
