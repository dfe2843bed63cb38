//! The keys in links: capabilities for one operation on one instance.
//!
//! The host does not store a link key. It is a MAC, made with the link secret of the key file, over
//! the hub, the operation, the instance id, the time of issue and the expiry. The time of issue
//! binds it to the instance that had the id at that time: [`VerifiedLink::covers`] refuses an
//! instance that was created later under the same id.

use std::fmt;

use dalsegno_core::{InstanceId, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::keys::{hex, unhex};

/// What a link lets its holder do, with one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkOperation {
    /// Read the status.
    Status,
    /// Raise events.
    RaiseEvent,
    /// Terminate.
    Terminate,
    /// Delete.
    Purge,
    /// Start again.
    Restart,
    /// Suspend.
    Suspend,
    /// Resume.
    Resume,
    /// Rewind.
    Rewind,
}

impl LinkOperation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::RaiseEvent => "raiseEvent",
            Self::Terminate => "terminate",
            Self::Purge => "purge",
            Self::Restart => "restart",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Rewind => "rewind",
        }
    }
}

/// Begins every link key: `dsl2_<issued, microseconds, hex>_<expiry, seconds, hex>_<MAC, hex>`.
const PREFIX: &str = "dsl2_";
/// Links of versions before 0.2 have no time of issue: `dsl1_<expiry, seconds, hex>_<MAC, hex>`.
/// They stay valid until they expire.
const UNBOUND_PREFIX: &str = "dsl1_";

/// What a route asks of a link key: the operation on the instance of the hub.
#[derive(Clone, Copy, Debug)]
pub struct LinkTarget<'a> {
    /// The task hub.
    pub hub: &'a str,
    /// What the route does.
    pub operation: LinkOperation,
    /// The instance in the path.
    pub id: &'a InstanceId,
}

/// A link key whose MAC and expiry are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedLink {
    issued: Option<Timestamp>,
}

impl VerifiedLink {
    /// Whether the link was issued for the instance that was created then, not for an earlier one
    /// of the same id. Continue-as-new and rewind keep the time of creation.
    pub fn covers(&self, created: Timestamp) -> bool {
        self.issued.is_none_or(|issued| created <= issued)
    }
}

/// Signs and verifies link keys.
#[derive(Clone, Copy)]
pub struct LinkSigner([u8; 32]);

impl fmt::Debug for LinkSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSigner(***)")
    }
}

impl LinkSigner {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// Whether the text has the form of a link key. Says nothing about its MAC.
    pub fn is_link_key(code: &str) -> bool {
        code.starts_with(PREFIX) || code.starts_with(UNBOUND_PREFIX)
    }

    /// The link key for a target, issued now, until it expires.
    pub fn sign(&self, target: LinkTarget<'_>, issued: Timestamp, expires: Timestamp) -> String {
        let issued = format!("{:x}", issued.as_micros().max(0));
        let expires = format!("{:x}", expires.as_micros().max(0) / 1_000_000);
        let mac = hex(&self.mac(target, &[&issued, &expires]));
        format!("{PREFIX}{issued}_{expires}_{mac}")
    }

    /// Checks the MAC for the target, and the expiry. The caller checks that the link
    /// [covers](VerifiedLink::covers) the instance.
    pub fn verify(&self, code: &str, target: LinkTarget<'_>, now: Timestamp) -> Option<VerifiedLink> {
        let (issued, expires, mac) = match code.strip_prefix(PREFIX) {
            Some(rest) => {
                let (issued, rest) = rest.split_once('_')?;
                let (expires, mac) = rest.split_once('_')?;
                (Some(issued), expires, mac)
            }
            None => {
                let (expires, mac) = code.strip_prefix(UNBOUND_PREFIX)?.split_once('_')?;
                (None, expires, mac)
            }
        };
        let wanted = match issued {
            Some(issued) => self.mac(target, &[issued, expires]),
            None => self.mac(target, &[expires]),
        };
        if !bool::from(wanted.ct_eq(&unhex(mac)?)) {
            return None;
        }
        let is_current = now.as_micros() / 1_000_000 < i64::from_str_radix(expires, 16).ok()?;
        let issued = issued.map(|issued| i64::from_str_radix(issued, 16)).transpose();
        is_current.then_some(VerifiedLink {
            issued: issued.ok()?.map(Timestamp::from_micros),
        })
    }

    /// The length of each part comes first, so that no two tuples have the same bytes.
    fn mac(&self, target: LinkTarget<'_>, times: &[&str]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        let parts = [target.hub, target.operation.as_str(), target.id.as_str()];
        for part in parts.iter().chain(times) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyRing;

    const NOW: Timestamp = Timestamp::from_micros(1_772_357_400_000_000);
    const LATER: Timestamp = Timestamp::from_micros(1_772_357_500_000_000);

    fn target<'a>(hub: &'a str, operation: LinkOperation, id: &'a InstanceId) -> LinkTarget<'a> {
        LinkTarget { hub, operation, id }
    }

    #[test]
    fn a_link_key_is_valid_for_one_operation_on_one_instance_until_it_expires() {
        let signer = KeyRing::new().unwrap().link_signer();
        let (one, two) = (InstanceId::trusted("order-1"), InstanceId::trusted("order-2"));
        let own = target("default", LinkOperation::Status, &one);
        let code = signer.sign(own, NOW, LATER);
        assert!(signer.verify(&code, own, NOW).is_some());
        for (wrong, now) in [
            (target("other", LinkOperation::Status, &one), NOW),
            (target("default", LinkOperation::Terminate, &one), NOW),
            (target("default", LinkOperation::Status, &two), NOW),
            (own, LATER),
        ] {
            assert_eq!(signer.verify(&code, wrong, now), None, "{wrong:?} at {now:?}");
        }
        let (head, mac) = code.rsplit_once('_').unwrap();
        let (head, expires) = head.rsplit_once('_').unwrap();
        for forged in [
            format!("{head}_1{expires}_{mac}"),
            code.replacen("dsl2_", "dsl2_1", 1),
            format!("dsl1_{expires}_{mac}"),
            format!("{code}0"),
            "dsl2_".into(),
            "dsl1_x".into(),
            "dsl2_0_0_".into(),
        ] {
            assert_eq!(signer.verify(&forged, own, NOW), None, "{forged}");
        }
        let other = KeyRing::new().unwrap().link_signer();
        assert_eq!(other.verify(&code, own, NOW), None, "another secret");
    }

    #[test]
    fn a_link_does_not_cover_a_later_instance_of_the_same_id() {
        let signer = KeyRing::new().unwrap().link_signer();
        let id = InstanceId::trusted("order-1");
        let own = target("default", LinkOperation::Status, &id);
        let link = signer.verify(&signer.sign(own, NOW, LATER), own, NOW).unwrap();
        assert!(link.covers(NOW));
        assert!(!link.covers(Timestamp::from_micros(NOW.as_micros() + 1)));
    }

    #[test]
    fn a_link_of_the_version_before_stays_valid_until_it_expires() {
        let signer = KeyRing::new().unwrap().link_signer();
        let id = InstanceId::trusted("order-1");
        let own = target("default", LinkOperation::Status, &id);
        let expires = format!("{:x}", LATER.as_micros() / 1_000_000);
        let code = format!("dsl1_{expires}_{}", hex(&signer.mac(own, &[&expires])));
        let link = signer.verify(&code, own, NOW).unwrap();
        assert!(link.covers(LATER), "it has no time of issue");
        assert_eq!(signer.verify(&code, own, LATER), None);
    }
}
