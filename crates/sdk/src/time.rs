//! Durations by name.

use std::time::Duration;

/// One second.
pub const SECOND: Duration = Duration::from_secs(1);
/// Sixty seconds.
pub const MINUTE: Duration = Duration::from_secs(60);
/// Sixty minutes.
pub const HOUR: Duration = Duration::from_secs(60 * 60);
/// Twenty-four hours.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
