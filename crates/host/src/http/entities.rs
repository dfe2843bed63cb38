//! Entities: states, lists, signals.

use axum::http::StatusCode;
use axum::response::Response;
use dalsegno_core::Payload;
use dalsegno_core::query::{EntityQuery, LargeValues};
use dalsegno_engine::request::Signal;

use super::body::{self, empty, json};
use super::list::{PAGE_ROWS, page_of, token};
use super::page_token;
use super::problem::Problem;
use super::request::{Call, entity_id};
use super::wire::{self, EntityWire, to_json};

pub(super) async fn show(call: Call, name: String, key: String) -> Result<Response, Problem> {
    let id = entity_id(&name, &key)?;
    call.query()?;
    call.check_entity_name(&name)?;
    let state = call
        .hub()
        .entity(&id)
        .await?
        .and_then(|row| row.state)
        .ok_or_else(Problem::not_found)?;
    Ok(json(StatusCode::OK, wire::raw(Some(&state)).get().to_owned()))
}

pub(super) async fn list(call: Call, name: Option<String>) -> Result<Response, Problem> {
    let query = call.query()?;
    let fetch_state = query.boolean("fetchState", false)?;
    let limit = query.integer("top", PAGE_ROWS, call.state.settings.page_max)?;
    let (from, to) = query.span("lastOperationTimeFrom", "lastOperationTimeTo")?;
    if let Some(name) = &name {
        entity_id(name, "")?;
        call.check_entity_name(name)?;
    }
    let mut filter = EntityQuery {
        name: name.map(|name| name.to_lowercase()),
        from,
        to,
        limit,
        after: None,
        large: match fetch_state {
            true => LargeValues::Read,
            false => LargeValues::LeaveOut,
        },
    };
    if let Some(token) = token(&call)? {
        filter.after = Some(page_token::to_entities(call.hub().name(), &filter, token)?);
    }
    let page = call.hub().list_entities(filter.clone()).await?;
    let rows: Vec<EntityWire<'_>> = page
        .rows
        .iter()
        .map(|row| EntityWire::of(row, fetch_state))
        .collect();
    let next = page
        .next
        .map(|last| page_token::of_entities(call.hub().name(), &filter, &last));
    Ok(page_of(to_json(&rows), next))
}

pub(super) async fn signal(mut call: Call, name: String, key: String) -> Result<Response, Problem> {
    let id = entity_id(&name, &key)?;
    let query = call.query()?;
    let operation = query.text("op").unwrap_or_default().to_owned();
    let body = call.body().await?;
    let input = if body::is_json(&call.parts.headers) {
        body::payload(&body)?
    } else {
        text_payload(&body)?
    };
    call.check_entity_name(&name)?;
    let signal = Signal {
        trace: call.trace(),
        ..Signal::new(operation, input)
    };
    call.hub().signal_entity(&id, signal).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// What is not announced as JSON is text.
fn text_payload(bytes: &[u8]) -> Result<Option<Payload>, Problem> {
    let text = body::text(bytes)?;
    Ok((!text.is_empty()).then(|| Payload::from_json(wire::string(text).get())))
}

pub(super) async fn delete(call: Call, name: String, key: String) -> Result<Response, Problem> {
    let id = entity_id(&name, &key)?;
    call.query()?;
    call.check_entity_name(&name)?;
    let signal = Signal {
        trace: call.trace(),
        ..Signal::new("delete", None)
    };
    call.hub().signal_entity(&id, signal).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_a_json_string() {
        assert_eq!(text_payload(b"say \"5\""), Ok(Some(r#""say \"5\"""#.into())));
        assert_eq!(text_payload(b"{\"a\":1"), Ok(Some(r#""{\"a\":1""#.into())));
        assert_eq!(text_payload(b""), Ok(None));
        assert_eq!(text_payload(b"\xFF").unwrap_err().code, "invalid_utf8");
    }
}
