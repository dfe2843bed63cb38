//! Versions of an orchestrator: numbers between dots, compared one by one.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The version an instance was started with; it keeps it for life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(Option<Arc<str>>);

impl Version {
    pub(crate) fn new(version: Option<Arc<str>>) -> Self {
        Self(version)
    }

    /// The text, or `None` when the orchestrator has no version.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Is it this version or a higher one? No version is lower than any.
    pub fn at_least(&self, version: &str) -> bool {
        self.as_str()
            .is_some_and(|own| compare(own, version) != Ordering::Less)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str().unwrap_or("none"))
    }
}

/// Segment by segment: numbers by value, others as text, a missing segment as 0.
pub(crate) fn compare(one: &str, other: &str) -> Ordering {
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        let ordering = match (ones.next(), others.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) => compare_segment(a.unwrap_or("0"), b.unwrap_or("0")),
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

fn compare_segment(one: &str, other: &str) -> Ordering {
    match (one.parse::<u64>(), other.parse::<u64>()) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        _ => one.cmp(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_numbers() {
        assert_eq!(compare("2.10", "2.9"), Ordering::Greater);
        assert_eq!(compare("2", "2.0"), Ordering::Equal);
        assert!(Version::new(Some("2.1".into())).at_least("2.1"));
        assert!(!Version::new(None).at_least("0"));
    }
}
