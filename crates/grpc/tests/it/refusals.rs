//! Values that a field may not have are refused by the name of the field, and do nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use dalsegno_core::Timestamp;
use dalsegno_engine::clock::Clock;
use dalsegno_engine::request::CallScopes;
use dalsegno_grpc::proto;
use dalsegno_grpc::proto::OrchestrationStatus as Wire;
use dalsegno_grpc::proto::history_event::Kind as WireEvent;
use dalsegno_grpc::proto::orchestrator_action::Kind as Action;
use dalsegno_grpc::tonic::{Code, Request, Response, Status};

use prost::Message as _;

use crate::world::{
    Client, action, client, client_of, code, completion, connect, ended, item, named, response, reusing,
    served, served_at, state, success, turn,
};

const UNKNOWN_STATUS: i32 = 99;
/// 2026-01-01.
const SECONDS: i64 = 1_767_225_600;

fn at(seconds: i64, nanos: i32) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos })
}

/// Fails unless the call was refused because of this field.
fn check_refused<T>(answer: Result<Response<T>, Status>, field: &str) {
    let refused = answer.err().expect(field);
    assert_eq!(refused.code(), Code::InvalidArgument, "{field}: {refused:?}");
    assert!(refused.message().contains(field), "{field}: {refused:?}");
}

/// Instances that have ended, by the status with which they ended.
async fn finished(client: &mut Client, all: &[(&str, Wire)]) {
    let mut stream = connect(client).await;
    for (id, status) in all {
        client.start_instance(named(id)).await.expect("it starts");
        let (token, _) = turn(&mut stream).await;
        let end = response(id, &token, vec![completion(0, *status)]);
        client.complete_orchestrator_task(end).await.expect("it ends");
        ended(client, id).await;
    }
}

fn purge(filter: proto::PurgeInstanceFilter, recursive: bool) -> proto::PurgeInstancesRequest {
    proto::PurgeInstancesRequest {
        kind: Some(proto::purge_instances_request::Kind::PurgeInstanceFilter(filter)),
        recursive,
        ..Default::default()
    }
}

/// A clock that stands still, and after that goes on by a second whenever it is read.
#[derive(Debug)]
struct Ticking {
    seconds: AtomicI64,
    is_ticking: AtomicBool,
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let step = i64::from(self.is_ticking.load(Ordering::SeqCst));
        let seconds = self.seconds.fetch_add(step, Ordering::SeqCst) + step;
        Timestamp::from_micros(seconds * 1_000_000)
    }
}

/// The time of a purge was read and not kept to: a client waited until the last instance was gone.
#[tokio::test]
async fn a_purge_ends_between_two_batches_once_its_time_is_over() {
    const INSTANCES: i32 = 205;
    /// More than the clock can tick here.
    const LONG: i64 = 1_000_000_000;
    for (recursive, batch) in [(false, 100), (true, 1)] {
        let clock = Arc::new(Ticking {
            seconds: SECONDS.into(),
            is_ticking: false.into(),
        });
        let (served, _workers) = served_at(clock.clone());
        let mut client = client_of(served);
        for number in 0..INSTANCES {
            let id = format!("i-{number}");
            client.start_instance(named(&id)).await.expect("it starts");
            let terminate = proto::TerminateRequest {
                instance_id: id,
                ..Default::default()
            };
            client.terminate_instance(terminate).await.expect("it ends");
        }
        clock.is_ticking.store(true, Ordering::SeqCst);
        let mut left = INSTANCES;
        for (seconds, deleted, is_complete) in [
            (Some(1), batch, false),
            (Some(0), batch, false),
            (Some(LONG), INSTANCES - 2 * batch, true),
            (Some(0), 0, true),
            (None, 0, true),
        ] {
            let filter = proto::PurgeInstanceFilter {
                timeout: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
                ..Default::default()
            };
            let purged = client.purge_instances(purge(filter, recursive)).await;
            let purged = purged.expect("it is valid").into_inner();
            assert_eq!(
                (purged.deleted_instance_count, purged.is_complete),
                (deleted, Some(is_complete)),
                "{seconds:?}, recursive {recursive}"
            );
            left -= deleted;
            let all = proto::ListInstanceIdsRequest {
                page_size: INSTANCES,
                ..Default::default()
            };
            let listed = client.list_instance_ids(all).await.expect("it lists");
            assert_eq!(i32::try_from(listed.into_inner().instance_ids.len()), Ok(left));
        }
    }
}

