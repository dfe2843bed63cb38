//! What a hub costs: a sync per step and one more, and nothing while it waits.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use dalsegno::{App, DAY, ExternalEvent, OrchestrationContext, Result, activity, orchestrator};

const NEVER: ExternalEvent<()> = ExternalEvent::new("Never");

#[activity]
async fn next(number: u32) -> u32 {
    number + 1
}

#[orchestrator]
async fn five_steps(ctx: &OrchestrationContext) -> Result<u32> {
    let mut number = 0;
    for _ in 0..5 {
        number = ctx.call(next, number).await?;
    }
    Ok(number)
}

#[orchestrator]
async fn wait_a_week(ctx: &OrchestrationContext) -> Result<bool> {
    Ok(ctx.timeout(7 * DAY, ctx.wait_for_event(NEVER)).await.is_ok())
}

fn app() -> App {
    App::new()
        .register(next)
        .register(five_steps)
        .register(wait_a_week)
}

/// Every file of a folder with its length and time.
fn files(folder: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let about = entry.metadata().unwrap();
        (
            entry.file_name().to_string_lossy().into_owned(),
            (about.len(), about.modified().unwrap()),
        )
    });
    entries.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_of_five_costs_six_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let host = app().embedded(folder.path()).await.unwrap();
    let before = host.hub().synced_batches();
    let instance = host.client().start(five_steps, ()).await.unwrap();
    assert_eq!(instance.wait().await.unwrap(), 5);
    assert_eq!(host.hub().synced_batches() - before, 6);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_hub_writes_nothing_and_wakes_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let host = app().embedded(folder.path()).await.unwrap();
    for _ in 0..200 {
        let instance = host.client().start(wait_a_week, ()).await.unwrap();
        instance.wait_for_start(Duration::from_secs(30)).await.unwrap();
    }
    // The checkpoint of what was just written comes within half a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let before = (
        host.hub().rounds(),
        host.hub().synced_batches(),
        files(folder.path()),
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = (
        host.hub().rounds(),
        host.hub().synced_batches(),
        files(folder.path()),
    );
    assert_eq!(before, after);
    host.shutdown().await;
}
