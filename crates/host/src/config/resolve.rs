//! What a host starts with: the configuration, and what the files that it names hold.
//!
//! `serve`, an app, `config check` and `config show` all come through here, so that a check never
//! accepts what a start refuses.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use super::{Config, KeysRequired, Mistake, Origin, Refused};
use crate::http::auth::Access;
use crate::key_file::Keys;
use crate::tls::Tls;
use crate::traces::TraceSettings;
use crate::webhooks::WebhookSettings;

/// Which program starts the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `dalsegno serve`, for production: without keys only if `auth.required` is `never`.
    Serve,
    /// An app that serves itself: on loopback without keys unless it configures some.
    App,
}

/// A configuration whose files were read.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Who may call.
    pub access: Access,
    /// Certificate and key of the listener.
    pub tls: Option<Tls>,
    /// Who is notified of statuses, with secrets.
    pub webhooks: WebhookSettings,
    /// Where traces are sent, with headers.
    pub traces: Option<TraceSettings>,
}

pub(super) fn resolve(config: &Config, program: Program) -> Result<Resolved, Refused> {
    let mut mistakes = Vec::new();
    let access = collect(&mut mistakes, access(config, program));
    let tls = collect(&mut mistakes, tls(config));
    let webhooks = collect(&mut mistakes, config.webhooks.settings(&config.hub));
    let traces = collect(&mut mistakes, config.traces.settings());
    collect(&mut mistakes, audit_file(config.http.audit_file.as_deref()));
    match (access, tls, webhooks, traces) {
        (Some(access), Some(tls), Some(webhooks), Some(traces)) if mistakes.is_empty() => Ok(Resolved {
            access,
            tls,
            webhooks,
            traces,
        }),
        _ => Err(Refused(mistakes)),
    }
}

fn collect<T>(mistakes: &mut Vec<Mistake>, read: Result<T, Refused>) -> Option<T> {
    read.map_err(|Refused(more)| mistakes.extend(more)).ok()
}

fn refuse(key: &str, reason: String) -> Refused {
    Refused(vec![Mistake {
        origin: Origin::Default,
        key: key.into(),
        reason,
    }])
}

/// A configured key file is enforced whatever the listener: a proxy on the same machine makes every
/// request look like one of loopback.
fn access(config: &Config, program: Program) -> Result<Access, Refused> {
    let listen = config.listen;
    let Some(path) = &config.keys_file else {
        return match config.keys_required {
            _ if !listen.ip().is_loopback() => Err(refuse(
                "auth.keys_file",
                format!(
                    "callers of {listen} need keys and there are none: create some with `dalsegno key create` \
                     and name their file, or listen on 127.0.0.1"
                ),
            )),
            KeysRequired::Auto if program == Program::Serve => Err(refuse(
                "auth.keys_file",
                "names no file, so every program on this machine could do anything: create keys with \
                 `dalsegno key create` and name their file, or set auth.required = \"never\""
                    .into(),
            )),
            KeysRequired::Auto | KeysRequired::Always | KeysRequired::Never => {
                Ok(Access::loopback().hosts(&config.hosts))
            }
        };
    };
    let keys = Keys::of_file(path).map_err(|error| {
        refuse(
            "auth.keys_file",
            format!(
                "{} cannot be read: {error}; `dalsegno key create NAME --scope read --file {0}` creates it",
                path.display()
            ),
        )
    })?;
    Ok(Access::with_keys(keys)
        .hosts(&config.hosts)
        .keys_in_query(config.keys_in_query))
}

fn tls(config: &Config) -> Result<Option<Tls>, Refused> {
    let Some((certificate, key)) = &config.tls else {
        return match config.listen.ip().is_loopback() || config.allows_plaintext {
            true => Ok(None),
            false => Err(refuse(
                "tls.certificate_file",
                format!(
                    "is not set, so the keys of callers of {} would travel unencrypted: set it and \
                     tls.key_file, or set tls.allow_plaintext behind a proxy that ends TLS",
                    config.listen
                ),
            )),
        };
    };
    match Tls::read(certificate, key) {
        Ok(tls) => Ok(Some(tls)),
        Err(error) => Err(refuse("tls.certificate_file", error.to_string())),
    }
}

/// It is opened as the host opens it, and stays as it is.
fn audit_file(path: Option<&Path>) -> Result<(), Refused> {
    let Some(path) = path else { return Ok(()) };
    let opened = match path.exists() {
        true => OpenOptions::new().append(true).open(path).map(drop),
        false => check_creatable(path),
    };
    opened.map_err(|error| {
        refuse(
            "audit.file",
            format!("{} cannot be opened: {error}", path.display()),
        )
    })
}

/// Creates a file beside the one that the host will create, and removes it. Only that shows whether the
/// folder can be written; a host that starts meanwhile may have created the file itself.
fn check_creatable(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut probe = name.to_owned();
    probe.push(format!(".check-{}", std::process::id()));
    let probe = path.with_file_name(probe);
    OpenOptions::new().write(true).create_new(true).open(&probe)?;
    fs::remove_file(probe)
}