/// Filters of purges, and the field that is wrong.
fn bad_filters() -> [(proto::PurgeInstanceFilter, &'static str); 6] {
    [
        (
            proto::PurgeInstanceFilter {
                runtime_status: vec![UNKNOWN_STATUS],
                ..Default::default()
            },
            "purgeInstanceFilter.runtimeStatus[0]",
        ),
        (
            proto::PurgeInstanceFilter {
                runtime_status: vec![Wire::Completed.into(), UNKNOWN_STATUS],
                ..Default::default()
            },
            "purgeInstanceFilter.runtimeStatus[1]",
        ),
        (
            proto::PurgeInstanceFilter {
                created_time_from: at(SECONDS + 1, 0),
                created_time_to: at(SECONDS, 0),
                ..Default::default()
            },
            "purgeInstanceFilter.createdTimeFrom",
        ),
        (
            proto::PurgeInstanceFilter {
                created_time_from: at(0, 2_000_000_000),
                ..Default::default()
            },
            "purgeInstanceFilter.createdTimeFrom",
        ),
        (
            proto::PurgeInstanceFilter {
                created_time_to: at(i64::MAX, 0),
                ..Default::default()
            },
            "purgeInstanceFilter.createdTimeTo",
        ),
        (
            proto::PurgeInstanceFilter {
                timeout: Some(prost_types::Duration {
                    seconds: 1,
                    nanos: -1,
                }),
                ..Default::default()
            },
            "purgeInstanceFilter.timeout",
        ),
    ]
}

/// A client of a later version of the protocol asked for a status that did not exist here. The
/// filter was read without it, was then empty, and the purge deleted every finished instance.
#[tokio::test]
async fn a_purge_whose_filter_is_not_understood_deletes_nothing() {
    let (mut client, _workers) = client();
    let both = [("a", Wire::Completed), ("b", Wire::Failed)];
    finished(&mut client, &both).await;
    for recursive in [false, true] {
        for (filter, field) in bad_filters() {
            check_refused(client.purge_instances(purge(filter, recursive)).await, field);
        }
        // Known statuses that no finished instance has match nothing.
        for listed in [Wire::ContinuedAsNew, Wire::Running, Wire::Suspended] {
            let filter = proto::PurgeInstanceFilter {
                runtime_status: vec![listed.into()],
                ..Default::default()
            };
            let purged = client.purge_instances(purge(filter, recursive)).await;
            assert_eq!(
                purged.expect("it is valid").into_inner().deleted_instance_count,
                0
            );
        }
    }
    for (id, _) in both {
        assert!(state(&mut client, id).await.is_some(), "{id} was purged");
    }
    let all = purge(proto::PurgeInstanceFilter::default(), false);
    let purged = client.purge_instances(all).await.expect("it is valid");
    assert_eq!(purged.into_inner().deleted_instance_count, 2);
}

#[tokio::test]
async fn lists_whose_filter_is_not_understood_are_refused_and_an_empty_filter_lists_all() {
    let (mut client, _workers) = client();
    finished(&mut client, &[("a", Wire::Completed), ("b", Wire::Failed)]).await;
    let query = |query: proto::InstanceQuery| proto::QueryInstancesRequest { query: Some(query) };
    for (filter, field) in [
        (
            proto::InstanceQuery {
                runtime_status: vec![UNKNOWN_STATUS],
                ..Default::default()
            },
            "query.runtimeStatus[0]",
        ),
        (
            proto::InstanceQuery {
                created_time_from: at(SECONDS, -1),
                ..Default::default()
            },
            "query.createdTimeFrom",
        ),
        (
            proto::InstanceQuery {
                created_time_from: at(SECONDS, 1_000),
                created_time_to: at(SECONDS, 0),
                ..Default::default()
            },
            "query.createdTimeFrom",
        ),
    ] {
        check_refused(client.query_instances(query(filter)).await, field);
    }
    let count = async |client: &mut Client, filter: proto::InstanceQuery| {
        let page = client.query_instances(query(filter)).await.expect("it is valid");
        page.into_inner().orchestration_state.len()
    };
    assert_eq!(count(&mut client, proto::InstanceQuery::default()).await, 2);
    let never_shown = proto::InstanceQuery {
        runtime_status: vec![Wire::ContinuedAsNew.into()],
        ..Default::default()
    };
    assert_eq!(count(&mut client, never_shown).await, 0);

    for (list, field) in [
        (
            proto::ListInstanceIdsRequest {
                runtime_status: vec![UNKNOWN_STATUS],
                ..Default::default()
            },
            "runtimeStatus[0]",
        ),
        (
            proto::ListInstanceIdsRequest {
                completed_time_from: at(SECONDS + 1, 0),
                completed_time_to: at(SECONDS, 0),
                ..Default::default()
            },
            "completedTimeFrom",
        ),
    ] {
        check_refused(client.list_instance_ids(list).await, field);
    }
    let all = client
        .list_instance_ids(proto::ListInstanceIdsRequest::default())
        .await;
    assert_eq!(all.expect("it is valid").into_inner().instance_ids.len(), 2);

    let entities = proto::QueryEntitiesRequest {
        query: Some(proto::EntityQuery {
            last_modified_from: at(SECONDS + 1, 0),
            last_modified_to: at(SECONDS, 0),
            ..Default::default()
        }),
    };
    check_refused(client.query_entities(entities).await, "query.lastModifiedFrom");
}

/// They were read as the default.
#[tokio::test]
async fn pages_of_a_negative_size_are_refused() {
    let (mut client, _workers) = client();
    for count in [-1, i32::MIN] {
        let instances = proto::QueryInstancesRequest {
            query: Some(proto::InstanceQuery {
                max_instance_count: count,
                ..Default::default()
            }),
        };
        check_refused(client.query_instances(instances).await, "query.maxInstanceCount");
        let ids = proto::ListInstanceIdsRequest {
            page_size: count,
            ..Default::default()
        };
        check_refused(client.list_instance_ids(ids).await, "pageSize");
        let entities = proto::QueryEntitiesRequest {
            query: Some(proto::EntityQuery {
                page_size: Some(count),
                ..Default::default()
            }),
        };
        check_refused(client.query_entities(entities).await, "query.pageSize");
    }
}

/// Code in other languages takes it for a request to cancel, which needs the scope `control`.
#[tokio::test]
async fn nobody_raises_the_event_that_stands_for_a_cancel() {
    let (mut client, _workers) = client();
    client.start_instance(named("a")).await.expect("it is valid");
    // The SDK of Python folds the long s to an s.
    for name in ["dalsegno.cancel", "DALSEGNO.Cancel", "dalſegno.cancel"] {
        let raise = proto::RaiseEventRequest {
            instance_id: "a".to_owned(),
            name: name.to_owned(),
            input: None,
        };
        check_refused(client.raise_event(raise).await, "name");
    }
}

#[tokio::test]
async fn starts_events_and_signals_with_values_that_no_field_has_are_refused() {
    let (mut client, _workers) = client();
    for (start, field) in [
        (
            proto::CreateInstanceRequest {
                scheduled_start_timestamp: at(SECONDS, 1_000_000_000),
                ..named("a")
            },
            "scheduledStartTimestamp",
        ),
        (
            proto::CreateInstanceRequest {
                scheduled_start_timestamp: at(253_402_300_800, 0),
                ..named("a")
            },
            "scheduledStartTimestamp",
        ),
        (
            proto::CreateInstanceRequest {
                orchestration_id_reuse_policy: Some(proto::OrchestrationIdReusePolicy {
                    replaceable_status: vec![UNKNOWN_STATUS],
                    ..Default::default()
                }),
                ..named("a")
            },
            "orchestrationIdReusePolicy.replaceableStatus[0]",
        ),
        (
            proto::CreateInstanceRequest {
                orchestration_id_reuse_policy: Some(proto::OrchestrationIdReusePolicy {
                    action: 3,
                    ..Default::default()
                }),
                ..named("a")
            },
            "orchestrationIdReusePolicy.action",
        ),
    ] {
        check_refused(client.start_instance(start).await, field);
    }
    assert_eq!(state(&mut client, "a").await, None);
    client.start_instance(named("a")).await.expect("it starts");
    let nameless = proto::RaiseEventRequest {
        instance_id: "a".to_owned(),
        ..Default::default()
    };
    check_refused(client.raise_event(nameless).await, "name");
    let signal = proto::SignalEntityRequest {
        instance_id: "@counter@a".to_owned(),
        name: "add".to_owned(),
        scheduled_time: at(SECONDS, i32::MAX),
        ..Default::default()
    };
    check_refused(client.signal_entity(signal).await, "scheduledTime");
}

/// A limiter with a period that could not be read limited nothing.
#[tokio::test]
async fn a_worker_whose_limiter_has_a_bad_period_is_refused() {
    let (mut client, _workers) = client();
    for (period, field) in [
        (Some((-1, 0)), "limiters[0].period"),
        (Some((1, 2_000_000_000)), "limiters[0].period"),
        (None, "limiters[0].period"),
    ] {
        let offer = proto::LimiterOffer {
            name: "api".to_owned(),
            rate: 5,
            period: period.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }),
            ..Default::default()
        };
        let request = proto::GetWorkItemsRequest {
            limiters: vec![offer],
            ..Default::default()
        };
        check_refused(client.get_work_items(request).await, field);
    }
}

