//! Orchestrators, activities and timer triggers.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dalsegno::{
    ActivityContext, Client, Error, Limiter, OrchestrationContext, Result, RetryPolicy, SECOND, TimerInfo,
    activity, join_all, orchestrator, timer_trigger, try_join_all,
};
use serde::{Deserialize, Serialize};

use crate::{APPROVED, Counter, Till};

/// One question at a time.
pub(crate) const CATALOGUE: Limiter = Limiter::new("catalogue")
    .concurrency(1)
    .rate(60, Duration::from_secs(60));

/// The number of the order whose picking never works.
const JINXED: u32 = 3001;

/// What somebody wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    sku: String,
    qty: u32,
    number: u32,
}

impl Order {
    /// An order.
    pub fn of(sku: &str, qty: u32, number: u32) -> Self {
        Self {
            sku: sku.into(),
            qty,
            number,
        }
    }
}

/// What is set aside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reservation {
    reservation: String,
    number: u32,
}

/// Reserves, charges, asks, counts, picks.
#[orchestrator(name = "ProcessOrder", version = "1.4.0")]
pub async fn process_order(ctx: &OrchestrationContext, order: Order) -> Result<String> {
    let reservation = ctx.call(reserve_stock, order.clone()).await?;
    ctx.set_custom_status("reserved");
    ctx.call(charge_card, 4900).await?;
    ctx.timer(SECOND / 2).await;
    let by = ctx.wait_for_event(APPROVED).await?;
    ctx.set_custom_status(format!("approved by {by}"));
    ctx.entity::<Counter>("orders").add(i64::from(order.qty)).signal();
    ctx.call(warehouse_pick, reservation).await?;
    Ok(format!("{} × {} is on its way", order.qty, order.sku))
}

/// Sets it aside.
#[activity]
pub(crate) async fn reserve_stock(order: Order) -> Reservation {
    tokio::time::sleep(Duration::from_millis(120)).await;
    Reservation {
        reservation: format!("r-{}", order.number),
        number: order.number,
    }
}

/// Takes the money; the bank is slow to wake up.
#[activity(retry = RetryPolicy::fixed(5, SECOND / 4))]
pub async fn charge_card(ctx: ActivityContext, amount: u32) -> Result<String> {
    tokio::time::sleep(Duration::from_millis(60)).await;
    match ctx.attempt() {
        1 | 2 => Err(Error::msg("bank does not answer")),
        _ => Ok(format!("ch_{amount}")),
    }
}

/// What the warehouse answers when it does not.
#[derive(Debug)]
struct WarehouseError(HttpError);

/// What its server said.
#[derive(Debug)]
struct HttpError(u16);

impl fmt::Display for WarehouseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("warehouse API returned 500 Internal Server Error")
    }
}

impl std::error::Error for WarehouseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {} for url http://wms.local/pick", self.0)
    }
}

impl std::error::Error for HttpError {}

/// Picks it from the shelf.
#[activity(retry = RetryPolicy::exponential(10, SECOND))]
pub(crate) async fn warehouse_pick(reservation: Reservation) -> Result<String> {
    match reservation.number {
        JINXED => Err(WarehouseError(HttpError(500)).into()),
        number => Ok(format!("box {number}")),
    }
}

/// Waits until somebody decides.
#[orchestrator(name = "AskForApproval")]
pub async fn ask_for_approval(ctx: &OrchestrationContext, what: String) -> Result<String> {
    ctx.set_custom_status(format!("{what} is to be approved"));
    let by = ctx.wait_for_event(APPROVED).await?;
    Ok(format!("{what}, approved by {by}"))
}

/// Fails, until it is rewound.
#[orchestrator(name = "Refund")]
pub async fn refund(ctx: &OrchestrationContext, cents: u32) -> Result<String> {
    Ok(ctx.call(pay_back, (ctx.instance_id().to_string(), cents)).await?)
}

/// Does not work the first time that an instance asks.
#[activity]
pub async fn pay_back((instance, cents): (String, u32)) -> Result<String> {
    static ASKED: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let is_first = {
        let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get_or_insert_default().insert(instance)
    };
    match is_first {
        true => Err(WarehouseError(HttpError(503)).into()),
        false => Ok(format!("{cents} cents are back")),
    }
}

/// Books a hall in each city and plays there.
#[orchestrator(name = "Tour")]
pub async fn tour(ctx: &OrchestrationContext, cities: u32) -> Result<u32> {
    let halls = (0..cities).map(|number| {
        ctx.call(
            book_hall,
            Stop {
                city: format!("city {number}"),
                seats: 100,
            },
        )
    });
    let seats: Vec<u32> = try_join_all(halls).await?;
    let first = ctx.call(city, "Paris".to_owned()).await?;
    Ok(seats.iter().sum::<u32>() + first)
}

/// A stop of a tour.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stop {
    city: String,
    seats: u32,
}

/// Finds a hall.
#[activity]
pub(crate) async fn book_hall(stop: Stop) -> u32 {
    tokio::time::sleep(Duration::from_millis(u64::from(stop.seats) / 2)).await;
    stop.seats
}

/// One evening.
#[orchestrator(name = "City")]
pub async fn city(ctx: &OrchestrationContext, name: String) -> Result<u32> {
    let seats = ctx
        .call(
            book_hall,
            Stop {
                city: name,
                seats: 300,
            },
        )
        .await?;
    ctx.timer(SECOND / 4).await;
    Ok(seats)
}

/// Asks the catalogue about each thing on a shelf.
#[orchestrator(name = "StockTaking")]
pub async fn stock_taking(ctx: &OrchestrationContext, shelf: u32) -> Result<usize> {
    let things = (0..6).map(|number| ctx.call(look_up, format!("shelf {shelf}, thing {number}")));
    Ok(join_all(things)
        .await
        .into_iter()
        .filter(|found| found.is_ok())
        .count())
}

