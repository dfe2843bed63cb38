//! The caller of one request.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::StatusCode;

use crate::http::problem::Problem;
use crate::keys::{Key, Scope};

/// The caller of one request, as it was authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// A program on this machine, of a host without keys.
    Loopback,
    /// The holder of a key that is valid now.
    Key(Arc<Key>),
    /// The holder of a link key, which nobody has verified yet. Has no scope: only the routes that
    /// a link opens verify it, for their operation and instance.
    LinkClaim(Arc<str>),
    /// The request carries no key.
    Anonymous,
    /// The request carries a key that this host does not know, or that has expired.
    InvalidKey,
}

impl Principal {
    /// The name in audit records.
    pub(crate) fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Loopback => "local".into(),
            Self::Key(key) => key.id.clone().into(),
            Self::LinkClaim(_) => "link".into(),
            Self::Anonymous => "anonymous".into(),
            Self::InvalidKey => "invalid key".into(),
        }
    }

    /// Whether the caller has proven who it is.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self, Self::Loopback | Self::Key(_))
    }

    /// 401 for a caller without a valid key. A link claim passes: its route decides.
    pub(crate) fn require(&self) -> Result<(), Problem> {
        match self {
            Self::Anonymous | Self::InvalidKey => Err(unauthorized()),
            Self::Loopback | Self::Key(_) | Self::LinkClaim(_) => Ok(()),
        }
    }

    /// What the caller may do, in the hubs that it may enter.
    pub(crate) fn scopes(&self) -> &[Scope] {
        match self {
            Self::Loopback => &Scope::ALL,
            Self::Key(key) => &key.scopes,
            Self::LinkClaim(_) | Self::Anonymous | Self::InvalidKey => &[],
        }
    }

    /// 401 or 403 unless the caller has one of the scopes.
    pub(crate) fn permit(&self, any_of: &[Scope]) -> Result<(), Problem> {
        self.require()?;
        match self.scopes().iter().any(|scope| any_of.contains(scope)) {
            true => Ok(()),
            false => Err(forbidden()),
        }
    }

    /// Whether the caller may enter the hub of this name, on a host whose default hub is `default`.
    pub(crate) fn may_enter(&self, hub: &str, default: &str) -> bool {
        match self {
            Self::Loopback => true,
            Self::Key(key) => key.hubs.include(hub, default),
            Self::LinkClaim(_) | Self::Anonymous | Self::InvalidKey => false,
        }
    }

    /// Whether the caller may change what belongs to the whole host.
    pub(crate) fn may_enter_all(&self) -> bool {
        match self {
            Self::Loopback => true,
            Self::Key(key) => key.hubs.is_all(),
            Self::LinkClaim(_) | Self::Anonymous | Self::InvalidKey => false,
        }
    }
}

/// 401: the caller has no valid key.
pub(crate) fn unauthorized() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "this needs a key: send it as x-functions-key",
    )
}

/// 403: the caller's key or link is not for this.
pub(crate) fn forbidden() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "the key does not allow this")
}
