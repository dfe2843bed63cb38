//! The changes of all instances of a host elsewhere: server-sent events, read on after every break.

use std::time::Duration;

use dalsegno_core::InstanceId;
use dalsegno_core::query::InstanceQuery;
use dalsegno_core::store::InstanceRow;
use dalsegno_engine::request::Answer;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::remote::{RemoteHub, internal, narrowed, read, refusal, unfit, with_query};
use crate::remote_watch::{Connection, event, is_passing};
use crate::v1::wire::InstanceWire;

/// Pause before the host is asked again after a break.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked in vain before the reader is told.
const TRIES_MAX: u32 = 60;

/// A reader of the changes of all instances.
#[derive(Debug)]
pub struct RemoteChanges {
    hub: RemoteHub,
    path: String,
    connection: Option<Connection>,
    tries: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum RemoteChange {
    /// What happened before is not told: list now.
    Reset,
    /// An instance is so now; without input and output.
    Is(Box<InstanceRow>),
    /// It was deleted.
    Removed(InstanceId),
    /// The host does not answer; it is asked again.
    Lost,
}

#[derive(Deserialize)]
struct RemovedWire {
    id: String,
}

impl RemoteHub {
    /// The changes of all instances that a filter finds, from now on. Statuses are not filtered by,
    /// for a reader has to learn of what leaves one.
    ///
    /// # Errors
    /// As all requests: the kind says what to do.
    pub async fn changes(&self, filter: &InstanceQuery) -> Answer<RemoteChanges> {
        let mut changes = RemoteChanges {
            hub: self.clone(),
            path: with_query("/stream", &narrowed(filter)),
            connection: None,
            tries: 0,
        };
        changes.connection = Some(changes.connect().await?);
        Ok(changes)
    }
}

impl RemoteChanges {
    /// The next change. A break is bridged, with a `Lost` at its begin and a `Reset` at its end.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Unreachable` when the host stays away: the next call tries again.
    pub async fn next(&mut self) -> Answer<RemoteChange> {
        loop {
            let Some(connection) = &mut self.connection else {
                self.connect_again().await?;
                continue;
            };
            let Some(frame) = connection.next().await else {
                self.connection = None;
                return Ok(RemoteChange::Lost);
            };
            match change(&frame?) {
                Ok(None) => {}
                Ok(Some(change)) => {
                    self.tries = 0;
                    return Ok(change);
                }
                Err(error) if is_passing(error.kind) => {
                    self.connection = None;
                    return Ok(RemoteChange::Lost);
                }
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
            Ok(connection) => self.connection = Some(connection),
            Err(error) if is_passing(error.kind) && self.tries < TRIES_MAX => {}
            Err(error) => {
                self.tries = 0;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn connect(&self) -> Answer<Connection> {
        let unreachable = |error| self.hub.unreachable(&error);
        let request = self.hub.request(Method::GET, &self.path);
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => Ok(Connection::new(response)),
            code => Err(refusal(code, &response.text().await.map_err(unreachable)?)),
        }
    }
}

/// What an event says; `None` for one that only shows that the host is there.
fn change(frame: &str) -> Answer<Option<RemoteChange>> {
    let Some((name, data)) = event(frame)? else {
        return Ok(None);
    };
    Ok(match name {
        "reset" => Some(RemoteChange::Reset),
        "instance" => {
            let row = read::<InstanceWire>(&data)?.try_into().map_err(unfit)?;
            Some(RemoteChange::Is(Box::new(row)))
        }
        "removed" => {
            let id = read::<RemovedWire>(&data)?.id;
            let id = InstanceId::parse(&id).map_err(|invalid| internal(&invalid.reason))?;
            Some(RemoteChange::Removed(id))
        }
        // Of a later version.
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_unknown_ones_passed_over() {
        assert_eq!(
            change("event: reset\ndata: {}\n\n"),
            Ok(Some(RemoteChange::Reset))
        );
        assert_eq!(
            change("event: removed\ndata: {\"id\":\"a\"}\n\n"),
            Ok(Some(RemoteChange::Removed(InstanceId::trusted("a"))))
        );
        assert_eq!(change(": heartbeat\n\n"), Ok(None));
        assert_eq!(change("event: later\ndata: {}\n\n"), Ok(None));
        assert!(change("event: instance\ndata: {}\n\n").is_err());
    }
}
