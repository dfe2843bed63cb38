//! The whole app: engine, embedded store and host, in a folder of its own.

use std::sync::Arc;

use dalsegno::{
    ActivityContext, App, Host, HostSettings, InstanceQuery, OrchestrationContext, Result, activity,
    orchestrator,
};
use tokio::sync::Notify;

#[activity]
async fn event_link(ctx: ActivityContext) -> Result<String> {
    let client = ctx.client();
    let instance = client.instance_named::<()>(ctx.instance_id())?;
    Ok(client.management_payload(&instance).send_event_post_uri)
}

#[orchestrator]
async fn link(ctx: &OrchestrationContext) -> Result<String> {
    ctx.set_custom_status("asking");
    Ok(ctx.call(event_link, ()).await?)
}

/// Says that it runs and never ends, as long as nobody lets it.
#[derive(Clone, Default)]
struct Gate {
    entered: Arc<Notify>,
    open: Arc<Notify>,
}

#[activity]
async fn behind_the_gate(ctx: ActivityContext) -> Result<bool> {
    ctx.data::<Gate>().entered.notify_one();
    ctx.data::<Gate>().open.notified().await;
    let client = ctx.client();
    Ok(client
        .instance_named::<bool>(ctx.instance_id())?
        .status()
        .await?
        .row
        .status
        .is_final())
}

#[orchestrator]
async fn wait_at_the_gate(ctx: &OrchestrationContext) -> Result<bool> {
    Ok(ctx.call(behind_the_gate, ()).await?)
}

fn app(gate: &Gate) -> App {
    let app = App::new().register(event_link).register(link);
    app.register(behind_the_gate)
        .register(wait_at_the_gate)
        .data(gate.clone())
}

async fn host(folder: &tempfile::TempDir, gate: &Gate) -> Host {
    app(gate)
        .start(HostSettings::in_folder(folder))
        .await
        .expect("a host")
}

#[tokio::test]
async fn a_host_that_was_shut_down_frees_its_folder_though_handles_live() {
    // An instance handle holds the hub, and the hub held the lock of the folder.
    let folder = tempfile::tempdir().expect("a folder");
    let first = host(&folder, &Gate::default()).await;
    let kept = first.client().start(link, ()).id("kept").await.expect("started");
    let answer = kept.wait().await.expect("a result");
    first.shutdown().await;

    let second = host(&folder, &Gate::default()).await;
    let same = second.client().instance(link, "kept").expect("an id");
    assert_eq!(same.wait().await.expect("the same result"), answer);
    assert!(
        kept.history().await.is_err(),
        "the old handle answers nothing, rather than something old"
    );
    second.shutdown().await;
}

#[tokio::test]
async fn the_client_of_an_activity_knows_where_the_host_listens() {
    // Links made in an activity began with the address of the default configuration.
    let folder = tempfile::tempdir().expect("a folder");
    let host = host(&folder, &Gate::default()).await;
    let instance = host.client().start(link, ()).await.expect("started");
    let answer = instance.wait().await.expect("a link");
    assert_eq!(
        answer,
        host.client().management_payload(&instance).send_event_post_uri
    );
    let origin = format!("http://{}/", host.address().expect("it listens"));
    assert!(answer.starts_with(&origin), "{answer}");
    let shown: Option<String> = instance.custom_status().await.expect("a status");
    assert_eq!(shown.as_deref(), Some("asking"));
    host.shutdown().await;
}

#[tokio::test]
async fn a_list_without_a_limit_is_a_page_and_not_empty() {
    // The default query asked for pages of no rows.
    let folder = tempfile::tempdir().expect("a folder");
    let host = host(&folder, &Gate::default()).await;
    let instance = host.client().start(link, ()).await.expect("started");
    let page = host
        .client()
        .list(InstanceQuery::default())
        .await
        .expect("a page");
    assert_eq!(
        page.rows.iter().map(|row| &row.id).collect::<Vec<_>>(),
        [instance.id()]
    );
    host.shutdown().await;
}

#[tokio::test]
async fn an_activity_that_recovery_starts_has_its_client() {
    // Recovery runs activities while the hub is being opened, before the app has a client of it.
    let folder = tempfile::tempdir().expect("a folder");
    let gate = Gate::default();
    let first = host(&folder, &gate).await;
    first
        .client()
        .start(wait_at_the_gate, ())
        .id("gate")
        .await
        .expect("started");
    gate.entered.notified().await;
    first.shutdown().await;

    let gate = Gate::default();
    gate.open.notify_one();
    let second = host(&folder, &gate).await;
    let instance = second.client().instance(wait_at_the_gate, "gate").expect("an id");
    assert!(!instance.wait().await.expect("a result"));
    second.shutdown().await;
}
