//! Values to JSON and back. `null` travels as an absent payload.

use dalsegno_core::Payload;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value as payload; `None` for what is JSON `null`.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Option<Payload>, serde_json::Error> {
    let text = serde_json::to_string(value)?;
    Ok((text != "null").then(|| Payload::from_json(text)))
}

/// A payload as value.
pub(crate) fn decode<T: DeserializeOwned>(payload: Option<&Payload>) -> Result<T, serde_json::Error> {
    serde_json::from_str(payload.map_or("null", Payload::as_str))
}
