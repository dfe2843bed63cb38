//! Timer triggers: functions that run by the calendar.
//!
//! What to do next is decided by [`Schedule::next`], a function of the last record and the time.
//! Every occurrence is recorded before its function runs and after, so that one cut off by a
//! crash runs again with the same occurrence, and one that ran does not. However long the host
//! was away, it catches up once.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use dalsegno_core::Timestamp;
use dalsegno_engine::TaskHub;
use dalsegno_engine::request::Answer;
use futures::future::BoxFuture;
use jiff::Zoned;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Later than this is past due.
const PUNCTUAL: Duration = Duration::from_secs(1);
/// Longest sleep: after it the clock is looked at again, because it may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Longest text of a schedule, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// Six fields (second, minute, hour, day, month, weekday) and a time zone.
#[derive(Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Schedule({} {})",
            self.cron.as_str(),
            self.zone.iana_name().unwrap_or("UTC")
        )
    }
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSchedule {
    /// `invalid_schedule`, `never_fires` or `unknown_zone`.
    pub code: &'static str,
    /// What is wrong, where, what to do.
    pub reason: String,
}

impl fmt::Display for InvalidSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for InvalidSchedule {}

/// How far an occurrence got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// Its function was started.
    Running,
    /// It ended, well or not.
    Done,
}

/// The last occurrence of a trigger, as stored under `schedule/<name>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Microseconds since 1970.
    occurrence: i64,
    progress: Progress,
    /// How often the host ended while the function ran for this occurrence.
    #[serde(default, skip_serializing_if = "is_zero")]
    cut_off: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Record {
    /// A record of an occurrence.
    pub fn new(occurrence: Timestamp, progress: Progress) -> Self {
        Self {
            occurrence: occurrence.as_micros(),
            progress,
            cut_off: 0,
        }
    }

    /// What a starting host makes of it: a function that was cut off runs again, but not for ever,
    /// since it may be what ended the host.
    pub fn taken_up(self, kills_max: u32) -> Self {
        let cut_off = self.cut_off + 1;
        match self.progress {
            Progress::Done => self,
            Progress::Running if cut_off < kills_max => Self { cut_off, ..self },
            Progress::Running => Self::new(self.occurrence(), Progress::Done),
        }
    }

    /// When it was due.
    pub fn occurrence(self) -> Timestamp {
        Timestamp::from_micros(self.occurrence)
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run the function for this occurrence, now.
    Run(TimerInfo),
    /// Nothing before this.
    SleepUntil(Timestamp),
    /// It will never be due again.
    Never,
}

/// What a timer function is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerInfo {
    /// When this occurrence was due; the same when it runs again after a crash.
    pub scheduled: Timestamp,
    /// It comes late: the host was away, or busy with the one before.
    pub past_due: bool,
}

