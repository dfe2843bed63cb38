//! Webhooks: requests that tell others what became of an instance, signed as Standard Webhooks says.
//!
//! What is told and how often it is tried is the engine's; here is one request. It goes only where
//! the configuration lets it go, follows no redirect, and says no value of any user.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dalsegno_core::query::Status;
use dalsegno_core::retry::RetryPolicy;
use dalsegno_core::{Failure, Timestamp};
use dalsegno_engine::executor::{ActivityRequest, ActivitySettings, AttemptOutcome};
use dalsegno_engine::webhooks::{RETRY_DEFAULT, WebhookRule, WebhookSubscription, Webhooks};
use futures::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, StatusCode, Url, header, redirect};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::authority::{default_port, split};
use crate::http::time;

/// Requests that are under way at once; more wait.
const REQUESTS_MAX: usize = 64;
/// Shortest secret, in bytes.
const SECRET_BYTES_MIN: usize = 16;
/// How secrets of Standard Webhooks begin; base64 follows.
const SECRET_PREFIX: &str = "whsec_";
/// Longest wait that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// A key to sign with. Printed as stars.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Arc<[u8]>);

impl WebhookSecret {
    /// `whsec_` and base64, or any text of at least 16 bytes; white space around it is none of it.
    ///
    /// # Errors
    /// What is wrong with it, without saying it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bytes = match text.strip_prefix(SECRET_PREFIX) {
            Some(encoded) => STANDARD
                .decode(encoded)
                .map_err(|_| format!("is no base64 after {SECRET_PREFIX}"))?,
            None => text.as_bytes().to_vec(),
        };
        match bytes.len() < SECRET_BYTES_MIN {
            true => Err(format!(
                "has {} bytes, {SECRET_BYTES_MIN} are needed: make one with openssl rand -base64 32",
                bytes.len()
            )),
            false => Ok(Self(bytes.into())),
        }
    }

    /// The header `webhook-signature` of a message.
    pub fn sign(&self, id: &str, timestamp: u64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who is told of all instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its name.
    pub name: String,
    /// Where.
    pub url: String,
    /// Of which statuses; empty means the final ones.
    pub statuses: Vec<Status>,
    /// Only of orchestrators whose name begins so.
    pub name_prefix: String,
    /// What signs; the hub's when `None`.
    pub secret: Option<WebhookSecret>,
}

/// How webhooks are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSettings {
    /// Who is told of all instances.
    pub hooks: Vec<Webhook>,
    /// Receivers that a start may name for its instance: a host, on the port of http or https, or a
    /// host with a port.
    pub allowed_hosts: Vec<String>,
    /// What signs where nothing else is said.
    pub secret: Option<WebhookSecret>,
    /// How long a receiver may take to answer.
    pub timeout: Duration,
    /// How often and how long it is tried.
    pub retry: RetryPolicy,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            hooks: Vec::new(),
            allowed_hosts: Vec::new(),
            secret: None,
            timeout: Duration::from_secs(15),
            retry: RETRY_DEFAULT,
        }
    }
}

impl WebhookSettings {
    /// An allowed host is one service, not every port of a machine.
    fn allows(&self, url: &Url) -> bool {
        let allowed = self.allowed_hosts.iter().filter_map(|allowed| split(allowed));
        allowed.into_iter().any(|(host, port)| {
            let host_fits = url.host_str().is_some_and(|own| own.eq_ignore_ascii_case(host));
            host_fits && url.port_or_known_default() == port.or_else(|| default_port(url.scheme()))
        })
    }
}

/// Sends them.
#[derive(Debug)]
pub struct WebhookSender {
    hub: String,
    settings: WebhookSettings,
    rules: Vec<WebhookRule>,
    client: Client,
}

impl WebhookSender {
    /// The sender of a hub.
    ///
    /// # Errors
    /// When a webhook has no usable URL or no secret, in words.
    pub fn new(hub: &str, settings: WebhookSettings) -> Result<Self, String> {
        for hook in &settings.hooks {
            let refuse = |reason: String| format!("webhook.{}: {reason}", hook.name);
            url_of(&hook.url).map_err(refuse)?;
            if hook.secret.is_none() && settings.secret.is_none() {
                return Err(refuse(
                    "there is no secret: set its secret_file, or webhooks.secret_file".into(),
                ));
            }
        }
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(settings.timeout)
            .user_agent(concat!("dalsegno/", env!("CARGO_PKG_VERSION")))
            .build();
        let rule = |hook: &Webhook| WebhookRule {
            name: hook.name.as_str().into(),
            statuses: hook.statuses.clone(),
            name_prefix: hook.name_prefix.clone(),
        };
        Ok(Self {
            hub: hub.to_owned(),
            rules: settings.hooks.iter().map(rule).collect(),
            settings,
            client: client.map_err(|error| format!("no HTTP client: {error}"))?,
        })
    }

