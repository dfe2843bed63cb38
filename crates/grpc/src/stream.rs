//! What a connected worker reads: work as it has room for it, and signs of life.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::Status;

use crate::proto;
use crate::workers::{Next, Workers};

/// Workers call a stream dead after 120 s of silence.
const PING_EVERY: Duration = Duration::from_secs(30);

/// One worker's stream. Dropping it gives what the worker had to others.
#[derive(Debug)]
pub struct WorkItems {
    workers: Arc<Workers>,
    id: u64,
    pings: Interval,
}

impl WorkItems {
    /// The stream of that number.
    pub fn new(workers: Arc<Workers>, id: u64) -> Self {
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { workers, id, pings }
    }
}

impl Stream for WorkItems {
    type Item = Result<proto::WorkItem, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pings.poll_tick(context).is_ready() {
            let ping = proto::WorkItem {
                completion_token: String::new(),
                request: Some(proto::work_item::Request::HealthPing(proto::HealthPing {})),
            };
            return Poll::Ready(Some(Ok(ping)));
        }
        match self.workers.next(self.id, context.waker()) {
            Next::Item(item) => Poll::Ready(Some(Ok(*item))),
            Next::Nothing => Poll::Pending,
            Next::Ended => Poll::Ready(None),
        }
    }
}

impl Drop for WorkItems {
    fn drop(&mut self) {
        self.workers.disconnect(self.id);
    }
}
