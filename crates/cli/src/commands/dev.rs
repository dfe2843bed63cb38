//! `dalsegno dev` and `dalsegno serve`

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use dalsegno::{App, Host, HostSettings, RemoteWorkers};
use dalsegno_host::config::{Config, HostJson, Program, Sources};

use crate::failure::{Exit, Failure};
use crate::output;

/// Where programs look for a server unless told otherwise: the core packages of the official SDKs
/// (4001), the samples' dashboard (8082), and clients of Durable Functions (7071).
const COMPATIBLE_PORTS: &str = "4001,8082,7071";

/// What `dev` logs: who connects, which hubs are made, and whatever is wrong.
const DEV_LOG: &str = "warn,dalsegno=info,dalsegno_grpc=info";

/// What to do when another process has the port or the folder.
const DEV_HELP: &str = "is another `dalsegno dev` running? If it shall go on, take --port N and --data-dir DIR (or --ephemeral) here";

/// The configuration file that `serve` reads when it is there.
const CONFIG_FILE: &str = "dalsegno.toml";

/// Serves workers and clients of any language on this machine, with nothing to configure.
#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno dev --ephemeral\n\
        Programs written with the Durable Task SDKs connect to http://localhost:8080, or\n\
        to localhost:4001 when they name no address; clients of Durable Functions to\n\
        http://localhost:7071. Any hub that they name is made when it is first named.")]
pub(crate) struct Dev {
    /// Folder of the hubs
    #[arg(long, value_name = "DIR", default_value = ".dalsegno/hub")]
    data_dir: PathBuf,
    /// Port on loopback; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Do not also listen on the ports that SDKs and samples assume
    #[arg(long)]
    no_compat_ports: bool,
    /// The ports that they assume; one that is taken is told and passed over
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = COMPATIBLE_PORTS)]
    compat_ports: Vec<u16>,
    /// Keep nothing: the hubs are in a folder that is deleted at the end
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
}

/// Serves workers and clients of any language, as configured: for production.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dalsegno serve --config /etc/dalsegno.toml\nReads dalsegno.toml and the environment;\n`dalsegno config show` has what is in force."
)]
pub(crate) struct Serve {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIG_FILE)]
    config: PathBuf,
    /// Make task hubs that clients name and that are not there yet
    #[arg(long)]
    hub_auto_create: bool,
    /// Take a host.json of Durable Functions, and tell of each key
    #[arg(long, value_name = "FILE")]
    host_json: Option<PathBuf>,
}

impl Dev {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        dalsegno_host::telemetry::init(DEV_LOG, "text");
        let ephemeral = match self.ephemeral {
            true => Some(Ephemeral::new()?),
            false => None,
        };
        let folder = ephemeral
            .as_ref()
            .map_or(self.data_dir.as_path(), |folder| &folder.0);
        let also_listen = match self.no_compat_ports {
            true => Vec::new(),
            false => self.compat_ports.iter().filter_map(|port| free(*port)).collect(),
        };
        let settings = HostSettings {
            listen: Some(loopback(self.port)),
            remote_workers: RemoteWorkers::AnyHub,
            also_listen,
            ..HostSettings::in_folder(folder)
        };
        let kept = match self.ephemeral {
            true => format!("{} (deleted at the end)", folder.display()),
            false => format!("{} (kept; --ephemeral drops it)", folder.display()),
        };
        let taken =
            |error: &dalsegno::Error| error.is_in_use() || (error.is_configuration() && !error.is_damaged());
        let host = App::new()
            .start(settings)
            .await
            .map_err(|error| match taken(&error) {
                true => refused(error).help(DEV_HELP),
                false => refused(error),
            })?;
        banner(&host, "dev", &kept);
        run_until_ended(host, std::time::Duration::from_secs(5)).await;
        Ok(Exit::Ok)
    }
}

impl Serve {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let unreadable = |path: &Path, error: &std::io::Error| {
            Failure::configuration(&format!("{} cannot be read: {error}", path.display()))
        };
        let mut sources =
            Sources::of_process(&self.config).map_err(|error| unreadable(&self.config, &error))?;
        if let Some(path) = &self.host_json {
            let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
            let environment: Vec<(String, String)> = std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect();
            let read =
                HostJson::parse(path, &text, &environment).map_err(|error| Failure::configuration(&error))?;
            output::talk(&read.to_string());
            sources.host_json = Some(read);
        }
        let config = Config::load(&sources)
            .map_err(|error| Failure::configuration(&error))?
            .config;
        dalsegno_host::telemetry::init(&config.log_level, &config.log_format);
        let mut settings = HostSettings::from_config(&config, Program::Serve).map_err(refused)?;
        // What serves nobody would be of no use: this program has no functions of its own.
        settings.remote_workers = match settings.remote_workers {
            _ if self.hub_auto_create => RemoteWorkers::AnyHub,
            RemoteWorkers::Refused => RemoteWorkers::ThisHub,
            configured => configured,
        };
        let (kept, drain) = (settings.folder.display().to_string(), settings.drain);
        let host = App::new().start(settings).await.map_err(refused)?;
        banner(&host, "serve", &kept);
        run_until_ended(host, drain).await;
        Ok(Exit::Ok)
    }
}

/// A folder that is deleted at the end.
struct Ephemeral(PathBuf);

impl Ephemeral {
    fn new() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("dalsegno-dev-{}", std::process::id()));
        // Others may write where temporary files are: a folder that exists is not ours.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| Failure::io(&format_args!("cannot create {}: {error}", folder.display())))?;
        Ok(Self(folder))
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        // The system clears its folder for temporary files when this does not succeed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that is taken is told and passed over.
fn free(port: u16) -> Option<SocketAddr> {
    let address = loopback(port);
    match TcpListener::bind(address) {
        Ok(_) => Some(address),
        Err(error) => {
            output::talk(&format!(
                "port {port}, where SDKs or samples look unless told otherwise, is not served: {error}"
            ));
            None
        }
    }
}

fn refused(error: dalsegno::Error) -> Failure {
    Failure::not_started(&error)
}

fn banner(host: &Host, mode: &str, kept: &str) {
    let Some(address) = host.address() else { return };
    let others: Vec<String> = host
        .other_addresses()
        .iter()
        .map(|other| format!(":{}", other.port()))
        .collect();
    let also = match others.is_empty() {
        true => String::new(),
        false => format!("   also {}", others.join(" ")),
    };
    let server = match address.port() {
        8080 => String::new(),
        _ => format!(" --server http://{address}"),
    };
    let version = env!("CARGO_PKG_VERSION");
    output::talk(&format!(
        "dalsegno {version} {mode} · hub {} · store {kept}\n  \
         Dashboard  http://{address}/dashboard\n  \
         HTTP       http://{address}/runtime/webhooks/durabletask{also}\n  \
         gRPC       http://{address}{also}\n  \
         Metrics    http://{address}/metrics\n\
         next: run a worker of any Durable Task SDK against http://{address}\n\
         try:  dalsegno start NAME -i '{{}}' --wait{server}",
        host.hub_names().join(", ")
    ));
}

async fn run_until_ended(host: Host, drain: std::time::Duration) {
    let left = host.run_until_ended(drain).await;
    if left > 0 {
        output::talk(&format!(
            "{left} activities were still running; they begin again at the next start"
        ));
    }
}
