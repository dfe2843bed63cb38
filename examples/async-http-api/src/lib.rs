//! **Async HTTP API.** A query takes minutes; load balancers wait for some 230 seconds. So one route
//! takes the job and answers at once, and another one tells how far it is.
//!
//! The status route is the app's own, and says the least there is to say: the links that
//! `Client::check_status` gives would let the public end jobs or read their history.

mod dates;
mod table;

use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use dalsegno::{
    ActivityContext, App, Client, OrchestrationContext, Result, Status, activity, http_trigger, orchestrator,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use dates::Range;
pub use table::{Filter, FilterError, Table};

/// What the submit route takes: start and end, day first.
#[derive(Debug, Default, Deserialize)]
pub struct Submitted {
    /// The first day.
    pub s: Option<String>,
    /// The last day.
    pub e: Option<String>,
}

/// `GET /api/submit/query?s=10/10/2021&e=10/12/2021`: starts a job and says where to ask.
#[http_trigger(name = "client-function", route = "submit/query", methods = ["GET", "POST"], auth = anonymous)]
async fn submit(client: Client, Query(submitted): Query<Submitted>) -> Result<Response> {
    let range = match Range::parse(submitted.s.as_deref(), submitted.e.as_deref()) {
        Ok(range) => range,
        Err(problem) => return Ok(json(StatusCode::BAD_REQUEST, &[("error", quoted(problem)?)])),
    };
    let instance = client.start(query_table, range).await?;
    let uri = format!("{}/api/status/{}", client.origin(), instance.id());
    Ok(json(StatusCode::OK, &[("statusUri", quoted(&uri)?)]))
}

/// `GET /api/status/{id}`: id, status and result, and nothing else.
#[http_trigger(name = "get-status-function", route = "status/{id}", methods = ["GET"], auth = anonymous)]
async fn get_status(client: Client, Path(id): Path<String>) -> Result<Response> {
    let asked = match client.instance(query_table, &id) {
        Ok(instance) => instance.status().await,
        Err(_no_id) => return Ok(not_found()),
    };
    let row = match asked {
        Ok(status) => status.row,
        Err(error) if error.is_not_found() => return Ok(not_found()),
        Err(error) => return Err(error),
    };
    let result = match (row.status, &row.output, &row.failure) {
        (Status::Failed, _, Some(failure)) => quoted(&failure.message)?,
        (_, Some(output), _) => output.as_str().to_owned(),
        _ => "null".into(),
    };
    let members = [
        ("id", quoted(row.id.as_str())?),
        ("status", quoted(row.status.as_str())?),
        ("result", result),
    ];
    Ok(json(StatusCode::OK, &members))
}

/// Unwraps the parameters and calls the activity: there is nothing more to orchestrate.
#[orchestrator(name = "orchestrator-function")]
pub async fn query_table(ctx: &OrchestrationContext, range: Range) -> Result<usize> {
    Ok(ctx.call(query_storage_account, range).await?)
}

/// Counts who appears in the table in that time, each once. Knows nothing of durability.
#[activity(name = "query-storage-account-activity-function")]
async fn query_storage_account(ctx: ActivityContext, range: Range) -> Result<usize> {
    let filter = Filter::parse("PartitionKey ge @start and PartitionKey le @end and CertNumber ne ''")?
        .bind("start", &range.start)
        .bind("end", &range.end);
    let rows = ctx.data::<Table>().query(&filter, "identificationNumber").await?;
    let distinct: std::collections::BTreeSet<String> = rows.into_iter().collect();
    Ok(distinct.len())
}

/// The app: everything above, on this table.
pub fn app(table: Table) -> App {
    App::new()
        .register(submit)
        .register(get_status)
        .register(query_table)
        .register(query_storage_account)
        .data(table)
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "Job not found").into_response()
}

fn quoted(text: &str) -> Result<String> {
    Ok(serde_json::to_string(text)?)
}

/// A JSON object, with the blanks that the callers of the API are used to.
fn json(status: StatusCode, members: &[(&str, String)]) -> Response {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("\"{name}\": {value}"))
        .collect();
    let body = format!("{{{}}}", members.join(", "));
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The answer of the status route, for those who read it.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobStatus {
    /// The job.
    pub id: String,
    /// Pending, Running, Completed, Failed, Terminated or Suspended.
    pub status: String,
    /// The number, when there is one.
    pub result: Option<Box<RawValue>>,
}
