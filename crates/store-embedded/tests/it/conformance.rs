//! The suite that every store is held to.

use std::time::Duration;

use dalsegno_core::store::Store;
use dalsegno_store_embedded::{EmbeddedStore, Options};
use dalsegno_store_tests::{Subject, conformance, random_operations};
use tempfile::TempDir;

use crate::options;

/// How a hub is closed before it is opened again.
#[derive(Clone, Copy)]
enum Close {
    /// What is in the log is folded first.
    Clean,
    /// As after a crash: the log is replayed.
    Crash,
}

struct Hub {
    folder: TempDir,
    options: Options,
    close: Close,
    store: Option<EmbeddedStore>,
}

impl Hub {
    fn new(options: Options, close: Close) -> Self {
        let folder = TempDir::new().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("hub"), options.clone()).unwrap();
        Self {
            folder,
            options,
            close,
            store: Some(store),
        }
    }
}

impl Subject for Hub {
    fn store(&self) -> &dyn Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        match (self.store.take(), self.close) {
            (Some(store), Close::Crash) => store.abandon(),
            (store, _) => drop(store),
        }
        let folder = self.folder.path().join("hub");
        self.store = Some(EmbeddedStore::open(&folder, self.options.clone()).unwrap());
    }
}

#[test]
fn the_suite_passes_with_clean_restarts() {
    conformance(|| Hub::new(options(), Close::Clean));
}

#[test]
fn the_suite_passes_when_every_restart_replays_the_log() {
    conformance(|| Hub::new(options(), Close::Crash));
}

#[test]
fn random_operations_agree_with_the_model() {
    random_operations(0..25, || Hub::new(options(), Close::Crash));
}

#[test]
fn random_operations_agree_with_the_model_while_checkpoints_run_all_the_time() {
    let eager = Options {
        checkpoint_interval: Duration::ZERO,
        ..options()
    };
    random_operations(100..120, || Hub::new(eager.clone(), Close::Clean));
}