    fn hook(&self, name: &str) -> Option<&Webhook> {
        self.settings.hooks.iter().find(|hook| hook.name == name)
    }

    /// Where a delivery goes, and what signs it.
    fn receiver(&self, content: &Content) -> Result<(Url, WebhookSecret), String> {
        if let Some(name) = &content.hook {
            let gone = || format!("webhook.{name} is not configured any more");
            let hook = self.hook(name).ok_or_else(gone)?;
            let secret = hook.secret.as_ref().or(self.settings.secret.as_ref());
            return Ok((url_of(&hook.url)?, secret.cloned().ok_or("there is no secret")?));
        }
        let url = content.url.as_deref().unwrap_or_default();
        self.allowed(url, content.secret.as_deref())
    }

    /// An instance's own receiver: the caller chose it, so the operator has to have named its host.
    fn allowed(&self, url: &str, secret: Option<&str>) -> Result<(Url, WebhookSecret), String> {
        let url = url_of(url)?;
        if !self.settings.allows(&url) {
            let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default());
            return Err(format!(
                "{host}:{} is not among webhooks.allowed_hosts: the operator has to add it",
                port.unwrap_or_default()
            ));
        }
        let own = match secret {
            None => None,
            Some(name) => Some(
                self.hook(name)
                    .ok_or_else(|| format!("no webhook.{name} is configured whose secret could sign"))?,
            ),
        };
        let secret = own
            .and_then(|hook| hook.secret.as_ref())
            .or(self.settings.secret.as_ref());
        let missing = "there is no secret to sign with: the operator has to set webhooks.secret_file";
        Ok((url, secret.cloned().ok_or(missing)?))
    }
}

/// A URL that a request may go to.
fn url_of(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|_| "the URL cannot be read: write it like https://example.com/hook")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("the URL has to begin with https:// or http://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL holds a user or a password: sign with the secret instead".into());
    }
    Ok(url)
}

impl Webhooks for WebhookSender {
    fn rules(&self) -> &[WebhookRule] {
        &self.rules
    }

    fn check(&self, subscription: &WebhookSubscription) -> Result<(), String> {
        self.allowed(&subscription.url, subscription.secret.as_deref())
            .map(drop)
    }

    fn settings(&self) -> ActivitySettings {
        ActivitySettings {
            retry: Some(self.settings.retry),
            concurrency_per_host: Some(REQUESTS_MAX),
            ..ActivitySettings::default()
        }
    }

    fn deliver(&self, request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome> {
        let text = request.input.as_ref().map_or("", |input| input.as_str());
        let content: Content = match serde_json::from_str(text) {
            Ok(content) => content,
            Err(error) => return refused(format!("the stored delivery cannot be read: {error}")),
        };
        let (url, secret) = match self.receiver(&content) {
            Ok(receiver) => receiver,
            Err(reason) => return refused(reason),
        };
        let id = format!("msg_{}", request.execution_id);
        let body = body(&self.hub, &content);
        let timestamp = seconds_now();
        let signature = secret.sign(&id, timestamp, &body);
        let trace = request.trace.as_ref();
        let parent = trace.map(|trace| ("traceparent", trace.trace_parent()));
        let state = trace.and_then(|trace| Some(("tracestate", trace.trace_state()?)));
        let post = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        let post = [parent, state]
            .into_iter()
            .flatten()
            .fold(post, |post, (name, value)| post.header(name, value));
        Box::pin(async move { outcome(post.send().await) })
    }
}

fn refused(reason: String) -> BoxFuture<'static, AttemptOutcome> {
    let failure = Failure::new("Refused", reason).permanent();
    let outcome = AttemptOutcome::Failed {
        failure,
        retry_after: None,
    };
    Box::pin(std::future::ready(outcome))
}

/// Receivers look at how old a message is, so each attempt has its own time.
fn seconds_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The answer's body is not read: it could be anything.
fn outcome(answer: reqwest::Result<reqwest::Response>) -> AttemptOutcome {
    let failed = |failure, retry_after| AttemptOutcome::Failed { failure, retry_after };
    let response = match answer {
        Ok(response) => response,
        // The URL may hold what only its owner should know.
        Err(error) => return failed(Failure::new("Unreachable", innermost(&error.without_url())), None),
    };
    let status = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    match status {
        status if status.is_success() => AttemptOutcome::Completed(None),
        StatusCode::GONE => failed(
            Failure::new("Gone", "the receiver wants no more").permanent(),
            None,
        ),
        status if status.is_redirection() => {
            let text = format!("the receiver answered {status}: redirects are not followed");
            failed(Failure::new("Redirected", text), None)
        }
        status => failed(
            Failure::new("Http", format!("the receiver answered {status}")),
            retry_after,
        ),
    }
}

