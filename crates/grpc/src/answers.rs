//! Answers to work items on one stream: what the calls take, without the price of a call for each.

use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::proto;
use crate::proto::work_answer::Answer;
use crate::service::Served;
use crate::worker_calls as worker;

/// How the answers of a stream came out, as they are done.
pub type Outcomes = UnboundedReceiverStream<Result<proto::WorkOutcome, Status>>;

/// Takes all answers of a stream. What was read is taken to its end, whether or not the worker is
/// still there to hear of it.
pub(crate) fn take_all(served: Arc<Served>, mut answers: Streaming<proto::WorkAnswer>) -> Outcomes {
    let (outcomes, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut taken = FuturesUnordered::new();
        let mut is_open = true;
        loop {
            tokio::select! {
                answer = answers.message(), if is_open => match answer {
                    Ok(Some(answer)) => taken.push(take(&served, answer)),
                    Ok(None) | Err(_) => is_open = false,
                },
                Some(outcome) = taken.next() => {
                    // Who gave it may be gone.
                    let _ = outcomes.send(Ok(outcome));
                }
                else => return,
            }
        }
    });
    UnboundedReceiverStream::new(told)
}

async fn take(served: &Served, answer: proto::WorkAnswer) -> proto::WorkOutcome {
    let result = match answer.answer {
        Some(Answer::Turn(response)) => worker::complete_turn(served, response).await,
        Some(Answer::Activity(response)) => worker::complete_activity(served, response).await,
        Some(Answer::Entity(result)) => worker::complete_entity(served, result).await,
        None => Err(Status::invalid_argument(
            "an answer without turn, activity and entity: this server knows no other",
        )),
    };
    let status = result.err().unwrap_or_else(|| Status::new(Code::Ok, ""));
    proto::WorkOutcome {
        number: answer.number,
        code: status.code().into(),
        message: status.message().to_owned(),
    }
}
