//! The changes of an instance of a host elsewhere: server-sent events, read on after every break.

use std::time::Duration;

use dalsegno_core::InstanceId;
use dalsegno_core::query::LargeValues;
use dalsegno_engine::hub::{Change, WatchEvent};
use dalsegno_engine::request::{Answer, InstanceStatus, RequestError, RequestErrorKind};
use dalsegno_engine::seen::Seen;
use reqwest::{Method, Response, StatusCode};

use crate::http::problem::ProblemRead;
use crate::remote::{RemoteHub, instance, internal, read, refusal, unfit};
use crate::v1::event_wire::EventWire;
use crate::v1::wire::InstanceWire;

/// A host that says nothing for so long, not even that nothing happens, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Pause before the host is asked again after a break.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked in vain before the reader is told.
const TRIES_MAX: u32 = 60;
/// Largest event; larger ones no host sends.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A reader of the changes of one instance.
#[derive(Debug)]
pub struct RemoteWatch {
    hub: RemoteHub,
    id: InstanceId,
    large: LargeValues,
    seen: Seen,
    /// `None` when there is none.
    connection: Option<Connection>,
    tries: u32,
}

/// A stream of server-sent events.
#[derive(Debug)]
pub(crate) struct Connection {
    response: Response,
    /// Bytes that are no whole event yet.
    came: Vec<u8>,
    /// How many of them were searched for the end of an event.
    searched: usize,
}

impl RemoteHub {
    /// The changes of an instance behind a place in them.
    ///
    /// # Errors
    /// As [`TaskHub::watch`](dalsegno_engine::TaskHub::watch).
    pub async fn watch(
        &self,
        id: &InstanceId,
        after: Option<Seen>,
        large: LargeValues,
    ) -> Answer<RemoteWatch> {
        let mut watch = RemoteWatch {
            hub: self.clone(),
            id: id.clone(),
            large,
            seen: after.unwrap_or_default(),
            connection: None,
            tries: 0,
        };
        watch.connection = watch.connect().await?;
        watch.seen.is_end = watch.connection.is_none();
        Ok(watch)
    }
}

