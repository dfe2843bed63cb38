//! A good message for every call, with as many fields as it has.

use std::collections::HashMap;

use dalsegno_grpc::proto;
use dalsegno_grpc::proto::orchestrator_action::Kind as Asked;
use prost::Message;

use crate::world::{action, response, schedule, success};

/// Of the work that is at the worker.
#[derive(Default)]
pub(crate) struct Tokens {
    pub(crate) turn: String,
    pub(crate) activity: String,
    pub(crate) entity: String,
}

/// Calls the entity of an instance.
pub(crate) fn call(id: i32, instance: &str) -> proto::OrchestratorAction {
    let called = proto::EntityOperationCalledEvent {
        request_id: "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(),
        operation: "add".to_owned(),
        input: Some("1".to_owned()),
        target_instance_id: Some(format!("@counter@{instance}")),
        ..Default::default()
    };
    let kind = proto::send_entity_message_action::Kind::EntityOperationCalled(called);
    let message = proto::SendEntityMessageAction { kind: Some(kind) };
    action(id, Asked::SendEntityMessage(message))
}

/// The failed instance beside this one.
pub(crate) fn failed(id: &str) -> String {
    format!("failed-{id}")
}

const TIME: Option<prost_types::Timestamp> = Some(prost_types::Timestamp {
    seconds: 1_767_225_600,
    nanos: 123_456_000,
});

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn tags() -> HashMap<String, String> {
    [("k".to_owned(), "v".to_owned())].into()
}

fn trace() -> Option<proto::TraceContext> {
    Some(proto::TraceContext {
        trace_parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        span_id: "b7ad6b7169203331".to_owned(),
        trace_state: some("a=b"),
    })
}

/// The bytes of it, about this instance.
#[expect(clippy::too_many_lines, reason = "one match over all calls")]
pub(crate) fn good(call: &str, id: &str, tokens: &Tokens) -> Vec<u8> {
    let instance_id = id.to_owned();
    let batch = || proto::InstanceBatch {
        instance_ids: vec![id.to_owned(), "other".to_owned()],
    };
    match call {
        "Hello" => Vec::new(),
        "GetWorkItems" => work_items().encode_to_vec(),
        "CompleteOrchestratorTask" => turn(id, &tokens.turn).encode_to_vec(),
        "CompleteActivityTask" => proto::ActivityResponse {
            instance_id,
            task_id: 1,
            result: some("1"),
            failure_details: None,
            completion_token: tokens.activity.clone(),
            last_heartbeat: some("1"),
        }
        .encode_to_vec(),
        "CompleteEntityTask" => proto::EntityBatchResult {
            results: vec![success(Some("1"))],
            entity_state: some("1"),
            completion_token: tokens.entity.clone(),
            ..Default::default()
        }
        .encode_to_vec(),
        "AbandonTaskOrchestratorWorkItem" => proto::AbandonOrchestrationTaskRequest {
            completion_token: tokens.turn.clone(),
        }
        .encode_to_vec(),
        "AbandonTaskActivityWorkItem" => proto::AbandonActivityTaskRequest {
            completion_token: tokens.activity.clone(),
        }
        .encode_to_vec(),
        "AbandonTaskEntityWorkItem" => proto::AbandonEntityTaskRequest {
            completion_token: tokens.entity.clone(),
        }
        .encode_to_vec(),
        "StartInstance" => start(id).encode_to_vec(),
        "GetInstance" | "WaitForInstanceStart" | "WaitForInstanceCompletion" => proto::GetInstanceRequest {
            instance_id,
            get_inputs_and_outputs: true,
        }
        .encode_to_vec(),
        "RaiseEvent" => proto::RaiseEventRequest {
            instance_id,
            name: "Go".to_owned(),
            input: some("1"),
        }
        .encode_to_vec(),
        "TerminateInstance" => proto::TerminateRequest {
            instance_id,
            output: some("\"over\""),
            recursive: true,
        }
        .encode_to_vec(),
        "SuspendInstance" => proto::SuspendRequest {
            instance_id,
            reason: some("why"),
        }
        .encode_to_vec(),
        "ResumeInstance" => proto::ResumeRequest {
            instance_id,
            reason: some("why"),
        }
        .encode_to_vec(),
        "RestartInstance" => proto::RestartInstanceRequest {
            instance_id,
            restart_with_new_instance_id: true,
        }
        .encode_to_vec(),
        "RewindInstance" => proto::RewindInstanceRequest {
            instance_id: failed(id),
            reason: some("why"),
        }
        .encode_to_vec(),
        "SkipGracefulOrchestrationTerminations" => proto::SkipGracefulOrchestrationTerminationsRequest {
            instance_batch: Some(batch()),
            reason: some("why"),
        }
        .encode_to_vec(),
        "PurgeInstances" => purge(id).encode_to_vec(),
        "QueryInstances" => query(id).encode_to_vec(),
        "ListInstanceIds" => proto::ListInstanceIdsRequest {
            runtime_status: vec![1, 3],
            completed_time_from: TIME,
            completed_time_to: None,
            page_size: 2,
            last_instance_key: some("1@i"),
        }
        .encode_to_vec(),
        "StreamInstanceHistory" => proto::StreamInstanceHistoryRequest {
            instance_id,
            execution_id: None,
            for_work_item_processing: false,
        }
        .encode_to_vec(),
        "SignalEntity" => proto::SignalEntityRequest {
            instance_id: format!("@counter@{id}"),
            name: "add".to_owned(),
            input: some("1"),
            request_id: "r".to_owned(),
            scheduled_time: TIME,
            parent_trace_context: trace(),
            request_time: TIME,
        }
        .encode_to_vec(),
        "GetEntity" => proto::GetEntityRequest {
            instance_id: format!("@counter@{id}"),
            include_state: true,
        }
        .encode_to_vec(),
        "QueryEntities" => entities().encode_to_vec(),
        "CleanEntityStorage" => proto::CleanEntityStorageRequest {
            continuation_token: some("t"),
            remove_empty_entities: true,
            release_orphaned_locks: true,
        }
        .encode_to_vec(),
        "CreateTaskHub" => proto::CreateTaskHubRequest {
            recreate_if_exists: false,
        }
        .encode_to_vec(),
        _ => Vec::new(),
    }
}

