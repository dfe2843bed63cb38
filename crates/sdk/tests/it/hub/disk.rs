//! A disk that fills up, for real: a small file system of our own, where one can be mounted.

use std::path::Path;
use std::process::Command;

use dalsegno::{HostSettings, Status};
use dalsegno_engine::request::RequestErrorKind;

use super::eventually;
use super::functions::{Probe, app_with, echo, waiter};

const MEGABYTE: usize = 1024 * 1024;

/// A file system in memory; gone when dropped.
struct Mounted<'f>(&'f Path);

impl<'f> Mounted<'f> {
    fn new(folder: &'f Path) -> Option<Self> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=128m", "dalsegno-test"])
            .arg(folder)
            .output();
        mount
            .is_ok_and(|done| done.status.success())
            .then(|| Self(folder))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_refuses_new_work_and_takes_it_again_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::new(folder.path()) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let mut settings = HostSettings::in_folder(mounted.0.join("hub"));
    settings.listen = None;
    settings.limits.disk_free_bytes_min = 32 * MEGABYTE as u64;
    let host = app_with(&Probe::default()).start(settings).await.unwrap();
    let client = host.client();
    let running = client.start(waiter, ()).id("r").await.unwrap();
    running.wait_for_start(super::SOON).await.unwrap();

    // What is left after it is less than the limit, and more than the hub needs to go on.
    let filler = mounted.0.join("filler");
    let free = || host.hub().free_bytes().expect("the embedded store knows");
    let size = free().saturating_sub(16 * MEGABYTE as u64);
    std::fs::write(&filler, vec![1; usize::try_from(size).unwrap()]).unwrap();
    assert!(free() < 32 * MEGABYTE as u64);
    eventually(async || {
        let started = client.start(echo, "x".to_owned()).await;
        started.is_err_and(|error| error.request_kind() == Some(RequestErrorKind::InsufficientStorage))
    })
    .await;
    running.terminate("no room").await.unwrap();
    assert_eq!(running.status().await.unwrap().row.status, Status::Terminated);
    running.purge().await.unwrap();

    std::fs::remove_file(&filler).unwrap();
    eventually(async || client.start(echo, "x".to_owned()).await.is_ok()).await;
    drop(running);
    host.shutdown().await;
}
