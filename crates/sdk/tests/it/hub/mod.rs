//! Clients on a real hub: in the same process, and over HTTP. Both give the same answers.

mod commands;
mod entities;
mod functions;
mod restarts;
mod starts;

use std::time::Duration;

use dalsegno::{App, Client, HostSettings, Instance, InstanceStatus};

/// Long enough for anything that happens at all.
const SOON: Duration = Duration::from_secs(20);

/// Looks before giving up.
const LOOKS_MAX: u32 = 20_000;

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

/// Looks at an instance until it is as wanted.
async fn until<Out>(instance: &Instance<Out>, wanted: impl Fn(&InstanceStatus) -> bool) -> InstanceStatus {
    for _ in 0..LOOKS_MAX {
        let status = instance.status().await.unwrap();
        if wanted(&status) {
            return status;
        }
        tokio::task::yield_now().await;
    }
    panic!("never as wanted: {:?}", instance.status().await);
}

/// Asks until the answer is yes.
async fn eventually(ask: impl AsyncFn() -> bool) {
    for _ in 0..LOOKS_MAX {
        if ask().await {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never happens");
}
