//! Rows that cannot be read are moved aside while the hub runs.

use std::path::Path;
use std::time::Duration;

use dalsegno::{
    Client, Error, Host, OrchestrationContext, Result, RetryPolicy, Status, activity, orchestrator,
};
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

/// Locks the wallet of that name, then fails for ever.
#[orchestrator]
async fn stubborn(ctx: &OrchestrationContext, wallet: String) -> Result<()> {
    let wallet = ctx.entity::<Wallet>(wallet);
    let _lock = ctx.lock([wallet.id()]).await;
    ctx.set_custom_status("locked");
    let hourly = RetryPolicy::fixed(100, Duration::from_secs(3600));
    ctx.call(refuse, ()).retry(hourly).await?;
    Ok(())
}

#[activity]
async fn refuse() -> Result<()> {
    Err(Error::msg("no"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_instance_had_begun_and_locked_ends_with_it() {
    // Its activity was tried again, and its lock was held for ever.
    for is_purge in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let open = || async {
            let app = app_with(&Probe::default()).register(stubborn).register(refuse);
            app.embedded(folder.path()).await.unwrap()
        };
        let host = open().await;
        let instance = host
            .client()
            .start(stubborn, "ada".into())
            .id("rotten")
            .await
            .unwrap();
        eventually(async || retries(&host).await == 1).await;
        host.shutdown().await;
        drop(instance);
        change(
            folder.path(),
            "UPDATE instances SET name = 'x' WHERE id = 'rotten'",
        );

        let host = open().await;
        let client = host.client().clone();
        client
            .entity::<Wallet>("ada")
            .unwrap()
            .put(5)
            .signal()
            .await
            .unwrap();
        assert_eq!(retries(&host).await, 1);
        let rotten = client.instance(stubborn, "rotten").unwrap();
        match is_purge {
            true => host.hub().purge_damaged(rotten.id()).await.unwrap(),
            false => assert_eq!(host.hub().repair().await.unwrap().left, []),
        }
        has_cents(&client, 5).await;
        assert_eq!(retries(&host).await, 0);
        host.shutdown().await;
        check_sound(folder.path());
        let tables = Connection::open(folder.path().join("hub.db")).unwrap();
        for table in ["instances", "history", "tasks", "timers", "messages"] {
            let count: u32 = tables
                .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
                .unwrap();
            assert_eq!(count, 0, "{table}");
        }
    }
}

/// Activities that wait for their next attempt.
async fn retries(host: &Host) -> u64 {
    host.hub().measure().await.unwrap().partitions.retries
}
