//! Which instances are meant: flags of lists, and `--where`.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::query::{InstanceQuery, LargeValues, Status};
use dalsegno_core::store::InstanceRow;
use dalsegno_core::{InstanceId, Timestamp};
use dalsegno_host::nearest;
use dalsegno_host::v1::{OperationFilter, json};

use crate::complete;
use crate::input;

/// The flags that narrow a list.
#[derive(Clone, Debug, Args)]
pub(crate) struct Narrow {
    /// Only these statuses, separated by commas
    #[arg(long, value_parser = input::status, value_delimiter = ',')]
    pub(crate) status: Vec<Status>,
    /// Only this orchestrator
    #[arg(long, add = ArgValueCompleter::new(complete::orchestrators))]
    name: Option<String>,
    /// Only ids that start so
    #[arg(long)]
    prefix: Option<String>,
    /// Only with this tag; may be repeated
    #[arg(long = "tag", value_parser = input::tag, value_name = "NAME=VALUE")]
    tags: Vec<(String, String)>,
    /// Only children of this instance
    #[arg(long, add = ArgValueCompleter::new(complete::instances), value_parser = input::id, value_name = "ID")]
    parent: Option<InstanceId>,
    /// Only those that wait for an event of this name
    #[arg(long, value_name = "EVENT")]
    waiting_for: Option<String>,
    /// Only those that this activity failed, or keeps busy with retries
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::activities))]
    failed_activity: Option<String>,
    /// Created at or after: a time, or so long ago, like 2h
    #[arg(long, value_parser = input::past, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Created at or before: a time, or so long ago, like 2h
    #[arg(long, value_parser = input::past, value_name = "TIME")]
    until: Option<Timestamp>,
    /// All of these in one: 'status=Failed name=Order since=2h'
    #[arg(long = "where", value_name = "FILTER", value_parser = narrow, conflicts_with_all = ["status", "name", "prefix", "tags", "parent", "waiting_for", "failed_activity", "since", "until"])]
    filter: Option<Box<Narrow>>,
}

impl Narrow {
    /// The same as a query.
    pub(crate) fn query(&self) -> InstanceQuery {
        if let Some(filter) = &self.filter {
            return filter.query();
        }
        InstanceQuery {
            statuses: self.status.clone(),
            created_from: self.since,
            created_to: self.until,
            id_prefix: self.prefix.clone(),
            name: self.name.clone(),
            tags: self.tags.clone(),
            parent: self.parent.clone(),
            waiting_for: self.waiting_for.clone(),
            failed_activity: self.failed_activity.clone(),
            limit: 0,
            after: None,
            large: LargeValues::LeaveOut,
        }
    }

    /// Whether a row's status is wanted; streams have the other filters only.
    pub(crate) fn wants(&self, row: &InstanceRow) -> bool {
        let status = self.filter.as_ref().map_or(&self.status, |filter| &filter.status);
        status.is_empty() || status.contains(&row.status)
    }

    /// What only a list can tell, because no stream of changes says it: the flag for it.
    pub(crate) fn of_lists_alone(&self) -> Option<&'static str> {
        let narrow = self.filter.as_deref().unwrap_or(self);
        match (&narrow.waiting_for, &narrow.failed_activity) {
            (Some(_), _) => Some("--waiting-for"),
            (None, Some(_)) => Some("--failed-activity"),
            (None, None) => None,
        }
    }

    /// The orchestrator that is meant, if one is.
    pub(crate) fn name(&self) -> Option<&str> {
        let narrow = self.filter.as_deref().unwrap_or(self);
        narrow.name.as_deref()
    }
}

/// The words of a batch's filter, for a list.
fn narrow(text: &str) -> Result<Box<Narrow>, String> {
    let filter = filter(text)?;
    let past = |at: Option<String>| at.map(|at| input::past(&at)).transpose();
    let statuses = filter.statuses.iter().map(|status| input::status(status));
    Ok(Box::new(Narrow {
        status: statuses.collect::<Result<_, _>>()?,
        name: filter.name,
        prefix: filter.prefix,
        tags: filter.tags.into_iter().collect(),
        parent: filter.parent.map(|id| input::id(&id)).transpose()?,
        waiting_for: filter.waiting_for,
        failed_activity: filter.failed_activity,
        since: past(filter.created_from)?,
        until: past(filter.created_to)?,
        filter: None,
    }))
}

