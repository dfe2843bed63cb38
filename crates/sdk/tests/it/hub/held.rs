//! What is told of work that is at a worker, or that no connected worker takes.

use std::sync::LazyLock;

use dalsegno::{App, ConnectedApp, Host, Instance, OrchestrationContext, Result, activity, orchestrator};
use tokio::sync::Semaphore;

use super::{SOON, eventually, hub_for_workers};

static GATE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(0));

#[activity]
async fn hold() {
    GATE.acquire().await.expect("it is never closed").forget();
}

#[activity]
async fn charge_card() {}

#[activity]
async fn charge_crad() {}

#[orchestrator]
async fn holding(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(hold, ()).await?)
}

#[orchestrator]
async fn mistyped(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(charge_crad, ()).await?)
}

/// Nobody registers it.
#[orchestrator]
async fn holdign(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(hold, ()).await?)
}

async fn connect(host: &Host) -> ConnectedApp {
    let app = App::new()
        .register(hold)
        .register(charge_card)
        .register(holding)
        .register(mistyped);
    let address = format!("http://{}", host.address().unwrap());
    let connected = app.connect(address).start().unwrap();
    tokio::time::timeout(SOON, connected.connected()).await.unwrap();
    connected
}

/// What is told of the first reason, as soon as it is of this kind.
async fn told(instance: &Instance<()>, kind: &str) -> String {
    eventually(async || {
        let explanation = instance.explain().await.unwrap();
        let first = explanation.reasons.first();
        first.is_some_and(|reason| reason.kind == kind)
    })
    .await;
    let explanation = instance.explain().await.unwrap();
    explanation.reasons[0].text.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_an_activity_is_told_and_since_when() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let _connected = connect(&host).await;
    let worker = host.workers().remove(0).name;
    let instance = host.client().start(holding, ()).await.unwrap();
    eventually(async || {
        let explanation = instance.explain().await.unwrap();
        explanation
            .reasons
            .iter()
            .any(|reason| reason.owner.is_some() && reason.kind == "activity")
    })
    .await;
    let explanation = instance.explain().await.unwrap();
    let [reason] = &explanation.reasons[..] else {
        panic!("{explanation:?}");
    };
    let beginning = format!("task 0: activity \"hold\" is at worker {worker}, for ");
    assert!(reason.text.starts_with(&beginning), "{}", reason.text);
    assert_eq!(reason.owner, Some(worker));
    assert!(
        reason.since.as_ref() >= Some(&explanation.since),
        "{explanation:?}"
    );
    GATE.add_permits(1);
    instance.wait().await.unwrap();
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_near_to_one_that_a_worker_offers_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let _connected = connect(&host).await;
    let activity = host.client().start(mistyped, ()).await.unwrap();
    assert_eq!(
        told(&activity, "noWorker").await,
        "task 0: activity \"charge_crad\": waits for a worker that offers it (did you mean charge_card?); \
         none of the 1 connected does, they offer charge_card, hold"
    );
    let orchestrator = host.client().start(holdign, ()).await.unwrap();
    assert_eq!(
        told(&orchestrator, "noWorker").await,
        "waits for a worker that offers orchestrator \"holdign\" (did you mean holding?): \
         none of the 1 connected does, they offer holding, mistyped"
    );
    let explanation = orchestrator.explain().await.unwrap();
    let step = explanation.next.iter().map(|step| step.text.as_str()).next();
    assert_eq!(
        step,
        Some(
            "start a host or a worker that offers \"holdign\"; did you mean holding? (here are holding, mistyped)"
        )
    );
    host.shutdown().await;
}
