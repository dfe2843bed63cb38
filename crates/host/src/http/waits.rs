//! How many requests wait for an instance, and whose they are.
//!
//! A request that waits holds a connection for minutes, so nobody may have all of them: surplus is
//! refused with 429 before it changes anything.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;

use super::auth::{Principal, network};
use super::problem::Problem;

/// Who waits: the holder of a key wherever he is, else whoever has the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Key(Arc<str>),
    Address(IpAddr),
}

/// The requests that wait now. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Without zeros.
    of_caller: HashMap<Caller, usize>,
}

/// One request that may wait; given back when dropped.
#[derive(Debug)]
pub(crate) struct WaitSlot {
    waits: Waits,
    caller: Caller,
}

impl Waits {
    /// A slot for one more wait of a caller.
    pub(crate) fn slot(
        &self,
        principal: &Principal,
        address: IpAddr,
        waiters_max: usize,
        waiters_per_key_max: usize,
    ) -> Result<WaitSlot, Problem> {
        let caller = match principal {
            Principal::Key(key) => Caller::Key(key.id.as_str().into()),
            _ => Caller::Address(network(address)),
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.of_caller.get(&caller).copied().unwrap_or(0);
        if own >= waiters_per_key_max {
            return Err(busy(format!(
                "{own} requests of this caller wait already, waiters_per_key_max is {waiters_per_key_max}: \
                 let some end, or ask for the status from time to time"
            )));
        }
        if counts.all >= waiters_max {
            return Err(busy(format!(
                "{} requests wait already, waiters_max is {waiters_max}: try again later",
                counts.all
            )));
        }
        counts.all += 1;
        *counts.of_caller.entry(caller.clone()).or_default() += 1;
        drop(counts);
        let waits = self.clone();
        Ok(WaitSlot { waits, caller })
    }
}

impl Drop for WaitSlot {
    fn drop(&mut self) {
        let mut counts = self.waits.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(own) = counts.of_caller.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                counts.of_caller.remove(&self.caller);
            }
        }
    }
}

fn busy(detail: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", detail)
}

#[cfg(test)]
mod tests {
    use dalsegno_core::Timestamp;

    use super::*;
    use crate::keys::{KeyHubs, KeyRing};

    #[test]
    fn each_key_and_each_address_has_its_own_share_of_all() {
        let waits = Waits::default();
        let mut ring = KeyRing::new().unwrap();
        let mut holder = |id: &str| {
            let secret = ring.create(id, &[], KeyHubs::All, None).unwrap();
            let key = ring.find(&secret, Timestamp::from_micros(0)).unwrap();
            Principal::Key(key.clone())
        };
        let [a, b, c] = ["a", "b", "c"].map(&mut holder);
        let link = Principal::LinkClaim("dsl2_0_0".into());
        let slot = |principal: &Principal, address: &str| {
            let refused = |problem: Problem| (problem.status.as_u16(), problem.detail.clone());
            waits
                .slot(principal, address.parse().unwrap(), 5, 2)
                .map_err(refused)
        };
        let of_a = [slot(&a, "10.0.0.1"), slot(&a, "10.0.0.2")];
        let (status, detail) = slot(&a, "10.0.0.3").unwrap_err();
        assert_eq!(status, 429);
        assert!(detail.contains("waiters_per_key_max is 2"), "{detail}");
        let mut kept = vec![slot(&b, "10.0.0.1").unwrap()];
        kept.extend(slot(&link, "2001:db8::1"));
        kept.extend(slot(&Principal::Loopback, "2001:db8::2"));
        assert_eq!(kept.len(), 3);
        let (_, detail) = slot(&c, "10.0.0.9").unwrap_err();
        assert!(detail.contains("waiters_max is 5"), "{detail}");
        drop(of_a);
        assert!(slot(&link, "2001:db8::3").is_err(), "one /64 is one address");
        assert!(slot(&link, "10.0.0.9").is_ok());
        drop(kept);
        let counts = waits.0.lock().unwrap();
        assert_eq!((counts.all, counts.of_caller.len()), (0, 0));
    }
}