/// What `--where` may say.
const KEYS: [&str; 10] = [
    "status",
    "name",
    "prefix",
    "tag",
    "parent",
    "waiting-for",
    "failed-activity",
    "since",
    "until",
    "all",
];

/// Reads `status=Failed name=Order tag=team=blue prefix=x since=2h until=1h`, or `all`. A value with
/// spaces stands in double quotes, and a quote in it behind a backslash.
pub(crate) fn filter(text: &str) -> Result<OperationFilter, String> {
    let mut filter = OperationFilter::default();
    for word in words(text)? {
        match word.split_once('=') {
            None if word == "all" => filter.all = true,
            Some((key, value)) if !value.is_empty() => set(&mut filter, key, value)?,
            Some((key, _)) if KEYS.contains(&key) => return Err(format!("{key} has no value")),
            _ => return Err(unknown(&word)),
        }
    }
    if filter == OperationFilter::default() {
        return Err("it names no filter: say what is meant, or all".into());
    }
    Ok(filter)
}

fn set(filter: &mut OperationFilter, key: &str, value: &str) -> Result<(), String> {
    let time = |value| input::past(value).map(|at| Some(json::time(at)));
    match key {
        "status" => {
            for word in value.split(',') {
                filter.statuses.push(input::status(word)?.as_str().to_owned());
            }
        }
        "name" => filter.name = Some(value.to_owned()),
        "prefix" => filter.prefix = Some(value.to_owned()),
        "tag" => {
            let (name, value) = input::tag(value).map_err(|_| "write a tag like tag=team=blue")?;
            filter.tags.insert(name, value);
        }
        "parent" => filter.parent = Some(input::id(value)?.to_string()),
        "waiting-for" => filter.waiting_for = Some(value.to_owned()),
        "failed-activity" => filter.failed_activity = Some(value.to_owned()),
        "since" => filter.created_from = time(value)?,
        "until" => filter.created_to = time(value)?,
        _ => return Err(unknown(key)),
    }
    Ok(())
}

fn unknown(word: &str) -> String {
    let hint = match nearest(word, KEYS) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {}", KEYS.join(", ")),
    };
    format!("{word:?} is no filter: {hint}")
}

/// Split at spaces outside of double quotes, which are taken away. Within them a backslash stands before
/// a quote or a backslash that is meant.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => word.extend(letters.next()),
            letter if letter.is_whitespace() && !is_quoted => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            }
            letter => word.push(letter),
        }
    }
    if is_quoted {
        return Err("a quote is not closed".into());
    }
    words.extend((!word.is_empty()).then_some(word));
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_or_refused_with_what_was_meant() {
        let read = filter(
            "status=failed,running name=\"My Order\" tag=team=blue tag=a=b=c prefix=x since=2026-01-01 until=2h",
        );
        let read = read.unwrap();
        assert_eq!(read.statuses, ["Failed", "Running"]);
        assert_eq!(read.name.as_deref(), Some("My Order"));
        assert_eq!(read.tags["a"], "b=c");
        assert_eq!(read.created_from.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert!(read.created_to.is_some());
        let meant = filter(r#"prefix="a \"b\" \\c" name=d\e"#).unwrap();
        assert_eq!(meant.prefix.as_deref(), Some(r#"a "b" \c"#));
        assert_eq!(meant.name.as_deref(), Some(r"d\e"));
        assert!(filter("all").unwrap().all);
        for (text, told) in [
            ("", "it names no filter: say what is meant, or all"),
            ("stauts=Failed", "\"stauts\" is no filter: did you mean status?"),
            ("status=", "status has no value"),
            (
                "Failed",
                "\"Failed\" is no filter: there are status, name, prefix, tag, parent, waiting-for, failed-activity, since, until, all",
            ),
            ("tag=blue", "write a tag like tag=team=blue"),
            ("name=\"x", "a quote is not closed"),
        ] {
            assert_eq!(filter(text).unwrap_err(), told, "{text}");
        }
        assert!(filter("status=Broken").unwrap_err().contains("Suspended"));
    }
}
