//! Rows that cannot be read are moved aside while the hub runs.

use std::path::Path;

use dalsegno::{Client, Host, Status};
use dalsegno_store_embedded::verify;
use rusqlite::Connection;

use super::functions::{GO, Probe, Wallet, app_with, waiter};
use super::{SOON, eventually, until};

async fn open(folder: &Path) -> Host {
    app_with(&Probe::default()).embedded(folder).await.unwrap()
}

fn change(folder: &Path, sql: &str) {
    let tables = Connection::open(folder.join("hub.db")).unwrap();
    assert_eq!(tables.execute(sql, []).unwrap(), 1, "{sql}");
}

fn check_sound(folder: &Path) {
    let report = verify::verify(folder).unwrap();
    assert!(report.is_sound(), "{report}");
}

/// Two instances that wait, and an entity with a cent; closed.
async fn hub() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let host = open(folder.path()).await;
    let client = host.client().clone();
    for id in ["rotten", "sound"] {
        let instance = client.start(waiter, ()).id(id).await.unwrap();
        until(&instance, |status| status.row.custom_status.is_some()).await;
    }
    client
        .entity::<Wallet>("ada")
        .unwrap()
        .put(1)
        .signal()
        .await
        .unwrap();
    has_cents(&client, 1).await;
    host.shutdown().await;
    folder
}

async fn has_cents(client: &Client, cents: i64) {
    let wallet = client.entity::<Wallet>("ada").unwrap();
    eventually(async || wallet.state().await.unwrap() == Some(Wallet { cents })).await;
}

fn moved_from(tables: &[dalsegno_core::store::Moved]) -> Vec<&str> {
    tables.iter().map(|moved| moved.table.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_rows_are_moved_with_their_bytes_and_what_waited_goes_on() {
    let folder = hub().await;
    let name = "UPDATE instances SET name = CAST(x'ff' AS TEXT) WHERE id = 'rotten'";
    change(folder.path(), name);
    change(
        folder.path(),
        "UPDATE entities SET last_operation = last_operation + 1",
    );

    let host = open(folder.path()).await;
    let client = host.client().clone();
    assert!(
        client.start(waiter, ()).id("rotten").await.is_err(),
        "its id is taken"
    );
    let wallet = client.entity::<Wallet>("ada").unwrap();
    wallet.put(5).signal().await.unwrap();
    assert!(wallet.state().await.is_err(), "its state cannot be read");

    let repaired = host.hub().repair().await.unwrap();
    let tables = ["instances", "history", "entities"];
    assert_eq!(moved_from(&repaired.moved), tables, "{repaired:?}");
    assert_eq!(repaired.left, []);
    assert_eq!(
        host.hub().repair().await.unwrap(),
        Default::default(),
        "nothing is left to do"
    );

    has_cents(&client, 5).await;
    let again = client.start(waiter, ()).id("rotten").await.unwrap();
    for id in ["rotten", "sound"] {
        let instance = client.instance(waiter, id).unwrap();
        instance.raise_event(GO, id.into()).await.unwrap();
        assert_eq!(instance.wait_for(SOON).await.unwrap(), id);
    }
    again.purge().await.unwrap();
    let counts = host.hub().counts().await.unwrap();
    let counted: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [(Status::Completed, 1)]);
    host.shutdown().await;
    check_sound(folder.path());

    let tables = Connection::open(folder.path().join("hub.db")).unwrap();
    let records: String = tables
        .query_row("SELECT group_concat(record) FROM quarantine", [], |row| {
            row.get(0)
        })
        .unwrap();
    for line in ["id text 726f7474656e", "name text ff", "name text 77616c6c6574"] {
        assert!(
            records.lines().any(|found| found.ends_with(line)),
            "{line}: {records}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_id_is_damaged_is_moved_and_its_id_is_free() {
    for id in ["CAST(x'ff' AS TEXT)", "'rotter'"] {
        let folder = hub().await;
        change(
            folder.path(),
            &format!("UPDATE instances SET id = {id} WHERE id = 'rotten'"),
        );
        let host = open(folder.path()).await;
        let repaired = host.hub().repair().await.unwrap();
        assert_eq!(
            moved_from(&repaired.moved),
            ["instances", "history"],
            "{repaired:?}"
        );
        assert_eq!(repaired.left, []);
        let again = host.client().start(waiter, ()).id("rotten").await.unwrap();
        until(&again, |status| status.row.custom_status.is_some()).await;
        host.shutdown().await;
        check_sound(folder.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_instance_is_in_memory_is_left_and_written_again() {
    let folder = hub().await;
    let host = open(folder.path()).await;
    let rotten = host.client().instance(waiter, "rotten").unwrap();
    // A command brings it into memory.
    rotten.suspend("look").await.unwrap();
    // It also folds the log into the tables.
    assert_eq!(host.hub().repair().await.unwrap(), Default::default());
    change(
        folder.path(),
        "UPDATE instances SET updated = updated + 1 WHERE id = 'rotten'",
    );
    let repaired = host.hub().repair().await.unwrap();
    assert_eq!(repaired.moved, []);
    let [left] = &repaired.left[..] else {
        panic!("{repaired:?}");
    };
    assert!(
        left.table == "instances" && left.reason.contains("in memory"),
        "{left:?}"
    );
    rotten.resume("go on").await.unwrap();
    rotten.raise_event(GO, "whole".into()).await.unwrap();
    assert_eq!(rotten.wait_for(SOON).await.unwrap(), "whole");
    assert_eq!(host.hub().repair().await.unwrap(), Default::default());
    host.shutdown().await;
    check_sound(folder.path());
}