impl RemoteWatch {
    /// Where the reader is.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// The next change; `None` after the end. A break is bridged. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `NotFound` when the instance was purged; `Unreachable` when the host stays away: the next
    /// call tries again.
    pub async fn next(&mut self) -> Answer<Option<Change>> {
        loop {
            if self.seen.is_end {
                return Ok(None);
            }
            let Some(connection) = &mut self.connection else {
                self.connect_again().await?;
                continue;
            };
            let Some(frame) = connection.next().await else {
                self.connection = None;
                continue;
            };
            match change(&frame?) {
                Ok(None) => {}
                Ok(Some(change)) => {
                    (self.seen, self.tries) = (change.seen, 0);
                    return Ok(Some(change));
                }
                // A host that goes down says so, if it still can.
                Err(error) if is_passing(error.kind) => self.connection = None,
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect_again(&mut self) -> Answer<()> {
        if self.tries > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        self.tries += 1;
        match self.connect().await {
            Ok(Some(connection)) => self.connection = Some(connection),
            Ok(None) => self.seen.is_end = true,
            Err(error) if is_passing(error.kind) && self.tries < TRIES_MAX => {}
            Err(error) => {
                self.tries = 0;
                return Err(error);
            }
        }
        Ok(())
    }

    /// `None` when nothing follows.
    async fn connect(&self) -> Answer<Option<Connection>> {
        let mut path = format!(
            "{}/stream?largeValues={}",
            instance(&self.id),
            self.large == LargeValues::Read
        );
        if self.seen != Seen::default() {
            path += &format!("&after={}", self.seen);
        }
        let request = self.hub.request(Method::GET, &path);
        let unreachable = |error| self.hub.unreachable(&error);
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(None),
            StatusCode::OK => Ok(Some(Connection::new(response))),
            code => Err(refusal(code, &response.text().await.map_err(unreachable)?)),
        }
    }
}

pub(crate) fn is_passing(kind: RequestErrorKind) -> bool {
    matches!(
        kind,
        RequestErrorKind::Unreachable | RequestErrorKind::Busy | RequestErrorKind::Unavailable
    )
}

impl Connection {
    pub(crate) fn new(response: Response) -> Self {
        Self {
            response,
            came: Vec::new(),
            searched: 0,
        }
    }

    /// The next event, as it came; `None` when the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Answer<String>> {
        loop {
            let from = self.searched.saturating_sub(1);
            let found = self.came[from..].windows(2).position(|two| two == b"\n\n");
            self.searched = self.came.len();
            if let Some(end) = found {
                let frame: Vec<u8> = self.came.drain(..from + end + 2).collect();
                self.searched = 0;
                return Some(String::from_utf8(frame).map_err(|error| internal(&error)));
            }
            if self.came.len() > EVENT_BYTES_MAX {
                let text = format!("an event of the stream is larger than {EVENT_BYTES_MAX} bytes");
                return Some(Err(internal(&text)));
            }
            let chunk = tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await;
            match chunk {
                Ok(Ok(Some(bytes))) => self.came.extend_from_slice(&bytes),
                _ => return None,
            }
        }
    }
}

/// What an event says; `None` for one that only shows that the host is there.
fn change(frame: &str) -> Answer<Option<Change>> {
    let Some((name, data)) = event(frame)? else {
        return Ok(None);
    };
    let seen: Seen = fields(frame, "id")
        .next()
        .unwrap_or_default()
        .parse()
        .map_err(|error| internal(&error))?;
    let status = || -> Answer<InstanceStatus> { read::<InstanceWire>(&data)?.try_into().map_err(unfit) };
    let event = match name {
        "execution" => WatchEvent::Execution(status()?),
        "status" => WatchEvent::Status(status()?),
        "end" => WatchEvent::End(status()?),
        "history" => {
            let event = read::<EventWire>(&data)?.try_into().map_err(unfit)?;
            WatchEvent::History(seen.events.saturating_sub(1), event)
        }
        // Of a later version.
        _ => return Ok(None),
    };
    Ok(Some(Change { seen, event }))
}

/// Name and data of an event; `None` for one that only shows that the host is there.
pub(crate) fn event(frame: &str) -> Answer<Option<(&str, String)>> {
    let Some(name) = fields(frame, "event").next() else {
        return Ok(None);
    };
    let data = fields(frame, "data").collect::<Vec<_>>().join("\n");
    match name {
        "problem" => Err(problem(&data)),
        name => Ok(Some((name, data))),
    }
}

fn fields<'a>(frame: &'a str, wanted: &'static str) -> impl Iterator<Item = &'a str> {
    frame.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name == wanted).then(|| value.strip_prefix(' ').unwrap_or(value))
    })
}

fn problem(data: &str) -> RequestError {
    match read::<ProblemRead>(data) {
        Ok(read) => {
            let kind = RequestErrorKind::from_code(&read.code).unwrap_or(RequestErrorKind::Internal);
            RequestError {
                id: read.id,
                ..RequestError::new(kind, read.detail)
            }
        }
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const GOING_DOWN: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n\
        event: problem\ndata: {\"status\":503,\"code\":\"unavailable\",\"title\":\"Unavailable\",\
        \"detail\":\"the hub is going down\"}\n\n";
    const OVER: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn a_host_that_says_it_goes_down_is_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hub = RemoteHub::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let serve = async {
            for answer in [GOING_DOWN, OVER] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let watch = async {
            let id = InstanceId::parse("i").unwrap();
            let mut watch = hub.watch(&id, None, LargeValues::Read).await.unwrap();
            assert_eq!(watch.next().await, Ok(None));
        };
        tokio::join!(serve, watch);
    }
}
