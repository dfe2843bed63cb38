//! Forged, stale and foreign credentials at a host with a key file, over HTTP and over gRPC.
//!
//! Every attempt is refused, changes nothing, creates no hub, and is in the audit log. Each credential meets a host
//! of its own, so that none of them is only refused because of how many came before.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::broken::{Broken, Outcome, ensure};
use crate::http::{Request, Response};
use crate::ledger::API;
use crate::process::{Host, printed};
use crate::{Attack, Report};

/// The management API.
const MANAGEMENT: &str = "/runtime/webhooks/durabletask";

/// An empty message, as gRPC frames it.
const EMPTY_MESSAGE: &str = "\0\0\0\0\0";

/// Calls of gRPC that change something, and the one that once created hubs.
const CALLS: [&str; 8] = [
    "Hello",
    "StartInstance",
    "RaiseEvent",
    "TerminateInstance",
    "PurgeInstances",
    "SignalEntity",
    "CreateTaskHub",
    "DeleteTaskHub",
];

/// Codes of gRPC with which a call is refused: not found, permission denied, resource exhausted, unauthenticated.
const REFUSALS: [u32; 4] = [5, 7, 8, 16];

/// A credential that stops being valid ends what it opened within 5 s; a busy machine may take longer.
const END_CUT_OFF: Duration = Duration::from_secs(30);

/// How often a credential is tried until it is refused.
const TRY_POLL: Duration = Duration::from_millis(50);

/// The lifetime of the key that expires.
const KEY_LIFETIME: &str = "6s";

pub(crate) fn run(attack: &Attack) -> Outcome<Report> {
    attack.in_folder("credentials", |folder| {
        let scene = Scene::new(attack, folder)?;
        let (keys, ends) = scene.end_keys()?;
        let credentials = credentials(&keys);
        let mut attempts = 0;
        for credential in &credentials {
            attempts += scene
                .attack_with(credential)
                .map_err(|broken| broken.at(credential.name))?;
        }
        attempts += scene.attack_with_two_hosts(&keys.admin)?;
        attempts += attack_without_keys(attack, folder)?;
        scene.nothing_changed(&keys.admin)?;
        let slowest = ends.iter().max().copied().unwrap_or_default();
        Ok(Report::new(
            attempts,
            format!(
                "{} credentials; {} streams ended at most {slowest:.1?} after their keys",
                credentials.len(),
                ends.len()
            ),
        ))
    })
}

/// Valid keys and stale ones.
#[derive(Debug)]
struct Keys {
    admin: String,
    reader: String,
    expired: String,
    revoked: String,
    of_other_hub: String,
    /// The key in a link to the status of `victim-1`.
    link: String,
    /// The same from before the secret of links was replaced.
    stale_link: String,
}

/// The credential that an attempt sends.
#[derive(Debug)]
struct Credential {
    name: &'static str,
    headers: Vec<(&'static str, String)>,
    code: Option<String>,
    /// It is valid for reading.
    may_read: bool,
}

fn credentials(keys: &Keys) -> Vec<Credential> {
    let mut all = vec![
        Credential {
            name: "nothing",
            headers: Vec::new(),
            code: None,
            may_read: false,
        },
        Credential {
            name: "a key with the scope read",
            headers: vec![("x-functions-key", keys.reader.clone())],
            code: None,
            may_read: true,
        },
        Credential {
            name: "a valid key in the query",
            headers: Vec::new(),
            code: Some(keys.admin.clone()),
            may_read: false,
        },
        Credential {
            name: "a loopback address in forwarded headers",
            headers: vec![
                ("forwarded", "for=127.0.0.1;host=localhost".to_owned()),
                ("x-forwarded-for", "127.0.0.1".to_owned()),
                ("x-forwarded-host", "localhost".to_owned()),
            ],
            code: None,
            may_read: false,
        },
        Credential {
            name: "a wrong key as a token",
            headers: vec![("authorization", "Bearer dsk_wrong".to_owned())],
            code: None,
            may_read: false,
        },
    ];
    let in_both_places = [
        ("a wrong key", "dsk_wrong".to_owned()),
        ("a forged link", "dsl1_x".to_owned()),
        ("a forged link of version 2", "dsl2_x".to_owned()),
        ("a forged link with a time", "dsl1_7fffffff_00".to_owned()),
        (
            "a forged link of version 2 with a time",
            "dsl2_0_7fffffff_00".to_owned(),
        ),
        ("an expired key", keys.expired.clone()),
        ("a revoked key", keys.revoked.clone()),
        ("a key of another hub", keys.of_other_hub.clone()),
        ("a link of another instance", keys.link.clone()),
        (
            "a link from before the secret was replaced",
            keys.stale_link.clone(),
        ),
    ];
    for (name, secret) in in_both_places {
        all.push(Credential {
            name,
            headers: vec![("x-functions-key", secret.clone())],
            code: None,
            may_read: false,
        });
        all.push(Credential {
            name,
            headers: Vec::new(),
            code: Some(secret),
            may_read: false,
        });
    }
    all
}

/// A configured host with keys.
#[derive(Debug)]
struct Scene<'a> {
    attack: &'a Attack,
    folder: PathBuf,
}