impl Schedule {
    /// Reads a schedule: NCRONTAB with six fields, day and weekday must both fit. Without a zone UTC.
    ///
    /// # Errors
    /// Says which field is wrong, whether it would ever fire, and whether the zone is known.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, InvalidSchedule> {
        let invalid = |code, reason| InvalidSchedule { code, reason };
        if text.len() > TEXT_BYTES_MAX {
            let reason = format!(
                "a schedule has at most {TEXT_BYTES_MAX} bytes, this one has {}",
                text.len()
            );
            return Err(invalid("invalid_schedule", reason));
        }
        let fields = text.split_ascii_whitespace().count();
        if fields != 6 {
            let reason = format!(
                "{text:?} has {fields} fields: write six, second minute hour day month weekday, like 0 0 7 * * *"
            );
            return Err(invalid("invalid_schedule", reason));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Required)
            .dom_and_dow(true)
            .build();
        let cron = parser
            .parse(text)
            .map_err(|error| invalid("invalid_schedule", format!("{text:?}: {error}")))?;
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| {
                invalid(
                    "unknown_zone",
                    format!("there is no time zone {name:?}: write it like Europe/Berlin"),
                )
            })?,
        };
        let schedule = Self { cron, zone };
        match schedule.after(Timestamp::from_micros(0)) {
            Some(_) => Ok(schedule),
            None => Err(invalid(
                "never_fires",
                format!("{text:?} names a day that there is not: it never fires"),
            )),
        }
    }

    /// The six fields, as they were written.
    pub fn text(&self) -> String {
        self.cron.as_str().to_owned()
    }

    /// The name of its time zone.
    pub fn zone_name(&self) -> String {
        self.zone.iana_name().unwrap_or("UTC").to_owned()
    }

    /// The first occurrence after a time.
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        self.cron
            .find_next_occurrence(&self.zoned(at)?, false)
            .ok()
            .map(|next| to_timestamp(&next))
    }

    /// The last occurrence at or before a time.
    fn at_or_before(&self, at: Timestamp) -> Option<Timestamp> {
        self.cron
            .find_previous_occurrence(&self.zoned(at)?, true)
            .ok()
            .map(|last| to_timestamp(&last))
    }

    fn zoned(&self, at: Timestamp) -> Option<Zoned> {
        let at = jiff::Timestamp::from_microsecond(at.as_micros()).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }

    /// What to do, by what was recorded last and the time. Without a record the past does not count.
    pub fn next(&self, record: Option<Record>, now: Timestamp) -> Next {
        let Some(record) = record else {
            return self.after(now).map_or(Next::Never, Next::SleepUntil);
        };
        if record.progress == Progress::Running {
            return Next::Run(TimerInfo {
                scheduled: record.occurrence(),
                past_due: true,
            });
        }
        match self.after(record.occurrence()) {
            None => Next::Never,
            Some(due) if due > now => Next::SleepUntil(due),
            Some(due) => {
                let latest = self
                    .at_or_before(now)
                    .filter(|latest| *latest >= due)
                    .unwrap_or(due);
                let past_due = latest > due || now.since(due) >= PUNCTUAL;
                Next::Run(TimerInfo {
                    scheduled: latest,
                    past_due,
                })
            }
        }
    }
}

fn to_timestamp(at: &Zoned) -> Timestamp {
    Timestamp::from_micros(at.timestamp().as_microsecond())
}

/// What a timer function returns when it fails.
pub type TimerError = Box<dyn std::error::Error + Send + Sync>;

/// A timer function.
pub type TimerFunction = Arc<dyn Fn(TimerInfo) -> BoxFuture<'static, Result<(), TimerError>> + Send + Sync>;

/// A function and its schedule.
#[derive(Clone)]
pub struct TimerTrigger {
    /// Name of the function; its records are kept under it.
    pub name: String,
    /// When it runs.
    pub schedule: Schedule,
    /// Whether it also runs when the host starts.
    pub run_on_startup: bool,
    /// What runs.
    pub function: TimerFunction,
}

impl fmt::Debug for TimerTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerTrigger")
            .field("name", &self.name)
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}

impl TimerTrigger {
    /// Runs the trigger for as long as the hub answers. Dropping the future stops it; an
    /// occurrence that was running then runs again at the next start.
    ///
    /// # Errors
    /// When the hub cannot be read or written any more.
    pub async fn run(self, hub: TaskHub) -> Answer<()> {
        let key = format!("schedule/{}", self.name);
        let mut record = self.take_up(&hub, &key).await?;
        if self.run_on_startup && record.is_none_or(|record| record.progress == Progress::Done) {
            record = Some(
                self.occur(
                    &hub,
                    &key,
                    TimerInfo {
                        scheduled: hub.now(),
                        past_due: false,
                    },
                    0,
                )
                .await?,
            );
        }
        if record.is_none() {
            record = Some(write(&hub, &key, Record::new(hub.now(), Progress::Done)).await?);
        }
        loop {
            let now = hub.now();
            match self.schedule.next(record, now) {
                Next::Run(info) => {
                    let cut_off = record
                        .filter(|record| record.progress == Progress::Running)
                        .map_or(0, |record| record.cut_off);
                    record = Some(self.occur(&hub, &key, info, cut_off).await?);
                }
                Next::SleepUntil(due) => tokio::time::sleep(due.since(now).min(SLEEP_MAX)).await,
                Next::Never => return Ok(()),
            }
        }
    }

