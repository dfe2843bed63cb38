//! `dalsegno init`

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{Exit, Failure};
use crate::session::Session;

const MANIFEST: &str = include_str!("../../templates/rust/Cargo.toml.txt");
const MAIN: &str = include_str!("../../templates/rust/main.rs.txt");
const IGNORED: &str = include_str!("../../templates/rust/gitignore.txt");

/// Where this program was built from: until there is a release, apps depend on it by path.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// The crate dalsegno in a checkout.
const SDK: &str = "crates/sdk";

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno init hello && cd hello && cargo run")]
pub(crate) struct Init {
    /// Name of the app, and of its new folder
    #[arg(value_parser = package_name)]
    name: String,
    /// Folder of the crate dalsegno, or a checkout; else that of this program
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// Take the crate dalsegno from this git repository instead
    #[arg(long, value_name = "URL", value_parser = repository, conflicts_with = "sdk")]
    git: Option<String>,
}

/// What cargo takes as a name of a package.
fn package_name(text: &str) -> Result<String, String> {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let rest = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let taken = ["dalsegno", "tokio", "test", "core", "std", "main"].contains(&text);
    if first && rest && !taken {
        Ok(text.to_owned())
    } else {
        Err("a letter, then letters, digits, - and _; not the name of a crate it uses".into())
    }
}

/// What cargo can fetch from, and a line of TOML can hold.
fn repository(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    let has_place = ["https://", "http://", "ssh://", "file://", "git://"]
        .iter()
        .any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    match has_place && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("like https://git.example.com/dalsegno".into()),
    }
}

impl Init {
    pub(crate) fn run(self, session: &Session) -> Result<Exit, Failure> {
        let source = match (&self.git, &self.sdk) {
            (Some(url), _) => format!("git = \"{url}\""),
            (None, Some(given)) => by_path(&given_sdk(given)?),
            (None, None) => by_path(&own_sdk()?),
        };
        let folder = Path::new(&self.name);
        if folder.exists() {
            return Err(
                Failure::usage(format!("{} is there already", folder.display())).help("choose another name")
            );
        }
        write(folder, &self.name, &source).map_err(|error| Failure::unexpected(&error))?;
        session.say(&format!("made {name}: cd {name} && cargo run", name = self.name));
        session.say("then: dalsegno start hello -i '\"Ada\"' --wait");
        Ok(Exit::Ok)
    }
}

/// The crate in a folder that somebody names: there, or where a checkout has it.
fn given_sdk(given: &Path) -> Result<PathBuf, Failure> {
    let found = [given.to_owned(), given.join(SDK)]
        .iter()
        .find_map(|folder| sdk_in(folder));
    found.ok_or_else(|| {
        Failure::usage(format!("the crate dalsegno is not at {}", given.display()))
            .help("say where: --sdk CHECKOUT/crates/sdk, or --git URL")
    })
}

/// The crate in the checkout that this program lies in, or that it was built from.
fn own_sdk() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()
        .ok()
        .and_then(|path| path.canonicalize().ok());
    let around = program.iter().flat_map(|path| path.ancestors().skip(1));
    sdk_of(around.chain([Path::new(CHECKOUT)]))
}

/// The crate in the first of these that is a checkout.
fn sdk_of<'p>(mut folders: impl Iterator<Item = &'p Path>) -> Result<PathBuf, Failure> {
    let found = folders.find_map(|folder| sdk_in(&folder.join(SDK)));
    found.ok_or_else(|| {
        Failure::usage(
            "an app needs the crate dalsegno, which is in no registry, and this program lies in no checkout of it",
        )
        .help("say where it is: --sdk CHECKOUT/crates/sdk, or --git URL of a repository that has it")
    })
}

/// The whole path of a folder, if the crate is there.
fn sdk_in(folder: &Path) -> Option<PathBuf> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
    let manifest: toml::Table = manifest.parse().ok()?;
    let name = manifest.get("package")?.get("name")?.as_str()?;
    (name == "dalsegno").then(|| folder.canonicalize().ok())?
}

fn by_path(sdk: &Path) -> String {
    let sdk = sdk
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    format!("path = \"{sdk}\"")
}

fn write(folder: &Path, name: &str, source: &str) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("src"))?;
    fs::write(
        folder.join("Cargo.toml"),
        MANIFEST.replace("NAME", name).replace("SOURCE", source),
    )?;
    fs::write(folder.join("src/main.rs"), MAIN.replace("NAME", name))?;
    fs::write(folder.join(".gitignore"), IGNORED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_cargo_takes() {
        for (name, fits) in [
            ("hello", true),
            ("my-app_2", true),
            ("2x", false),
            ("a b", false),
            ("../x", false),
            ("", false),
            ("tokio", false),
        ] {
            assert_eq!(package_name(name).is_ok(), fits, "{name}");
        }
    }

    #[test]
    fn repositories_are_those_that_a_manifest_can_name() {
        for (url, fits) in [
            ("https://git.example.com/dalsegno.git", true),
            ("ssh://git@git.example.com/dalsegno", true),
            ("https://", false),
            ("git.example.com/dalsegno", false),
            ("https://git.example.com/a\"b", false),
            ("https://git.example.com/a\nb", false),
        ] {
            assert_eq!(repository(url).is_ok(), fits, "{url}");
        }
    }

    #[test]
    fn only_the_crate_itself_is_taken_for_it() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sdk = here.join("../sdk").canonicalize().unwrap();
        assert_eq!(given_sdk(&here.join("../sdk")).unwrap(), sdk);
        assert_eq!(given_sdk(&here.join("../..")).unwrap(), sdk);
        assert_eq!(own_sdk().unwrap(), sdk);
        let none = sdk_of([here].into_iter()).unwrap_err();
        assert!(
            none.message().contains("this program lies in no checkout of it"),
            "{none:?}"
        );
        let other = given_sdk(here).unwrap_err();
        assert!(
            other.message().contains("the crate dalsegno is not at"),
            "{other:?}"
        );
    }
}
