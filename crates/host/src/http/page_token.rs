//! Where a page ended, as an opaque text.
//!
//! Holds a version, a hash of the filters, the last key and a checksum. It grants nothing: who
//! makes one up can only ask for a page he may ask for anyway.

use dalsegno_core::query::{EntityQuery, InstanceCursor, InstanceQuery, LargeValues};
use dalsegno_core::{EntityId, InstanceId, Timestamp};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::keys::{hex, unhex_bytes};

const VERSION: u8 = 1;
const SUM_BYTES: usize = 8;

/// The header of both directions.
pub(crate) const HEADER: &str = "x-ms-continuation-token";

/// The token after which an instance page goes on.
pub(crate) fn of_instances(hub: &str, query: &InstanceQuery, cursor: &InstanceCursor) -> String {
    let mut key = cursor.created.as_micros().to_be_bytes().to_vec();
    key.extend_from_slice(cursor.id.as_str().as_bytes());
    seal(filter_sum(&instance_filter(hub, query)), &key)
}

/// Reads it back for the same filters.
pub(crate) fn to_instances(hub: &str, query: &InstanceQuery, token: &str) -> Result<InstanceCursor, Problem> {
    let key = open(filter_sum(&instance_filter(hub, query)), token)?;
    let (created, id) = key.split_first_chunk().ok_or_else(altered)?;
    Ok(InstanceCursor {
        created: Timestamp::from_micros(i64::from_be_bytes(*created)),
        id: InstanceId::trusted(std::str::from_utf8(id).map_err(|_| altered())?),
    })
}

/// The token after which an entity page goes on.
pub(crate) fn of_entities(hub: &str, query: &EntityQuery, last: &EntityId) -> String {
    seal(
        filter_sum(&entity_filter(hub, query)),
        last.to_string().as_bytes(),
    )
}

/// Reads it back for the same filters.
pub(crate) fn to_entities(hub: &str, query: &EntityQuery, token: &str) -> Result<EntityId, Problem> {
    let key = open(filter_sum(&entity_filter(hub, query)), token)?;
    let text = std::str::from_utf8(&key).map_err(|_| altered())?;
    EntityId::parse(text).map_err(|_| altered())
}

/// Everything that filters, nothing that pages.
fn instance_filter(hub: &str, query: &InstanceQuery) -> String {
    let filter = InstanceQuery {
        limit: 0,
        after: None,
        large: LargeValues::default(),
        ..query.clone()
    };
    format!("{hub:?} {filter:?}")
}

fn entity_filter(hub: &str, query: &EntityQuery) -> String {
    let filter = EntityQuery {
        limit: 0,
        after: None,
        large: LargeValues::default(),
        ..query.clone()
    };
    format!("{hub:?} {filter:?}")
}

fn filter_sum(filter: &str) -> [u8; SUM_BYTES] {
    sum(filter.as_bytes())
}

fn sum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    *Sha256::digest(bytes).first_chunk().expect("SHA-256 has 32 bytes")
}

fn seal(filter: [u8; SUM_BYTES], key: &[u8]) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&filter);
    bytes.extend_from_slice(key);
    let check = sum(&bytes);
    bytes.extend_from_slice(&check);
    hex(&bytes)
}

fn open(filter: [u8; SUM_BYTES], token: &str) -> Result<Vec<u8>, Problem> {
    let bytes = unhex_bytes(token).ok_or_else(altered)?;
    let (content, check) = bytes.split_last_chunk::<SUM_BYTES>().ok_or_else(altered)?;
    if *check != sum(content) {
        return Err(altered());
    }
    match content
        .strip_prefix(&[VERSION])
        .and_then(|rest| rest.split_first_chunk())
    {
        Some((used, key)) if *used == filter => Ok(key.to_vec()),
        Some(_) => Err(invalid(
            "the token belongs to other filters: repeat the query as it was",
        )),
        None => Err(invalid("the token is of another version: begin from the start")),
    }
}

fn altered() -> Problem {
    invalid("the token is not one of ours: send the header back as it came")
}

fn invalid(detail: &str) -> Problem {
    Problem::bad_request("invalid_token", detail).param(HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_with_its_filters_only() {
        let query = InstanceQuery {
            id_prefix: Some("a".into()),
            limit: 10,
            ..InstanceQuery::default()
        };
        let cursor = InstanceCursor {
            created: Timestamp::from_micros(-5),
            id: InstanceId::trusted("a-ü"),
        };
        let token = of_instances("default", &query, &cursor);
        let other_page = InstanceQuery {
            limit: 99,
            after: Some(cursor.clone()),
            ..query.clone()
        };
        assert_eq!(to_instances("default", &other_page, &token), Ok(cursor));

        let other_filter = InstanceQuery {
            id_prefix: Some("b".into()),
            ..query.clone()
        };
        assert!(to_instances("default", &other_filter, &token).is_err());
        assert!(to_instances("other", &query, &token).is_err());
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(
                to_instances("default", &query, &altered).unwrap_err().code,
                "invalid_token"
            );
        }
        for token in ["", "zz", "00", "ä", "0102"] {
            assert_eq!(
                to_instances("default", &query, token).unwrap_err().code,
                "invalid_token"
            );
        }
    }

    #[test]
    fn entity_tokens_too() {
        let query = EntityQuery {
            name: Some("counter".into()),
            ..EntityQuery::default()
        };
        let last = EntityId::new("counter", "").unwrap();
        let token = of_entities("default", &query, &last);
        assert_eq!(to_entities("default", &query, &token), Ok(last));
        assert!(to_entities("default", &EntityQuery::default(), &token).is_err());
    }
}
