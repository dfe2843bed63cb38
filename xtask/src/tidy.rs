//! What a compiler does not see: files nobody includes, who may know whom, how long things are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that `dalsegno-core` may depend on, tests apart: none.
const PURE: &str = "crates/core/Cargo.toml";

/// Calls that core and the engine's decisions must not make: whatever reads the world cannot be replayed.
const WORLDLY: [&str; 4] = ["SystemTime::now", "Instant::now", "std::thread::", "std::env::"];

/// Checks the tree and prints its figures.
pub(crate) fn check() -> Result<(), String> {
    let files = sources(Path::new("."))?;
    let mut problems = Vec::new();
    for (path, text) in &files {
        if is_pure(path) {
            let found = WORLDLY.iter().filter(|call| text.contains(**call));
            problems
                .extend(found.map(|call| format!("{}: {call} in code that has to be pure", path.display())));
        }
    }
    problems.extend(orphans(&files));
    let manifest = fs::read_to_string(PURE).map_err(|error| format!("{PURE}: {error}"))?;
    if manifest.contains("\n[dependencies]") {
        problems.push(format!("{PURE}: the core depends on nothing"));
    }
    report(&files);
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n"))
    }
}

fn is_pure(path: &Path) -> bool {
    let path = path.to_string_lossy();
    path.contains("crates/core/src") || path.contains("crates/engine/src/partition/")
}

fn sources(root: &Path) -> Result<BTreeMap<PathBuf, String>, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text =
                    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                files.insert(path, text);
            }
        }
    }
    Ok(files)
}

/// Files of a `src` folder that no `mod` names.
fn orphans(files: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let declared = |name: &str, folder: &Path| {
        files.iter().any(|(path, text)| {
            let is_near = path.parent() == Some(folder) || path.with_extension("") == folder;
            is_near
                && [format!("mod {name};"), format!("mod {name} {{")]
                    .iter()
                    .any(|form| text.contains(form))
        })
    };
    let roots = ["lib", "main", "mod", "build"];
    let inside = files
        .keys()
        .filter(|path| path.to_string_lossy().contains("/src/"));
    inside
        .filter(|path| !path.to_string_lossy().contains("/bin/"))
        .filter_map(|path| {
            let name = path.file_stem()?.to_string_lossy().into_owned();
            let folder = path.parent()?;
            let is_known = roots.contains(&name.as_str()) || declared(&name, folder);
            (!is_known).then(|| format!("{}: no module includes this file", path.display()))
        })
        .collect()
}

/// Prints the figures of the style guide: files and functions, median, p90, the longest.
fn report(files: &BTreeMap<PathBuf, String>) {
    let product = files
        .iter()
        .filter(|(path, _)| path.to_string_lossy().contains("/src/"));
    let mut lengths: Vec<(usize, String)> = Vec::new();
    let mut functions: Vec<(usize, String)> = Vec::new();
    for (path, text) in product {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        lengths.push((code.lines().count(), path.display().to_string()));
        functions.extend(
            bodies(code)
                .into_iter()
                .map(|(name, lines)| (lines, format!("{}: {name}", path.display()))),
        );
    }
    print_figures("files", &mut lengths);
    print_figures("functions", &mut functions);
}

fn print_figures(what: &str, all: &mut [(usize, String)]) {
    all.sort();
    let at = |share: f64| {
        all.get((all.len() as f64 * share) as usize)
            .map_or(0, |(lines, _)| *lines)
    };
    let long = all.iter().filter(|(lines, _)| *lines > 70).count() as f64 * 100.0 / all.len().max(1) as f64;
    eprintln!(
        "{what}: {}, median {} lines, p90 {}, above 70: {long:.1} %",
        all.len(),
        at(0.5),
        at(0.9)
    );
    for (lines, name) in all.iter().rev().take(10) {
        eprintln!("  {lines:>5} {name}");
    }
}

/// Names and lengths of functions, by the indentation that rustfmt gives them.
fn bodies(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize, usize)> = None;
    for (number, line) in code.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start();
        match &open {
            Some((name, begin, depth)) if indent == *depth && words.starts_with('}') => {
                found.push((name.clone(), number - begin - 1));
                open = None;
            }
            None if words.contains("fn ")
                && !words.starts_with("//")
                && !words.ends_with(';')
                && !words.ends_with('}') =>
            {
                let name = words.split("fn ").nth(1).unwrap_or_default();
                let name = name.split(['(', '<']).next().unwrap_or_default();
                open = Some((name.to_owned(), number, indent));
            }
            _ => {}
        }
    }
    found
}
