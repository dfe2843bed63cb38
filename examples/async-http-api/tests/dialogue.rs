//! The curl dialogue of the article, body by body.

use async_http_api::{Range, Table, app, query_table};
use dalsegno::{Host, HostSettings, SECOND};
use serde_json::Value;

struct Api {
    host: Host,
    table: Table,
    origin: String,
    _folder: tempfile::TempDir,
}

async fn api() -> Api {
    let folder = tempfile::tempdir().expect("a folder");
    let table = Table::audit();
    let host = app(table.clone())
        .start(HostSettings::in_folder(&folder))
        .await
        .expect("a host");
    let origin = format!("http://{}", host.address().expect("it listens"));
    Api {
        host,
        table,
        origin,
        _folder: folder,
    }
}

async fn curl(url: &str) -> (u16, String, String) {
    let answer = reqwest::get(url).await.expect("an answer");
    let media = answer.headers()["content-type"]
        .to_str()
        .expect("text")
        .to_owned();
    (
        answer.status().as_u16(),
        media,
        answer.text().await.expect("a body"),
    )
}

impl Api {
    async fn submit(&self, parameters: &str) -> (u16, String, String) {
        curl(&format!("{}/api/submit/query{parameters}", self.origin)).await
    }
}

#[tokio::test]
async fn invalid_parameters_are_answered_one_by_one() {
    let api = api().await;
    let cases = [
        ("", "Empty start date."),
        ("?s=&e=10/12/2021", "Empty start date."),
        ("?s=abcd&e=10/12/2021", "Invalid start date format."),
        ("?s=10/08/2021", "Empty end date."),
        ("?s=10/08/2021&e=abcd", "Invalid end date format."),
        ("?s=10/08/2021&e=05/08/2021", "Invalid date range."),
        ("?s=10/08/2021&e=10/08/2021", "Invalid date range."),
    ];
    for (parameters, problem) in cases {
        let expected = format!("{{\"error\": \"{problem}\"}}");
        assert_eq!(
            api.submit(parameters).await,
            (400, "application/json".into(), expected),
            "{parameters}"
        );
    }
    let started = api
        .host
        .client()
        .list(dalsegno::InstanceQuery::default())
        .await
        .expect("a page");
    assert_eq!(started.rows.len(), 0, "nothing of that started a job");
    api.host.shutdown().await;
}

#[tokio::test]
async fn a_job_is_submitted_runs_and_comes_to_119() {
    let api = api().await;
    let (status, _, body) = api.submit("?s=10/10/2021&e=10/12/2021").await;
    let submitted: Value = serde_json::from_str(&body).expect("JSON");
    let uri = submitted["statusUri"].as_str().expect("a link");
    let id = uri
        .strip_prefix(&format!("{}/api/status/", api.origin))
        .expect("the origin of the request");
    assert_eq!(
        (status, body.as_str()),
        (200, format!("{{\"statusUri\": \"{uri}\"}}").as_str())
    );
    assert!(
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );

    let instance = api.host.client().instance(query_table, id).expect("an id");
    instance.wait_for_start(60 * SECOND).await.expect("it runs");
    let running = format!("{{\"id\": \"{id}\", \"status\": \"Running\", \"result\": null}}");
    assert_eq!(curl(uri).await, (200, "application/json".into(), running));

    api.table.answer();
    assert_eq!(instance.wait().await.expect("a result"), 119);
    let completed = format!("{{\"id\": \"{id}\", \"status\": \"Completed\", \"result\": 119}}");
    assert_eq!(curl(uri).await, (200, "application/json".into(), completed));

    let input: Range = serde_json::from_str(
        instance
            .status()
            .await
            .expect("a status")
            .row
            .input
            .expect("an input")
            .as_str(),
    )
    .expect("a range");
    assert_eq!(
        (input.start.as_str(), input.end.as_str()),
        ("2021-10-10", "2021-12-10"),
        "the day comes first"
    );
    api.host.shutdown().await;
}

#[tokio::test]
async fn a_job_that_was_ended_tells_why() {
    let api = api().await;
    let (_, _, body) = api.submit("?s=10/10/2021&e=10/12/2021").await;
    let submitted: Value = serde_json::from_str(&body).expect("JSON");
    let uri = submitted["statusUri"].as_str().expect("a link");
    let (_, id) = uri.rsplit_once('/').expect("a path");
    let instance = api.host.client().instance(query_table, id).expect("an id");
    instance.terminate("running too long").await.expect("terminated");
    instance.wait().await.expect_err("it was terminated");
    let expected =
        format!("{{\"id\": \"{id}\", \"status\": \"Terminated\", \"result\": \"running too long\"}}");
    assert_eq!(curl(uri).await.2, expected);
    api.host.shutdown().await;
}

#[tokio::test]
async fn an_unknown_job_is_not_found_and_nothing_is_told_of_links() {
    let api = api().await;
    for id in ["433ebcfe85ec4012abe94dcda2aa6b00", "%40counter%40a"] {
        let (status, media, body) = curl(&format!("{}/api/status/{id}", api.origin)).await;
        assert_eq!((status, body.as_str()), (404, "Job not found"));
        assert!(media.starts_with("text/plain"), "{media}");
    }
    let (_, _, body) = api.submit("?s=10/10/2021&e=10/12/2021").await;
    assert!(!body.contains("/runtime/webhooks"), "{body}");
    api.host.shutdown().await;
}
