//! The hubs that one host serves, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use dalsegno_engine::TaskHub;
use futures::future::BoxFuture;
use tokio::sync::watch;

/// Who makes and deletes hubs beside the host's own.
pub trait HubKeeper: fmt::Debug + Send + Sync {
    /// Makes a hub of that name, unless it is there.
    fn create(&self, name: &str) -> BoxFuture<'_, Result<Created, HubRefusal>>;

    /// Ends the hub of that name and deletes what is in it. When this returns, it is gone for good.
    fn delete(&self, name: &str) -> BoxFuture<'_, Result<(), HubRefusal>>;
}

/// What a wish for a hub came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was made.
    New,
    /// It was there, and is as it was.
    Known,
}

/// Why a hub is not made or deleted, with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubRefusal {
    /// No hub can have that name.
    InvalidName(String),
    /// There is no such hub.
    Unknown(String),
    /// This host's hubs, or this one, are not made and deleted by requests.
    Fixed(String),
    /// There are as many as a host may have.
    TooMany(String),
    /// Files could not be made or removed.
    Failed(String),
}

impl HubRefusal {
    /// What is wrong and what to do.
    pub fn text(&self) -> &str {
        match self {
            Self::InvalidName(text)
            | Self::Unknown(text)
            | Self::Fixed(text)
            | Self::TooMany(text)
            | Self::Failed(text) => text,
        }
    }
}

/// The text for a hub that is not here, or that the caller may not enter. `names` are the hubs that
/// the caller may know of.
pub fn unknown_hub(name: &str, names: &[String]) -> String {
    let known = match names.is_empty() {
        true => String::new(),
        false => format!(", only {}", names.join(", ")),
    };
    format!(
        "there is no task hub \"{name}\" here{known}: create it with `dalsegno hub create {name}`; where the \
         host allows it, a worker or a start over gRPC that names it creates it too"
    )
}

/// The hubs of a host: its own, and those that were opened beside it. A clone is the same list.
#[derive(Clone, Debug)]
pub struct HubList {
    main: TaskHub,
    /// Another name of the host's own.
    alias: Option<&'static str>,
    others: Arc<RwLock<BTreeMap<String, TaskHub>>>,
    /// Told of each that is opened.
    opened: Arc<watch::Sender<()>>,
}

impl HubList {
    /// With the host's own hub.
    pub fn new(main: TaskHub) -> Self {
        Self {
            main,
            alias: None,
            others: Arc::default(),
            opened: Arc::new(watch::Sender::new(())),
        }
    }

    /// The host's own hub has this name too, unless another hub has it.
    #[must_use]
    pub fn alias(mut self, name: &'static str) -> Self {
        self.alias = Some(name);
        self
    }

    /// The host's own hub: meant by whoever names none.
    pub fn main(&self) -> &TaskHub {
        &self.main
    }

    /// From now on this hub is served too.
    pub fn insert(&self, hub: TaskHub) {
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        others.insert(hub.name().to_owned(), hub);
        drop(others);
        self.opened.send_replace(());
    }

    /// This other hub is served no more.
    pub fn remove(&self, name: &str) {
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        others.remove(name);
    }

    /// No other hub is served any more.
    pub fn close_others(&self) {
        self.others
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// The hub of that name: spelled so, or else the only one that is spelled so in another case.
    pub fn find(&self, name: &str) -> Option<TaskHub> {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let all = || std::iter::once(&self.main).chain(others.values());
        let mut alike = all().filter(|hub| hub.name().eq_ignore_ascii_case(name));
        let exact = all().find(|hub| hub.name() == name);
        let hub = match exact {
            Some(hub) => hub,
            None => match (alike.next(), alike.next()) {
                (Some(only), None) => only,
                (None, _) if self.alias == Some(name) => &self.main,
                _ => return None,
            },
        };
        Some(hub.clone())
    }

    /// The name of the hub that gRPC means by this one. gRPC compares names exactly, since a worker or a
    /// start may create the hub that it names.
    pub(crate) fn exact_name<'a>(&'a self, name: &'a str) -> &'a str {
        match self.alias {
            Some(alias) if alias == name && !self.names().iter().any(|known| known == name) => {
                self.main.name()
            }
            _ => name,
        }
    }

    /// Those that are open, the host's own first.
    pub(crate) fn all(&self) -> Vec<TaskHub> {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(&self.main)
            .chain(others.values())
            .cloned()
            .collect()
    }

    /// Tells when one more is open.
    pub(crate) fn opened(&self) -> watch::Receiver<()> {
        self.opened.subscribe()
    }

    /// All names, the host's own first.
    pub fn names(&self) -> Vec<String> {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(self.main.name().to_owned())
            .chain(others.keys().cloned())
            .collect()
    }
}
