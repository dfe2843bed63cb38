//! What is shown, when, and where.

use custom_status::{Permits, Progress, app, update};
use dalsegno::{Host, HostSettings, Instance};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

async fn host(permits: &Permits) -> (Host, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (
        app(permits.clone())
            .start(HostSettings::in_folder(&folder))
            .await
            .expect("a host"),
        folder,
    )
}

async fn status(host: &Host, instance: &Instance<usize>) -> Value {
    let url = host.client().check_status(instance).status_query_get_uri;
    reqwest::get(url)
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON")
}

/// Asks until the status is another one.
async fn next(host: &Host, instance: &Instance<usize>, before: &Value) -> Value {
    loop {
        let shown = status(host, instance).await["customStatus"].clone();
        if shown != *before {
            return shown;
        }
    }
}

#[tokio::test]
async fn every_step_is_shown_by_the_status_url() {
    let permits = Permits::new(Semaphore::new(0));
    let (host, _folder) = host(&permits).await;
    let steps = ["Reading files", "Updating DB"].map(String::from).to_vec();
    let instance = host.client().start(update, steps).await.expect("started");

    let first = next(&host, &instance, &Value::Null).await;
    assert_eq!(first, json!({ "percentage": 0, "message": "Reading files" }));
    permits.add_permits(1);
    let second = next(&host, &instance, &first).await;
    assert_eq!(second, json!({ "percentage": 50, "message": "Updating DB" }));
    permits.add_permits(1);
    assert_eq!(instance.wait().await.expect("a result"), 2);

    let last = status(&host, &instance).await;
    assert_eq!(last["runtimeStatus"], "Completed");
    assert_eq!(
        last["customStatus"],
        json!({ "percentage": 100, "message": "done" })
    );
    let typed: Option<Progress> = instance.custom_status().await.expect("a status");
    assert_eq!(typed.map(|progress| progress.percentage), Some(100));
    host.shutdown().await;
}

#[tokio::test]
async fn a_status_leaves_no_event() {
    let permits = Permits::new(Semaphore::new(1));
    let (host, _folder) = host(&permits).await;
    let instance = host
        .client()
        .start(update, vec!["Updating DB".into()])
        .await
        .expect("started");
    instance.wait().await.expect("a result");
    let history = format!("{:?}", instance.history().await.expect("a history"));
    assert!(
        history.contains("Updating DB") && !history.contains("percentage"),
        "{history}"
    );
    host.shutdown().await;
}
