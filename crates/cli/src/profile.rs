//! Where to speak to: flags, then the environment, then a profile, then this machine.

use std::path::PathBuf;

use dalsegno_host::nearest;

use crate::arguments::Global;
use crate::failure::Failure;

/// Names the file of the profiles, instead of the one in the user's configuration.
const FILE: &str = "DALSEGNO_PROFILES";
const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";
const KEYS: [&str; 4] = ["server", "hub", "key_file", "ca_file"];

/// What a command speaks to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) server: String,
    pub(crate) hub: Option<String>,
    /// The profile's key: good for the profile's own server alone.
    pub(crate) key_file: Option<PathBuf>,
    /// What its certificate is checked by.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Target {
    /// What is typed wins over what the profile says.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let profile = match &global.profile {
            Some(name) => read(name)?,
            None => Profile::default(),
        };
        // A key is shown to nobody it was not made for.
        let is_own_server = global
            .server
            .as_ref()
            .is_none_or(|server| profile.server.as_ref() == Some(server));
        Ok(Self {
            key_file: profile.key_file.filter(|_| is_own_server),
            server: global
                .server
                .clone()
                .or(profile.server)
                .unwrap_or_else(|| DEFAULT_SERVER.into()),
            hub: global.hub.clone().or(profile.hub),
            ca_file: global
                .ca_file
                .clone()
                .or(profile.ca_file.filter(|_| is_own_server)),
        })
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Profile {
    server: Option<String>,
    hub: Option<String>,
    key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

fn read(name: &str) -> Result<Profile, Failure> {
    let path = file().ok_or_else(|| {
        Failure::configuration(&"there is no home folder to look for profiles in").help(format!("set {FILE}"))
    })?;
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::configuration(&format!(
            "profile {name}: {} cannot be read: {error}",
            path.display()
        ))
        .help("write it: [NAME], and below it server = \"http://..\", hub, key_file, ca_file")
    })?;
    profile(&text, name).map_err(|error| Failure::configuration(&format!("{}: {error}", path.display())))
}

fn file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = set(FILE) {
        return Some(path.into());
    }
    let folder = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")))?;
    Some(folder.join("dalsegno").join("profiles.toml"))
}

/// The profile of a name. What it does not know is refused, so that no mistyped key is lost.
fn profile(text: &str, name: &str) -> Result<Profile, String> {
    let all: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let Some(found) = all.get(name) else {
        let known: Vec<&str> = all.keys().map(String::as_str).collect();
        let near = nearest(name, known.iter().copied());
        let hint = near.map_or_else(|| known.join(", "), |near| format!("did you mean {near}?"));
        return Err(format!("there is no profile {name}: {hint}"));
    };
    let found = found
        .as_table()
        .ok_or_else(|| format!("{name} is no table: write [{name}]"))?;
    let mut profile = Profile::default();
    for (key, value) in found {
        let value = value.as_str().ok_or_else(|| format!("{name}.{key} is no text"))?;
        match key.as_str() {
            "server" => profile.server = Some(value.to_owned()),
            "hub" => profile.hub = Some(value.to_owned()),
            "key_file" => profile.key_file = Some(value.into()),
            "ca_file" => profile.ca_file = Some(value.into()),
            _ => {
                let hint = nearest(key, KEYS).map_or_else(
                    || format!("there are {}", KEYS.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                return Err(format!("{name}.{key}: unknown key: {hint}"));
            }
        }
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_and_mistakes_told() {
        let text =
            "[prod]\nserver = \"http://a\"\nhub = \"orders\"\nkey_file = \"/k\"\n[test]\nsevrer = \"x\"\n";
        let prod = profile(text, "prod").unwrap();
        assert_eq!(prod.server.as_deref(), Some("http://a"));
        assert_eq!(prod.hub.as_deref(), Some("orders"));
        assert_eq!(prod.key_file, Some("/k".into()));
        for (name, told) in [
            ("prdo", "there is no profile prdo: did you mean prod?"),
            ("test", "test.sevrer: unknown key: did you mean server?"),
        ] {
            assert_eq!(profile(text, name).unwrap_err(), told);
        }
        assert!(profile("prod = 1", "prod").unwrap_err().contains("is no table"));
    }
}
