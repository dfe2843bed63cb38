//! `dalsegno list`

use clap::Args;
use dalsegno_core::store::InstanceRow;
use dalsegno_host::nearest;
use dalsegno_host::v1::json;

use super::tail;
use crate::arguments::Format;
use crate::failure::{Exit, Failure};
use crate::filter::Narrow;
use crate::output::{Row, cut};
use crate::screen::Screen;
use crate::session::Session;

/// Rows of one request.
const PAGE_ROWS: usize = 1_000;

const HEAD: [&str; 5] = ["ID", "NAME", "STATUS", "CREATED", "UPDATED"];
const WIDE: [&str; 11] = [
    "ID",
    "NAME",
    "STATUS",
    "CREATED",
    "UPDATED",
    "VERSION",
    "COMPLETED",
    "PARENT",
    "TAGS",
    "EVENTS",
    "CUSTOM",
];

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno list --status failed --since 2h -o id")]
pub(crate) struct List {
    #[command(flatten)]
    narrow: Narrow,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    top: u64,
    /// Go on with what changes: the list again on a terminal, else lines
    #[arg(long)]
    watch: bool,
}

impl List {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        if self.watch {
            return session.follow(None, self.watched(session)).await;
        }
        let (rows, more) = self.read(session).await?;
        session.rows(head(session), &rows);
        if rows.is_empty() {
            self.say_what_may_be_meant(session).await;
        }
        if more {
            session.say(&format!("there are more: --top {}", self.top.saturating_mul(10)));
        }
        Ok(Exit::Ok)
    }

    /// The rows, and whether there are more.
    async fn read(&self, session: &Session) -> Result<(Vec<Row>, bool), Failure> {
        let most = usize::try_from(self.top).unwrap_or(usize::MAX);
        let mut query = self.narrow.query();
        query.limit = most.min(PAGE_ROWS);
        let mut rows = Vec::new();
        loop {
            let page = session.ask(session.hub.list(query.clone())).await?;
            rows.extend(page.rows.iter().map(|row| shown(session, row)));
            query.limit = most.saturating_sub(rows.len()).min(PAGE_ROWS);
            query.after = page.next;
            if query.after.is_none() || query.limit == 0 {
                return Ok((rows, query.after.is_some()));
            }
        }
    }

    /// A name that nobody has registered may be mistyped. Instances outlive their code, so it is no error.
    async fn say_what_may_be_meant(&self, session: &Session) {
        let Some(name) = self.narrow.name() else { return };
        let Ok(info) = session.ask(session.hub.info()).await else {
            return;
        };
        let known = info.orchestrators.iter().map(String::as_str);
        if let Some(near) = nearest(name, known).filter(|near| *near != name) {
            session.say(&format!("there is none of {name}: did you mean {near}?"));
        }
    }

    async fn watched(&self, session: &Session) -> Result<Exit, Failure> {
        let is_picture = matches!(session.format(), Format::Table | Format::Wide);
        let Some(mut screen) = Screen::of_terminal().filter(|_| is_picture) else {
            return self.lines(session).await;
        };
        let mut changes = session.ask(session.hub.changes(&self.narrow.query())).await?;
        loop {
            let (rows, _) = self.read(session).await?;
            screen.draw(&crate::output::rows(session.format(), head(session), &rows));
            screen.pause(&mut changes, None).await?;
        }
    }

    /// The list, then each change in a line of its own.
    async fn lines(&self, session: &Session) -> Result<Exit, Failure> {
        tail::refuse_of_lists(&self.narrow)?;
        // Opened first, so that nothing falls between.
        let query = self.narrow.query();
        let mut changes = session.ask(session.hub.changes(&query)).await?;
        let (rows, _) = self.read(session).await?;
        for row in &rows {
            session.line(head(session), row);
        }
        // The stream begins with a reset: the list is just that.
        changes.next().await?;
        loop {
            let change = changes.next().await?;
            tail::tell(
                session,
                &self.narrow,
                change,
                |row| shown(session, row),
                head(session),
            );
        }
    }
}

fn head(session: &Session) -> &'static [&'static str] {
    match session.format() {
        Format::Wide | Format::Csv => &WIDE,
        _ => &HEAD,
    }
}

/// One instance of a list.
fn shown(session: &Session, row: &InstanceRow) -> Row {
    let mut cells = vec![
        row.id.to_string(),
        row.name.to_string(),
        status(row),
        session.time(row.created),
        session.time(row.updated),
    ];
    if matches!(session.format(), Format::Wide | Format::Csv) {
        cells.extend(more(session, row));
    }
    Row {
        id: row.id.to_string(),
        cells,
        json: json::row(row),
    }
}

fn more(session: &Session, row: &InstanceRow) -> [String; 6] {
    let tags = row.tags.iter().map(|(name, value)| format!("{name}={value}"));
    let custom = row.custom_status.as_ref();
    let custom = custom.map(|custom| match session.format() {
        Format::Csv => custom.as_str().to_owned(),
        _ => cut(custom.as_str()),
    });
    [
        row.version.as_deref().unwrap_or_default().to_owned(),
        row.completed.map(|at| session.time(at)).unwrap_or_default(),
        row.parent
            .as_ref()
            .map(|parent| parent.instance.to_string())
            .unwrap_or_default(),
        tags.collect::<Vec<_>>().join(" "),
        row.events.to_string(),
        custom.unwrap_or_default(),
    ]
}

/// A status, and whether a fault has stopped it.
pub(super) fn status(row: &InstanceRow) -> String {
    match &row.parked {
        Some(_) => format!("{} (parked)", row.status.as_str()),
        None => row.status.as_str().to_owned(),
    }
}
