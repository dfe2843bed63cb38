//! Steering instances, and what reaches their activities.

use std::time::Duration;

use dalsegno::{
    App, Client, Error, EventKind, InstanceQuery, Limiter, NewId, OrchestrationContext, Result, RetryPolicy,
    Status, activity, orchestrator,
};
use dalsegno_engine::request::RequestErrorKind;

use super::functions::{
    BUDGET, GO, Probe, app_with, collector, fragile, impatient, insistent, listening, panics, parent,
    retried_child, spender, strict_parent, waiter, watching,
};
use super::{SOON, eventually, on_all, until};

fn app() -> dalsegno::App {
    app_with(&Probe::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_termination_reaches_the_activity_that_runs() {
    let probe = Probe::default();
    on_all(
        || app_with(&probe),
        async |client: Client| {
            let instance = client.start(watching, ()).await.unwrap();
            eventually(async || !probe.notes(instance.id()).is_empty()).await;
            instance.terminate("enough").await.unwrap();
            let error = instance.wait().await.unwrap_err();
            assert!(error.to_string().contains("enough"), "{error}");
            eventually(async || probe.notes(instance.id()) == ["began", "Terminated"]).await;
            let again = instance.terminate("more").await.unwrap_err();
            assert_eq!(again.request_kind(), Some(RequestErrorKind::Finished));
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_cancel_reaches_the_activity_that_runs() {
    let probe = Probe::default();
    on_all(
        || app_with(&probe),
        async |client: Client| {
            let instance = client.start(watching, ()).await.unwrap();
            eventually(async || !probe.notes(instance.id()).is_empty()).await;
            instance.cancel("enough").await.unwrap();
            let error = instance.wait().await.unwrap_err();
            assert!(
                error.is_cancelled() && error.to_string().contains("enough"),
                "{error}"
            );
            assert_eq!(probe.notes(instance.id()), ["began", "Requested"]);
            let row = instance.status().await.unwrap().row;
            assert_eq!(row.status, Status::Canceled);
            let query = InstanceQuery {
                statuses: vec![Status::Canceled],
                ..InstanceQuery::default()
            };
            let page = client.list(query).await.unwrap();
            assert_eq!(
                page.rows.iter().map(|row| &row.id).collect::<Vec<_>>(),
                [instance.id()]
            );
            assert!(client.counts().await.unwrap().contains(&(Status::Canceled, 1)));
            let again = instance.cancel("more").await.unwrap_err();
            assert_eq!(again.request_kind(), Some(RequestErrorKind::Finished));
            let rewound = instance.rewind("").await.unwrap_err();
            assert_eq!(rewound.request_kind(), Some(RequestErrorKind::Finished));
            let same = instance.restart(NewId::Same).await.unwrap();
            eventually(async || probe.notes(same.id()).len() > 2).await;
            assert_eq!(
                same.status().await.unwrap().row.status,
                Status::Running,
                "without the request"
            );
            same.terminate("").await.unwrap();
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_begun_is_canceled_without_its_code() {
    on_all(app, async |client: Client| {
        let later = super::later();
        let instance = client.start(waiter, ()).at(later).await.unwrap();
        instance.cancel("not needed").await.unwrap();
        assert!(instance.wait().await.unwrap_err().is_cancelled());
        let row = instance.status().await.unwrap().row;
        assert_eq!((row.status, row.custom_status), (Status::Canceled, None));
        assert_eq!(row.output.unwrap().as_str(), "\"not needed\"");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_end_as_agreed() {
    on_all(app, async |client: Client| {
        let child = async |id: &str| {
            let child = client.instance(waiter, id).unwrap();
            eventually(async || child.status().await.is_ok()).await;
            child
        };
        let alone = client.start(parent, "abandoned".into()).await.unwrap();
        let abandoned = child("abandoned").await;
        alone.terminate("").await.unwrap();
        assert!(alone.wait().await.is_err());
        abandoned.raise_event(GO, "goes on".into()).await.unwrap();
        assert_eq!(abandoned.wait().await.unwrap(), "goes on");

        let strict = client.start(strict_parent, "followed".into()).await.unwrap();
        let followed = child("followed").await;
        strict.terminate("").await.unwrap();
        assert!(followed.wait().await.is_err());
        assert_eq!(followed.status().await.unwrap().row.status, Status::Terminated);

        let family = client.start(parent, "taken along".into()).await.unwrap();
        let taken = child("taken along").await;
        family.terminate_recursive("").await.unwrap();
        assert!(taken.wait().await.is_err());
        assert_eq!(taken.status().await.unwrap().row.status, Status::Terminated);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_instance_holds_its_events() {
    on_all(app, async |client: Client| {
        let instance = client.start(waiter, ()).await.unwrap();
        until(&instance, |status| status.row.custom_status.is_some()).await;
        instance.suspend("audit").await.unwrap();
        instance.raise_event(GO, "held".into()).await.unwrap();
        let waited = instance.wait_for(Duration::from_millis(20)).await.unwrap_err();
        assert!(waited.is_timeout());
        assert_eq!(instance.status().await.unwrap().row.status, Status::Suspended);
        instance.resume("done").await.unwrap();
        assert_eq!(instance.wait().await.unwrap(), "held");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_instance_is_rewound_and_keeps_what_it_had() {
    let probe = Probe::default();
    on_all(
        || app_with(&probe),
        async |client: Client| {
            // `double` is note 1, the failure note 2, the second try note 3.
            let instance = client.start(fragile, 2).await.unwrap();
            let error = instance.wait().await.unwrap_err();
            assert!(error.to_string().contains("failure 2"), "{error}");
            assert_eq!(instance.status().await.unwrap().row.status, Status::Failed);
            instance.rewind("repaired").await.unwrap();
            assert_eq!(instance.wait().await.unwrap(), 42 + 3);
            assert_eq!(probe.notes(instance.id()), ["double", "flaky", "flaky"]);
            let history = instance.history().await.unwrap();
            let completed = |event: &&dalsegno::Event| matches!(event.kind, EventKind::TaskCompleted { .. });
            assert_eq!(history.iter().filter(completed).count(), 2);
            let rewound = |event: &dalsegno::Event| matches!(event.kind, EventKind::ExecutionRewound { .. });
            assert!(history.iter().any(rewound));
            let finished = instance.rewind("").await.unwrap_err();
            assert_eq!(finished.request_kind(), Some(RequestErrorKind::Finished));
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_instance_says_why_and_tries_again_when_told() {
    on_all(app, async |client: Client| {
        let instance = client.start(panics, ()).await.unwrap();
        instance.raise_event(GO, "x".into()).await.unwrap();
        let status = until(&instance, |status| status.row.parked.is_some()).await;
        assert_eq!(status.row.status, Status::Running);
        let message = status.row.parked.unwrap().message;
        assert!(
            message.contains("no way on") && message.contains("functions.rs:"),
            "{message}"
        );
        instance.rewind("again").await.unwrap();
        until(&instance, |status| status.row.parked.is_some()).await;
        instance.terminate("hopeless").await.unwrap();
        assert!(instance.wait().await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_retried() {
    on_all(app, async |client: Client| {
        let instance = client.start(retried_child, "tried".into()).await.unwrap();
        // First: double, flaky (note 2, fails). Second: double, flaky (note 4, succeeds).
        assert_eq!(instance.wait().await.unwrap(), 42 + 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_have_limits_of_time_and_silence() {
    on_all(app, async |client: Client| {
        let slow = client.start(impatient, ()).await.unwrap();
        let error = slow.wait().await.unwrap_err();
        assert!(error.to_string().contains("slow"), "{error}");
        let silent = client.start(listening, ()).await.unwrap();
        assert_eq!(
            silent.wait().await.unwrap(),
            7,
            "the second attempt knows the last heartbeat"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limiter_slows_down_and_a_429_burns_no_attempt() {
    on_all(
        || app_with(&Probe::default()),
        async |client: Client| {
            let began = std::time::Instant::now();
            let mut spenders = Vec::new();
            for _ in 0..4 {
                spenders.push(client.start(spender, 0).await.unwrap());
            }
            for instance in &spenders {
                assert_eq!(instance.wait().await.unwrap(), 1);
            }
            // One at once, three more in 40 ms each; a bound from below does not flake.
            assert!(
                began.elapsed() >= Duration::from_millis(100),
                "{:?}",
                began.elapsed()
            );

            let refused = client.start(spender, 2).await.unwrap();
            assert_eq!(refused.wait().await.unwrap(), 1, "still its first attempt");

            let wide = Limiter::new("budget")
                .rate(1_000, Duration::from_secs(1))
                .burst(7);
            client.set_limiter(&wide).await.unwrap();
            eventually(async || {
                let limiters = client.limiters().await.unwrap();
                limiters
                    .iter()
                    .any(|limiter| &*limiter.name == BUDGET.name() && limiter.burst == 7)
            })
            .await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_a_key_is_delivered_once() {
    on_all(app, async |client: Client| {
        let instance = client.start(collector, Vec::new()).await.unwrap();
        let raise = |word: &str, key: &str| instance.raise_event(GO, word.to_owned()).idempotency_key(key);
        raise("a", "1").await.unwrap();
        raise("a", "1").await.unwrap();
        let other = raise("b", "1").await.unwrap_err();
        assert_eq!(other.request_kind(), Some(RequestErrorKind::EventIdReused));
        assert!(other.to_string().contains("take another key"), "{other}");
        for (word, key) in [("b", "2"), ("c", "3"), ("a", "1"), ("d", "4")] {
            raise(word, key).await.unwrap();
        }
        // It continued as new after each of them, and ends with the fourth.
        assert_eq!(instance.wait().await.unwrap(), ["a", "b", "c", "d"]);
        raise("d", "4")
            .await
            .expect("answered as the first time, though it is finished by now");
        let late = raise("e", "5").await.unwrap_err();
        assert_eq!(late.request_kind(), Some(RequestErrorKind::Finished));
        for bad in ["", " 1", "é"] {
            let refused = raise("e", bad).await.unwrap_err();
            assert_eq!(refused.request_kind(), Some(RequestErrorKind::Invalid), "{bad:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_tells_of_the_attempts_of_a_task() {
    on_all(app, async |client: Client| {
        for (failures, attempts, kept) in [(0, 1, 0), (2, 3, 2), (4, 5, 4)] {
            let instance = client.start(insistent, failures).await.unwrap();
            assert_eq!(instance.wait().await.unwrap(), attempts);
            let history = instance.history().await.unwrap();
            let find = |wanted: fn(&EventKind) -> bool| history.iter().find(|event| wanted(&event.kind));
            let scheduled = find(|kind| matches!(kind, EventKind::TaskScheduled { .. })).unwrap();
            let completed = find(|kind| matches!(kind, EventKind::TaskCompleted { .. })).unwrap();
            let EventKind::TaskCompleted { attempts: told, .. } = &completed.kind else {
                panic!("{completed:?}");
            };
            assert_eq!(told.count, attempts);
            let record = told.record.as_ref().unwrap();
            assert!(scheduled.at <= record.started && record.started <= completed.at);
            assert!(
                record.worker.ends_with(&format!("/{}", std::process::id())),
                "{}",
                record.worker
            );
            let messages: Vec<&str> = record.failures.iter().map(|failure| &*failure.message).collect();
            let expected: Vec<String> = (1..=kept).map(|number| format!("failure {number}")).collect();
            assert_eq!(messages, expected);
            assert!(record.failures.iter().all(|failure| failure.kind == "Flaky"));
            assert!(record.failures.is_sorted_by_key(|failure| failure.at));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_event_keeps_its_key() {
    on_all(app, async |client: Client| {
        let instance = client.start(collector, Vec::new()).await.unwrap();
        instance.wait_for_start(SOON).await.unwrap();
        instance.suspend("").await.unwrap();
        for word in ["a", "a", "b", "c", "b", "d"] {
            let raise = instance.raise_event(GO, word.to_owned()).idempotency_key(word);
            raise.await.unwrap();
        }
        instance.resume("").await.unwrap();
        assert_eq!(instance.wait().await.unwrap(), ["a", "b", "c", "d"]);
    })
    .await;
}

#[activity(retry = RetryPolicy::fixed(9, Duration::from_millis(1)))]
async fn hopeless() -> Result<()> {
    Err(Error::with_kind("Hopeless", "x".repeat(2_000)))
}

#[activity(retry = RetryPolicy::fixed(2, Duration::from_secs(3_600)))]
async fn patient() -> Result<()> {
    Err(Error::with_kind("Early", "come back later"))
}

#[orchestrator]
async fn hoping(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(hopeless, ()).await?)
}

#[orchestrator]
async fn trying(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(patient, ()).await?)
}

fn app_that_fails() -> App {
    let app = App::new().register(hopeless).register(patient);
    app.register(hoping).register(trying).register(waiter)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_five_failures_are_kept_and_cut() {
    on_all(app_that_fails, async |client: Client| {
        let instance = client.start(hoping, ()).await.unwrap();
        assert!(instance.wait().await.is_err());
        let history = instance.history().await.unwrap();
        let told = history.iter().find_map(|event| match &event.kind {
            EventKind::TaskFailed { attempts, .. } => Some(attempts.clone()),
            _ => None,
        });
        let told = told.unwrap();
        assert_eq!(told.count, 9);
        let failures = told.record.unwrap().failures;
        assert_eq!(failures.len(), 5);
        assert!(failures.iter().all(|failure| failure.message.len() == 512));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_between_two_attempts_says_so() {
    on_all(app_that_fails, async |client: Client| {
        let instance = client.start(trying, ()).await.unwrap();
        let tried = |text: &String| {
            text.starts_with(
                "task 0: activity \"patient\", 1 attempt failed, the last with Early: come back later; the \
                 next attempt is due in 59 min",
            )
        };
        until(&instance, |status| status.waits_for.iter().any(tried)).await;
        instance.terminate("").await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_attempt_begins_when_it_is_asked_for() {
    on_all(app_that_fails, async |client: Client| {
        let instance = client.start(trying, ()).await.unwrap();
        until(&instance, |status| {
            status
                .waits_for
                .iter()
                .any(|text| text.contains("the next attempt"))
        })
        .await;
        instance.retry_now().await.unwrap();
        let error = instance.wait().await.unwrap_err();
        assert!(error.to_string().contains("come back later"), "{error}");
        let again = instance.retry_now().await.unwrap_err();
        assert_eq!(again.request_kind(), Some(RequestErrorKind::Finished));

        let waits = client.start(waiter, ()).await.unwrap();
        let none = waits.retry_now().await.unwrap_err();
        assert_eq!(none.request_kind(), Some(RequestErrorKind::WrongState));
        assert!(none.to_string().contains("no activity"), "{none}");
        waits.terminate("").await.unwrap();
    })
    .await;
}
