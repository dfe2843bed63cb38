//! The archive of a release: the program, what completes and explains it, what runs and watches it.
//!
//! The same program gives the same bytes: files in order, owned by nobody in particular, as old as
//! the commit. What was made is unpacked again and tried.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ci::status;
use crate::sdks::text;

const FOLDER: &str = "target/dist";
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
const SHELLS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/dalsegno"),
    ("zsh", "share/zsh/site-functions/_dalsegno"),
    ("fish", "share/fish/vendor_completions.d/dalsegno.fish"),
];
const PAGES: &str = "share/man/man1";
const CONFIG: &str = "share/dalsegno/dalsegno.toml";
const LICENCES: &str = "share/doc/dalsegno/THIRD-PARTY.md";
/// Files of the tree, and where they are in the archive.
const COPIES: [(&str, &str); 8] = [
    ("LICENSE", "LICENSE"),
    ("README.md", "README.md"),
    ("CHANGELOG.md", "share/doc/dalsegno/CHANGELOG.md"),
    ("operations/dalsegno.toml", CONFIG),
    (
        "operations/systemd/dalsegno.service",
        "lib/systemd/system/dalsegno.service",
    ),
    (
        "operations/grafana/dalsegno.json",
        "share/dalsegno/grafana/dalsegno.json",
    ),
    (
        "operations/prometheus/alerts.yml",
        "share/dalsegno/prometheus/alerts.yml",
    ),
    (
        "operations/prometheus/prometheus.yml",
        "share/dalsegno/prometheus/prometheus.yml",
    ),
];

/// `--profile dev` takes the program of the tests, for trying out; else a release is built.
pub(crate) fn make(arguments: &[String]) -> Result<(), String> {
    let root = std::env::current_dir().map_err(|error| error.to_string())?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let program = match words.as_slice() {
        [] => release(&root)?,
        ["--profile", "dev"] => {
            crate::ci::build()?;
            root.join("target/debug/dalsegno")
        }
        _ => return Err("usage: cargo xtask dist [--profile dev]".to_owned()),
    };
    let version = said(&program, &["--version"])?;
    let version = version.trim().trim_start_matches("dalsegno ").to_owned();
    let name = format!("dalsegno-{version}-{PLATFORM}");
    let folder = root.join(FOLDER);
    let tree = folder.join(&name);
    fill(&root, &tree, &program)?;
    let archive = pack(&folder, &name, "")?;
    let again = pack(&folder, &name, ".again")?;
    if read(&archive)? != read(&again)? {
        return Err(format!("{} differs when it is packed twice", archive.display()));
    }
    remove(&again)?;
    let sums = sums(&folder, &[format!("{name}.tar.gz")])?;
    write(&folder.join("SHA256SUMS"), &sums)?;
    try_out(&folder, &name, &version)?;
    eprintln!("{}: {} bytes", archive.display(), read(&archive)?.len());
    Ok(())
}

/// In a folder of its own: its flags are not those of other builds, which would be built anew after it.
fn release(root: &Path) -> Result<PathBuf, String> {
    let build = root.join(FOLDER).join("build");
    let cargo = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .map_err(|_| "neither CARGO_HOME nor HOME says where cargo's folder is".to_owned())?;
    // Paths of this machine would be in texts of panics.
    let flags = format!(
        "--remap-path-prefix={}=dalsegno --remap-path-prefix={cargo}=cargo",
        root.display()
    );
    let mut command = Command::new("cargo");
    command
        .args([
            "build",
            "--locked",
            "--release",
            "--package",
            "dalsegno-cli",
            "--target-dir",
        ])
        .arg(&build)
        .env("RUSTFLAGS", flags);
    status(command, "the build of the release")?;
    Ok(build.join("release/dalsegno"))
}