    async fn take_up(&self, hub: &TaskHub, key: &str) -> Answer<Option<Record>> {
        let Some(left) = read(hub, key).await? else {
            return Ok(None);
        };
        let record = left.taken_up(hub.limits().kills_max);
        if record.progress != left.progress {
            tracing::error!(
                function = self.name,
                ends = left.cut_off + 1,
                "the host ended each time while this timer function ran for one occurrence, which is given up: kills_max"
            );
            write(hub, key, record).await?;
        }
        Ok(Some(record))
    }

    /// Records the occurrence, runs the function, records that it ended.
    async fn occur(&self, hub: &TaskHub, key: &str, info: TimerInfo, cut_off: u32) -> Answer<Record> {
        let begun = Record {
            cut_off,
            ..Record::new(info.scheduled, Progress::Running)
        };
        write(hub, key, begun).await?;
        if let Err(error) = (self.function)(info).await {
            tracing::error!(function = self.name, %error, "timer function failed");
        }
        write(hub, key, Record::new(info.scheduled, Progress::Done)).await
    }
}

/// One run of a timer function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The occurrence it is for.
    pub scheduled: Timestamp,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; it runs until then.
    pub ended: Option<Timestamp>,
    /// Somebody asked for it.
    pub is_by_hand: bool,
    /// What the function returned when it failed.
    pub failure: Option<String>,
}

/// A timer trigger and its last run since this host started.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// The trigger.
    pub trigger: TimerTrigger,
    last: Arc<Mutex<Option<Run>>>,
}

impl Scheduled {
    /// The last run.
    pub fn last(&self) -> Option<Run> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begin(&self, scheduled: Timestamp, started: Timestamp, is_by_hand: bool) {
        let run = Run {
            scheduled,
            started,
            ended: None,
            is_by_hand,
            failure: None,
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(run);
    }

    fn end(&self, ended: Timestamp, outcome: &Result<(), TimerError>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = last.as_mut() {
            run.ended = Some(ended);
            run.failure = outcome.as_ref().err().map(ToString::to_string);
        }
    }
}

/// What became of the wish for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunNow {
    /// It runs.
    Begun,
    /// It ran already.
    Busy,
    /// There is no such trigger.
    Unknown,
}

/// The timer triggers of a host: what they did last, and runs by hand.
#[derive(Debug, Default)]
pub struct Schedules(OnceLock<Vec<Scheduled>>);

impl Schedules {
    /// Takes the triggers, once, and gives back those that are to be run: they tell what they do.
    pub fn keep(&self, triggers: Vec<TimerTrigger>, hub: &TaskHub) -> Vec<TimerTrigger> {
        let kept: Vec<Scheduled> = triggers
            .into_iter()
            .map(|trigger| Scheduled {
                trigger,
                last: Arc::default(),
            })
            .collect();
        let told = kept.iter().map(|one| one.told(hub.clone())).collect();
        self.0.get_or_init(|| kept);
        told
    }

    /// All of them.
    pub fn all(&self) -> &[Scheduled] {
        self.0.get().map_or(&[], Vec::as_slice)
    }

    /// Runs a trigger's function beside its calendar: no occurrence is recorded, and none is left out.
    pub fn run_now(&self, name: &str, hub: &TaskHub) -> RunNow {
        let Some(one) = self.all().iter().find(|one| one.trigger.name == name) else {
            return RunNow::Unknown;
        };
        if one.last().is_some_and(|run| run.ended.is_none()) {
            return RunNow::Busy;
        }
        let (one, hub, now) = (one.clone(), hub.clone(), hub.now());
        one.begin(now, now, true);
        tokio::spawn(async move {
            let info = TimerInfo {
                scheduled: now,
                past_due: false,
            };
            let outcome = (one.trigger.function)(info).await;
            if let Err(error) = &outcome {
                tracing::error!(function = one.trigger.name, %error, "timer function failed");
            }
            one.end(hub.now(), &outcome);
        });
        RunNow::Begun
    }
}

