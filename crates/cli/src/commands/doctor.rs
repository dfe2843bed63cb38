//! `dalsegno doctor`: what works between here and a host, one step after the other.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use dalsegno_core::Timestamp;
use dalsegno_engine::request::{RequestError, RequestErrorKind};
use dalsegno_host::config::{Config as HostConfig, Sources};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use crate::failure::{Exit, Failure};
use crate::output::{self, Row};
use crate::session::Session;
use crate::time::{between, now, short};

const HEAD: [&str; 3] = ["CHECK", "RESULT", "WHAT"];
/// Of one step.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Of an answer to a probe; more is none.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// A clock that is further away makes timers and times of lists surprising.
const SKEW_MAX: Duration = Duration::from_secs(5);
/// A disk that takes longer for a sync slows every commit down.
const SYNC_MAX: Duration = Duration::from_millis(100);
const SYNCS: u32 = 8;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dalsegno doctor --server http://127.0.0.1:8080 --data-dir .dalsegno/hub\n\
The exit code is that of the first check that failed."
)]
pub(crate) struct Doctor {
    /// Configuration to look at, if it is there
    #[arg(
        long,
        env = "DALSEGNO_CONFIG",
        default_value = "dalsegno.toml",
        value_name = "FILE"
    )]
    config: PathBuf,
    /// Folder to measure, instead of the configured one
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Only ask whether the host makes progress: exit code 0 if so
    #[arg(long, conflicts_with_all = ["data_dir"])]
    health: bool,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Fine,
    /// It works, and may not be what is wanted.
    Warned,
    Failed(Exit),
    /// Something before it failed.
    Skipped,
}

#[derive(Debug)]
struct Check {
    name: &'static str,
    outcome: Outcome,
    what: String,
}

impl Doctor {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        if self.health {
            return tell_health(session).await;
        }
        let mut checks = Vec::new();
        let config = check_config(&self.config, &mut checks);
        let address = check_way(session, &mut checks).await;
        if let Some(config) = &config {
            checks.push(check_port(config.listen, address));
        }
        let folder = self.data_dir.or(config.map(|config| config.store_path));
        if let Some(folder) = folder {
            check_folder(&folder, &mut checks);
        }
        let rows: Vec<Row> = checks.iter().map(shown).collect();
        session.rows(&HEAD, &rows);
        let failed = checks.iter().find_map(|check| match check.outcome {
            Outcome::Failed(exit) => Some(exit),
            _ => None,
        });
        Ok(failed.unwrap_or(Exit::Ok))
    }
}

impl Check {
    fn new(name: &'static str, outcome: Outcome, what: impl Into<String>) -> Self {
        Self {
            name,
            outcome,
            what: what.into(),
        }
    }
}

fn shown(check: &Check) -> Row {
    let word = match check.outcome {
        Outcome::Fine => "ok",
        Outcome::Warned => "warning",
        Outcome::Failed(_) => "failed",
        Outcome::Skipped => "skipped",
    };
    let json = serde_json::json!({"check": check.name, "result": word, "what": check.what});
    Row {
        id: check.name.into(),
        cells: vec![check.name.into(), word.into(), check.what.clone()],
        json: json.to_string(),
    }
}

