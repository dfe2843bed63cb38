//! Links that drop, delay and repeat between the hub and its workers: every program ends with the
//! result, and every outcome is recorded once, as if they had not.
//!
//! `LINKS_SEED=4711` repeats one seed, `LINKS_SEEDS=10000` runs more of them.

mod link;
mod programs;

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dalsegno_grpc::proto;
use dalsegno_grpc::proto::history_event::Kind as Event;
use dalsegno_grpc::proto::task_hub_sidecar_service_client::TaskHubSidecarServiceClient;
use dalsegno_grpc::proto::work_item::Request as Item;
use dalsegno_grpc::proto::{OrchestrationStatus as Wire, WorkerCapability};
use dalsegno_grpc::service::{OneHub, router};
use dalsegno_grpc::tonic::transport::Channel;
use dalsegno_grpc::tonic::{Code, Status};
use dalsegno_store_tests::Random;
use futures::StreamExt;
use prost::Message;
use tokio::task::JoinSet;

use crate::world::{self, completion, ended, named, served};
use link::{Links, hold};

/// Seeds of every run.
const SEEDS: u64 = 40;

/// Links of a seed that break, at most.
const BROKEN_MAX: u64 = 30;

/// What a seed takes when something waits for ever; otherwise it takes some milliseconds.
const STUCK: Duration = Duration::from_secs(60);

type Client = TaskHubSidecarServiceClient<Channel>;

#[test]
fn programs_end_as_if_links_did_not_drop_delay_and_repeat() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("LINKS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LINKS_SEEDS").unwrap_or(SEEDS),
    };
    let is_many = seeds.end - seeds.start >= SEEDS;
    let mut reached = Reached::default();
    for seed in seeds {
        let named = Named(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let run = async { tokio::time::timeout(STUCK, run(seed, &mut reached)).await };
        let ended = runtime.expect("a runtime").block_on(run);
        ended.expect("something waits for ever");
        drop(named);
    }
    // What this is about has happened.
    let Reached {
        cut,
        again,
        stale,
        twice,
        parts,
        lost,
    } = reached;
    let least = [cut, again, stale, twice, parts, lost].into_iter().min();
    assert!(!is_many || least > Some(20), "{reached:?}");
}

/// Names the seed when it fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "LINKS_SEED={} cargo test -p dalsegno-grpc --test it links",
                self.0
            );
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    /// Links cut.
    cut: usize,
    /// Work sent to a worker after another had it.
    again: usize,
    /// Answers with a token that had ended, saying something else.
    stale: usize,
    /// Answers given twice.
    twice: usize,
    /// Answers in parts.
    parts: usize,
    /// Workers that died with work.
    lost: usize,
}

/// What all workers of a seed know together.
#[derive(Default)]
struct Book {
    reached: Reached,
    /// The newest token of every instance's turn.
    newest: HashMap<String, String>,
    /// Tokens of turns that end nothing any more.
    ended: Vec<(String, String)>,
    /// Answers that nobody heard of.
    unheard: Vec<Answer>,
    wrong: Vec<String>,
}

type Books = Arc<Mutex<Book>>;

fn open(book: &Books) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(seed: u64, reached: &mut Reached) {
    let mut random = Random::new(seed);
    let (served, _workers) = served();
    let mut client = world::client_of(served.clone());
    let routes = router(Arc::new(OneHub::new(served)), 1024 * 1024);
    let links = Links::new(
        routes,
        Random::new(seed ^ 0x11_4b5),
        random.below(BROKEN_MAX) as usize,
    );
    let book = Books::default();
    let mut workers = JoinSet::new();
    for number in 0..2 {
        let random = Random::new(seed * 2 + number);
        workers.spawn(work(links.clone(), random, book.clone()));
    }
    for name in programs::NAMES {
        start(&links, name).await;
    }
    for number in 1..=programs::STEPS {
        hold(random.below(500)).await;
        let event = proto::RaiseEventRequest {
            instance_id: "events".to_owned(),
            name: "Go".to_owned(),
            input: Some(number.to_string()),
        };
        client.raise_event(event).await.expect("it is there");
    }
    for name in programs::NAMES {
        check(&mut client, name, name).await;
    }
    for name in ["sequence", "fan"] {
        check(&mut client, &format!("parent-{name}"), name).await;
    }
    let (steps, calls) = (programs::STEPS.to_string(), "@counter@counter");
    for (entity, count) in [(programs::SHARED, &steps), (calls, &steps)] {
        let state = settled(&mut client, entity, count).await;
        assert_eq!(state.serialized_state.as_ref(), Some(count), "{entity}");
    }
    workers.shutdown().await;
    let book = open(&book);
    assert!(book.wrong.is_empty(), "{:?}", book.wrong);
    reached.cut += links.cut();
    reached.again += book.reached.again;
    reached.stale += book.reached.stale;
    reached.twice += book.reached.twice;
    reached.parts += book.reached.parts;
    reached.lost += book.reached.lost;
}

