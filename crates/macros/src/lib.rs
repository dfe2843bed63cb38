//! The attributes of dalsegno: each turns a function into one that returns its definition.
//!
//! An expansion is what a user could have written by hand, and on an error the item is still emitted,
//! so that one mistake gives one message.

mod arguments;
mod entity;
mod function;
mod lint;
mod signature;
mod trigger;

use proc_macro::TokenStream;
use quote::quote;

/// Turns an `async fn` into a function that returns an `Orchestrator`.
///
/// ```ignore
/// #[orchestrator(version = "2")]
/// async fn process(ctx: &OrchestrationContext, order: Order) -> Result<Receipt> { .. }
/// // becomes
/// fn process() -> Orchestrator<Order, Receipt> {
///     async fn __body(ctx: &OrchestrationContext, order: Order) -> Result<Receipt> { .. }
///     Orchestrator::new("process", |ctx, input| Box::pin(async move {
///         __body(ctx, input).await.map_err(Error::from)
///     }))
///     .version("2")
/// }
/// ```
///
/// `name = ".."` gives another name, `unchecked` leaves out the check for things that are not
/// deterministic; any other `key = value` becomes `.key(value)`.
#[proc_macro_attribute]
pub fn orchestrator(arguments: TokenStream, item: TokenStream) -> TokenStream {
    emit(
        item.clone(),
        function::orchestrator(arguments.into(), item.into()),
    )
}

/// Turns an `async fn` into a function that returns an `Activity`.
///
/// The context is optional, the input too; the function may return a `Result` or a plain value.
/// `name = ".."` gives another name; any other `key = value` becomes `.key(value)`.
#[proc_macro_attribute]
pub fn activity(arguments: TokenStream, item: TokenStream) -> TokenStream {
    emit(item.clone(), function::activity(arguments.into(), item.into()))
}

/// Makes the methods of an `impl` block the operations of an entity, and a proxy for those who call them.
///
/// The state is the type itself: `Serialize + Deserialize + Default`. Methods take `&self` or
/// `&mut self`, then optionally `&EntityContext`, then at most one input. Functions without `self`
/// are left alone. `name = ".."` gives another name than the type's.
#[proc_macro_attribute]
pub fn entity(arguments: TokenStream, item: TokenStream) -> TokenStream {
    emit(item.clone(), entity::entity(arguments.into(), item.into()))
}

/// Turns an axum handler into a function that returns an `HttpTrigger`. `Client` is an extractor.
///
/// `route = "orders/{id}"`, `methods = ["POST"]`, `auth = function | anonymous | admin`, `name = ".."`.
#[proc_macro_attribute]
pub fn http_trigger(arguments: TokenStream, item: TokenStream) -> TokenStream {
    emit(item.clone(), trigger::http_trigger(arguments.into(), item.into()))
}

/// Turns an `async fn` into a function that returns a `TimerTrigger`.
///
/// The first argument is a six-field NCRONTAB schedule, checked here; then `time_zone = ".."`,
/// `run_on_startup`, `name = ".."`. The function takes `Client`, `TimerInfo`, both or none.
#[proc_macro_attribute]
pub fn timer_trigger(arguments: TokenStream, item: TokenStream) -> TokenStream {
    emit(
        item.clone(),
        trigger::timer_trigger(arguments.into(), item.into()),
    )
}

/// The expansion; or what was written, and why it is wrong.
fn emit(item: TokenStream, expanded: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    match expanded {
        Ok(tokens) => tokens.into(),
        Err(error) => {
            let (item, error) = (proc_macro2::TokenStream::from(item), error.to_compile_error());
            quote!(#item #error).into()
        }
    }
}
