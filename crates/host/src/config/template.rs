//! A configuration file to begin with: every key with its meaning and default, none of them set.

use super::table::{FAMILIES, Kind, SETTINGS, Setting};

const HEAD: &str = "# dalsegno.toml: every key with its default. Take the # before a key away to set it.
# `dalsegno config check` says whether it is good, `dalsegno config show --origin` what is in force.
";

/// Names in the examples of sections of which there may be many.
const EXAMPLE: &str = "example";

/// The file.
pub fn template() -> String {
    let mut text = HEAD.to_owned();
    for section in sections() {
        if !section.is_empty() {
            text += &format!("\n[{section}]\n");
        }
        let own = SETTINGS.iter().filter(|setting| parts(setting).0 == section);
        text.extend(own.map(|setting| line(setting, parts(setting).1)));
    }
    for (family, settings) in FAMILIES {
        text += &format!("\n#[{family}.{EXAMPLE}]\n");
        text.extend(settings.iter().map(|setting| line(setting, setting.key)));
    }
    text
}

/// In the order in which they are met; keys without one stand first in a file.
fn sections() -> Vec<&'static str> {
    let mut sections = vec![""];
    for setting in SETTINGS {
        let (section, _) = parts(setting);
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    sections
}

fn parts(setting: &Setting) -> (&'static str, &'static str) {
    setting.key.rsplit_once('.').unwrap_or(("", setting.key))
}

fn line(setting: &Setting, key: &str) -> String {
    let value = match setting.kind {
        Kind::Count(..) | Kind::Flag => setting.default.to_owned(),
        Kind::Addresses | Kind::Hosts | Kind::Statuses => {
            let parts = setting.default.split(',').filter(|part| !part.is_empty());
            format!("{:?}", parts.map(str::trim).collect::<Vec<_>>())
        }
        _ => format!("{:?}", setting.default),
    };
    let value = match value.is_empty() {
        true => String::new(),
        false => format!(" {value}"),
    };
    format!(
        "# {} ({})\n#{key} ={value}\n",
        setting.meaning,
        setting.kind.expected()
    )
}
