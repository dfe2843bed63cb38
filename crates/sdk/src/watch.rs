//! The changes of one instance, as a client reads them.

pub use dalsegno_engine::hub::{Change, WatchEvent};
pub use dalsegno_engine::seen::Seen;
use futures::stream::{self, Stream};

use crate::backend::BackendWatch;
use crate::error::Result;

/// A reader of the changes of one instance. It costs the hub nothing while it does not ask, and
/// goes on after a break of the connection or a restart of the host.
///
/// Every event of a history comes once and in order. Of statuses the newest comes: one that was
/// followed by another before it was read may be missing. What an execution recorded is gone when
/// it continues as new: a reader that was not done with it is told of the next execution.
#[derive(Debug)]
pub struct Watch(BackendWatch);

impl Watch {
    pub(crate) fn new(watch: BackendWatch) -> Self {
        Self(watch)
    }

    /// The next change, once it is durable; `None` after the end of the instance. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// `is_not_found()` when the instance was purged; when the hub is away for long. Whoever asks
    /// again goes on behind the last change.
    pub async fn next(&mut self) -> Result<Option<Change>> {
        Ok(self.0.next().await?)
    }

    /// Where the reader is: [`Instance::watch_after`](crate::Instance::watch_after) goes on there.
    pub fn seen(&self) -> Seen {
        self.0.seen()
    }

    /// The same as a stream, which ends at the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Change>> + Send {
        stream::try_unfold(self, |mut watch| async move {
            let change = watch.next().await?;
            Ok(change.map(|change| (change, watch)))
        })
    }
}
