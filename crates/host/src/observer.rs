//! What a host sees of its callers, all listeners together: requests are measured, changes recorded.

use std::io;
use std::path::Path;
use std::time::Instant;

use crate::audit::AuditLog;
use crate::http::metrics::HttpMeters;

/// Measures and records.
#[derive(Debug)]
pub struct Observer {
    pub(crate) http: HttpMeters,
    pub(crate) audit: AuditLog,
    pub(crate) begun: Instant,
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            http: HttpMeters::default(),
            audit: AuditLog::default(),
            begun: Instant::now(),
        }
    }
}

impl Observer {
    /// One that records changes in a file too.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn with_audit_file(path: &Path) -> io::Result<Self> {
        Ok(Self {
            audit: AuditLog::in_file(path)?,
            ..Self::default()
        })
    }
}
