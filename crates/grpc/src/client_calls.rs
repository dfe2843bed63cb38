//! What clients ask of instances and entities.

use dalsegno_core::message::ReusePolicy;
use dalsegno_core::query::{EntityQuery, InstanceCursor, InstanceQuery, LargeValues, Status as RunStatus};
use dalsegno_core::store::EntityRow;
use dalsegno_core::{EntityId, InstanceId, Payload};
use dalsegno_engine::hub::NewId;
use dalsegno_engine::request::{
    CallNote, CallScopes, PurgeQuery, Purged, RaisedEvent, RequestError, RequestErrorKind, Scope,
    SecondScope, Signal, StartOptions,
};
use tonic::Status;

use crate::fields::{BadField, StatusFilter};
use crate::service::{Served, demand, refused};
use crate::{fields, proto, wire};

/// Characters of an instance id that clients choose: the limit of the scheduler.
const ID_CHARS_MAX: usize = 100;
/// Rows of a page, unless asked for fewer.
const PAGE_ROWS: usize = 100;
/// Rows of a page at most.
const PAGE_ROWS_MAX: usize = 1_000;
/// Ids of a batch at most.
const BATCH_MAX: usize = 500;

fn id(text: &str) -> Result<InstanceId, Status> {
    wire::instance_id(text).map_err(|error| Status::invalid_argument(format!("instanceId: {error}")))
}

fn entity(text: &str) -> Result<EntityId, Status> {
    wire::entity_id(text).map_err(|error| Status::invalid_argument(format!("instanceId: {error}")))
}

/// Refuses a start that may end a running instance, unless the caller may.
pub(crate) fn check_start(request: &proto::CreateInstanceRequest, scopes: CallScopes) -> Result<(), Status> {
    let (policy, replaceable) = reuse(request.orchestration_id_reuse_policy.as_ref())?;
    let ends_running = policy == ReusePolicy::TerminateAndStart
        && replaceable.is_none_or(|listed| listed.iter().any(|status| !status.is_final()));
    match ends_running {
        true => demand(
            scopes,
            SecondScope::Control,
            "a start whose reuse policy ends a running instance",
        ),
        false => Ok(()),
    }
}

/// Refuses a purge that names entities, unless the caller may delete them.
fn check_purge(request: &proto::PurgeInstancesRequest, scopes: CallScopes) -> Result<(), Status> {
    use proto::purge_instances_request::Kind;
    let is_entity = |id: &String| id.starts_with('@');
    let names_entities = match &request.kind {
        Some(Kind::InstanceId(id)) => is_entity(id),
        Some(Kind::InstanceBatch(batch)) => batch.instance_ids.iter().any(is_entity),
        Some(Kind::PurgeInstanceFilter(_)) | None => false,
    };
    match names_entities {
        true => demand(scopes, SecondScope::Entity, "a purge that names an entity"),
        false => Ok(()),
    }
}

pub(crate) async fn start(served: &Served, request: proto::CreateInstanceRequest) -> Result<String, Status> {
    if request.name.is_empty() {
        return Err(Status::invalid_argument(
            "name: it is empty; name the orchestrator",
        ));
    }
    let own_id = match request.instance_id.as_str() {
        "" => None,
        text if text.starts_with('@') => {
            return Err(Status::invalid_argument(
                "instanceId: ids that begin with @ are those of entities",
            ));
        }
        text if text.chars().count() > ID_CHARS_MAX => {
            return Err(Status::invalid_argument(format!(
                "instanceId: its length is {} characters, {ID_CHARS_MAX} are allowed",
                text.chars().count()
            )));
        }
        text => Some(id(text)?),
    };
    let policy = request.orchestration_id_reuse_policy;
    let (reuse, replaceable) = reuse(policy.as_ref())?;
    let scheduled_start = fields::time_if("scheduledStartTimestamp", request.scheduled_start_timestamp)?;
    // JavaScript always sends 0.
    let scheduled_start = scheduled_start.filter(|at| at.as_micros() > 0);
    let mut tags: Vec<_> = request.tags.into_iter().collect();
    tags.sort();
    let trace = wire::trace(request.parent_trace_context);
    let options = StartOptions {
        name: request.name,
        version: request.version.filter(|version| !version.is_empty()),
        id: own_id.clone(),
        input: request.input.filter(|input| !input.is_empty()).map(Payload::from),
        scheduled_start,
        tags,
        reuse,
        replaceable,
        idempotency_key: None,
        webhook: None,
        is_told_elsewhere: trace.is_some(),
        trace,
    };
    match served.hub.start(options).await {
        Ok(started) => Ok(started.id.as_str().to_owned()),
        Err(error) if error.kind == RequestErrorKind::InstanceExists => {
            exists(served, own_id.as_ref(), policy.as_ref(), error).await
        }
        Err(error) => Err(refused(error)),
    }
}

