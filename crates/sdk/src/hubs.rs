//! Workers in other languages, and the hubs that they and their clients name.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use dalsegno_engine::request::{CalledHub, DEFAULT_HUB, NewHubs};
use dalsegno_grpc::executor::RemoteExecutor;
use dalsegno_grpc::service::{Hubs, OnMissing, Served, welcome};
use dalsegno_grpc::tonic::Status;
use dalsegno_grpc::workers::Workers;
use dalsegno_host::traces::TraceExporter;
use dalsegno_host::{Created, HubKeeper, HubList, HubRefusal, unknown_hub};
use futures::future::BoxFuture;
use hashbrown::HashMap;
use tokio::sync::{Mutex, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tracing::Instrument;

use crate::app::{HostSettings, open_hub, open_store};
use crate::error::Result;
use crate::registry::Registry;

/// Characters of the name of a hub that is made on demand.
const NAME_CHARS_MAX: usize = 45;

/// Hubs beside the host's own.
const HUBS_MAX: usize = 100;

/// How the folder of a hub begins that is being deleted: no hub has such a name.
const DELETED_PREFIX: &str = ".deleted.";

/// Whether programs in other languages may connect as workers and clients, over gRPC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoteWorkers {
    /// No: what this program has not registered is unknown.
    #[default]
    Refused,
    /// To this hub: what this program has not registered waits for a worker that offers it.
    ThisHub,
    /// To this hub and to any other that they name, which is made when it is first named.
    AnyHub,
}

/// The hubs of a host.
#[derive(Debug)]
pub(crate) struct Shelf {
    main: Arc<Served>,
    others: Arc<OtherHubs>,
    clock: JoinHandle<()>,
    /// The creations and deletions that are under way.
    changes: StdMutex<JoinSet<()>>,
}

/// The hubs beside the host's own, shared with the tasks that create and delete them.
#[derive(Debug)]
struct OtherHubs {
    /// The name of the host's own hub.
    own: String,
    settings: HostSettings,
    traces: Option<Arc<TraceExporter>>,
    /// Locked by each creation and deletion until it ends.
    open: Mutex<OpenHubs>,
    /// The same hubs, for those that ask over HTTP.
    list: HubList,
}

#[derive(Debug, Default)]
struct OpenHubs {
    hubs: HashMap<String, Other>,
    /// The host stops: no hub is opened any more.
    is_closed: bool,
}

/// A hub beside the host's own.
#[derive(Debug)]
struct Other {
    served: Arc<Served>,
    /// Keeps the time of its workers.
    clock: JoinHandle<()>,
}

impl Drop for Other {
    fn drop(&mut self) {
        self.clock.abort();
        self.served.hub.abandon();
    }
}

impl Shelf {
    /// Opens the host's own hub.
    pub(crate) async fn open(
        registry: &Arc<Registry>,
        settings: &HostSettings,
        traces: Option<Arc<TraceExporter>>,
    ) -> Result<Arc<Self>> {
        let main = open(registry, settings, traces.as_ref()).await?;
        let list = HubList::new(main.hub.clone());
        let others = OtherHubs {
            own: main.hub.name().to_owned(),
            settings: settings.clone(),
            traces,
            open: Mutex::default(),
            list: match settings.remote_workers {
                RemoteWorkers::AnyHub => list,
                _ => list.alias(DEFAULT_HUB),
            },
        };
        let shelf = Self {
            clock: tokio::spawn(main.workers.clone().keep_time()),
            main: Arc::new(main),
            others: Arc::new(others),
            changes: StdMutex::default(),
        };
        if settings.remote_workers == RemoteWorkers::AnyHub {
            shelf.others.open_known().await;
        }
        Ok(Arc::new(shelf))
    }

    /// The host's own hub.
    pub(crate) fn main(&self) -> &Served {
        &self.main
    }

    /// The hubs that are open.
    pub(crate) fn list(&self) -> &HubList {
        &self.others.list
    }

    /// Ends all streams of workers; what they have done counts until the hubs are closed.
    pub(crate) async fn drain(&self) {
        self.main.workers.drain();
        for other in self.others.open.lock().await.hubs.values() {
            other.served.workers.drain();
        }
    }

    /// Closes the hubs that were made on demand, after the creations and deletions that are under way.
    pub(crate) async fn close_others(&self, grace: Duration) {
        self.others.list.close_others();
        self.others.close(grace).await;
        self.settle().await;
    }

