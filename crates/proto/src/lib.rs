//! The stored records of dalsegno as protobuf messages, generated from `proto/`.
//!
//! Nothing else lives here. Who turns them into the values of the core is the engine's `record`.

/// The records that a hub keeps.
pub mod storage {
    include!(concat!(env!("OUT_DIR"), "/dalsegno.storage.rs"));
}
