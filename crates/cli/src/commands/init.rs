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
const CHECKOUT_SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk");

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno init hello && cd hello && cargo run")]
pub(crate) struct Init {
    /// Name of the app, and of its new folder
    #[arg(value_parser = package_name)]
    name: String,
    /// Folder of the crate dalsegno; without it the checkout of this program
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
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

impl Init {
    pub(crate) fn run(self, session: &Session) -> Result<Exit, Failure> {
        let sdk = self.sdk.unwrap_or_else(|| CHECKOUT_SDK.into());
        let sdk = fs::canonicalize(&sdk).map_err(|error| {
            Failure::usage(format!("the crate dalsegno is not at {}: {error}", sdk.display()))
                .help("say where: --sdk CHECKOUT/crates/sdk")
        })?;
        let folder = Path::new(&self.name);
        if folder.exists() {
            return Err(
                Failure::usage(format!("{} is there already", folder.display())).help("choose another name")
            );
        }
        write(folder, &self.name, &sdk).map_err(|error| Failure::unexpected(&error))?;
        session.say(&format!("made {name}: cd {name} && cargo run", name = self.name));
        session.say("then: dalsegno start hello -i '\"Ada\"' --wait");
        Ok(Exit::Ok)
    }
}

fn write(folder: &Path, name: &str, sdk: &Path) -> std::io::Result<()> {
    let sdk = sdk
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    fs::create_dir_all(folder.join("src"))?;
    fs::write(
        folder.join("Cargo.toml"),
        MANIFEST.replace("NAME", name).replace("SDK", &sdk),
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
}
