//! `dalsegno serve` under a service manager: what it tells, and the unit that ships.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn operations(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../operations")
        .join(path)
}

fn dalsegno() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dalsegno"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    /// The next message, whole.
    fn hears(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self
            .0
            .recv(&mut bytes)
            .expect("the service tells something in time");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// The next that is no beat of the watchdog.
    fn hears_of_a_change(&self) -> String {
        std::iter::repeat_with(|| self.hears())
            .find(|told| told.trim() != "WATCHDOG=1")
            .unwrap()
    }
}

struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(folder: &Path, watchdog: &str) -> (Manager, Served) {
    let socket = folder.join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = folder.join("dalsegno.toml");
    let hub = folder.join("hub");
    let text = format!(
        "listen = \"127.0.0.1:0\"\nauth.required = \"never\"\n[store]\npath = \"{}\"\n",
        hub.display()
    );
    std::fs::write(&config, text).unwrap();
    let process = dalsegno()
        .args(["serve", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", watchdog)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (Manager(manager), Served(process))
}

#[test]
fn a_service_manager_hears_of_ready_of_progress_and_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, mut served) = serve(folder.path(), "200000");
    let ready = manager.hears();
    assert!(
        ready.starts_with("READY=1\nSTATUS=hub default at 127.0.0.1:"),
        "{ready}"
    );
    // It is ready when it says so: whoever connects now is answered.
    let address = ready.trim().rsplit(' ').next().unwrap();
    let health = dalsegno()
        .args(["doctor", "--health", "--server", &format!("http://{address}")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&health.stdout), "healthy\n", "{health:?}");
    for _ in 0..3 {
        assert_eq!(manager.hears().trim(), "WATCHDOG=1");
    }
    let id = served.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(manager.hears_of_a_change().trim(), "STOPPING=1");
    assert!(served.0.wait().unwrap().success());
}

#[test]
fn nobody_is_told_where_nobody_listens_and_a_refused_start_is_never_ready() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, mut served) = serve(folder.path(), "no number");
    assert!(manager.hears().starts_with("READY=1\n"));
    // A second one on the same folder is refused, and says nothing to its manager.
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(other.path()).unwrap();
    let socket = other.path().join("notify");
    let silent = UnixDatagram::bind(&socket).unwrap();
    silent.set_nonblocking(true).unwrap();
    let refused = dalsegno()
        .args(["serve", "--config"])
        .arg(folder.path().join("dalsegno.toml"))
        .env("NOTIFY_SOCKET", &socket)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(silent.recv(&mut [0; 16]).is_err());
    let _ = served.0.kill();
    let told: Vec<String> = BufReader::new(served.0.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .collect();
    assert!(
        !told.iter().any(|line| line.contains("service manager")),
        "{told:?}"
    );
}

fn unit() -> String {
    std::fs::read_to_string(operations("systemd/dalsegno.service")).unwrap()
}

/// Values of a key of the unit.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect()
}

#[test]
fn the_commands_of_the_unit_are_those_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("dalsegno.toml");
    std::fs::copy(operations("dalsegno.toml"), &config).unwrap();
    let unit = unit();
    // systemd heeds RestartPreventExitStatus for the main process alone: a check before it would be
    // tried again without end.
    assert_eq!(values(&unit, "ExecStartPre"), [""; 0]);
    let lines = values(&unit, "ExecStart");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for line in lines {
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("/usr/bin/dalsegno"));
        let words: Vec<String> = words
            .map(|word| word.replace("${CONFIGURATION_DIRECTORY}", &folder.path().to_string_lossy()))
            .collect();
        let mut command = dalsegno();
        for setting in values(&unit, "Environment") {
            let (name, value) = setting.split_once('=').unwrap();
            command.env(name, value.replace("%S", &folder.path().to_string_lossy()));
        }
        // What serves is only asked whether it knows its flags.
        let done = command.args(&words).arg("--help").output().unwrap();
        assert!(done.status.success(), "{line}: {done:?}");
    }
    // Refused configurations are not tried again.
    std::fs::write(&config, "[log]\nlevle = \"warn\"\n").unwrap();
    let refused = dalsegno()
        .args(["serve", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let code = refused.status.code().unwrap().to_string();
    assert_eq!(values(&unit, "RestartPreventExitStatus"), [code.as_str()]);
}

/// With the program and the file of this build, so that systemd finds both.
#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("systemd-analyze is not here: the unit is not verified");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dalsegno.service");
    let unit = unit()
        .replace("/usr/bin/dalsegno", env!("CARGO_BIN_EXE_dalsegno"))
        .replace("Documentation=man:dalsegno(1)\n", "");
    std::fs::write(&path, unit).unwrap();
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && told.is_empty(), "{told}");
    // In tenths: how much of the machine it could reach.
    let exposure = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(exposure.status.success(), "{exposure:?}");
}

/// What `serve` says before it is there, or until it has ended.
fn told_by(process: &mut Child) -> Vec<String> {
    let mut told = Vec::new();
    for line in BufReader::new(process.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok)
    {
        let is_last = line.starts_with("try:");
        told.push(line);
        if is_last {
            break;
        }
    }
    told
}