impl<'a> Scene<'a> {
    fn new(attack: &'a Attack, folder: &Path) -> Outcome<Self> {
        let scene = Self {
            attack,
            folder: folder.to_owned(),
        };
        let config = format!(
            "listen = \"127.0.0.1:0\"\n[store]\npath = {:?}\n[auth]\nkeys_file = {:?}\n[audit]\nfile = {:?}\n",
            folder.join("hub"),
            folder.join("keys.json"),
            folder.join("audit.jsonl"),
        );
        std::fs::write(folder.join("dalsegno.toml"), config)?;
        Ok(scene)
    }

    /// A host that creates hubs which clients with the right key name.
    fn start(&self) -> Outcome<Host> {
        let mut command = self.attack.program.command();
        command.args(["serve", "--hub-auto-create", "--config"]);
        Host::start_ready({
            command.arg(self.folder.join("dalsegno.toml"));
            command
        })
    }

    /// Runs `dalsegno key` with the key file; returns what it prints on stdout.
    fn key(&self, arguments: &[&str]) -> Outcome<String> {
        let mut command = self.attack.program.command();
        let file = self.folder.join("keys.json");
        let output = command
            .arg("key")
            .args(arguments)
            .arg("--file")
            .arg(file)
            .output()?;
        ensure(output.status.success(), || {
            format!("dalsegno key {arguments:?}: {}", printed(&output))
        })?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn create_key(&self, arguments: &[&str]) -> Outcome<String> {
        let arguments = [&["create"], arguments, &["--output", "json"]].concat();
        let created: Value = serde_json::from_str(&self.key(&arguments)?)?;
        let secret = created["secret"].as_str();
        secret
            .map(str::to_owned)
            .ok_or_else(|| Broken::new(format!("a key without a secret: {created}")))
    }

    /// Creates the keys, opens streams with those that end, and waits until their streams have ended.
    fn end_keys(&self) -> Outcome<(Keys, Vec<Duration>)> {
        let admin = self.create_key(&["admin", "--scope", "all", "--all-hubs"])?;
        let reader = self.create_key(&["reader", "--scope", "read"])?;
        let revoked = self.create_key(&["revoked", "--scope", "all"])?;
        let of_other_hub = self.create_key(&["other", "--scope", "all", "--hub", "other"])?;
        let host = self.start()?;
        let address = host.address;
        let stale_link = link(address, &admin, "victim-1")?;
        let mut streams = streams(address, &revoked)?;
        self.key(&["revoke", "revoked"])?;
        let mut ends = until_ended(&mut streams)?;
        let expired = self.create_key(&["expiring", "--scope", "all", "--expires", KEY_LIFETIME])?;
        until_status(address, &expired, &[200])?;
        let mut streams = self::streams(address, &expired)?;
        until_status(address, &expired, &[401])?;
        ends.extend(until_ended(&mut streams)?);
        self.key(&["rotate-link-secret"])?;
        until_link_is_refused(address, &stale_link)?;
        let link = link(address, &admin, "victim-2")?;
        host.shut_down()?;
        let keys = Keys {
            admin,
            reader,
            expired,
            revoked,
            of_other_hub,
            link,
            stale_link,
        };
        Ok((keys, ends))
    }

    /// Tries everything with a credential; returns how many attempts that were.
    fn attack_with(&self, credential: &Credential) -> Outcome<u64> {
        let host = self.start()?;
        let mut subjects = Vec::new();
        for (number, (method, path, action)) in changes().into_iter().enumerate() {
            let subject = format!("attack-{number}");
            let path = path.replace("{subject}", &subject);
            let response = credential.http(host.address, method, &path)?;
            refused(&response, method, &path)?;
            subjects.push((action, subject));
        }
        let reads = match credential.may_read {
            true => &[][..],
            false => &[
                "/instances",
                "/instances/victim-1",
                "/instances/victim-1?showHistory=true",
            ][..],
        };
        for path in reads {
            let path = format!("{MANAGEMENT}{path}");
            refused(&credential.http(host.address, "GET", &path)?, "GET", &path)?;
        }
        let mut calls: Vec<(&str, &str)> = CALLS.iter().map(|call| (*call, "forged")).collect();
        calls.extend(CALLS.iter().skip(1).map(|call| (*call, "default")));
        for (call, hub) in &calls {
            // A call of gRPC reads no key from the query.
            credential.grpc(host.address, call, hub)?;
        }
        host.shut_down()?;
        self.is_audited(&subjects, &calls)?;
        Ok((subjects.len() + reads.len() + calls.len()) as u64)
    }

    /// Every attempt to change something is in the audit log, which is then emptied.
    fn is_audited(&self, subjects: &[(&str, String)], calls: &[(&str, &str)]) -> Outcome {
        let path = self.folder.join("audit.jsonl");
        let text = std::fs::read_to_string(&path)?;
        let records: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        for (action, subject) in subjects {
            let is_there = records.iter().any(|record| {
                let recorded = record["action"].as_str().unwrap_or_default();
                recorded.starts_with(action) && record["subject"].to_string().contains(subject.as_str())
            });
            ensure(is_there, || {
                format!("the audit log has no record of {action} {subject}: {text}")
            })?;
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (call, _) in calls.iter().filter(|(call, _)| *call != "Hello") {
            *counts.entry(call).or_default() += 1;
        }
        for (call, count) in counts {
            let recorded = records
                .iter()
                .filter(|record| record["action"] == call && record["grpc"] == true);
            let recorded = recorded.count();
            ensure(recorded == count, || {
                format!("the audit log has {recorded} records of {count} calls {call}: {text}")
            })?;
        }
        std::fs::remove_file(&path)?;
        Ok(())
    }

    /// A request with two hosts is refused, also with a valid key.
    fn attack_with_two_hosts(&self, admin: &str) -> Outcome<u64> {
        let host = self.start()?;
        let path = format!("{MANAGEMENT}/orchestrators/Order/attack-two-hosts");
        let own = host.address.to_string();
        for hosts in [
            [own.as_str(), "evil.example"],
            ["evil.example", &own],
            [&own, &own],
        ] {
            let request = Request::post(&path, "{}").header("x-functions-key", admin);
            let request = hosts
                .into_iter()
                .fold(request, |request, host| request.header("host", host));
            let response = request.send(host.address)?;
            ensure((400..500).contains(&response.status), || {
                format!(
                    "a request with the hosts {hosts:?} was answered {}",
                    response.status
                )
            })?;
        }
        host.shut_down()?;
        Ok(3)
    }

    /// No attempt changed anything, and no hub was created.
    fn nothing_changed(&self, admin: &str) -> Outcome {
        let host = self.start()?;
        let path = format!("{API}/instances?top=1000");
        let listed = Request::get(&path)
            .header("x-functions-key", admin)
            .send(host.address)?;
        let rows = listed.json()?["rows"].clone();
        let rows = rows.as_array().into_iter().flatten();
        let mut found: Vec<String> = rows
            .map(|row| format!("{} {}", row["id"], row["status"]))
            .collect();
        found.sort();
        let wanted = ["\"victim-1\" \"Pending\"", "\"victim-2\" \"Pending\""];
        ensure(found == wanted, || {
            format!("the instances are {found:?}, not {wanted:?}")
        })?;
        host.shut_down()?;
        let hubs = self.folder.join("hub/hubs");
        let created: Vec<_> = match hubs.exists() {
            true => std::fs::read_dir(&hubs)?
                .flatten()
                .map(|entry| entry.file_name())
                .collect(),
            false => Vec::new(),
        };
        ensure(created.is_empty(), || format!("hubs were created: {created:?}"))
    }
}

/// Requests that change something: method, path, and the action in the audit log.
fn changes() -> Vec<(&'static str, String, &'static str)> {
    let management = [
        ("POST", "/orchestrators/Order/{subject}", "start"),
        ("POST", "/instances/{subject}/raiseEvent/go", "raiseEvent"),
        ("POST", "/instances/{subject}/terminate", "terminate"),
        ("POST", "/instances/{subject}/suspend", "suspend"),
        ("DELETE", "/instances/{subject}", "purge"),
        ("POST", "/entities/Counter/{subject}?op=add", "signal"),
    ];
    let own = [
        ("PUT", "/hubs/{subject}", "hubs/"),
        ("POST", "/instances/{subject}/events/go", "events"),
        ("PUT", "/limiters/{subject}", "limiters/"),
    ];
    let management = management.map(|(method, path, action)| (method, format!("{MANAGEMENT}{path}"), action));
    let own = own.map(|(method, path, action)| (method, format!("{API}{path}"), action));
    management.into_iter().chain(own).collect()
}

impl Credential {
    fn http(&self, address: SocketAddr, method: &str, path: &str) -> Outcome<Response> {
        let path = match &self.code {
            Some(code) if path.contains('?') => format!("{path}&code={code}"),
            Some(code) => format!("{path}?code={code}"),
            None => path.to_owned(),
        };
        let request = Request {
            method,
            path: &path,
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect(),
            body: if method == "GET" { "" } else { "{}" },
        };
        Ok(request.header("content-type", "application/json").send(address)?)
    }

    fn grpc(&self, address: SocketAddr, call: &str, hub: &str) -> Outcome {
        let code = self.code.as_ref().map(|code| format!("?code={code}"));
        let path = format!("/TaskHubSidecarService/{call}{}", code.unwrap_or_default());
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let request = Request {
            method: "POST",
            path: &path,
            headers,
            body: EMPTY_MESSAGE,
        };
        let request = request
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let response = request.header("taskhub", hub).send(address)?;
        let code = response
            .header("grpc-status")
            .and_then(|code| code.parse::<u32>().ok());
        ensure(code.is_some_and(|code| REFUSALS.contains(&code)), || {
            format!("the call {call} in the hub {hub} was answered {code:?}: {response:?}")
        })
    }
}

fn refused(response: &Response, method: &str, path: &str) -> Outcome {
    ensure(matches!(response.status, 401 | 403), || {
        format!(
            "{method} {path} was answered {} {}",
            response.status, response.body
        )
    })
}

/// Starts an instance and returns the key in the link to its status.
fn link(address: SocketAddr, admin: &str, id: &str) -> Outcome<String> {
    let path = format!("{MANAGEMENT}/orchestrators/Order/{id}");
    let started = Request::post(&path, "{}")
        .header("x-functions-key", admin)
        .send(address)?;
    let links = started.json()?;
    let code = links["statusQueryGetUri"]
        .as_str()
        .and_then(|link| link.split("code=").nth(1));
    let code = code.and_then(|code| code.split('&').next());
    let code = code.ok_or_else(|| Broken::new(format!("a start without a link: {links}")))?;
    let status = Request::get(&format!("{MANAGEMENT}/instances/{id}?code={code}")).send(address)?;
    ensure(status.status == 202, || {
        format!("a new link was answered {}", status.status)
    })?;
    Ok(code.to_owned())
}

/// Streams that stay open: of the hub, of an instance, and of work over gRPC.
fn streams(address: SocketAddr, key: &str) -> Outcome<Vec<TcpStream>> {
    let paths = [
        format!("{API}/stream"),
        format!("{API}/instances/victim-1/stream"),
    ];
    let mut streams = Vec::new();
    for path in &paths {
        streams.push(Request::get(path).header("x-functions-key", key).open(address)?);
    }
    let work = Request {
        method: "POST",
        path: "/TaskHubSidecarService/GetWorkItems",
        headers: vec![
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("x-functions-key", key),
        ],
        body: EMPTY_MESSAGE,
    };
    streams.push(work.open(address)?);
    for stream in &mut streams {
        let mut first = [0; 12];
        stream.read_exact(&mut first)?;
        ensure(&first == b"HTTP/1.1 200", || {
            format!("a stream was answered {}", String::from_utf8_lossy(&first))
        })?;
    }
    Ok(streams)
}

/// Waits for the end of each stream; returns how long that took.
fn until_ended(streams: &mut [TcpStream]) -> Outcome<Vec<Duration>> {
    let begin = Instant::now();
    let mut ends = Vec::new();
    for stream in streams {
        stream.set_read_timeout(Some(END_CUT_OFF))?;
        let mut bytes = [0; 4_096];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) => break,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Ok(_) if begin.elapsed() < END_CUT_OFF => {}
                other => {
                    return Err(Broken::new(format!(
                        "a stream had not ended {:.1?} after its key: {other:?}",
                        begin.elapsed()
                    )));
                }
            }
        }
        ends.push(begin.elapsed());
    }
    Ok(ends)
}

