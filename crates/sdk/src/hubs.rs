//! Workers in other languages, and the hubs that they and their clients name.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_grpc::executor::RemoteExecutor;
use dalsegno_grpc::service::{DEFAULT_HUB, Hubs, Served};
use dalsegno_grpc::tonic::Status;
use dalsegno_grpc::workers::Workers;
use dalsegno_host::HubList;
use dalsegno_host::traces::TraceExporter;
use futures::future::BoxFuture;
use hashbrown::HashMap;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::app::{HostSettings, open_hub, open_store};
use crate::error::Result;
use crate::registry::Registry;

/// Characters of the name of a hub that is made on demand.
const NAME_CHARS_MAX: usize = 45;

/// Hubs that are made because somebody names them.
const HUBS_MAX: usize = 100;

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
    settings: HostSettings,
    traces: Option<Arc<TraceExporter>>,
    others: Mutex<HashMap<String, Arc<Served>>>,
    /// The same hubs, for those that ask over HTTP.
    list: HubList,
    clocks: std::sync::Mutex<Vec<JoinHandle<()>>>,
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
        let shelf = Self {
            clocks: std::sync::Mutex::new(vec![tokio::spawn(main.workers.clone().keep_time())]),
            main: Arc::new(main),
            settings: settings.clone(),
            traces,
            others: Mutex::default(),
            list: match settings.remote_workers {
                RemoteWorkers::AnyHub => list,
                _ => list.alias(DEFAULT_HUB),
            },
        };
        if settings.remote_workers == RemoteWorkers::AnyHub {
            shelf.open_known().await;
        }
        Ok(Arc::new(shelf))
    }

    /// Opens the hubs that were made before: what is due in them is due whether or not somebody
    /// names them again.
    async fn open_known(&self) {
        let Ok(folders) = std::fs::read_dir(self.folder()) else {
            return;
        };
        for folder in folders.flatten() {
            let name = folder.file_name().to_string_lossy().into_owned();
            if let Err(error) = self.other(&name).await {
                tracing::warn!(hub = name, error = error.message(), "a task hub was not opened");
            }
        }
    }

    /// Of the hubs that are made on demand, each in a folder with its name.
    fn folder(&self) -> PathBuf {
        self.settings.folder.join("hubs")
    }

    /// The host's own hub.
    pub(crate) fn main(&self) -> &Served {
        &self.main
    }

    /// The hubs that are open.
    pub(crate) fn list(&self) -> &HubList {
        &self.list
    }

    /// Ends all streams of workers; what they have done counts until the hubs are closed.
    pub(crate) async fn drain(&self) {
        self.main.workers.drain();
        for other in self.others.lock().await.values() {
            other.workers.drain();
        }
    }

    /// Closes the hubs that were made on demand.
    pub(crate) async fn close_others(&self, grace: Duration) {
        self.list.close_others();
        for (_, other) in self.others.lock().await.drain() {
            other.hub.shutdown(grace).await;
        }
    }

    async fn other(&self, name: &str) -> std::result::Result<Arc<Served>, Status> {
        check_name(name)?;
        let mut others = self.others.lock().await;
        if let Some(known) = others.get(name) {
            return Ok(known.clone());
        }
        let folder = self.folder().join(name);
        if others.len() >= HUBS_MAX && !folder.exists() {
            return Err(Status::resource_exhausted(format!(
                "there are {HUBS_MAX} task hubs on this server, and \"{name}\" is none of them: \
                 delete the folder of one that is not needed, or start another server"
            )));
        }
        let settings = HostSettings {
            folder,
            hub: name.to_owned(),
            ..self.settings.clone()
        };
        let opened = open(&Arc::new(Registry::default()), &settings, self.traces.as_ref())
            .await
            .map_err(|error| Status::unavailable(format!("task hub \"{name}\" cannot be opened: {error}")))?;
        tracing::info!(hub = name, "a task hub was opened");
        if let Ok(mut clocks) = self.clocks.lock() {
            clocks.push(tokio::spawn(opened.workers.clone().keep_time()));
        }
        let opened = Arc::new(opened);
        self.list.insert(opened.hub.clone());
        others.insert(name.to_owned(), opened.clone());
        Ok(opened)
    }
}

impl Hubs for Shelf {
    fn hub(&self, name: &str) -> BoxFuture<'_, std::result::Result<Arc<Served>, Status>> {
        let own = self.main.hub.name();
        let name = name.to_owned();
        Box::pin(async move {
            if name == own || (name == DEFAULT_HUB && self.settings.remote_workers != RemoteWorkers::AnyHub) {
                return Ok(self.main.clone());
            }
            match self.settings.remote_workers {
                RemoteWorkers::AnyHub => self.other(&name).await,
                _ => Err(Status::not_found(format!(
                    "there is no task hub \"{name}\" here; this server has \"{own}\""
                ))),
            }
        })
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let clocks = self.clocks.get_mut();
        let clocks = clocks.unwrap_or_else(std::sync::PoisonError::into_inner);
        clocks.iter().for_each(JoinHandle::abort);
        self.main.hub.abandon();
        self.others
            .get_mut()
            .values()
            .for_each(|other| other.hub.abandon());
        self.list.close_others();
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

fn check_name(name: &str) -> std::result::Result<(), Status> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!(
            "\"{name}\" is no name of a task hub: 1 to {NAME_CHARS_MAX} letters, digits, - and _"
        ))),
    }
}

#[cfg(test)]
mod tests {
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
        assert!(shelf.hub("orders").await.is_ok());
        shelf.main().hub.shutdown(Duration::ZERO).await;
        shelf.close_others(Duration::ZERO).await;
        drop(shelf);
        let shelf = Shelf::open(&registry, &settings, None).await.unwrap();
        assert_eq!(shelf.list().names(), ["default", "orders"]);
        shelf.main().hub.shutdown(Duration::ZERO).await;
        shelf.close_others(Duration::ZERO).await;
    }

    #[test]
    fn the_name_of_a_hub_is_a_folders_name() {
        assert!(check_name("Orders-2_a").is_ok());
        for bad in ["", "..", "a/b", "ü", &"x".repeat(46)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