/// When the turn began.
fn seconds_of(turn: &proto::OrchestratorRequest) -> i64 {
    let first = turn.new_events.first().expect("a turn has events").clone();
    let first = proto::HistoryEvent::decode(first).expect("it is an event");
    first.timestamp.expect("an event has a time").seconds
}

/// Ends a turn with a bad answer, which is refused by what is wrong with it, and the instance with
/// the next delivery of the same turn.
async fn check_bad_turn(said: &str, bad: impl FnOnce(i64) -> proto::OrchestratorResponse) {
    let id = "a";
    let (mut client, workers) = client();
    let time = tokio::spawn(workers.keep_time());
    let mut stream = connect(&mut client).await;
    client.start_instance(named(id)).await.expect("it starts");
    let (token, request) = turn(&mut stream).await;
    let bad = proto::OrchestratorResponse {
        instance_id: id.to_owned(),
        completion_token: token.clone(),
        ..bad(seconds_of(&request))
    };
    check_refused(client.complete_orchestrator_task(bad).await, said);
    let (again, offered) = turn(&mut stream).await;
    assert_ne!(again, token);
    assert_eq!(offered.new_events, request.new_events);
    let good = response(id, &again, vec![completion(0, Wire::Completed)]);
    client.complete_orchestrator_task(good).await.expect("it ends");
    let state = ended(&mut client, id).await;
    assert_eq!(state.orchestration_status(), Wire::Completed, "{said}");
    time.abort();
}