/// An old client may want the existing one in such a status.
async fn exists(
    served: &Served,
    own_id: Option<&InstanceId>,
    policy: Option<&proto::OrchestrationIdReusePolicy>,
    error: RequestError,
) -> Result<String, Status> {
    if let (Some(own_id), Some(policy)) = (own_id, policy.filter(|policy| policy.action == 1)) {
        let listed = fields::statuses(REPLACEABLE, &policy.replaceable_status)?;
        let status = served.hub.status_with(own_id, LargeValues::LeaveOut).await;
        if status
            .map_err(refused)?
            .is_some_and(|status| listed.contains(&status.row.status))
        {
            return Ok(own_id.as_str().to_owned());
        }
    }
    Err(Status::already_exists(format!(
        "an orchestration instance already exists: {}",
        error.detail
    )))
}

const REPLACEABLE: &str = "orchestrationIdReusePolicy.replaceableStatus";

fn reuse(
    policy: Option<&proto::OrchestrationIdReusePolicy>,
) -> Result<(ReusePolicy, Option<Vec<RunStatus>>), Status> {
    let Some(policy) = policy else {
        return Ok((ReusePolicy::RejectRunning, None));
    };
    let listed = fields::statuses(REPLACEABLE, &policy.replaceable_status)?;
    if !(0..=2).contains(&policy.action) {
        let path = "orchestrationIdReusePolicy.action";
        let problem = format!(
            "{} is not known: send 0 error, 1 ignore or 2 terminate",
            policy.action
        );
        return Err(BadField::new(path, problem).into());
    }
    if policy.action == 1 {
        return Ok((ReusePolicy::Reject, None));
    }
    let is_living = |status: &RunStatus| !status.is_final();
    let is_old = policy.action == 2;
    if !is_old && listed.iter().any(is_living) && !listed.contains(&RunStatus::Terminated) {
        return Err(Status::invalid_argument(
            "Invalid reusable statuses: cannot exclude 'Terminated' while also allowing reuse of running instances",
        ));
    }
    Ok((ReusePolicy::TerminateAndStart, Some(listed)))
}

pub(crate) async fn get(
    served: &Served,
    request: proto::GetInstanceRequest,
) -> Result<proto::GetInstanceResponse, Status> {
    let with_values = request.get_inputs_and_outputs;
    let large = match with_values {
        true => LargeValues::Read,
        false => LargeValues::LeaveOut,
    };
    let Ok(id) = wire::instance_id(&request.instance_id) else {
        return Ok(absent());
    };
    let status = served.hub.status_with(&id, large).await.map_err(refused)?;
    Ok(status.map_or_else(absent, |status| proto::GetInstanceResponse {
        exists: true,
        orchestration_state: Some(wire::state_of(status, with_values)),
    }))
}

fn absent() -> proto::GetInstanceResponse {
    proto::GetInstanceResponse {
        exists: false,
        orchestration_state: None,
    }
}

/// What a wait waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Started,
    Completed,
}

pub(crate) async fn wait(
    served: &Served,
    request: proto::GetInstanceRequest,
    until: Until,
) -> Result<proto::GetInstanceResponse, Status> {
    let Ok(id) = wire::instance_id(&request.instance_id) else {
        return Ok(absent());
    };
    let answer = match until {
        Until::Started => served.hub.wait_for_start(&id, None).await,
        Until::Completed => served.hub.wait_for_completion(&id, None).await,
    };
    match answer {
        Ok(status) => Ok(proto::GetInstanceResponse {
            exists: true,
            orchestration_state: Some(wire::state_of(status, request.get_inputs_and_outputs)),
        }),
        Err(error) if error.kind == RequestErrorKind::NotFound => Ok(absent()),
        Err(error) => Err(refused(error)),
    }
}

/// A command that has nothing to do is done.
fn forgive(answer: Result<(), RequestError>, kinds: &[RequestErrorKind]) -> Result<(), Status> {
    match answer {
        Err(error) if !kinds.contains(&error.kind) => Err(refused(error)),
        _ => Ok(()),
    }
}

