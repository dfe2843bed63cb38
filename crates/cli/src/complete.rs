//! What a shell offers for a word that only the host knows: ids, names of functions, events.
//!
//! A shell asks by running the program itself, with the words of the line behind `--`. A host that does
//! not answer soon has nothing to offer, and nothing is told of that: who types is not to be disturbed.

use std::ffi::OsStr;
use std::time::Duration;

use clap::Parser;
use clap_complete::engine::CompletionCandidate;
use dalsegno_core::InstanceId;
use dalsegno_core::query::{EntityQuery, InstanceQuery, LargeValues};
use dalsegno_host::RemoteHub;
use dalsegno_host::v1::WorkerWire;

use crate::arguments::Global;
use crate::output::shown;
use crate::session::Session;

/// By which a shell asks; its value is the shell's name.
pub(crate) const VARIABLE: &str = "DALSEGNO_COMPLETE";

/// All that is asked of the host takes no longer.
const TIME_MAX: Duration = Duration::from_millis(200);
/// So many are offered.
const OFFERED_MAX: usize = 100;
/// Where a shell says which word it is about.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";

type Candidates = Vec<CompletionCandidate>;

/// A word, and what is told of it.
type Offer = (String, String);

/// The flags that say where to speak to, wherever they stand.
#[derive(Debug, Parser)]
#[command(name = "dalsegno", ignore_errors = true)]
struct Reach {
    #[command(flatten)]
    global: Global,
}

/// Ids of instances, newest first.
pub(crate) fn instances(typed: &OsStr) -> Candidates {
    offers(typed, async |hub, typed| {
        let query = InstanceQuery {
            id_prefix: (!typed.is_empty()).then(|| typed.to_owned()),
            limit: OFFERED_MAX,
            large: LargeValues::LeaveOut,
            ..InstanceQuery::default()
        };
        let rows = hub.list(query).await.ok()?.rows;
        let offer = |row: &dalsegno_core::store::InstanceRow| {
            (
                row.id.to_string(),
                format!("{} {}", row.name, row.status.as_str()),
            )
        };
        Some(rows.iter().map(offer).collect())
    })
}

/// Names of orchestrators, of the host and of workers.
pub(crate) fn orchestrators(typed: &OsStr) -> Candidates {
    offers(typed, async |hub, _| {
        let own = hub.info().await.ok()?.orchestrators;
        Some(
            named(&hub, own, |worker| {
                worker.offers.map(|offers| offers.orchestrators)
            })
            .await,
        )
    })
}

/// Names of activities.
pub(crate) fn activities(typed: &OsStr) -> Candidates {
    offers(typed, async |hub, _| {
        let own = hub.info().await.ok()?.activities;
        Some(named(&hub, own, |worker| worker.offers.map(|offers| offers.activities)).await)
    })
}

/// Names of entities.
pub(crate) fn entities(typed: &OsStr) -> Candidates {
    offers(typed, async |hub, _| {
        let own = hub.info().await.ok()?.entities;
        Some(named(&hub, own, |worker| worker.offers.map(|offers| offers.entities)).await)
    })
}

/// Keys of the entities whose name is the word before.
pub(crate) fn entity_keys(typed: &OsStr) -> Candidates {
    offers(typed, async |hub, _| {
        let query = EntityQuery {
            name: Some(word_before()?.to_lowercase()),
            limit: OFFERED_MAX,
            large: LargeValues::LeaveOut,
            ..EntityQuery::default()
        };
        let rows = hub.list_entities(query).await.ok()?.rows;
        let keys = rows.iter().map(|row| row.id.key().to_owned());
        Some(plain(keys.filter(|key| !key.is_empty())))
    })
}

/// Events that the instance waits for whose id is the word before; ids, where that is none.
pub(crate) fn events(typed: &OsStr) -> Candidates {
    offers(typed, async |hub, _| {
        let id = InstanceId::parse(&word_before()?).ok()?;
        let explanation = hub.explain(&id).await.ok()??;
        let events = explanation
            .reasons
            .into_iter()
            .filter(|reason| reason.kind == "event");
        Some(plain(events.filter_map(|reason| reason.name)))
    })
}

/// Names of limiters.
pub(crate) fn limiters(typed: &OsStr) -> Candidates {
    offers(typed, async |hub, _| {
        let limiters = hub.limiters().await.ok()?;
        Some(plain(limiters.iter().map(|limiter| limiter.name.to_string())))
    })
}

