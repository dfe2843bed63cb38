//! Entities through clients and orchestrations.

use std::time::Duration;

use dalsegno::{Client, EntityQuery};

use super::functions::{GO, Probe, Wallet, app_with, holder, transfer};
use super::{eventually, on_all, until};

#[tokio::test(flavor = "multi_thread")]
async fn entities_are_signalled_called_listed_and_deleted() {
    let app = || app_with(&Probe::default());
    on_all(app, async |client: Client| {
        let ada = client.entity::<Wallet>("ada").unwrap();
        assert_eq!(ada.state().await.unwrap(), None);
        ada.put(100).signal().await.unwrap();
        ada.put(1).signal_after(Duration::from_millis(5)).await.unwrap();
        eventually(async || ada.state().await.unwrap() == Some(Wallet { cents: 101 })).await;

        let input = ("ada".to_owned(), "bob".to_owned(), 30);
        let moved = client.start(transfer, input).await.unwrap();
        assert_eq!(moved.wait().await.unwrap(), 30);
        assert_eq!(ada.state().await.unwrap(), Some(Wallet { cents: 71 }));
        let input = ("bob".to_owned(), "ada".to_owned(), 31);
        let refused = client.start(transfer, input).await.unwrap();
        assert!(
            refused
                .wait()
                .await
                .unwrap_err()
                .to_string()
                .contains("not that much")
        );

        let page = client
            .list_entities(EntityQuery {
                name: Some("wallet".into()),
                limit: 10,
                ..EntityQuery::default()
            })
            .await
            .unwrap();
        let ids: Vec<String> = page.rows.iter().map(|row| row.id.to_string()).collect();
        assert_eq!(ids, ["@wallet@ada", "@wallet@bob"]);
        assert!(client.delete_entity(&ada.id()).await.unwrap());
        assert!(!client.delete_entity(&ada.id()).await.unwrap());
        assert_eq!(ada.state().await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_lets_others_wait_and_ends_with_its_holder() {
    let app = || app_with(&Probe::default());
    on_all(app, async |client: Client| {
        let wallet = client.entity::<Wallet>("box").unwrap();
        wallet.put(1).signal().await.unwrap();
        let holding = client.start(holder, "box".into()).await.unwrap();
        until(&holding, |status| status.row.custom_status.is_some()).await;
        wallet.put(1).signal().await.unwrap();
        assert!(client.delete_entity(&wallet.id()).await.is_err(), "it is locked");
        let second = client.start(holder, "box".into()).await.unwrap();
        let waited = second.wait_for(Duration::from_millis(20)).await.unwrap_err();
        assert!(waited.is_timeout());
        assert_eq!(wallet.state().await.unwrap(), Some(Wallet { cents: 1 }));
        holding.terminate("").await.unwrap();
        until(&second, |status| status.row.custom_status.is_some()).await;
        second.raise_event(GO, "x".into()).await.unwrap();
        second.wait().await.unwrap();
        eventually(async || wallet.state().await.unwrap() == Some(Wallet { cents: 2 })).await;
    })
    .await;
}