/// The word of `/healthz`, and what does not move: for what watches a container.
async fn tell_health(session: &Session) -> Result<Exit, Failure> {
    let name = authority(session.hub.origin());
    let asked = async {
        let mut stream = TcpStream::connect(&name).await?;
        probe(&mut stream, &name, "/healthz").await
    };
    let answer = within(asked).await.map_err(|error| {
        let unreachable = RequestErrorKind::Unreachable;
        Failure::from(RequestError::new(unreachable, format!("{name}: {error}")))
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let told: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    output::data(told["status"].as_str().unwrap_or("no dalsegno host"));
    for problem in told["problems"].as_array().into_iter().flatten() {
        output::talk(problem.as_str().unwrap_or_default());
    }
    match head.starts_with("HTTP/1.1 200") && told["status"].is_string() {
        true => Ok(Exit::Ok),
        false => Ok(Exit::Unexpected),
    }
}

/// What a host here would do; `None` when it would refuse.
fn check_config(path: &Path, checks: &mut Vec<Check>) -> Option<HostConfig> {
    let refused = |what: String| Check::new("config", Outcome::Failed(Exit::Configuration), what);
    let sources = match Sources::of_process(path) {
        Ok(sources) => sources,
        Err(error) => {
            checks.push(refused(format!("{} cannot be read: {error}", path.display())));
            return None;
        }
    };
    match HostConfig::load(&sources) {
        Ok(loaded) => {
            let what = match path.exists() {
                true => format!("{} is good", path.display()),
                false => format!("no {}: defaults and environment are good", path.display()),
            };
            checks.push(Check::new("config", Outcome::Fine, what));
            Some(loaded.config)
        }
        Err(error) => {
            checks.push(refused(error.to_string().replace('\n', "; ")));
            None
        }
    }
}

/// From the name of the host to its version; the address that answers.
async fn check_way(session: &Session, checks: &mut Vec<Check>) -> Option<SocketAddr> {
    let names = ["dns", "tcp", "http", "clock", "auth", "version"];
    let begun = checks.len();
    let address = walk(session, checks).await;
    let last = checks[begun..].last();
    if last.is_some_and(|check| matches!(check.outcome, Outcome::Failed(_))) {
        let done: Vec<&str> = checks.iter().map(|check| check.name).collect();
        let left = names.into_iter().filter(|name| !done.contains(name));
        checks.extend(left.map(|name| Check::new(name, Outcome::Skipped, "")));
    }
    address
}

async fn walk(session: &Session, checks: &mut Vec<Check>) -> Option<SocketAddr> {
    let unreachable = Outcome::Failed(Exit::CannotConnect);
    let origin = session.hub.origin();
    let name = authority(origin);
    let addresses = match within(lookup_host(name.clone())).await {
        Ok(addresses) => addresses.collect::<Vec<_>>(),
        Err(error) => {
            checks.push(Check::new("dns", unreachable, format!("{name}: {error}")));
            return None;
        }
    };
    let told: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    checks.push(Check::new("dns", Outcome::Fine, told.join(", ")));
    let mut stream = match within(TcpStream::connect(addresses.as_slice())).await {
        Ok(stream) => stream,
        Err(error) => {
            checks.push(Check::new("tcp", unreachable, format!("{name}: {error}")));
            return None;
        }
    };
    let address = stream.peer_addr().ok();
    let what = address.map(|address| format!("{address} takes connections"));
    checks.push(Check::new("tcp", Outcome::Fine, what.unwrap_or_default()));
    let asked = now();
    let head = match within(probe(&mut stream, &name, "/healthz?probe=live")).await {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => {
            answer.split("\r\n\r\n").next().unwrap_or_default().to_owned()
        }
        Ok(answer) => {
            let line = answer.lines().next().unwrap_or_default();
            let what = format!("/healthz answers {line:?}: is it a dalsegno host?");
            checks.push(Check::new("http", unreachable, what));
            return address;
        }
        Err(error) => {
            checks.push(Check::new("http", unreachable, format!("{name}: {error}")));
            return address;
        }
    };
    checks.push(Check::new("http", Outcome::Fine, "/healthz answers"));
    checks.push(check_clock(&head, asked));
    checks.extend(check_host(session).await);
    address
}

/// Within the time of a step.
async fn within<T>(step: impl Future<Output = std::io::Result<T>>) -> Result<T, String> {
    match timeout(STEP_MAX, step).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("nothing within 10 s".into()),
    }
}

/// Name and port of an address.
fn authority(origin: &str) -> String {
    let rest = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit()));
    if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    }
}

/// The answer to a probe.
async fn probe(stream: &mut TcpStream, name: &str, path: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn check_clock(head: &str, asked: Timestamp) -> Check {
    let date = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim())
    });
    let Some(there) = date.and_then(http_date) else {
        return Check::new("clock", Outcome::Warned, "the host does not tell its time");
    };
    let here = now();
    // The host writes whole seconds.
    let second = Duration::from_secs(1);
    let behind = between(there + second, asked);
    let ahead = between(here, there);
    let away = behind.max(ahead);
    let word = if behind > ahead { "behind" } else { "ahead of" };
    match away {
        Duration::ZERO => Check::new(
            "clock",
            Outcome::Fine,
            "the host's is this machine's, to a second",
        ),
        away if away <= SKEW_MAX => Check::new(
            "clock",
            Outcome::Fine,
            format!("the host's is {} {word} this machine's", short(away)),
        ),
        away => Check::new(
            "clock",
            Outcome::Warned,
            format!(
                "the host's is {} {word} this machine's: set both by NTP",
                short(away)
            ),
        ),
    }
}

/// `Sun, 01 Mar 2026 09:30:00 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split(' ').skip(1);
    let day = words.next()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let (year, time) = (words.next()?, words.next()?);
    dalsegno_host::v1::json::parse_time(&format!("{year}-{month:02}-{day}T{time}Z"))
}

