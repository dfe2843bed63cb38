//! What orchestrators log and panic, over evictions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dalsegno::testing::TestHub;
use dalsegno::{App, FaultKind, OrchestrationContext, Result, SECOND, orchestrator};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Counts the events that reach it.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Subscriber for Counting {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() == "orchestrator" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[orchestrator]
async fn talkative(ctx: &OrchestrationContext) -> Result<u32> {
    for round in 0..5 {
        tracing::info!(target: "orchestrator", round, "begins");
        ctx.timer(SECOND).await;
        tracing::info!(target: "orchestrator", round, "ends");
    }
    Ok(5)
}

#[test]
fn ten_lines_stay_ten_lines_over_evictions_and_crashes() {
    let lines = Counting::default();
    tracing::subscriber::with_default(lines.clone(), || {
        TestHub::explore(
            || App::new().register(talkative),
            0..3,
            |hub| {
                let before = lines.0.load(Ordering::Relaxed);
                let instance = hub.start(talkative, ());
                for _ in 0..3 {
                    hub.advance(SECOND);
                    hub.crash();
                }
                hub.run();
                assert_eq!(instance.output().unwrap(), 5);
                assert_eq!(lines.0.load(Ordering::Relaxed) - before, 10);
            },
        );
    });
}

#[orchestrator]
async fn hasty(ctx: &OrchestrationContext) -> Result<()> {
    ctx.timer(SECOND).await;
    panic!("no way on");
}

#[test]
fn a_panic_tells_its_line_and_stays_out_of_the_panic_hook() {
    // A hook that the test sets first stands behind ours; nothing may reach it.
    let reached = Arc::new(AtomicUsize::new(0));
    let counter = reached.clone();
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() == Some(&"no way on") {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        previous(info);
    }));
    let hub = TestHub::new(App::new().register(hasty));
    let instance = hub.start(hasty, ());
    hub.run();
    let fault = instance.parked().expect("it panicked");
    assert_eq!(fault.kind, FaultKind::Panicked);
    assert!(fault.message.contains("no way on"), "{}", fault.message);
    // Where another test has installed the hook before, ours is the inner one and the place is lost.
    if reached.load(Ordering::Relaxed) == 0 {
        assert!(fault.message.contains("logging.rs:"), "{}", fault.message);
    }
}
