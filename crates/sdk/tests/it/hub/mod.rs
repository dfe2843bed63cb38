//! Clients on a real hub: in the same process, and over HTTP. Both give the same answers.

mod audit;
mod commands;
mod connected;
mod disk;
mod entities;
mod explain;
mod functions;
mod held;
mod limits;
mod receivers;
mod repair;
mod restarts;
mod secrets;
mod spans;
mod starts;
mod stuck;
mod traces;
mod values;
mod watch;
mod webhooks;

use std::path::Path;
use std::time::Duration;

use dalsegno::{App, Client, Host, HostSettings, Instance, InstanceStatus, RemoteWorkers, Timestamp};
use dalsegno_engine::clock::{Clock, SystemClock};

/// Long enough for anything that happens at all.
const SOON: Duration = Duration::from_secs(20);

/// A time that comes in no test, and to which a start may be put off.
fn later() -> Timestamp {
    SystemClock::default().now() + Duration::from_secs(50 * 365 * 86_400)
}

/// Runs a test against a hub in this process, then against one behind HTTP.
async fn on_both(app: impl Fn() -> App, test: impl AsyncFn(Client)) {
    let folder = tempfile::tempdir().unwrap();
    let host = app().embedded(folder.path()).await.unwrap();
    test(host.client().clone()).await;
    host.shutdown().await;

    let folder = tempfile::tempdir().unwrap();
    let host = app().start(HostSettings::in_folder(folder.path())).await.unwrap();
    let url = format!("http://{}", host.address().unwrap());
    test(Client::remote(&url).unwrap()).await;
    host.shutdown().await;
}

/// The same, and once more with the app as a worker of a hub that has no functions of its own.
async fn on_all(app: impl Fn() -> App, test: impl AsyncFn(Client)) {
    on_both(&app, &test).await;

    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let address = format!("http://{}", host.address().unwrap());
    let connected = app().connect(address).start().unwrap();
    connected.connected().await;
    test(host.client().clone()).await;
    connected.drain(SOON).await;
    host.shutdown().await;
}

/// A hub without functions, on a port of its own.
async fn hub_for_workers(folder: &Path) -> Host {
    let settings = HostSettings {
        remote_workers: RemoteWorkers::ThisHub,
        ..HostSettings::in_folder(folder)
    };
    App::new().start(settings).await.unwrap()
}

/// Looks at an instance until it is as wanted.
async fn until<Out>(instance: &Instance<Out>, wanted: impl Fn(&InstanceStatus) -> bool) -> InstanceStatus {
    let look = async {
        loop {
            let status = instance.status().await.unwrap();
            if wanted(&status) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(SOON, look).await;
    found.expect("it is as wanted at last")
}

/// Asks until the answer is yes.
async fn eventually(ask: impl AsyncFn() -> bool) {
    let asking = async {
        while !ask().await {
            tokio::task::yield_now().await;
        }
    };
    let answered = tokio::time::timeout(SOON, asking).await;
    answered.expect("it happens at last");
}
