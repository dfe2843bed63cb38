//! What orchestrators log and panic, over evictions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dalsegno::testing::TestHub;
use dalsegno::{
    ActivityContext, App, EntityContext, FaultKind, OrchestrationContext, Result, SECOND, activity, entity,
    orchestrator,
};
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

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

/// Keeps lines with what the spans around them say.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}").trim_matches('"').to_owned();
        self.0.insert(field.name().to_owned(), text);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Told {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != "mine" {
            return;
        }
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            fields
                .0
                .extend(span.extensions().get::<Fields>().unwrap().0.clone());
        }
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

#[activity]
async fn whisper(_ctx: ActivityContext) {
    tokio::task::yield_now().await;
    tracing::debug!(target: "mine", "in the activity");
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Parrot;

#[entity]
impl Parrot {
    fn speak(&mut self, _ctx: &EntityContext) {
        tracing::info!(target: "mine", "in the entity");
    }
}

#[orchestrator]
async fn chatter(ctx: &OrchestrationContext) -> Result<()> {
    tracing::info!(target: "mine", "in the orchestrator");
    ctx.call(whisper, ()).await?;
    ctx.entity::<Parrot>("polly").speak().await?;
    Ok(())
}

#[test]
fn lines_of_users_say_of_which_instance_and_function_they_are() {
    let told = Told::default();
    let subscriber = tracing_subscriber::registry().with(told.clone());
    tracing::subscriber::with_default(subscriber, || {
        let app = App::new().entity::<Parrot>().register(chatter).register(whisper);
        let hub = TestHub::new(app);
        hub.start(chatter, ());
        hub.run();
    });
    let told = told.0.lock().unwrap();
    let shown: Vec<String> = told
        .iter()
        .map(|fields| {
            let field = |name: &str| fields.get(name).map_or("-", String::as_str);
            let is_whole = field("execution_id").len() == 32 && !field("instance_id").starts_with('@');
            let of = if is_whole {
                "an instance"
            } else {
                field("instance_id")
            };
            format!(
                "{}: {of}, {}, {}",
                field("message"),
                field("name"),
                field("task_id")
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "in the orchestrator: an instance, chatter, -",
            "in the activity: an instance, whisper, 0",
            "in the entity: @parrot@polly, parrot, -"
        ]
    );
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
