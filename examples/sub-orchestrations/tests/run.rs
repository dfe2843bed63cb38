//! One run, two pipelines, and what their parent learns.

use dalsegno::{EventKind, Host, Status};
use download_something_else::download_something_else;
use sub_orchestrations::{app, main_download};

async fn host() -> (Host, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (app().embedded(&folder).await.expect("a host"), folder)
}

#[tokio::test]
async fn both_pipelines_take_the_run_and_work_at_the_same_time() {
    let (host, _folder) = host().await;
    let instance = host
        .client()
        .start(main_download, "nightly".into())
        .id("main")
        .await
        .expect("started");
    let report = instance.wait().await.expect("a report");
    assert_eq!(
        (report.run.as_str(), report.samples, report.something_else),
        ("nightly-main", 3, Ok(4))
    );

    let history = instance.history().await.expect("a history");
    let children: Vec<usize> = history
        .iter()
        .enumerate()
        .filter(|(_, event)| matches!(event.kind, EventKind::SubOrchestrationInstanceCreated { .. }))
        .map(|(index, _)| index)
        .collect();
    let answered =
        |event: &dalsegno::Event| matches!(event.kind, EventKind::SubOrchestrationInstanceCompleted { .. });
    let first_answer = history.iter().position(answered).expect("an answer");
    assert!(
        children.len() == 2 && children.iter().all(|created| *created < first_answer),
        "started before either ended"
    );

    let child = host
        .client()
        .instance(download_something_else, "nightly-main-something-else")
        .expect("an id");
    let row = child.status().await.expect("a status").row;
    assert_eq!(row.input.expect("an input").as_str(), "\"nightly-main\"");
    assert_eq!(row.parent.expect("a parent").instance, *instance.id());
    host.shutdown().await;
}

#[tokio::test]
async fn a_child_that_fails_is_an_error_of_its_parent_and_no_end() {
    let (host, _folder) = host().await;
    let instance = host
        .client()
        .start(main_download, "unlucky".into())
        .id("main")
        .await
        .expect("started");
    let report = instance.wait().await.expect("a report");
    assert_eq!(report.samples, 3, "the other pipeline is not spoiled");
    let told = report.something_else.expect_err("it failed");
    assert!(
        told.contains("DownloadSomethingElse_Orchestration") && told.contains("nothing else is there"),
        "{told}"
    );
    let child = host
        .client()
        .instance(download_something_else, "unlucky-main-something-else")
        .expect("an id");
    assert_eq!(child.status().await.expect("a status").row.status, Status::Failed);
    host.shutdown().await;
}
