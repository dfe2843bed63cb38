//! `dalsegno dev`: where it listens, which hubs it has, and how they are named.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use expect_test::{Expect, expect};

/// A server that was told where to listen. Killed when dropped.
struct Dev {
    process: Child,
    /// What it said until it was there.
    told: Vec<String>,
}

impl Dev {
    fn start(folder: &Path, compatible: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_dalsegno"))
            .args(["dev", "--port", "0", "--compat-ports", compatible, "--data-dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let mut told = Vec::new();
        for line in stderr.lines().map_while(Result::ok) {
            let is_last = line.starts_with("try:");
            told.push(line);
            if is_last {
                break;
            }
        }
        Self { process, told }
    }

    /// The line of the banner that begins so, without what it begins with.
    fn line(&self, begin: &str) -> &str {
        let found = self
            .told
            .iter()
            .find_map(|line| line.trim_start().strip_prefix(begin));
        found.unwrap_or_else(|| panic!("no {begin} in {:?}", self.told))
    }

    fn run(&self, port: &str, line: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_dalsegno"))
            .args(line.split(' '))
            .env_clear()
            .env("DALSEGNO_SERVER", format!("http://127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(self.process.id() > 0);
        let mut told = String::from_utf8(output.stdout).unwrap();
        for line in String::from_utf8(output.stderr).unwrap().lines() {
            told += &format!("2| {line}\n");
        }
        told + &format!("exit {}", output.status.code().unwrap_or(-1))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn check(dev: &Dev, port: &str, line: &str, wanted: &Expect) {
    wanted.assert_eq(&dev.run(port, line));
}

#[test]
fn dev_answers_on_all_its_ports_and_passes_over_one_that_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = (taken.local_addr().unwrap().port(), taken);
    let dev = Dev::start(folder.path(), &format!("0,{},0", taken.0));
    assert!(
        dev.line(&format!("port {},", taken.0)).contains("is not served"),
        "{:?}",
        dev.told
    );
    let (own, others) = dev
        .line("gRPC       http://127.0.0.1:")
        .split_once("   also ")
        .unwrap();
    let ports: Vec<&str> = others.split(' ').map(|port| &port[1..]).collect();
    assert_eq!(ports.len(), 2, "{others}");
    assert_eq!(dev.run(ports[0], "start Anything --id a -q -o id"), "a\nexit 0");
    for port in [own, ports[0], ports[1]] {
        assert_eq!(dev.run(port, "list -o id"), "a\nexit 0");
    }
}

#[test]
fn what_a_host_logs_is_shown_and_changed_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path(), "0");
    let port = dev
        .line("gRPC       http://127.0.0.1:")
        .split(' ')
        .next()
        .unwrap();
    let line = |line: &str, wanted: Expect| check(&dev, port, line, &wanted);
    line(
        "log-level",
        expect![[r#"
        warn,dalsegno=info,dalsegno_grpc=info
        exit 0"#]],
    );
    line(
        "log-level debug",
        expect![[r#"
        2| the host logs debug
        exit 0"#]],
    );
    line(
        "log-level --json",
        expect![[r#"
        {"level":"debug"}
        exit 0"#]],
    );
    line(
        "log-level loud",
        expect![[r#"
        2| error[invalid_body]: "loud" is no level: write error, warn, info, debug, trace, or a filter such as info,dalsegno_engine=debug
        exit 2"#]],
    );
    line(
        "log-level",
        expect![[r#"
        debug
        exit 0"#]],
    );
}

#[test]
fn a_command_reaches_every_hub_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    drop(Dev::start(folder.path(), "0"));
    // What is in this folder is a hub that somebody named before: `dev` opens it.
    std::fs::create_dir_all(folder.path().join("hubs/orders")).unwrap();
    let dev = Dev::start(folder.path(), "0");
    let port = dev
        .line("gRPC       http://127.0.0.1:")
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    let line = |line: &str, wanted: Expect| check(&dev, &port, line, &wanted);
    line(
        "hub list",
        expect![[r"
            HUB
            default
            orders
            exit 0"]],
    );
    line(
        "start Anything --id in-orders --hub orders -q",
        expect![[r"
            id  in-orders
            exit 0"]],
    );
    line(
        "list -o id --hub Orders",
        expect![[r"
            in-orders
            exit 0"]],
    );
    line("list -o id", expect![[r"exit 0"]]);
    line(
        "terminate in-orders --reason enough --hub orders -q",
        expect![[r"exit 0"]],
    );
    line(
        "get in-orders",
        expect![[r"
            2| error[not_found]: there is no instance in-orders
            2|   help: dalsegno list shows what there is
            exit 3"]],
    );
    line(
        "list --hub order",
        expect![[r#"
            2| error[unknown_hub]: there is no task hub "order" here, only default, orders: create it with `dalsegno hub create order`; where the host allows it, a worker or a start over gRPC that names it creates it too
            2|   help: dalsegno hub list shows those that are here
            exit 2"#]],
    );
}