    /// Ready when the creations and deletions that are under way have ended.
    async fn settle(&self) {
        let mut changes = std::mem::take(&mut *self.lock_changes());
        while changes.join_next().await.is_some() {}
    }

    /// Creates or deletes a hub in a task of the shelf, so that it ends whole also when the caller
    /// disconnects: a hub that is half created or half deleted is in no list and in no record.
    async fn complete<T, C>(&self, change: C) -> std::result::Result<T, HubRefusal>
    where
        T: Send + 'static,
        C: Future<Output = std::result::Result<T, HubRefusal>> + Send + 'static,
    {
        let (done, outcome) = oneshot::channel();
        let change = async move {
            // The caller may have disconnected.
            let _ = done.send(change.await);
        };
        {
            let mut changes = self.lock_changes();
            while changes.try_join_next().is_some() {}
            changes.spawn(change.in_current_span());
        }
        outcome.await.unwrap_or_else(|_| {
            let text = "the change of the task hub did not end: see the log of the host";
            Err(HubRefusal::Failed(text.to_owned()))
        })
    }

    fn lock_changes(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does that name mean the host's own?
    fn is_own(&self, name: &str) -> bool {
        self.others.is_own(name)
    }

    async fn create_hub(&self, name: &str, recreate: bool) -> std::result::Result<Created, HubRefusal> {
        let (others, name) = (Arc::clone(&self.others), name.to_owned());
        self.complete(async move {
            if recreate {
                match others.delete_hub(&name).await {
                    Ok(()) | Err(HubRefusal::Unknown(_)) => {}
                    Err(refusal) => return Err(refusal),
                }
            }
            others.create_hub(&name).await
        })
        .await
    }

    async fn delete_hub(&self, name: &str) -> std::result::Result<(), HubRefusal> {
        let (others, name) = (Arc::clone(&self.others), name.to_owned());
        self.complete(async move { others.delete_hub(&name).await }).await
    }

    /// The hub that a call names, created on demand; the creation ends with its audit record.
    async fn known_or_created(&self, called: CalledHub) -> std::result::Result<Arc<Served>, HubRefusal> {
        if let Some(known) = self.others.known(called.name()).await {
            return Ok(known);
        }
        let others = Arc::clone(&self.others);
        self.complete(async move {
            let (served, created) = others.open_other(called.name()).await?;
            if created == Created::New {
                called.record_created().await;
            }
            Ok(served)
        })
        .await
    }
}

impl OtherHubs {
    /// Opens the hubs that were made before: what is due in them is due whether or not somebody
    /// names them again.
    async fn open_known(&self) {
        let Ok(folders) = std::fs::read_dir(self.folder()) else {
            return;
        };
        for folder in folders.flatten() {
            let name = folder.file_name().to_string_lossy().into_owned();
            if name.starts_with(DELETED_PREFIX) {
                finish_deletion(folder.path()).await;
            } else if let Err(refusal) = self.open_other(&name).await {
                tracing::warn!(hub = name, error = refusal.text(), "a task hub was not opened");
            }
        }
    }

    /// Of the hubs that are made on demand, each in a folder with its name.
    fn folder(&self) -> PathBuf {
        self.settings.folder.join("hubs")
    }

    /// May there be hubs beside the host's own?
    fn has_others(&self) -> bool {
        self.settings.remote_workers == RemoteWorkers::AnyHub
    }

    fn is_own(&self, name: &str) -> bool {
        name == self.own || (name == DEFAULT_HUB && !self.has_others())
    }

    /// One that is open.
    async fn known(&self, name: &str) -> Option<Arc<Served>> {
        let open = self.open.lock().await;
        open.hubs.get(name).map(|other| other.served.clone())
    }

