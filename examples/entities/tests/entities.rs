//! One operation at a time, from clients, orchestrations and other entities.

use dalsegno::{Client, Host, Result, TaskError, join_all};
use entities::{Account, Aggregator, Alarms, Counter, OVERDRAWN, Transfer, app, count_up, transfer};

async fn host() -> (Host, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (app().embedded(&folder).await.expect("a host"), folder)
}

#[tokio::test]
async fn a_counter_counts_every_signal_of_everybody() {
    let (host, _folder) = host().await;
    let client = host.client();
    let starts = (0..8).map(|_| client.start(count_up, ("visits".into(), 25)).into_future());
    let mut highest = 0;
    for started in join_all(starts).await {
        let seen = started.expect("started").wait().await.expect("a value");
        assert!(
            seen >= 25,
            "one's own signals come before one's own question: {seen}"
        );
        highest = highest.max(seen);
    }
    assert_eq!(highest, 200);

    client
        .entity::<Counter>("visits")
        .expect("a key")
        .reset()
        .signal()
        .await
        .expect("sent");
    let again = client
        .start(count_up, ("visits".into(), 1))
        .await
        .expect("started")
        .wait()
        .await;
    assert_eq!(again.expect("a value"), 1);
    host.shutdown().await;
}

#[tokio::test]
async fn readings_become_statistics_and_alarms_go_on_to_another_entity() {
    let (host, _folder) = host().await;
    let boiler = host.client().entity::<Aggregator>("boiler").expect("a key");
    for reading in [71.5, 93.0, 60.5] {
        boiler.report(reading).signal().await.expect("sent");
    }
    let statistics = loop {
        match boiler.state().await.expect("a state") {
            Some(aggregator) if aggregator.statistics().count == 3 => break aggregator.statistics(),
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!((statistics.sum, statistics.highest), (225.0, Some(93.0)));
    let alarms = loop {
        if let Some(alarms) = host
            .client()
            .entity::<Alarms>("all")
            .expect("a key")
            .state()
            .await
            .expect("a state")
        {
            break alarms.list();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(alarms, [("boiler".to_owned(), 93.0)]);
    assert!(
        host.client()
            .entity::<Aggregator>("fridge")
            .expect("a key")
            .state()
            .await
            .expect("no state")
            .is_none()
    );
    host.shutdown().await;
}

async fn move_money(client: &Client, from: &str, to: &str, cents: i64) -> Result<(i64, i64)> {
    let order = Transfer {
        from: from.into(),
        to: to.into(),
        cents,
    };
    client.start(transfer, order).await.expect("started").wait().await
}

async fn deposit(client: &Client, account: &str, cents: i64) {
    client
        .entity::<Account>(account)
        .expect("a key")
        .deposit(cents)
        .signal()
        .await
        .expect("sent");
}

#[tokio::test]
async fn a_transfer_moves_money_or_changes_nothing() {
    let (host, _folder) = host().await;
    let client = host.client();
    deposit(client, "ada", 1_000).await;
    assert_eq!(
        move_money(client, "ada", "bob", 300).await.expect("moved"),
        (700, 300)
    );

    let refused = move_money(client, "ada", "bob", 701)
        .await
        .expect_err("not covered");
    let told = refused.downcast_ref::<TaskError>().expect("the instance failed");
    assert!(told.is_kind(OVERDRAWN), "{told:?}");
    assert_eq!(
        move_money(client, "ada", "bob", 0).await.expect("both unlocked"),
        (700, 300)
    );
    host.shutdown().await;
}

#[tokio::test]
async fn opposite_transfers_at_once_neither_block_nor_lose_a_cent() {
    let (host, _folder) = host().await;
    let client = host.client();
    for account in ["ada", "bob", "cyd"] {
        deposit(client, account, 10_000).await;
    }
    let pairs = [("ada", "bob"), ("bob", "ada"), ("bob", "cyd"), ("cyd", "ada")];
    let moves = (0..48).map(|number| {
        let (from, to) = pairs[number % pairs.len()];
        move_money(client, from, to, 7)
    });
    for moved in join_all(moves).await {
        moved.expect("covered");
    }
    let mut total = 0;
    for account in ["ada", "bob", "cyd"] {
        let state = client
            .entity::<Account>(account)
            .expect("a key")
            .state()
            .await
            .expect("a state");
        total += state.expect("an account").balance();
    }
    assert_eq!(total, 30_000);
    host.shutdown().await;
}

#[tokio::test]
async fn a_holder_that_is_ended_lets_go_of_its_locks() {
    let (host, _folder) = host().await;
    let client = host.client();
    deposit(client, "ada", 100).await;
    // Some of these are ended while they hold or wait for the locks.
    for _ in 0..10 {
        let order = Transfer {
            from: "ada".into(),
            to: "bob".into(),
            cents: 0,
        };
        let instance = client.start(transfer, order).await.expect("started");
        let _perhaps_done = instance.terminate("not needed").await;
    }
    assert_eq!(
        move_money(client, "ada", "bob", 100).await.expect("unlocked"),
        (0, 100)
    );
    host.shutdown().await;
}