fn timer(seconds: i64, nanos: i32) -> proto::OrchestratorAction {
    let fire_at = at(seconds, nanos);
    action(0, Action::CreateTimer(proto::CreateTimerAction { fire_at }))
}

fn signal_at(seconds: i64, nanos: i32) -> proto::OrchestratorAction {
    let signal = proto::EntityOperationSignaledEvent {
        operation: "add".to_owned(),
        scheduled_time: at(seconds, nanos),
        target_instance_id: Some("@counter@a".to_owned()),
        ..Default::default()
    };
    let kind = proto::send_entity_message_action::Kind::EntityOperationSignaled(signal);
    action(
        0,
        Action::SendEntityMessage(proto::SendEntityMessageAction { kind: Some(kind) }),
    )
}

fn with(action: proto::OrchestratorAction) -> proto::OrchestratorResponse {
    proto::OrchestratorResponse {
        actions: vec![action],
        ..Default::default()
    }
}

fn raised(name: &str) -> proto::HistoryEvent {
    proto::HistoryEvent {
        kind: Some(WireEvent::EventRaised(proto::EventRaisedEvent {
            name: name.to_owned(),
            input: None,
        })),
        ..Default::default()
    }
}

/// Turns whose events for the next execution cannot be used: those were left out, or raised without a
/// name.
fn bad_carryovers() -> [(&'static str, proto::OrchestratorResponse); 3] {
    let carried = |kind: Option<WireEvent>| {
        let event = proto::HistoryEvent {
            kind,
            ..Default::default()
        };
        let again = proto::CompleteOrchestrationAction {
            orchestration_status: Wire::ContinuedAsNew.into(),
            carryover_events: vec![raised("go"), event],
            ..Default::default()
        };
        with(action(0, Action::CompleteOrchestration(again)))
    };
    [
        ("carryoverEvents[1]: only external events", carried(None)),
        (
            "carryoverEvents[1].eventRaised.name: it is empty",
            carried(raised("").kind),
        ),
        (
            "carryoverEvents[1].eventRaised.name: events named",
            carried(raised("dalſegno.cancel").kind),
        ),
    ]
}

/// Answers of turns, and what is said of them.
fn bad_turns() -> [(&'static str, proto::OrchestratorResponse); 11] {
    let event = |name: &str| {
        let event = proto::SendEventAction {
            instance: Some(proto::OrchestrationInstance {
                instance_id: "b".to_owned(),
                execution_id: None,
            }),
            name: name.to_owned(),
            ..Default::default()
        };
        with(action(0, Action::SendEvent(event)))
    };
    let unknown = proto::CompleteOrchestrationAction {
        orchestration_status: UNKNOWN_STATUS,
        ..Default::default()
    };
    [
        ("action 0: fireAt", with(timer(SECONDS, 1_000_000_000))),
        ("action 0: fireAt", with(timer(253_402_300_800, 0))),
        ("action 0: scheduledTime", with(signal_at(SECONDS, 1_000_000_000))),
        ("action 0: name", event("")),
        // It would cancel the other instance.
        ("action 0: name", event("Dalsegno.Cancel")),
        ("orchestrationStatus: RUNNING", with(completion(0, Wire::Running))),
        ("orchestrationStatus: PENDING", with(completion(0, Wire::Pending))),
        (
            "orchestrationStatus: SUSPENDED",
            with(completion(0, Wire::Suspended)),
        ),
        (
            "orchestrationStatus: 99",
            with(action(0, Action::CompleteOrchestration(unknown))),
        ),
        (
            "numEventsProcessed",
            proto::OrchestratorResponse {
                num_events_processed: Some(-1),
                ..Default::default()
            },
        ),
        (
            "cancelledTimers[0]",
            proto::OrchestratorResponse {
                cancelled_timers: vec![-1],
                ..Default::default()
            },
        ),
    ]
}

/// SDKs carry over all that code has not read, and the host hands a request to cancel on by itself: the
/// next execution received both.
#[tokio::test]
async fn the_next_execution_receives_a_request_to_cancel_once() {
    let (served, _workers) = served();
    let hub = served.hub.clone();
    let mut client = client_of(served);
    let mut stream = connect(&mut client).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, _) = turn(&mut stream).await;
    let nothing = response("a", &token, Vec::new());
    client
        .complete_orchestrator_task(nothing)
        .await
        .expect("it waits");
    let id = dalsegno_core::InstanceId::trusted("a");
    hub.cancel(&id, None).await.expect("it runs");
    let (token, _) = turn(&mut stream).await;
    let again = proto::CompleteOrchestrationAction {
        orchestration_status: Wire::ContinuedAsNew.into(),
        carryover_events: ["go", "dalsegno.cancel"].map(raised).to_vec(),
        ..Default::default()
    };
    let again = response("a", &token, vec![action(0, Action::CompleteOrchestration(again))]);
    client
        .complete_orchestrator_task(again)
        .await
        .expect("it continues");
    let (_, next) = turn(&mut stream).await;
    let names = next.new_events.into_iter().filter_map(|event| {
        match proto::HistoryEvent::decode(event).expect("it is an event").kind {
            Some(WireEvent::EventRaised(event)) => Some(event.name),
            _ => None,
        }
    });
    assert_eq!(names.collect::<Vec<_>>(), ["dalsegno.cancel", "go"]);
}

#[tokio::test(start_paused = true)]
async fn turns_with_values_that_no_field_has_are_refused_and_offered_again() {
    for (said, bad) in bad_turns().into_iter().chain(bad_carryovers()) {
        check_bad_turn(said, |_| bad).await;
    }
    let century = 101 * 366 * 86_400;
    check_bad_turn("100 years", |now| with(timer(now + century, 0))).await;
    check_bad_turn("100 years", |now| with(signal_at(now + century, 0))).await;
}

#[tokio::test]
async fn a_timer_of_a_hundred_years_is_taken() {
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, request) = turn(&mut stream).await;
    let timer = timer(seconds_of(&request) + 100 * 365 * 86_400, 0);
    let answered = client
        .complete_orchestrator_task(response("a", &token, vec![timer]))
        .await;
    assert_eq!(code(answered), Code::Ok);
}

