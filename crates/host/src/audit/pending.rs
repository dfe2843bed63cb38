//! A call that is under way and will be recorded, also if its caller disconnects before the answer:
//! what it asked for may have happened.

use std::sync::Arc;

use dalsegno_engine::TaskHub;
use dalsegno_engine::request::CallNote;

use super::{AuditRecord, Caller};
use crate::observer::Observer;

/// The result of a call whose caller disconnected first: over HTTP as proxies log it, and CANCELLED
/// of gRPC.
const DISCONNECTED: [u16; 2] = [499, 1];

/// The record of a call, but for its result.
#[derive(Debug)]
pub(crate) struct Pending {
    observer: Arc<Observer>,
    clock: TaskHub,
    record: Option<AuditRecord>,
    note: CallNote,
    caller: Caller,
}

impl Pending {
    /// Of a call by this caller. What its handler notes becomes part of the record.
    pub(crate) fn new(
        observer: &Arc<Observer>,
        clock: &TaskHub,
        record: AuditRecord,
        note: CallNote,
        caller: Caller,
    ) -> Self {
        Self {
            observer: Arc::clone(observer),
            clock: clock.clone(),
            record: Some(record),
            note,
            caller,
        }
    }

    /// Records the call with its result. Returns when the record is in the file, if there is one.
    pub(crate) async fn answered(mut self, result: u16) {
        if let Some(record) = self.record.take() {
            let record = AuditRecord { result, ..record }.with(self.note.facts());
            let now = self.clock.now();
            self.observer.audit.record(record, self.caller, now).await;
        }
    }

    /// The caller turned out to be as good as one with a key: a link opened its route.
    #[must_use]
    pub(crate) fn by(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(record) = self.record.take() else { return };
        let result = DISCONNECTED[usize::from(record.grpc)];
        let record = AuditRecord { result, ..record }.with(self.note.facts());
        let (observer, now, caller) = (Arc::clone(&self.observer), self.clock.now(), self.caller);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { observer.audit.record(record, caller, now).await });
        }
    }
}
