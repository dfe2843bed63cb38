//! One orchestrator with every combinator in it: kept in memory, evicted after every turn and evicted
//! at random, with answers in random order and cancelled at some place, it must write the same history.

use std::collections::BTreeMap;

use dalsegno::{
    EventKind, ExternalEvent, Failure, OrchestrationContext, Result, SECOND, activity, entity, join_all,
    orchestrator, try_join_all,
};
use dalsegno_core::event::ChildLink;
use dalsegno_core::{Action, TaskId};
use futures::channel::mpsc;
use futures::future::{Either, FutureExt, join, select, select_all};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{SinkExt, stream};
use serde::{Deserialize, Serialize};

use crate::harness::{Play, answered, done, failed, fired, granted, json, raised};

const SEEDS: u64 = 300;
const TURNS_MAX: usize = 10_000;

#[activity]
async fn square(number: u64) -> u64 {
    number * number
}

#[derive(Default, Serialize, Deserialize)]
struct Counter(u64);

#[entity]
impl Counter {
    fn add(&mut self, amount: u64) -> u64 {
        self.0 += amount;
        self.0
    }
}

#[orchestrator]
async fn child(ctx: &OrchestrationContext, number: u64) -> Result<u64> {
    Ok(ctx.call(square, number).await?)
}

const TICK: ExternalEvent<u64> = ExternalEvent::new("tick");

#[orchestrator]
async fn everything(ctx: &OrchestrationContext) -> Result<Vec<u64>> {
    let all = join_all((0..40).map(|number| ctx.call(square, number))).await;
    let mut trail: Vec<u64> = vec![all.iter().filter(|result| result.is_ok()).count() as u64];

    let mut unordered: FuturesUnordered<_> = (0..35).map(|number| ctx.call(square, number)).collect();
    while let Some(result) = unordered.next().await {
        trail.push(result.unwrap_or(0));
        if trail.len() == 20 {
            break;
        }
    }
    drop(unordered);

    let buffered = stream::iter(0..12).map(|number| async move {
        ctx.timer(SECOND).await;
        ctx.call(square, number).await.unwrap_or(number)
    });
    trail.extend(buffered.buffer_unordered(4).collect::<Vec<_>>().await);

    trail.push(racing(ctx).await);
    trail.push(sharing(ctx).await);
    trail.extend(channelled(ctx).await);
    trail.push(locked(ctx).await?);
    trail.push(timed(ctx).await);
    let nested = (0..3).map(|number| async move { join(ctx.call(child, number), ctx.timer(SECOND)).await.0 });
    trail.extend(try_join_all(nested).await.unwrap_or_default());
    Ok(trail)
}

async fn racing(ctx: &OrchestrationContext) -> u64 {
    let (first, _, rest) = select_all((0..5).map(|number| ctx.call(square, number))).await;
    let rest = rest.len() as u64;
    match select(ctx.wait_for_event(TICK), ctx.timer(SECOND)).await {
        Either::Left((tick, _timer)) => tick.unwrap_or(0) + rest,
        Either::Right(((), _wait)) => first.unwrap_or(0) + ctx.call(square, rest).await.unwrap_or(1),
    }
}

async fn sharing(ctx: &OrchestrationContext) -> u64 {
    let shared = ctx.call(square, 9).map(|result| result.unwrap_or(3)).shared();
    let again = shared.clone();
    let (one, other) = join(
        async { shared.await + ctx.call(square, 1).await.unwrap_or(5) },
        async { ctx.call(square, 2).await.unwrap_or(7) + again.await },
    )
    .await;
    one + other
}

async fn channelled(ctx: &OrchestrationContext) -> Vec<u64> {
    let (sender, mut receiver) = mpsc::channel(1);
    let senders = (0..4).map(|number| {
        let mut sender = sender.clone();
        async move {
            let value = ctx.call(square, number).await.unwrap_or(99);
            sender.send(value).await.expect("the receiver lives");
            ctx.call(square, value).await.is_ok()
        }
    });
    let sending = join_all(senders.collect::<Vec<_>>());
    drop(sender);
    let receiving = async move {
        let mut values = Vec::new();
        while let Some(value) = receiver.next().await {
            values.push(ctx.call(square, value).await.unwrap_or(value));
        }
        values
    };
    join(receiving, sending).await.0
}

async fn locked(ctx: &OrchestrationContext) -> Result<u64> {
    let (one, other) = (ctx.entity::<Counter>("one"), ctx.entity::<Counter>("other"));
    let guard = ctx.lock([other.id(), one.id()]).await;
    let (left, right) = join(one.add(1), other.add(2)).await;
    drop(guard);
    one.add(5).signal();
    Ok(left.unwrap_or(0) + right.unwrap_or(0))
}

async fn timed(ctx: &OrchestrationContext) -> u64 {
    let slow = async {
        let first = ctx.call(square, 3).await.unwrap_or(0);
        first + ctx.call(square, 4).await.unwrap_or(0)
    };
    match ctx.timeout(SECOND, slow).await {
        Ok(sum) => sum,
        Err(_elapsed) => ctx.wait_for_event(TICK).await.unwrap_or(0),
    }
}