/// What an entity asks of others and cannot be read was left out, and its operation succeeded.
#[tokio::test(start_paused = true)]
async fn an_entity_whose_actions_cannot_be_read_is_asked_again() {
    use proto::operation_action::Kind;
    let (mut client, workers) = client();
    let time = tokio::spawn(workers.keep_time());
    let mut stream = connect(&mut client).await;
    let signal = proto::SignalEntityRequest {
        instance_id: "@counter@a".to_owned(),
        name: "add".to_owned(),
        ..Default::default()
    };
    client.signal_entity(signal).await.expect("it is taken");
    let to = |entity: &str, nanos| {
        Kind::SendSignal(proto::SendSignalAction {
            instance_id: entity.to_owned(),
            name: "add".to_owned(),
            scheduled_time: at(SECONDS, nanos),
            ..Default::default()
        })
    };
    for (kind, field) in [
        (Some(to("@counter@b", -1)), "actions[0].scheduledTime"),
        (Some(to("counter", 0)), "actions[0].instanceId"),
        (None, "actions[0]"),
    ] {
        let (token, _) = item(&mut stream).await;
        let result = proto::EntityBatchResult {
            results: vec![success(None)],
            actions: vec![proto::OperationAction { id: 0, kind }],
            completion_token: token,
            ..Default::default()
        };
        check_refused(client.complete_entity_task(result).await, field);
    }
    let (token, _) = item(&mut stream).await;
    let result = proto::EntityBatchResult {
        results: vec![success(None)],
        completion_token: token,
        ..Default::default()
    };
    client.complete_entity_task(result).await.expect("it is taken");
    time.abort();
}

