//! A call that is under way and will be recorded, also if its caller disconnects before the answer:
//! what it asked for may have happened.

use std::sync::Arc;

use dalsegno_engine::TaskHub;
use dalsegno_engine::request::CallNote;
use tokio::task::JoinHandle;

use super::{AuditRecord, RecordKind, Unfinished};
use crate::observer::Observer;

/// The result of a call whose caller disconnected first: over HTTP as proxies log it, and CANCELLED
/// of gRPC.
const DISCONNECTED: [u16; 2] = [499, 1];

/// The record of a call, but for its result.
#[derive(Debug)]
pub(crate) struct Pending {
    observer: Arc<Observer>,
    clock: TaskHub,
    record: Option<(AuditRecord, Unfinished)>,
    note: CallNote,
    kind: RecordKind,
}

impl Pending {
    /// Of a call. What its handler notes becomes part of the record; the kind is that of a call whose
    /// caller disconnects.
    pub(crate) fn new(
        observer: &Arc<Observer>,
        clock: &TaskHub,
        record: AuditRecord,
        note: CallNote,
        kind: RecordKind,
    ) -> Self {
        Self {
            observer: Arc::clone(observer),
            clock: clock.clone(),
            record: Some((record, observer.audit.announce())),
            note,
            kind,
        }
    }

    /// Records the call with its result. Returns when the record is in the file, if there is one.
    pub(crate) async fn answered(mut self, result: u16, kind: RecordKind) {
        if let Some(written) = self.record(|_| result, kind) {
            let _ = written.await;
        }
    }

    fn record(
        &mut self,
        result: impl FnOnce(&AuditRecord) -> u16,
        kind: RecordKind,
    ) -> Option<JoinHandle<()>> {
        let (record, unfinished) = self.record.take()?;
        let result = result(&record);
        let record = AuditRecord { result, ..record }.with(self.note.facts());
        let audit = &self.observer.audit;
        audit.begin(record, kind, self.clock.now(), unfinished)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let disconnected = |record: &AuditRecord| DISCONNECTED[usize::from(record.grpc)];
        drop(self.record(disconnected, self.kind));
    }
}
