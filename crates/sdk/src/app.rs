//! An app: functions, what they need, and the host they run in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::limits::{HUB_PARTITIONS, Limits};
use dalsegno_core::store::Store;
use dalsegno_engine::hub::LimiterDefinition;
use dalsegno_engine::{Executor, HubOptions, TaskHub};
use dalsegno_grpc::workers::{EntityItems, WorkerLimits};
use dalsegno_host::app_routes::RouteInfo;
use dalsegno_host::config::{Config, Program, Sources};
use dalsegno_host::schedule::{
    Schedule, Schedules, TimerError, TimerInfo as HostTimerInfo, TimerTrigger as HostTimer,
};
use dalsegno_host::tls::Tls;
use dalsegno_host::traces::{TraceExporter, TraceSettings};
use dalsegno_host::webhooks::{WebhookSender, WebhookSettings};
use dalsegno_host::{AppRoutes, Observer, Operations, Server};
use dalsegno_store_embedded::{EmbeddedStore, Options};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::connect::Connection;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::exit;
use crate::hubs::{RemoteWorkers, Shelf};
use crate::limiter::Limiter;
use crate::panics;
use crate::registry::{Definition, Registry};
use crate::trigger::{AuthLevel, HttpTrigger, TimerInfo, TimerTrigger};

/// How long the end waits for a receiver of traces.
const TRACES_GRACE: Duration = Duration::from_secs(5);

/// How long the end waits for a disk that is slow to take the last audit records.
const AUDIT_GRACE: Duration = Duration::from_secs(10);

/// The configuration file that [`App::run`] reads when it is there.
const CONFIG_FILE: &str = "dalsegno.toml";

/// In the folder of the store: whose code runs, for the next start if this process dies of it.
const MARKS_FILE: &str = "running";

/// A hub that is in use is tried again: a process that was killed a moment ago still holds its lock.
const IN_USE_TRIES: u32 = 20;
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

/// Functions and what they need. The app *is* the host: [`App::run`] serves it.
///
/// # Example
/// ```
/// use dalsegno::{App, OrchestrationContext, Result, orchestrator};
///
/// #[orchestrator]
/// async fn answer(_ctx: &OrchestrationContext) -> Result<u32> {
///     Ok(42)
/// }
///
/// # fn main() -> Result<()> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let folder = std::env::temp_dir().join(format!("dalsegno-doc-{}", std::process::id()));
/// let host = App::new().register(answer).embedded(&folder).await?;
/// assert_eq!(host.client().start(answer, ()).await?.wait().await?, 42);
/// host.shutdown().await;
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug, Default)]
pub struct App {
    registry: Registry,
    /// What went wrong while registering; told when the app starts.
    mistakes: Vec<String>,
}

impl App {
    /// An app without functions.
    pub fn new() -> Self {
        Self::default()
    }

    fn note(&mut self, registered: Result<()>) {
        self.mistakes
            .extend(registered.err().map(|error| error.to_string()));
    }

    /// Registers what an attribute made of a function.
    #[must_use]
    pub fn register<D: Definition>(mut self, definition: fn() -> D) -> Self {
        let registered = self.registry.register(definition);
        self.note(registered);
        self
    }

    /// Registers an entity.
    #[must_use]
    pub fn entity<E>(mut self) -> Self
    where
        E: Entity + Serialize + DeserializeOwned + Default + Send + 'static,
    {
        let registered = self.registry.register_entity::<E>();
        self.note(registered);
        self
    }

    /// Defines a limiter. It is taken where the hub has none of that name: what an operator
    /// changed stays.
    #[must_use]
    pub fn limiter(mut self, limiter: Limiter) -> Self {
        let registered = self.registry.register_limiter(limiter);
        self.note(registered);
        self
    }