/// What a failed request comes down to.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A delivery as the engine stores it.
#[derive(Debug, Deserialize)]
pub(crate) struct Content {
    #[serde(default)]
    pub(crate) hook: Option<String>,
    #[serde(default)]
    pub(crate) url: Option<String>,
    #[serde(default)]
    secret: Option<String>,
    at: i64,
    instance: String,
    execution: String,
    name: String,
    pub(crate) status: String,
    before: Option<String>,
}

/// The payload of Standard Webhooks: type, time, data.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    hub: &'a str,
    instance_id: &'a str,
    execution_id: &'a str,
    name: &'a str,
    status: &'a str,
    previous_status: Option<&'a str>,
}

fn body(hub: &str, content: &Content) -> String {
    let body = Body {
        r#type: "instance.status",
        timestamp: time::exact(Timestamp::from_micros(content.at)),
        data: Data {
            hub,
            instance_id: &content.instance,
            execution_id: &content.execution,
            name: &content.name,
            status: &content.status,
            previous_status: content.before.as_deref(),
        },
    };
    serde_json::to_string(&body).expect("texts are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        // The example of its libraries.
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signed = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            "{\"test\": 2432232314}",
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_are_long_enough_and_never_printed() {
        for text in ["", "short", "whsec_", "whsec_%%%", "whsec_c2hvcnQ="] {
            assert!(WebhookSecret::parse(text).is_err(), "{text}");
        }
        let secret = WebhookSecret::parse("a-secret-that-is-long-enough").unwrap();
        assert_eq!(format!("{secret:?}"), "***");
    }

    #[test]
    fn only_hosts_that_the_operator_named_are_told() {
        let settings = WebhookSettings {
            allowed_hosts: ["hooks.example.com", "127.0.0.1:81", "127.0.0.1", "[::1]:9"]
                .map(str::to_owned)
                .to_vec(),
            secret: WebhookSecret::parse("a-secret-that-is-long-enough").ok(),
            ..WebhookSettings::default()
        };
        let sender = WebhookSender::new("default", settings.clone()).unwrap();
        let check = |url: &str, secret: Option<&str>| {
            sender.check(&WebhookSubscription {
                url: url.into(),
                secret: secret.map(str::to_owned),
                ..WebhookSubscription::default()
            })
        };
        for url in [
            "https://hooks.example.com/a?b=c",
            "http://HOOKS.example.com",
            "http://hooks.example.com:80",
            "http://127.0.0.1:81/x",
            "http://127.0.0.1/x",
            "http://[::1]:9/x",
        ] {
            assert_eq!(check(url, None), Ok(()), "{url}");
        }
        for (url, told) in [
            ("", "cannot be read"),
            ("hooks.example.com", "cannot be read"),
            ("ftp://hooks.example.com", "https://"),
            ("file:///etc/passwd", "https://"),
            ("http://169.254.169.254/latest", "allowed_hosts"),
            ("http://localhost/", "allowed_hosts"),
            // An allowed host opened every port of it: databases, other services.
            (
                "http://hooks.example.com:8080/",
                "hooks.example.com:8080 is not among",
            ),
            ("https://hooks.example.com:80/", "allowed_hosts"),
            ("http://127.0.0.1:6379/", "allowed_hosts"),
            ("http://[::1]/", "allowed_hosts"),
            ("http://hooks.example.com.evil.net/", "allowed_hosts"),
            ("http://hooks.example.com@evil.net/", "user or a password"),
            ("http://u:p@hooks.example.com/", "user or a password"),
            ("http://2130706434/", "allowed_hosts"),
        ] {
            let refused = check(url, None).unwrap_err();
            assert!(refused.contains(told), "{url}: {refused}");
        }
        assert!(
            check("http://127.0.0.1/", Some("nobody"))
                .unwrap_err()
                .contains("webhook.nobody")
        );
        let unsigned = WebhookSettings {
            secret: None,
            ..settings
        };
        let sender = WebhookSender::new("default", unsigned).unwrap();
        let subscription = WebhookSubscription {
            url: "http://127.0.0.1/".into(),
            ..WebhookSubscription::default()
        };
        assert!(
            sender
                .check(&subscription)
                .unwrap_err()
                .contains("webhooks.secret_file")
        );
    }
}
