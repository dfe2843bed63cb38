//! Clients that ask a host for random operations, at once, until it ends or they have done enough.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::broken::{Broken, Outcome};
use crate::ledger::{Ledger, Operation, joined, lock};
use crate::random::Random;

/// Clients at once.
const CLIENTS: u64 = 3;

/// A change that the host acknowledged, and when it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledgement {
    /// Seconds since 1970, as strace prints them.
    pub(crate) sent: f64,
    /// For the text of a failure.
    #[expect(dead_code, reason = "it is only printed")]
    operation: String,
}

/// The clients of one life of a host.
#[derive(Debug)]
pub(crate) struct Clients {
    address: SocketAddr,
    seed: u64,
    /// They stop after this many operations; `None` lets them ask until the host ends.
    operations_max: Option<u64>,
    count: AtomicU64,
    acknowledgements: Mutex<Vec<Acknowledgement>>,
}

impl Clients {
    pub(crate) fn new(address: SocketAddr, seed: u64, operations_max: Option<u64>) -> Self {
        Self {
            address,
            seed,
            operations_max,
            count: AtomicU64::new(0),
            acknowledgements: Mutex::default(),
        }
    }

    /// Asks until the host ends or enough was asked; fails when a response contradicts the ledger.
    pub(crate) fn run(&self, ledger: &Mutex<Ledger>) -> Outcome<Vec<Acknowledgement>> {
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| scope.spawn(move || self.run_one(client, ledger)))
                .collect();
            clients.into_iter().try_for_each(joined)
        })?;
        Ok(std::mem::take(&mut lock(&self.acknowledgements)))
    }

    fn run_one(&self, client: u64, ledger: &Mutex<Ledger>) -> Outcome {
        let mut random = Random::of_case(self.seed, client);
        while self
            .operations_max
            .is_none_or(|max| self.count.fetch_add(1, Ordering::Relaxed) < max)
        {
            let operation = lock(ledger).plan(&mut random);
            let sent = now()?;
            // A host that does not answer has ended, or is ending.
            let Ok(response) = Ledger::send(ledger, &operation, self.address) else {
                break;
            };
            lock(ledger).take(&operation, &response)?;
            let is_read = matches!(operation, Operation::Read { .. } | Operation::ReadTally { .. });
            if response.is_success() && !is_read {
                let operation = format!("{operation:?}");
                lock(&self.acknowledgements).push(Acknowledgement { sent, operation });
            }
        }
        Ok(())
    }
}

fn now() -> Outcome<f64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.map_err(|error| Broken::new(format!("the clock is before 1970: {error}")))?;
    Ok(since.as_secs_f64())
}