/// A message of a caller that has these second scopes.
fn by<T>(scopes: CallScopes, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(scopes);
    request
}

#[tokio::test]
async fn what_ends_a_running_instance_or_deletes_an_entity_needs_a_second_scope() {
    // A key that may start ended running instances, and one that may purge deleted entities.
    let (mut client, _) = client();
    let none = CallScopes {
        control: false,
        entity: false,
    };
    let control = CallScopes {
        control: true,
        ..none
    };
    client.start_instance(named("a")).await.expect("it starts");
    let all = [Wire::Running, Wire::Pending, Wire::Terminated, Wire::Completed];
    let ends = reusing("a", &all);
    for refused in [ends.clone(), reusing("absent", &all)] {
        let refused = client.start_instance(by(none, refused)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        assert!(refused.message().contains("the scope control"), "{refused:?}");
    }
    let replaces_finished = reusing("a", &[Wire::Completed]);
    let exists = client.start_instance(by(none, replaces_finished)).await;
    assert_eq!(exists.unwrap_err().code(), Code::AlreadyExists);
    client
        .start_instance(by(control, ends))
        .await
        .expect("it replaces");

    use proto::purge_instances_request::Kind;
    let ids = |ids: &[&str]| {
        let instance_ids = ids.iter().map(ToString::to_string).collect();
        Kind::InstanceBatch(proto::InstanceBatch { instance_ids })
    };
    let purge = |kind| proto::PurgeInstancesRequest {
        kind: Some(kind),
        ..Default::default()
    };
    for kind in [Kind::InstanceId("@counter@a".into()), ids(&["x", "@counter@a"])] {
        let refused = client.purge_instances(by(control, purge(kind.clone()))).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied, "{kind:?}");
        let entity = CallScopes { entity: true, ..none };
        let purged = client
            .purge_instances(by(entity, purge(kind)))
            .await
            .expect("it may");
        assert_eq!(purged.into_inner().deleted_instance_count, 0);
    }
    client
        .purge_instances(by(none, purge(ids(&["x"]))))
        .await
        .expect("no entity");
}
