//! Triggers and versions, as the attributes make them.

use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{Method, Request, StatusCode};
use dalsegno::{
    AuthLevel, Client, OrchestrationContext, Registry, Result, TimerInfo, http_trigger, orchestrator,
    timer_trigger,
};
use dalsegno_engine::executor::Executor;
use futures::executor::block_on;

/// Starts an order.
#[http_trigger(route = "orders/{id}", methods = ["PUT", "POST"], auth = anonymous)]
async fn start_order(Path(id): Path<String>) -> Result<Json<String>> {
    Ok(Json(id))
}

#[http_trigger]
async fn needs_client(_client: Client) -> Result<()> {
    Ok(())
}

#[timer_trigger("0 0 7 * * *", time_zone = "Europe/Berlin", run_on_startup)]
async fn every_morning(_client: Client, info: TimerInfo) -> Result<()> {
    assert!(!info.past_due);
    Ok(())
}

#[test]
fn http_triggers_are_axum_handlers() {
    let trigger = start_order();
    assert_eq!(
        (trigger.name(), trigger.route_path()),
        ("start_order", "orders/{id}")
    );
    assert_eq!(trigger.method_list(), [Method::PUT, Method::POST]);
    assert_eq!(trigger.auth_level(), AuthLevel::Anonymous);
    let router: axum::Router = axum::Router::new().route("/api/orders/{id}", trigger.into_router());
    assert_eq!(status(router, "/api/orders/7"), StatusCode::OK);
}

#[test]
fn a_client_is_an_extractor() {
    let trigger = needs_client();
    assert_eq!(trigger.method_list(), [Method::GET, Method::POST]);
    assert_eq!(trigger.auth_level(), AuthLevel::Function);
    let router: axum::Router = axum::Router::new().route("/api/x", trigger.into_router());
    assert_eq!(status(router, "/api/x"), StatusCode::INTERNAL_SERVER_ERROR);
}

fn status(mut router: axum::Router, path: &str) -> StatusCode {
    let request = Request::builder().method("POST").uri(path).body(Body::empty());
    let call = tower_service::Service::call(&mut router, request.expect("a request"));
    block_on(call).expect("routers do not fail").status()
}

#[test]
fn timer_triggers_know_their_schedule() {
    let trigger = every_morning();
    assert_eq!(trigger.schedule(), "0 0 7 * * *");
    assert_eq!(trigger.time_zone_name(), Some("Europe/Berlin"));
    assert!(trigger.runs_on_startup());
}

#[orchestrator(name = "process", version = "1.9")]
async fn process_old(_ctx: &OrchestrationContext) -> Result<u32> {
    Ok(1)
}

#[orchestrator(version = "1.10")]
async fn process(_ctx: &OrchestrationContext) -> Result<u32> {
    Ok(2)
}

#[test]
fn versions_stay_side_by_side_and_the_highest_is_the_default() {
    let mut registry = Registry::new();
    registry.register(process).expect("new");
    registry.register(process_old).expect("another version");
    assert_eq!(registry.default_version("process").as_deref(), Some("1.10"));
    let twice = registry.register(process).expect_err("twice");
    assert_eq!(
        twice.to_string(),
        "orchestrator with version \"1.10\" \"process\" is registered twice: give one of them another name, or another version"
    );
}
