//! The changes of an instance as server-sent events.
//!
//! The id of each event is a place from which a reader goes on: after `Last-Event-ID`, as browsers
//! send it when they connect again, or after `?after=`. The body is read from the hub as fast as
//! the client takes it, so nothing collects for a slow one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use dalsegno_core::query::InstanceQuery;
use dalsegno_engine::TaskHub;
use dalsegno_engine::changes::{HubChange, HubChanges, RowChange};
use dalsegno_engine::hub::{Change, Watch, WatchEvent};
use dalsegno_engine::request::{RequestError, RequestErrorKind};
use dalsegno_engine::seen::Seen;
use futures::stream;
use serde::Serialize;
use tokio::sync::watch;

use super::event_wire::EventWire;
use super::instances::{large_values, parent, tags};
use super::wire::InstanceWire;
use crate::http::body::empty;
use crate::http::list::id_prefix;
use crate::http::problem::{Place, Problem};
use crate::http::query::invalid;
use crate::http::request::{Call, instance_id};
use crate::http::waits::WaitSlot;
use crate::http::wire::to_json;
use crate::keys::VerifiedLink;

/// How long a browser stays away after a break, in milliseconds.
const RETRY_MS: u32 = 1_000;

/// A header by which a browser says where it is.
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) async fn instance(call: Call, id: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    let query = call.query()?;
    let after = place(&call, query.text("after"))?;
    let large = large_values(&query)?;
    let slot = call.wait_slot()?;
    let watch = call.hub().watch(&id, after, large).await?;
    if watch.is_over() {
        // To a browser it means: do not come back.
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let source = Source::Instance(watch, call.link);
    Ok(streamed(Feed::new(source, &call, slot)))
}

/// The rows of all instances as they change. Begins with `reset`, which means: list now.
#[expect(clippy::unused_async, reason = "all routes are called alike")]
pub(super) async fn hub(call: Call) -> Result<Response, Problem> {
    let query = call.query()?;
    let (created_from, created_to) = query.span("createdFrom", "createdTo")?;
    let filter = InstanceQuery {
        created_from,
        created_to,
        id_prefix: id_prefix(&query, "prefix")?,
        name: query.text("name").map(str::to_owned),
        tags: tags(&query)?,
        parent: parent(&query)?,
        ..InstanceQuery::default()
    };
    let slot = call.wait_slot()?;
    let changes = call.hub().changes(filter);
    Ok(streamed(Feed::new(Source::Hub(changes), &call, slot)))
}

/// A browser that connects again sends the header, with the address it was first given.
fn place(call: &Call, after: Option<&str>) -> Result<Option<Seen>, Problem> {
    let (name, place, text) = match call.header(LAST_EVENT_ID)?.filter(|text| !text.is_empty()) {
        Some(text) => ("Last-Event-ID", Place::Header, Some(text)),
        None => ("after", Place::Query, after),
    };
    let read = |text: &str| {
        let refused = |_| invalid(name, text, "the id of an event of this stream").at(place);
        text.parse().map_err(refused)
    };
    text.map(read).transpose()
}

fn streamed(feed: Feed) -> Response {
    let frames = stream::unfold(feed, |mut feed| async move {
        let frame = feed.frame().await?;
        Some((Ok::<_, Infallible>(frame), feed))
    });
    let mut response = Response::new(Body::from_stream(frames));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What is left to send to one reader.
struct Feed {
    source: Source,
    hub: TaskHub,
    heartbeat: Duration,
    closing: watch::Receiver<bool>,
    #[expect(dead_code, reason = "counts the reader for as long as it is here")]
    slot: WaitSlot,
    state: FeedState,
}

enum Source {
    /// With the link that opened the stream: it ends before a later instance of the same id.
    Instance(Watch, Option<VerifiedLink>),
    Hub(HubChanges),
}

impl Source {
    /// What is new, as it is sent; `None` when nothing follows.
    async fn next(&mut self) -> Result<Option<String>, RequestError> {
        Ok(match self {
            Self::Instance(watch, link) => {
                let next = watch.next().await?;
                let next = next.filter(|change| link.is_none_or(|link| is_covered(&link, change)));
                next.as_ref().map(frame_of)
            }
            Self::Hub(changes) => changes.next().await.as_ref().map(frames_of),
        })
    }
}

enum FeedState {
    Begins,
    Goes,
    Over,
}

impl Feed {
    fn new(source: Source, call: &Call, slot: WaitSlot) -> Self {
        Self {
            source,
            hub: call.hub().clone(),
            heartbeat: call.state.settings.heartbeat,
            closing: call.state.closing.subscribe(),
            slot,
            state: FeedState::Begins,
        }
    }

    async fn frame(&mut self) -> Option<Bytes> {
        match self.state {
            FeedState::Begins => {
                self.state = FeedState::Goes;
                return Some(format!("retry: {RETRY_MS}\n\n").into());
            }
            FeedState::Goes => {}
            FeedState::Over => return None,
        }
        let next = tokio::time::timeout(self.heartbeat, self.source.next());
        let next = tokio::select! {
            biased;
            _ = self.closing.wait_for(|closing| *closing) => return None,
            reason = self.hub.until_retired() => {
                self.state = FeedState::Over;
                let error = RequestError::new(RequestErrorKind::NotFound, reason.to_string());
                return Some(problem_frame(error).into());
            }
            next = next => next,
        };
        match next {
            Err(_) => Some(Bytes::from_static(b": heartbeat\n\n")),
            Ok(Ok(text)) => text.map(Bytes::from),
            Ok(Err(error)) => {
                self.state = FeedState::Over;
                Some(problem_frame(error).into())
            }
        }
    }
}

/// A new start of the same id is announced with its status, before its history.
fn is_covered(link: &VerifiedLink, change: &Change) -> bool {
    match &change.event {
        WatchEvent::Execution(status) | WatchEvent::Status(status) | WatchEvent::End(status) => {
            link.covers(status.row.created)
        }
        WatchEvent::History(..) => true,
    }
}

fn frame_of(change: &Change) -> String {
    let (name, data) = match &change.event {
        WatchEvent::Execution(status) => ("execution", to_json(&InstanceWire::from(status))),
        WatchEvent::History(_, event) => ("history", to_json(&EventWire::from(event))),
        WatchEvent::Status(status) => ("status", to_json(&InstanceWire::from(status))),
        WatchEvent::End(status) => ("end", to_json(&InstanceWire::from(status))),
    };
    frame(name, Some(&change.seen.to_string()), &data)
}

fn frames_of(change: &HubChange) -> String {
    let row = |change: &Arc<RowChange>| match &**change {
        RowChange::Is(row) => frame("instance", None, &to_json(&InstanceWire::from(&**row))),
        RowChange::Removed(id) => frame("removed", None, &to_json(&RemovedWire { id: id.as_str() })),
    };
    match change {
        HubChange::Reset => frame("reset", None, "{}"),
        HubChange::Rows(rows) => rows.iter().map(row).collect(),
    }
}

#[derive(Serialize)]
struct RemovedWire<'a> {
    id: &'a str,
}

/// Not called `error`: browsers have an event of that name.
fn problem_frame(error: RequestError) -> String {
    frame("problem", None, &Problem::from(error).to_json())
}

/// An event of a stream. User data may have line breaks between its tokens, each of which is a line
/// of data here.
fn frame(name: &str, id: Option<&str>, data: &str) -> String {
    let mut text = format!("event: {name}\n");
    if let Some(id) = id {
        text += &format!("id: {id}\n");
    }
    for line in data.split(['\n', '\r']) {
        text += &format!("data: {line}\n");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_many_lines_is_one_event() {
        assert_eq!(
            frame("x", Some("1"), "{\"a\":\r\n1}"),
            "event: x\nid: 1\ndata: {\"a\":\ndata: \ndata: 1}\n\n"
        );
    }
}
