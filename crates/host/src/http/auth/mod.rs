//! Who calls, and what the caller may do.
//!
//! Every request passes three steps, in this order, before a handler sees it:
//!
//! 1. [`Access`] authenticates it into one [`Principal`].
//! 2. The table of routes (`http/routes`, `v1/routes`) or of gRPC calls (`http/grpc_calls`) says what
//!    the route demands: scopes, the hub it is about, and whether a link opens it.
//! 3. `http/authorize` compares the two. Requests that do more than their route is for need a second
//!    scope, which the table names too: [`Call::query`](super::request::Call::query) demands those of
//!    flags, handlers those of bodies.
//!
//! A response that takes long ends when its [`Credential`] does.

mod access;
mod credential;
mod invalid_keys;
mod principal;

pub(crate) use access::KEY_HEADER;
pub use access::{Access, KeysInQuery};
pub(crate) use credential::{Credential, Ending, Revoked, UntilRevoked};
pub(crate) use invalid_keys::InvalidKeys;
pub(crate) use principal::{Principal, forbidden, unauthorized};

use std::net::IpAddr;

/// The network that one customer has: an address of IPv4, a /64 of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        address => address,
    }
}
