//! Which work a worker takes.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use dalsegno_engine::request::WorkerOffers;

use crate::proto;
use crate::workers::Kind;

/// What a worker said it offers.
#[derive(Clone, Debug, Default)]
pub enum Filter {
    /// Everything.
    #[default]
    All,
    /// Only what is listed.
    Listed(Arc<Listed>),
}

/// Names, with the versions that are taken of each; none listed means any.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    orchestrations: HashMap<String, HashSet<String>>,
    activities: HashMap<String, HashSet<String>>,
    entities: HashSet<String>,
}

impl Filter {
    /// As a worker sent it; without a message it takes everything.
    pub fn new(filters: Option<proto::WorkItemFilters>) -> Self {
        let Some(filters) = filters else { return Self::All };
        let mut listed = Listed::default();
        for proto::OrchestrationFilter { name, versions } in filters.orchestrations {
            unite(&mut listed.orchestrations, name, versions);
        }
        for proto::ActivityFilter { name, versions } in filters.activities {
            unite(&mut listed.activities, name, versions);
        }
        listed.entities = filters
            .entities
            .into_iter()
            .map(|entity| entity.name.to_lowercase())
            .collect();
        Self::Listed(Arc::new(listed))
    }

    /// Does it take an activity of this name, in some version?
    pub fn names(&self, activity: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed(listed) => listed.activities.contains_key(activity),
        }
    }

    /// The names, in order; `None` for who takes everything.
    pub fn offers(&self) -> Option<WorkerOffers> {
        let Self::Listed(listed) = self else { return None };
        let sorted = |names: &mut dyn Iterator<Item = &String>| {
            let mut names: Vec<String> = names.cloned().collect();
            names.sort();
            names
        };
        Some(WorkerOffers {
            orchestrators: sorted(&mut listed.orchestrations.keys()),
            activities: sorted(&mut listed.activities.keys()),
            entities: sorted(&mut listed.entities.iter()),
        })
    }

    /// Is this for it?
    pub fn takes(&self, kind: Kind, name: &str, version: Option<&str>) -> bool {
        let Self::Listed(listed) = self else { return true };
        match kind {
            Kind::Turn => takes(&listed.orchestrations, name, version),
            Kind::Activity => takes(&listed.activities, name, version),
            Kind::Entity => listed.entities.contains(name),
        }
    }

    /// The versions of an orchestrator that are listed by name.
    pub fn versions(&self, orchestrator: &str) -> impl Iterator<Item = &str> {
        let listed = match self {
            Self::All => None,
            Self::Listed(listed) => listed.orchestrations.get(orchestrator),
        };
        let versions = listed.into_iter().flatten().map(String::as_str);
        versions.filter(|version| !version.is_empty())
    }
}

/// A name that is listed twice takes the versions of both; one without versions takes any.
fn unite(names: &mut HashMap<String, HashSet<String>>, name: String, versions: Vec<String>) {
    match names.entry(name) {
        hashbrown::hash_map::Entry::Vacant(entry) => drop(entry.insert(versions.into_iter().collect())),
        hashbrown::hash_map::Entry::Occupied(mut entry) => {
            let known = entry.get_mut();
            match known.is_empty() || versions.is_empty() {
                true => known.clear(),
                false => known.extend(versions),
            }
        }
    }
}

fn takes(names: &HashMap<String, HashSet<String>>, name: &str, version: Option<&str>) -> bool {
    names.get(name).is_some_and(|versions| {
        versions.is_empty() || versions.contains("") || version.is_some_and(|own| versions.contains(own))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_told_in_order_and_nothing_of_who_takes_everything() {
        assert_eq!(Filter::new(None).offers(), None);
        let named = |name: &str| proto::ActivityFilter {
            name: name.to_owned(),
            versions: Vec::new(),
        };
        let filters = proto::WorkItemFilters {
            activities: vec![named("pick"), named("charge"), named("pick")],
            ..proto::WorkItemFilters::default()
        };
        let wanted = WorkerOffers {
            activities: vec!["charge".into(), "pick".into()],
            ..WorkerOffers::default()
        };
        assert_eq!(Filter::new(Some(filters)).offers(), Some(wanted));
    }
}
