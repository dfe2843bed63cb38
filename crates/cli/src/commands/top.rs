//! `dalsegno top`: a hub at a glance.

use std::time::Duration;

use clap::Args;
use dalsegno_core::query::Status;
use dalsegno_host::v1::{BucketWire, HubInfo, RatesWire, StuckWire, WorkerWire};
use serde_json::json;

use crate::arguments::duration;
use crate::failure::{Exit, Failure};
use crate::output::{cut, shown};
use crate::screen::Screen;
use crate::session::Session;

/// Of those that are stuck.
const STUCK_SHOWN: usize = 10;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno top --once --json")]
pub(crate) struct Top {
    /// Once; so it is without a terminal, too
    #[arg(long)]
    once: bool,
    /// Between two looks
    #[arg(long, value_parser = duration, default_value = "2s", value_name = "TIME")]
    interval: Duration,
}

/// What is told of a hub.
struct Glance {
    info: HubInfo,
    counts: Vec<(Status, u64)>,
    rates: RatesWire,
    stuck: StuckWire,
    workers: Vec<WorkerWire>,
}

impl Top {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let is_picture = session.is_for_people() && !self.once;
        let Some(screen) = Screen::of_terminal().filter(|_| is_picture) else {
            let glance = Glance::read(session).await?;
            session.prose(
                &glance.info.name,
                &glance.text(session.hub.origin()),
                &glance.json(),
            );
            return Ok(Exit::Ok);
        };
        session.follow(None, self.live(session, screen)).await
    }

    async fn live(&self, session: &Session, mut screen: Screen) -> Result<Exit, Failure> {
        loop {
            let glance = Glance::read(session).await?;
            screen.draw(&glance.text(session.hub.origin()));
            tokio::time::sleep(self.interval).await;
        }
    }
}

impl Glance {
    async fn read(session: &Session) -> Result<Self, Failure> {
        let hub = &session.hub;
        let all = async {
            Ok(Self {
                info: hub.info().await?,
                counts: hub.counts().await?,
                rates: hub.rates().await?,
                stuck: hub.stuck(STUCK_SHOWN).await?,
                workers: hub.workers().await?,
            })
        };
        session.ask(all).await
    }

    fn text(&self, origin: &str) -> String {
        let counts = self.counts.iter();
        let counts = counts.map(|(status, count)| format!("{} {count}", status.as_str()));
        let more = if self.stuck.more { " and more" } else { "" };
        let mut lines = vec![
            format!(
                "{} at {origin}, version {}",
                shown(&self.info.name),
                shown(&self.info.version)
            ),
            counts.collect::<Vec<_>>().join("  "),
            format!("last minute  {}", told(&self.last_minute(), false)),
            format!("last hour    {}", told(&self.last_hour(), self.rates.partial)),
            format!("stuck        {}{more}", self.stuck.rows.len()),
        ];
        for one in &self.stuck.rows {
            lines.push(format!("  {}  {}", shown(&one.id), shown(&cut(&one.summary))));
        }
        lines.push(format!("workers      {}", self.workers.len()));
        for worker in &self.workers {
            lines.push(format!(
                "  {}  {} turns, {} activities, {} operations",
                shown(&worker.name),
                worker.turns,
                worker.activities,
                worker.operations
            ));
        }
        lines.join("\n")
    }

    fn json(&self) -> String {
        let counts = self.counts.iter();
        let counts: serde_json::Map<_, _> = counts
            .map(|(status, count)| (status.as_str().to_owned(), json!(count)))
            .collect();
        let rate = |rate: BucketWire| {
            json!({
                "started": rate.started,
                "completed": rate.completed,
                "failed": rate.failed,
            })
        };
        let stuck = self.stuck.rows.iter();
        let stuck: Vec<_> = stuck
            .map(|one| json!({"id": one.id, "name": one.name, "summary": one.summary}))
            .collect();
        let workers = self.workers.iter();
        let workers: Vec<_> = workers
            .map(|worker| {
                json!({
                    "name": worker.name,
                    "turns": worker.turns,
                    "activities": worker.activities,
                    "operations": worker.operations,
                })
            })
            .collect();
        json!({
            "hub": self.info.name,
            "version": self.info.version,
            "counts": counts,
            "lastMinute": rate(self.last_minute()),
            "lastHour": rate(self.last_hour()),
            "partial": self.rates.partial,
            "stuck": stuck,
            "stuckMore": self.stuck.more,
            "workers": workers,
        })
        .to_string()
    }

    fn last_minute(&self) -> BucketWire {
        self.rates.buckets.last().cloned().unwrap_or_default()
    }

    fn last_hour(&self) -> BucketWire {
        let add = |sum: BucketWire, one: &BucketWire| BucketWire {
            started: sum.started + one.started,
            failed: sum.failed + one.failed,
            completed: sum.completed + one.completed,
        };
        self.rates.buckets.iter().fold(BucketWire::default(), add)
    }
}

/// What was started then, and what became of it.
fn told(rate: &BucketWire, is_partial: bool) -> String {
    let least = if is_partial { "at least " } else { "" };
    format!(
        "{least}{} started, of which {} completed and {} failed",
        rate.started, rate.completed, rate.failed
    )
}
