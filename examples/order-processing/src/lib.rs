//! **Branches.** What an orchestrator does next depends on what an activity answered.
//!
//! `ProcessOrderOrchestrator` asks four activities one after the other and stops at the first "no".
//! An HTTP request starts it and is answered at once, with links to ask how far it is.
//!
//! [`order_workflow`] is the same business as a chain of types: what one function gives the next one
//! takes, and the compiler holds it to that. This does not compile, because the order was not
//! processed before it is charged:
//!
//! ```compile_fail,E0308
//! use dalsegno::{OrchestrationContext, Result, orchestrator};
//! use order_processing::{Order, PaymentResult, charge_payment};
//!
//! #[orchestrator]
//! async fn hasty(ctx: &OrchestrationContext, order: Order) -> Result<PaymentResult> {
//!     Ok(ctx.call(charge_payment, order).await?)
//! }
//! ```

mod business;

use axum::Json;
use dalsegno::{
    ActivityContext, App, CheckStatus, Client, OrchestrationContext, Result, activity, http_trigger,
    orchestrator,
};

pub use business::{Business, Order, OrderDetails, PaymentResult};

/// What a processed order comes to.
pub const PROCESSED: &str = "Order processed successfully!";
/// What any other order comes to.
pub const FAILED: &str = "Order processing failed.";

/// Validates, looks into the stock, takes the money, confirms. The first "no" ends it.
#[orchestrator(name = "ProcessOrderOrchestrator")]
pub async fn process_order(ctx: &OrchestrationContext, order: Order) -> Result<String> {
    if ctx.call(validate_order, order.clone()).await?
        && ctx.call(check_inventory, order.clone()).await?
        && ctx.call(process_payment, order.clone()).await?
    {
        ctx.call(send_confirmation_email, order).await?;
        return Ok(PROCESSED.into());
    }
    Ok(FAILED.into())
}

/// Is there an article, a quantity, and somebody to write to?
#[activity(name = "ValidateOrder")]
async fn validate_order(order: Order) -> bool {
    order.quantity > 0 && !order.article.is_empty() && order.email.contains('@')
}

/// Is enough of it in stock?
#[activity(name = "CheckInventory")]
async fn check_inventory(ctx: ActivityContext, order: Order) -> bool {
    ctx.data::<Business>().in_stock(&order.article) >= order.quantity
}

/// Takes the money. The key is the same in every attempt: a bank that sees it twice pays once.
#[activity(name = "ProcessPayment")]
async fn process_payment(ctx: ActivityContext, order: Order) -> bool {
    ctx.data::<Business>()
        .charge(&ctx.idempotency_key(), order.price_cents())
}

/// Writes to the customer.
#[activity(name = "SendConfirmationEmail")]
async fn send_confirmation_email(ctx: ActivityContext, order: Order) -> bool {
    let text = format!(
        "{}: {} x {} is on its way",
        order.email, order.quantity, order.article
    );
    ctx.data::<Business>().send(&ctx.idempotency_key(), text);
    true
}

/// Processes an order, charges it, tells the customer: each takes what the one before gave.
#[orchestrator(name = "OrderWorkflow")]
pub async fn order_workflow(ctx: &OrchestrationContext, order: Order) -> Result<PaymentResult> {
    let details = ctx.call(process, order).await?;
    let payment = ctx.call(charge_payment, details).await?;
    ctx.call(send_receipt, payment.clone()).await?;
    Ok(payment)
}

/// An order becomes details: how much, and for whom.
#[activity(name = "ProcessOrder")]
pub async fn process(order: Order) -> OrderDetails {
    OrderDetails {
        cents: order.price_cents(),
        email: order.email,
    }
}

/// Details become a payment.
#[activity(name = "ChargePayment")]
pub async fn charge_payment(ctx: ActivityContext, details: OrderDetails) -> PaymentResult {
    let paid = ctx
        .data::<Business>()
        .charge(&ctx.idempotency_key(), details.cents);
    PaymentResult {
        paid,
        cents: details.cents,
        email: details.email,
    }
}

/// A payment becomes a message.
#[activity(name = "SendReceipt")]
pub async fn send_receipt(ctx: ActivityContext, payment: PaymentResult) {
    let outcome = if payment.paid { "paid" } else { "not paid" };
    let text = format!("{}: {} cents {outcome}", payment.email, payment.cents);
    ctx.data::<Business>().send(&ctx.idempotency_key(), text);
}

/// `POST /api/orders` starts an order: 202 and the links.
#[http_trigger(route = "orders", methods = ["POST"])]
async fn start_order(client: Client, Json(order): Json<Order>) -> Result<CheckStatus> {
    let instance = client.start(process_order, order).await?;
    Ok(client.check_status(&instance))
}

/// The app: everything above, on this business.
pub fn app(business: Business) -> App {
    App::new()
        .register(process_order)
        .register(validate_order)
        .register(check_inventory)
        .register(process_payment)
        .register(send_confirmation_email)
        .register(order_workflow)
        .register(process)
        .register(charge_payment)
        .register(send_receipt)
        .register(start_order)
        .data(business)
}
