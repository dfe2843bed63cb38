//! A host in this process, and the binary that speaks to it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::{HubOptions, LimiterDefinition};
use dalsegno_host::Server;
use dalsegno_host::schedule::{Schedule, Schedules, TimerTrigger};
use dalsegno_host::server::HttpSettings;
use dalsegno_store_memory::MemoryStore;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::app::App;

pub(crate) struct World {
    url: String,
    _runtime: Runtime,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(HttpSettings::default())
    }

    /// One that only shows.
    pub(crate) fn read_only() -> Self {
        Self::with(HttpSettings {
            is_read_only: true,
            ..HttpSettings::default()
        })
    }

    fn with(settings: HttpSettings) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = runtime.block_on(async {
            let rule = LimiterDefinition {
                rate: None,
                burst: None,
                concurrency: Some(1),
            };
            let limiters = vec![("github".into(), rule)];
            let options = HubOptions {
                threads: 1,
                limiters,
                ..HubOptions::default()
            };
            let hub = TaskHub::open(Arc::new(MemoryStore::new(2)), Arc::new(App), options).unwrap();
            let schedules = Arc::new(Schedules::default());
            schedules.keep(vec![nightly()], &hub);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = Server::new(hub).schedules(schedules).settings(settings);
            tokio::spawn(server.serve(listener, std::future::pending()));
            address
        });
        Self {
            url: format!("http://{address}"),
            _runtime: runtime,
        }
    }

    /// Runs a line and returns stdout, stderr with `2| ` before each line, and the exit code.
    pub(crate) fn run(&self, line: &str) -> String {
        self.run_in(Path::new("."), line)
    }

    /// The same in a folder.
    pub(crate) fn run_in(&self, folder: &Path, line: &str) -> String {
        Self::told(self.command(line.split(' ')).current_dir(folder))
    }

    /// The same with words that may have spaces, in an environment.
    pub(crate) fn run_with(&self, words: &[&str], environment: &[(&str, &str)]) -> String {
        Self::told(
            self.command(words.iter().copied())
                .envs(environment.iter().copied()),
        )
    }

    /// The same when the environment does not say where the host is.
    pub(crate) fn run_without_server(&self, words: &[&str], environment: &[(&str, &str)]) -> String {
        Self::told(
            self.command(words.iter().copied())
                .env_remove("DALSEGNO_SERVER")
                .envs(environment.iter().copied()),
        )
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A line that is about to run; nobody can type into it.
    pub(crate) fn command<'a>(&self, words: impl Iterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dalsegno"));
        command
            .args(words)
            .env_clear()
            .env("DALSEGNO_SERVER", &self.url)
            .stdin(Stdio::null());
        command
    }

    fn told(command: &mut Command) -> String {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let mut told = text(output.stdout);
        for line in text(output.stderr).lines() {
            told += &format!("2| {line}\n");
        }
        told + &format!("exit {}", output.status.code().unwrap_or(-1))
    }

    /// Runs a line until it says that.
    pub(crate) fn run_until(&self, line: &str, wanted: &str) {
        while self.run(line) != wanted {
            std::thread::yield_now();
        }
    }
}

/// A timer trigger that runs in a leap year, or by hand.
fn nightly() -> TimerTrigger {
    TimerTrigger {
        name: "nightly".into(),
        schedule: Schedule::parse("0 0 0 29 2 *", None).unwrap(),
        run_on_startup: false,
        function: Arc::new(|_| Box::pin(async { Ok(()) })),
    }
}

/// An app made by `init`, built and running. Killed when dropped.
pub(crate) struct NewApp {
    process: Child,
    url: String,
}

impl NewApp {
    /// Builds it with the versions and build products of this workspace, and starts it on a free port.
    pub(crate) fn start(folder: &Path) -> Self {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        std::fs::copy(workspace.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        let target = Path::new(env!("CARGO_BIN_EXE_dalsegno"))
            .parent()
            .and_then(Path::parent)
            .unwrap();
        let built = Command::new(env!("CARGO"))
            .args(["build", "--offline"])
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "0")
            .status()
            .unwrap();
        assert!(built.success());
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new(target.join("debug/hello"))
            .args(["--port", &port.to_string()])
            .current_dir(folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    pub(crate) fn check(&self, world: &World) {
        let server = format!("--server {}", self.url);
        world.run_until(&format!("entity list -o id {server}"), "exit 0");
        let told = world.run(&format!("start hello -i \"Ada\" --wait -q {server}"));
        assert_eq!(told, "\"Hello, Ada!\"\nexit 0");
    }
}

impl Drop for NewApp {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
