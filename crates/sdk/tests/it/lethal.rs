//! Code that kills its process: found out over the restarts, and then not run any more.
//!
//! The process that dies is this test program, run once more for [`the_process`] alone.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use dalsegno::{
    App, Client, FaultKind, Host, HostSettings, InstanceQuery, OrchestrationContext, Result, Status,
    activity, entity, orchestrator,
};
use serde::{Deserialize, Serialize};

const FOLDER: &str = "DALSEGNO_TEST_FOLDER";
const START: &str = "DALSEGNO_TEST_START";
const KILLS_MAX: u32 = 4;
/// The first death tells nothing: marks are set only after one.
const DEATHS: u32 = KILLS_MAX + 1;
const SOON: Duration = Duration::from_secs(20);

#[activity]
async fn lethal() -> u32 {
    std::process::abort()
}

/// Runs beside the lethal one each time, and never comes to its end before that.
#[activity]
async fn innocent(lives: bool) -> u32 {
    if !lives {
        return 1;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    1
}

#[orchestrator]
async fn calls_lethal(ctx: &OrchestrationContext) -> Result<u32> {
    Ok(ctx.call(lethal, ()).await?)
}

#[orchestrator]
async fn calls_innocent(ctx: &OrchestrationContext) -> Result<u32> {
    Ok(ctx.call(innocent, true).await?)
}

#[orchestrator]
async fn lethal_turn(ctx: &OrchestrationContext) -> Result<u32> {
    ctx.call(innocent, false).await?;
    die();
    Ok(1)
}

#[orchestrator]
async fn lethal_child(ctx: &OrchestrationContext) -> Result<u32> {
    die();
    Ok(ctx.call(innocent, false).await?)
}

#[orchestrator]
async fn parent(ctx: &OrchestrationContext) -> Result<u32> {
    Ok(ctx.call(lethal_child, ()).await?)
}

fn die() {
    if std::env::var_os(FOLDER).is_some() {
        std::process::abort();
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Fragile {
    count: u32,
}

#[entity]
impl Fragile {
    fn add(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    fn kill(&mut self) -> u32 {
        die();
        self.count
    }
}

#[orchestrator]
async fn calls_entity(ctx: &OrchestrationContext) -> Result<u32> {
    let fragile = ctx.entity::<Fragile>("f");
    fragile.add().await?;
    Ok(fragile.kill().await?)
}

#[orchestrator]
async fn spins(_ctx: &OrchestrationContext) -> Result<u32> {
    spin();
    Ok(5)
}

fn spin() {
    while std::env::var_os(FOLDER).is_some() {
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

async fn host(folder: &Path) -> Host {
    let mut settings = HostSettings::in_folder(folder);
    settings.limits.kills_max = KILLS_MAX;
    settings.limits.stuck_threads_max = 1;
    settings.limits.turn_ms_max = if std::env::var_os(FOLDER).is_some() {
        30
    } else {
        10_000
    };
    settings.threads = 1;
    let app = App::new()
        .register(lethal)
        .register(innocent)
        .register(calls_lethal)
        .register(calls_innocent)
        .register(lethal_turn)
        .register(lethal_child)
        .register(parent)
        .register(calls_entity)
        .register(spins)
        .entity::<Fragile>();
    app.start(settings).await.unwrap()
}

/// The process that dies: starts what it is told to, each with its own name as id, and waits.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is run by the tests beside it, and dies"]
async fn the_process() {
    let folder = std::env::var(FOLDER).unwrap();
    let host = host(Path::new(&folder)).await;
    for name in std::env::var(START).unwrap().split_terminator(' ') {
        host.client()
            .start_named::<u32>(name, ())
            .id(name)
            .or_existing()
            .await
            .unwrap();
    }
    while !is_still(host.client()).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    host.shutdown().await;
}

/// All that was started has ended or is parked, or waits for one that is.
async fn is_still(client: &Client) -> bool {
    let page = client.list(InstanceQuery::default()).await.unwrap();
    let mut rows = page.rows.iter().filter(|row| &*row.name != "parent");
    rows.all(|row| row.status.is_final() || row.parked.is_some())
}

fn live_once(folder: &Path, start: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["lethal::the_process", "--exact", "--ignored"])
        .env(FOLDER, folder)
        .env(START, start)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

/// Restarts the process until it lives; how often it died.
fn live_until_well(folder: &Path, start: &str) -> u32 {
    let mut deaths = 0;
    while !live_once(folder, start).success() {
        deaths += 1;
        assert!(deaths < 20, "it dies for ever");
    }
    deaths
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_kills_its_process_fails_at_last_and_its_neighbour_completes() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        live_until_well(folder.path(), "calls_innocent calls_lethal"),
        DEATHS
    );
    let host = host(folder.path()).await;
    let client = host.client();
    let failed = client.instance_named::<u32>("calls_lethal").unwrap();
    let failure = failed.wait_for(SOON).await.unwrap_err().to_string();
    assert!(
        failure.contains("died 4 times while activity \"lethal\" ran, kills_max is 4"),
        "{failure}"
    );
    let innocent = client.instance_named::<u32>("calls_innocent").unwrap();
    assert_eq!(innocent.wait_for(SOON).await.unwrap(), 1);
    drop((failed, innocent));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orchestrator_that_kills_its_process_is_parked_until_it_is_rewound() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(live_until_well(folder.path(), "lethal_turn"), DEATHS);
    assert!(
        live_once(folder.path(), "").success(),
        "a restart alone does not try it again"
    );
    let host = host(folder.path()).await;
    let instance = host.client().instance_named::<u32>("lethal_turn").unwrap();
    let row = instance.status().await.unwrap().row;
    assert_eq!(row.status, Status::Running);
    let fault = row.parked.unwrap();
    assert_eq!(fault.kind, FaultKind::Poisoned, "{fault}");
    instance.rewind("mended").await.unwrap();
    assert_eq!(instance.wait_for(SOON).await.unwrap(), 1);
    drop(instance);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_kills_its_process_in_its_first_turn_is_parked() {
    let folder = tempfile::tempdir().unwrap();
    let deaths = live_until_well(folder.path(), "parent");
    // The first start may die with its process before it was on disk; the next child has another id.
    assert!((DEATHS..=DEATHS + 1).contains(&deaths), "{deaths} deaths");
    let host = host(folder.path()).await;
    let client = host.client();
    let counts = client.counts().await.unwrap();
    assert_eq!(
        counts.iter().map(|(_, count)| count).sum::<u64>(),
        2,
        "{counts:?}"
    );
    let page = client.list(InstanceQuery::default()).await.unwrap();
    let parked = page.rows.iter().find(|row| row.parked.is_some()).unwrap();
    assert_eq!(parked.parked.as_ref().unwrap().kind, FaultKind::Poisoned);
    let child = client.instance_named::<u32>(&parked.id).unwrap();
    child.rewind("mended").await.unwrap();
    let parent = client.instance_named::<u32>("parent").unwrap();
    assert_eq!(parent.wait_for(SOON).await.unwrap(), 1);
    drop((child, parent));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_kills_its_process_fails_at_last() {
    let folder = tempfile::tempdir().unwrap();
    let deaths = live_until_well(folder.path(), "calls_entity");
    // The operation before it may come back, durably, in between: then the count begins anew.
    assert!((DEATHS..=DEATHS + 2).contains(&deaths), "{deaths} deaths");
    let host = host(folder.path()).await;
    let client = host.client();
    let failed = client.instance_named::<u32>("calls_entity").unwrap();
    let failure = failed.wait_for(SOON).await.unwrap_err().to_string();
    assert!(
        failure.contains("died 4 times while this operation of entity @fragile@f ran"),
        "{failure}"
    );
    let fragile = client.entity::<Fragile>("f").unwrap();
    assert_eq!(fragile.state().await.unwrap(), Some(Fragile { count: 1 }));
    drop((failed, fragile));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_too_many_stuck_threads_the_process_ends_and_the_next_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    assert!(live_once(folder.path(), "spins").success(), "one is allowed");
    let host = host(folder.path()).await;
    let stuck = host.client().instance_named::<u32>("spins").unwrap();
    assert_eq!(stuck.wait_for(SOON).await.unwrap(), 5, "a start tries it again");
    for id in ["a", "b", "c"] {
        host.client()
            .start_named::<u32>("spins", ())
            .id(id)
            .at(host.hub().now() + Duration::from_millis(1500))
            .await
            .unwrap();
    }
    drop(stuck);
    host.shutdown().await;
    assert_eq!(live_once(folder.path(), "").code(), Some(70));
}
