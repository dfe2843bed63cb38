//! Answers with the token of other work, and answers without a token.

use dalsegno_grpc::proto;
use dalsegno_grpc::proto::OrchestrationStatus as Wire;
use dalsegno_grpc::proto::work_item::Request as Work;
use dalsegno_grpc::tonic::Code;

use crate::world::{
    Client, client, code, completion, connect, ended, item, named, response, schedule, state, turn,
};

async fn suspend_and_resume(client: &mut Client, id: &str) {
    let suspend = proto::SuspendRequest {
        instance_id: id.to_owned(),
        reason: None,
    };
    client.suspend_instance(suspend).await.expect("it is suspended");
    let resume = proto::ResumeRequest {
        instance_id: id.to_owned(),
        reason: None,
    };
    client.resume_instance(resume).await.expect("it is resumed");
}

/// The SDK of Go sends no tokens. A suspension took a turn back from its worker, and the worker's
/// answer to it, which came after the next turn was sent, ended the instance in the next turn.
#[tokio::test]
async fn a_stale_answer_without_a_token_is_not_taken_for_the_next_turn() {
    let (mut client, workers) = client();
    let mut stream = connect(&mut client).await;
    client.start_instance(named("a")).await.expect("it starts");
    let (_, taken_back) = turn(&mut stream).await;
    assert_eq!(taken_back.instance_id, "a");
    suspend_and_resume(&mut client, "a").await;
    client.start_instance(named("b")).await.expect("it starts");
    let (_, next) = turn(&mut stream).await;
    assert_eq!(next.instance_id, "b", "the worker still has a turn of a");

    let stale = response("a", "", vec![completion(0, Wire::Completed)]);
    let answered = client.complete_orchestrator_task(stale).await;
    assert_eq!(code(answered), Code::Ok);
    assert_eq!(workers.stale(), 1);
    let status = state(&mut client, "a").await.expect("it is there");
    assert_eq!(status.orchestration_status(), Wire::Pending);

    let (_, next) = turn(&mut stream).await;
    assert_eq!(next.instance_id, "a");
    let good = response("a", "", vec![completion(0, Wire::Failed)]);
    client
        .complete_orchestrator_task(good)
        .await
        .expect("it is taken");
    let status = ended(&mut client, "a").await;
    assert_eq!(status.orchestration_status(), Wire::Failed);
}

/// The token decided alone: an answer for one instance was applied to another.
#[tokio::test]
async fn an_answer_with_the_token_of_another_instance_is_refused_and_applied_to_none() {
    let (mut client, _workers) = client();
    let mut stream = connect(&mut client).await;
    for id in ["a", "b"] {
        client.start_instance(named(id)).await.expect("it starts");
    }
    let (first, one) = turn(&mut stream).await;
    let (second, other) = turn(&mut stream).await;
    let (one, other) = (one.instance_id, other.instance_id);
    for is_partial in [true, false] {
        let crossed = proto::OrchestratorResponse {
            is_partial,
            ..response(&one, &second, vec![completion(0, Wire::Completed)])
        };
        let refused = client.complete_orchestrator_task(crossed).await;
        let refused = refused.expect_err("the token is of another instance");
        assert_eq!(refused.code(), Code::InvalidArgument);
        let said =
            format!("instanceId: the completion token is for instance {other}, the answer names {one}");
        assert!(refused.message().contains(&said), "{refused:?}");
    }
    for id in [&one, &other] {
        let state = state(&mut client, id).await.expect("it is there");
        assert_eq!(state.orchestration_status(), Wire::Pending);
    }
    let task = response(&one, &first, vec![schedule(1)]);
    client
        .complete_orchestrator_task(task)
        .await
        .expect("it is taken");
    let (attempt, request) = item(&mut stream).await;
    assert!(matches!(request, Work::ActivityRequest(_)));
    for (instance_id, task_id, said) in [(&other, 1, "instanceId"), (&one, 2, "taskId")] {
        let crossed = proto::ActivityResponse {
            instance_id: instance_id.clone(),
            task_id,
            completion_token: attempt.clone(),
            ..Default::default()
        };
        let refused = client.complete_activity_task(crossed).await;
        let refused = refused.expect_err("the token is of another task");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with(said), "{refused:?}");
    }
    let end = response(&other, &second, vec![completion(0, Wire::Completed)]);
    client.complete_orchestrator_task(end).await.expect("it is taken");
    let state = ended(&mut client, &other).await;
    assert_eq!(state.orchestration_status(), Wire::Completed);
}