pub(crate) async fn raise(served: &Served, request: proto::RaiseEventRequest) -> Result<(), Status> {
    fields::event_name("name", &request.name)?;
    let event = RaisedEvent::new(request.name, request.input.map(Payload::from));
    let answer = served.hub.raise_event(&id(&request.instance_id)?, event).await;
    forgive(answer, &[RequestErrorKind::Finished])
}

pub(crate) async fn terminate(served: &Served, request: proto::TerminateRequest) -> Result<(), Status> {
    let scope = match request.recursive {
        true => Scope::Recursive,
        false => Scope::Instance,
    };
    let output = request.output.map(Payload::from);
    let id = id(&request.instance_id)?;
    let answer = served.hub.terminate_with_output(&id, output, scope).await;
    forgive(answer, &[RequestErrorKind::NotFound, RequestErrorKind::Finished])
}

pub(crate) async fn suspend(served: &Served, request: proto::SuspendRequest) -> Result<(), Status> {
    let answer = served
        .hub
        .suspend(&id(&request.instance_id)?, request.reason)
        .await;
    forgive(
        answer,
        &[RequestErrorKind::Finished, RequestErrorKind::WrongState],
    )
}

pub(crate) async fn resume(served: &Served, request: proto::ResumeRequest) -> Result<(), Status> {
    let answer = served
        .hub
        .resume(&id(&request.instance_id)?, request.reason)
        .await;
    forgive(
        answer,
        &[RequestErrorKind::Finished, RequestErrorKind::WrongState],
    )
}

pub(crate) async fn restart(
    served: &Served,
    request: proto::RestartInstanceRequest,
) -> Result<String, Status> {
    let new_id = match request.restart_with_new_instance_id {
        true => NewId::Generated,
        false => NewId::Same,
    };
    let started = served.hub.restart(&id(&request.instance_id)?, new_id).await;
    started
        .map(|started| started.id.as_str().to_owned())
        .map_err(refused)
}

pub(crate) async fn rewind(served: &Served, request: proto::RewindInstanceRequest) -> Result<(), Status> {
    let answer = served
        .hub
        .rewind(&id(&request.instance_id)?, request.reason)
        .await;
    answer.map_err(|error| match error.kind {
        RequestErrorKind::Finished => {
            Status::failed_precondition(format!("rewind is not allowed: {}", error.detail))
        }
        RequestErrorKind::WrongState => {
            Status::failed_precondition(format!("the instance is running: {}", error.detail))
        }
        _ => refused(error),
    })
}

pub(crate) async fn skip_graceful(
    served: &Served,
    request: proto::SkipGracefulOrchestrationTerminationsRequest,
) -> Result<Vec<String>, Status> {
    let ids = request.instance_batch.unwrap_or_default().instance_ids;
    check_batch(&ids)?;
    let mut left = Vec::new();
    for text in ids {
        let ended = match wire::instance_id(&text) {
            Ok(id) => served
                .hub
                .terminate(&id, request.reason.clone(), Scope::Instance)
                .await
                .is_ok(),
            Err(_) => false,
        };
        if !ended {
            left.push(text);
        }
    }
    Ok(left)
}

fn check_batch(ids: &[String]) -> Result<(), Status> {
    match ids.len() > BATCH_MAX {
        true => Err(Status::invalid_argument(format!(
            "instanceBatch: {} ids, {BATCH_MAX} are allowed",
            ids.len()
        ))),
        false => Ok(()),
    }
}

pub(crate) async fn purge(
    served: &Served,
    request: proto::PurgeInstancesRequest,
    note: &CallNote,
    scopes: CallScopes,
) -> Result<proto::PurgeInstancesResponse, Status> {
    use proto::purge_instances_request::Kind;
    let scope = match request.recursive {
        true => Scope::Recursive,
        false => Scope::Instance,
    };
    match &request.kind {
        None => {}
        Some(Kind::InstanceId(id)) => note.subject(id),
        Some(Kind::InstanceBatch(batch)) => note.filter(&batch_text(&batch.instance_ids)),
        Some(Kind::PurgeInstanceFilter(filter)) => note.filter(&filter_text(filter)),
    }
    check_purge(&request, scopes)?;
    let purged = match request.kind {
        None => return Err(Status::invalid_argument("name an instance, a filter or a batch")),
        Some(Kind::InstanceId(id)) => whole(purge_one(served, &id, scope).await?),
        Some(Kind::InstanceBatch(batch)) => {
            check_batch(&batch.instance_ids)?;
            let mut count = 0;
            for id in &batch.instance_ids {
                count += purge_one(served, id, scope).await?;
            }
            whole(count)
        }
        Some(Kind::PurgeInstanceFilter(filter)) => purge_matching(served, filter, scope).await?,
    };
    note.count(purged.count);
    Ok(proto::PurgeInstancesResponse {
        deleted_instance_count: i32::try_from(purged.count).unwrap_or(i32::MAX),
        is_complete: Some(purged.is_complete),
    })
}

