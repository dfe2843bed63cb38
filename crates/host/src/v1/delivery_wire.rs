//! A delivery to a webhook as JSON.

use dalsegno_engine::webhooks::DeliveryStatus;
use serde::{Deserialize, Serialize};

use crate::http::time;
use crate::openapi::schemas;
use crate::webhooks::Content;

/// A delivery that waits or was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryWire {
    /// The id under which the receiver gets it.
    pub id: String,
    /// The instance it is about.
    pub instance_id: String,
    /// The webhook of the configuration, or the URL without its query.
    pub to: String,
    /// What it tells.
    #[schemars(extend("enum" = schemas::statuses()))]
    pub status: String,
    /// When that status was reached.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// `pending` or `givenUp`.
    #[schemars(extend("enum" = ["pending", "givenUp"]))]
    pub state: String,
    /// Attempts that failed.
    pub failed_attempts: u32,
    /// When the next begins, if one waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub next_attempt: Option<String>,
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

impl From<&DeliveryStatus> for DeliveryWire {
    fn from(delivery: &DeliveryStatus) -> Self {
        let content: Option<Content> = serde_json::from_str(delivery.content.as_str()).ok();
        let (to, status) = content.map_or_else(Default::default, |content| {
            let to = content.hook.or(content.url).unwrap_or_default();
            (without_query(&to).to_owned(), content.status)
        });
        Self {
            id: format!("msg_{}", delivery.id),
            instance_id: delivery.instance.to_string(),
            to,
            status,
            at: time::exact(delivery.at),
            state: if delivery.is_given_up {
                "givenUp"
            } else {
                "pending"
            }
            .to_owned(),
            failed_attempts: delivery.failed_attempts,
            next_attempt: delivery.next_attempt.map(time::exact),
            last_failure: delivery.last_failure.clone(),
        }
    }
}

/// What is behind the question mark is often a key.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}
