//! FNV-1a: one small hash whose values are stored and so never change.
//!
//! Good for spreading ids and for telling a repeat from other data. It does not resist someone who
//! looks for collisions, so nothing that protects anything may rest on it.

/// Where a fold begins.
pub const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
/// Another beginning, for 64 more bits over the same bytes.
const FNV_BASIS_SECOND: u64 = 0x6c62_272e_07bb_0142;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// 64-bit FNV-1a over bytes, from a beginning such as [`FNV_BASIS`].
pub fn fnv1a(basis: u64, bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(basis, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
    })
}

/// 64 bits over several texts, each ended, so that `ab`, `c` is not `a`, `bc`.
pub fn fingerprint(parts: &[&str]) -> u64 {
    fnv1a(
        FNV_BASIS,
        parts.iter().flat_map(|part| part.bytes().chain([0xff])),
    )
}

/// 128 bits over a key that a client chose.
pub fn wide(key: &str) -> u128 {
    let half = |basis| u128::from(fnv1a(basis, key.bytes()));
    half(FNV_BASIS) << 64 | half(FNV_BASIS_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_those_of_the_published_algorithm() {
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv1a(FNV_BASIS, text.bytes()), hash, "{text}");
        }
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        assert_eq!(wide("a") >> 64, 0xaf63_dc4c_8601_ec8c);
    }
}