/// Over links that break: again until it is there.
async fn start(links: &Links, name: &str) {
    let request = proto::CreateInstanceRequest {
        name: name.to_owned(),
        ..named(name)
    };
    loop {
        let Some(channel) = links.connect().await else {
            continue;
        };
        match Client::new(channel).start_instance(request.clone()).await {
            Ok(_) => return,
            Err(status) if status.code() == Code::AlreadyExists => return,
            Err(status) => assert!(is_of_link(&status), "{status:?}"),
        }
    }
}

/// It has ended well, and its history has everything once.
async fn check(client: &mut world::Client, id: &str, name: &str) {
    let state = ended(client, id).await;
    assert_eq!(state.orchestration_status(), Wire::Completed, "{state:?}");
    assert_eq!(state.output, Some(programs::expected(name)), "{id}");
    let request = proto::StreamInstanceHistoryRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    };
    let chunks = client.stream_instance_history(request).await;
    let mut chunks = chunks.expect("it has a history").into_inner();
    let (mut starts, mut asked, mut outcomes, mut ends) = (0, 0, 0, 0);
    while let Some(chunk) = chunks.next().await {
        for event in chunk.expect("it is readable").events {
            match event.kind.expect("events have a kind") {
                Event::ExecutionStarted(_) => starts += 1,
                Event::TaskScheduled(_)
                | Event::SubOrchestrationInstanceCreated(_)
                | Event::EntityOperationCalled(_) => asked += 1,
                Event::TaskCompleted(_)
                | Event::SubOrchestrationInstanceCompleted(_)
                | Event::EntityOperationCompleted(_)
                | Event::EventRaised(_) => outcomes += 1,
                Event::ExecutionCompleted(_) => ends += 1,
                _ => {}
            }
        }
    }
    let expected = programs::outcomes(name);
    assert_eq!((starts, outcomes, ends), (1, expected, 1), "{id}");
    assert_eq!(asked, if name == "events" { 0 } else { expected }, "{id}");
}

/// An entity that has nothing left to do, and has done as much.
async fn settled(client: &mut world::Client, entity: &str, least: &str) -> proto::EntityMetadata {
    let least: u64 = least.parse().expect("a number");
    loop {
        let request = proto::GetEntityRequest {
            instance_id: entity.to_owned(),
            include_state: true,
        };
        let answer = client.get_entity(request).await.expect("it answers").into_inner();
        let entity = answer.entity.unwrap_or_default();
        let count = entity
            .serialized_state
            .as_deref()
            .map_or(0, |text| text.parse().expect("a number"));
        if entity.backlog_queue_size == 0 && count >= least {
            return entity;
        }
        tokio::task::yield_now().await;
    }
}

/// A worker: takes whatever it is sent, and comes back over the next link.
async fn work(links: Links, mut random: Random, book: Books) {
    loop {
        if let Some(channel) = links.connect().await
            && let Err(status) = serve(Client::new(channel), &mut random, &book).await
            && !is_of_link(&status)
        {
            open(&book).wrong.push(format!("a stream ended: {status:?}"));
        }
        tokio::task::yield_now().await;
    }
}

/// One connection, until it breaks or the worker has had enough.
async fn serve(mut client: Client, random: &mut Random, book: &Books) -> Result<(), Status> {
    client.hello(()).await?;
    let keeps = random.one_in(2).then(|| WorkerCapability::KeepsExecutions.into());
    let request = proto::GetWorkItemsRequest {
        max_concurrent_orchestration_work_items: random.below(3) as i32,
        capabilities: keeps.into_iter().collect(),
        ..Default::default()
    };
    let mut stream = client.get_work_items(request).await?.into_inner();
    // They end with the connection.
    let mut running = JoinSet::new();
    let unheard = std::mem::take(&mut open(book).unheard);
    for answer in unheard {
        running.spawn(give(
            client.clone(),
            answer,
            Random::new(random.below(1 << 40)),
            book.clone(),
        ));
    }
    while let Some(item) = stream.message().await? {
        if random.one_in(40) {
            open(book).reached.lost += 1;
            return Ok(());
        }
        let Some(answer) = answer(item, random, book) else {
            continue;
        };
        let random = Random::new(random.below(1 << 40));
        running.spawn(give(client.clone(), answer, random, book.clone()));
    }
    Ok(())
}