#[test]
fn a_host_json_is_taken_and_each_key_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let config = file(
        "dalsegno.toml",
        "listen = \"127.0.0.1:0\"\nauth.required = \"never\"\n[limits]\nactivities_running_max = 3\n",
    );
    let good = file(
        "host.json",
        r#"{"version": "2.0", // ours
            "extensions": {"durableTask": {"hubName": "%HUB%", "maxConcurrentActivityFunctions": 10, "storageProvider": {}}}}"#,
    );
    let serve = |host_json: &Path| {
        let process = dalsegno()
            .args(["serve", "--config"])
            .arg(&config)
            .arg("--host-json")
            .arg(host_json)
            .env("HUB", "orders")
            .env("DALSEGNO__STORE__PATH", folder.path().join("hub"))
            .stderr(Stdio::piped())
            .spawn();
        Served(process.unwrap())
    };
    let mut served = serve(&good);
    let told = told_by(&mut served.0);
    let is_told = |line: &str| told.iter().any(|told| told.trim() == line);
    assert!(
        is_told("extensions.durableTask.hubName: taken as hub.name = orders"),
        "{told:?}"
    );
    assert!(
        is_told(
            "extensions.durableTask.storageProvider: ignored, this host keeps its hubs itself: store.path says where"
        ),
        "{told:?}"
    );
    assert!(
        told.iter().any(|line| line.contains("serve · hub orders")),
        "{told:?}"
    );
    drop(served);

    for (name, text, wanted) in [
        (
            "many.json",
            r#"{"extensions":{"durableTask":{"maxConcurrentActivityFunctions":"many"}}}"#,
            "maxConcurrentActivityFunctions: limits.activities_running_max: got \"many\"",
        ),
        (
            "broken.json",
            "{\n  \"version\" \"2.0\"}",
            "broken.json:2:13: is no JSON",
        ),
        ("absent", "", "absent cannot be read"),
    ] {
        let path = match text {
            "" => folder.path().join(name),
            text => file(name, text),
        };
        let mut refused = serve(&path);
        let told = told_by(&mut refused.0).join("\n");
        assert_eq!(refused.0.wait().unwrap().code(), Some(78), "{told}");
        assert!(told.contains(wanted), "{told}");
    }
}

/// Both hosts answered 202 once the file `lock` was deleted, and what the first had acknowledged was lost.
#[test]
fn a_deleted_lock_lets_no_second_host_in_and_a_host_that_loses_its_folder_ends_with_74() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, mut served) = serve(folder.path(), "no number");
    let ready = manager.hears();
    let address = ready.trim().rsplit(' ').next().unwrap();
    let start = |id: &str| {
        let server = format!("http://{address}");
        let args = ["start", "Order", "--id", id, "--server", &server];
        dalsegno().args(args).output().unwrap()
    };
    assert!(start("order-1").status.success());
    let hub = folder.path().join("hub");
    std::fs::remove_file(hub.join("lock")).unwrap();
    let second = dalsegno()
        .args(["serve", "--config"])
        .arg(folder.path().join("dalsegno.toml"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(4), "{told}");
    assert!(told.contains("its file `lock` was deleted or replaced"), "{told}");
    assert!(start("order-2").status.success(), "the first one goes on");

    std::fs::rename(&hub, folder.path().join("moved")).unwrap();
    let refused = start("order-3");
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(served.0.wait().unwrap().code(), Some(74));
    assert!(!hub.exists(), "it makes nothing where its folder was");
    let verified = dalsegno()
        .arg("verify")
        .arg(folder.path().join("moved"))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

/// An I/O error at the first start was taken for a refused configuration, which the unit never tries
/// again, and left a folder at which every later start panicked.
#[test]
fn a_first_start_whose_writes_fail_ends_with_75_and_the_next_one_creates_the_hub() {
    // In blocks of 512 bytes: within the identity, the tables (some 90 KiB), and the first segment (256 KiB).
    for blocks in [0, 1, 8, 16, 64, 128, 170, 184, 192, 256, 511] {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("dalsegno.toml");
        let hub = folder.path().join("hub");
        let text = format!(
            "listen = \"127.0.0.1:0\"\nauth.required = \"never\"\n[store]\npath = \"{}\"\n",
            hub.display()
        );
        std::fs::write(&config, text).unwrap();
        // With the signal ignored, a write beyond the limit fails as on a disk that refuses it.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" serve --config \"$1\"");
        let failed = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_dalsegno")])
            .arg(&config)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&failed.stderr);
        assert_eq!(failed.status.code(), Some(75), "{blocks} blocks: {told}");
        assert!(told.contains("error[io]: "), "{told}");
        let (manager, _served) = serve(folder.path(), "no number");
        assert!(manager.hears().starts_with("READY=1\n"), "{blocks} blocks");
    }
}

#[test]
fn the_unit_retries_a_disk_that_fails_without_end() {
    let unit = unit();
    assert_eq!(values(&unit, "Restart"), ["on-failure"]);
    assert_eq!(values(&unit, "RestartPreventExitStatus"), ["78"]);
    assert_eq!(values(&unit, "StartLimitIntervalSec"), ["0"]);
}