    /// Gives activities a value: `ctx.data::<T>()`. One per type, the last one stays.
    #[must_use]
    pub fn data<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.registry.insert_data(value);
        self
    }

    /// What is registered, for whoever runs it in another way.
    ///
    /// # Errors
    /// When something was registered twice or in two ways; when the program is built with
    /// `panic = "abort"`.
    pub fn into_registry(self) -> Result<Registry> {
        if !panics::CAN_BE_CAUGHT {
            return Err(Error::msg(
                "this program is built with panic = \"abort\": one panic in an orchestrator would end the host; \
                 remove that line from the profile in Cargo.toml",
            ));
        }
        match self.mistakes.is_empty() {
            true => Ok(self.registry),
            false => Err(Error::msg(self.mistakes.join("\n"))),
        }
    }

    /// Runs the app inside this program, with its hub in a folder: no listener, no triggers by HTTP.
    ///
    /// # Errors
    /// When the folder is no hub, is in use or cannot be written; when a registration was refused.
    pub async fn embedded(self, folder: impl AsRef<Path>) -> Result<Host> {
        let settings = HostSettings {
            listen: None,
            ..HostSettings::in_folder(folder)
        };
        self.start(settings).await
    }

    /// Makes the app a worker of a hub elsewhere, such as `http://127.0.0.1:8080` or `https://hub.example.com`: the host there
    /// keeps what happens, this program runs its functions. The same app as in the host's own
    /// process, but for what only a host can give: triggers, which are refused.
    ///
    /// What code in Rust says of its calls reaches the hub: retry policies and time limits (those of
    /// the activities that this app defines too, when its own orchestrators call them), parent-close
    /// policies, detached starts, undos, timers that nobody waits for any more, limiters. Heartbeats are
    /// watched here; the last one goes with the attempt's answer. An orchestrator that does not fit its
    /// history parks the instance there, as in the host's own process.
    ///
    /// # Example
    /// ```no_run
    /// use dalsegno::{App, OrchestrationContext, Result, activity, orchestrator};
    ///
    /// #[activity]
    /// async fn greet(name: String) -> String {
    ///     format!("Hello {name}!")
    /// }
    ///
    /// #[orchestrator]
    /// async fn greeting(ctx: &OrchestrationContext, name: String) -> Result<String> {
    ///     Ok(ctx.call(greet, name).await?)
    /// }
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<()> {
    ///     let app = App::new().register(greet).register(greeting);
    ///     app.connect("http://127.0.0.1:8080").hub("default").run().await
    /// }
    /// ```
    pub fn connect(self, address: impl Into<String>) -> Connection {
        Connection::new(self.into_registry(), address.into())
    }

    /// Starts the host and returns; it goes on until [`Host::shutdown`].
    ///
    /// # Errors
    /// As [`App::embedded`], and when the address cannot be listened on.
    pub async fn start(self, settings: HostSettings) -> Result<Host> {
        let mut registry = self.into_registry()?;
        let triggers = (registry.take_http_triggers(), registry.take_timer_triggers());
        registry.expect_client();
        let registry = Arc::new(registry);
        let listener = match settings.listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let mut others = Vec::new();
        for address in &settings.also_listen {
            others.push(listen(*address).await?);
        }
        let traces = settings.traces.clone().map(TraceExporter::start).transpose();
        let traces = traces.map_err(Error::configuration)?;
        let (hub, shelf) = match settings.remote_workers {
            RemoteWorkers::Refused => {
                let store = open_store(settings.folder.clone(), settings.partitions).await?;
                let hub = open_hub(store, &registry, registry.clone(), &settings, traces.as_ref())?;
                (hub, None)
            }
            _ => {
                let shelf = Shelf::open(&registry, &settings, traces.clone()).await?;
                (shelf.main().hub.clone(), Some(shelf))
            }
        };
        let listeners = Listeners {
            main: listener,
            others,
        };
        let host = Host::start(
            (hub.clone(), shelf, traces),
            registry.clone(),
            listeners,
            triggers,
            settings,
        );
        match &host {
            Ok(host) => registry.set_client(host.client.clone()),
            Err(_) => drop(hub.shutdown(Duration::ZERO).await),
        }
        host
    }

    /// Is the host: reads `dalsegno.toml`, the environment and the flags `--listen`, `--port`,
    /// `--data-dir` and `--hub`, serves until Ctrl-C or SIGTERM, then drains.
    ///
    /// When the configuration, the address or the folder is refused, it tells why on stderr and
    /// ends the process with exit code 78; 4 when another process has the hub.
    ///
    /// # Errors
    /// What else keeps it from starting; returned from `main`, the exit code is 1.
    pub async fn run(self) -> Result<()> {
        exit::or_end(self.serve().await)
    }

    async fn serve(self) -> Result<()> {
        let config = configuration()?;
        dalsegno_host::telemetry::init(&config.log_level, &config.log_format);
        let settings = HostSettings::from_config(&config, Program::App)?;
        let drain = settings.drain;
        let host = self.start(settings).await?;
        host.print_banner();
        let left = host.run_until_ended(drain).await;
        tracing::info!(left, "drained");
        Ok(())
    }
}

