//! Limits of a hub, as orchestrations meet them.

use std::time::Duration;

use dalsegno::{
    App, Client, EntityContext, FaultKind, Host, HostSettings, InstanceQuery, OrchestrationContext, Result,
    Timestamp, entity, orchestrator,
};
use serde::{Deserialize, Serialize};

use super::until;

fn of_days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

/// Starts itself as its own child, for ever.
#[orchestrator]
async fn nesting(ctx: &OrchestrationContext, level: u32) -> Result<u32> {
    Ok(ctx.call(nesting, level + 1).await?)
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    taken: bool,
}

#[entity]
impl Place {
    fn take(&mut self) {
        self.taken = true;
    }

    fn put_off(&mut self, ctx: &EntityContext, days: u64) {
        ctx.entity::<Place>("b").take().signal_after(of_days(days));
    }
}

#[orchestrator]
async fn locking(ctx: &OrchestrationContext, count: u32) -> Result<u32> {
    let places: Vec<_> = (0..count)
        .map(|number| ctx.entity::<Place>(number.to_string()).id())
        .collect();
    let _guard = ctx.lock(places).await;
    Ok(count)
}

#[orchestrator]
async fn sleeping(ctx: &OrchestrationContext, days: u64) -> Result<()> {
    ctx.timer(of_days(days)).await;
    Ok(())
}

#[orchestrator]
async fn putting_off(ctx: &OrchestrationContext, days: u64) -> Result<u64> {
    ctx.entity::<Place>("a").take().signal_after(of_days(days));
    Ok(days)
}

#[orchestrator]
async fn letting_put_off(ctx: &OrchestrationContext, days: u64) -> Result<u64> {
    ctx.entity::<Place>("a").put_off(days).await?;
    Ok(days)
}

#[orchestrator]
async fn measuring(_ctx: &OrchestrationContext, text: String) -> Result<usize> {
    Ok(text.len())
}

async fn host(folder: &tempfile::TempDir) -> Host {
    let mut settings = HostSettings::in_folder(folder.path());
    settings.limits.recursion_max = 5;
    settings.limits.locked_entities_max = 3;
    settings.limits.page_bytes_max = 10_000;
    let app = App::new()
        .register(nesting)
        .register(locking)
        .register(measuring)
        .register(sleeping)
        .register(putting_off)
        .register(letting_put_off)
        .entity::<Place>();
    app.start(settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn children_nest_as_deep_as_allowed_and_no_deeper() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(&folder).await;
    let root = host.client().start(nesting, 0).await.unwrap();
    let failure = root.wait_for(super::SOON).await.unwrap_err().to_string();
    assert!(failure.contains("recursion_max is 5"), "{failure}");
    let all = host.client().list(InstanceQuery::default()).await.unwrap();
    assert_eq!(all.rows.len(), 6, "the root and five below it");
    drop(root);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_takes_as_many_entities_as_the_hub_allows() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(&folder).await;
    let three = host.client().start(locking, 3).await.unwrap();
    assert_eq!(three.wait_for(super::SOON).await.unwrap(), 3);
    let four = host.client().start(locking, 4).await.unwrap();
    let fault = until(&four, |status| status.row.parked.is_some())
        .await
        .row
        .parked
        .unwrap();
    assert_eq!(fault.kind, FaultKind::Panicked);
    assert!(
        fault
            .message
            .contains("4 entities in one lock, locked_entities_max is 3"),
        "{fault}"
    );
    drop((three, four));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_when_its_values_are_many_bytes_and_the_next_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(&folder).await;
    let remote = Client::remote(&format!("http://{}", host.address().unwrap())).unwrap();
    for _ in 0..7 {
        let started = host.client().start(measuring, "x".repeat(4_000)).await.unwrap();
        assert_eq!(started.wait_for(super::SOON).await.unwrap(), 4_000);
    }
    for client in [host.client(), &remote] {
        let (mut query, mut pages) = (InstanceQuery::default(), Vec::new());
        loop {
            let page = client.list(query.clone()).await.unwrap();
            pages.push(page.rows.len());
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        assert_eq!(pages, [3, 3, 1]);
    }
    drop(remote);
    host.shutdown().await;
}

/// Workers could not ask for such a time, and local code could.
#[tokio::test(flavor = "multi_thread")]
async fn timers_signals_and_starts_are_due_within_a_hundred_years() {
    const LAST_DAY: u64 = 100 * 366;
    let folder = tempfile::tempdir().unwrap();
    let host = host(&folder).await;
    let client = host.client();
    for instance in [
        client.start(sleeping, LAST_DAY + 1).await.unwrap().id().clone(),
        client
            .start(putting_off, LAST_DAY + 1)
            .await
            .unwrap()
            .id()
            .clone(),
    ] {
        let instance = client.instance_named::<()>(instance.as_str()).unwrap();
        let status = until(&instance, |status| status.row.parked.is_some()).await;
        let fault = status.row.parked.unwrap();
        assert_eq!(fault.kind, FaultKind::Oversized);
        assert!(fault.message.contains("is due more than 100 years"), "{fault}");
    }
    let signalled = client.start(putting_off, LAST_DAY - 1).await.unwrap();
    assert_eq!(signalled.wait_for(super::SOON).await.unwrap(), LAST_DAY - 1);
    let refused = client.start(letting_put_off, LAST_DAY + 1).await.unwrap();
    let failure = refused.wait_for(super::SOON).await.unwrap_err().to_string();
    assert!(failure.contains("more than 100 years"), "{failure}");
    let waits = client.start(sleeping, LAST_DAY - 1).await.unwrap();
    until(&waits, |status| {
        status.row.events > 2 && status.row.parked.is_none()
    })
    .await;

    let remote = Client::remote(&format!("http://{}", host.address().unwrap())).unwrap();
    for client in [client, &remote] {
        let late = client.start(measuring, "x".to_owned()).at(Timestamp::MAX).await;
        let error = late.map(drop).unwrap_err().to_string();
        assert!(
            error.contains("the start is scheduled more than 100 years"),
            "{error}"
        );
        let late = client
            .entity::<Place>("a")
            .unwrap()
            .take()
            .signal_at(Timestamp::MAX)
            .await;
        let error = late.unwrap_err().to_string();
        assert!(
            error.contains("the signal is scheduled more than 100 years"),
            "{error}"
        );
        let soon = client
            .start(measuring, "x".to_owned())
            .at(super::later())
            .await
            .unwrap();
        soon.terminate("").await.unwrap();
    }
    drop((signalled, refused, waits, remote));
    host.shutdown().await;
}