/// A purge without a limit of time.
fn whole(count: u64) -> Purged {
    let is_complete = true;
    Purged { count, is_complete }
}

/// Ids of a batch in an audit record.
const IDS_SHOWN_MAX: usize = 20;

/// A batch, as an audit record shows it.
pub(crate) fn batch_text(ids: &[String]) -> String {
    let first = &ids[..ids.len().min(IDS_SHOWN_MAX)];
    format!("{} instances: {}", ids.len(), first.join(", "))
}

/// A filter, as an audit record shows it.
fn filter_text(filter: &proto::PurgeInstanceFilter) -> String {
    let time = |name: &str, at: Option<prost_types::Timestamp>| at.map(|at| format!("{name}={at}"));
    let statuses = filter.runtime_status.iter().map(|number| {
        let status = proto::OrchestrationStatus::try_from(*number);
        status.map_or_else(|_| number.to_string(), |status| status.as_str_name().to_owned())
    });
    let statuses: Vec<String> = statuses.collect();
    let parts = [
        time("createdTimeFrom", filter.created_time_from),
        time("createdTimeTo", filter.created_time_to),
        Some(format!("runtimeStatus={}", statuses.join(","))).filter(|_| !statuses.is_empty()),
    ];
    match parts.into_iter().flatten().collect::<Vec<_>>() {
        parts if parts.is_empty() => "all".to_owned(),
        parts => parts.join("&"),
    }
}

async fn purge_one(served: &Served, text: &str, scope: Scope) -> Result<u64, Status> {
    if text.starts_with('@') {
        let deleted = served.hub.delete_entity(&entity(text)?).await.map_err(refused)?;
        return Ok(u64::from(deleted));
    }
    zero_if_gone(served.hub.purge(&id(text)?, scope).await)
}

/// What is not there or not finished counts as none.
fn zero_if_gone(purged: Result<u64, RequestError>) -> Result<u64, Status> {
    match purged {
        Ok(count) => Ok(count),
        Err(error)
            if matches!(
                error.kind,
                RequestErrorKind::NotFound | RequestErrorKind::InstanceRunning
            ) =>
        {
            Ok(0)
        }
        Err(error) => Err(refused(error)),
    }
}

async fn purge_matching(
    served: &Served,
    filter: proto::PurgeInstanceFilter,
    scope: Scope,
) -> Result<Purged, Status> {
    let statuses = StatusFilter::read("purgeInstanceFilter.runtimeStatus", &filter.runtime_status)?;
    let (created_from, created_to) = fields::span(
        ("purgeInstanceFilter.createdTimeFrom", filter.created_time_from),
        ("purgeInstanceFilter.createdTimeTo", filter.created_time_to),
    )?;
    let time_max = fields::duration_if("purgeInstanceFilter.timeout", filter.timeout)?;
    // Never an empty list, which the hub takes for all.
    let statuses = statuses.finished();
    if statuses.is_empty() {
        return Ok(whole(0));
    }
    let query = PurgeQuery {
        created_from: Some(created_from.unwrap_or_default()),
        created_to,
        statuses,
    };
    let purged = served.hub.purge_matching(query, scope, time_max).await;
    purged.map_err(refused)
}

/// Rows of a page; 0 leaves it to the host.
fn page_rows(path: &str, asked: Option<i32>) -> Result<usize, BadField> {
    Ok(match fields::count_if(path, asked)? {
        None | Some(0) => PAGE_ROWS,
        Some(rows) => rows.min(PAGE_ROWS_MAX),
    })
}