/// How a host is started.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// The folder of the store.
    pub folder: PathBuf,
    /// Partitions of a new hub, 32 unless said otherwise; an existing one keeps its own.
    pub partitions: u32,
    /// The hub's name.
    pub hub: String,
    /// Where it listens; nowhere when `None`.
    pub listen: Option<SocketAddr>,
    /// First segment of the app's routes.
    pub route_prefix: String,
    /// How HTTP is answered.
    pub http: dalsegno_host::server::HttpSettings,
    /// Who may call.
    pub access: dalsegno_host::server::Access,
    /// The hub's limits.
    pub limits: Limits,
    /// Limiters that the operator defines; they stand above those of the code.
    pub limiters: Vec<(String, LimiterDefinition)>,
    /// Activities that pass one of the hub's limiters, whoever runs them, each with the limiter's name.
    pub limited: Vec<(String, String)>,
    /// Who is told of statuses.
    pub webhooks: WebhookSettings,
    /// Partition threads; 0 takes one per core.
    pub threads: usize,
    /// How long a shutdown waits for activities that run.
    pub drain: Duration,
    /// Whether programs in other languages may connect.
    pub remote_workers: RemoteWorkers,
    /// Further addresses, served as the first is: such as the ports that the official SDKs assume.
    pub also_listen: Vec<SocketAddr>,
    /// Certificate and key by which the listener speaks TLS.
    pub tls: Option<Tls>,
    /// Beyond loopback too, the listener may do without TLS.
    pub allows_plaintext: bool,
    /// What workers may hold, and for how long.
    pub worker_limits: WorkerLimits,
    /// Where traces are sent; nowhere when `None`.
    pub traces: Option<TraceSettings>,
}

/// Where a host listens.
#[derive(Debug)]
struct Listeners {
    main: Option<TcpListener>,
    others: Vec<TcpListener>,
}

impl HostSettings {
    /// Defaults, with the store in this folder and a listener on a free loopback port.
    pub fn in_folder(folder: impl AsRef<Path>) -> Self {
        Self {
            folder: folder.as_ref().to_owned(),
            partitions: HUB_PARTITIONS,
            hub: "default".to_owned(),
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            route_prefix: "api".to_owned(),
            http: dalsegno_host::server::HttpSettings::default(),
            access: dalsegno_host::server::Access::loopback(),
            limits: Limits::default(),
            limiters: Vec::new(),
            limited: Vec::new(),
            webhooks: WebhookSettings::default(),
            threads: 0,
            drain: Duration::from_secs(30),
            remote_workers: RemoteWorkers::Refused,
            also_listen: Vec::new(),
            tls: None,
            allows_plaintext: false,
            worker_limits: WorkerLimits::default(),
            traces: None,
        }
    }

    /// What a configuration says, for a program.
    ///
    /// # Errors
    /// When callers need keys and there are none, or when a file that the configuration names cannot
    /// be read: every mistake there is.
    pub fn from_config(config: &Config, program: Program) -> Result<Self> {
        let resolved = config.resolve(program)?;
        Ok(Self {
            folder: config.store_path.clone(),
            partitions: config.partitions,
            hub: config.hub.clone(),
            listen: Some(config.listen),
            route_prefix: config.route_prefix.clone(),
            http: config.http.clone(),
            access: resolved.access,
            limits: config.limits.clone(),
            limiters: config.limiters.clone(),
            limited: config.limited.clone(),
            webhooks: resolved.webhooks,
            threads: 0,
            drain: config.drain,
            remote_workers: match config.grpc.workers.as_str() {
                "this-hub" => RemoteWorkers::ThisHub,
                "any-hub" => RemoteWorkers::AnyHub,
                _ => RemoteWorkers::Refused,
            },
            also_listen: Vec::new(),
            tls: resolved.tls,
            allows_plaintext: config.allows_plaintext,
            worker_limits: WorkerLimits {
                in_flight_default: config.grpc.in_flight_default,
                turn_timeout: config.grpc.turn_timeout,
                entity_items: match config.grpc.has_old_entity_items {
                    true => EntityItems::V1,
                    false => EntityItems::V2,
                },
                message_bytes_max: config.grpc.message_bytes_max,
            },
            traces: resolved.traces,
        })
    }
}

