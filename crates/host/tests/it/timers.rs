//! A timer trigger against a hub: occurrences are recorded, and one cut off runs again.

use std::sync::{Arc, Mutex};

use dalsegno_host::schedule::{Progress, Record, Schedule, TimerInfo, TimerTrigger};
use tokio::sync::mpsc;

use crate::world::{World, world};

const NEVER_SOON: &str = "0 0 0 29 2 *";

fn trigger(run_on_startup: bool) -> (TimerTrigger, mpsc::UnboundedReceiver<TimerInfo>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let function = Arc::new(move |info| {
        let sender = sender.clone();
        Box::pin(async move { Ok(sender.send(info)?) }) as futures::future::BoxFuture<'static, _>
    });
    let schedule = Schedule::parse(NEVER_SOON, Some("Europe/Berlin")).unwrap();
    (
        TimerTrigger {
            name: "Morning".into(),
            schedule,
            run_on_startup,
            function,
        },
        receiver,
    )
}

async fn record(world: &World) -> Option<Record> {
    let data = world.hub.meta("schedule/Morning").await.unwrap();
    data.map(|data| serde_json::from_slice(&data).unwrap())
}

#[tokio::test]
async fn it_runs_on_startup_when_asked_and_records_that() {
    let world = world().await;
    let (trigger, mut ran) = trigger(true);
    let task = tokio::spawn(trigger.run(world.hub.clone()));
    let info = ran.recv().await.unwrap();
    assert!(!info.past_due);
    while record(&world).await != Some(Record::new(info.scheduled, Progress::Done)) {
        tokio::task::yield_now().await;
    }
    task.abort();
}

#[tokio::test]
async fn the_first_start_sets_a_mark_and_runs_nothing() {
    let world = world().await;
    let (trigger, mut ran) = trigger(false);
    let task = tokio::spawn(trigger.run(world.hub.clone()));
    while record(&world).await.is_none() {
        tokio::task::yield_now().await;
    }
    assert!(ran.try_recv().is_err());
    task.abort();
}

#[tokio::test]
async fn an_occurrence_cut_off_runs_again_with_the_same_time() {
    let world = world().await;
    let due = dalsegno_core::Timestamp::from_micros(1_709_161_200_000_000);
    let left = serde_json::to_vec(&Record::new(due, Progress::Running)).unwrap();
    world.hub.set_meta("schedule/Morning", Some(left)).await.unwrap();
    let (trigger, mut ran) = trigger(false);
    let task = tokio::spawn(trigger.run(world.hub.clone()));
    assert_eq!(
        ran.recv().await,
        Some(TimerInfo {
            scheduled: due,
            past_due: true
        })
    );
    task.abort();
}

#[tokio::test]
async fn a_function_that_fails_has_run() {
    let world = world().await;
    let count = Arc::new(Mutex::new(0));
    let (mut trigger, _ran) = trigger(true);
    let counted = count.clone();
    trigger.function = Arc::new(move |_| {
        *counted.lock().unwrap() += 1;
        Box::pin(async { Err("out of harps".into()) })
    });
    let task = tokio::spawn(trigger.run(world.hub.clone()));
    loop {
        let data = world
            .hub
            .meta("schedule/Morning")
            .await
            .unwrap()
            .unwrap_or_default();
        if String::from_utf8(data).unwrap().contains("done") {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(*count.lock().unwrap(), 1);
    task.abort();
}