/// All files of the archive, and their sums.
fn fill(root: &Path, tree: &Path, program: &Path) -> Result<(), String> {
    if tree.exists() {
        fs::remove_dir_all(tree).map_err(|error| format!("{}: {error}", tree.display()))?;
    }
    let own = tree.join("bin/dalsegno");
    copy(program, &own)?;
    run(Command::new("strip").arg("--strip-debug").arg(&own), "strip")?;
    for (from, to) in COPIES {
        copy(&root.join(from), &tree.join(to))?;
    }
    for (shell, path) in SHELLS {
        write(&tree.join(path), &said(&own, &["completions", shell])?)?;
    }
    said(&own, &["man", "--dir", &text(&tree.join(PAGES))])?;
    write(
        &tree.join("share/dalsegno/openapi.json"),
        &said(&own, &["openapi"])?,
    )?;
    write(&tree.join(LICENCES), &licences()?)?;
    let files = files(tree)?;
    write(&tree.join("SHA256SUMS"), &sums(tree, &files)?)
}

/// Names, versions and licences of what is compiled in.
fn licences() -> Result<String, String> {
    let packages = said(
        Path::new("cargo"),
        &[
            "tree",
            "--package",
            "dalsegno-cli",
            "--edges",
            "normal",
            "--target",
            PLATFORM,
            "--prefix",
            "none",
            "--no-dedupe",
            "--format",
            "{p}|{l}|{r}",
        ],
    )?;
    let mut rows: Vec<String> = packages
        .lines()
        // Our own have the path of their folder.
        .filter(|line| !line.contains(" (/"))
        .filter_map(|line| {
            let mut parts = line.split('|');
            let name = parts.next()?.replace(" (proc-macro)", "");
            let (licence, from) = (parts.next()?, parts.next()?);
            Some(format!("| {name} | {licence} | {from} |\n"))
        })
        .collect();
    rows.sort();
    rows.dedup();
    match rows.iter().find(|row| row.contains("|  |  |")) {
        Some(row) => Err(format!("no licence is known of {row}")),
        None => Ok(format!(
            "# Third parties\n\nWhat `dalsegno` is built with. The texts of the licences are with the sources.\n\n| Package | Licence | Source |\n|---|---|---|\n{}",
            rows.concat()
        )),
    }
}

/// Files below a folder, in order.
fn files(tree: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.extend(path.strip_prefix(tree).ok().map(text)),
            }
        }
    }
    found.sort();
    Ok(found)
}

fn sums(folder: &Path, files: &[String]) -> Result<String, String> {
    let mut command = Command::new("sha256sum");
    command.current_dir(folder).args(files);
    output(&mut command, "sha256sum")
}

/// As old as the commit, or as `SOURCE_DATE_EPOCH` says.
fn pack(folder: &Path, name: &str, suffix: &str) -> Result<PathBuf, String> {
    let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds,
        Err(_) => said(Path::new("git"), &["log", "-1", "--format=%ct"])?,
    };
    let tar = folder.join(format!("{name}.tar{suffix}"));
    let mut command = Command::new("tar");
    command
        .current_dir(folder)
        .args([
            "--create",
            "--sort=name",
            "--format=ustar",
            "--owner=0",
            "--group=0",
        ])
        .args(["--numeric-owner", "--mode=u=rwX,go=rX"])
        .arg(format!("--mtime=@{}", seconds.trim()))
        .arg(format!("--file={}", tar.display()))
        .arg(name);
    run(&mut command, "tar")?;
    run(
        Command::new("gzip")
            .args(["--no-name", "--force", "-9"])
            .arg(&tar),
        "gzip",
    )?;
    Ok(folder.join(format!("{name}.tar{suffix}.gz")))
}

