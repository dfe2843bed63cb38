//! Whether the disk has room for new work.
//!
//! A write that fails for want of space ends the process, so new work is refused while there is
//! still some: what runs may then end, and an operator may terminate and purge. Looked at when a
//! client asks for something new, at most once a second; nothing runs meanwhile.

use std::sync::{Mutex, PoisonError};

use dalsegno_core::Timestamp;
use dalsegno_core::store::Store;

use crate::request::{Answer, RequestError, RequestErrorKind};

/// How long a look is good.
const LOOK_MICROS: i64 = 1_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct DiskSpace {
    /// Less than this refuses new work; 0 never does.
    free_bytes_min: u64,
    seen: Mutex<Option<Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Timestamp,
    /// `None` when the store cannot tell.
    free_bytes: Option<u64>,
}

impl DiskSpace {
    pub(crate) fn new(free_bytes_min: u64) -> Self {
        Self {
            free_bytes_min,
            seen: Mutex::default(),
        }
    }

    /// Refuses while there is less room than the limit says.
    pub(crate) fn check(&self, store: &dyn Store, now: Timestamp) -> Answer<()> {
        let least = self.free_bytes_min;
        if least == 0 {
            return Ok(());
        }
        match self.free_bytes(store, now) {
            Some(free) if free < least => {
                let detail = format!(
                    "the hub's disk has {free} bytes free, disk_free_bytes_min is {least}: nothing new is taken, \
                     what runs goes on; purge finished instances or give the disk room"
                );
                Err(RequestError::new(RequestErrorKind::InsufficientStorage, detail))
            }
            _ => Ok(()),
        }
    }

    fn free_bytes(&self, store: &dyn Store, now: Timestamp) -> Option<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back does not make a look last for ever.
        let is_good = |seen: &Seen| (0..LOOK_MICROS).contains(&(now.as_micros() - seen.at.as_micros()));
        if let Some(seen) = seen.filter(is_good) {
            return seen.free_bytes;
        }
        let free_bytes = store.free_bytes();
        *seen = Some(Seen { at: now, free_bytes });
        free_bytes
    }
}

#[cfg(test)]
mod tests {
    use dalsegno_store_memory::MemoryStore;

    use super::*;

    fn second(number: i64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000 + number * LOOK_MICROS)
    }

    #[test]
    fn new_work_is_refused_while_there_is_too_little_room() {
        let store = MemoryStore::new(1);
        let space = DiskSpace::new(100);
        assert_eq!(space.check(&store, second(0)), Ok(()), "a store that cannot tell");
        store.set_free_bytes(Some(99));
        let soon = Timestamp::from_micros(second(1).as_micros() - 1);
        assert_eq!(
            space.check(&store, soon),
            Ok(()),
            "looked at less than a second ago"
        );
        let refused = space.check(&store, second(1)).unwrap_err();
        assert_eq!(refused.kind, RequestErrorKind::InsufficientStorage);
        assert!(
            refused
                .detail
                .contains("99 bytes free, disk_free_bytes_min is 100"),
            "{refused}"
        );
        store.set_free_bytes(Some(100));
        assert!(space.check(&store, soon).is_ok(), "a clock that was set back");
        assert_eq!(space.check(&store, second(2)), Ok(()));
    }

    #[test]
    fn without_a_limit_nobody_looks() {
        let store = MemoryStore::new(1);
        store.set_free_bytes(Some(0));
        assert_eq!(DiskSpace::new(0).check(&store, second(0)), Ok(()));
    }
}
