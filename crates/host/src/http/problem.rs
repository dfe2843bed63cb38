//! Refusals, as `application/problem+json`.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use dalsegno_engine::request::{RequestError, RequestErrorKind};
use serde::{Deserialize, Serialize};

use crate::error_codes::error_code;

/// Seconds after which a refused client may try again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The refusals with 403 that say why in a body: not the key refuses, but how the host is set up or
/// which hub the caller named.
const SAY_WHY: [&str; 3] = ["read_only", "forwarded_without_keys", "key_of_another_hub"];

/// A refusal: what, where, what to do. Boxed, because every answer has room for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem(Box<Parts>);

/// What a refusal tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    pub(crate) param: Option<String>,
    pub(crate) got: Option<String>,
    pub(crate) expected: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) place: Place,
    pub(crate) retry_after_seconds: u32,
}

/// Where in a request a value stands that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Query,
    Header,
    Body,
}

impl std::ops::Deref for Problem {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Which refusals say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bodies {
    /// 401, 403, 404 and 410 are empty: the management API.
    Classic,
    /// Only 401 and 403 are.
    Full,
}

/// The members, in order.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct ProblemWire<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[schemars(extend("enum" = crate::openapi::schemas::error_codes()))]
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    got: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// Functions clients show these two to people.
    #[serde(rename = "Message")]
    message: &'a str,
    #[serde(rename = "ExceptionMessage")]
    exception_message: &'a str,
}

/// What a client reads back.
#[derive(Debug, Deserialize)]
pub(crate) struct ProblemRead {
    pub(crate) code: String,
    pub(crate) detail: String,
    #[serde(default)]
    pub(crate) id: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            code,
            detail: detail.into(),
            param: None,
            got: None,
            expected: None,
            id: None,
            place: Place::Query,
            retry_after_seconds: RETRY_AFTER_SECONDS,
        }))
    }

    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// No such route, or no such instance.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "nothing is found here")
    }

    #[must_use]
    pub(crate) fn param(mut self, param: impl Into<String>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    /// What was given, cut: it may be a megabyte.
    #[must_use]
    pub(crate) fn got(mut self, got: &str) -> Self {
        const SHOWN_CHARS_MAX: usize = 200;
        let mut shown: String = got.chars().take(SHOWN_CHARS_MAX).collect();
        if shown.len() < got.len() {
            shown.push('…');
        }
        self.0.got = Some(shown);
        self
    }

    #[must_use]
    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.0.expected = Some(expected.into());
        self
    }

    #[must_use]
    pub(crate) fn about(mut self, id: impl std::fmt::Display) -> Self {
        self.0.id = Some(id.to_string());
        self
    }

    /// Says where the value stands.
    #[must_use]
    pub(crate) fn at(mut self, place: Place) -> Self {
        self.0.place = place;
        self
    }

    /// Says when it is of use to try again.
    #[must_use]
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_seconds = seconds;
        self
    }

    /// The same with another text.
    #[must_use]
    pub(crate) fn saying(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = detail.into();
        self
    }

    pub(crate) fn into_response(self, bodies: Bodies) -> Response<Body> {
        let silent = is_silent(self.status.as_u16(), bodies) && !SAY_WHY.contains(&self.code);
        let mut response = Response::new(if silent {
            Body::empty()
        } else {
            Body::from(self.to_json())
        });
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if !silent {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/problem+json"),
            );
        }
        if matches!(self.status.as_u16(), 429 | 503) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_seconds));
        }
        response
    }

    pub(crate) fn to_json(&self) -> String {
        let title = title(self.code, self.place);
        serde_json::to_string(&ProblemWire {
            r#type: format!("urn:dalsegno:problem:{}", self.code),
            title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            param: self.param.as_deref(),
            got: self.got.as_deref(),
            expected: self.expected.as_deref(),
            id: self.id.as_deref(),
            message: title,
            exception_message: &self.detail,
        })
        .expect("strings and a number are always JSON")
    }
}

/// Whether refusals of this status have empty bodies.
pub(crate) fn is_silent(status: u16, bodies: Bodies) -> bool {
    match bodies {
        Bodies::Classic => matches!(status, 401 | 403 | 404 | 410),
        Bodies::Full => matches!(status, 401 | 403),
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let mut problem = Self::new(status(error.kind), error.code, error.detail);
        problem.0.id = error.id;
        problem
    }
}

fn status(kind: RequestErrorKind) -> StatusCode {
    use RequestErrorKind as Kind;
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::OrchestratorNotFound | Kind::EntityNotFound | Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::InstanceExists
        | Kind::InstanceRunning
        | Kind::WrongState
        | Kind::IdempotencyConflict
        | Kind::EventIdReused => StatusCode::CONFLICT,
        Kind::Finished => StatusCode::GONE,
        Kind::OverLimit => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
        Kind::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
        Kind::TimedOut => StatusCode::REQUEST_TIMEOUT,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Unauthorized => StatusCode::FORBIDDEN,
        Kind::Unreachable => StatusCode::BAD_GATEWAY,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// One sentence per code and place.
fn title(code: &str, place: Place) -> &'static str {
    match (code, place) {
        ("repeated_parameter", Place::Header) => "A header is given twice.",
        ("invalid_parameter", Place::Header) => "A header cannot be read.",
        ("invalid_parameter", Place::Body) => "A member of the body cannot be read.",
        ("missing_parameter", Place::Body) => "A member of the body is missing.",
        _ => title_of(code),
    }
}

fn title_of(code: &str) -> &'static str {
    match error_code(code) {
        Some(entry) => entry.title,
        None => "The request was refused.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_their_order_and_what_does_not_apply_is_left_out() {
        let problem = Problem::bad_request(
            "unknown_parameter",
            "showHistry is unknown: did you mean showHistory?",
        )
        .param("showHistry");
        expect_test::expect![[r#"{"type":"urn:dalsegno:problem:unknown_parameter","title":"A query parameter is unknown.","status":400,"detail":"showHistry is unknown: did you mean showHistory?","code":"unknown_parameter","param":"showHistry","Message":"A query parameter is unknown.","ExceptionMessage":"showHistry is unknown: did you mean showHistory?"}"#]]
        .assert_eq(&problem.to_json());
    }

    #[test]
    fn busy_and_unavailable_say_when_to_come_again() {
        for kind in [RequestErrorKind::Busy, RequestErrorKind::Unavailable] {
            let response = Problem::from(RequestError::new(kind, "later")).into_response(Bodies::Classic);
            assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        }
    }

    #[test]
    fn four_statuses_are_silent_in_the_management_api() {
        use axum::body::HttpBody;
        for (status, classic, full) in [
            (401, true, true),
            (403, true, true),
            (404, true, false),
            (410, true, false),
            (409, false, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let empty = |bodies| {
                Problem::new(status, "x", "y")
                    .into_response(bodies)
                    .body()
                    .is_end_stream()
            };
            assert_eq!(
                (empty(Bodies::Classic), empty(Bodies::Full)),
                (classic, full),
                "{status}"
            );
        }
    }
}
