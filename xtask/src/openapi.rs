//! Asks a real server for everything that its OpenAPI document tells of, and checks the answers.
//!
//! Schemathesis makes the requests, good ones and bad ones; `tests/openapi/schemathesis.toml` says how
//! many, and what is left out and why. The server is the harp shop: a host with instances in every
//! state, entities and limiters.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;

use crate::ci::status;
use crate::sdks::{install_python, text};

/// Where packages and hubs are, below the folder of the workspace.
const FOLDER: &str = "target/openapi";
const SUITE: &str = "tests/openapi";
/// Instances that are done, beside one of each kind.
const FILL: &str = "50";

/// Installs the packages, builds the server and asks it.
pub(crate) fn all(arguments: &[String]) -> Result<(), String> {
    let root = std::env::current_dir().map_err(|error| error.to_string())?;
    let folder = root.join(FOLDER);
    let hub = folder.join("hub");
    if hub.exists() {
        std::fs::remove_dir_all(&hub).map_err(|error| format!("{}: {error}", hub.display()))?;
    }
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let python = install_python(&root, &folder, &format!("{SUITE}/requirements.txt"))?;
    crate::ci::build()?;
    let shop = Shop::open(&root.join("target/debug/harp-shop"), &hub)?;
    let asked = ask(&root, &folder, &python, &shop.address, arguments);
    let told = shop.close()?;
    asked?;
    match told.iter().find(|line| line.contains("panicked")) {
        Some(line) => Err(format!("the server: {line}")),
        None => Ok(()),
    }
}

fn ask(root: &Path, folder: &Path, python: &Path, address: &str, arguments: &[String]) -> Result<(), String> {
    let program = python.with_file_name("schemathesis");
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .arg("--config-file")
        .arg(root.join(SUITE).join("schemathesis.toml"))
        .args(["run", &format!("{address}/openapi.json"), "--no-color"])
        .args(arguments);
    status(command, "schemathesis")
}

/// The server. Ends when its input does.
struct Shop {
    address: String,
    process: Child,
    input: ChildStdin,
    told: JoinHandle<Vec<String>>,
}

impl Shop {
    fn open(program: &PathBuf, hub: &Path) -> Result<Self, String> {
        let mut process = Command::new(program)
            .args(["--until-stdin-ends", "--fill", FILL, "--folder", &text(hub)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
        let (Some(input), Some(output), Some(talk)) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            return Err("the server has no pipes".to_owned());
        };
        let told = std::thread::spawn(move || BufReader::new(talk).lines().map_while(Result::ok).collect());
        let mut line = String::new();
        let mut output = BufReader::new(output);
        output.read_line(&mut line).map_err(|error| error.to_string())?;
        let address = line.trim().trim_end_matches("/dashboard/").to_owned();
        // It says nothing more, and must not wait for a reader if it does.
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
        match address.starts_with("http") {
            true => Ok(Self {
                address,
                process,
                input,
                told,
            }),
            false => Err(format!("the server did not start: {}", talk_of(told))),
        }
    }

    /// What it said.
    fn close(mut self) -> Result<Vec<String>, String> {
        drop(self.input);
        let ended = self.process.wait().map_err(|error| error.to_string())?;
        let told = self.told.join().unwrap_or_default();
        match ended.success() {
            true => Ok(told),
            false => Err(format!("the server ended with {ended}: {}", told.join("\n"))),
        }
    }
}

fn talk_of(told: JoinHandle<Vec<String>>) -> String {
    told.join().unwrap_or_default().join("\n")
}
