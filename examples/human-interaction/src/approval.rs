//! A document approval: generate, ask the manager, wait, finalise, tell, archive.

use std::time::Duration;

use dalsegno::{ActivityContext, App, ExternalEvent, OrchestrationContext, Result, activity, orchestrator};
use serde::{Deserialize, Serialize};

use crate::post::Post;

/// What a manager answers.
pub const DECISION: ExternalEvent<Decision> = ExternalEvent::new("Decision");

/// A manager's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Yes or no.
    pub approved: bool,
    /// Who says so.
    pub by: String,
}

/// What is to be approved, by whom, and until when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// What the document is about.
    pub title: String,
    /// Who decides.
    pub manager: String,
    /// How long an answer may take.
    pub answer_within_ms: u64,
    /// What happens when none came.
    pub on_timeout: OnTimeout,
}

/// The plan for managers who do not answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum OnTimeout {
    /// Silence means no.
    Reject,
    /// Somebody else decides.
    Escalate {
        /// Who.
        to: String,
        /// How long their answer may take.
        answer_within_ms: u64,
    },
    /// The same manager is asked again.
    AskAgain {
        /// So many times, then silence means no.
        times: u32,
    },
}

/// What became of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Final, in the archive under this name.
    Archived {
        /// The name.
        name: String,
        /// Who approved it.
        by: String,
    },
    /// Somebody said no.
    Rejected {
        /// Who.
        by: String,
    },
    /// Nobody said anything.
    TimedOut,
}

/// Takes a document through approval.
#[orchestrator(name = "DocumentApproval")]
pub async fn document_approval(ctx: &OrchestrationContext, request: Request) -> Result<Outcome> {
    let document = ctx.call(generate_document, request.title.clone()).await?;
    let decision = match ask(ctx, &request.manager, &document, request.answer_within_ms).await? {
        Some(decision) => Some(decision),
        None => after_silence(ctx, &document, &request).await?,
    };
    match decision {
        Some(Decision { approved: true, by }) => {
            let name = ctx.call(finalise_document, document.clone()).await?;
            ctx.call(notify_stakeholders, format!("{document} was approved by {by}"))
                .await?;
            ctx.call(archive_document, name.clone()).await?;
            Ok(Outcome::Archived { name, by })
        }
        Some(Decision { by, .. }) => {
            ctx.call(notify_stakeholders, format!("{document} was rejected by {by}"))
                .await?;
            Ok(Outcome::Rejected { by })
        }
        None => {
            ctx.call(notify_stakeholders, format!("nobody decided on {document}"))
                .await?;
            Ok(Outcome::TimedOut)
        }
    }
}

/// Asks one person and waits. An answer that was there before is taken at once.
async fn ask(
    ctx: &OrchestrationContext,
    whom: &str,
    document: &str,
    within_ms: u64,
) -> Result<Option<Decision>> {
    ctx.call(notify_manager, (whom.to_owned(), document.to_owned()))
        .await?;
    let limit = Duration::from_millis(within_ms);
    match ctx.timeout(limit, ctx.wait_for_event(DECISION)).await {
        Ok(decision) => Ok(Some(decision?)),
        Err(_elapsed) => Ok(None),
    }
}

async fn after_silence(
    ctx: &OrchestrationContext,
    document: &str,
    request: &Request,
) -> Result<Option<Decision>> {
    let (whom, within_ms, times) = match &request.on_timeout {
        OnTimeout::Reject => return Ok(None),
        OnTimeout::Escalate { to, answer_within_ms } => (to, *answer_within_ms, 1),
        OnTimeout::AskAgain { times } => (&request.manager, request.answer_within_ms, *times),
    };
    for _ in 0..times {
        if let Some(decision) = ask(ctx, whom, document, within_ms).await? {
            return Ok(Some(decision));
        }
    }
    Ok(None)
}

/// Writes the draft.
#[activity(name = "GenerateDocument")]
async fn generate_document(title: String) -> String {
    format!("draft of {title:?}")
}

/// Sends the manager a link that raises this one event on this one instance, and can do nothing else.
#[activity(name = "NotifyManager")]
async fn notify_manager(ctx: ActivityContext, (whom, document): (String, String)) -> Result<()> {
    let client = ctx.client();
    let instance = client.instance_named::<Outcome>(ctx.instance_id())?;
    let link = client
        .check_status(&instance)
        .send_event_post_uri
        .replace("{eventName}", DECISION.name());
    ctx.data::<Post>()
        .send(whom, format!("{document} needs your decision: {link}"));
    Ok(())
}

/// Makes a draft final.
#[activity(name = "FinaliseDocument")]
async fn finalise_document(draft: String) -> String {
    draft.replace("draft of", "final version of")
}

/// Tells everybody.
#[activity(name = "NotifyStakeholders")]
async fn notify_stakeholders(ctx: ActivityContext, text: String) {
    ctx.data::<Post>().send("everybody", text);
}

/// Puts it where it is kept.
#[activity(name = "ArchiveDocument")]
async fn archive_document(ctx: ActivityContext, name: String) {
    ctx.data::<Post>().send("archive", name);
}

/// Everything above.
pub(crate) fn register(app: App) -> App {
    app.register(document_approval)
        .register(generate_document)
        .register(notify_manager)
        .register(finalise_document)
        .register(notify_stakeholders)
        .register(archive_document)
}
