//! `dalsegno entity`

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::query::EntityQuery;
use dalsegno_core::{EntityId, InstanceId, Timestamp};
use dalsegno_engine::request::{self, LivingHolder, RequestError, RequestErrorKind};
use dalsegno_host::v1::{EntityTold, EntityWaiterWire, json};

use crate::arguments::Format;
use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::{Row, cut};
use crate::session::Session;

const HEAD: [&str; 5] = ["NAME", "KEY", "LAST OPERATION", "STATE", "LOCKED BY"];
/// Rows of one request.
const PAGE_ROWS: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Entity {
    /// List entities that have state
    #[command(after_help = "Example: dalsegno entity list counter")]
    List(List),
    /// Show the state of an entity
    #[command(after_help = "Example: dalsegno entity get counter a")]
    Get(Named),
    /// Signal an operation; nobody waits for it
    Signal(Signal),
    /// Free an entity of a lock whose holder is gone
    Unlock(Unlock),
    /// Delete an entity with its state
    #[command(after_help = "Example: dalsegno entity delete counter a")]
    Delete(Named),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this name
    #[arg(add = ArgValueCompleter::new(complete::entities))]
    name: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    top: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Name of the entity
    #[arg(add = ArgValueCompleter::new(complete::entities))]
    name: String,
    /// Its key
    #[arg(default_value = "", add = ArgValueCompleter::new(complete::entity_keys))]
    key: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno entity signal counter a add -d 5")]
pub(crate) struct Signal {
    /// Name of the entity
    #[arg(add = ArgValueCompleter::new(complete::entities))]
    name: String,
    /// Its key
    #[arg(add = ArgValueCompleter::new(complete::entity_keys))]
    key: String,
    /// The operation
    operation: String,
    /// Its input: JSON, @FILE, or - for stdin
    #[arg(long, short)]
    data: Option<String>,
    /// Not before this time
    #[arg(long, value_parser = input::time)]
    at: Option<Timestamp>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno entity unlock counter a --holder order-9")]
pub(crate) struct Unlock {
    /// Name of the entity
    #[arg(add = ArgValueCompleter::new(complete::entities))]
    name: String,
    /// Its key
    #[arg(add = ArgValueCompleter::new(complete::entity_keys))]
    key: String,
    /// The instance that has the lock, as entity get tells
    #[arg(long, add = ArgValueCompleter::new(complete::instances), value_parser = input::id, value_name = "ID")]
    holder: InstanceId,
    /// Take it from one that lives, too: it goes on as if it had it
    #[arg(long)]
    force: bool,
}

impl Entity {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::List(list) => list.run(session).await,
            Self::Get(named) => named.get(session).await,
            Self::Signal(signal) => signal.run(session).await,
            Self::Unlock(unlock) => unlock.run(session).await,
            Self::Delete(named) => named.delete(session).await,
        }
    }
}

impl List {
    async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let most = usize::try_from(self.top).unwrap_or(usize::MAX);
        let name = self.name.map(|name| name.to_lowercase());
        let mut query = EntityQuery {
            name,
            limit: most.min(PAGE_ROWS),
            ..EntityQuery::default()
        };
        let mut rows = Vec::new();
        loop {
            let (page, next) = session.ask(session.hub.entities_told(&query)).await?;
            rows.extend(page.into_iter().map(|told| shown(told, cut)));
            query.limit = most.saturating_sub(rows.len()).min(PAGE_ROWS);
            query.after = next;
            if query.after.is_none() || query.limit == 0 {
                break;
            }
        }
        let width = match session.format() {
            Format::Wide | Format::Csv => HEAD.len(),
            _ => HEAD.len() - 1,
        };
        session.rows(&HEAD[..width], &rows);
        Ok(Exit::Ok)
    }
}

impl Named {
    fn id(&self) -> Result<EntityId, Failure> {
        EntityId::new(&self.name, &self.key).map_err(|invalid| Failure::usage(invalid.reason))
    }

    async fn get(self, session: &Session) -> Result<Exit, Failure> {
        let id = self.id()?;
        let Some(told) = session.ask(session.hub.entity_told(&id)).await? else {
            return Err(unknown(&id));
        };
        let queue = queue(&told);
        let mut row = shown(told, str::to_owned);
        row.cells.push(queue);
        session.one(
            &["name", "key", "last operation", "state", "locked by", "queue"],
            &row,
        );
        Ok(Exit::Ok)
    }

    async fn delete(self, session: &Session) -> Result<Exit, Failure> {
        let id = self.id()?;
        if !session.ask(session.hub.delete_entity(&id)).await? {
            return Err(unknown(&id));
        }
        session.say(&format!("deleted {id}"));
        Ok(Exit::Ok)
    }
}

impl Unlock {
    async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let id = EntityId::new(&self.name, &self.key).map_err(|invalid| Failure::usage(invalid.reason))?;
        let living = match self.force {
            true => LivingHolder::Loses,
            false => LivingHolder::Keeps,
        };
        session
            .ask(session.hub.unlock_entity(&id, &self.holder, living))
            .await?;
        session.say(&format!("freed {id} of the lock of {}", self.holder));
        Ok(Exit::Ok)
    }
}

fn unknown(id: &EntityId) -> Failure {
    let error = RequestError::new(RequestErrorKind::NotFound, format!("there is no entity {id}"));
    Failure::from(error).help("dalsegno entity list shows what there is")
}

impl Signal {
    async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let id = EntityId::new(&self.name, &self.key).map_err(|invalid| Failure::usage(invalid.reason))?;
        let data = input::payload(self.data.as_deref())?;
        let signal = request::Signal {
            at: self.at,
            ..request::Signal::new(self.operation.as_str(), data)
        };
        session.ask(session.hub.signal_entity(&id, signal)).await?;
        session.say(&format!("signalled {} to {id}", self.operation));
        Ok(Exit::Ok)
    }
}

fn shown(told: EntityTold, state: fn(&str) -> String) -> Row {
    let row = &told.row;
    // It has had no operation yet.
    let is_new = row.last_operation == Timestamp::from_micros(0);
    Row {
        id: row.id.to_string(),
        cells: vec![
            row.id.name().to_owned(),
            row.id.key().to_owned(),
            if is_new {
                String::new()
            } else {
                json::time(row.last_operation)
            },
            row.state
                .as_ref()
                .map(|shown| state(shown.as_str()))
                .unwrap_or_default(),
            told.lock_holder.unwrap_or_default(),
        ],
        json: told.json,
    }
}

/// Who stands before it, in words: `lock for till-night; open`.
fn queue(told: &EntityTold) -> String {
    let word = |one: &EntityWaiterWire| {
        let what = one.operation.as_deref().unwrap_or("lock");
        let caller = one.caller.as_ref().map(|caller| format!(" for {caller}"));
        let state = if one.running { " (at work)" } else { "" };
        format!("{what}{}{state}", caller.unwrap_or_default())
    };
    let mut words: Vec<String> = told.queue.iter().map(word).collect();
    if told.waiting > words.len() {
        words.push(format!("and {} more", told.waiting - words.len()));
    }
    words.join("; ")
}
