//! Where work is and why it does not move, in words.

use dalsegno_core::TaskId;
use dalsegno_engine::explain::{AttemptElsewhere, Reason, ReasonKind};
use dalsegno_engine::nearest::nearest;
use hashbrown::HashMap;
use tokio::time::Instant;

use super::{Item, Kind, Pending, Place, State, Stream, Work, Workers};

/// So many names are told of what connected workers offer.
const OFFERS_TOLD: usize = 8;

impl Workers {
    /// Why a turn does not come back.
    pub fn explain_turn(&self, instance: &str, number: u64) -> Option<Reason> {
        let state = self.lock();
        let (id, _) = state.turns.get(instance).filter(|(_, of)| *of == number)?;
        let item = state.items.get(id)?;
        Some(match item.place {
            Place::Flying { stream, .. } => {
                let name = state.name_of(stream);
                Reason {
                    owner: Some(name.to_owned()),
                    ..Reason::new(ReasonKind::Turn, format!("its turn is at worker {name}"))
                }
            }
            Place::Pausing { .. } => {
                let text = "its turn was abandoned by a worker and is offered again soon";
                Reason::new(ReasonKind::Turn, text)
            }
            Place::Waiting => match state
                .who_owes(&item.work)
                .or_else(|| state.who_is_busy(&item.work))
            {
                Some(text) => Reason::new(ReasonKind::Turn, text),
                None => Reason::new(ReasonKind::NoWorker, state.who_is_missing(&item.work))
                    .named(item.work.name.clone()),
            },
        })
    }

    /// Where the attempts of an instance's activities are. Looks at all work there is.
    pub fn attempts_of(&self, instance: &str) -> HashMap<TaskId, AttemptElsewhere> {
        let state = self.lock();
        let own = state.items.values().filter(|item| {
            matches!(item.work.answer, Pending::Activity(_)) && &*item.work.instance == instance
        });
        let attempt = |item: &Item| {
            let task = u32::try_from(item.work.task).ok()?;
            Some((TaskId(task), state.attempt(item)))
        };
        own.filter_map(attempt).collect()
    }

    /// Why an activity is not at work that no connected worker offers.
    pub fn explain_missing_activity(&self, name: &str) -> String {
        let state = self.lock();
        let near = state.near(Kind::Activity, name);
        let who = state.who_is_there(Kind::Activity, name);
        format!("waits for a worker that offers it{near}; {who}")
    }
}

impl State {
    fn name_of(&self, stream: u64) -> &str {
        self.streams.get(&stream).map_or("", |stream| &stream.name)
    }

    fn attempt(&self, item: &Item) -> AttemptElsewhere {
        match item.place {
            Place::Flying { stream, since, .. } => AttemptElsewhere::At {
                worker: self.name_of(stream).to_owned(),
                time: Instant::now().saturating_duration_since(since),
            },
            Place::Pausing { .. } => {
                AttemptElsewhere::Waits("was abandoned by a worker and is offered again soon".to_owned())
            }
            Place::Waiting => {
                let owes = self.who_owes(&item.work);
                let busy = owes.or_else(|| self.who_is_busy(&item.work));
                AttemptElsewhere::Waits(busy.unwrap_or_else(|| self.who_is_missing(&item.work)))
            }
        }
    }

    /// Which worker has to answer before a worker that names no tokens can have it; `None`: it waits
    /// for something else.
    fn who_owes(&self, work: &Work) -> Option<String> {
        let owes = self.owed.first(work)?;
        let version = work.version.as_deref();
        let could_have =
            |stream: &Stream| stream.names_tokens && stream.filter.takes(work.kind(), &work.name, version);
        if self.streams.values().any(could_have) {
            return None;
        }
        let (earlier, this) = match work.kind() {
            Kind::Turn => ("a turn that was taken back", "turn"),
            Kind::Activity | Kind::Entity => ("the task of this number in an earlier execution", "task"),
        };
        Some(format!(
            "waits until worker {} answers {earlier}, or disconnects: it names no completion tokens, so its answer \
             could be taken for that of this {this}",
            self.name_of(owes)
        ))
    }

    /// Those that could take it and have no room; `None`: nobody could.
    fn who_is_busy(&self, work: &Work) -> Option<String> {
        let version = work.version.as_deref();
        let takes = |stream: &&Stream| stream.filter.takes(work.kind(), &work.name, version);
        match self.streams.values().filter(takes).count() {
            0 => None,
            1 => Some("waits for the one worker that offers it, which is busy".to_owned()),
            count => Some(format!(
                "waits for one of {count} workers that offer it; all are busy"
            )),
        }
    }

    fn who_is_missing(&self, work: &Work) -> String {
        let what = match work.kind() {
            Kind::Turn => "orchestrator",
            Kind::Activity => "activity",
            Kind::Entity => "entity",
        };
        let version = work.version.as_ref();
        let version = version.map_or_else(String::new, |version| format!(" version {version}"));
        let near = self.near(work.kind(), &work.name);
        let who = self.who_is_there(work.kind(), &work.name);
        format!(
            "waits for a worker that offers {what} \"{}\"{version}{near}: {who}",
            work.name
        )
    }

    /// Which name may have been meant.
    fn near(&self, kind: Kind, wanted: &str) -> String {
        let offered = self.offered(kind);
        let near = nearest(wanted, offered.iter().map(String::as_str));
        let near = near.filter(|near| *near != wanted);
        near.map_or_else(String::new, |near| format!(" (did you mean {near}?)"))
    }

    /// What connected workers offer by name, in order.
    fn offered(&self, kind: Kind) -> Vec<String> {
        let offers = self.streams.values().filter_map(|stream| stream.filter.offers());
        let mut offered: Vec<String> = offers
            .flat_map(|offers| match kind {
                Kind::Turn => offers.orchestrators,
                Kind::Activity => offers.activities,
                Kind::Entity => offers.entities,
            })
            .collect();
        offered.sort();
        offered.dedup();
        offered
    }

    /// Who is connected and does not offer it.
    fn who_is_there(&self, kind: Kind, wanted: &str) -> String {
        let mut offered = self.offered(kind);
        if offered.iter().any(|name| name == wanted) {
            return format!("none of the {} connected has that version", self.streams.len());
        }
        offered.truncate(OFFERS_TOLD);
        match (self.streams.len(), offered.is_empty()) {
            (0, _) => "none is connected".to_owned(),
            (count, true) => format!("none of the {count} connected does"),
            (count, false) => format!(
                "none of the {count} connected does, they offer {}",
                offered.join(", ")
            ),
        }
    }
}
