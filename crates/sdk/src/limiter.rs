//! Limits that all functions of a hub share.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_engine::hub::LimiterDefinition;

/// A named limit: so many per period, so many at once. Shared by the whole hub, kept over restarts.
///
/// ```
/// use dalsegno::{HOUR, Limiter};
/// const GITHUB: Limiter = Limiter::new("github").rate(5_000, HOUR).burst(100).concurrency(20);
/// assert_eq!(GITHUB.name(), "github");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limiter {
    name: Cow<'static, str>,
    rate: Option<(u32, Duration)>,
    burst: Option<u32>,
    concurrency: Option<u32>,
}

impl Limiter {
    /// A limiter that allows everything until told otherwise.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            rate: None,
            burst: None,
            concurrency: None,
        }
    }

    /// A limiter whose name is made at run time.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: Cow::Owned(name.into()),
            ..Self::new("")
        }
    }

    /// At most `count` begin per `period`.
    #[must_use]
    pub const fn rate(mut self, count: u32, period: Duration) -> Self {
        self.rate = Some((count, period));
        self
    }

    /// So many may begin at once after a pause.
    #[must_use]
    pub const fn burst(mut self, count: u32) -> Self {
        self.burst = Some(count);
        self
    }

    /// At most so many run at once.
    #[must_use]
    pub const fn concurrency(mut self, count: u32) -> Self {
        self.concurrency = Some(count);
        self
    }

    /// A bucket of its own for every key.
    pub fn keyed<In>(self, key: impl Fn(&In) -> String + Send + Sync + 'static) -> KeyedLimiter<In> {
        KeyedLimiter {
            limiter: self,
            key: Some(Arc::new(key)),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it allows.
    pub fn definition(&self) -> LimiterDefinition {
        LimiterDefinition {
            rate: self.rate,
            burst: self.burst,
            concurrency: self.concurrency,
        }
    }
}

type Key<In> = dyn Fn(&In) -> String + Send + Sync;

/// A limiter, and which of its buckets an input belongs to.
pub struct KeyedLimiter<In> {
    pub(crate) limiter: Limiter,
    pub(crate) key: Option<Arc<Key<In>>>,
}

impl<In> From<Limiter> for KeyedLimiter<In> {
    fn from(limiter: Limiter) -> Self {
        Self { limiter, key: None }
    }
}

impl<In> fmt::Debug for KeyedLimiter<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimiter")
            .field("limiter", &self.limiter)
            .field("keyed", &self.key.is_some())
            .finish()
    }
}