    /// The hub of that name, made where it is not there; says whether it was.
    async fn open_other(&self, name: &str) -> std::result::Result<(Arc<Served>, Created), HubRefusal> {
        check_name(name)?;
        let mut open_hubs = self.open.lock().await;
        if let Some(known) = open_hubs.hubs.get(name) {
            return Ok((known.served.clone(), Created::Known));
        }
        if open_hubs.is_closed {
            let text = format!("task hub \"{name}\" is not opened: the server is going down");
            return Err(HubRefusal::Failed(text));
        }
        let created = self.room_for(name).await?;
        let settings = HostSettings {
            folder: self.folder().join(name),
            hub: name.to_owned(),
            ..self.settings.clone()
        };
        let opened = open(&Arc::new(Registry::default()), &settings, self.traces.as_ref())
            .await
            .map_err(|error| HubRefusal::Failed(format!("task hub \"{name}\" cannot be opened: {error}")))?;
        tracing::info!(hub = name, "a task hub was opened");
        let clock = tokio::spawn(opened.workers.clone().keep_time());
        let served = Arc::new(opened);
        self.list.insert(served.hub.clone());
        let other = Other {
            served: served.clone(),
            clock,
        };
        open_hubs.hubs.insert(name.to_owned(), other);
        Ok((served, created))
    }

    /// Whether the hub is new. Refuses a new one when there are as many folders of hubs as are allowed:
    /// a hub that could not be opened takes its place on the disk too.
    async fn room_for(&self, name: &str) -> std::result::Result<Created, HubRefusal> {
        let (folder, wanted) = (self.folder(), name.to_owned());
        let counted = tokio::task::spawn_blocking(move || -> io::Result<(bool, usize)> {
            Ok((folder.join(wanted).exists(), count_hubs(&folder)?))
        });
        let counted = counted.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        match counted {
            Ok((true, _)) => Ok(Created::Known),
            Ok((false, count)) if count < HUBS_MAX => Ok(Created::New),
            Ok(_) => Err(HubRefusal::TooMany(format!(
                "there are {HUBS_MAX} task hubs on this server, and \"{name}\" is none of them: \
                 delete one that is not needed (dalsegno hub delete NAME), or start another server"
            ))),
            Err(error) => Err(HubRefusal::Failed(format!(
                "task hub \"{name}\" cannot be created: {}: {error}",
                self.folder().display()
            ))),
        }
    }

    fn check_keeps(&self, name: &str) -> std::result::Result<(), HubRefusal> {
        let own = &self.own;
        match self.has_others() {
            true => Ok(()),
            false => Err(HubRefusal::Fixed(format!(
                "this host serves its own task hub \"{own}\" alone, so \"{name}\" is neither made nor deleted \
                 here: start it with grpc.workers = \"any-hub\""
            ))),
        }
    }

    async fn create_hub(&self, name: &str) -> std::result::Result<Created, HubRefusal> {
        if self.is_own(name) {
            return Ok(Created::Known);
        }
        self.check_keeps(name)?;
        self.open_other(name).await.map(|(_, created)| created)
    }

    /// Ends it for whoever works with it, takes its folder away at once, then removes what is in it. A
    /// crash meanwhile leaves the hub whole, or a folder that the next start removes.
    async fn delete_hub(&self, name: &str) -> std::result::Result<(), HubRefusal> {
        if self.is_own(name) {
            return Err(HubRefusal::Fixed(format!(
                "\"{name}\" is the host's own task hub and goes with it: stop the host and remove its folder, \
                 or delete what is in it with `dalsegno purge`"
            )));
        }
        self.check_keeps(name)?;
        // Held until it is gone, so that nobody makes it again meanwhile.
        let mut open = self.open.lock().await;
        let Some(other) = open.hubs.remove(name) else {
            return Err(HubRefusal::Unknown(unknown_hub(name, &[])));
        };
        self.list.remove(name);
        let reason = format!("the task hub \"{name}\" was deleted");
        other.served.hub.retire(reason).await;
        other.served.workers.drain();
        let folder = self.folder();
        let (hub, gone) = (folder.join(name), folder.join(format!("{DELETED_PREFIX}{name}")));
        let removed = tokio::task::spawn_blocking(move || take_away(&folder, &hub, &gone)).await;
        let removed = removed.unwrap_or_else(|error| Err(io::Error::other(error)));
        removed.map_err(|error| {
            HubRefusal::Failed(format!(
                "the files of task hub \"{name}\" cannot be removed: {error}"
            ))
        })?;
        tracing::info!(hub = name, "a task hub was deleted");
        Ok(())
    }

