//! Answers to work items on one stream: what the calls take, without the price of a call for each.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::outcome::Outcome;
use crate::proto;
use crate::proto::work_answer::Answer;
use crate::service::Served;
use crate::worker_calls as worker;

/// How the answers of a stream came out, as they are done.
pub type Outcomes = UnboundedReceiverStream<Told>;

type Told = Result<proto::WorkOutcome, Status>;

/// Takes all answers of a stream. What was read is taken to its end, whether or not the worker is
/// still there to hear of it.
pub(crate) fn take_all(served: Arc<Served>, mut answers: Streaming<proto::WorkAnswer>) -> Outcomes {
    let (outcomes, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(Some(answer)) = answers.message().await {
            take(&served, answer, &outcomes);
        }
    });
    UnboundedReceiverStream::new(told)
}

fn take(served: &Served, answer: proto::WorkAnswer, outcomes: &mpsc::UnboundedSender<Told>) {
    let (number, outcomes) = (answer.number, outcomes.clone());
    let outcome = Outcome::new(move |result| {
        // Who gave it may be gone.
        let _ = outcomes.send(Ok(told(number, result)));
    });
    match answer.answer {
        Some(Answer::Turn(response)) => worker::complete_turn(served, response, outcome),
        Some(Answer::Activity(response)) => worker::complete_activity(served, response, outcome),
        Some(Answer::Entity(result)) => worker::complete_entity(served, result, outcome),
        None => outcome.tell(Err(Status::invalid_argument(
            "an answer without turn, activity and entity: this server knows no other",
        ))),
    }
}

fn told(number: u64, result: Result<(), Status>) -> proto::WorkOutcome {
    let status = result.err().unwrap_or_else(|| Status::new(Code::Ok, ""));
    proto::WorkOutcome {
        number,
        code: status.code().into(),
        message: status.message().to_owned(),
    }
}
