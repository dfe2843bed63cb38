//! What a connected worker reads: work as it has room for it, and signs of life.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::Status;

use crate::proto;
use crate::service::Served;
use crate::worker_calls;
use crate::workers::Next;

/// Workers call a stream dead after 120 s of silence.
const PING_EVERY: Duration = Duration::from_secs(30);

/// One worker's stream. Dropping it gives what the worker had to others.
#[derive(Debug)]
pub struct WorkItems {
    served: Arc<Served>,
    id: u64,
    pings: Interval,
    is_over: bool,
}

impl WorkItems {
    /// The stream of that number.
    pub fn new(served: Arc<Served>, id: u64) -> Self {
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            served,
            id,
            pings,
            is_over: false,
        }
    }
}

impl Stream for WorkItems {
    type Item = Result<proto::WorkItem, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        // Work is a sign of life itself.
        match self.served.workers.next(self.id, context.waker()) {
            Next::Item(item) => return Poll::Ready(Some(Ok(*item))),
            Next::Ended => {
                self.is_over = true;
                // One that was deleted says so; of a server that goes down the end says enough.
                let reason = self.served.hub.retired();
                return Poll::Ready(reason.map(|reason| Err(Status::not_found(reason.to_string()))));
            }
            Next::Nothing => {}
        }
        self.pings.poll_tick(context).map(|_| {
            let ping = proto::WorkItem {
                completion_token: String::new(),
                request: Some(proto::work_item::Request::HealthPing(proto::HealthPing {})),
            };
            Some(Ok(ping))
        })
    }
}

impl Drop for WorkItems {
    fn drop(&mut self) {
        let refused = self.served.workers.disconnect(self.id);
        if !refused.is_empty() {
            worker_calls::refuse_large(&self.served, refused);
        }
    }
}
