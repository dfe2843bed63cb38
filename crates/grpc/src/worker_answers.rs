//! A worker's side of the stream of answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::proto;
use crate::proto::work_answer::Answer;

/// Sends answers, and hears how they came out.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    sender: mpsc::UnboundedSender<proto::WorkAnswer>,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    waiting: HashMap<u64, oneshot::Sender<Result<(), Status>>>,
    last: u64,
    is_over: bool,
}

/// Forgets who waits when the stream ends, which tells them.
struct Ending(Arc<Mutex<Told>>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut told = lock(&self.0);
        told.is_over = true;
        told.waiting.clear();
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answers {
    /// A way for answers, and what is to be sent over it.
    pub(crate) fn new() -> (Self, UnboundedReceiverStream<proto::WorkAnswer>) {
        let (sender, sent) = mpsc::unbounded_channel();
        let told = Arc::default();
        (Self { sender, told }, UnboundedReceiverStream::new(sent))
    }

    /// Hears of the outcomes until there are no more.
    pub(crate) fn listen(&self, mut outcomes: Streaming<proto::WorkOutcome>) {
        let ending = Ending(self.told.clone());
        tokio::spawn(async move {
            while let Ok(Some(outcome)) = outcomes.message().await {
                let waiting = lock(&ending.0).waiting.remove(&outcome.number);
                let result = match Code::from(outcome.code) {
                    Code::Ok => Ok(()),
                    code => Err(Status::new(code, outcome.message)),
                };
                if let Some(waiting) = waiting {
                    // Who gave the answer may be gone.
                    let _ = waiting.send(result);
                }
            }
        });
    }

    /// Has the stream ended?
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.told).is_over
    }

    /// Gives an answer and waits for its outcome.
    pub(crate) async fn give(&self, answer: Answer) -> Result<(), Status> {
        let lost = || Status::unavailable("the stream of answers was lost");
        let outcome = {
            let mut told = lock(&self.told);
            if told.is_over {
                return Err(lost());
            }
            let (waiting, outcome) = oneshot::channel();
            told.last += 1;
            let number = told.last;
            told.waiting.insert(number, waiting);
            let answer = proto::WorkAnswer {
                number,
                answer: Some(answer),
            };
            if self.sender.send(answer).is_err() {
                told.waiting.remove(&number);
            }
            outcome
        };
        outcome.await.unwrap_or_else(|_| Err(lost()))
    }
}
