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

/// Takes the answers of a stream until either side ends it. An answer that was read is applied, whether
/// or not the worker is still connected to read its outcome.
pub(crate) fn take_all(served: Arc<Served>, mut answers: Streaming<proto::WorkAnswer>) -> Outcomes {
    let (outcomes, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let answer = tokio::select! {
                biased;
                // The outcomes end when the connection does, or the key of the worker.
                () = outcomes.closed() => return,
                answer = answers.message() => answer,
            };
            match answer {
                Ok(Some(answer)) => take(&served, answer, &outcomes),
                Ok(None) | Err(_) => return,
            }
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
