//! stub
use crate::http::{path::Ours, problem::Problem, request::Call};
pub(crate) async fn dispatch(_call: Call, _route: Ours) -> Result<axum::response::Response, Problem> {
    Err(Problem::not_found())
}
