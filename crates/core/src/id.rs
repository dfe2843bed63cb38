//! Names of things: instances, entities, executions, tasks, partitions.

use std::fmt;
use std::sync::Arc;

use crate::hash;

/// Longest instance id, in characters; also of `@name@key`.
pub const ID_CHARS_MAX: usize = 256;

/// The name of an orchestration instance, chosen by its starter or generated.
///
/// Opaque: 1 to 256 characters, not starting with `@`, not `.` or `..`, without `/ \ # ?` and
/// control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(Arc<str>);

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidId {
    /// What is wrong, and where.
    pub reason: String,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for InvalidId {}

fn invalid(reason: impl Into<String>) -> InvalidId {
    InvalidId {
        reason: reason.into(),
    }
}

fn check_characters(text: &str) -> Result<(), InvalidId> {
    let count = text.chars().count();
    if count > ID_CHARS_MAX {
        return Err(invalid(format!(
            "the id has {count} characters, the limit is {ID_CHARS_MAX}"
        )));
    }
    let bad = |c: char| matches!(c, '/' | '\\' | '#' | '?') || c.is_control();
    match text.chars().enumerate().find(|(_, c)| bad(*c)) {
        Some((at, c)) => Err(invalid(format!(
            "character {c:?} at position {} is not allowed in an id",
            at + 1
        ))),
        None => Ok(()),
    }
}

impl InstanceId {
    /// Checks a text and makes it an id.
    ///
    /// # Errors
    /// Says which rule is broken and at which position.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.is_empty() {
            return Err(invalid("an id has at least one character"));
        }
        if text.starts_with('@') {
            return Err(invalid(
                "'@' at position 1 is reserved for entities: choose an id that starts with another character",
            ));
        }
        if text == "." || text == ".." {
            return Err(invalid("'.' and '..' are path segments, not ids"));
        }
        check_characters(text)?;
        Ok(Self(text.into()))
    }

    /// For ids that were checked before: read back from the store, or made by ourselves.
    pub fn trusted(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Its letters, shared with it.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for InstanceId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entity: a lower-case name and a key. Written `@name@key`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityId {
    name: Arc<str>,
    key: Arc<str>,
}

impl EntityId {
    /// Lower-cases the name and checks both parts.
    ///
    /// # Errors
    /// Says which rule is broken and at which position.
    pub fn new(name: &str, key: &str) -> Result<Self, InvalidId> {
        if name.is_empty() {
            return Err(invalid("an entity name has at least one character"));
        }
        if name.contains('@') {
            return Err(invalid("'@' is not allowed in an entity name"));
        }
        check_characters(&format!("@{name}@{key}"))?;
        Ok(Self {
            name: name.to_lowercase().into(),
            key: key.into(),
        })
    }

    /// Reads the form `@name@key`.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let rest = text
            .strip_prefix('@')
            .ok_or_else(|| invalid("an entity id starts with '@'"))?;
        let (name, key) = rest
            .split_once('@')
            .ok_or_else(|| invalid("an entity id has the form @name@key"))?;
        Self::new(name, key)
    }

    /// The name, in lower case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key, exact.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}@{}", self.name, self.key)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The store's own number of one execution. Never reused in a hub.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ExecutionKey(pub u64);

/// The public name of one execution: 128 random bits, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ExecutionId(pub u128);

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A durable operation within one execution, numbered from 0 in program order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct TaskId(pub u32);

impl TaskId {
    /// Stands for the start of a scheduled instance where timers name their task.
    pub const START: Self = Self(u32::MAX);
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One share of a hub's instances.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct PartitionId(pub u32);

impl PartitionId {
    /// The partition of an instance id, or of an entity written `@name@key`.
    ///
    /// FNV-1a over the UTF-8 bytes, folded to 32 bits, modulo the count. Part of the storage
    /// format: neither the hash nor a hub's partition count ever changes.
    pub fn of(text: &str, partitions: u32) -> Self {
        assert!(partitions > 0, "a hub has at least one partition");
        let hash = hash::fnv1a(hash::FNV_BASIS, text.bytes());
        let folded = (hash >> 32) as u32 ^ hash as u32;
        Self(folded % partitions)
    }
}

/// Rises with every opening of a store or take-over of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Epoch(pub u64);
