//! Large values: kept apart from rows and histories, and gone with their owner.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dalsegno::{
    App, Client, Error, ExternalEvent, InstanceQuery, NewId, OrchestrationContext, Result, Status, activity,
    entity, orchestrator,
};
use dalsegno_core::limits::Limits;
use dalsegno_core::query::{EntityPage, EntityQuery, InstancePage, LargeValues};
use dalsegno_core::store::{
    Commit, CommitError, EntityRow, HistoryChunk, HubLoaded, InstanceRow, Loaded, Lsn, Owner, PayloadDigest,
    ReadError, Store,
};
use dalsegno_core::{EntityId, ExecutionKey, InstanceId, PartitionId, Payload};
use dalsegno_engine::{HubOptions, TaskHub};
use dalsegno_store_embedded::{EmbeddedStore, Options, verify};
use serde::{Deserialize, Serialize};

use super::{SOON, until};

const GO: ExternalEvent<String> = ExternalEvent::new("Go");
const LARGE: usize = 10_000_000;

fn large(letter: &str) -> String {
    letter.repeat(LARGE)
}

#[activity]
async fn grow(letter: String) -> String {
    letter.repeat(LARGE)
}

#[activity]
async fn length_of(text: String) -> usize {
    text.len()
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Archive {
    text: String,
    puts: u32,
}

#[entity]
impl Archive {
    fn put(&mut self, text: String) -> u32 {
        self.text = text;
        self.puts += 1;
        self.puts
    }

    fn length(&self) -> usize {
        self.text.len()
    }
}

/// Every kind of value is large once.
#[orchestrator]
async fn bulky(ctx: &OrchestrationContext, input: String) -> Result<String> {
    ctx.set_custom_status(&input);
    let grown = ctx.call(grow, "b".into()).await?;
    ctx.entity::<Archive>("a").put(grown.clone()).await?;
    let raised = ctx.wait_for_event(GO).await?;
    ctx.set_custom_status("short");
    let sum = ctx.call(length_of, raised.clone()).await? + grown.len() + input.len();
    match raised.starts_with('!') {
        true => Err(Error::with_kind("Asked", "to fail")),
        false => Ok(format!("{sum}{raised}")),
    }
}

/// Goes on as itself with a value twice as long, until it is long enough.
#[orchestrator]
async fn doubling(ctx: &OrchestrationContext, text: String) -> Result<String> {
    if text.len() >= 400_000 {
        return Ok(text);
    }
    let twice = format!("{text}{text}");
    ctx.set_custom_status(&twice);
    ctx.continue_as_new(doubling, twice).await
}

/// Fails as often as asked, in an activity with a large input, behind one with a large result.
#[orchestrator]
async fn stumbling(ctx: &OrchestrationContext, input: String) -> Result<usize> {
    let grown = ctx.call(grow, "g".into()).await?;
    let failed: usize = ctx.call(refuse_once, input).await?;
    Ok(grown.len() + failed)
}

#[activity(retry = dalsegno::RetryPolicy::NONE)]
async fn refuse_once(ctx: dalsegno::ActivityContext, input: String) -> Result<usize> {
    match ctx.data::<Arc<AtomicU64>>().fetch_add(1, Ordering::SeqCst) {
        0 => Err(Error::with_kind("Once", "not yet")),
        _ => Ok(input.len()),
    }
}

/// A store that counts what is read out of it of values stored apart.
#[derive(Debug)]
struct Counting {
    store: EmbeddedStore,
    bytes: AtomicU64,
}

impl Store for Counting {
    fn append(&self, batch: &mut Vec<Commit>) -> Result<Lsn, CommitError> {
        self.store.append(batch)
    }

    fn load_hub(&self) -> Result<HubLoaded, ReadError> {
        self.store.load_hub()
    }

    fn load(&self, partition: PartitionId) -> Result<Loaded, ReadError> {
        self.store.load(partition)
    }

    fn payload(&self, owner: &Owner, n: u64) -> Result<Option<Payload>, ReadError> {
        let value = self.store.payload(owner, n)?;
        let bytes = value.as_ref().map_or(0, Payload::len_bytes) as u64;
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        Ok(value)
    }

    fn payload_digest(&self, owner: &Owner, n: u64) -> Result<Option<PayloadDigest>, ReadError> {
        self.store.payload_digest(owner, n)
    }

    fn instance(&self, id: &InstanceId) -> Result<Option<InstanceRow>, ReadError> {
        let row = self.store.instance(id)?;
        row.iter().for_each(assert_small);
        Ok(row)
    }

    fn instance_by_key(&self, key: ExecutionKey) -> Result<Option<InstanceRow>, ReadError> {
        self.store.instance_by_key(key)
    }

    fn history(&self, key: ExecutionKey) -> Result<Vec<HistoryChunk>, ReadError> {
        let chunks = self.store.history(key)?;
        let bytes: usize = chunks.iter().map(|chunk| chunk.data.len()).sum();
        assert!(bytes < 100_000, "a history has {bytes} bytes");
        Ok(chunks)
    }

    fn entity(&self, id: &EntityId) -> Result<Option<EntityRow>, ReadError> {
        self.store.entity(id)
    }

    fn list(&self, query: &InstanceQuery) -> Result<InstancePage, ReadError> {
        let page = self.store.list(query)?;
        page.rows.iter().for_each(assert_small);
        Ok(page)
    }

    fn list_entities(&self, query: &EntityQuery) -> Result<EntityPage, ReadError> {
        self.store.list_entities(query)
    }

    fn checkpoint(&self) -> Result<Lsn, ReadError> {
        self.store.checkpoint()
    }

    fn unapplied_bytes(&self) -> u64 {
        self.store.unapplied_bytes()
    }

    fn close(&self) {
        self.store.close();
    }
}

fn assert_small(row: &InstanceRow) {
    let values = [&row.input, &row.custom_status, &row.output];
    let bytes: usize = values.into_iter().flatten().map(Payload::len_bytes).sum();
    assert!(bytes < 200_000, "a row has {bytes} bytes");
}

/// A hub whose checkpoints come when somebody lists, and its store.
fn open(folder: &Path) -> (TaskHub, Arc<Counting>) {
    let options = Options {
        checkpoint_interval: Duration::from_secs(3600),
        checkpoint_bytes: u64::MAX,
        ..Options::default()
    };
    let store = Arc::new(Counting {
        store: EmbeddedStore::open(folder, options).unwrap(),
        bytes: AtomicU64::new(0),
    });
    let app = App::new()
        .register(bulky)
        .register(doubling)
        .register(stumbling)
        .register(grow)
        .register(length_of)
        .register(refuse_once)
        .entity::<Archive>()
        .data(Arc::new(AtomicU64::new(0)));
    let options = HubOptions {
        limits: Limits {
            payload_bytes_max: 64_000_000,
            ..Limits::default()
        },
        ..HubOptions::default()
    };
    let registry = Arc::new(app.into_registry().unwrap());
    let hub = TaskHub::open(store.clone(), registry, options).unwrap();
    (hub, store)
}

/// What a crash at this moment leaves.
fn crash(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "lock" {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn values_of(hub_events: &[dalsegno_core::Event]) -> usize {
    let values = hub_events.iter().filter_map(|event| event.kind.value());
    values.map(Payload::len_bytes).sum()
}

async fn park(client: &Client) -> dalsegno::Instance<String> {
    let instance = client.start(bulky, large("a")).id("bulky").await.unwrap();
    let entity = client.entity::<Archive>("a").unwrap();
    super::eventually(async || {
        entity
            .state()
            .await
            .unwrap()
            .is_some_and(|archive| archive.puts == 1)
    })
    .await;
    instance
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_survive_a_crash_before_the_checkpoint_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, store) = open(folder.path());
    park(&Client::in_process(hub.clone())).await;
    // Everything is in the log only.
    let crashed = crash(folder.path());
    hub.shutdown(Duration::ZERO).await;
    drop((hub, store));

    for round in 0..2 {
        let (hub, store) = open(crashed.path());
        let client = Client::in_process(hub.clone());
        let instance = client.instance(bulky, "bulky").unwrap();
        let status = instance.status().await.unwrap();
        assert_eq!(status.row.status, Status::Running);
        let shown: String = instance.custom_status().await.unwrap().unwrap();
        assert!(shown == large("a"), "the custom status is whole in round {round}");
        hub.shutdown(Duration::ZERO).await;
        drop((instance, client, hub, store));
        let report = verify::verify(crashed.path()).unwrap();
        assert!(report.is_sound(), "{report}");
        // Input, custom status, the activity's result, which is the entity's input too; its state.
        assert_eq!(report.payloads, 4);
    }

    let (hub, store) = open(crashed.path());
    let client = Client::in_process(hub.clone());
    let instance = client.instance(bulky, "bulky").unwrap();
    instance.raise_event(GO, large("c")).await.unwrap();
    let output = instance.wait_for(SOON).await.unwrap();
    assert!(
        output == format!("{}{}", 3 * LARGE, large("c")),
        "the output is whole"
    );
    let row = instance.status().await.unwrap().row;
    assert_eq!(row.input.unwrap().len_bytes(), LARGE + 2);
    assert_eq!(row.custom_status, Some("\"short\"".into()));
    // Input; result and input of two activities, one of them small; entity's input; event; output.
    let history = instance.history().await.unwrap();
    assert!(values_of(&history) > 6 * LARGE, "all values are there");
    let length = client.entity::<Archive>("a").unwrap().state().await.unwrap();
    assert_eq!(length.unwrap().text.len(), LARGE);

    let again = instance.restart(NewId::Generated).await.unwrap();
    again.wait_for_start(SOON).await.unwrap();
    again.raise_event(GO, "!".into()).await.unwrap();
    assert!(again.wait_for(SOON).await.is_err());
    assert_eq!(
        again.status().await.unwrap().row.input.unwrap().len_bytes(),
        LARGE + 2
    );

    again.purge().await.unwrap();
    instance.purge().await.unwrap();
    let archive = EntityId::new("archive", "a").unwrap();
    assert!(client.delete_entity(&archive).await.unwrap());
    hub.shutdown(Duration::ZERO).await;
    drop((instance, again, client, hub, store));
    let report = verify::verify(crashed.path()).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!(
        (report.instances, report.events, report.payloads),
        (0, 0, 0),
        "nothing stays behind"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_bare_histories_read_no_large_value() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, store) = open(folder.path());
    park(&Client::in_process(hub.clone())).await;
    hub.shutdown(Duration::ZERO).await;
    drop((hub, store));

    let (hub, store) = open(folder.path());
    let bytes = || store.bytes.swap(0, Ordering::SeqCst);
    bytes();
    let query = |large| InstanceQuery {
        large,
        ..InstanceQuery::default()
    };
    let rows = hub.list(query(LargeValues::LeaveOut)).await.unwrap().rows;
    assert!(rows[0].input.is_none() && rows[0].custom_status.is_none());
    let id = rows[0].id.clone();
    let history = hub.history_with(&id, LargeValues::LeaveOut).await.unwrap();
    assert!(history.len() > 5 && values_of(&history) < 1_000);
    let entities = |large| EntityQuery {
        large,
        ..EntityQuery::default()
    };
    let found = hub.list_entities(entities(LargeValues::LeaveOut)).await.unwrap();
    assert!(found.rows[0].state.is_none());
    assert_eq!(bytes(), 0, "nothing large was read");

    let value = LARGE as u64 + 2;
    hub.list(query(LargeValues::LeaveOutInputs)).await.unwrap();
    assert_eq!(bytes(), value, "the custom status");
    hub.list(query(LargeValues::Read)).await.unwrap();
    assert_eq!(bytes(), 2 * value);
    hub.list_entities(entities(LargeValues::Read)).await.unwrap();
    assert_eq!(bytes() / value, 1);
    hub.history(&id).await.unwrap();
    assert_eq!(bytes() / value, 3, "each value of the history once");
    hub.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rewinding_and_going_on_as_new_leave_no_value_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, store) = open(folder.path());
    let client = Client::in_process(hub.clone());
    let doubled = client.start(doubling, "x".repeat(40_000)).await.unwrap();
    assert_eq!(doubled.wait_for(SOON).await.unwrap().len(), 640_000);
    let stumbled = client.start(stumbling, large("s")).await.unwrap();
    assert!(stumbled.wait_for(SOON).await.is_err());
    stumbled.rewind("").await.unwrap();
    assert_eq!(stumbled.wait_for(SOON).await.unwrap(), 2 * LARGE);
    let status = until(&stumbled, |status| status.row.status == Status::Completed).await;
    assert_eq!(status.row.input.unwrap().len_bytes(), LARGE + 2);
    hub.shutdown(Duration::ZERO).await;
    drop((doubled, stumbled, client, hub, store));
    let report = verify::verify(folder.path()).unwrap();
    assert!(report.is_sound(), "{report}");
    // Input, custom status and output of the last execution of one; input, which is the activity's
    // too, and result of the other.
    assert_eq!(report.payloads, 3 + 2);
}
