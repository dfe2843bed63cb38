//! An app as a worker of a hub elsewhere.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_grpc::worker::{Offers, Worker, WorkerCounts, WorkerSettings};
use dalsegno_host::RemoteHub;

use crate::app::until_ended;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::exit;
use crate::registry::Registry;

/// How an app connects to a hub elsewhere: made by [`App::connect`](crate::App::connect), ended by
/// [`Connection::run`] or [`Connection::start`].
#[derive(Debug)]
#[must_use = "nothing is connected before `run` or `start`"]
pub struct Connection {
    registry: Result<Registry>,
    settings: WorkerSettings,
    drain: Duration,
}

impl Connection {
    pub(crate) fn new(registry: Result<Registry>, address: String) -> Self {
        Self {
            registry,
            settings: WorkerSettings::new(address, "default"),
            drain: Duration::from_secs(30),
        }
    }

    /// The hub's name; `default` unless said otherwise. The client of activities reaches the same.
    pub fn hub(mut self, name: impl Into<String>) -> Self {
        self.settings.hub = name.into();
        self
    }

    /// What this worker is called where workers are listed.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Shows a key to the host, which asks for one unless it listens on loopback only.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.settings.key = Some(key.into());
        self
    }

    /// Trusts these certificates, as PEM, and none but them, when the address begins with `https`: those
    /// of an authority of one's own, or the host's own certificate. Unless said otherwise the system
    /// decides.
    pub fn trust(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.settings.trusted = Some(pem.into());
        self
    }

    /// At most so many turns of orchestrators at once; unless said otherwise the host decides.
    pub fn orchestrators_max(mut self, count: usize) -> Self {
        self.settings.in_flight[0] = count;
        self
    }

    /// At most so many activities at once; unless said otherwise the host decides.
    pub fn activities_max(mut self, count: usize) -> Self {
        self.settings.in_flight[1] = count;
        self
    }

    /// At most so many entities at once; unless said otherwise the host decides.
    pub fn entities_max(mut self, count: usize) -> Self {
        self.settings.in_flight[2] = count;
        self
    }

    /// At most so much memory for executions that stay alive between their turns; 256 MiB unless
    /// said otherwise. Others are replayed from their history, which the hub sends again.
    pub fn kept_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.live_bytes_max = bytes;
        self
    }

    /// How long [`Connection::run`] lets what runs finish; 30 s unless said otherwise.
    pub fn drain(mut self, grace: Duration) -> Self {
        self.drain = grace;
        self
    }

    /// Works until Ctrl-C or SIGTERM, then drains. A hub that is not there is waited for, and tried
    /// again after 1 to 30 seconds.
    ///
    /// When the address or the app is refused, it tells why on stderr and ends the process with exit
    /// code 78.
    ///
    /// # Errors
    /// What else keeps it from starting.
    pub async fn run(self) -> Result<()> {
        exit::or_end(self.work().await)
    }

    async fn work(self) -> Result<()> {
        dalsegno_host::telemetry::init("info", "auto");
        let drain = self.drain;
        let worker = self.start()?;
        until_ended().await;
        let left = worker.drain(drain).await;
        tracing::info!(left, "drained");
        Ok(())
    }

    /// Works in the background and returns.
    ///
    /// # Errors
    /// When a registration was refused, when the app has what only a host can give (HTTP and timer
    /// triggers), when address, name or key cannot be used.
    pub fn start(self) -> Result<ConnectedApp> {
        let mut registry = self.registry?;
        refuse_what_needs_a_host(&mut registry)?;
        let client = client_of(&self.settings)?;
        registry.set_client(client.clone());
        let registry = Arc::new(registry);
        let offers = Offers {
            orchestrators: registry.versions(),
            activities: dalsegno_engine::Executor::activities(&*registry),
            entities: dalsegno_engine::Executor::entities(&*registry),
            limiters: registry.limiter_offers(),
        };
        let worker = Worker::start(registry, offers, self.settings).map_err(Error::configuration)?;
        Ok(ConnectedApp { worker, client })
    }
}

/// The client of the hub that a worker works for, which reaches it as the worker does.
fn client_of(settings: &WorkerSettings) -> Result<Client> {
    let mut remote = RemoteHub::new(&settings.address)?.hub(&settings.hub);
    if let Some(key) = &settings.key {
        remote = remote.key(key);
    }
    if let Some(pem) = &settings.trusted {
        remote = remote.trust(pem)?;
    }
    Ok(Client::of_remote(remote, &settings.hub))
}

/// What an app asks of its host and a worker cannot give.
fn refuse_what_needs_a_host(registry: &mut Registry) -> Result<()> {
    let mut wrong = Vec::new();
    for trigger in registry.take_http_triggers() {
        wrong.push(format!(
            "HTTP trigger {:?}: an app that connects does not listen. Register it with the app that is the host, or \
             serve it yourself with a `Client::remote`",
            trigger.name()
        ));
    }
    for trigger in registry.take_timer_triggers() {
        wrong.push(format!(
            "timer trigger {:?}: the hub's host fires those. Register it with the app that is the host",
            trigger.name()
        ));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::configuration(wrong.join("\n"))),
    }
}

/// An app that works for a hub elsewhere. Ends when it is dropped; [`ConnectedApp::drain`] ends it in
/// order.
#[derive(Debug)]
pub struct ConnectedApp {
    worker: Worker,
    client: Client,
}

impl ConnectedApp {
    /// Returns as soon as there is a connection.
    pub async fn connected(&self) {
        self.worker.connected().await;
    }

    /// The hub's client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What it has done so far.
    pub fn counts(&self) -> WorkerCounts {
        self.worker.counts()
    }

    /// Work items that it has now: received, and not yet acknowledged by the host.
    pub fn in_flight(&self) -> usize {
        self.worker.in_flight()
    }

    /// Takes no more work, lets what runs finish for at most `grace`, hands the rest back. Says how
    /// much that was.
    pub async fn drain(self, grace: Duration) -> usize {
        self.worker.drain(grace).await
    }
}
