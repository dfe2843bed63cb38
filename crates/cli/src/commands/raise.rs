//! `dalsegno raise`

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::InstanceId;
use dalsegno_engine::request::RaisedEvent;
use dalsegno_host::nearest;
use dalsegno_host::v1::OperationVerb;

use crate::batch::{Batch, Order};
use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dalsegno raise order-9 approved -d '{\"by\":\"Ada\"}'",
    override_usage = "dalsegno raise [OPTIONS] <ID> <EVENT>\n       dalsegno raise [OPTIONS] --where <FILTER> <EVENT>"
)]
pub(crate) struct Raise {
    /// Id of the instance, which --where replaces
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::instances))]
    first: String,
    /// Name of the event
    // Called so because without --where there is an id.
    #[arg(
        id = "id",
        value_name = "EVENT",
        add = ArgValueCompleter::new(complete::events),
        required_unless_present = "filter",
        conflicts_with = "filter"
    )]
    second: Option<String>,
    #[command(flatten)]
    batch: Batch,
    /// Its data: JSON, @FILE, or - for stdin
    #[arg(long, short)]
    data: Option<String>,
    /// A repeat with the same key is answered again and not delivered twice
    #[arg(long, value_name = "KEY", conflicts_with = "filter")]
    idempotency_key: Option<String>,
}

impl Raise {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let data = input::payload(self.data.as_deref())?;
        let Some(event) = self.second else {
            let mut order = Order::new(OperationVerb::Raise);
            order.event = Some((self.first, data));
            return self.batch.run(session, &order).await;
        };
        let id = input::id(&self.first).map_err(Failure::usage)?;
        let meant = meant(session, &id, &event).await;
        let raised = RaisedEvent {
            name: event.clone(),
            input: data,
            idempotency_key: self.idempotency_key,
            trace: None,
        };
        let answer = session.ask(session.hub.raise_event(&id, raised)).await;
        answer.map_err(|failure| match failure.has_code("finished") {
            true => failure.help(format!(
                "dalsegno restart {id}, or list the waiting: dalsegno list --waiting-for {event}"
            )),
            false => failure,
        })?;
        session.say(&format!("raised {event} for {id}"));
        if let Some(meant) = meant {
            session.say(&format!(
                "{id} does not wait for {event}, which is kept: did you mean {meant}?"
            ));
        }
        Ok(Exit::Ok)
    }
}

/// The awaited event that may be meant in place of one that is not awaited. Events may come early,
/// so this is no error, and what cannot be asked is not needed.
async fn meant(session: &Session, id: &InstanceId, event: &str) -> Option<String> {
    let explanation = session.ask(session.hub.explain(id)).await.ok()??;
    let events = explanation.reasons.iter().filter(|reason| reason.kind == "event");
    let awaited: Vec<&str> = events.filter_map(|reason| reason.name.as_deref()).collect();
    if awaited.iter().any(|awaited| awaited.eq_ignore_ascii_case(event)) {
        return None;
    }
    nearest(event, awaited).map(str::to_owned)
}
