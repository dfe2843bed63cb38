//! How an answer of a worker came out: told once, to whoever gave it.

use std::fmt;

use tokio::sync::oneshot;
use tonic::Status;

/// Tells how an answer came out, where nobody has to wait in between. One that is dropped tells
/// that the server goes down: the work is given out again after its next start.
pub struct Outcome(Option<Tell>);

type Tell = Box<dyn FnOnce(Result<(), Status>) + Send>;

impl Outcome {
    /// Calls this, once.
    pub fn new(tell: impl FnOnce(Result<(), Status>) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// Nobody wants to know.
    pub fn unheard() -> Self {
        Self(None)
    }

    /// One that a call waits for.
    pub fn awaited() -> (Self, oneshot::Receiver<Result<(), Status>>) {
        let (sender, receiver) = oneshot::channel();
        let tell = move |result| {
            // Who called may have gone away.
            let _ = sender.send(result);
        };
        (Self::new(tell), receiver)
    }

    /// It came out like this.
    pub fn tell(mut self, result: Result<(), Status>) {
        if let Some(tell) = self.0.take() {
            tell(result);
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Err(Status::unavailable(
                "the server goes down before the answer is durable: the work is given out again",
            )));
        }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outcome")
    }
}
