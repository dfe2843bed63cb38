//! Lists of instances, page by page, and the filters that purges share.

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use dalsegno_core::query::{InstancePage, InstanceQuery, LargeValues, Status};

use super::body::json;
use super::page_token;
use super::problem::Problem;
use super::query::{Query, invalid};
use super::request::Call;
use super::wire::{StatusWire, to_json};
use crate::nearest::nearest;

/// Rows on a page when `top` is not given.
pub(crate) const PAGE_ROWS: usize = 100;

/// The names clients know. The last two are of instances that we do not have.
const NAMES: [(&str, Option<Status>); 8] = [
    ("Running", Some(Status::Running)),
    ("Completed", Some(Status::Completed)),
    ("Failed", Some(Status::Failed)),
    ("Terminated", Some(Status::Terminated)),
    ("Pending", Some(Status::Pending)),
    ("Suspended", Some(Status::Suspended)),
    ("ContinuedAsNew", None),
    ("Canceled", Some(Status::Canceled)),
];

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let query = call.query()?;
    let show_input = query.boolean("showInput", true)?;
    let limit = query.integer("top", PAGE_ROWS, call.state.settings.page_max)?;
    let (created_from, created_to) = query.span("createdTimeFrom", "createdTimeTo")?;
    let statuses = statuses(&query, "runtimeStatus")?;
    let large = match show_input {
        true => LargeValues::Read,
        false => LargeValues::LeaveOutInputs,
    };
    let mut filter = InstanceQuery {
        statuses: statuses.clone().unwrap_or_default(),
        created_from,
        created_to,
        id_prefix: id_prefix(&query, "instanceIdPrefix")?,
        limit,
        large,
        ..InstanceQuery::default()
    };
    if let Some(token) = token(&call)? {
        filter.after = Some(page_token::to_instances(call.hub().name(), &filter, token)?);
    }
    let page = if statuses.is_some_and(|statuses| statuses.is_empty()) {
        InstancePage::default()
    } else {
        call.hub().list(filter.clone()).await?
    };
    let rows: Vec<StatusWire<'_>> = page
        .rows
        .iter()
        .map(|row| StatusWire::of(row, show_input))
        .collect();
    let next = page
        .next
        .map(|cursor| page_token::of_instances(call.hub().name(), &filter, &cursor));
    Ok(page_of(to_json(&rows), next))
}

/// A page and the token after it; an empty one says that there is no more.
pub(super) fn page_of(body: String, next: Option<String>) -> Response {
    let mut response = json(StatusCode::OK, body);
    let token = next.and_then(|token| HeaderValue::from_str(&token).ok());
    response
        .headers_mut()
        .insert(page_token::HEADER, token.unwrap_or(HeaderValue::from_static("")));
    response
}

/// The token that was sent; an empty one is none.
pub(super) fn token(call: &Call) -> Result<Option<&str>, Problem> {
    Ok(call.header(page_token::HEADER)?.filter(|token| !token.is_empty()))
}

/// The start of ids; entities are not in this list.
pub(crate) fn id_prefix(query: &Query, name: &'static str) -> Result<Option<String>, Problem> {
    match query.text(name) {
        Some(prefix) if prefix.starts_with('@') => Err(invalid(
            name,
            prefix,
            "the start of an instance id: entities are listed under /entities",
        )),
        Some("") | None => Ok(None),
        Some(prefix) => Ok(Some(prefix.to_owned())),
    }
}

/// Statuses by name: none given is `None`; given but of instances that we do not have, an empty list.
pub(crate) fn statuses(query: &Query, name: &'static str) -> Result<Option<Vec<Status>>, Problem> {
    let mut found = None;
    for word in query.texts(name).flat_map(|text| text.split(',')) {
        let word = word.trim();
        let (_, status) = NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(word))
            .ok_or_else(|| unknown_status(name, word))?;
        let list: &mut Vec<Status> = found.get_or_insert_default();
        list.extend(status.filter(|status| !list.contains(status)));
    }
    Ok(found)
}

fn unknown_status(name: &str, word: &str) -> Problem {
    let names = NAMES.map(|(known, _)| known);
    let problem = invalid(name, word, &names.join(", "));
    match nearest(word, names) {
        Some(near) => problem.saying(format!("there is no status of that name: did you mean {near}?")),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_separated_by_commas_or_repeated() {
        for (raw, wanted) in [
            ("", Ok(None)),
            (
                "runtimeStatus=failed,COMPLETED&runtimeStatus=Pending",
                Ok(Some(vec![Status::Failed, Status::Completed, Status::Pending])),
            ),
            ("runtimeStatus=Failed,Failed", Ok(Some(vec![Status::Failed]))),
            ("runtimeStatus=ContinuedAsNew", Ok(Some(vec![]))),
            (
                "runtimeStatus=Canceled&runtimeStatus=ContinuedAsNew",
                Ok(Some(vec![Status::Canceled])),
            ),
            ("runtimeStatus=Faild", Err("invalid_parameter")),
            ("runtimeStatus=Failed,", Err("invalid_parameter")),
        ] {
            let query = Query::parse(Some(raw), &["runtimeStatus"]).unwrap();
            assert_eq!(
                statuses(&query, "runtimeStatus").map_err(|problem| problem.code),
                wanted,
                "{raw}"
            );
        }
    }

    #[test]
    fn a_prefix_of_entities_is_refused() {
        let prefix = |raw| {
            id_prefix(
                &Query::parse(Some(raw), &["instanceIdPrefix"]).unwrap(),
                "instanceIdPrefix",
            )
        };
        assert_eq!(prefix("instanceIdPrefix=Order-"), Ok(Some("Order-".into())));
        assert_eq!(prefix("instanceIdPrefix="), Ok(None));
        assert!(prefix("instanceIdPrefix=@counter").is_err());
    }
}
