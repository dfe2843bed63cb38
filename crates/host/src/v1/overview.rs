//! What a hub did lately: starts per time, how they stand now, and the oldest that are not finished.

use std::collections::VecDeque;

use axum::http::StatusCode;
use axum::response::Response;
use dalsegno_core::Timestamp;
use dalsegno_core::query::{InstanceQuery, LargeValues, Status};
use dalsegno_core::store::InstanceRow;
use dalsegno_engine::TaskHub;
use serde::{Deserialize, Serialize};

use super::instances::{parent, tags};
use super::wire::InstanceWire;
use crate::http::body::json;
use crate::http::list::id_prefix;
use crate::http::problem::Problem;
use crate::http::request::Call;
use crate::http::time;
use crate::http::wire::to_json;

/// Rows that one answer looks at; beyond it the answer says that it is not whole.
const ROWS_MAX: usize = 20_000;
const PAGE_ROWS: usize = 1_000;
pub(super) const BUCKETS: usize = 60;
pub(super) const BUCKETS_MAX: usize = 500;
const HOUR_MICROS: i64 = 3_600_000_000;
/// Of the oldest unfinished.
const OLDEST_ROWS: usize = 5;

#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct OverviewWire {
    #[schemars(extend("format" = "date-time"))]
    from: String,
    #[schemars(extend("format" = "date-time"))]
    to: String,
    buckets: Vec<BucketWire>,
    /// More rows were there than are looked at: the oldest are missing.
    partial: bool,
    oldest: Vec<InstanceWire>,
    #[serde(rename = "oldestPartial")]
    oldest_partial: bool,
}

/// What a client wants of it: the counts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RatesWire {
    /// From this time
    pub from: String,
    /// to this one,
    pub to: String,
    /// cut into equal pieces.
    pub buckets: Vec<BucketWire>,
    /// More rows were there than are looked at: the oldest are missing.
    pub partial: bool,
}

/// What was started within a piece of time, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BucketWire {
    /// Started in it.
    pub started: u64,
    /// Of these, failed by now.
    pub failed: u64,
    /// Of these, completed by now.
    pub completed: u64,
}

pub(super) async fn answer(call: Call) -> Result<Response, Problem> {
    let query = call.query()?;
    let (from, to) = query.span("from", "to")?;
    let to = to.unwrap_or_else(|| call.hub().now());
    let from = from.unwrap_or(Timestamp::from_micros(to.as_micros() - HOUR_MICROS));
    let count = query.integer("buckets", BUCKETS, BUCKETS_MAX)?;
    let filter = InstanceQuery {
        id_prefix: id_prefix(&query, "prefix")?,
        name: query.text("name").map(str::to_owned),
        tags: tags(&query)?,
        parent: parent(&query)?,
        waiting_for: query.text("waitingFor").map(str::to_owned),
        failed_activity: query.text("failedActivity").map(str::to_owned),
        limit: PAGE_ROWS,
        large: LargeValues::LeaveOut,
        ..InstanceQuery::default()
    };
    let mut buckets = vec![BucketWire::default(); count];
    let lately = InstanceQuery {
        created_from: Some(from),
        created_to: Some(to),
        ..filter.clone()
    };
    let partial = walk(call.hub(), lately, |row| {
        let bucket = &mut buckets[place(row.created, (from, to), count)];
        bucket.started += 1;
        bucket.failed += u64::from(row.status == Status::Failed);
        bucket.completed += u64::from(row.status == Status::Completed);
    })
    .await?;
    let unfinished = InstanceQuery {
        statuses: vec![Status::Pending, Status::Running, Status::Suspended],
        ..filter
    };
    // The list begins with the newest.
    let mut oldest = VecDeque::with_capacity(OLDEST_ROWS + 1);
    let oldest_partial = walk(call.hub(), unfinished, |row| {
        oldest.push_front(row.clone());
        oldest.truncate(OLDEST_ROWS);
    })
    .await?;
    let wire = OverviewWire {
        from: time::exact(from),
        to: time::exact(to),
        buckets,
        partial,
        oldest: oldest.iter().map(InstanceWire::from).collect(),
        oldest_partial,
    };
    Ok(json(StatusCode::OK, to_json(&wire)))
}

/// Shows the rows of a list, page by page; says whether there were more than it may look at.
async fn walk(
    hub: &TaskHub,
    mut query: InstanceQuery,
    mut show: impl FnMut(&InstanceRow),
) -> Result<bool, Problem> {
    let mut seen = 0;
    loop {
        let page = hub.list(query.clone()).await?;
        page.rows.iter().for_each(&mut show);
        seen += page.rows.len();
        match page.next {
            None => return Ok(false),
            Some(_) if seen >= ROWS_MAX => return Ok(true),
            Some(next) => query.after = Some(next),
        }
    }
}

/// In which of so many equal pieces of a span a time lies.
fn place(at: Timestamp, (from, to): (Timestamp, Timestamp), count: usize) -> usize {
    let span = (to.as_micros() - from.as_micros()).max(1) as f64;
    let share = (at.as_micros() - from.as_micros()) as f64 / span;
    ((share * count as f64) as usize).min(count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_of_a_span_has_its_place() {
        let at = Timestamp::from_micros;
        let span = (at(100), at(200));
        for (time, wanted) in [(100, 0), (109, 0), (110, 1), (199, 9), (200, 9)] {
            assert_eq!(place(at(time), span, 10), wanted, "{time}");
        }
        assert_eq!(place(at(5), (at(5), at(5)), 3), 0);
    }
}
