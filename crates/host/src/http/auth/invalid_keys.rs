//! Throttles addresses that guess keys. A valid key is never throttled.

use std::collections::HashMap;
use std::net::IpAddr;

use dalsegno_core::Timestamp;

use super::network;

/// Invalid keys that one network may send within a minute.
const PER_MINUTE_MAX: u32 = 20;
/// Networks in the table: some 64 bytes each, far below 10 MB.
const NETWORKS_MAX: usize = 65_536;
const SECOND_MICROS: i64 = 1_000_000;
const MINUTE_MICROS: i64 = 60 * SECOND_MICROS;

/// How many invalid keys each network sent, with the start of its minute.
#[derive(Debug, Default)]
pub(crate) struct InvalidKeys(HashMap<IpAddr, (i64, u32)>);

impl InvalidKeys {
    /// Counts one more. Returns for how many seconds the network stays throttled, 0 if it is not.
    pub(crate) fn count(&mut self, address: IpAddr, now: Timestamp) -> u32 {
        let now = now.as_micros();
        let network = network(address);
        if self.0.len() >= NETWORKS_MAX && !self.0.contains_key(&network) {
            self.0.retain(|_, (since, _)| is_same_minute(*since, now));
            if self.0.len() >= NETWORKS_MAX {
                self.0.clear();
            }
        }
        let (since, count) = self.0.entry(network).or_insert((now, 0));
        if !is_same_minute(*since, now) {
            (*since, *count) = (now, 0);
        }
        if *count < PER_MINUTE_MAX {
            *count += 1;
            return 0;
        }
        let left = (*since + MINUTE_MICROS - now).clamp(0, MINUTE_MICROS);
        u32::try_from((left + SECOND_MICROS - 1) / SECOND_MICROS).unwrap_or(1)
    }
}

/// A clock that was set back starts a new minute.
fn is_same_minute(since: i64, now: i64) -> bool {
    (0..MINUTE_MICROS).contains(&(now - since))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_772_357_400_000_000);

    #[test]
    fn twenty_invalid_keys_a_minute_and_no_more() {
        let mut table = InvalidKeys::default();
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        for _ in 0..PER_MINUTE_MAX {
            assert_eq!(table.count(address, NOW), 0);
        }
        assert_eq!(table.count(neighbour, NOW), 60, "same /64");
        let soon = Timestamp::from_micros(NOW.as_micros() + 1_500_000);
        assert_eq!(table.count(neighbour, soon), 59);
        assert_eq!(table.count("2001:db8:0:1::1".parse().unwrap(), NOW), 0);
        let later = Timestamp::from_micros(NOW.as_micros() + MINUTE_MICROS);
        assert_eq!(table.count(address, later), 0);
        for index in 0..NETWORKS_MAX as u32 + 10 {
            table.count(IpAddr::V4(index.into()), NOW);
        }
        assert!(table.0.len() <= NETWORKS_MAX);
    }
}