pub(crate) async fn query(
    served: &Served,
    request: proto::QueryInstancesRequest,
) -> Result<proto::QueryInstancesResponse, Status> {
    let query = request.query.unwrap_or_default();
    if !query.task_hub_names.is_empty() && !query.task_hub_names.iter().any(|name| name == served.hub.name())
    {
        return Ok(proto::QueryInstancesResponse::default());
    }
    let statuses = match StatusFilter::read("query.runtimeStatus", &query.runtime_status)? {
        StatusFilter::Any => Vec::new(),
        StatusFilter::Only(statuses) if statuses.is_empty() => {
            return Ok(proto::QueryInstancesResponse::default());
        }
        StatusFilter::Only(statuses) => statuses,
    };
    let (created_from, created_to) = fields::span(
        ("query.createdTimeFrom", query.created_time_from),
        ("query.createdTimeTo", query.created_time_to),
    )?;
    let rows = page_rows("query.maxInstanceCount", Some(query.max_instance_count))?;
    let with_values = query.fetch_inputs_and_outputs;
    let after = match query.continuation_token.as_deref() {
        None | Some("") => None,
        Some(token) => Some(cursor(token)?),
    };
    let page = served
        .hub
        .list(InstanceQuery {
            statuses,
            created_from,
            created_to,
            id_prefix: query.instance_id_prefix.filter(|prefix| !prefix.is_empty()),
            limit: rows,
            after,
            large: match with_values {
                true => LargeValues::Read,
                false => LargeValues::LeaveOut,
            },
            ..InstanceQuery::default()
        })
        .await
        .map_err(refused)?;
    let states = page
        .rows
        .into_iter()
        .map(|row| dalsegno_engine::request::InstanceStatus::new(row, Vec::new()));
    Ok(proto::QueryInstancesResponse {
        orchestration_state: states.map(|status| wire::state_of(status, with_values)).collect(),
        continuation_token: page
            .next
            .map(|next| format!("{}:{}", next.created.as_micros(), next.id)),
    })
}

fn cursor(token: &str) -> Result<InstanceCursor, Status> {
    let bad =
        || Status::invalid_argument("continuationToken: this is none of ours; take it from the page before");
    let (created, id) = token.split_once(':').ok_or_else(bad)?;
    Ok(InstanceCursor {
        created: dalsegno_core::Timestamp::from_micros(created.parse().map_err(|_| bad())?),
        id: wire::instance_id(id).map_err(|_| bad())?,
    })
}

