//! A user's value as the JSON text they gave us.
//!
//! The engine moves payloads and never reads them: numbers are not re-printed, members not
//! re-ordered. Cloning is a reference count.

use std::fmt;
use std::sync::Arc;

/// One JSON value as text, shared and immutable.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Payload(Arc<str>);

impl Payload {
    /// Takes JSON text as it is. Parsing is the caller's affair, at the edge.
    pub fn from_json(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Size of the text in bytes.
    pub fn len_bytes(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::from_json(text)
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::from_json(text)
    }
}
