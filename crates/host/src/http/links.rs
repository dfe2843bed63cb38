//! The links that a start answers with.

use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use dalsegno_core::InstanceId;
use dalsegno_engine::TaskHub;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::key_file::Keys;
use crate::keys::{LinkOperation, LinkTarget};

/// All but `A–Z a–z 0–9 - _ . ~` is percent-encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// Seconds after which a client may look at the status of what it started.
const RETRY_AFTER_SECONDS: u32 = 10;

/// Encodes a text as one segment of a path or one value of a query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// What signs the keys in links. A link is signed when it is asked for, and expires a lifetime later.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    pub(crate) keys: Keys,
    pub(crate) clock: TaskHub,
    pub(crate) lifetime: Duration,
    pub(crate) which: WithCodes,
}

/// Which links carry a key of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WithCodes {
    /// Status and event links.
    StatusAndEvents,
    /// Every link: the configuration asks for it.
    All,
}

impl Codes {
    fn sign(&self, target: LinkTarget<'_>) -> Option<String> {
        let by_default = matches!(
            target.operation,
            LinkOperation::Status | LinkOperation::RaiseEvent
        );
        if !by_default && self.which == WithCodes::StatusAndEvents {
            return None;
        }
        let now = self.clock.now();
        let signer = self.keys.ring(now).link_signer();
        Some(signer.sign(target, now, now + self.lifetime))
    }
}

/// Builds the links of one hub, as seen from one origin.
#[derive(Clone, Debug)]
pub struct Links {
    pub(crate) origin: String,
    pub(crate) hub: String,
    pub(crate) connection: String,
    /// None on a host without keys.
    pub(crate) codes: Option<Codes>,
}

/// What a client gets for an instance it started: where to ask, where to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    /// The instance.
    pub id: String,
    /// GET: its status.
    pub status_query_get_uri: String,
    /// POST, after putting a name for `{eventName}`: raises an event.
    pub send_event_post_uri: String,
    /// POST: ends it.
    pub terminate_post_uri: String,
    /// DELETE: removes it when finished.
    pub purge_history_delete_uri: String,
    /// POST: starts it again when finished.
    pub restart_post_uri: String,
    /// POST: makes it pause.
    pub suspend_post_uri: String,
    /// POST: lets it go on.
    pub resume_post_uri: String,
}

/// The same and how to rewind it: for notes to other systems.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagementPayload {
    /// The instance.
    pub id: String,
    /// GET: its status.
    pub status_query_get_uri: String,
    /// POST, after putting a name for `{eventName}`: raises an event.
    pub send_event_post_uri: String,
    /// POST: ends it.
    pub terminate_post_uri: String,
    /// POST: sets it going again when failed.
    pub rewind_post_uri: String,
    /// DELETE: removes it when finished.
    pub purge_history_delete_uri: String,
    /// POST: starts it again when finished.
    pub restart_post_uri: String,
    /// POST: makes it pause.
    pub suspend_post_uri: String,
    /// POST: lets it go on.
    pub resume_post_uri: String,
}

/// The answer to a start: 202 with `Location` and `Retry-After`.
impl IntoResponse for CheckStatus {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self).expect("strings are always JSON");
        let location = HeaderValue::from_str(&self.status_query_get_uri);
        let mut response = super::body::json(axum::http::StatusCode::ACCEPTED, body);
        if let Ok(location) = location {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        response
    }
}

impl CheckStatus {
    /// The same, answering 500 for a failed instance when its status is asked for.
    #[must_use]
    pub fn return_internal_server_error_on_failure(mut self) -> Self {
        self.status_query_get_uri
            .push_str("&returnInternalServerErrorOnFailure=true");
        self
    }
}

impl Links {
    /// Links without keys, for hosts that need none.
    pub fn open(origin: impl Into<String>, hub: impl Into<String>) -> Self {
        Self {
            origin: origin.into(),
            hub: hub.into(),
            connection: "Storage".into(),
            codes: None,
        }
    }