/// The configuration of this process: file, environment, flags.
fn configuration() -> Result<Config> {
    let mut sources = Sources::of_process(Path::new(CONFIG_FILE))
        .map_err(|error| Error::configuration(format!("{CONFIG_FILE} cannot be read: {error}")))?;
    let known = [
        ("--listen", "listen"),
        ("--data-dir", "store.path"),
        ("--hub", "hub.name"),
        ("--port", "port"),
    ];
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let Some((_, key)) = known.iter().find(|(name, _)| *name == flag) else {
            return Err(Error::configuration(format!(
                "unknown flag {flag}: this host takes --listen, --port, --data-dir, --hub"
            )));
        };
        let value = arguments
            .next()
            .ok_or_else(|| Error::configuration(format!("{flag} needs a value")))?;
        let (key, value) = match *key {
            "port" => ("listen", format!("127.0.0.1:{value}")),
            key => (key, value),
        };
        sources.flags.push((flag, key.to_owned(), value));
    }
    Ok(Config::load(&sources)?.config)
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::configuration(format!(
            "cannot listen on {address}: {error}; choose another port"
        ))
    })
}

pub(crate) async fn open_store(folder: PathBuf, partitions: u32) -> Result<Arc<dyn Store>> {
    let options = Options {
        partitions,
        ..Options::default()
    };
    let mut tries = 0;
    loop {
        let (folder, options) = (folder.clone(), options.clone());
        let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(&folder, options)).await?;
        match opened {
            Err(error) if error.is_in_use() && tries < IN_USE_TRIES => tries += 1,
            opened => return Ok(Arc::new(opened?)),
        }
        tokio::time::sleep(IN_USE_PAUSE).await;
    }
}

pub(crate) fn open_hub(
    store: Arc<dyn Store>,
    registry: &Registry,
    executor: Arc<dyn Executor>,
    settings: &HostSettings,
    traces: Option<&Arc<TraceExporter>>,
) -> Result<TaskHub> {
    let of_code = registry
        .limiters()
        .map(|limiter| (Arc::from(limiter.name()), limiter.definition()));
    let of_operator = settings
        .limiters
        .iter()
        .map(|(name, rule)| (Arc::from(name.as_str()), rule.clone()));
    let webhooks = WebhookSender::new(&settings.hub, settings.webhooks.clone()).map_err(Error::msg)?;
    let options = HubOptions {
        name: settings.hub.clone(),
        limits: settings.limits.clone(),
        threads: settings.threads,
        limiters: of_code.chain(of_operator).collect(),
        limited: settings
            .limited
            .iter()
            .map(|(activity, limiter)| (activity.as_str().into(), limiter.as_str().into()))
            .collect(),
        marks: Some(settings.folder.join(MARKS_FILE)),
        webhooks: Some(Arc::new(webhooks)),
        traces: traces.map(|exporter| exporter.of_hub(&settings.hub)),
        clock: None,
    };
    Ok(TaskHub::open(store, executor, options)?)
}

/// Ready when the process is asked to end: by Ctrl-C or SIGTERM.
pub async fn until_ended() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// A host that runs: hub, listener, timer triggers. Ends when it is dropped; [`Host::shutdown`] and
/// [`Host::drain`] end it in order.
#[derive(Debug)]
pub struct Host {
    hub: TaskHub,
    client: Client,
    registry: Arc<Registry>,
    address: Option<SocketAddr>,
    also_listens: Vec<SocketAddr>,
    routes: Vec<RouteInfo>,
    route_prefix: String,
    stop: Option<tokio::sync::watch::Sender<()>>,
    servers: Vec<JoinHandle<std::io::Result<()>>>,
    timers: Vec<JoinHandle<()>>,
    shelf: Option<Arc<Shelf>>,
    traces: Option<Arc<TraceExporter>>,
    observer: Arc<Observer>,
}

