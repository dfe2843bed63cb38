//! The files for containers: linted, checked against their schemas, and against one another. No
//! container is started. And the configurations of proxies, with the real proxies in front of a host.

use std::path::Path;
use std::process::Command;

use crate::ci::{run, status, succeeds};
use crate::sdks::{install_python, text};

/// Where packages are installed, below the folder of the workspace.
const FOLDER: &str = "target/packaging";
const DOCKERFILE: &str = "operations/docker/Dockerfile";
const COMPOSE: &str = "operations/docker/compose.yaml";

/// Installs the linters, builds the program, and runs all checks.
pub(crate) fn check() -> Result<(), String> {
    let root = std::env::current_dir().map_err(|error| error.to_string())?;
    let folder = root.join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let python = install_python(&root, &folder, "tests/packaging/requirements.txt")?;
    let tool = |name: &str| text(&python.with_file_name(name));
    run(&tool("hadolint"), &["--failure-threshold", "style", DOCKERFILE])?;
    run(
        &tool("check-jsonschema"),
        &["--builtin-schema", "vendor.compose-spec", COMPOSE],
    )?;
    crate::ci::build()?;
    let mut command = Command::new(&python);
    command
        .arg("tests/packaging/containers.py")
        .arg(root.join("target/debug/dalsegno"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    status(command, "the checks of the files for containers")?;
    let mut command = Command::new(&python);
    command
        .arg("tests/packaging/proxies.py")
        .arg(root.join("target/debug/dalsegno"))
        .env("NGINX", proxy(&folder, "nginx", "-v", "usr/sbin/nginx")?)
        .env("CADDY", proxy(&folder, "caddy", "version", "usr/bin/caddy")?)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    status(command, "the checks of the configurations of proxies")
}

/// A proxy that is installed, or Debian's, unpacked beside the tests: its package would start a
/// service on this machine.
fn proxy(folder: &Path, name: &str, asked: &str, program: &str) -> Result<String, String> {
    if succeeds(name, &[asked]) {
        return Ok(name.to_owned());
    }
    let unpacked = folder.join(name);
    let program = text(&unpacked.join(program));
    if !succeeds(&program, &[asked]) {
        std::fs::create_dir_all(&unpacked).map_err(|error| error.to_string())?;
        let download = || {
            let mut command = Command::new("apt-get");
            command.args(["download", "-qq", name]).current_dir(&unpacked);
            status(command, &format!("apt-get download {name}"))
        };
        // The lists of packages may be missing or old.
        if download().is_err() {
            run("apt-get", &["update", "-qq"])?;
            download()?;
        }
        let mut command = Command::new("sh");
        command.args(["-c", "dpkg-deb -x *.deb ."]).current_dir(&unpacked);
        status(command, &format!("unpacking {name}"))?;
    }
    match succeeds(&program, &[asked]) {
        true => Ok(program),
        false => Err(format!(
            "{name} cannot be run: install it, or see what {program} is missing"
        )),
    }
}
