//! The demonstration: serves the catalogue, hosts the app, runs it, reports.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dalsegno::{App, Client, Error, Host, HostSettings, Instance, Result, Status};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::net::TcpListener;

use crate::catalogue::{Behaviour, router};
use crate::database::Database;
use crate::functions::{
    CATALOGUE_LIMITER, CatalogueClient, Progress, Request, main_download_orchestrator, parts, register,
};
use crate::report::Report;

/// The instance of the demonstration's run: asked for again after a crash, it goes on.
pub const INSTANCE: &str = "package-freshness";

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Without a terminal, a line once for so many percent.
const PERCENT_PER_LINE: usize = 10;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the hub and the database are.
    pub data_dir: PathBuf,
    /// Port of the host on loopback; 0 takes a free one.
    pub port: u16,
    /// Time an answer of the catalogue takes.
    pub latency: Duration,
    /// Requests per period that the catalogue allows, over all callers.
    pub rate: (u32, Duration),
    /// What the run is asked for.
    pub request: Request,
    /// Whether the host ends with the run.
    pub end: End,
}

/// What happens when the run is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process ends, with an exit code by outcome.
    Exit,
    /// The host stays up until Ctrl-C.
    Stay,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a report.
    Completed,
    /// With a failure.
    Failed,
    /// Somebody ended it.
    Terminated,
}

/// Runs the demonstration.
///
/// # Errors
/// When the folder is no hub or is in use, or a port is taken.
pub async fn run(settings: Settings) -> Result<Ended> {
    std::fs::create_dir_all(&settings.data_dir)
        .map_err(|error| Error::msg(format!("cannot make {}: {error}", settings.data_dir.display())))?;
    let catalogue = serve_catalogue(&settings).await?;
    let host = start_host(&settings, catalogue).await?;
    let client = host.client().clone();
    let instance = start_or_continue(&client, &settings.request).await?;
    print_links(&host, &instance, catalogue);
    let ended = tokio::select! {
        ended = follow(&client, &instance) => ended?,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("interrupted; the same command goes on from here");
            host.shutdown().await;
            return Ok(Ended::Terminated);
        }
    };
    if settings.end == End::Stay {
        stay(&host).await;
    }
    host.shutdown().await;
    Ok(ended)
}

async fn serve_catalogue(settings: &Settings) -> Result<SocketAddr> {
    let behaviour = Behaviour {
        latency: settings.latency,
        rate: settings.rate,
        access_log: Some(settings.data_dir.join("catalogue-access.log")),
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let routes = router(behaviour)?;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

async fn start_host(settings: &Settings, catalogue: SocketAddr) -> Result<Host> {
    let (count, period) = settings.rate;
    let limiter = CATALOGUE_LIMITER.rate(count, period).definition();
    let database = Database::at(settings.data_dir.join("freshness.db"));
    let catalogue = CatalogueClient::new(format!("http://{catalogue}"));
    let app = register(App::new(), catalogue, database);
    app.start(HostSettings {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], settings.port))),
        limiters: vec![(CATALOGUE_LIMITER.name().to_owned(), limiter)],
        ..HostSettings::in_folder(settings.data_dir.join("hub"))
    })
    .await
}

/// Goes on with a run that was cut off; a finished one is run again.
async fn start_or_continue(client: &Client, request: &Request) -> Result<Instance<Report>> {
    let known = client.instance(main_download_orchestrator, INSTANCE)?;
    if let Ok(status) = known.status().await
        && !status.row.status.is_final()
    {
        let progress = recorded(client, &known).await;
        eprintln!(
            "continuing the run that was cut off: {} of {} answers are recorded",
            progress.checked, progress.total
        );
        return Ok(known);
    }
    client
        .start(main_download_orchestrator, request.clone())
        .id(INSTANCE)
        .or_replace()
        .await
}

fn print_links(host: &Host, instance: &Instance<Report>, catalogue: SocketAddr) {
    let links = host.client().management_payload(instance);
    eprintln!("catalogue of 881 packages  http://{catalogue}/packages");
    eprintln!("status                     {}", links.status_query_get_uri);
    eprintln!("raise an event             {}", links.send_event_post_uri);
    eprintln!(
        "suspend, resume            {}",
        links.suspend_post_uri.replace("suspend", "{suspend|resume}")
    );
    eprintln!("terminate                  {}", links.terminate_post_uri);
    for (methods, path) in host.routes() {
        if let Some(address) = host.address() {
            eprintln!("another run                [{methods}] http://{address}{path}");
        }
    }
    eprintln!("try: kill -9 {} and the same command again", std::process::id());
}

/// Shows progress until the run has ended, then prints its report.
async fn follow(client: &Client, instance: &Instance<Report>) -> Result<Ended> {
    let mut display = Display::new();
    let done = instance.wait();
    tokio::pin!(done);
    let outcome = loop {
        tokio::select! {
            outcome = &mut done => break outcome,
            () = tokio::time::sleep(LOOK) => display.show(&recorded(client, instance).await),
        }
    };
    display.finish();
    let mut out = std::io::stdout();
    match outcome {
        Ok(report) => {
            writeln!(out, "{report}")?;
            Ok(Ended::Completed)
        }
        Err(error) => {
            eprintln!("the run ended without a report: {error}");
            let status = instance.status().await?.row.status;
            Ok(if status == Status::Terminated {
                Ended::Terminated
            } else {
                Ended::Failed
            })
        }
    }
}

/// What the two pipelines show together.
async fn recorded(client: &Client, instance: &Instance<Report>) -> Progress {
    let mut sum = Progress::default();
    for part in parts(instance.id().as_str()) {
        let Ok(part) = client.instance_named::<()>(part) else {
            continue;
        };
        let Ok(status) = part.status().await else { continue };
        let shown = status
            .row
            .custom_status
            .and_then(|status| serde_json::from_str::<Progress>(status.as_str()).ok());
        let shown = shown.unwrap_or_default();
        sum.checked += shown.checked;
        sum.total += shown.total;
    }
    sum
}

/// A bar on a terminal, lines elsewhere.
struct Display {
    bar: Option<ProgressBar>,
    percent: usize,
}

impl Display {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} packages, {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = std::io::stderr()
            .is_terminal()
            .then(|| ProgressBar::new(0).with_style(style));
        Self { bar, percent: 0 }
    }

    fn show(&mut self, progress: &Progress) {
        if progress.total == 0 {
            return;
        }
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total as u64);
            return bar.set_position(progress.checked as u64);
        }
        let percent = progress.checked * 100 / progress.total;
        if percent >= self.percent + PERCENT_PER_LINE {
            self.percent = percent - percent % PERCENT_PER_LINE;
            eprintln!("{} of {} packages", progress.checked, progress.total);
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

async fn stay(host: &Host) {
    if let Some(address) = host.address() {
        eprintln!("the host stays up at http://{address}; Ctrl-C ends it");
        eprintln!("try: curl -X POST http://{address}/api/freshness");
        eprintln!("try: dalsegno list --server http://{address}");
    }
    // Without a signal handler there is nothing to wait for; the host then ends at once.
    let _ = tokio::signal::ctrl_c().await;
}
