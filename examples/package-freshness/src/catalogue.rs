//! The public API that is scraped: a paged list, one GET per package, latency, and a rate limit
//! with `429` and `Retry-After` that all callers share. Served on loopback.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

/// The catalogue itself: name, latest version, month of the last release.
const PACKAGES: &str = include_str!("../data/azure-packages.tsv");

/// Names on one page of the list.
const PAGE: usize = 100;

/// A package as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its newest version.
    pub latest_version: String,
    /// The month of its last release, `YYYY-MM`.
    pub last_release_month: String,
}

/// One page of the list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// Names, in order.
    pub names: Vec<String>,
    /// The next page, if there is one.
    pub next: Option<usize>,
}

/// How the catalogue answers.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Time an answer takes.
    pub latency: Duration,
    /// So many requests per period, over all callers.
    pub rate: (u32, Duration),
    /// A file that gets the path of every answered request, a line each.
    pub access_log: Option<PathBuf>,
}

struct Catalogue {
    packages: Vec<Package>,
    behaviour: Behaviour,
    window: Mutex<Window>,
    access_log: Option<Mutex<File>>,
}

/// Requests since a moment; the limit begins anew with every period.
struct Window {
    begin: Instant,
    requests: u32,
}

/// All packages of the catalogue.
pub fn packages() -> Vec<Package> {
    let rows = PACKAGES.lines().skip(1).map(|line| line.split('\t'));
    rows.filter_map(|mut fields| {
        Some(Package {
            name: fields.next()?.to_owned(),
            latest_version: fields.next()?.to_owned(),
            last_release_month: fields.next()?.to_owned(),
        })
    })
    .collect()
}

/// The catalogue's routes.
///
/// # Errors
/// When the access log cannot be written.
pub fn router(behaviour: Behaviour) -> io::Result<Router> {
    let window = Mutex::new(Window {
        begin: Instant::now(),
        requests: 0,
    });
    let append = |path: &PathBuf| {
        File::options()
            .create(true)
            .append(true)
            .open(path)
            .map(Mutex::new)
    };
    let access_log = behaviour.access_log.as_ref().map(append).transpose()?;
    let catalogue = Arc::new(Catalogue {
        packages: packages(),
        behaviour,
        window,
        access_log,
    });
    let router = Router::new()
        .route("/packages", get(list))
        .route("/packages/{name}", get(package));
    Ok(router.with_state(catalogue))
}

#[derive(Deserialize)]
struct PageQuery {
    #[serde(default)]
    page: usize,
}

async fn list(State(catalogue): State<Arc<Catalogue>>, Query(query): Query<PageQuery>) -> Response {
    if let Err(refusal) = catalogue.admit().await {
        return refusal;
    }
    let all = catalogue.packages.iter().map(|package| package.name.clone());
    let names: Vec<String> = all.skip(query.page * PAGE).take(PAGE).collect();
    let next = ((query.page + 1) * PAGE < catalogue.packages.len()).then_some(query.page + 1);
    Json(Page { names, next }).into_response()
}

async fn package(State(catalogue): State<Arc<Catalogue>>, Path(name): Path<String>) -> Response {
    if let Err(refusal) = catalogue.admit().await {
        return refusal;
    }
    catalogue.log(&name);
    match catalogue.packages.iter().find(|package| package.name == name) {
        Some(package) => Json(package.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Catalogue {
    /// Takes one request from the shared limit, or says when to come back.
    async fn admit(&self) -> Result<(), Response> {
        if let Some(wait) = self.count() {
            let seconds = HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
            return Err((StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds)]).into_response());
        }
        tokio::time::sleep(self.behaviour.latency).await;
        Ok(())
    }

    fn log(&self, name: &str) {
        if let Some(log) = &self.access_log {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            // A log that cannot be written is no reason not to answer.
            let _ = writeln!(log, "{name}");
        }
    }

    /// Counts a request; the time until the next period when this one is used up.
    fn count(&self) -> Option<Duration> {
        let (most, period) = self.behaviour.rate;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.begin.elapsed() >= period {
            *window = Window {
                begin: Instant::now(),
                requests: 0,
            };
        }
        if window.requests >= most {
            return Some(period.saturating_sub(window.begin.elapsed()));
        }
        window.requests += 1;
        None
    }
}