/// Asks the catalogue, which takes its time.
#[activity(limiter = CATALOGUE)]
pub async fn look_up(_thing: String) -> u32 {
    tokio::time::sleep(Duration::from_secs(20)).await;
    1
}

/// Asks for more in one turn than is allowed, and is parked.
#[orchestrator(name = "OrderEverything")]
pub async fn order_everything(ctx: &OrchestrationContext, count: u32) -> Result<u32> {
    let all = (0..count).map(|number| ctx.call(count_one, number));
    Ok(join_all(all).await.into_iter().filter(|one| one.is_ok()).count() as u32)
}

/// One.
#[activity]
pub async fn count_one(number: u32) -> u32 {
    number
}

/// Has the till to itself until somebody says that it is enough.
#[orchestrator(name = "UseTill")]
pub async fn use_till(ctx: &OrchestrationContext, key: String) -> Result<u32> {
    let till = ctx.entity::<Till>(&key);
    let _locked = ctx.lock([till.id()]).await;
    let uses = till.open().await?;
    ctx.wait_for_event(APPROVED).await?;
    Ok(uses)
}

/// Sleeps for a month, and oils.
#[orchestrator(name = "Maintain")]
pub async fn maintain(ctx: &OrchestrationContext, machine: String) -> Result<String> {
    ctx.call(oil, machine.clone()).await?;
    ctx.timer(30 * 24 * 3600 * SECOND).await;
    Ok(ctx.call(oil, machine).await?)
}

/// Oils a machine.
#[activity]
pub async fn oil(machine: String) -> String {
    format!("{machine} is oiled")
}

/// Does this start run the code as somebody rewrote it?
static IS_REWRITTEN: AtomicBool = AtomicBool::new(false);

/// From now on the code of [`wrap`] is another, as after an edit.
pub fn rewrite_wrap() {
    IS_REWRITTEN.store(true, Ordering::Relaxed);
}

/// Wraps it and waits for a yes. With its code rewritten it takes foil, which no history of the old code records.
#[orchestrator(name = "Wrap")]
pub async fn wrap(ctx: &OrchestrationContext, what: String) -> Result<String> {
    let wrapped = match IS_REWRITTEN.load(Ordering::Relaxed) {
        false => ctx.call(wrap_in_paper, what).await?,
        true => ctx.call(wrap_in_foil, what).await?,
    };
    let by = ctx.wait_for_event(APPROVED).await?;
    Ok(format!("{wrapped}, approved by {by}"))
}

/// As it was always done.
#[activity]
pub async fn wrap_in_paper(what: String) -> String {
    format!("{what} in paper")
}

/// As somebody likes it better.
#[activity]
pub async fn wrap_in_foil(what: String) -> String {
    format!("{what} in foil")
}

/// Has a history of any length: calls in rows of a hundred.
#[orchestrator(name = "Bench")]
pub async fn bench(ctx: &OrchestrationContext, calls: u32) -> Result<u32> {
    let mut done = 0;
    while done < calls {
        let some = (done..calls.min(done + 100)).map(|number| ctx.call(count_one, number));
        done += try_join_all(some).await?.len() as u32;
    }
    Ok(done)
}

/// Is done at once.
#[orchestrator(name = "Idle")]
pub async fn idle(_ctx: &OrchestrationContext, number: usize) -> Result<usize> {
    Ok(number)
}

/// Fails with what it is told.
#[orchestrator(name = "FailWith")]
pub async fn fail_with(_ctx: &OrchestrationContext, message: String) -> Result<()> {
    Err(Error::with_kind(message.clone(), message))
}

/// Runs at a worker of its own.
#[orchestrator(name = "ShipByDrone")]
pub async fn ship_by_drone(_ctx: &OrchestrationContext, what: String) -> Result<String> {
    Ok(format!("{what} flies"))
}

/// Has a name cut into a harp, which the drone's own program does.
#[orchestrator(name = "Engrave")]
pub async fn engrave(ctx: &OrchestrationContext, text: String) -> Result<String> {
    Ok(ctx.call_named("cut_letters", text).await?)
}

/// Cuts.
#[activity]
pub async fn cut_letters(text: String) -> String {
    format!("{text} is cut")
}

/// Tunes a harp, which works the second time: after an hour, unless somebody is in a hurry.
#[orchestrator(name = "Tune")]
pub async fn tune(ctx: &OrchestrationContext, harp: String) -> Result<String> {
    Ok(ctx.call(tighten, harp).await?)
}

/// Tightens the strings.
#[activity(retry = RetryPolicy::fixed(3, Duration::from_secs(3_600)))]
pub(crate) async fn tighten(ctx: ActivityContext, harp: String) -> Result<String> {
    match ctx.attempt() {
        1 => Err(Error::msg("a string broke")),
        _ => Ok(format!("{harp} is in tune")),
    }
}

/// Is played when somebody says so.
#[orchestrator(name = "Concert")]
pub async fn concert(ctx: &OrchestrationContext, piece: String) -> Result<String> {
    Ok(ctx.call(ask_for_approval, piece).await?)
}

/// Every night.
#[timer_trigger("0 30 2 * * *", time_zone = "Europe/Berlin")]
pub async fn nightly_report(client: Client, info: TimerInfo) -> Result<()> {
    let id = format!("report-{}", info.scheduled.as_micros());
    client
        .start(maintain, "reports".to_owned())
        .id(id)
        .or_existing()
        .await?;
    Ok(())
}

/// Never works.
#[timer_trigger("0 0 4 1 1 *")]
pub async fn broken_clock() -> Result<()> {
    Err(Error::msg("the clock has no hands"))
}
