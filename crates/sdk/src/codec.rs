//! Values to JSON and back. `null` travels as an absent payload.

use dalsegno_core::Payload;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value as payload; `None` for what is JSON `null`.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Option<Payload>, serde_json::Error> {
    let text = serde_json::to_string(value)?;
    Ok((text != "null").then(|| Payload::from_json(text)))
}

/// A payload as value. The empty text is nothing, too: JavaScript sends it for `undefined`.
pub(crate) fn decode<T: DeserializeOwned>(payload: Option<&Payload>) -> Result<T, serde_json::Error> {
    let text = payload.map_or("", Payload::as_str);
    serde_json::from_str(if text.is_empty() { "null" } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_absent_null_or_the_empty_text() {
        for payload in [None, Some("null"), Some("")] {
            let payload = payload.map(Payload::from);
            assert_eq!(
                decode::<Option<u32>>(payload.as_ref()).ok(),
                Some(None),
                "{payload:?}"
            );
            assert!(decode::<u32>(payload.as_ref()).is_err(), "{payload:?}");
        }
    }
}
