//! `dalsegno trace`: what an instance has done and waits for, as a tree.

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::InstanceId;
use dalsegno_core::query::InstanceQuery;
use dalsegno_engine::request::{InstanceStatus, RequestError, RequestErrorKind};
use futures::future::BoxFuture;

use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::screen::Screen;
use crate::session::{Session, exit_of};
use crate::time::now;
use crate::tree::{Branch, Letters, State, branches};

/// Between two pictures when nothing changes but the clock.
const TICK: Duration = Duration::from_secs(2);
/// Generations that are shown.
const DEPTH_MAX: usize = 8;
/// Children whose own tree is shown.
const CHILDREN_MAX: usize = 50;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno trace order-9 --once")]
pub(crate) struct Trace {
    /// Id of the instance
    #[arg(add = ArgValueCompleter::new(complete::instances), value_parser = input::id)]
    id: InstanceId,
    /// Once, and not until it is finished; so it is without a terminal, too
    #[arg(long)]
    once: bool,
    /// Finished children and repeated tasks too, each with what it did
    #[arg(long)]
    all: bool,
}

impl Trace {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let is_picture = session.is_for_people() && !self.once;
        match Screen::of_terminal().filter(|_| is_picture) {
            Some(screen) => session.follow(Some(&self.id), self.live(session, screen)).await,
            None => self.once(session).await,
        }
    }

    async fn once(&self, session: &Session) -> Result<Exit, Failure> {
        let (_, tree) = self.tree(session).await?;
        let letters = match Screen::of_terminal() {
            Some(_) => Letters::Unicode,
            None => Letters::Ascii,
        };
        let text = tree.text(letters, now(), self.all);
        session.prose(self.id.as_str(), &text, &tree.json().to_string());
        Ok(Exit::Ok)
    }

    async fn live(&self, session: &Session, mut screen: Screen) -> Result<Exit, Failure> {
        let family = InstanceQuery {
            id_prefix: Some(self.id.to_string()),
            ..InstanceQuery::default()
        };
        let mut changes = session.ask(session.hub.changes(&family)).await?;
        loop {
            let (status, tree) = self.tree(session).await?;
            screen.draw(&tree.text(Letters::Unicode, now(), self.all));
            if status.row.status.is_final() {
                return Ok(exit_of(status.row.status));
            }
            screen.pause(&mut changes, Some(TICK)).await?;
        }
    }

    async fn tree(&self, session: &Session) -> Result<(InstanceStatus, Branch), Failure> {
        let found = session.ask(session.hub.status(&self.id)).await?;
        let status = found.ok_or_else(|| {
            let detail = format!("there is no instance {}", self.id);
            RequestError::new(RequestErrorKind::NotFound, detail).about(&self.id)
        })?;
        let mut left = CHILDREN_MAX;
        let tree = self.grow(session, &status, DEPTH_MAX, &mut left).await?;
        Ok((status, tree))
    }

    /// An instance with what it did; children that are not done, or all, with theirs.
    fn grow<'a>(
        &'a self,
        session: &'a Session,
        status: &'a InstanceStatus,
        depth: usize,
        left: &'a mut usize,
    ) -> BoxFuture<'a, Result<Branch, Failure>> {
        Box::pin(async move {
            let row = &status.row;
            let events = session.ask(session.hub.history(&row.id)).await?;
            let reasons = match row.status.is_final() {
                true => Vec::new(),
                false => {
                    let told = session.ask(session.hub.explain(&row.id)).await?;
                    told.map(|told| told.reasons).unwrap_or_default()
                }
            };
            let mut tree = instance(status);
            tree.branches = branches(&events, &reasons, now());
            for branch in &mut tree.branches {
                let is_open = self.all || branch.state != State::Done;
                let Some(child) = branch.instance.clone().filter(|_| is_open) else {
                    continue;
                };
                if depth == 0 || *left == 0 {
                    branch.notes.push("not shown".into());
                    continue;
                }
                *left -= 1;
                // It may be purged, or not be there yet.
                if let Some(status) = session.ask(session.hub.status(&child)).await? {
                    let notes = std::mem::take(&mut branch.notes);
                    *branch = self.grow(session, &status, depth - 1, left).await?;
                    branch.notes.extend(notes);
                }
            }
            Ok(tree)
        })
    }
}

fn instance(status: &InstanceStatus) -> Branch {
    let row = &status.row;
    let version = row.version.as_deref().map(|version| format!(" {version}"));
    let label = format!(
        "{}{} {} · {}",
        row.name,
        version.unwrap_or_default(),
        row.id,
        super::list::status(row)
    );
    let mut branch = Branch::new("orchestration", label, row.created);
    branch.instance = Some(row.id.clone());
    branch.state = State::of(row.status);
    branch.ended = row.completed;
    branch.notes.extend(
        row.failure
            .as_ref()
            .map(|failure| crate::output::cut(&failure.to_string())),
    );
    branch
}
