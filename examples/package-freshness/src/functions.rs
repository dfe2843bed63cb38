//! The functions: two orchestrators, four activities, two triggers.

use dalsegno::{
    ActivityContext, App, Client, DAY, Error, Limiter, MINUTE, OrchestrationContext, Result, RetryPolicy,
    SECOND, activity, orchestrator,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Package, Page};
use crate::database::Database;
use crate::report::{Checked, Report};

/// The catalogue's limit, shared by all functions of the hub. The host may set another rate.
pub const CATALOGUE_LIMITER: Limiter = Limiter::new("catalogue")
    .rate(400, SECOND)
    .burst(20)
    .concurrency(100);

/// Packages of this prefix go to the first pipeline.
const MANAGEMENT_PREFIX: &str = "azure-mgmt-";

/// Progress is shown once for so many packages.
const PROGRESS_STEP: usize = 10;

/// A month, `YYYY-MM`. Months in this form sort by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Month(pub String);

impl Month {
    /// Reads `YYYY-MM`.
    ///
    /// # Errors
    /// When the text is no month.
    pub fn parse(text: &str) -> Result<Self> {
        let date = format!("{text}-01").parse::<jiff::civil::Date>();
        match date {
            Ok(_) if text.len() == 7 => Ok(Self(text.to_owned())),
            _ => Err(Error::msg(format!(
                "\"{text}\" is no month: write YYYY-MM, such as 2026-11"
            ))),
        }
    }

    /// The current month, as this machine's calendar has it.
    pub fn now() -> Self {
        Self(jiff::Zoned::now().strftime("%Y-%m").to_string())
    }

    /// The month so many months before.
    ///
    /// # Errors
    /// When that is before the year -9999.
    pub fn before(&self, months: u32) -> Result<Self> {
        let date: jiff::civil::Date = format!("{}-01", self.0).parse()?;
        let earlier = date.checked_sub(jiff::Span::new().try_months(months)?)?;
        Ok(Self(earlier.strftime("%Y-%m").to_string()))
    }
}

/// What a run is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The month the run looks from.
    pub as_of: Month,
    /// A package without a release for so many months is stale.
    pub stale_after_months: u32,
}

/// What one pipeline has to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The run it belongs to.
    pub run: String,
    /// Packages to ask for.
    pub names: Vec<String>,
}

/// Shown as custom status.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Packages answered.
    pub checked: usize,
    /// Packages in all.
    pub total: usize,
}

/// Where the catalogue is.
#[derive(Clone, Debug)]
pub struct CatalogueClient {
    http: reqwest::Client,
    base: String,
}

impl CatalogueClient {
    /// A client of the catalogue at `http://host:port`.
    pub fn new(base: impl Into<String>) -> Self {
        Self {
            http: reqwest::Client::new(),
            base: base.into(),
        }
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, ctx: &ActivityContext, path: &str) -> Result<T> {
        let answer = self.http.get(format!("{}{path}", self.base)).send().await?;
        match answer.status().as_u16() {
            200 => Ok(answer.json().await?),
            429 => Err(ctx.limited(retry_after(&answer))),
            404 => Err(Error::msg(format!("{path} is not in the catalogue")).permanent()),
            status => Err(Error::msg(format!("the catalogue answered {status} to {path}"))),
        }
    }
}

/// The seconds of `Retry-After`; a second where it is missing or unreadable.
fn retry_after(answer: &reqwest::Response) -> std::time::Duration {
    let header = answer.headers().get(reqwest::header::RETRY_AFTER);
    let seconds = header
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    SECOND * seconds
}

/// The children of a run, by what they take: the same ids in every replay.
pub fn parts(run_instance: &str) -> [String; 2] {
    [
        format!("{run_instance}-management"),
        format!("{run_instance}-rest"),
    ]
}

/// Lists the catalogue, lets two pipelines ask for every package, saves and reports.
#[orchestrator(name = "MainDownloadOrchestrator")]
pub async fn main_download_orchestrator(ctx: &OrchestrationContext, request: Request) -> Result<Report> {
    let run = ctx.call(create_run, ()).await?;
    let names = ctx.call(list_packages, ()).await?;
    let (management, rest): (Vec<_>, Vec<_>) = names
        .into_iter()
        .partition(|name| name.starts_with(MANAGEMENT_PREFIX));
    let [first, second] = parts(ctx.instance_id().as_str());
    let first = ctx
        .call(
            pipeline,
            Part {
                run: run.clone(),
                names: management,
            },
        )
        .instance_id(first);
    let second = ctx
        .call(
            pipeline,
            Part {
                run: run.clone(),
                names: rest,
            },
        )
        .instance_id(second);
    let (mut results, more) = (first.await?, second.await?);
    results.extend(more);
    ctx.call(save_results, (run, results.clone())).await?;
    let threshold = request.as_of.before(request.stale_after_months)?;
    Ok(Report::new(&results, threshold))
}

