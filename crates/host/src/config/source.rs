//! Where values come from, and how they are laid over one another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dalsegno_engine::hub::LimiterDefinition;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::table::{FAMILIES, Given, Kind, SETTINGS, Setting, Value};
use super::traces::VARIABLES;
use super::{Mistake, Origin, units};
use crate::nearest::nearest;

/// How environment variables of ours begin; with one `_` they are short names of the CLI's.
const PREFIX: &str = "DALSEGNO__";

/// The sources of a configuration beside the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, with its text.
    pub file: Option<(PathBuf, String)>,
    /// The environment: what begins with `DALSEGNO__`, and variables of OpenTelemetry.
    pub environment: Vec<(String, String)>,
    /// Flags: the flag as written, key, value.
    pub flags: Vec<(String, String, String)>,
}

impl Sources {
    /// A file (if it is there) and this process's environment.
    ///
    /// # Errors
    /// When the file cannot be read for another reason than that it is not there.
    pub fn of_process(file: &Path) -> std::io::Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => Some((file.to_owned(), text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            let is_meant = |name: &str| {
                name.starts_with(PREFIX) || VARIABLES.iter().any(|(variable, ..)| *variable == name)
            };
            let name = name.into_string().ok().filter(|name| is_meant(name))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        Ok(Self {
            file: text,
            environment: environment.collect(),
            flags: Vec::new(),
        })
    }
}

/// Values by key, each with its origin.
pub(super) type Resolved = BTreeMap<String, (Value, Origin)>;

/// Lays the sources over one another; says every mistake.
pub(super) fn resolve(sources: &Sources) -> (Resolved, Vec<Mistake>) {
    let mut layers = Layers::default();
    for setting in SETTINGS {
        layers.put(
            setting.key,
            &Given::Plain(setting.default.to_owned()),
            Origin::Default,
        );
    }
    if let Some((path, text)) = &sources.file {
        layers.file(path, text);
    }
    for (variable, key, read) in VARIABLES {
        let found = sources.environment.iter().find(|(name, _)| name == variable);
        // An empty one is as good as none, as its specification says.
        let Some((name, value)) = found.filter(|(_, value)| !value.is_empty()) else {
            continue;
        };
        if let Some(value) = read(value) {
            layers.put(key, &Given::Plain(value), Origin::Environment(name.clone()));
        }
    }
    for (name, value) in &sources.environment {
        if let Some(rest) = name.strip_prefix(PREFIX) {
            let key = rest.to_ascii_lowercase().replace("__", ".");
            layers.put(
                &key,
                &Given::Plain(value.clone()),
                Origin::Environment(name.clone()),
            );
        }
    }
    for (flag, key, value) in &sources.flags {
        layers.put(key, &Given::Plain(value.clone()), Origin::Flag(flag.clone()));
    }
    (layers.resolved, layers.mistakes)
}

#[derive(Default)]
struct Layers {
    resolved: Resolved,
    mistakes: Vec<Mistake>,
}

impl Layers {
    fn put(&mut self, key: &str, given: &Given, origin: Origin) {
        let Some(kind) = kind(key) else {
            return self.refuse(key, origin, unknown(key));
        };
        match kind.read(given) {
            Some(value) => {
                self.resolved.insert(key.to_owned(), (value, origin));
            }
            None => self.refuse(
                key,
                origin,
                format!("got {}, expected {}", shown(given), kind.expected()),
            ),
        }
    }

    fn refuse(&mut self, key: &str, origin: Origin, reason: String) {
        self.mistakes.push(Mistake {
            origin,
            key: key.to_owned(),
            reason,
        });
    }

    fn file(&mut self, path: &Path, text: &str) {
        let at = |offset: usize| place(path, text, offset);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let origin = at(error.span().map_or(0, |span| span.start));
            self.refuse("", origin, error.message().to_owned());
        }
        self.table("", table.get_ref(), &at);
    }

    fn table(&mut self, section: &str, table: &DeTable<'_>, at: &dyn Fn(usize) -> Origin) {
        for (name, value) in table {
            let key = if section.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{section}.{}", name.get_ref())
            };
            let origin = at(name.span().start);
            match value.get_ref() {
                DeValue::Table(inner) if is_section(&key) => self.table(&key, inner, at),
                DeValue::Table(_) => self.refuse(&key, origin, unknown(&key)),
                other => self.put(&key, &given(other), origin),
            }
        }
    }
}

fn is_section(key: &str) -> bool {
    let is_named = |(family, _): &(&str, &[Setting])| {
        key.strip_prefix(family).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('.').is_some_and(|name| !name.is_empty())
        })
    };
    FAMILIES.iter().any(is_named)
        || SETTINGS.iter().any(|setting| {
            setting
                .key
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('.'))
        })
}

/// The kind of a key; limiters and webhooks have any name.
fn kind(key: &str) -> Option<Kind> {
    let setting = match named_parts(key) {
        Some(named) => named.settings.iter().find(|setting| setting.key == named.part),
        None => SETTINGS.iter().find(|setting| setting.key == key),
    };
    setting.map(|setting| setting.kind)
}

