//! The suites in `tests/sdks`: real packages of the official SDKs against a real server.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ci::{run, status, succeeds};

/// Where packages are installed, below the folder of the workspace.
const FOLDER: &str = "target/sdks";

/// Each suite: what runs it, and where it is below `tests/sdks`.
const SUITES: &[(Language, &str)] = &[
    (Language::Python, "python/patterns.py"),
    (Language::Python, "python/deaths.py"),
    (Language::Python, "python/scheduler.py"),
    (Language::Python, "python/examples.py"),
    (Language::Python, "python/spans.py"),
    (Language::JavaScript, "javascript/patterns.js"),
    (Language::Python, "mixed/mixed.py"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Python,
    JavaScript,
}

/// Installs the packages, builds the server and runs all suites; all have to pass.
pub(crate) fn all() -> Result<(), String> {
    let root = std::env::current_dir().map_err(|error| error.to_string())?;
    let folder = root.join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    crate::ci::build()?;
    let python = install_python(&root, &folder)?;
    let modules = install_javascript(&root, &folder)?;
    let mut failed = Vec::new();
    for (language, suite) in SUITES {
        eprintln!("-- {suite}");
        let mut command = match language {
            Language::Python => Command::new(&python),
            Language::JavaScript => Command::new("node"),
        };
        command
            .arg(root.join("tests/sdks").join(suite))
            .env("NODE_PATH", &modules)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("DALSEGNO", root.join("target/debug/dalsegno"))
            .env("MIXED", root.join("target/debug/mixed"));
        if let Err(problem) = status(command, suite) {
            failed.push(problem);
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("; ")),
    }
}

/// An environment of its own; returns its interpreter.
fn install_python(root: &Path, folder: &Path) -> Result<PathBuf, String> {
    let environment = folder.join("python");
    let python = environment.join("bin/python");
    if !python.exists() {
        need("python3", &["-m", "venv", "--help"], "python3-venv")?;
        run("python3", &["-m", "venv", &text(&environment)])?;
    }
    let requirements = text(&root.join("tests/sdks/python/requirements.txt"));
    let quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let arguments = [&quiet[..], &["--requirement", &requirements]].concat();
    run(&text(&python), &arguments)?;
    Ok(python)
}

/// Returns the folder of the modules.
fn install_javascript(root: &Path, folder: &Path) -> Result<PathBuf, String> {
    need("npm", &["--version"], "npm")?;
    let own = folder.join("javascript");
    std::fs::create_dir_all(&own).map_err(|error| error.to_string())?;
    let package = root.join("tests/sdks/javascript/package.json");
    std::fs::copy(package, own.join("package.json")).map_err(|error| error.to_string())?;
    let prefix = text(&own);
    let arguments = [
        "install",
        "--prefix",
        &prefix,
        "--no-audit",
        "--no-fund",
        "--loglevel",
        "error",
    ];
    run("npm", &arguments)?;
    Ok(own.join("node_modules"))
}

/// A program that a package of Debian brings: installed if that is allowed.
pub(crate) fn need(program: &str, arguments: &[&str], package: &str) -> Result<(), String> {
    if succeeds(program, arguments) {
        return Ok(());
    }
    if !succeeds("test", &["-w", "/var/lib/dpkg/lock"]) {
        return Err(format!(
            "{program} is missing; as root: apt-get install {package}"
        ));
    }
    run("apt-get", &["update", "-qq"])?;
    run("apt-get", &["install", "-y", "-qq", package])
}

pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
