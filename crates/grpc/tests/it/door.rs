//! Whatever comes through the door gets an answer that is no excuse, and the hub lives on.
//!
//! `DOOR_SEED=7` repeats one seed, `DOOR_SEEDS=1000` runs more of them.

mod knock;
mod messages;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_grpc::proto;
use dalsegno_grpc::proto::OrchestrationStatus as Wire;
use dalsegno_grpc::proto::work_item::Request as Item;
use dalsegno_grpc::service::OneHub;
use dalsegno_grpc::tonic::{Code, Streaming};
use dalsegno_store_tests::Random;

use crate::world::{self, Client, completion, ended, item, named, response, schedule, served};
use knock::{CALLS, Door};
use messages::Tokens;

/// Hubs that are knocked at.
const SEEDS: u64 = 10;

/// Instances of a hub that all calls are made about.
const ROUNDS: u8 = 8;

/// Changed messages at each call about one instance.
const KNOCKS: usize = 8;

/// What a hub takes to send its work when it does not; otherwise it takes some milliseconds.
const STUCK: Duration = Duration::from_secs(10);

#[test]
fn every_call_takes_any_bytes_and_the_hub_works_afterwards() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("DOOR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DOOR_SEEDS").unwrap_or(SEEDS),
    };
    let is_many = seeds.end - seeds.start >= SEEDS;
    let mut answers = Answers::new();
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(run(seed, &mut answers));
    }
    for call in CALLS.iter().copied() {
        let [taken, refused] = answers[call];
        let is_served = taken > 0 || call == "DeleteTaskHub";
        assert!(!is_many || is_served && refused > 0, "{call}: {taken} {refused}");
    }
}

/// How often each call was taken, and refused.
type Answers = BTreeMap<&'static str, [u32; 2]>;

async fn run(seed: u64, answers: &mut Answers) {
    let mut random = Random::new(seed);
    let (served, workers) = served();
    let mut client = world::client_of(served.clone());
    let door = Door::new(Arc::new(OneHub::new(served)));
    for round in 0..ROUNDS {
        let mut stream = world::connect_with(&mut client, Vec::new()).await;
        // No change of some bits makes one of another.
        let id = char::from(b'a' + round).to_string().repeat(8);
        let tokens = in_flight(&mut client, &mut stream, &id);
        let tokens = tokio::time::timeout(STUCK, tokens).await;
        let Ok(tokens) = tokens else {
            panic!("DOOR_SEED={seed}: something waits for ever: {workers:?}");
        };
        // What ends the work comes last, in no order of its own.
        for (number, call) in CALLS.iter().copied().enumerate().rev() {
            let good = messages::good(call, &id, &tokens);
            for _ in 0..KNOCKS {
                let bytes = random.mutate(&good);
                let Some((code, text)) = door.knock(call, &bytes).await else {
                    answers.entry(call).or_default()[0] += 1;
                    continue;
                };
                assert!(
                    !matches!(code, Code::Unknown | Code::Internal),
                    "DOOR_SEED={seed}: {call} {number} of {bytes:?}: {code:?} {text}"
                );
                answers.entry(call).or_default()[usize::from(code != Code::Ok)] += 1;
            }
            let known = door.knock(call, &good).await;
            let is_known = known.is_none_or(|(code, _)| !matches!(code, Code::Unknown | Code::Internal));
            assert!(is_known, "DOOR_SEED={seed}: {call}");
        }
    }
    let mut stream = world::connect_with(&mut client, Vec::new()).await;
    client
        .start_instance(named("after"))
        .await
        .expect("DOOR_SEED: the hub works");
    let (token, _) = turn_of(&mut stream, "after").await;
    let end = response("after", &token, vec![completion(0, Wire::Completed)]);
    client.complete_orchestrator_task(end).await.expect("it is taken");
    let state = ended(&mut client, "after").await;
    assert_eq!(state.orchestration_status(), Wire::Completed, "DOOR_SEED={seed}");
}

/// An instance with a turn, an activity and an entity's operation at the worker, and a failed one.
async fn in_flight(client: &mut Client, stream: &mut Streaming<proto::WorkItem>, id: &str) -> Tokens {
    let failed = messages::failed(id);
    client.start_instance(named(&failed)).await.expect("it starts");
    let (token, _) = turn_of(stream, &failed).await;
    let failure = response(&failed, &token, vec![completion(0, Wire::Failed)]);
    client
        .complete_orchestrator_task(failure)
        .await
        .expect("it is taken");
    client.start_instance(named(id)).await.expect("it starts");
    let (token, _) = turn_of(stream, id).await;
    let asked = response(id, &token, vec![schedule(1), messages::call(2, id)]);
    client
        .complete_orchestrator_task(asked)
        .await
        .expect("it is taken");
    let raised = proto::RaiseEventRequest {
        instance_id: id.to_owned(),
        name: "Go".to_owned(),
        input: None,
    };
    client.raise_event(raised).await.expect("it is there");
    let mut tokens = Tokens::default();
    while tokens.turn.is_empty() || tokens.activity.is_empty() || tokens.entity.is_empty() {
        let (token, request) = item(stream).await;
        match request {
            Item::OrchestratorRequest(request) if request.instance_id == id => tokens.turn = token,
            Item::ActivityRequest(request)
                if request
                    .orchestration_instance
                    .as_ref()
                    .is_some_and(|instance| instance.instance_id == id) =>
            {
                tokens.activity = token;
            }
            Item::EntityRequestV2(request) if request.instance_id.ends_with(id) => tokens.entity = token,
            _ => {}
        }
    }
    tokens
}

/// The turn of that instance; others stay where they are.
async fn turn_of(stream: &mut Streaming<proto::WorkItem>, id: &str) -> (String, proto::OrchestratorRequest) {
    loop {
        if let (token, Item::OrchestratorRequest(request)) = item(stream).await
            && request.instance_id == id
        {
            return (token, request);
        }
    }
}