    /// Closes all of them; from now on none is opened.
    async fn close(&self, grace: Duration) {
        let mut open = self.open.lock().await;
        open.is_closed = true;
        for (_, other) in open.hubs.drain() {
            other.served.hub.shutdown(grace).await;
        }
    }
}

impl Hubs for Shelf {
    fn hub(
        &self,
        called: &CalledHub,
        on_missing: OnMissing,
    ) -> BoxFuture<'_, std::result::Result<Arc<Served>, Status>> {
        let called = called.clone();
        Box::pin(async move {
            let name = called.name();
            if self.is_own(name) {
                return Ok(self.main.clone());
            }
            if !self.others.has_others() {
                return Err(Status::not_found(format!(
                    "there is no task hub \"{name}\" here: this server serves its default hub alone"
                )));
            }
            match on_missing {
                OnMissing::Create => self.known_or_created(called.clone()).await.map_err(status),
                OnMissing::Refuse => match self.others.known(name).await {
                    Some(known) => Ok(known),
                    // The names of other hubs are not every caller's to know.
                    None => Err(Status::not_found(unknown_hub(name, &[]))),
                },
            }
        })
    }

    fn greet(&self, called: &CalledHub) -> BoxFuture<'_, std::result::Result<(), Status>> {
        let called = called.clone();
        Box::pin(async move {
            let creates = self.others.has_others() && called.new_hubs() == NewHubs::Allowed;
            if creates && !self.is_own(called.name()) && self.others.known(called.name()).await.is_none() {
                // The call that follows creates it.
                return check_name(called.name()).map_err(status);
            }
            welcome(&*Hubs::hub(self, &called, OnMissing::Refuse).await?)
        })
    }

    fn create(&self, name: &str, recreate: bool) -> BoxFuture<'_, std::result::Result<(), Status>> {
        let name = name.to_owned();
        Box::pin(async move {
            let created = self.create_hub(&name, recreate).await;
            created.map(drop).map_err(status)
        })
    }

    fn delete(&self, name: &str) -> BoxFuture<'_, std::result::Result<(), Status>> {
        let name = name.to_owned();
        Box::pin(async move { self.delete_hub(&name).await.map_err(status) })
    }
}

impl HubKeeper for Shelf {
    fn create(&self, name: &str) -> BoxFuture<'_, std::result::Result<Created, HubRefusal>> {
        let name = name.to_owned();
        Box::pin(async move { self.create_hub(&name, false).await })
    }

    fn delete(&self, name: &str) -> BoxFuture<'_, std::result::Result<(), HubRefusal>> {
        let name = name.to_owned();
        Box::pin(async move { self.delete_hub(&name).await })
    }
}

fn status(refusal: HubRefusal) -> Status {
    let text = refusal.text().to_owned();
    match refusal {
        HubRefusal::InvalidName(_) => Status::invalid_argument(text),
        HubRefusal::Unknown(_) => Status::not_found(text),
        HubRefusal::Fixed(_) => Status::failed_precondition(text),
        HubRefusal::TooMany(_) => Status::resource_exhausted(text),
        HubRefusal::Failed(_) => Status::unavailable(text),
    }
}

/// How many folders of hubs there are.
fn count_hubs(folder: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut count = 0;
    for entry in entries {
        let entry = entry?;
        let is_hub = check_name(&entry.file_name().to_string_lossy()).is_ok() && entry.path().is_dir();
        count += usize::from(is_hub);
    }
    Ok(count)
}

/// The folder of a hub loses its name first, durably; then what is in it goes.
fn take_away(hubs: &Path, hub: &Path, gone: &Path) -> io::Result<()> {
    remove_if_there(gone)?;
    fs::rename(hub, gone)?;
    File::open(hubs)?.sync_all()?;
    remove_if_there(gone)
}

fn remove_if_there(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Of a hub whose deletion was cut off.
async fn finish_deletion(folder: PathBuf) {
    let removed = tokio::task::spawn_blocking(move || remove_if_there(&folder)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, "the rest of a task hub that was deleted cannot be removed");
    }
}

/// As a crash: what is under way ends, and the hubs beside the host's own go with the last task that
/// holds them.
impl Drop for Shelf {
    fn drop(&mut self) {
        self.clock.abort();
        self.main.hub.abandon();
        self.others.list.close_others();
    }
}

async fn open(
    registry: &Arc<Registry>,
    settings: &HostSettings,
    traces: Option<&Arc<TraceExporter>>,
) -> Result<Served> {
    let workers = Workers::new(settings.worker_limits);
    let store = open_store(settings.folder.clone(), settings.partitions).await?;
    let executor = Arc::new(RemoteExecutor::new(registry.clone(), workers.clone()));
    let hub = open_hub(store, registry, executor, settings, traces)?;
    Ok(Served { hub, workers })
}

