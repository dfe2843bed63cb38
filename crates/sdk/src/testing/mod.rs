//! Tests of durable functions: a whole hub on one thread, under a virtual clock.
//!
//! [`TestHub`] runs the product's own turns against a store in memory. What may happen next is
//! chosen by a seed, so a test that passes for a hundred seeds has met a hundred orders of events;
//! [`TestHub::explore`] does that. [`replay_all`] holds today's code against recorded histories.
//!
//! Activities run to their end in one go, on a runtime of their own. Their timeouts, heartbeats and
//! cancellation are not simulated.
//!
//! ```
//! use dalsegno::testing::TestHub;
//! use dalsegno::{App, ExternalEvent, HOUR, OrchestrationContext, Result, orchestrator};
//!
//! const APPROVAL: ExternalEvent<String> = ExternalEvent::new("Approval");
//!
//! #[orchestrator]
//! async fn approve(ctx: &OrchestrationContext) -> Result<String> {
//!     match ctx.timeout(72 * HOUR, ctx.wait_for_event(APPROVAL)).await {
//!         Ok(approver) => Ok(format!("approved by {}", approver?)),
//!         Err(_elapsed) => Ok("escalated".into()),
//!     }
//! }
//!
//! // Three days pass in a millisecond.
//! TestHub::explore(|| App::new().register(approve), 0..20, |hub| {
//!     let forgotten = hub.start(approve, ());
//!     let approved = hub.start(approve, ());
//!     hub.advance(71 * HOUR);
//!     approved.raise_event(APPROVAL, "Ada".into()).unwrap();
//!     hub.run();
//!     assert_eq!(approved.output().unwrap(), "approved by Ada");
//!     assert_eq!(forgotten.output().unwrap(), "escalated");
//! });
//! ```

mod executor;
mod explore;
mod hub;
mod instance;
mod memory;
mod replay;
mod world;

pub use explore::Explored;
pub use hub::{TestHub, TestOperation};
pub use instance::TestInstance;
pub use replay::replay_all;
