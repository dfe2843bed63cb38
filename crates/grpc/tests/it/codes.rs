//! Which code and text each call is answered with.

use dalsegno_grpc::proto;
use dalsegno_grpc::proto::OrchestrationStatus as Wire;
use dalsegno_grpc::tonic::{Code, Request};
use futures::StreamExt;

use crate::world::{client, code, completion, connect, named, response, reusing, state, turn};

#[tokio::test]
async fn starts_are_refused_by_what_is_there() {
    let (mut client, _workers) = client();
    let made = client
        .start_instance(named(""))
        .await
        .expect("it starts")
        .into_inner();
    assert_eq!(made.instance_id.len(), 32);
    client.start_instance(named("a")).await.expect("it starts");
    let refused = client
        .start_instance(named("a"))
        .await
        .expect_err("it is pending");
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(
        refused
            .message()
            .contains("orchestration instance already exists"),
        "{refused:?}"
    );
    let refused = client
        .start_instance(reusing("a", &[Wire::Completed]))
        .await
        .expect_err("it is pending");
    assert_eq!(refused.code(), Code::AlreadyExists);
    for status in [Wire::Running, Wire::Pending, Wire::Suspended] {
        let refused = client
            .start_instance(reusing("new", &[status]))
            .await
            .expect_err("without TERMINATED it makes no sense");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(
            refused.message(),
            "Invalid reusable statuses: cannot exclude 'Terminated' while also allowing reuse of running instances"
        );
    }
    let before = state(&mut client, "a").await.expect("it is there").execution_id;
    client
        .start_instance(reusing("a", &[Wire::Pending, Wire::Terminated]))
        .await
        .expect("it is replaced");
    assert_ne!(
        state(&mut client, "a").await.expect("it is there").execution_id,
        before
    );
    for bad in ["@counter@a", &"x".repeat(101), "a/b"] {
        let refused = client.start_instance(named(bad)).await.expect_err("a bad id");
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad}: {refused:?}");
    }
    let long = client
        .start_instance(named(&"x".repeat(101)))
        .await
        .expect_err("too long");
    assert!(long.message().contains("length"), "{long:?}");
}

#[tokio::test]
async fn unknown_instances_do_not_exist_and_commands_say_so() {
    let (mut client, _workers) = client();
    assert_eq!(state(&mut client, "none").await, None);
    let wait = |id: &str| proto::GetInstanceRequest {
        instance_id: id.to_owned(),
        get_inputs_and_outputs: false,
    };
    let waited = client.wait_for_instance_completion(wait("none")).await;
    assert!(!waited.expect("at once").into_inner().exists);
    let waited = client.wait_for_instance_start(wait("none")).await;
    assert!(!waited.expect("at once").into_inner().exists);
    let id = || "none".to_owned();
    let raise = proto::RaiseEventRequest {
        instance_id: id(),
        name: "e".to_owned(),
        input: None,
    };
    assert_eq!(code(client.raise_event(raise).await), Code::NotFound);
    let suspend = proto::SuspendRequest {
        instance_id: id(),
        reason: None,
    };
    assert_eq!(code(client.suspend_instance(suspend).await), Code::NotFound);
    let resume = proto::ResumeRequest {
        instance_id: id(),
        reason: None,
    };
    assert_eq!(code(client.resume_instance(resume).await), Code::NotFound);
    let restart = proto::RestartInstanceRequest {
        instance_id: id(),
        restart_with_new_instance_id: false,
    };
    assert_eq!(code(client.restart_instance(restart).await), Code::NotFound);
    let rewind = proto::RewindInstanceRequest {
        instance_id: id(),
        reason: None,
    };
    assert_eq!(code(client.rewind_instance(rewind).await), Code::NotFound);
    let terminate = proto::TerminateRequest {
        instance_id: id(),
        output: None,
        recursive: true,
    };
    assert_eq!(code(client.terminate_instance(terminate).await), Code::Ok);
}

