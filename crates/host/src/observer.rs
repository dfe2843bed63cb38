//! What a host sees of its callers, all listeners together: requests are measured, changes recorded.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::audit::{AuditLimits, AuditLog};
use crate::http::metrics::HttpMeters;
use crate::traces::TraceExporter;

/// Measures and records.
#[derive(Debug)]
pub struct Observer {
    pub(crate) http: HttpMeters,
    pub(crate) audit: AuditLog,
    pub(crate) begun: Instant,
    pub(crate) traces: Option<Arc<TraceExporter>>,
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            http: HttpMeters::default(),
            audit: AuditLog::default(),
            begun: Instant::now(),
            traces: None,
        }
    }
}

impl Observer {
    /// One that records changes in a file too.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn with_audit_file(path: &Path, limits: AuditLimits) -> io::Result<Self> {
        Ok(Self {
            audit: AuditLog::in_file(path, limits)?,
            ..Self::default()
        })
    }

    /// Ready when the calls that change something have ended and their audit records are in the file; after
    /// `grace` at the latest.
    pub async fn finish(&self, grace: Duration) {
        if tokio::time::timeout(grace, self.audit.finish()).await.is_err() {
            tracing::error!("audit records were not written within {grace:?}: some are lost");
        }
    }

    /// The same, which tells of traces too.
    #[must_use]
    pub fn with_traces(self, traces: Option<Arc<TraceExporter>>) -> Self {
        Self { traces, ..self }
    }
}
