//! Webhooks as the configuration says them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dalsegno_core::query::Status;
use dalsegno_engine::webhooks::RETRY_DEFAULT;

use super::source::{self, Resolved};
use super::table::Value;
use super::{Mistake, Origin, Refused};
use crate::webhooks::{Webhook, WebhookSecret, WebhookSender, WebhookSettings};

/// Who is told of statuses, and how; without the secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookConfig {
    secret_file: Option<PathBuf>,
    allowed_hosts: Vec<String>,
    timeout: Duration,
    give_up_after: Duration,
    /// With the file of each one's own secret.
    hooks: Vec<(Webhook, Option<PathBuf>)>,
}

impl WebhookConfig {
    pub(super) fn of(resolved: &Resolved) -> Self {
        let text = |value: Option<&Value>| value.map(ToString::to_string).unwrap_or_default();
        let file = |value: Option<&Value>| {
            Some(text(value))
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        let value = |key: &str| resolved.get(key).map(|(value, _)| value);
        let duration = |key: &str| match value(key) {
            Some(Value::Duration(duration)) => *duration,
            _ => Duration::ZERO,
        };
        let list = |value: Option<&Value>| match value {
            Some(Value::List(list)) => list.clone(),
            _ => Vec::new(),
        };
        let hook = |(name, parts): (&str, std::collections::BTreeMap<&str, &Value>)| {
            let part = |name: &str| parts.get(name).copied();
            let hook = Webhook {
                name: name.to_owned(),
                url: text(part("url")),
                statuses: list(part("statuses"))
                    .iter()
                    .filter_map(|word| status(word))
                    .collect(),
                name_prefix: text(part("name_prefix")),
                secret: None,
            };
            (hook, file(part("secret_file")))
        };
        Self {
            secret_file: file(value("webhooks.secret_file")),
            allowed_hosts: list(value("webhooks.allowed_hosts")),
            timeout: duration("webhooks.timeout"),
            give_up_after: duration("webhooks.give_up_after"),
            hooks: source::webhooks(resolved).into_iter().map(hook).collect(),
        }
    }

    /// With the secrets, read from their files.
    ///
    /// # Errors
    /// When a file cannot be read or holds no secret, or a webhook cannot be sent: all mistakes.
    pub fn settings(&self, hub: &str) -> Result<WebhookSettings, Refused> {
        let mut mistakes = Vec::new();
        let mut secret = |key: String, path: &Option<PathBuf>| {
            let read = path.as_deref().map(secret_in).transpose();
            read.unwrap_or_else(|reason| {
                mistakes.push(mistake(key, reason));
                None
            })
        };
        let own = secret("webhooks.secret_file".into(), &self.secret_file);
        let hooks = self.hooks.iter().map(|(hook, file)| Webhook {
            secret: secret(format!("webhook.{}.secret_file", hook.name), file),
            ..hook.clone()
        });
        let settings = WebhookSettings {
            hooks: hooks.collect(),
            allowed_hosts: self.allowed_hosts.clone(),
            secret: own,
            timeout: self.timeout,
            retry: RETRY_DEFAULT.deadline(self.give_up_after),
        };
        if mistakes.is_empty() {
            let checked = WebhookSender::new(hub, settings.clone());
            mistakes.extend(checked.err().map(|reason| mistake(String::new(), reason)));
        }
        match mistakes.is_empty() {
            true => Ok(settings),
            false => Err(Refused(mistakes)),
        }
    }
}

fn mistake(key: String, reason: String) -> Mistake {
    let origin = Origin::Default;
    Mistake { origin, key, reason }
}

fn secret_in(path: &Path) -> Result<WebhookSecret, String> {
    let told = |error: io::Error| format!("{} cannot be read: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(told)?;
    WebhookSecret::parse(&text).map_err(|reason| format!("what {} holds {reason}", path.display()))
}

fn status(word: &str) -> Option<Status> {
    Status::ALL.into_iter().find(|status| status.as_str() == word)
}
