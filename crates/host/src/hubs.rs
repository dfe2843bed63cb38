//! The hubs that one host serves, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use dalsegno_engine::TaskHub;
use tokio::sync::watch;

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