    /// Scheme and authority of every link.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What a start answers with.
    pub fn check_status(&self, id: &InstanceId) -> CheckStatus {
        let all = self.management_payload(id);
        CheckStatus {
            id: all.id,
            status_query_get_uri: all.status_query_get_uri,
            send_event_post_uri: all.send_event_post_uri,
            terminate_post_uri: all.terminate_post_uri,
            purge_history_delete_uri: all.purge_history_delete_uri,
            restart_post_uri: all.restart_post_uri,
            suspend_post_uri: all.suspend_post_uri,
            resume_post_uri: all.resume_post_uri,
        }
    }

    /// All links of an instance.
    pub fn management_payload(&self, id: &InstanceId) -> ManagementPayload {
        use LinkOperation as Operation;
        let base = self.instance_url(id);
        let plain = |operation, verb: &str| format!("{base}{verb}?{}", self.query(operation, id));
        let reasoned =
            |operation, verb: &str| format!("{base}/{verb}?reason={{text}}&{}", self.query(operation, id));
        ManagementPayload {
            id: id.to_string(),
            status_query_get_uri: plain(Operation::Status, ""),
            send_event_post_uri: plain(Operation::RaiseEvent, "/raiseEvent/{eventName}"),
            terminate_post_uri: reasoned(Operation::Terminate, "terminate"),
            rewind_post_uri: reasoned(Operation::Rewind, "rewind"),
            purge_history_delete_uri: plain(Operation::Purge, ""),
            restart_post_uri: plain(Operation::Restart, "/restart"),
            suspend_post_uri: reasoned(Operation::Suspend, "suspend"),
            resume_post_uri: reasoned(Operation::Resume, "resume"),
        }
    }

    fn instance_url(&self, id: &InstanceId) -> String {
        format!(
            "{}/runtime/webhooks/durabletask/instances/{}",
            self.origin,
            encode(id.as_str())
        )
    }

    fn query(&self, operation: LinkOperation, id: &InstanceId) -> String {
        let mut query = format!(
            "taskHub={}&connection={}",
            encode(&self.hub),
            encode(&self.connection)
        );
        if let Some(code) = self.code(operation, id) {
            query.push_str("&code=");
            query.push_str(&code);
        }
        query
    }

    fn code(&self, operation: LinkOperation, id: &InstanceId) -> Option<String> {
        let hub = self.hub.as_str();
        self.codes.as_ref()?.sign(LinkTarget { hub, operation, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_those_of_durable_functions_byte_for_byte() {
        let links = Links::open("http://localhost:8080", "My Hub");
        let check = links.check_status(&InstanceId::parse("Order 1~ü").unwrap());
        let p = "http://localhost:8080/runtime/webhooks/durabletask/instances/Order%201~%C3%BC";
        let q = "taskHub=My%20Hub&connection=Storage";
        let wanted = format!(
            r#"{{"id":"Order 1~ü","statusQueryGetUri":"{p}?{q}","sendEventPostUri":"{p}/raiseEvent/{{eventName}}?{q}","terminatePostUri":"{p}/terminate?reason={{text}}&{q}","purgeHistoryDeleteUri":"{p}?{q}","restartPostUri":"{p}/restart?{q}","suspendPostUri":"{p}/suspend?reason={{text}}&{q}","resumePostUri":"{p}/resume?reason={{text}}&{q}"}}"#
        );
        assert_eq!(serde_json::to_string(&check).unwrap(), wanted);
        let failing = check.return_internal_server_error_on_failure();
        assert_eq!(
            failing.status_query_get_uri,
            format!("{p}?{q}&returnInternalServerErrorOnFailure=true")
        );
    }

    #[test]
    fn the_management_payload_has_rewind_after_terminate() {
        let payload = Links::open("http://h", "default").management_payload(&InstanceId::trusted("i"));
        let text = serde_json::to_string(&payload).unwrap();
        let names: Vec<&str> = text.split('"').filter(|part| part.ends_with("Uri")).collect();
        assert_eq!(
            names,
            [
                "statusQueryGetUri",
                "sendEventPostUri",
                "terminatePostUri",
                "rewindPostUri",
                "purgeHistoryDeleteUri",
                "restartPostUri",
                "suspendPostUri",
                "resumePostUri"
            ]
        );
    }
}