fn check_name(name: &str) -> std::result::Result<(), HubRefusal> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(HubRefusal::InvalidName(format!(
            "\"{name}\" is no name of a task hub: 1 to {NAME_CHARS_MAX} letters, digits, - and _"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dalsegno_engine::request::{RecordCreation, RequestErrorKind, StartOptions};
    use dalsegno_grpc::filter::Filter;
    use dalsegno_grpc::stream::WorkItems;
    use dalsegno_grpc::tonic::Code;
    use dalsegno_grpc::workers::Abilities;
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[tokio::test]
    async fn hubs_that_were_made_before_are_open_again() {
        let folder = tempfile::TempDir::new().unwrap();
        let settings = HostSettings {
            remote_workers: RemoteWorkers::AnyHub,
            partitions: 2,
            ..HostSettings::in_folder(folder.path())
        };
        let registry = Arc::new(Registry::default());
        let shelf = Shelf::open(&registry, &settings, None).await.unwrap();
        assert!(shelf.hub(&called("orders"), OnMissing::Refuse).await.is_err());
        assert_eq!(shelf.list().names(), ["default"]);
        assert!(shelf.hub(&called("orders"), OnMissing::Create).await.is_ok());
        shelf.main().hub.shutdown(Duration::ZERO).await;
        shelf.close_others(Duration::ZERO).await;
        drop(shelf);
        let shelf = Shelf::open(&registry, &settings, None).await.unwrap();
        assert_eq!(shelf.list().names(), ["default", "orders"]);
        shelf.main().hub.shutdown(Duration::ZERO).await;
        shelf.close_others(Duration::ZERO).await;
    }

    /// A shelf that makes hubs, in a folder.
    async fn shelf(folder: &Path) -> Arc<Shelf> {
        let settings = HostSettings {
            remote_workers: RemoteWorkers::AnyHub,
            partitions: 2,
            ..HostSettings::in_folder(folder)
        };
        let registry = Arc::new(Registry::default());
        Shelf::open(&registry, &settings, None).await.unwrap()
    }

    fn called(name: &str) -> CalledHub {
        CalledHub::new(name, NewHubs::Allowed)
    }

    #[tokio::test]
    async fn a_greeting_creates_no_hub() {
        // With keys on, anybody could fill the disk with hubs.
        let folder = tempfile::TempDir::new().unwrap();
        let shelf = shelf(folder.path()).await;
        let orders = called("orders");
        assert!(shelf.greet(&orders).await.is_ok(), "a worker will be welcome");
        assert_eq!(shelf.list().names(), ["default"]);
        assert!(!shelf.others.folder().join("orders").exists());
        assert_eq!(
            shelf.greet(&called("a/b")).await.unwrap_err().code(),
            Code::InvalidArgument
        );
        let read_only = CalledHub::new("orders", NewHubs::Refused);
        assert_eq!(shelf.greet(&read_only).await.unwrap_err().code(), Code::NotFound);
        let (orders, created) = recorded("orders");
        assert!(shelf.hub(&orders, OnMissing::Create).await.is_ok());
        assert_eq!(created.load(Ordering::Relaxed), 1);
        let (again, created) = recorded("orders");
        assert!(shelf.hub(&again, OnMissing::Create).await.is_ok());
        assert_eq!(created.load(Ordering::Relaxed), 0, "it existed");
        close(&shelf).await;
    }

    /// A called hub, and how many records there are of its creation.
    fn recorded(name: &str) -> (CalledHub, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let record = count.clone();
        let record: Arc<RecordCreation> = Arc::new(move || {
            let record = record.clone();
            async move {
                record.fetch_add(1, Ordering::Relaxed);
            }
            .boxed()
        });
        (called(name).recorded_by(record), count)
    }

    #[tokio::test]
    async fn a_creation_ends_whole_although_its_caller_disconnects() {
        // The folder was there, and the hub was in no list and in no record.
        let folder = tempfile::TempDir::new().unwrap();
        let shelf = shelf(folder.path()).await;
        let (orders, created) = recorded("orders");
        let mut opening = shelf.hub(&orders, OnMissing::Create);
        assert!(futures::poll!(&mut opening).is_pending());
        drop(opening);
        let mut creating = HubKeeper::create(&*shelf, "invoices");
        assert!(futures::poll!(&mut creating).is_pending());
        drop(creating);
        shelf.settle().await;
        assert_eq!(shelf.list().names(), ["default", "invoices", "orders"]);
        assert_eq!(created.load(Ordering::Relaxed), 1);
        assert!(shelf.hub(&orders, OnMissing::Refuse).await.is_ok());
        close(&shelf).await;
    }

    #[tokio::test]
    async fn a_deletion_ends_whole_although_its_caller_disconnects() {
        // The hub was in no list, and its folder was there.
        let folder = tempfile::TempDir::new().unwrap();
        let shelf = shelf(folder.path()).await;
        let orders = shelf.hub(&called("orders"), OnMissing::Create).await.unwrap();
        let mut deleting = HubKeeper::delete(&*shelf, "orders");
        assert!(futures::poll!(&mut deleting).is_pending());
        drop(deleting);
        shelf.settle().await;
        assert!(orders.hub.retired().is_some());
        assert_eq!(shelf.list().names(), ["default"]);
        assert_eq!(fs::read_dir(shelf.others.folder()).unwrap().count(), 0);
        let again = shelf.hub(&called("orders"), OnMissing::Refuse).await;
        assert_eq!(again.unwrap_err().code(), Code::NotFound);
        close(&shelf).await;
    }

    #[tokio::test]
    async fn a_host_that_stops_finishes_a_creation_and_begins_none() {
        let folder = tempfile::TempDir::new().unwrap();
        let shelf = shelf(folder.path()).await;
        let (orders, created) = recorded("orders");
        let mut opening = shelf.hub(&orders, OnMissing::Create);
        assert!(futures::poll!(&mut opening).is_pending());
        drop(opening);
        close(&shelf).await;
        let is_there = shelf.others.folder().join("orders").exists();
        assert_eq!(usize::from(is_there), created.load(Ordering::Relaxed));
        let late = shelf.hub(&called("late"), OnMissing::Create).await;
        assert_eq!(late.unwrap_err().code(), Code::Unavailable);
        assert!(!shelf.others.folder().join("late").exists());
    }

    #[tokio::test]
    async fn a_hub_that_is_not_open_counts_too() {
        // Hubs that fail to open took the disk, and no bound held for them.
        let folder = tempfile::TempDir::new().unwrap();
        let shelf = shelf(folder.path()).await;
        for number in 1..HUBS_MAX {
            fs::create_dir_all(shelf.others.folder().join(format!("h{number}"))).unwrap();
        }
        fs::create_dir(shelf.others.folder().join(".deleted.x")).unwrap();
        fs::write(shelf.others.folder().join("notes"), "a file").unwrap();
        assert!(shelf.hub(&called("last"), OnMissing::Create).await.is_ok());
        let refused = shelf.hub(&called("surplus"), OnMissing::Create).await;
        assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
        assert!(!shelf.others.folder().join("surplus").exists());
        assert!(shelf.hub(&called("h1"), OnMissing::Create).await.is_ok());
        close(&shelf).await;
    }

    fn order() -> StartOptions {
        StartOptions {
            name: "Order".into(),
            ..StartOptions::default()
        }
    }

    async fn close(shelf: &Shelf) {
        shelf.main().hub.shutdown(Duration::ZERO).await;
        shelf.close_others(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn whoever_works_with_a_hub_that_is_deleted_is_told_so() {
        let folder = tempfile::TempDir::new().unwrap();
        let shelf = shelf(folder.path()).await;
        let orders = shelf.hub(&called("orders"), OnMissing::Create).await.unwrap();
        let stream = orders
            .workers
            .connect("w".into(), Filter::new(None), [0; 3], Abilities::default())
            .unwrap();
        let mut items = WorkItems::new(orders.clone(), stream);
        assert!(items.next().await.unwrap().is_ok(), "the first is a ping");
        let started = orders.hub.start(order()).await.unwrap();
        assert!(items.next().await.unwrap().is_ok(), "and then there is work");
        let (hub, id) = (orders.hub.clone(), started.id.clone());
        let waiter = tokio::spawn(async move { hub.wait_for_completion(&id, None).await });
        while orders.hub.measure().await.unwrap().waiters == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(HubKeeper::delete(&*shelf, "orders").await, Ok(()));
        let reason = "the task hub \"orders\" was deleted";
        let status = items.next().await.unwrap().unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::NotFound, reason));
        assert!(items.next().await.is_none());
        let error = waiter.await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind, error.detail.as_str()),
            (RequestErrorKind::NotFound, reason)
        );
        let error = orders.hub.start(order()).await.unwrap_err();
        assert_eq!(error.detail, reason);
        let error = orders.hub.status(&started.id).await.unwrap_err();
        assert_eq!(error.detail, reason);
        assert_eq!(&*orders.hub.until_retired().await, reason);
        assert_eq!(shelf.list().names(), ["default"]);
        assert_eq!(fs::read_dir(shelf.others.folder()).unwrap().count(), 0);
        close(&shelf).await;
    }

    #[tokio::test]
    async fn calls_make_and_delete_the_hub_that_they_name() {
        let folder = tempfile::TempDir::new().unwrap();
        let shelf = shelf(folder.path()).await;
        let code = |answer: std::result::Result<(), Status>| answer.map_err(|status| status.code());
        let create = async |name: &str, again: bool| code(Hubs::create(&*shelf, name, again).await);
        assert_eq!(create("orders", false).await, Ok(()));
        let orders = shelf.hub(&called("orders"), OnMissing::Refuse).await.unwrap();
        orders.hub.start(order()).await.unwrap();
        assert_eq!(create("orders", false).await, Ok(()));
        assert_eq!(orders.hub.retired(), None, "one that is there stays");
        assert_eq!(create("orders", true).await, Ok(()));
        assert!(orders.hub.retired().is_some());
        let orders = shelf.hub(&called("orders"), OnMissing::Refuse).await.unwrap();
        let counts = orders.hub.counts().await.unwrap();
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 0);
        assert_eq!(create("a/b", false).await, Err(Code::InvalidArgument));
        assert_eq!(create("default", true).await, Err(Code::FailedPrecondition));
        for (name, wanted) in [
            ("orders", Ok(())),
            ("orders", Err(Code::NotFound)),
            ("default", Err(Code::FailedPrecondition)),
        ] {
            assert_eq!(code(Hubs::delete(&*shelf, name).await), wanted, "{name}");
        }
        close(&shelf).await;
    }

    #[tokio::test]
    async fn a_deletion_that_was_cut_off_is_finished_at_the_next_start() {
        let folder = tempfile::TempDir::new().unwrap();
        let first = shelf(folder.path()).await;
        assert!(first.hub(&called("orders"), OnMissing::Create).await.is_ok());
        let hubs = first.others.folder();
        close(&first).await;
        drop(first);
        let gone = hubs.join(format!("{DELETED_PREFIX}orders"));
        fs::rename(hubs.join("orders"), &gone).unwrap();
        fs::remove_file(gone.join("hub.db")).unwrap();
        let second = shelf(folder.path()).await;
        assert!(!gone.exists());
        assert_eq!(second.list().names(), ["default"]);
        close(&second).await;
    }

    #[tokio::test]
    async fn a_host_with_its_own_hub_alone_makes_and_deletes_none() {
        let folder = tempfile::TempDir::new().unwrap();
        let settings = HostSettings {
            remote_workers: RemoteWorkers::ThisHub,
            partitions: 2,
            ..HostSettings::in_folder(folder.path())
        };
        let registry = Arc::new(Registry::default());
        let shelf = Shelf::open(&registry, &settings, None).await.unwrap();
        for on_missing in [OnMissing::Create, OnMissing::Refuse] {
            let refused = shelf.hub(&called("orders"), on_missing).await.unwrap_err();
            assert_eq!(refused.code(), Code::NotFound);
        }
        let created = HubKeeper::create(&*shelf, "orders").await;
        assert!(matches!(created, Err(HubRefusal::Fixed(text)) if text.contains("any-hub")));
        let deleted = HubKeeper::delete(&*shelf, "default").await;
        assert!(matches!(deleted, Err(HubRefusal::Fixed(_))));
        assert!(!shelf.others.folder().exists());
        close(&shelf).await;
    }

    #[test]
    fn the_name_of_a_hub_is_a_folders_name() {
        assert!(check_name("Orders-2_a").is_ok());
        for bad in ["", "..", "a/b", "ü", &"x".repeat(46)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