/// Whether the key is good, and which version answers.
async fn check_host(session: &Session) -> Vec<Check> {
    let info = match session.ask(session.hub.info()).await {
        Ok(info) => info,
        Err(failure) => {
            let is_key = failure.exit == Exit::NotAuthorised;
            let name = if is_key { "auth" } else { "version" };
            let mut checks = Vec::new();
            if !is_key {
                checks.push(Check::new("auth", Outcome::Skipped, ""));
            }
            checks.push(Check::new(name, Outcome::Failed(failure.exit), failure.message()));
            return checks;
        }
    };
    let scopes: Vec<String> = info
        .scopes
        .iter()
        .map(|scope| format!("{scope:?}").to_lowercase())
        .collect();
    let may = match info.read_only {
        true => format!("{}; the host is read-only", scopes.join(", ")),
        false => scopes.join(", "),
    };
    let own = env!("CARGO_PKG_VERSION");
    let (outcome, what) = if info.version == own {
        (Outcome::Fine, format!("hub {}, {own} here and there", info.name))
    } else {
        let what = format!("hub {}: {} there, {own} here", info.name, info.version);
        (Outcome::Warned, what)
    };
    vec![
        Check::new("auth", Outcome::Fine, may),
        Check::new("version", outcome, what),
    ]
}

/// Whether a host could listen where it is configured to.
fn check_port(listen: SocketAddr, host: Option<SocketAddr>) -> Check {
    match std::net::TcpListener::bind(listen) {
        Ok(_) => Check::new("port", Outcome::Fine, format!("{listen} is free")),
        Err(_) if host == Some(listen) => {
            Check::new("port", Outcome::Fine, format!("{listen} is the host's"))
        }
        Err(error) => Check::new("port", Outcome::Warned, format!("{listen}: {error}")),
    }
}

/// Room and speed of a disk.
fn check_folder(folder: &Path, checks: &mut Vec<Check>) {
    if !folder.is_dir() {
        let what = format!("{} is not there yet: the first start makes it", folder.display());
        checks.push(Check::new("disk", Outcome::Fine, what));
        return;
    }
    let failed = |name, error: &dyn std::fmt::Display| {
        let what = format!("{}: {error}", folder.display());
        Check::new(name, Outcome::Failed(Exit::Unexpected), what)
    };
    checks.push(match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize) / (1024 * 1024);
            let least = dalsegno_core::limits::Limits::default().disk_free_bytes_min / (1024 * 1024);
            let (outcome, hint) = match free < least {
                true => (Outcome::Warned, ": starts are refused, give it room"),
                false => (Outcome::Fine, ""),
            };
            let what = format!("{} has {free} MiB free{hint}", folder.display());
            Check::new("disk", outcome, what)
        }
        Err(error) => failed("disk", &error),
    });
    checks.push(match sync_time(folder) {
        Ok(took) if took > SYNC_MAX => {
            let what = format!("a sync takes {}: every commit waits for one", short(took));
            Check::new("sync", Outcome::Warned, what)
        }
        Ok(took) => Check::new("sync", Outcome::Fine, format!("a sync takes {}", short(took))),
        Err(error) => failed("sync", &error),
    });
}

/// How long a small write takes until it is on the disk: the middle one of some.
fn sync_time(folder: &Path) -> std::io::Result<Duration> {
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    let measure = || -> std::io::Result<Duration> {
        let mut file = std::fs::File::create_new(&path)?;
        let mut took = Vec::new();
        for _ in 0..SYNCS {
            let begun = Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            took.push(begun.elapsed());
        }
        took.sort_unstable();
        Ok(took[took.len() / 2])
    };
    let measured = measure();
    let removed = std::fs::remove_file(&path);
    let took = measured?;
    removed?;
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_dates_are_read() {
        assert_eq!(authority("http://a.example"), "a.example:80");
        assert_eq!(authority("http://127.0.0.1:8080"), "127.0.0.1:8080");
        assert_eq!(authority("http://[::1]"), "[::1]:80");
        assert_eq!(authority("http://[::1]:9"), "[::1]:9");
        assert_eq!(
            http_date("Sun, 01 Mar 2026 09:30:00 GMT"),
            dalsegno_host::v1::json::parse_time("2026-03-01T09:30:00Z")
        );
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn a_clock_that_is_away_is_told() {
        let at = |text| dalsegno_host::v1::json::parse_time(text).unwrap();
        let head = "HTTP/1.1 200 OK\r\nDate: Sun, 01 Mar 2020 09:30:00 GMT\r\n";
        let check = check_clock(head, at("2020-03-01T10:30:01Z"));
        assert_eq!(check.outcome, Outcome::Warned);
        assert!(
            check.what.contains("1h 0m behind this machine's"),
            "{}",
            check.what
        );
        assert_eq!(
            check_clock("HTTP/1.1 200 OK", at("2020-03-01")).outcome,
            Outcome::Warned
        );
    }
}