/// What was packed is whole, and works where it is unpacked.
fn try_out(folder: &Path, name: &str, version: &str) -> Result<(), String> {
    let place = folder.join("unpacked");
    if place.exists() {
        fs::remove_dir_all(&place).map_err(|error| error.to_string())?;
    }
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    let archive = folder.join(format!("{name}.tar.gz"));
    let mut unpack = Command::new("tar");
    unpack
        .arg("--extract")
        .arg("--directory")
        .arg(&place)
        .arg("--file")
        .arg(archive);
    run(&mut unpack, "tar")?;
    let tree = place.join(name);
    let mut check = Command::new("sha256sum");
    check
        .current_dir(&tree)
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"]);
    run(&mut check, "the sums of the archive")?;
    let told = fs::read_to_string(tree.join("SHA256SUMS")).map_err(|error| error.to_string())?;
    let missing = files(&tree)?
        .into_iter()
        .find(|file| file != "SHA256SUMS" && !told.contains(file.as_str()));
    if let Some(file) = missing {
        return Err(format!("SHA256SUMS does not name {file}"));
    }
    let program = tree.join("bin/dalsegno");
    if said(&program, &["--version"])?.trim() != format!("dalsegno {version}") {
        return Err("the program in the archive has another version".to_owned());
    }
    said(
        &program,
        &["config", "check", "--config", &text(&tree.join(CONFIG))],
    )?;
    try_completions(&tree, &program)?;
    try_pages(&tree, &program)?;
    fs::remove_dir_all(&place).map_err(|error| error.to_string())
}

/// Each shell that is here reads its own; bash completes a word.
fn try_completions(tree: &Path, program: &Path) -> Result<(), String> {
    for (shell, path) in SHELLS {
        let file = tree.join(path);
        if shell == "bash" {
            let script = "PATH=\"$1:$PATH\"; source \"$0\"; complete -p dalsegno >&2 || exit 1; \
                          COMP_WORDS=(dalsegno expl); COMP_CWORD=1; \
                          _clap_complete_dalsegno dalsegno expl dalsegno; echo \"${COMPREPLY[*]}\"";
            let folder = program.parent().unwrap_or(tree);
            let arguments = ["--norc", "-c", script, &text(&file), &text(folder)];
            let offered = said(Path::new("bash"), &arguments)?;
            if offered.trim() != "explain" {
                return Err(format!("bash completes expl to {offered:?}"));
            }
        } else if crate::ci::succeeds(shell, &["-c", "true"]) {
            said(Path::new(shell), &["-n", &text(&file)])?;
        }
    }
    Ok(())
}

/// A page of the program, and one of each of its commands.
fn try_pages(tree: &Path, program: &Path) -> Result<(), String> {
    let help = said(program, &["--help"])?;
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        // What a command does may go on in the next line.
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    let mut names = vec!["dalsegno".to_owned()];
    names.extend(commands.map(|command| format!("dalsegno-{command}")));
    if names.len() < 30 {
        return Err(format!("only {} commands are told of in --help", names.len()));
    }
    for name in names {
        let path = tree.join(PAGES).join(format!("{name}.1"));
        let page = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if !page.contains(".TH ") {
            return Err(format!("{} is no page of a manual", path.display()));
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    make_folder_of(to)?;
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| format!("{}: {error}", from.display()))
}

fn write(path: &Path, content: &str) -> Result<(), String> {
    make_folder_of(path)?;
    fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))
}

fn make_folder_of(path: &Path) -> Result<(), String> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display())),
        None => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn remove(path: &Path) -> Result<(), String> {
    fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// What a program says.
fn said(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let what = format!("{} {}", program.display(), arguments.join(" "));
    output(Command::new(program).args(arguments), &what)
}

fn run(command: &mut Command, what: &str) -> Result<(), String> {
    output(command, what).map(drop)
}

fn output(command: &mut Command, what: &str) -> Result<String, String> {
    let done = command
        .output()
        .map_err(|error| format!("{what} cannot be run: {error}"))?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(format!(
            "{what} ended with {}: {}",
            done.status,
            String::from_utf8_lossy(&done.stderr).trim()
        )),
    }
}
