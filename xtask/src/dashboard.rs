//! The suite in `tests/dashboard`: the model's tests, and the dashboard in a real browser against a real server.

use std::path::Path;
use std::process::Command;

use crate::ci::{run, status};
use crate::sdks::{need, text};

/// Where packages are installed, below the folder of the workspace.
const FOLDER: &str = "target/dashboard";

/// Names under which the browser is found, the first is Debian's.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Builds the servers, installs the packages, runs all tests. `--pictures` makes those of the docs too.
pub(crate) fn all(arguments: &[String]) -> Result<(), String> {
    let with_pictures = match arguments {
        [] => false,
        [flag] if flag == "--pictures" => true,
        _ => return Err("usage: cargo xtask dashboard [--pictures]".to_owned()),
    };
    let root = std::env::current_dir().map_err(|error| error.to_string())?;
    let suites = root.join("tests/dashboard");
    need("node", &["--version"], "nodejs")?;
    node(&root, &suites.join("model"), &[])?;
    let browser = find_browser()?;
    let modules = install(&root)?;
    crate::ci::build()?;
    let pictures = text(&root.join("docs/pictures"));
    let mut variables = vec![
        ("CHROMIUM", browser),
        ("DASHBOARD_MODULES", modules),
        ("DALSEGNO", text(&root.join("target/debug/dalsegno"))),
        ("HARP_SHOP", text(&root.join("target/debug/harp-shop"))),
    ];
    if with_pictures {
        variables.push(("DASHBOARD_PICTURES", pictures));
    }
    node(&root, &suites, &variables)
}

/// The variable `CHROMIUM`, or what is found, or Debian's when it may be installed.
fn find_browser() -> Result<String, String> {
    if let Ok(path) = std::env::var("CHROMIUM") {
        return Ok(path);
    }
    let is_there = |name: &&&str| crate::ci::succeeds(name, &["--version"]);
    if let Some(name) = BROWSERS.iter().find(is_there) {
        return Ok((*name).to_owned());
    }
    need(BROWSERS[0], &["--version"], BROWSERS[0])?;
    Ok(BROWSERS[0].to_owned())
}

/// Runs the tests of a folder, two files at a time: each has servers and a browser of its own.
fn node(root: &Path, folder: &Path, variables: &[(&str, String)]) -> Result<(), String> {
    let mut command = Command::new("node");
    command
        .args([
            "--test",
            "--test-concurrency=2",
            "--test-timeout=900000",
            "--test-reporter=spec",
        ])
        .current_dir(root);
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<String> = entries
        .flatten()
        .map(|entry| text(&entry.path()))
        .filter(|name| name.contains(".test."))
        .collect();
    files.sort();
    command.args(files);
    for (name, value) in variables {
        command.env(name, value);
    }
    status(command, &format!("the tests in {}", folder.display()))
}

/// Returns the folder of the modules.
fn install(root: &Path) -> Result<String, String> {
    need("npm", &["--version"], "npm")?;
    let own = root.join(FOLDER);
    std::fs::create_dir_all(&own).map_err(|error| error.to_string())?;
    let package = root.join("tests/dashboard/package.json");
    std::fs::copy(package, own.join("package.json")).map_err(|error| error.to_string())?;
    let prefix = text(&own);
    let quiet = ["--no-audit", "--no-fund", "--loglevel", "error"];
    run("npm", &[&["install", "--prefix", &prefix], &quiet[..]].concat())?;
    Ok(prefix)
}