impl Host {
    fn start(
        (hub, shelf, traces): (TaskHub, Option<Arc<Shelf>>, Option<Arc<TraceExporter>>),
        registry: Arc<Registry>,
        listeners: Listeners,
        (http, timers): (Vec<HttpTrigger>, Vec<TimerTrigger>),
        settings: HostSettings,
    ) -> Result<Self> {
        let routes = http.into_iter().fold(AppRoutes::new(), |routes, trigger| {
            routes.route(route_info(&trigger), trigger.into_router())
        });
        let observer = observer(&settings, traces.clone())?;
        let mut host = Self {
            client: Client::in_process(hub.clone()),
            hub,
            registry,
            address: None,
            also_listens: Vec::new(),
            routes: routes.described().to_vec(),
            route_prefix: settings.route_prefix.clone(),
            stop: None,
            servers: Vec::new(),
            timers: Vec::new(),
            shelf,
            traces,
            observer: observer.clone(),
        };
        let Listeners { main, others } = listeners;
        let address = main.as_ref().map(TcpListener::local_addr).transpose()?;
        let also = others.iter().map(TcpListener::local_addr);
        host.also_listens = also.collect::<std::io::Result<_>>()?;
        let schedules = Arc::new(Schedules::default());
        let operations = Arc::new(Operations::default());
        let server = || {
            let server = Server::new(host.hub.clone())
                .schedules(schedules.clone())
                .shared_with(observer.clone(), operations.clone())
                .routes(&settings.route_prefix, routes.clone())
                .settings(settings.http.clone())
                .access(settings.access.clone())
                .allow_plaintext(settings.allows_plaintext);
            let server = match settings.tls.clone() {
                Some(tls) => server.tls(tls),
                None => server,
            };
            match &host.shelf {
                Some(shelf) => server.hubs(shelf.list().clone()).keeper(shelf.clone()).grpc(
                    dalsegno_grpc::service::router(shelf.clone(), settings.worker_limits.message_bytes_max),
                ),
                None => server,
            }
        };
        let listeners = main.into_iter().chain(others);
        let all: Vec<_> = listeners.map(|listener| (server(), listener)).collect();
        for (server, listener) in &all {
            let checked = server.check_reach(listener.local_addr()?);
            checked.map_err(|error| Error::configuration(error.to_string()))?;
        }
        if let Some(address) = address {
            host.client = host.client.clone().with_links(server().links(address));
        }
        let timers: Result<Vec<_>> = timers
            .into_iter()
            .map(|trigger| host_timer(trigger, &host.client))
            .collect();
        let run = |timer| tokio::spawn(run_timer(timer, host.hub.clone()));
        let timers = schedules.keep(timers?, &host.hub);
        host.timers = timers.into_iter().map(run).collect();
        host.address = address;
        let (stop, stopped) = tokio::sync::watch::channel(());
        host.stop = Some(stop);
        for (server, listener) in all {
            let mut stopped = stopped.clone();
            host.servers.push(tokio::spawn(server.serve(listener, async move {
                // An error is the end of the sender, which is the order to stop.
                let _ = stopped.changed().await;
            })));
        }
        Ok(host)
    }