/// Asks for each package, as many at once as the limiter allows; one that fails spoils nothing.
#[orchestrator(name = "DownloadPipeline")]
pub async fn pipeline(ctx: &OrchestrationContext, part: Part) -> Result<Vec<Checked>> {
    let total = part.names.len();
    let mut answers: FuturesUnordered<_> = part
        .names
        .into_iter()
        .map(|name| {
            let answer = ctx.call(check_package, name.clone());
            async move { (name, answer.await) }
        })
        .collect();
    ctx.set_custom_status(Progress { checked: 0, total });
    let mut results = Vec::with_capacity(total);
    while let Some((name, answer)) = answers.next().await {
        results.push(match answer {
            Ok(package) => Checked::Found(package),
            Err(error) => Checked::Failed {
                name,
                message: error.to_string(),
            },
        });
        if results.len() % PROGRESS_STEP == 0 || results.len() == total {
            ctx.set_custom_status(Progress {
                checked: results.len(),
                total,
            });
        }
    }
    Ok(results)
}

/// Gives the run its id. An activity, so that it is made once and then only remembered.
#[activity(name = "CreateRun")]
async fn create_run(ctx: ActivityContext, _: ()) -> Result<String> {
    Ok(format!("run-{}", ctx.idempotency_key().replace('/', "-")))
}

/// Reads the list, page by page.
#[activity(name = "ListPackages", timeout = MINUTE, retry = RetryPolicy::exponential(5, SECOND), limiter = CATALOGUE_LIMITER)]
async fn list_packages(ctx: ActivityContext, _: ()) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut next = Some(0);
    while let Some(page) = next {
        let page: Page = ctx
            .data::<CatalogueClient>()
            .get(&ctx, &format!("/packages?page={page}"))
            .await?;
        names.extend(page.names);
        next = page.next;
    }
    Ok(names)
}

/// Asks for one package. A 429 lowers the shared limit and burns no attempt.
#[activity(
    name = "CheckPackage",
    timeout = 30 * SECOND,
    retry = RetryPolicy::exponential(5, SECOND).deadline(DAY),
    limiter = CATALOGUE_LIMITER
)]
async fn check_package(ctx: ActivityContext, name: String) -> Result<Package> {
    ctx.data::<CatalogueClient>()
        .get(&ctx, &format!("/packages/{name}"))
        .await
}

/// Saves everything in one transaction, under the run's id.
#[activity(name = "SaveResults", retry = RetryPolicy::exponential(5, SECOND))]
async fn save_results(ctx: ActivityContext, (run, results): (String, Vec<Checked>)) -> Result<usize> {
    let database = ctx.data::<Database>().clone();
    Ok(tokio::task::spawn_blocking(move || database.save(&run, &results)).await??)
}

/// The current month and the usual threshold.
fn default_request() -> Request {
    Request {
        as_of: Month::now(),
        stale_after_months: 24,
    }
}

/// Every morning at seven. Asking again for a run that is under way is no second run.
#[dalsegno::timer_trigger("0 0 7 * * *")]
async fn every_morning(client: Client) -> Result<()> {
    let today = jiff::Zoned::now().date();
    client
        .start(main_download_orchestrator, default_request())
        .id(format!("freshness-{today}"))
        .or_existing()
        .await?;
    Ok(())
}

/// Starts a run by hand: `POST /api/freshness`, with a request as body or none.
#[dalsegno::http_trigger(route = "freshness", methods = ["POST"])]
async fn start_freshness(client: Client, body: String) -> Result<dalsegno::CheckStatus> {
    let request = if body.is_empty() {
        default_request()
    } else {
        serde_json::from_str(&body)?
    };
    let instance = client.start(main_download_orchestrator, request).await?;
    Ok(client.check_status(&instance))
}

/// The app: everything above, with what its activities need.
pub fn register(app: App, catalogue: CatalogueClient, database: Database) -> App {
    app.register(main_download_orchestrator)
        .register(pipeline)
        .register(create_run)
        .register(list_packages)
        .register(check_package)
        .register(save_results)
        .register(every_morning)
        .register(start_freshness)
        .limiter(CATALOGUE_LIMITER)
        .data(catalogue)
        .data(database)
}
