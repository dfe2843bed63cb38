//! Task hubs as things: made, deleted, measured, backed up and restored, against servers that run.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use expect_test::expect;

/// A server on a free port. Killed when dropped.
struct Dev {
    process: Child,
    port: String,
}

impl Dev {
    fn start(folder: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_dalsegno"))
            .args(["dev", "--port", "0", "--no-compat-ports", "--data-dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut port = None;
        for line in lines.by_ref().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once("gRPC       http://127.0.0.1:") {
                port = address.split(' ').next().map(str::to_owned);
            }
            if line.starts_with("try:") {
                break;
            }
        }
        // Nobody may be held up by a pipe that is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            port: port.expect("the banner says where gRPC is"),
        }
    }

    fn run(&self, line: &str) -> String {
        run(Path::new("."), Some(&self.port), line)
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Stdout, then stderr with `2| ` before each line, then the exit code.
fn run(folder: &Path, port: Option<&str>, line: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dalsegno"));
    command.args(line.split(' ')).env_clear().current_dir(folder);
    if let Some(port) = port {
        command.env("DALSEGNO_SERVER", format!("http://127.0.0.1:{port}"));
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let mut told = String::from_utf8(output.stdout).unwrap();
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        told += &format!("2| {line}\n");
    }
    told + &format!("exit {}", output.status.code().unwrap_or(-1))
}

#[test]
fn a_hub_is_made_by_who_wants_one_and_not_by_who_looks() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path());
    let line = |line: &str, wanted: expect_test::Expect| wanted.assert_eq(&dev.run(line));
    let hub = folder.path().join("hubs/orders");
    line(
        "list --hub orders",
        expect![[r#"
            2| error[unknown_hub]: there is no task hub "orders" here, only default: create it with `dalsegno hub create orders`; where the host allows it, a worker or a start over gRPC that names it creates it too
            2|   help: dalsegno hub list shows those that are here
            exit 2"#]],
    );
    assert!(!hub.exists(), "a look makes nothing");
    line(
        "hub create orders",
        expect![[r#"
            hub  orders
            2| made the task hub orders
            exit 0"#]],
    );
    line(
        "hub create orders -o id",
        expect![[r#"
            orders
            2| the task hub orders was there and is as it was
            exit 0"#]],
    );
    line(
        "hub create no/name",
        expect![[r#"
            2| error[invalid_hub_name]: "no/name" is no name of a task hub: 1 to 45 letters, digits, - and _
            2|   help: dalsegno hub list shows those that are there
            exit 2"#]],
    );
    assert!(hub.exists());
}

#[test]
fn a_hub_goes_when_its_name_is_said_twice() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path());
    let line = |line: &str, wanted: expect_test::Expect| wanted.assert_eq(&dev.run(line));
    let hub = folder.path().join("hubs/orders");
    assert!(dev.run("hub create orders -q").ends_with("exit 0"));
    assert_eq!(
        dev.run("start Order --id o-1 --hub orders -q -o id"),
        "o-1\nexit 0"
    );
    line(
        "hub delete orders",
        expect![[r#"
            2| error[usage]: this deletes the task hub orders with 1 instances and nobody can be asked
            2|   help: say --yes
            exit 2"#]],
    );
    line(
        "hub delete default --yes",
        expect![[r#"
            2| error[hub_is_fixed]: "default" is the host's own task hub and goes with it: stop the host and remove its folder, or delete what is in it with `dalsegno purge`
            2|   help: dalsegno hub list shows those that are there
            exit 4"#]],
    );
    line(
        "durable delete-task-hub --task-hub-name orders",
        expect![[r#"
            2| deleted the task hub orders
            exit 0"#]],
    );
    assert!(!hub.exists());
    let left: Vec<_> = fs::read_dir(folder.path().join("hubs")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    line(
        "hub delete orders --yes",
        expect![[r#"
            2| error[unknown_hub]: there is no task hub "orders" here, only default: create it with `dalsegno hub create orders`; where the host allows it, a worker or a start over gRPC that names it creates it too
            2|   help: dalsegno hub list shows those that are there
            exit 3"#]],
    );
    line("hub list -o id", expect!["default\nexit 0"]);
    // It can be made again, and is empty then.
    assert!(dev.run("hub create orders -q").ends_with("exit 0"));
    assert_eq!(dev.run("list --hub orders -o id"), "exit 0");
}

#[test]
fn an_empty_hub_is_small_and_its_numbers_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path());
    assert!(dev.run("hub create orders -q").ends_with("exit 0"));
    let stats = |line: &str| -> serde_json::Value {
        let told = dev.run(line);
        serde_json::from_str(told.strip_suffix("exit 0").expect(&told)).unwrap()
    };
    let empty = stats("hub stats orders --json");
    assert!(empty["diskBytes"].as_u64().unwrap() < 2_000_000, "{empty}");
    assert_eq!(empty["own"], false);
    for n in 0..3 {
        let started = dev.run(&format!("start Order --id o-{n} --hub orders -q -o id"));
        assert!(started.ends_with("exit 0"), "{started}");
    }
    let full = stats("hub stats --hub orders --json");
    let pending = full["instances"]
        .as_array()
        .unwrap()
        .iter()
        .find(|count| count["status"] == "Pending")
        .unwrap();
    assert_eq!(pending["count"], 3, "{full}");
    assert_eq!(full["createdLastDay"], 3);
    assert_eq!(full["growthBytesPerDay"], full["databaseBytes"]);
    let people = dev.run("hub stats orders");
    assert!(
        people.contains("3 Pending") && people.ends_with("exit 0"),
        "{people}"
    );
}

/// Of all instances.
fn ids(dev: &Dev) -> Vec<String> {
    let told = dev.run("list --top 1000 -o id");
    let mut ids: Vec<String> = told.lines().map(str::to_owned).collect();
    assert_eq!(ids.pop().as_deref(), Some("exit 0"), "{told}");
    ids.sort();
    ids
}

#[test]
fn a_backup_of_a_host_under_load_brings_its_instances_back() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, file) = (folder.path().join("hub"), folder.path().join("hub.backup"));
    let dev = Dev::start(&hub);
    for n in 0..5 {
        dev.run(&format!("start Order --id before-{n} -i {n} -q"));
    }
    let before = ids(&dev);
    assert_eq!(before.len(), 5);
    let backup = format!("backup --to {}", file.display());
    let told = std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..10 {
                dev.run(&format!("start Order --id during-{n} -q"));
            }
        });
        dev.run(&backup)
    });
    assert!(
        told.starts_with("result      backed up\nhub         default\n"),
        "{told}"
    );
    let again = dev.run(&backup);
    assert!(
        again.contains("is there already") && again.ends_with("exit 2"),
        "{again}"
    );
    dev.run("start Order --id after -q");
    assert_eq!(ids(&dev).len(), 16);
    // The machine is lost: the process dies, its folder is gone.
    dev.kill();
    fs::remove_dir_all(&hub).unwrap();

    let here = |line: &str| run(folder.path(), None, line);
    let checked = here("restore hub.backup --check");
    assert!(checked.starts_with("result      sound\n"), "{checked}");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "a check leaves nothing: {names:?}");
    let restored = here("restore hub.backup --path hub");
    assert!(restored.starts_with("result      restored\n"), "{restored}");
    let occupied = here("restore hub.backup --path hub");
    assert!(
        occupied.contains("is not empty") && occupied.ends_with("exit 2"),
        "{occupied}"
    );
    let verified = here("verify hub");
    assert!(verified.ends_with("exit 0"), "{verified}");
    let dev = Dev::start(&hub);
    let found = ids(&dev);
    assert!(found.iter().all(|id| id != "after"), "{found:?}");
    assert!(before.iter().all(|id| found.contains(id)), "{found:?}");
    assert!(dev.run("get before-3 --json").contains("\"input\":3"));
    assert_eq!(dev.run("start Order --id new -q -o id"), "new\nexit 0");
}

#[test]
fn a_folder_is_backed_up_without_a_host_and_a_damaged_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("hub"));
    assert_eq!(dev.run("start Order --id new -q -o id"), "new\nexit 0");
    let here = |line: &str| run(folder.path(), None, line);
    let open = here("backup --path hub --to offline.backup");
    assert!(
        open.contains("hub is in use by pid") && open.ends_with("exit 4"),
        "{open}"
    );
    // What was started a moment ago may be in the log alone.
    dev.kill();
    let none = here("backup --path nowhere --to offline.backup");
    assert!(none.ends_with("exit 78"), "{none}");
    let offline = here("backup --path hub --to offline.backup");
    assert!(offline.starts_with("result      backed up\n"), "{offline}");
    let mut bytes = fs::read(folder.path().join("offline.backup")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(folder.path().join("damaged.backup"), bytes).unwrap();
    for line in [
        "restore damaged.backup --path never",
        "restore damaged.backup --check",
    ] {
        let refused = here(line);
        assert!(
            refused.contains("2| error[unexpected]: frame 1 at byte")
                && refused.contains("(hub.db from byte 0 on) does not have its checksum")
                && refused.ends_with("exit 1"),
            "{refused}"
        );
    }
    assert!(!folder.path().join("never").exists());
    assert!(here("restore offline.backup --path second").ends_with("exit 0"));
    let dev = Dev::start(&folder.path().join("second"));
    assert!(ids(&dev).contains(&"new".to_owned()));
}

/// Damages the rows of these instances: the name of the orchestrator, in the row and not in an index of
/// ids.
fn damage(tables: &Path, ids: &[&str]) {
    let mut bytes = fs::read(tables).unwrap();
    for id in ids {
        let row = bytes
            .windows(128)
            .position(|run| run.starts_with(id.as_bytes()) && run.windows(5).any(|name| name == b"Order"))
            .expect("the row is in the file");
        let name = bytes[row..].windows(5).position(|name| name == b"Order").unwrap();
        bytes[row + name] = 0xff;
    }
    fs::write(tables, bytes).unwrap();
}

#[test]
fn a_damaged_row_fails_no_list_and_is_purged_by_force_or_moved_aside_by_a_repair() {
    // One such row failed every list over it, the overview and every purge by filter.
    let folder = tempfile::tempdir().unwrap();
    let hub = folder.path().join("hub");
    let here = |line: &str| run(folder.path(), None, line);
    let dev = Dev::start(&hub);
    for id in ["sound-1", "rotten-1", "rotten-2", "rotten-3", "sound-2"] {
        assert!(dev.run(&format!("start Order --id {id} -q")).ends_with("exit 0"));
    }
    dev.kill();
    // What is only in the log is in the tables then.
    assert!(here("verify hub").ends_with("exit 0"));
    let path = hub.join("hub.db");
    damage(&path, &["rotten-1", "rotten-2", "rotten-3"]);

    let dev = Dev::start(&hub);
    let mut found = ids(&dev);
    found.sort();
    assert_eq!(found, ["rotten-1", "rotten-2", "rotten-3", "sound-1", "sound-2"]);
    let listed = dev.run("list --json");
    assert!(
        listed.contains("repair the hub"),
        "it is shown as damaged: {listed}"
    );
    let refused = dev.run("get rotten-1");
    assert!(refused.ends_with("exit 1"), "it is answered: {refused}");
    assert!(dev.run("get sound-1").ends_with("exit 0"));
    let refused = dev.run("purge rotten-2");
    assert!(
        refused.ends_with("exit 1"),
        "it is not purged by the way: {refused}"
    );
    let purged = dev.run("purge rotten-2 --force");
    assert!(purged.ends_with("exit 0"), "{purged}");
    assert!(dev.run("get rotten-2").ends_with("exit 3"));
    let open = here("repair hub");
    assert!(open.ends_with("exit 4"), "{open}");
    let repaired = dev.run("repair");
    for number in 1..=2 {
        let moved = format!("2| moved to quarantine {number}: ");
        assert!(
            repaired.contains(&moved) && repaired.ends_with("exit 0"),
            "{repaired}"
        );
    }
    assert!(dev.run("get rotten-3").ends_with("exit 3"));
    dev.kill();
    let verified = here("verify hub");
    assert!(verified.ends_with("exit 0"), "{verified}");
    damage(&path, &["sound-2"]);
    let verified = here("verify hub");
    assert!(verified.ends_with("exit 1"), "{verified}");
    let repaired = here("repair hub");
    assert!(
        repaired.contains("2| moved to quarantine 3: instances key ") && repaired.ends_with("exit 0"),
        "{repaired}"
    );
    assert!(here("verify hub").ends_with("exit 0"));
    let dev = Dev::start(&hub);
    assert!(dev.run("get rotten-1").ends_with("exit 3"));
    assert!(dev.run("start Order --id rotten-1 -q").ends_with("exit 0"));
}