/// Names of timer triggers.
pub(crate) fn schedules(typed: &OsStr) -> Candidates {
    offers(typed, async |hub, _| {
        let schedules = hub.schedules().await.ok()?;
        Some(
            schedules
                .into_iter()
                .map(|one| (one.name, one.schedule))
                .collect(),
        )
    })
}

/// Names of workers that are connected.
pub(crate) fn workers(typed: &OsStr) -> Candidates {
    offers(typed, async |hub, _| {
        Some(plain(
            hub.workers().await.ok()?.into_iter().map(|worker| worker.name),
        ))
    })
}

/// Ids of commands to many.
pub(crate) fn operations(typed: &OsStr) -> Candidates {
    offers(typed, async |hub, _| {
        let offer = |one: dalsegno_host::v1::OperationWire| {
            let told = format!("{} {}", one.verb.as_str(), one.state.as_str());
            (one.id, told)
        };
        Some(hub.operations().await.ok()?.into_iter().map(offer).collect())
    })
}

/// Names of task hubs.
pub(crate) fn hubs(typed: &OsStr) -> Candidates {
    offers(typed, async |hub, _| {
        Some(plain(hub.hubs().await.ok()?.into_iter()))
    })
}

fn plain(names: impl Iterator<Item = String>) -> Vec<Offer> {
    names.map(|name| (name, String::new())).collect()
}

/// What the host has, and what workers bring.
async fn named(
    hub: &RemoteHub,
    own: Vec<String>,
    of_worker: impl Fn(WorkerWire) -> Option<Vec<String>>,
) -> Vec<Offer> {
    let workers = hub.workers().await.unwrap_or_default();
    let brought = workers.into_iter().filter_map(of_worker).flatten();
    plain(own.into_iter().chain(brought))
}

/// Those that begin as it was typed, each once.
fn offers(typed: &OsStr, ask: impl AsyncFnOnce(RemoteHub, &str) -> Option<Vec<Offer>>) -> Candidates {
    let Some(typed) = typed.to_str() else {
        return Vec::new();
    };
    let mut found = asked(typed, ask).unwrap_or_default();
    found.retain(|(word, _)| word.starts_with(typed) && shown(word) == *word);
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|(word, _)| seen.insert(word.clone()));
    found.truncate(OFFERED_MAX);
    found.into_iter().map(candidate).collect()
}

fn candidate((word, told): Offer) -> CompletionCandidate {
    let told = (!told.is_empty()).then(|| shown(&told).into());
    CompletionCandidate::new(word).help(told)
}

fn asked(typed: &str, ask: impl AsyncFnOnce(RemoteHub, &str) -> Option<Vec<Offer>>) -> Option<Vec<Offer>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let hub = Session::new(&reach()?).ok()?.hub;
    let answer = async { tokio::time::timeout(TIME_MAX, ask(hub, typed)).await };
    let found = runtime.block_on(answer).ok()?;
    // A name that is still being looked up is nobody's.
    runtime.shutdown_background();
    found
}

/// The words of the line, the program first.
fn words() -> Vec<String> {
    let words = std::env::args().skip_while(|word| word != "--").skip(1);
    words.collect()
}

/// Which of these words is typed: the last, where the shell does not say.
fn typed_at(words: &[String]) -> usize {
    let told = std::env::var(INDEX).ok().and_then(|index| index.parse().ok());
    told.unwrap_or(words.len().saturating_sub(1))
}

/// The word before the one that is typed.
fn word_before() -> Option<String> {
    let words = words();
    words.get(typed_at(&words).checked_sub(1)?).cloned()
}

/// Where the line speaks to, from those of its flags that say so, and from the environment.
fn reach() -> Option<Global> {
    const FLAGS: [&str; 6] = ["--server", "-s", "--hub", "--key", "--ca-file", "--profile"];
    let words = words();
    let typed = typed_at(&words);
    let mut flags = vec!["dalsegno".to_owned()];
    for (at, word) in words.iter().enumerate() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        let has_value = name != word;
        // What is not typed yet says nothing.
        if !FLAGS.contains(&name) || typed == at + usize::from(!has_value) {
            continue;
        }
        flags.push(word.clone());
        if !has_value {
            flags.extend(words.get(at + 1).cloned());
        }
    }
    Reach::try_parse_from(flags).ok().map(|reach| reach.global)
}
