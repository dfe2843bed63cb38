//! Bodies: read within limits, checked to be JSON, passed on as they are.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use dalsegno_core::Payload;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::value::RawValue;

use super::problem::Problem;

/// Deepest nesting of JSON that is taken, as in most parsers.
pub(crate) const JSON_DEPTH_MAX: usize = 128;

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    response
}

/// An answer without body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Reads a whole body; one that says it is too large is refused before reading.
pub(crate) async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    check_encoding(headers)?;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    match Limited::new(body, bytes_max).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(bytes_max)),
        Err(_) => Err(Problem::bad_request(
            "invalid_body",
            "the body ended before its announced length",
        )),
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let encodings = headers.get_all(header::CONTENT_ENCODING);
    match encodings
        .iter()
        .find(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        None => Ok(()),
        Some(encoding) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unknown_encoding",
            "bodies are taken without Content-Encoding only: send it plain",
        )
        .got(&String::from_utf8_lossy(encoding.as_bytes()))),
    }
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!(
            "the body is larger than http.body_bytes_max, which is {bytes_max}: store it elsewhere and pass a reference"
        ),
    )
}

/// One JSON value, or nothing.
pub(crate) fn payload(bytes: &[u8]) -> Result<Option<Payload>, Problem> {
    let text = text(bytes)?;
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    check_depth(text)?;
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => Ok(Some(Payload::from_json(raw.get()))),
        Err(error) => Err(not_json(&error)),
    }
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        Problem::bad_request(
            "invalid_utf8",
            format!("the body is not UTF-8 from byte {} on", error.valid_up_to() + 1),
        )
    })
}

/// A body of our own API: unknown and repeated members are refused.
pub(crate) fn ours<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = text(bytes)?;
    check_depth(text)?;
    // A list would pass for the members in their order.
    if text.trim_ascii_start().starts_with('[') {
        return Err(Problem::bad_request(
            "invalid_body",
            "the body is a list: write an object, like {}",
        ));
    }
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            let problem = match no_object(text) {
                Some(kind) => format!("the body is {kind}: write an object, like {{}}"),
                None => format!("the body does not fit: {}", without_types(&error.to_string())),
            };
            Problem::bad_request("invalid_body", problem)
        }
        _ => not_json(&error).expected("one JSON object"),
    })
}

/// What a JSON value is that is no object.
fn no_object(text: &str) -> Option<&'static str> {
    Some(match text.trim_ascii_start().as_bytes().first()? {
        b'{' => return None,
        b'"' => "a text",
        b'n' => "null",
        b't' | b'f' => "true or false",
        _ => "a number",
    })
}

/// Names of our types say nothing to who wrote the body.
fn without_types(text: &str) -> String {
    let Some((before, after)) = text.split_once("expected struct ") else {
        return text.to_owned();
    };
    let rest = after.trim_start_matches(|letter: char| letter.is_alphanumeric());
    format!("{before}expected an object{rest}")
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::bad_request("invalid_json", format!("the body is not JSON: {error}"))
        .got(&format!("line {} column {}", error.line(), error.column()))
        .expected("one JSON value, or an empty body")
}

/// Looks at brackets outside of strings only; whether they fit is the parser's affair.
fn check_depth(text: &str) -> Result<(), Problem> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return Err(Problem::bad_request(
                "too_deep",
                format!("the JSON is nested deeper than {JSON_DEPTH_MAX} levels: flatten it"),
            ));
        }
    }
    Ok(())
}

/// Is the content type `application/json`, whatever its parameters?
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_pass_as_they_are_and_anything_else_is_refused() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        for (body, wanted) in [
            (&b""[..], Ok(None)),
            (b" \r\n", Ok(None)),
            (b"null", Ok(Some("null"))),
            (
                b" {\"b\":1.10, \"a\":1e3,\"a\":2}\n",
                Ok(Some("{\"b\":1.10, \"a\":1e3,\"a\":2}")),
            ),
            (br#""\ud800""#, Ok(Some(r#""\ud800""#))),
            (b"{\"a\":1,}", Err("invalid_json")),
            (b"NaN", Err("invalid_json")),
            (b"1 2", Err("invalid_json")),
            (b"\xEF\xBB\xBF1", Err("invalid_json")),
            (b"\"\xFF\"", Err("invalid_utf8")),
            (deep(128).as_bytes(), Ok(Some(deep(128).as_str()))),
            (deep(129).as_bytes(), Err("too_deep")),
            ("[".repeat(100_000).as_bytes(), Err("too_deep")),
            (
                format!("\"{}\\\"[\"", "[".repeat(200)).as_bytes(),
                Ok(Some(format!("\"{}\\\"[\"", "[".repeat(200)).as_str())),
            ),
        ] {
            let got = payload(body).map_err(|problem| problem.code);
            assert_eq!(
                got,
                wanted.map(|text| text.map(Payload::from)),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        let problem = payload(b"{\n \"a\":1,}").unwrap_err();
        assert_eq!(problem.got.as_deref(), Some("line 2 column 8"));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_announced_or_not() {
        let mut headers = HeaderMap::new();
        let read_ten = |headers: HeaderMap, body: &'static str| async move {
            read(&headers, Body::from(body), 10)
                .await
                .map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(
            read_ten(headers.clone(), "0123456789").await,
            Ok(Bytes::from("0123456789"))
        );
        assert_eq!(read_ten(headers.clone(), "0123456789a").await, Err(413));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("99"));
        assert_eq!(read_ten(headers.clone(), "").await, Err(413));
        headers.clear();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(read_ten(headers, "1").await, Err(415));
    }
}
