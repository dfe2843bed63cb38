//! In process and over HTTP the answers are the same.

use std::time::Duration;

use dalsegno_core::message::ReusePolicy;
use dalsegno_core::query::{EntityQuery, InstanceQuery, Status};
use dalsegno_core::{EntityId, InstanceId, Timestamp};
use dalsegno_engine::hub::{LimiterDefinition, NewId};
use dalsegno_engine::request::{
    InstanceStatus, PurgeQuery, RaisedEvent, RequestErrorKind, Scope, Signal, StartOptions,
};
use dalsegno_host::RemoteHub;

use crate::world::{World, world};

fn options(name: &str, id: &str) -> StartOptions {
    StartOptions {
        name: name.into(),
        id: Some(InstanceId::parse(id).unwrap()),
        input: Some("{\"a\": 1.10}".into()),
        tags: vec![("team".into(), "blue & red".into())],
        ..StartOptions::default()
    }
}

/// What the engine keeps for itself does not travel.
fn public(mut status: InstanceStatus) -> InstanceStatus {
    status.row.extra.clear();
    status
}

async fn same_status(world: &World, remote: &RemoteHub, id: &InstanceId) {
    let local = world.hub.status(id).await.unwrap().map(public);
    assert_eq!(remote.status(id).await.unwrap(), local);
    assert_eq!(remote.history(id).await, world.hub.history(id).await);
}

