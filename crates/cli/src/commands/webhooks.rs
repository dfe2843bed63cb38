//! `dalsegno webhooks`

use clap::Args;
use dalsegno_host::v1::{DeliveryWire, json};

use crate::failure::{Exit, Failure};
use crate::output::{Row, cut};
use crate::session::Session;

const HEAD: [&str; 8] = [
    "ID",
    "INSTANCE",
    "STATUS",
    "TO",
    "STATE",
    "FAILED",
    "NEXT",
    "LAST FAILURE",
];

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno webhooks --json")]
pub(crate) struct Webhooks {}

impl Webhooks {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let deliveries = session.ask(session.hub.deliveries()).await?;
        session.rows(&HEAD, &deliveries.into_iter().map(shown).collect::<Vec<_>>());
        Ok(Exit::Ok)
    }
}

fn shown(delivery: DeliveryWire) -> Row {
    let json = json::delivery(&delivery);
    Row {
        id: delivery.id.clone(),
        cells: vec![
            delivery.id,
            delivery.instance_id,
            delivery.status,
            delivery.to,
            delivery.state,
            delivery.failed_attempts.to_string(),
            delivery.next_attempt.unwrap_or_default(),
            cut(&delivery.last_failure.unwrap_or_default()),
        ],
        json,
    }
}