/// A key such as `limiter.<name>.<part>`, taken apart.
struct Named<'a> {
    family: &'static str,
    name: &'a str,
    part: &'a str,
    settings: &'static [Setting],
}

fn named_parts(key: &str) -> Option<Named<'_>> {
    FAMILIES.into_iter().find_map(|(family, settings)| {
        let rest = key.strip_prefix(family)?.strip_prefix('.')?;
        let (name, part) = rest.rsplit_once('.').filter(|(name, _)| !name.is_empty())?;
        Some(Named {
            family,
            name,
            part,
            settings,
        })
    })
}

/// Name and last part of a key of a family.
fn parts_of<'a>(key: &'a str, family: &str) -> Option<(&'a str, &'a str)> {
    named_parts(key)
        .filter(|named| named.family == family)
        .map(|named| (named.name, named.part))
}

fn unknown(key: &str) -> String {
    if let Some(Named {
        family,
        name,
        part,
        settings,
    }) = named_parts(key)
    {
        let near = nearest(part, settings.iter().map(|setting| setting.key)).unwrap_or(settings[0].key);
        return format!("unknown key: did you mean {family}.{name}.{near}?");
    }
    match nearest(key, SETTINGS.iter().map(|setting| setting.key)) {
        Some(near) => format!("unknown key: did you mean {near}?"),
        None => "unknown key: see docs/config.md".into(),
    }
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Given::Integer(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Given::Flag(*flag),
        DeValue::Array(items) => {
            let texts = items
                .iter()
                .map(|item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned));
            texts
                .collect::<Option<_>>()
                .map_or(Given::Other("a list of other than texts"), Given::List)
        }
        DeValue::Integer(_) => Given::Other("a number that is not decimal"),
        DeValue::Float(_) => Given::Other("a number with a fraction"),
        DeValue::Datetime(_) => Given::Other("a date"),
        DeValue::Table(_) => Given::Other("a table"),
    }
}

fn shown(given: &Given) -> String {
    match given {
        Given::Plain(text) | Given::Text(text) => format!("{text:?}"),
        Given::Integer(text) => text.clone(),
        Given::Flag(flag) => flag.to_string(),
        Given::List(list) => format!("{list:?}"),
        Given::Other(what) => (*what).to_owned(),
    }
}

fn place(path: &Path, text: &str, offset: usize) -> Origin {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Origin::File {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// The limiters that are defined.
pub(super) fn limiters(resolved: &Resolved) -> (Vec<(String, LimiterDefinition)>, Vec<Mistake>) {
    let mut found: BTreeMap<String, LimiterDefinition> = BTreeMap::new();
    for (key, (value, _)) in resolved {
        let Some((name, part)) = parts_of(key, "limiter") else {
            continue;
        };
        let definition = found.entry(name.to_owned()).or_default();
        match (part, value) {
            ("rate", Value::Text(text)) => definition.rate = units::rate(text),
            ("burst", Value::Count(count)) => definition.burst = u32::try_from(*count).ok(),
            ("concurrency", Value::Count(count)) => definition.concurrency = u32::try_from(*count).ok(),
            _ => {}
        }
    }
    let empty = |(name, definition): &(&String, &LimiterDefinition)| {
        let key = format!("limiter.{name}.burst");
        (definition.rate.is_none() && definition.burst.is_some()).then(|| Mistake {
            origin: resolved
                .get(&key)
                .map_or(Origin::Default, |(_, origin)| origin.clone()),
            key,
            reason: "a burst needs a rate".into(),
        })
    };
    let mistakes = found.iter().filter_map(|entry| empty(&entry)).collect();
    (found.into_iter().collect(), mistakes)
}

/// Activities with the limiter that each passes.
pub(super) fn limited(resolved: &Resolved) -> (Vec<(String, String)>, Vec<Mistake>) {
    let mut found: BTreeMap<&str, &str> = BTreeMap::new();
    let mut mistakes = Vec::new();
    for (key, (value, origin)) in resolved {
        let (Some((limiter, "activities")), Value::List(activities)) = (parts_of(key, "limiter"), value)
        else {
            continue;
        };
        for activity in activities {
            if let Some(other) = found.insert(activity, limiter) {
                mistakes.push(Mistake {
                    key: key.clone(),
                    origin: origin.clone(),
                    reason: format!("{activity} passes limiter {other} already: an activity passes one"),
                });
            }
        }
    }
    let owned = |(activity, limiter): (&str, &str)| (activity.to_owned(), limiter.to_owned());
    (found.into_iter().map(owned).collect(), mistakes)
}

/// What is said of each webhook, by name and part.
pub(super) fn webhooks(resolved: &Resolved) -> BTreeMap<&str, BTreeMap<&str, &Value>> {
    let mut found: BTreeMap<&str, BTreeMap<&str, &Value>> = BTreeMap::new();
    for (key, (value, _)) in resolved {
        if let Some((name, part)) = parts_of(key, "webhook") {
            found.entry(name).or_default().insert(part, value);
        }
    }
    found
}