impl Scheduled {
    fn told(&self, hub: TaskHub) -> TimerTrigger {
        let one = self.clone();
        let function: TimerFunction = Arc::new(move |info: TimerInfo| {
            let (one, hub) = (one.clone(), hub.clone());
            Box::pin(async move {
                one.begin(info.scheduled, hub.now(), false);
                let outcome = (one.trigger.function)(info).await;
                one.end(hub.now(), &outcome);
                outcome
            })
        });
        TimerTrigger {
            function,
            ..self.trigger.clone()
        }
    }
}

async fn read(hub: &TaskHub, key: &str) -> Answer<Option<Record>> {
    let data = hub.meta(key).await?;
    Ok(data.and_then(|data| serde_json::from_slice(&data).ok()))
}

async fn write(hub: &TaskHub, key: &str, record: Record) -> Answer<Record> {
    let data = serde_json::to_vec(&record).expect("a number and a word are always JSON");
    hub.set_meta(key, Some(data)).await?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::http::time::{ZoneRule, exact, parse};

    fn at(text: &str) -> Timestamp {
        parse(text, ZoneRule::Required).unwrap()
    }

    fn occurrences(text: &str, zone: &str, from: &str, count: usize, wanted: &Expect) {
        let schedule = Schedule::parse(text, Some(zone)).unwrap();
        let next = |last: &Timestamp| schedule.after(*last);
        let times = std::iter::successors(schedule.after(at(from)), next).take(count);
        wanted.assert_eq(&times.map(exact).collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn golden_times() {
        occurrences(
            "0 0 7 * * *",
            "UTC",
            "2026-02-28T07:00:00Z",
            2,
            &expect!["2026-03-01T07:00:00Z 2026-03-02T07:00:00Z"],
        );
        occurrences(
            "0 30 9 * * 1-5",
            "UTC",
            "2026-02-27T09:30:00Z",
            2,
            &expect!["2026-03-02T09:30:00Z 2026-03-03T09:30:00Z"],
        );
        occurrences(
            "*/20 * * * * *",
            "UTC",
            "2026-03-01T00:00:01.5Z",
            3,
            &expect!["2026-03-01T00:00:20Z 2026-03-01T00:00:40Z 2026-03-01T00:01:00Z"],
        );
        occurrences(
            "0 */5 * * * *",
            "UTC",
            "2026-12-31T23:56:00Z",
            2,
            &expect!["2027-01-01T00:00:00Z 2027-01-01T00:05:00Z"],
        );
        // Day and weekday must both fit: Friday the 13th.
        occurrences(
            "0 0 0 13 * FRI",
            "UTC",
            "2026-01-01T00:00:00Z",
            3,
            &expect!["2026-02-13T00:00:00Z 2026-03-13T00:00:00Z 2026-11-13T00:00:00Z"],
        );
        occurrences(
            "0 0 0 29 2 *",
            "UTC",
            "2026-01-01T00:00:00Z",
            1,
            &expect!["2028-02-29T00:00:00Z"],
        );
    }

    #[test]
    fn summer_time_in_berlin() {
        // 2026-03-29: 02:00 to 03:00 does not exist. 2026-10-25: it exists twice.
        occurrences(
            "0 30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T00:00:00Z",
            3,
            &expect!["2026-03-28T01:30:00Z 2026-03-29T01:00:00Z 2026-03-30T00:30:00Z"],
        );
        occurrences(
            "0 30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            2,
            &expect!["2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"],
        );
        occurrences(
            "0 0 7 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            1,
            &expect!["2026-03-29T05:00:00Z"],
        );
    }

    #[test]
    fn what_is_no_schedule_is_refused_by_name() {
        for (text, zone, code) in [
            ("0 7 * * *", None, "invalid_schedule"),
            ("0 0 0 7 * * *", None, "invalid_schedule"),
            ("0 0 7 *", None, "invalid_schedule"),
            ("60 * * * * *", None, "invalid_schedule"),
            ("0 0 25 * * *", None, "invalid_schedule"),
            ("a b c d e f", None, "invalid_schedule"),
            ("", None, "invalid_schedule"),
            ("0 0 0 30 2 *", None, "never_fires"),
            ("0 0 7 * * *", Some("Mars/Base"), "unknown_zone"),
        ] {
            assert_eq!(Schedule::parse(text, zone).unwrap_err().code, code, "{text}");
        }
        assert_eq!(
            Schedule::parse(&"* ".repeat(5_000), None).unwrap_err().code,
            "invalid_schedule"
        );
    }

    fn decide(record: Option<(&str, Progress)>, now: &str) -> String {
        let schedule = Schedule::parse("0 0 7 * * *", None).unwrap();
        let record = record.map(|(occurrence, progress)| Record::new(at(occurrence), progress));
        match schedule.next(record, at(now)) {
            Next::Run(info) => format!(
                "run {}{}",
                exact(info.scheduled),
                if info.past_due { " past due" } else { "" }
            ),
            Next::SleepUntil(due) => format!("sleep until {}", exact(due)),
            Next::Never => "never".into(),
        }
    }

    #[test]
    fn each_occurrence_once_and_catch_up_at_most_once() {
        use Progress::{Done, Running};
        for (record, now, wanted) in [
            // First sight: the past does not count.
            (None, "2026-03-01T08:00:00Z", "sleep until 2026-03-02T07:00:00Z"),
            (
                Some(("2026-03-01T07:00:00Z", Done)),
                "2026-03-01T07:00:00.2Z",
                "sleep until 2026-03-02T07:00:00Z",
            ),
            (
                Some(("2026-03-01T07:00:00Z", Done)),
                "2026-03-02T07:00:00.2Z",
                "run 2026-03-02T07:00:00Z",
            ),
            (
                Some(("2026-03-01T07:00:00Z", Done)),
                "2026-03-02T07:00:05Z",
                "run 2026-03-02T07:00:00Z past due",
            ),
            // Away for five days: one run, for the latest.
            (
                Some(("2026-03-01T07:00:00Z", Done)),
                "2026-03-06T06:00:00Z",
                "run 2026-03-05T07:00:00Z past due",
            ),
            (
                Some(("2026-03-05T07:00:00Z", Done)),
                "2026-03-06T06:00:00Z",
                "sleep until 2026-03-06T07:00:00Z",
            ),
            // The latest is punctual, but others were missed.
            (
                Some(("2026-03-01T07:00:00Z", Done)),
                "2026-03-06T07:00:00Z",
                "run 2026-03-06T07:00:00Z past due",
            ),
            // Cut off by a crash: the same occurrence again, then the missed ones, once.
            (
                Some(("2026-03-01T07:00:00Z", Running)),
                "2026-03-01T07:00:01Z",
                "run 2026-03-01T07:00:00Z past due",
            ),
            (
                Some(("2026-03-01T07:00:00Z", Running)),
                "2026-03-09T00:00:00Z",
                "run 2026-03-01T07:00:00Z past due",
            ),
            // The clock was set back.
            (
                Some(("2026-03-05T07:00:00Z", Done)),
                "2026-03-01T00:00:00Z",
                "sleep until 2026-03-06T07:00:00Z",
            ),
        ] {
            assert_eq!(decide(record, now), wanted, "{record:?} at {now}");
        }
    }

    #[test]
    fn an_occurrence_that_ends_the_host_each_time_is_given_up() {
        let mut record = Record::new(at("2026-03-01T07:00:00Z"), Progress::Running);
        let mut starts = 0;
        while record.progress == Progress::Running {
            record = record.taken_up(10);
            starts += 1;
        }
        assert_eq!(starts, 10);
        assert_eq!(record, Record::new(at("2026-03-01T07:00:00Z"), Progress::Done));
    }

    #[test]
    fn records_are_read_back() {
        let record = Record::new(at("2026-03-01T07:00:00Z"), Progress::Running);
        let text = serde_json::to_string(&record).unwrap();
        expect![[r#"{"occurrence":1772348400000000,"progress":"running"}"#]].assert_eq(&text);
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
