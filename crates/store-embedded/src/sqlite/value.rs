//! A value that is kept apart, as its row has it: the text as it was given, or packed where that
//! saves room; and what tells it from others without reading it.
//!
//! Values are packed when they are folded, so that nobody who waits for a commit pays for it. LZ4,
//! for it is fast, and in safe Rust: what is unpacked may be damaged.

use std::borrow::Cow;
use std::sync::Arc;

use dalsegno_core::Payload;
use dalsegno_core::store::PayloadDigest;
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use sha2::{Digest, Sha256};

/// Values below this are stored as they are.
const PACKED_FROM_BYTES: usize = 4 * 1024;

/// A packed value takes at most this share of the text, in eighths; else it is stored as it is.
const PACKED_EIGHTHS_MAX: usize = 7;

/// LZ4 makes no more of a byte than this many. What claims to be longer is damaged, and is not
/// given the memory.
const UNPACKED_PER_BYTE_MAX: u64 = 255;

/// Length and hash of a value.
pub(crate) fn digest_of(value: &str) -> PayloadDigest {
    PayloadDigest {
        bytes: value.len() as u64,
        sha256: Sha256::digest(value.as_bytes()).into(),
    }
}

/// Text or packed bytes; the column's type says which.
#[derive(Debug, PartialEq)]
pub(crate) enum Stored<'a> {
    /// As it is in the row; whether it is UTF-8 is found out when it is read.
    Text(&'a [u8]),
    Packed(Cow<'a, [u8]>),
}

impl<'a> Stored<'a> {
    pub(crate) fn pack(value: &'a str) -> Self {
        if value.len() < PACKED_FROM_BYTES {
            return Self::Text(value.as_bytes());
        }
        let packed = lz4_flex::block::compress(value.as_bytes());
        match packed.len() <= value.len() / 8 * PACKED_EIGHTHS_MAX {
            true => Self::Packed(packed.into()),
            false => Self::Text(value.as_bytes()),
        }
    }

    /// What a column holds.
    pub(crate) fn of_column(column: ValueRef<'a>) -> rusqlite::Result<Self> {
        Ok(match column {
            ValueRef::Blob(bytes) => Self::Packed(bytes.into()),
            text => Self::Text(text.as_bytes()?),
        })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            Self::Packed(bytes) => bytes,
        }
    }

    /// The value, if it is the one of this digest. Rows of an earlier format have none.
    pub(crate) fn unpack(&self, digest: Option<&PayloadDigest>) -> Result<Payload, &'static str> {
        let text: Arc<str> = match (self, digest) {
            (Self::Text(text), _) => str::from_utf8(text).map_err(|_| "is not text")?.into(),
            (Self::Packed(bytes), Some(digest)) => Self::unpacked(bytes, digest.bytes)?.into(),
            (Self::Packed(_), None) => return Err("is packed and has no length"),
        };
        match digest {
            Some(digest) if digest_of(&text) != *digest => Err("is not the one that was written"),
            _ => Ok(Payload::from_json(text)),
        }
    }

    fn unpacked(bytes: &[u8], length: u64) -> Result<String, &'static str> {
        if length > UNPACKED_PER_BYTE_MAX * bytes.len() as u64 {
            return Err("claims to be longer than it can be");
        }
        let mut text = vec![0; length as usize];
        match lz4_flex::block::decompress_into(bytes, &mut text) {
            Ok(written) if written == text.len() => {
                String::from_utf8(text).map_err(|_| "is not text when unpacked")
            }
            _ => Err("cannot be unpacked"),
        }
    }
}

impl ToSql for Stored<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text)),
            Self::Packed(Cow::Borrowed(bytes)) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Self::Packed(Cow::Owned(bytes)) => ToSqlOutput::Owned(Value::Blob(bytes.clone())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated() -> String {
        format!("[{}1]", "{\"name\":\"value\",\"number\":17},".repeat(1000))
    }

    #[test]
    fn what_repeats_itself_is_packed_and_comes_back() {
        let value = repeated();
        let stored = Stored::pack(&value);
        assert!(matches!(stored, Stored::Packed(_)));
        assert!(stored.as_bytes().len() < value.len() / 8);
        let digest = digest_of(&value);
        assert_eq!(stored.unpack(Some(&digest)), Ok(value.as_str().into()));
    }

    #[test]
    fn what_is_short_or_saves_little_is_stored_as_it_is() {
        let mut number = 1_u64;
        let noise = std::iter::repeat_with(|| {
            number = number
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            char::from(b' ' + (number >> 57) as u8 % 95)
        });
        let noise: String = noise.take(50_000).collect();
        for value in ["\"short\"", &noise] {
            assert_eq!(Stored::pack(value), Stored::Text(value.as_bytes()));
        }
    }

    #[test]
    fn damage_is_told_and_takes_no_memory() {
        let value = repeated();
        let digest = digest_of(&value);
        let packed = Stored::pack(&value).as_bytes().to_vec();
        let unpack = |bytes: &[u8], digest: PayloadDigest| {
            Stored::Packed(bytes.into()).unpack(Some(&digest)).unwrap_err()
        };
        let bomb = PayloadDigest {
            bytes: 1 << 40,
            ..digest
        };
        assert_eq!(unpack(&packed, bomb), "claims to be longer than it can be");
        for bytes in [digest.bytes - 1, digest.bytes + 1] {
            assert_eq!(
                unpack(&packed, PayloadDigest { bytes, ..digest }),
                "cannot be unpacked"
            );
        }
        let other = PayloadDigest {
            sha256: [0; 32],
            ..digest
        };
        assert_eq!(unpack(&packed, other), "is not the one that was written");
        for at in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 1;
            // What repeats itself may be copied from another place and be the same.
            if let Ok(read) = Stored::Packed(damaged.into()).unpack(Some(&digest)) {
                assert!(read.as_str() == value, "damaged at {at}");
            }
        }
        assert_eq!(
            Stored::Text(b"1").unpack(Some(&digest)),
            Err("is not the one that was written")
        );
    }
}