#[derive(Clone)]
enum Answer {
    /// In these parts, the last of which ends it.
    Turn(Vec<proto::OrchestratorResponse>),
    Activity(proto::ActivityResponse),
    Entity(proto::EntityBatchResult),
}

impl Answer {
    async fn send(&self, client: &mut Client) -> Result<(), Status> {
        match self.clone() {
            Self::Turn(parts) => {
                for part in parts {
                    client.complete_orchestrator_task(part).await?;
                }
                Ok(())
            }
            Self::Activity(response) => client.complete_activity_task(response).await.map(drop),
            Self::Entity(result) => client.complete_entity_task(result).await.map(drop),
        }
    }

    /// Parts that came twice would be in it twice.
    fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Turn(parts) if parts.len() > 1)
    }
}

/// Runs what was sent.
fn answer(item: proto::WorkItem, random: &mut Random, book: &Books) -> Option<Answer> {
    let token = item.completion_token;
    Some(match item.request? {
        Item::OrchestratorRequest(request) => {
            let mut book = open(book);
            let instance = request.instance_id.clone();
            if let Some(before) = book.newest.insert(instance.clone(), token.clone())
                && !book.ended.iter().any(|(_, ended)| *ended == before)
            {
                book.reached.again += 1;
                book.ended.push((instance, before));
            }
            Answer::Turn(turn(request, &token, random, &mut book.reached))
        }
        Item::ActivityRequest(request) => Answer::Activity(proto::ActivityResponse {
            instance_id: request.orchestration_instance?.instance_id,
            task_id: request.task_id,
            result: Some(programs::activity(&request.input?)),
            failure_details: None,
            completion_token: token,
            last_heartbeat: None,
        }),
        Item::EntityRequestV2(request) => Answer::Entity(proto::EntityBatchResult {
            completion_token: token,
            ..programs::operations(&request)
        }),
        Item::EntityRequest(_) | Item::ActivityCancelled(_) | Item::HealthPing(_) => return None,
    })
}

fn turn(
    request: proto::OrchestratorRequest,
    token: &str,
    random: &mut Random,
    reached: &mut Reached,
) -> Vec<proto::OrchestratorResponse> {
    let whole = |actions| world::response(&request.instance_id, token, actions);
    if request.kept_execution.is_some() {
        // It says that it keeps executions, and has lost this one.
        return vec![proto::OrchestratorResponse {
            requires_history: true,
            ..whole(Vec::new())
        }];
    }
    let events = request.past_events.iter().chain(&request.new_events);
    let decoded = events.map(|event| proto::HistoryEvent::decode(event.clone()).expect("it is an event"));
    let mut actions = programs::turn(decoded);
    if actions.len() < 2 || !random.one_in(3) {
        return vec![whole(actions)];
    }
    reached.parts += 1;
    let rest = actions.split_off(1);
    let first = proto::OrchestratorResponse {
        is_partial: true,
        ..whole(actions)
    };
    vec![first, whole(rest)]
}

/// Answers after a while, perhaps twice, perhaps with an old token saying something else before.
async fn give(mut client: Client, answer: Answer, mut random: Random, book: Books) {
    hold(random.below(200)).await;
    if random.one_in(3) {
        stale(&mut client, &mut random, &book).await;
    }
    let given = answer.send(&mut client).await;
    if let Answer::Turn(parts) = &answer
        && given.is_ok()
        && let Some(last) = parts.last()
    {
        let token = (last.instance_id.clone(), last.completion_token.clone());
        open(&book).ended.push(token);
    }
    note(&given, &book);
    if !answer.is_repeatable() {
        return;
    }
    match given {
        Ok(()) if random.one_in(4) => {
            open(&book).reached.twice += 1;
            note(&answer.send(&mut client).await, &book);
        }
        Err(_) if random.one_in(2) => open(&book).unheard.push(answer),
        _ => {}
    }
}

/// The token has ended: whatever is said with it changes nothing.
async fn stale(client: &mut Client, random: &mut Random, book: &Books) {
    let (instance, token) = {
        let mut book = open(book);
        let Some(last) = book.ended.len().checked_sub(1) else {
            return;
        };
        book.reached.stale += 1;
        book.ended[last - random.below(last.min(20) as u64 + 1) as usize].clone()
    };
    let end = world::response(&instance, &token, vec![completion(0, Wire::Failed)]);
    note(&client.complete_orchestrator_task(end).await.map(drop), book);
}

/// An answer is taken, or dropped without a word; all else is the link's doing.
fn note(given: &Result<(), Status>, book: &Books) {
    if let Err(status) = given
        && !is_of_link(status)
    {
        open(book).wrong.push(format!("{status:?}"));
    }
}

/// The link broke: no server said so.
fn is_of_link(status: &Status) -> bool {
    status.source().is_some()
}
