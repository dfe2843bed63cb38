//! `dalsegno explain`: why an instance does not move, and what would move it.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::InstanceId;
use dalsegno_engine::request::{RequestError, RequestErrorKind};
use dalsegno_host::v1::{ExplanationWire, json};

use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output;
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno explain order-9")]
pub(crate) struct Explain {
    /// Id of the instance
    #[arg(add = ArgValueCompleter::new(complete::instances), value_parser = input::id)]
    id: InstanceId,
}

impl Explain {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let found = session.ask(session.hub.explain(&self.id)).await?;
        let explanation = found.ok_or_else(|| {
            let detail = format!("there is no instance {}", self.id);
            RequestError::new(RequestErrorKind::NotFound, detail).about(&self.id)
        })?;
        let (text, json) = (in_words(&explanation), json::explanation(&explanation));
        session.prose(&explanation.id, &text, &json);
        Ok(Exit::Ok)
    }
}

/// An explanation as lines for people.
pub(crate) fn in_words(explanation: &ExplanationWire) -> String {
    let version = explanation.version.as_deref().unwrap_or_default();
    let space = if version.is_empty() { "" } else { " " };
    let ExplanationWire {
        id,
        name,
        status,
        since,
        ..
    } = explanation;
    let mut lines = vec![format!("{id} {name}{space}{version} · {status} since {since}")];
    if explanation.reasons.is_empty() {
        lines.push(format!("  {}", explanation.summary));
    }
    for reason in &explanation.reasons {
        // Some texts begin with the word for it.
        let lead = format!("{}: ", reason.kind);
        let text = reason.text.strip_prefix(&lead).unwrap_or(&reason.text);
        lines.push(format!("  {lead}{text}"));
        if let Some(location) = &reason.location {
            lines.push(format!("    at {location}"));
        }
        if let Some(since) = &reason.since {
            lines.push(format!("    since {since}"));
        }
    }
    for step in &explanation.next {
        lines.push(format!("next: {}", step.text));
        lines.extend(step.cli.iter().map(|cli| format!("  {cli}")));
    }
    let shown: Vec<String> = lines.iter().map(|line| output::shown(line)).collect();
    shown.join("\n")
}
