//! Random names.

/// 32 lower-case hexadecimal digits.
pub(crate) fn hex() -> String {
    bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// In the form of a GUID, version 4.
pub(crate) fn new() -> String {
    let mut bytes = bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

fn bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without a source of randomness no process comes as far as here.
    let _ = getrandom::fill(&mut bytes);
    bytes
}