#[tokio::test]
async fn statuses_histories_and_waits_are_the_same() {
    let world = world().await;
    let remote = world.remote();
    for (name, id) in [
        ("Echo", "e"),
        ("Fail", "f"),
        ("Hello", "h/é".replace('/', "-").as_str()),
    ] {
        let started = remote.start(options(name, id)).await.unwrap();
        assert_eq!(started.existing, None);
        let waited = remote.wait_for_completion(&started.id, None).await.unwrap();
        assert_eq!(
            waited,
            public(world.hub.wait_for_completion(&started.id, None).await.unwrap())
        );
        same_status(&world, &remote, &started.id).await;
    }
    let waiting = remote.start(options("Wait", "w")).await.unwrap().id;
    let begun = remote
        .wait_for_start(&waiting, Some(Duration::from_secs(60)))
        .await
        .unwrap();
    assert_eq!(begun.row.status, Status::Running);
    same_status(&world, &remote, &waiting).await;
    let soon = remote
        .wait_for_completion(&waiting, Some(Duration::ZERO))
        .await
        .unwrap_err();
    assert_eq!(soon.kind, RequestErrorKind::TimedOut);
    remote
        .raise_event(&waiting, RaisedEvent::new("go", Some("[true]".into())))
        .await
        .unwrap();
    let done = remote.wait_for_completion(&waiting, None).await.unwrap();
    assert_eq!(done.row.output, Some("[true]".into()));
    assert_eq!(remote.counts().await, world.hub.counts().await);
    assert_eq!(
        remote.info().await.unwrap().orchestrators,
        ["Echo", "Fail", "Family", "Hello", "Wait"]
    );
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn refusals_are_the_same() {
    let world = world().await;
    let remote = world.remote();
    let none = InstanceId::trusted("none");
    assert_eq!(remote.status(&none).await, Ok(None));
    assert_eq!(
        remote.terminate(&none, None, Scope::Instance).await,
        world.hub.terminate(&none, None, Scope::Instance).await
    );
    assert_eq!(remote.history(&none).await, world.hub.history(&none).await);
    let unknown = StartOptions {
        name: "Ecco".into(),
        ..StartOptions::default()
    };
    assert_eq!(
        remote.start(unknown.clone()).await,
        world.hub.start(unknown).await
    );

    let waiting = remote.start(options("Wait", "w")).await.unwrap().id;
    remote.wait_for_start(&waiting, None).await.unwrap();
    assert_eq!(
        remote.start(options("Wait", "w")).await,
        world.hub.start(options("Wait", "w")).await
    );
    assert_eq!(
        remote.resume(&waiting, None).await,
        world.hub.resume(&waiting, None).await
    );
    assert_eq!(
        remote.rewind(&waiting, None).await,
        world.hub.rewind(&waiting, None).await
    );
    assert_eq!(
        remote.restart(&waiting, NewId::Same).await,
        world.hub.restart(&waiting, NewId::Same).await
    );
    assert_eq!(
        remote.purge(&waiting, Scope::Instance).await,
        world.hub.purge(&waiting, Scope::Instance).await
    );

    let returned = StartOptions {
        reuse: ReusePolicy::ReturnExisting,
        ..options("Wait", "w")
    };
    assert_eq!(
        remote.start(returned).await.unwrap().existing,
        Some(Status::Running)
    );
    remote.suspend(&waiting, Some("tea & cake".into())).await.unwrap();
    assert_eq!(
        remote.status(&waiting).await.unwrap().unwrap().row.status,
        Status::Suspended
    );
    remote.resume(&waiting, None).await.unwrap();
    remote
        .terminate(&waiting, Some("enough".into()), Scope::Recursive)
        .await
        .unwrap();
    let ended = remote.wait_for_completion(&waiting, None).await.unwrap();
    assert_eq!(ended.row.output, Some("\"enough\"".into()));
    assert_eq!(
        remote
            .raise_event(&waiting, RaisedEvent::new("go", None))
            .await
            .unwrap_err()
            .kind,
        RequestErrorKind::Finished
    );
    assert_eq!(remote.restart(&waiting, NewId::Same).await.unwrap().id, waiting);

    let nowhere = RemoteHub::new("http://127.0.0.1:1").unwrap();
    assert_eq!(
        nowhere.counts().await.unwrap_err().kind,
        RequestErrorKind::Unreachable
    );
}

#[tokio::test]
async fn lists_and_purges_are_the_same() {
    let world = world().await;
    let remote = world.remote();
    for index in 0..7 {
        let id = remote
            .start(options(
                if index % 2 == 0 { "Echo" } else { "Fail" },
                &format!("l-{index}"),
            ))
            .await
            .unwrap()
            .id;
        remote.wait_for_completion(&id, None).await.unwrap();
    }
    for query in [
        InstanceQuery {
            limit: 3,
            ..InstanceQuery::default()
        },
        InstanceQuery {
            limit: 9,
            statuses: vec![Status::Failed],
            ..InstanceQuery::default()
        },
        InstanceQuery {
            limit: 9,
            name: Some("Echo".into()),
            id_prefix: Some("l-".into()),
            ..InstanceQuery::default()
        },
        InstanceQuery {
            limit: 9,
            tags: vec![("team".into(), "blue & red".into())],
            ..InstanceQuery::default()
        },
        InstanceQuery {
            limit: 9,
            tags: vec![("team".into(), "green".into())],
            ..InstanceQuery::default()
        },
    ] {
        let mut local = world.hub.list(query.clone()).await.unwrap();
        local.rows.iter_mut().for_each(|row| row.extra.clear());
        let page = remote.list(query.clone()).await.unwrap();
        assert_eq!(page, local);
        if let Some(next) = page.next {
            let after = InstanceQuery {
                after: Some(next),
                ..query
            };
            assert_eq!(
                remote.list(after.clone()).await.unwrap().rows.len(),
                world.hub.list(after).await.unwrap().rows.len()
            );
        }
    }
    assert_eq!(
        remote.purge(&InstanceId::trusted("l-0"), Scope::Recursive).await,
        Ok(1)
    );
    let failed = PurgeQuery {
        created_from: Some(Timestamp::from_micros(0)),
        statuses: vec![Status::Failed],
        ..PurgeQuery::default()
    };
    assert_eq!(remote.purge_many(failed.clone()).await, Ok(3));
    assert_eq!(remote.purge_many(failed).await, Ok(0));
    assert_eq!(
        remote.purge_many(PurgeQuery::default()).await.unwrap_err().kind,
        RequestErrorKind::Invalid
    );
}

#[tokio::test]
async fn entities_and_limiters_are_the_same() {
    let world = world().await;
    let remote = world.remote();
    let id = EntityId::new("counter", "a b").unwrap();
    assert_eq!(remote.entity(&id).await, Ok(None));
    remote
        .signal_entity(&id, Signal::new("add", Some("5".into())))
        .await
        .unwrap();
    while world
        .hub
        .entity(&id)
        .await
        .unwrap()
        .is_none_or(|row| row.state.is_none())
    {
        tokio::task::yield_now().await;
    }
    let local = world.hub.entity(&id).await.unwrap().unwrap();
    let row = remote.entity(&id).await.unwrap().unwrap();
    assert_eq!(
        (row.id, row.state, row.last_operation),
        (local.id, local.state, local.last_operation)
    );
    let page = remote
        .list_entities(EntityQuery {
            limit: 10,
            ..EntityQuery::default()
        })
        .await
        .unwrap();
    assert_eq!(page.rows.len(), 1);
    assert_eq!(remote.delete_entity(&id).await, Ok(true));
    assert_eq!(remote.delete_entity(&id).await, Ok(false));

    let rate = Some((5000, Duration::from_secs(3600)));
    let rule = LimiterDefinition {
        rate,
        burst: Some(10),
        concurrency: Some(2),
    };
    remote.set_limiter("github", rule.clone()).await.unwrap();
    let local = world.hub.set_limiter("gitlab", rule.clone()).await;
    assert_eq!(remote.set_limiter("gitlab", rule).await, local);
    let known = remote.limiters().await.unwrap();
    assert_eq!(
        (known.len(), known[0].rate, known[0].burst, known[0].concurrency),
        (1, rate, 10, Some(2))
    );
}
