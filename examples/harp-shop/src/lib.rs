//! **Something of everything.** A shop whose instances finish, wait, retry, fail, are parked, have
//! children, hold locks and stand in line at a limiter: what there is to see in the dashboard.
//!
//! `cargo run -p harp-shop`, then open the address it prints.

mod functions;
mod stock;

use std::time::Duration;

use dalsegno::{App, Client, ExternalEvent, HostSettings, RemoteWorkers, Result};

pub use functions::{
    ask_for_approval, bench, concert, cut_letters, engrave, fail_with, idle, maintain, order_everything,
    process_order, refund, rewrite_wrap, ship_by_drone, stock_taking, tour, tune, use_till, wrap,
};
pub use stock::{Counter, CounterProxy, Till, TillProxy};

/// Somebody decides.
pub const APPROVED: ExternalEvent<String> = ExternalEvent::new("approved");

/// Actions of one turn beyond which an instance is parked: low, so that one can be shown.
pub const TURN_ACTIONS_MAX: usize = 3_000;
/// Instances that are started at once when many are wanted.
const STARTS_AT_ONCE: usize = 500;

/// All functions of the shop but the drone's, which has a worker of its own.
pub fn app() -> App {
    App::new()
        .entity::<Counter>()
        .entity::<Till>()
        .limiter(functions::CATALOGUE)
        .register(process_order)
        .register(ask_for_approval)
        .register(refund)
        .register(tour)
        .register(functions::city)
        .register(stock_taking)
        .register(order_everything)
        .register(use_till)
        .register(maintain)
        .register(wrap)
        .register(functions::wrap_in_paper)
        .register(functions::wrap_in_foil)
        .register(bench)
        .register(idle)
        .register(fail_with)
        .register(engrave)
        .register(tune)
        .register(functions::tighten)
        .register(concert)
        .register(functions::reserve_stock)
        .register(functions::charge_card)
        .register(functions::warehouse_pick)
        .register(functions::pay_back)
        .register(functions::book_hall)
        .register(functions::look_up)
        .register(functions::oil)
        .register(functions::count_one)
        .register(functions::nightly_report)
        .register(functions::broken_clock)
}

/// What the drone's own program runs.
pub fn drone() -> App {
    App::new().register(ship_by_drone).register(cut_letters)
}

/// Settings of the host: workers may connect, and a turn may not ask for much.
pub fn settings(folder: &str) -> HostSettings {
    let mut settings = HostSettings::in_folder(folder);
    settings.remote_workers = RemoteWorkers::ThisHub;
    settings.limits.turn_actions_max = TURN_ACTIONS_MAX;
    settings.drain = Duration::ZERO;
    settings
}

/// Starts one of each.
///
/// # Errors
/// When the hub refuses one.
pub async fn open_shop(client: &Client) -> Result<()> {
    for number in 1001..=1006 {
        let order = client.start(process_order, functions::Order::of("harp", 1, number));
        let started = order.id(format!("order-{number}")).tag("team", "strings").await?;
        started.raise_event(APPROVED, "bob".to_owned()).await?;
    }
    let busy = client.start(process_order, functions::Order::of("harp", 1, 3001));
    busy.id("order-3001")
        .tag("team", "strings")
        .tag("priority", "high")
        .await?;
    client
        .start(ask_for_approval, "a grand piano".to_owned())
        .id("approval-7")
        .await?;
    client.start(refund, 4900).id("refund-2").await?;
    client.start(tour, 12).id("tour-5").await?;
    client.start(order_everything, 4_000).id("greedy-1").await?;
    client.start(use_till, "front".to_owned()).id("till-day").await?;
    client
        .start(use_till, "front".to_owned())
        .id("till-night")
        .await?;
    client
        .start(maintain, "lathe".to_owned())
        .id("maintain-3")
        .await?;
    for shelf in 1..=3 {
        client
            .start(stock_taking, shelf)
            .id(format!("stock-{shelf}"))
            .await?;
    }
    let asleep = client
        .start(ask_for_approval, "a lute".to_owned())
        .id("approval-8")
        .await?;
    asleep.suspend("until Monday").await?;
    client
        .start_named::<String>("ShipByDrone", "harp")
        .id("drone-1")
        .await?;
    Ok(())
}

/// Starts very many that are done at once.
///
/// # Errors
/// When the hub refuses one.
pub async fn fill(client: &Client, count: usize) -> Result<()> {
    for first in (0..count).step_by(STARTS_AT_ONCE) {
        let some = (first..count.min(first + STARTS_AT_ONCE)).map(|number| async move {
            let start = client.start(idle, number).id(format!("many-{number:06}"));
            start.tag("shelf", (number % 7).to_string()).await
        });
        dalsegno::try_join_all(some).await?;
    }
    Ok(())
}
