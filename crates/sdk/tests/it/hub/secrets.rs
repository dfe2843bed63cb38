//! What activities read from the app's data stays in memory.

use std::fmt::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use dalsegno::{
    ActivityContext, App, Error, HostSettings, OrchestrationContext, Result, Secret, activity, orchestrator,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const CANARY: &str = "canary-9f2c41d7-never-on-disk";

/// Told from within the activity, to show that its lines are looked at.
const LINE: &str = "signing with a token that is not said";

static IS_LINE_SEEN: AtomicBool = AtomicBool::new(false);
static IS_CANARY_SEEN: AtomicBool = AtomicBool::new(false);

/// Looks at every line and every attribute of every span, at all levels and of all threads.
struct Watching;

impl Subscriber for Watching {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        look(|fields| attributes.record(fields));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        look(|fields| values.record(fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        look(|fields| event.record(fields));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

fn look(record: impl FnOnce(&mut Fields)) {
    let mut fields = Fields::default();
    record(&mut fields);
    IS_LINE_SEEN.fetch_or(fields.0.contains(LINE), Ordering::SeqCst);
    IS_CANARY_SEEN.fetch_or(fields.0.contains(CANARY), Ordering::SeqCst);
}

#[activity]
async fn signed(ctx: ActivityContext, text: String) -> Result<usize> {
    let token = ctx.data::<Secret>();
    tracing::trace!(?token, "{LINE}");
    if text.is_empty() {
        return Err(Error::with_kind("Empty", "nothing to sign"));
    }
    Ok(text.len() + token.reveal().len())
}

#[orchestrator]
async fn signing(ctx: &OrchestrationContext) -> Result<usize> {
    assert!(ctx.call(signed, String::new()).await.is_err());
    Ok(ctx.call(signed, "order 7".to_owned()).await?)
}

/// Whether any file below the folder holds these bytes.
fn holds(folder: &Path, wanted: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, wanted),
            false => std::fs::read(&path)
                .unwrap()
                .windows(wanted.len())
                .any(|window| window == wanted.as_bytes()),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_an_activity_uses_is_in_no_file_no_answer_and_no_line_of_the_log() {
    tracing::subscriber::set_global_default(Watching).expect("no other test sets one");
    let folder = tempfile::tempdir().unwrap();
    let app = App::new()
        .register(signing)
        .register(signed)
        .data(Secret::new(CANARY));
    let host = app.start(HostSettings::in_folder(folder.path())).await.unwrap();
    let instance = host.client().start(signing, ()).await.unwrap();
    assert_eq!(
        instance.wait_for(super::SOON).await.unwrap(),
        "order 7".len() + CANARY.len()
    );
    let told = format!(
        "{:?} {:?}",
        instance.status().await.unwrap(),
        instance.history().await.unwrap()
    );
    assert!(
        told.contains("nothing to sign") && !told.contains(CANARY),
        "{told}"
    );
    drop(instance);
    host.shutdown().await;
    assert!(
        holds(folder.path(), "nothing to sign"),
        "what is stored can be found so"
    );
    assert!(!holds(folder.path(), CANARY));
    assert!(
        IS_LINE_SEEN.load(Ordering::SeqCst),
        "lines at the lowest level are looked at"
    );
    assert!(!IS_CANARY_SEEN.load(Ordering::SeqCst));
}
