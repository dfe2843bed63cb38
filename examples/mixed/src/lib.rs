//! **Mixed languages.** A Rust host with workers in Python and JavaScript, in one hub.
//!
//! What is registered here runs in this process. Every other name waits for a worker that offers
//! it: `print_label` and the entity `ledger` are Python, `CheckFraud` and `TrackParcel` JavaScript.
//! The workers are in `tests/sdks/mixed`.

use dalsegno::{
    ActivityContext, App, EntityId, Error, OrchestrationContext, Result, activity, entity, orchestrator,
};
use serde::{Deserialize, Serialize};

/// What the three languages give each other: JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Names the order, and its entry in the ledger.
    pub id: String,
    /// What is bought.
    pub item: String,
}

/// The price in cents; what is not sold here is a failure that no retry mends.
#[activity(name = "Price")]
pub async fn price(item: String) -> Result<u64> {
    match item.as_str() {
        "tea" => Ok(450),
        "cup" => Ok(1250),
        _ => Err(Error::with_kind("UnknownItem", format!("{item:?} is not sold here")).permanent()),
    }
}

/// The `traceparent` that reached this activity.
#[activity(name = "TraceInRust")]
pub async fn trace_in_rust(ctx: ActivityContext, _input: ()) -> Option<String> {
    ctx.trace_context().map(|trace| trace.trace_parent().to_owned())
}

/// Ships an order: the label is printed in Python, the parcel tracked in JavaScript.
#[orchestrator(name = "Ship")]
pub async fn ship(ctx: &OrchestrationContext, order: Order) -> Result<Vec<String>> {
    let label: String = ctx.call_named("print_label", &order).await?;
    let tracked: String = ctx.call_named("TrackParcel", &label).await?;
    Ok(vec![label, tracked])
}

/// What a failure in another language looks like here.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The class of the exception.
    pub kind: String,
    /// Its message.
    pub message: String,
    /// Where it was thrown.
    pub stack: Option<String>,
}

/// Asks JavaScript whether the order is honest, and books it with an entity in Python if so.
#[orchestrator(name = "Book")]
pub async fn book(ctx: &OrchestrationContext, order: Order) -> Result<std::result::Result<i64, Refusal>> {
    if let Err(error) = ctx.call_named::<()>("CheckFraud", &order).await {
        let failure = error.failure();
        return Ok(Err(Refusal {
            kind: failure.kind.clone(),
            message: failure.message.clone(),
            stack: failure.stack.clone(),
        }));
    }
    let ledger = EntityId::new("ledger", &order.id).map_err(|error| Error::msg(error.to_string()))?;
    let cents = ctx.call(price, order.item).await?;
    Ok(Ok(ctx.call_entity_named(ledger, "add", cents).await?))
}

/// How much of an item is there.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Stock {
    level: i64,
}

#[entity]
impl Stock {
    /// A delivery came in; gives the new level.
    pub fn add(&mut self, count: i64) -> i64 {
        self.level += count;
        self.level
    }

    /// Takes some out; gives what is left.
    pub fn take(&mut self, count: i64) -> Result<i64> {
        if count > self.level {
            let message = format!("{count} wanted, {} left", self.level);
            return Err(Error::with_kind("OutOfStock", message));
        }
        self.level -= count;
        Ok(self.level)
    }
}

/// The Rust part of the app.
pub fn app() -> App {
    App::new()
        .register(ship)
        .register(book)
        .register(price)
        .register(trace_in_rust)
        .entity::<Stock>()
}
