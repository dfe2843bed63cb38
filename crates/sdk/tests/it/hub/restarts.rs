//! The same folder opened again: by other code, and after an end without goodbye.

use dalsegno::{
    App, Client, FaultKind, HostSettings, InstanceQuery, OrchestrationContext, Orchestrator, Result, Status,
    activity, orchestrator,
};

use dalsegno_engine::request::RequestErrorKind;

use super::functions::{GO, Probe, Wallet, app_with, collector, fragile, versioned_1, waiter, watching};
use super::{eventually, until};

#[activity]
async fn one() -> u32 {
    1
}

#[activity]
async fn two() -> u32 {
    2
}

#[orchestrator]
async fn changing(ctx: &OrchestrationContext) -> Result<u32> {
    let number = ctx.call(one, ()).await?;
    ctx.wait_for_event(GO).await?;
    Ok(number)
}

fn changed() -> Orchestrator<(), u32> {
    Orchestrator::new("changing", |ctx, ()| {
        Box::pin(async move { Ok(ctx.call(two, ()).await?) })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_is_missing_parks_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let probe = Probe::default();
    let host = app_with(&probe).embedded(folder.path()).await.unwrap();
    let instance = host.client().start(versioned_1, ()).id("v").await.unwrap();
    until(&instance, |status| status.row.status == Status::Running).await;
    drop(instance);
    host.shutdown().await;

    let host = App::new().register(waiter).embedded(folder.path()).await.unwrap();
    let instance = host.client().instance(versioned_1, "v").unwrap();
    instance.raise_event(GO, "back".into()).await.unwrap();
    let status = until(&instance, |status| status.row.parked.is_some()).await;
    assert_eq!(status.row.parked.unwrap().kind, FaultKind::Missing);
    drop(instance);
    host.shutdown().await;

    let host = app_with(&probe).embedded(folder.path()).await.unwrap();
    let instance = host.client().instance(versioned_1, "v").unwrap();
    assert_eq!(instance.wait_for(super::SOON).await.unwrap(), "one back");
    host.shutdown().await;
}

/// What lists look for stands in the row, so that no code has to run to answer.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_and_what_failed_is_found_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let probe = Probe::default();
    let waiting = InstanceQuery {
        waiting_for: Some("Go".into()),
        ..InstanceQuery::default()
    };
    let failed = InstanceQuery {
        failed_activity: Some("flaky".into()),
        ..InstanceQuery::default()
    };
    let ids = async |client: &Client, query: &InstanceQuery| {
        let rows = client.list(query.clone()).await.unwrap().rows;
        rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>()
    };
    let host = app_with(&probe).embedded(folder.path()).await.unwrap();
    let client = host.client();
    client.start(waiter, ()).id("w").await.unwrap();
    client
        .start(fragile, 2)
        .id("f")
        .await
        .unwrap()
        .wait()
        .await
        .unwrap_err();
    eventually(async || ids(client, &waiting).await == ["w"]).await;
    assert_eq!(ids(client, &failed).await, ["f"]);
    host.shutdown().await;

    let host = app_with(&probe).embedded(folder.path()).await.unwrap();
    let client = host.client();
    assert_eq!(ids(client, &waiting).await, ["w"]);
    assert_eq!(ids(client, &failed).await, ["f"]);
    let instance = client.instance(waiter, "w").unwrap();
    instance.raise_event(GO, "x".into()).await.unwrap();
    instance.wait().await.unwrap();
    assert!(ids(client, &waiting).await.is_empty());
    // Once rewound it is well.
    let instance = client.instance(fragile, "f").unwrap();
    instance.rewind("again").await.unwrap();
    instance.wait().await.unwrap();
    assert!(ids(client, &failed).await.is_empty());
    drop(instance);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_code_parks_with_its_line_and_the_old_code_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let old = || App::new().register(changing).register(one).register(two);
    let host = old().embedded(folder.path()).await.unwrap();
    let instance = host.client().start(changing, ()).id("c").await.unwrap();
    until(&instance, |status| status.row.events >= 7).await;
    drop(instance);
    host.shutdown().await;

    let new = App::new().register(changed).register(one).register(two);
    let host = new.embedded(folder.path()).await.unwrap();
    let instance = host.client().instance(changing, "c").unwrap();
    instance.raise_event(GO, "x".into()).await.unwrap();
    let status = until(&instance, |status| status.row.parked.is_some()).await;
    let fault = status.row.parked.unwrap();
    assert_eq!(fault.kind, FaultKind::Diverged);
    assert!(fault.message.contains("restarts.rs:"), "{}", fault.message);
    assert!(
        fault.message.contains("one") && fault.message.contains("two"),
        "{}",
        fault.message
    );
    drop(instance);
    host.shutdown().await;

    let host = old().embedded(folder.path()).await.unwrap();
    let instance = host.client().instance(changing, "c").unwrap();
    assert_eq!(instance.wait_for(super::SOON).await.unwrap(), 1);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_on_after_the_hub_was_dropped_in_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    let probe = Probe::default();
    let host = app_with(&probe).embedded(folder.path()).await.unwrap();
    let client = host.client();
    let waiting = client.start(waiter, ()).id("waiting").await.unwrap();
    let running = client.start(watching, ()).id("running").await.unwrap();
    let failed = client.start(fragile, 2).id("failed").await.unwrap();
    assert!(failed.wait().await.is_err());
    client
        .entity::<Wallet>("ada")
        .unwrap()
        .put(5)
        .signal()
        .await
        .unwrap();
    waiting.raise_event(GO, "kept".into()).await.unwrap();
    super::eventually(async || !probe.notes(running.id()).is_empty()).await;
    drop((waiting, running, failed));
    host.shutdown().await;

    let host = app_with(&probe).embedded(folder.path()).await.unwrap();
    let client = host.client();
    let waiting = client.instance(waiter, "waiting").unwrap();
    assert_eq!(waiting.wait_for(super::SOON).await.unwrap(), "kept");
    let began = |notes: &[String]| notes.iter().filter(|note| *note == "began").count();
    super::eventually(async || began(&probe.notes("running")) == 2).await;
    let failed = client.instance(fragile, "failed").unwrap();
    failed.rewind("").await.unwrap();
    assert_eq!(failed.wait_for(super::SOON).await.unwrap(), 42 + 3);
    let ada = client.entity::<Wallet>("ada").unwrap();
    super::eventually(async || ada.state().await.unwrap() == Some(Wallet { cents: 5 })).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_events_outlive_the_process_and_the_oldest_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let settings = || {
        let mut settings = HostSettings::in_folder(folder.path());
        settings.listen = None;
        settings.limits.event_keys_max = 2;
        settings
    };
    let probe = Probe::default();
    let host = app_with(&probe).start(settings()).await.unwrap();
    let instance = host.client().start(collector, Vec::new()).id("k").await.unwrap();
    for word in ["a", "b"] {
        let raise = instance.raise_event(GO, word.to_owned()).idempotency_key(word);
        raise.await.unwrap();
    }
    drop(instance);
    host.shutdown().await;

    let host = app_with(&probe).start(settings()).await.unwrap();
    let instance = host.client().instance(collector, "k").unwrap();
    let raise = |word: &str, key: &str| instance.raise_event(GO, word.to_owned()).idempotency_key(key);
    raise("a", "a").await.unwrap();
    let other = raise("x", "b").await.unwrap_err();
    assert_eq!(other.request_kind(), Some(RequestErrorKind::EventIdReused));
    raise("c", "c").await.unwrap();
    // Two are remembered: the third pushed out the first, which is taken for a new one.
    raise("a", "a").await.unwrap();
    assert_eq!(instance.wait().await.unwrap(), ["a", "b", "c", "a"]);
    drop(instance);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_dropped_frees_its_folder_and_address() {
    let folder = tempfile::tempdir().unwrap();
    let probe = Probe::default();
    let host = app_with(&probe)
        .start(HostSettings::in_folder(folder.path()))
        .await
        .unwrap();
    let address = host.address().unwrap();
    // Somebody keeps a client, a request waits, an activity runs: all that must not hold it back.
    let client = host.client().clone();
    let instance = client.start(waiter, ()).id("w").await.unwrap();
    let busy = client.start(watching, ()).id("b").await.unwrap();
    until(&busy, |_| probe.notes("b") == ["began"]).await;
    let remote = dalsegno::Client::remote(&format!("http://{address}")).unwrap();
    let remote = remote.instance(waiter, "w").unwrap();
    let waits = tokio::spawn(async move { remote.wait_for(super::SOON).await });
    drop(host);
    waits.await.unwrap().unwrap_err();
    let late = instance.status().await.unwrap_err();
    assert_eq!(late.request_kind(), Some(RequestErrorKind::Unavailable));

    let settings = HostSettings {
        listen: Some(address),
        ..HostSettings::in_folder(folder.path())
    };
    let host = app_with(&probe).start(settings).await.unwrap();
    let instance = host.client().instance(waiter, "w").unwrap();
    instance.raise_event(GO, "again".into()).await.unwrap();
    assert_eq!(instance.wait().await.unwrap(), "again");
    let busy = host.client().instance(watching, "b").unwrap();
    until(&busy, |_| probe.notes("b").len() >= 3).await;
    drop((instance, busy));
    host.shutdown().await;
}