/// Finished ones in the order of their completion.
pub(crate) async fn list_ids(
    served: &Served,
    request: proto::ListInstanceIdsRequest,
) -> Result<proto::ListInstanceIdsResponse, Status> {
    let statuses = StatusFilter::read("runtimeStatus", &request.runtime_status)?.finished();
    let (from, to) = fields::span(
        ("completedTimeFrom", request.completed_time_from),
        ("completedTimeTo", request.completed_time_to),
    )?;
    let after = match request.last_instance_key.as_deref() {
        None | Some("") => None,
        Some(token) => cursor(token).map(|cursor| Some((cursor.created, cursor.id)))?,
    };
    let mut query = InstanceQuery {
        statuses,
        limit: PAGE_ROWS_MAX,
        large: LargeValues::LeaveOut,
        ..InstanceQuery::default()
    };
    if query.statuses.is_empty() {
        return Ok(proto::ListInstanceIdsResponse::default());
    }
    let mut found = std::collections::BTreeSet::new();
    let rows = page_rows("pageSize", Some(request.page_size))?;
    loop {
        let page = served.hub.list(query.clone()).await.map_err(refused)?;
        for row in page.rows {
            let Some(completed) = row.completed else { continue };
            let is_in = from.is_none_or(|from| completed >= from) && to.is_none_or(|to| completed < to);
            let key = (completed, row.id);
            if is_in && after.as_ref().is_none_or(|after| key > *after) {
                found.insert(key);
                // One more than the page tells that there is another.
                if found.len() > rows + 1 {
                    found.pop_last();
                }
            }
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    let has_more = found.len() > rows;
    let page: Vec<_> = found.into_iter().take(rows).collect();
    let last = page.last().filter(|_| has_more);
    Ok(proto::ListInstanceIdsResponse {
        last_instance_key: last.map(|(completed, id)| format!("{}:{id}", completed.as_micros())),
        instance_ids: page.into_iter().map(|(_, id)| id.as_str().to_owned()).collect(),
    })
}

pub(crate) async fn signal(served: &Served, request: proto::SignalEntityRequest) -> Result<(), Status> {
    let signal = Signal {
        operation: request.name,
        input: request.input.map(Payload::from),
        at: fields::time_if("scheduledTime", request.scheduled_time)?,
        trace: wire::trace(request.parent_trace_context),
    };
    served
        .hub
        .signal_entity(&entity(&request.instance_id)?, signal)
        .await
        .map_err(refused)
}

pub(crate) async fn get_entity(
    served: &Served,
    request: proto::GetEntityRequest,
) -> Result<proto::GetEntityResponse, Status> {
    let row = served
        .hub
        .entity(&entity(&request.instance_id)?)
        .await
        .map_err(refused)?;
    let row = row.filter(|row| row.state.is_some() || row.is_state_apart);
    Ok(proto::GetEntityResponse {
        exists: row.is_some(),
        entity: row.map(|row| metadata(row, request.include_state)),
    })
}

fn metadata(row: EntityRow, with_state: bool) -> proto::EntityMetadata {
    proto::EntityMetadata {
        instance_id: row.id.to_string(),
        last_modified_time: Some(wire::timestamp(row.last_operation)),
        backlog_queue_size: 0,
        locked_by: dalsegno_engine::request::lock_holder(&row).map(|id| id.as_str().to_owned()),
        serialized_state: row
            .state
            .filter(|_| with_state)
            .map(|state| state.as_str().to_owned()),
    }
}

pub(crate) async fn query_entities(
    served: &Served,
    request: proto::QueryEntitiesRequest,
) -> Result<proto::QueryEntitiesResponse, Status> {
    let query = request.query.unwrap_or_default();
    let prefix = query.instance_id_starts_with.unwrap_or_default();
    let (name, key) = entity_prefix(&prefix);
    let rows = page_rows("query.pageSize", query.page_size)?;
    let (from, to) = fields::span(
        ("query.lastModifiedFrom", query.last_modified_from),
        ("query.lastModifiedTo", query.last_modified_to),
    )?;
    let after = match query.continuation_token.as_deref() {
        None | Some("") => None,
        Some(token) => Some(entity(token)?),
    };
    let mut page_query = EntityQuery {
        name: key
            .is_some()
            .then(|| name.clone())
            .filter(|name| !name.is_empty()),
        from,
        to,
        limit: rows,
        after,
        large: match query.include_state {
            true => LargeValues::Read,
            false => LargeValues::LeaveOut,
        },
    };
    let mut entities = Vec::new();
    loop {
        let page = served
            .hub
            .list_entities(page_query.clone())
            .await
            .map_err(refused)?;
        let mut last = None;
        for row in page.rows {
            let fits = match &key {
                Some(key) => row.id.name() == name && row.id.key().starts_with(key.as_str()),
                None => row.id.name().starts_with(&name),
            };
            let has_state = row.state.is_some() || row.is_state_apart;
            if fits && (has_state || query.include_transient) {
                last = Some(row.id.to_string());
                entities.push(metadata(row, query.include_state));
                if entities.len() == rows {
                    break;
                }
            }
        }
        match page.next {
            Some(next) if entities.len() < rows => page_query.after = Some(next),
            next => {
                return Ok(proto::QueryEntitiesResponse {
                    entities,
                    continuation_token: next.and(last),
                });
            }
        }
    }
}

/// `@name@key…` or `@name…`: the name, and the key's beginning if the name is whole.
fn entity_prefix(prefix: &str) -> (String, Option<String>) {
    let rest = prefix.strip_prefix('@').unwrap_or(prefix);
    match rest.split_once('@') {
        Some((name, key)) => (name.to_lowercase(), Some(key.to_owned())),
        None => (rest.to_lowercase(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_record_shows_what_a_purge_selects() {
        let mut filter = proto::PurgeInstanceFilter::default();
        assert_eq!(filter_text(&filter), "all");
        filter.created_time_from = Some(prost_types::Timestamp {
            seconds: 1_772_357_400,
            nanos: 0,
        });
        filter.runtime_status = vec![3, 99];
        assert_eq!(
            filter_text(&filter),
            "createdTimeFrom=2026-03-01T09:30:00Z&runtimeStatus=ORCHESTRATION_STATUS_FAILED,99"
        );
        assert_eq!(batch_text(&["a".into(), "b".into()]), "2 instances: a, b");
    }
}
