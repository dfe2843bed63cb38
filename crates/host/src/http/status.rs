//! The status of one instance.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use dalsegno_core::query::{LargeValues, Status};
use dalsegno_core::store::InstanceRow;

use super::body::json;
use super::history::{self, Shown};
use super::problem::Problem;
use super::query::Query;
use super::request::{Call, instance_id};
use super::wire::{StatusWire, to_json};

/// Seconds after which a client may look again.
const RETRY_AFTER_SECONDS: u32 = 5;

/// How a failed instance is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Ok,
    InternalServerError,
}

impl Failed {
    pub(super) fn read(query: &Query) -> Result<Self, Problem> {
        let loud = query.boolean("returnInternalServerErrorOnFailure", false)?;
        Ok(if loud { Self::InternalServerError } else { Self::Ok })
    }
}

pub(super) async fn show(call: Call, id: String) -> Result<Response, Problem> {
    let query = call.query()?;
    let show_input = query.boolean("showInput", true)?;
    let show_history = query.boolean("showHistory", false)?;
    let shown = Shown {
        input: show_input,
        output: query.boolean("showHistoryOutput", false)?,
    };
    let failed = Failed::read(&query)?;
    if id.starts_with('@') {
        return Err(Problem::not_found());
    }
    let id = instance_id(&id)?;
    let large = match show_input {
        true => LargeValues::Read,
        false => LargeValues::LeaveOutInputs,
    };
    let status = call.hub().status_with(&id, large).await?;
    let row = status.ok_or_else(Problem::not_found)?.row;
    let mut told = StatusWire::of(&row, show_input);
    if show_history && row.status != Status::Pending {
        let large = match shown.input || shown.output {
            true => LargeValues::Read,
            false => LargeValues::LeaveOut,
        };
        let events = call.hub().history_with(&id, large).await?;
        told = told.history(history::events(&id, &events, shown));
    }
    let mut response = json(code(row.status, failed), to_json(&told));
    if !row.status.is_final() {
        add_polling(&call, &mut response);
    }
    Ok(response)
}

/// A finished instance that was waited for.
pub(super) fn final_status(row: &InstanceRow, failed: Failed) -> Response {
    json(code(row.status, failed), to_json(&StatusWire::of(row, true)))
}

fn code(status: Status, failed: Failed) -> StatusCode {
    match status {
        Status::Pending | Status::Running | Status::Suspended => StatusCode::ACCEPTED,
        Status::Failed if failed == Failed::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
        Status::Completed | Status::Failed | Status::Terminated | Status::Canceled => StatusCode::OK,
    }
}

/// Where to look again: here, with the same query.
fn add_polling(call: &Call, response: &mut Response) {
    let path = call.parts.uri.path_and_query().map_or("", |path| path.as_str());
    if let Ok(location) = HeaderValue::from_str(&format!("{}{path}", call.links.origin)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_code() {
        for (status, quiet, loud) in [
            (Status::Pending, 202, 202),
            (Status::Running, 202, 202),
            (Status::Suspended, 202, 202),
            (Status::Completed, 200, 200),
            (Status::Failed, 200, 500),
            (Status::Terminated, 200, 200),
        ] {
            assert_eq!(code(status, Failed::Ok).as_u16(), quiet);
            assert_eq!(code(status, Failed::InternalServerError).as_u16(), loud);
        }
    }
}
