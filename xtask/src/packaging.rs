//! The files for containers: linted, checked against their schemas, and against one another. No
//! container is started.

use std::process::Command;

use crate::ci::{run, status};
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
    status(command, "the checks of the files for containers")
}
