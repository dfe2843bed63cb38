//! **Handling errors.** A failed activity is a `Result` like any other, so `?` and `match` do.
//!
//! - [`retry`]: the engine tries again; the orchestrator sees one call.
//! - [`catch`]: an activity that answers `{Success, Value}` instead of failing.
//! - [`compensation`]: what was done is undone, newest first.
//! - [`time_limit`]: a race against a durable timer.
//! - [`what_to_do`]: undo, retry, ignore, or ask a person, chosen when a step fails.

pub mod catch;
pub mod compensation;
pub mod retry;
pub mod time_limit;
pub mod what_to_do;
mod world;

use dalsegno::App;

pub use world::World;

/// The app: all of them, in a world where things fail.
pub fn app(world: World) -> App {
    App::new()
        .register(retry::with_retry)
        .register(retry::my_genious_function)
        .register(catch::calculate)
        .register(catch::phantastic_calculation)
        .register(compensation::book_trip)
        .register(compensation::book)
        .register(compensation::cancel)
        .register(time_limit::with_time_limit)
        .register(time_limit::do_genious_function)
        .register(what_to_do::deliver)
        .register(what_to_do::pack)
        .register(what_to_do::unpack)
        .register(what_to_do::ship)
        .data(world)
}