/// A small generator of numbers that look random.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Eviction {
    Never,
    EveryTurn,
    AtRandom,
}

/// Runs it to its end; which answers come when depends on the seed alone.
fn history(seed: u64, eviction: Eviction) -> Vec<EventKind> {
    let mut play = Play::new(everything);
    let (mut chance, mut evictions) = (Chance(seed), Chance(seed ^ 0x5eed));
    let mut open = BTreeMap::new();
    let cancelled_in = cancelled_turn(seed);
    let mut actions = play.start(());
    for turn in 0..TURNS_MAX {
        note(&actions, &mut open, &mut chance);
        if open.is_empty() && actions.iter().any(is_end) {
            return play.history.into_iter().map(|event| event.kind).collect();
        }
        let evict = match eviction {
            Eviction::Never => false,
            Eviction::EveryTurn => true,
            Eviction::AtRandom => evictions.below(3) == 0,
        };
        if evict {
            play.evict();
        }
        let mut events = deliveries(turn as u64, &mut open, &mut chance);
        if cancelled_in == Some(turn) {
            let place = chance.below(events.len() + 1);
            let reason = Some("enough".to_owned());
            events.insert(place, EventKind::CancelRequested { reason });
        }
        actions = play.turn(events);
        if actions.iter().any(is_end) {
            open.clear();
        }
    }
    panic!("SEED={seed}: no end after {TURNS_MAX} turns");
}

/// Two of three are cancelled, in some turn.
fn cancelled_turn(seed: u64) -> Option<usize> {
    let mut chance = Chance(seed ^ 0xcace1);
    (chance.below(3) > 0).then(|| chance.below(90))
}

fn is_end(action: &Action) -> bool {
    matches!(
        action,
        Action::Complete { .. } | Action::Fail { .. } | Action::EndCancelled { .. }
    )
}

/// Some open answers, in any order, and now and then an event.
fn deliveries(turn: u64, open: &mut BTreeMap<TaskId, EventKind>, chance: &mut Chance) -> Vec<EventKind> {
    let mut events = Vec::new();
    for _ in 0..=chance.below(4) {
        if chance.below(10) == 0 || open.is_empty() {
            events.push(raised(["tick", "Tick", "TICK"][chance.below(3)], turn));
        }
        if let Some(task) = open.keys().nth(chance.below(open.len().max(1))).copied() {
            events.extend(open.remove(&task));
        }
    }
    events
}

/// What will answer the actions.
fn note(actions: &[Action], open: &mut BTreeMap<TaskId, EventKind>, chance: &mut Chance) {
    for action in actions {
        match action {
            Action::ScheduleTask { task, .. } => {
                let event = match chance.below(8) {
                    0 => failed(task.0, Failure::new("Odd", "by chance")),
                    value => done(task.0, value),
                };
                open.insert(*task, event);
            }
            Action::CreateTimer { task, .. } => {
                open.insert(*task, fired(task.0));
            }
            Action::CancelTimer { task } => {
                open.remove(task);
            }
            Action::StartOrchestration {
                task,
                link: ChildLink::Awaited,
                ..
            } => {
                let result = Some(json(task.0));
                open.insert(
                    *task,
                    EventKind::SubOrchestrationInstanceCompleted { task: *task, result },
                );
            }
            Action::CallEntity { task, .. } => {
                open.insert(*task, answered(task.0, task.0));
            }
            Action::LockEntities { task, .. } => {
                open.insert(*task, granted(task.0));
            }
            _ => {}
        }
    }
}

#[test]
fn histories_are_equal_kept_evicted_and_at_random() {
    let mut lengths = Vec::new();
    let mut cancelled = [0; 2];
    for seed in 0..SEEDS {
        let kept = history(seed, Eviction::Never);
        assert_eq!(
            kept,
            history(seed, Eviction::AtRandom),
            "SEED={seed}, evicted at random"
        );
        assert_eq!(
            kept,
            history(seed, Eviction::EveryTurn),
            "SEED={seed}, evicted after every turn"
        );
        let is_requested = kept
            .iter()
            .any(|kind| matches!(kind, EventKind::CancelRequested { .. }));
        match &kept[kept.len() - 2] {
            EventKind::ExecutionCompleted { .. } => cancelled[0] += u64::from(is_requested),
            EventKind::ExecutionCanceled { .. } => cancelled[1] += 1,
            other => panic!("SEED={seed}: {other:?}"),
        }
        assert!(is_requested || matches!(kept[kept.len() - 2], EventKind::ExecutionCompleted { .. }));
        lengths.push(kept.len());
    }
    assert!(
        cancelled[0] > 50 && cancelled[1] > 1,
        "both ends are reached: {cancelled:?}"
    );
    lengths.dedup();
    assert!(lengths.len() > 100, "the seeds make different histories");
}