    /// The hub's client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The hub itself.
    pub fn hub(&self) -> &TaskHub {
        &self.hub
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Where else it listens.
    pub fn other_addresses(&self) -> &[SocketAddr] {
        &self.also_listens
    }

    /// Names of the hubs that are open here, the host's own first.
    pub fn hub_names(&self) -> Vec<String> {
        match &self.shelf {
            Some(shelf) => shelf.list().names(),
            None => vec![self.hub.name().to_owned()],
        }
    }

    /// The workers in other languages that are connected now.
    pub fn workers(&self) -> Vec<dalsegno_engine::request::WorkerStatus> {
        self.hub.executor().workers()
    }

    /// The app's HTTP routes: methods and path below the origin.
    pub fn routes(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.routes.iter().map(|route| {
            (
                route.methods.join(","),
                format!("/{}{}", self.route_prefix, route.path),
            )
        })
    }

    /// Tells on stderr what runs where.
    fn print_banner(&self) {
        let Some(address) = self.address else { return };
        eprintln!("dalsegno {} · hub {}", env!("CARGO_PKG_VERSION"), self.hub.name());
        eprintln!("  Dashboard  http://{address}/dashboard");
        eprintln!("  HTTP  http://{address}/runtime/webhooks/durabletask");
        for (methods, path) in self.routes() {
            eprintln!("  [{methods}] http://{address}{path}");
        }
    }

    /// Goes on until Ctrl-C or SIGTERM, then drains. A service manager (systemd) is told that the host
    /// is ready, that it makes progress, and that it stops. Says how many activities were still
    /// running.
    pub async fn run_until_ended(self, grace: Duration) -> usize {
        let told = match self.address {
            Some(address) => format!("hub {} at {address}", self.hub.name()),
            None => format!("hub {}", self.hub.name()),
        };
        let service = dalsegno_host::Service::ready(&self.hub, &told);
        until_ended().await;
        service.stopping();
        self.drain(grace).await
    }

    /// Stops at once: activities that run begin again after the next start.
    pub async fn shutdown(self) {
        self.drain(Duration::ZERO).await;
    }

    /// Takes no more work, lets activities finish for at most `grace`, stops. Says how many were
    /// still running.
    pub async fn drain(mut self, grace: Duration) -> usize {
        self.timers.iter().for_each(JoinHandle::abort);
        if let Some(shelf) = &self.shelf {
            shelf.drain().await;
        }
        drop(self.stop.take());
        let left = self.hub.shutdown(grace).await;
        if let Some(shelf) = &self.shelf {
            shelf.close_others(grace).await;
        }
        for server in self.servers.drain(..) {
            let _ = server.await;
        }
        self.observer.finish(AUDIT_GRACE).await;
        if let Some(traces) = &self.traces {
            traces.finish(TRACES_GRACE).await;
        }
        left
    }
}

/// A host that is dropped ends as a crash does: listener, triggers and hub stop, whoever still
/// holds a client of it. After [`Host::shutdown`] nothing is left to stop.
impl Drop for Host {
    fn drop(&mut self) {
        self.timers.iter().for_each(JoinHandle::abort);
        self.servers.iter().for_each(JoinHandle::abort);
        self.hub.abandon();
        self.registry.forget_client();
    }
}

fn observer(settings: &HostSettings, traces: Option<Arc<TraceExporter>>) -> Result<Arc<Observer>> {
    let observer = match settings.http.audit_file.as_deref() {
        Some(path) => Observer::with_audit_file(path, settings.http.audit_limits).map_err(|error| {
            let text = format!("audit.file: {} cannot be opened: {error}", path.display());
            Error::configuration(text)
        })?,
        None => Observer::default(),
    };
    Ok(Arc::new(observer.with_traces(traces)))
}

fn route_info(trigger: &HttpTrigger) -> RouteInfo {
    RouteInfo {
        name: trigger.name().to_owned(),
        path: format!("/{}", trigger.route_path()),
        methods: trigger.method_list().iter().map(ToString::to_string).collect(),
        level: match trigger.auth_level() {
            AuthLevel::Anonymous => dalsegno_host::AuthLevel::Anonymous,
            AuthLevel::Function => dalsegno_host::AuthLevel::Function,
            AuthLevel::Admin => dalsegno_host::AuthLevel::Admin,
        },
    }
}

fn host_timer(trigger: TimerTrigger, client: &Client) -> Result<HostTimer> {
    let schedule = Schedule::parse(trigger.schedule(), trigger.time_zone_name())
        .map_err(|error| Error::msg(format!("timer trigger {}: {error}", trigger.name())))?;
    let (name, run_on_startup) = (trigger.name().to_owned(), trigger.runs_on_startup());
    let (trigger, client) = (Arc::new(trigger), client.clone());
    let function = Arc::new(move |info: HostTimerInfo| {
        let (trigger, client) = (trigger.clone(), client.clone());
        let run = async move {
            let info = TimerInfo {
                scheduled: info.scheduled,
                past_due: info.past_due,
            };
            trigger
                .fire(client, info)
                .await
                .map_err(|error| TimerError::from(error.to_string()))
        };
        Box::pin(run) as futures::future::BoxFuture<'static, std::result::Result<(), TimerError>>
    });
    Ok(HostTimer {
        name,
        schedule,
        run_on_startup,
        function,
    })
}

async fn run_timer(timer: HostTimer, hub: TaskHub) {
    let name = timer.name.clone();
    if let Err(error) = timer.run(hub).await {
        tracing::error!(function = name, %error, "the timer trigger ended");
    }
}