fn work_items() -> proto::GetWorkItemsRequest {
    let function = |name: &str| proto::OrchestrationFilter {
        name: name.to_owned(),
        versions: vec!["1".to_owned()],
    };
    proto::GetWorkItemsRequest {
        max_concurrent_orchestration_work_items: 1,
        max_concurrent_activity_work_items: -1,
        max_concurrent_entity_work_items: 3,
        capabilities: vec![1, 2],
        work_item_filters: Some(proto::WorkItemFilters {
            orchestrations: vec![function("o"), function("p")],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn turn(id: &str, token: &str) -> proto::OrchestratorResponse {
    let timer = proto::CreateTimerAction { fire_at: TIME };
    let child = proto::CreateSubOrchestrationAction {
        instance_id: format!("{id}:child"),
        name: "p".to_owned(),
        parent_trace_context: trace(),
        tags: tags(),
        ..Default::default()
    };
    let event = proto::SendEventAction {
        instance: Some(proto::OrchestrationInstance {
            instance_id: "other".to_owned(),
            execution_id: None,
        }),
        name: "Go".to_owned(),
        data: some("1"),
    };
    let actions = vec![
        schedule(3),
        action(4, Asked::CreateTimer(timer)),
        action(5, Asked::CreateSubOrchestration(child)),
        action(6, Asked::SendEvent(event)),
        call(7, id),
    ];
    proto::OrchestratorResponse {
        custom_status: some("\"s\""),
        num_events_processed: Some(2),
        ..response(id, token, actions)
    }
}

fn start(id: &str) -> proto::CreateInstanceRequest {
    proto::CreateInstanceRequest {
        instance_id: format!("{id}-new"),
        name: "o".to_owned(),
        version: some("1"),
        input: some("1"),
        scheduled_start_timestamp: TIME,
        orchestration_id_reuse_policy: Some(proto::OrchestrationIdReusePolicy {
            replaceable_status: vec![1, 3, 5],
            ..Default::default()
        }),
        execution_id: some("0f8fad5bd9cb469fa16570867728950e"),
        tags: tags(),
        parent_trace_context: trace(),
        request_time: TIME,
    }
}

fn purge(id: &str) -> proto::PurgeInstancesRequest {
    use proto::purge_instances_request::Kind;
    let filter = proto::PurgeInstanceFilter {
        created_time_from: TIME,
        runtime_status: vec![1],
        timeout: Some(prost_types::Duration { seconds: 1, nanos: 5 }),
        ..Default::default()
    };
    // Some are by id and some by filter.
    let kind = match id < "d" {
        true => Kind::InstanceId(id.to_owned()),
        false => Kind::PurgeInstanceFilter(filter),
    };
    proto::PurgeInstancesRequest {
        kind: Some(kind),
        recursive: true,
        is_orchestration: true,
    }
}

fn query(id: &str) -> proto::QueryInstancesRequest {
    let query = proto::InstanceQuery {
        runtime_status: vec![0, 1],
        created_time_from: TIME,
        task_hub_names: vec!["default".to_owned()],
        max_instance_count: 2,
        continuation_token: some("t"),
        instance_id_prefix: some(id),
        fetch_inputs_and_outputs: true,
        ..Default::default()
    };
    proto::QueryInstancesRequest { query: Some(query) }
}

fn entities() -> proto::QueryEntitiesRequest {
    let query = proto::EntityQuery {
        instance_id_starts_with: some("@counter@"),
        last_modified_from: TIME,
        include_state: true,
        page_size: Some(2),
        continuation_token: some("@counter@a"),
        ..Default::default()
    };
    proto::QueryEntitiesRequest { query: Some(query) }
}
