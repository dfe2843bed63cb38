//! A host in this process, and the binary that speaks to it.

use std::process::{Command, Stdio};
use std::sync::Arc;

use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::{HubOptions, LimiterDefinition};
use dalsegno_host::Server;
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
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(Server::new(hub).serve(listener, std::future::pending()));
            address
        });
        Self {
            url: format!("http://{address}"),
            _runtime: runtime,
        }
    }

    /// Runs a line and returns stdout, stderr with `2| ` before each line, and the exit code.
    pub(crate) fn run(&self, line: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_dalsegno"))
            .args(line.split(' '))
            .env_clear()
            .env("DALSEGNO_SERVER", &self.url)
            .stdin(Stdio::null())
            .output()
            .unwrap();
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