#[tokio::test]
async fn commands_need_no_worker_and_repeats_are_fine() {
    let (mut client, _workers) = client();
    client.start_instance(named("a")).await.expect("it starts");
    let status = |state: Option<proto::OrchestrationState>| state.map(|state| state.orchestration_status());
    for _ in 0..2 {
        let suspend = proto::SuspendRequest {
            instance_id: "a".to_owned(),
            reason: None,
        };
        client.suspend_instance(suspend).await.expect("repeats are fine");
        assert_eq!(status(state(&mut client, "a").await), Some(Wire::Suspended));
    }
    for _ in 0..2 {
        let resume = proto::ResumeRequest {
            instance_id: "a".to_owned(),
            reason: None,
        };
        client.resume_instance(resume).await.expect("repeats are fine");
        assert_eq!(status(state(&mut client, "a").await), Some(Wire::Pending));
    }
    let restart = proto::RestartInstanceRequest {
        instance_id: "a".to_owned(),
        restart_with_new_instance_id: false,
    };
    assert_eq!(
        code(client.restart_instance(restart).await),
        Code::FailedPrecondition
    );
    let rewind = proto::RewindInstanceRequest {
        instance_id: "a".to_owned(),
        reason: None,
    };
    let refused = client
        .rewind_instance(rewind)
        .await
        .expect_err("it has not failed");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("running") || refused.message().contains("not allowed"),
        "{refused:?}"
    );
    for _ in 0..2 {
        let terminate = proto::TerminateRequest {
            instance_id: "a".to_owned(),
            output: Some("\"enough\"".to_owned()),
            recursive: true,
        };
        client
            .terminate_instance(terminate)
            .await
            .expect("repeats are fine");
        let ended = state(&mut client, "a").await.expect("it is there");
        assert_eq!(ended.orchestration_status(), Wire::Terminated);
        assert_eq!(ended.output.as_deref(), Some("\"enough\""));
    }
    let raise = proto::RaiseEventRequest {
        instance_id: "a".to_owned(),
        name: "e".to_owned(),
        input: None,
    };
    assert_eq!(code(client.raise_event(raise).await), Code::Ok, "dropped");
}

#[tokio::test(start_paused = true)]
async fn bad_turns_and_tokens_are_told_apart() {
    let (mut client, workers) = client();
    let time = tokio::spawn(workers.keep_time());
    let mut stream = connect(&mut client).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (token, request) = turn(&mut stream).await;
    assert_eq!(request.instance_id, "a");
    let forged = client
        .complete_orchestrator_task(response("a", "1.1.00", Vec::new()))
        .await;
    assert_eq!(code(forged), Code::NotFound);
    let abandon = proto::AbandonOrchestrationTaskRequest {
        completion_token: "nonsense".to_owned(),
    };
    assert_eq!(
        code(client.abandon_task_orchestrator_work_item(abandon).await),
        Code::NotFound
    );
    let twice = vec![completion(1, Wire::Completed), completion(2, Wire::Completed)];
    let refused = client
        .complete_orchestrator_task(response("a", &token, twice))
        .await;
    let refused = refused.expect_err("it ends twice");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("instance a"), "{refused:?}");
    // It is offered again: the same turn with another token.
    let (again, request) = turn(&mut stream).await;
    assert_ne!(again, token);
    assert_eq!(request.past_events.len(), 0);
    let stale = client
        .complete_orchestrator_task(response("a", &token, Vec::new()))
        .await;
    assert_eq!(code(stale), Code::Ok, "stale answers are dropped");
    let good = vec![completion(1, Wire::Completed)];
    client
        .complete_orchestrator_task(response("a", &again, good))
        .await
        .expect("it is taken");
    let ended = state(&mut client, "a").await.expect("it is there");
    assert_eq!(ended.orchestration_status(), Wire::Completed);
    client
        .start_instance(named("a"))
        .await
        .expect("one that is finished is replaced");
    time.abort();
}

#[tokio::test]
async fn other_hubs_and_draining_servers_refuse() {
    let (mut client, workers) = client();
    let mut elsewhere = Request::new(named("a"));
    elsewhere
        .metadata_mut()
        .insert("taskhub", "other".parse().expect("it is ASCII"));
    let refused = client
        .start_instance(elsewhere)
        .await
        .expect_err("there is no such hub");
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("\"other\""), "{refused:?}");
    let mut stream = connect(&mut client).await;
    workers.drain();
    assert!(stream.next().await.is_none(), "it ends without an error");
    assert_eq!(code(client.hello(()).await), Code::Unavailable);
    let late = client.get_work_items(proto::GetWorkItemsRequest::default()).await;
    assert_eq!(code(late.map(|_| ())), Code::Unavailable);
}

#[tokio::test]
async fn names_that_no_function_has_are_refused() {
    let (mut client, _workers) = client();
    for (name, said) in [
        ("a\nb\u{1b}[31m".to_owned(), r"a\nb\u{1b}[31m"),
        ("x".repeat(2_000), "name_bytes_max"),
    ] {
        let start = proto::CreateInstanceRequest { name, ..named("a") };
        let refused = client.start_instance(start).await.expect_err("it is no name");
        assert!(refused.message().contains(said), "{refused:?}");
        assert!(
            matches!(refused.code(), Code::InvalidArgument | Code::ResourceExhausted),
            "{refused:?}"
        );
    }
    assert_eq!(state(&mut client, "a").await, None);
}
