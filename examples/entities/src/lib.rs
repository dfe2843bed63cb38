//! **Entities.** Small pieces of state with a name and a key; each does one operation at a time.
//!
//! - [`Counter`]: the smallest one.
//! - [`Aggregator`]: many senders, one state. A device's readings become its statistics, and what is
//!   out of the ordinary goes on to another entity.
//! - [`Account`]: a transfer between two accounts is all or nothing, because it locks both.

mod account;
mod aggregator;
mod counter;

use dalsegno::App;

pub use account::{Account, AccountProxy, OVERDRAWN, Transfer, transfer};
pub use aggregator::{Aggregator, AggregatorProxy, Alarms, AlarmsProxy, Statistics};
pub use counter::{Counter, CounterProxy, count_up};

/// The app: all of them.
pub fn app() -> App {
    App::new()
        .entity::<Counter>()
        .entity::<Aggregator>()
        .entity::<Alarms>()
        .entity::<Account>()
        .register(count_up)
        .register(transfer)
}
