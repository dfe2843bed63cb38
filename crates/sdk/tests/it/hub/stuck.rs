//! User code that does not come back: its neighbours go on without it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dalsegno::{
    App, FaultKind, Host, HostSettings, OrchestrationContext, Result, Status, entity, orchestrator,
};
use serde::{Deserialize, Serialize};

use super::{eventually, until};

/// Blocks the thread until it is let go.
#[derive(Debug)]
struct Gate(AtomicBool);

impl Gate {
    const fn shut() -> Self {
        Self(AtomicBool::new(false))
    }

    fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn pass(&self) {
        while !self.0.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

static TURN: Gate = Gate::shut();
static OPERATION: Gate = Gate::shut();

#[orchestrator]
async fn blocking(_ctx: &OrchestrationContext) -> Result<u32> {
    TURN.pass();
    Ok(7)
}

#[orchestrator]
async fn quick(_ctx: &OrchestrationContext) -> Result<u32> {
    Ok(1)
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tally {
    count: u32,
}

#[entity]
impl Tally {
    fn add(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    fn block(&mut self) -> u32 {
        OPERATION.pass();
        self.count += 100;
        self.count
    }
}

#[orchestrator]
async fn asking(ctx: &OrchestrationContext) -> Result<u32> {
    Ok(ctx.entity::<Tally>("t").block().await?)
}

/// All partitions on one thread, which must not be held up for more than 30 ms.
async fn one_thread(folder: &tempfile::TempDir) -> Host {
    let mut settings = HostSettings::in_folder(folder.path());
    settings.threads = 1;
    settings.limits.turn_ms_max = 30;
    let app = App::new().register(blocking).register(quick).register(asking);
    app.entity::<Tally>().start(settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_blocks_is_parked_and_can_go_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let host = one_thread(&folder).await;
    let client = host.client();
    let stuck = client.start(blocking, ()).id("stuck").await.unwrap();
    let others: Vec<_> =
        futures::future::join_all((0..20).map(async |_| client.start(quick, ()).await)).await;
    for other in others {
        assert_eq!(other.unwrap().wait_for(super::SOON).await.unwrap(), 1);
    }
    let status = until(&stuck, |status| status.row.parked.is_some()).await;
    assert_eq!(
        status.row.status,
        Status::Pending,
        "its first turn is not committed"
    );
    let fault = status.row.parked.unwrap();
    assert_eq!(fault.kind, FaultKind::BusyLoop);
    assert!(
        fault
            .message
            .contains("instance stuck took longer than turn_ms_max, 30 ms"),
        "{fault}"
    );
    assert_eq!(host.hub().health().stuck_threads, 1);
    assert_eq!(host.hub().health().problems, Vec::<String>::new());

    TURN.open();
    eventually(async || host.hub().health().stuck_threads == 0).await;
    assert!(
        stuck.status().await.unwrap().row.parked.is_some(),
        "a late answer counts for nothing"
    );
    stuck.rewind("the gate is open").await.unwrap();
    assert_eq!(stuck.wait_for(super::SOON).await.unwrap(), 7);
    drop(stuck);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_blocks_fails_and_its_entity_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let host = one_thread(&folder).await;
    let client = host.client();
    let tally = client.entity::<Tally>("t").unwrap();
    tally.add().signal().await.unwrap();
    let asked = client.start(asking, ()).await.unwrap();
    let failure = asked.wait_for(super::SOON).await.unwrap_err().to_string();
    assert!(
        failure.contains("operation of entity @tally@t took longer"),
        "{failure}"
    );
    tally.add().signal().await.unwrap();
    eventually(async || tally.state().await.unwrap() == Some(Tally { count: 2 })).await;

    OPERATION.open();
    eventually(async || host.hub().health().stuck_threads == 0).await;
    assert_eq!(tally.state().await.unwrap(), Some(Tally { count: 2 }));
    drop((asked, tally));
    host.shutdown().await;
}