/// Reads with a key until the response has one of these statuses.
fn until_status(address: SocketAddr, key: &str, statuses: &[u16]) -> Outcome {
    let path = format!("{MANAGEMENT}/instances");
    until(|| {
        let response = Request::get(&path).header("x-functions-key", key).send(address)?;
        Ok(statuses.contains(&response.status))
    })
}

fn until_link_is_refused(address: SocketAddr, code: &str) -> Outcome {
    let path = format!("{MANAGEMENT}/instances/victim-1?code={code}");
    until(|| Ok(Request::get(&path).send(address)?.status == 403))
}

/// Asks again until a change of the key file counts.
fn until(mut holds: impl FnMut() -> Outcome<bool>) -> Outcome {
    let begin = Instant::now();
    while !holds()? {
        ensure(begin.elapsed() < END_CUT_OFF, || {
            format!("a change of the key file did not count after {END_CUT_OFF:?}")
        })?;
        std::thread::sleep(TRY_POLL);
    }
    Ok(())
}

/// A host on loopback without keys refuses requests that another machine or a foreign page may have caused.
fn attack_without_keys(attack: &Attack, folder: &Path) -> Outcome<u64> {
    let host = Host::start_ready(attack.program.dev(&folder.join("open")))?;
    let own = host.address.to_string();
    let other_origin = format!("http://{own}.evil.example");
    let headers: [&[(&str, &str)]; 8] = [
        &[("host", "evil.example")],
        &[("host", &own), ("host", "evil.example")],
        &[("origin", &other_origin)],
        &[("origin", "http://evil.example")],
        &[("forwarded", "for=198.51.100.7")],
        &[("x-forwarded-for", "198.51.100.7")],
        &[("x-forwarded-host", "hub.example")],
        &[("via", "1.1 proxy.example")],
    ];
    let path = format!("{MANAGEMENT}/orchestrators/Order/attack");
    for headers in headers {
        let request = Request::post(&path, "{}");
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        let response = request.send(host.address)?;
        ensure(matches!(response.status, 400 | 401 | 403 | 421), || {
            format!(
                "a request with {headers:?} was answered {} {}",
                response.status, response.body
            )
        })?;
    }
    let listed = Request::get(&format!("{API}/instances"))
        .send(host.address)?
        .json()?;
    ensure(listed["rows"].as_array().is_some_and(Vec::is_empty), || {
        format!("an attempt changed something: {listed}")
    })?;
    host.shut_down()?;
    Ok(headers.len() as u64)
}
