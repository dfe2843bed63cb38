//! The routes of `/runtime/dalsegno/v1`.

use schemars::SchemaGenerator as Schemas;

use super::entity_wire::EntityWire;
use super::event_wire::EventWire;
use super::hubs::RepairedWire;
use super::instances::{STUCK_ROWS, WAIT_SECONDS_MAX};
use super::operations::{OperationBody, VERB_SCOPES};
use super::overview::{BUCKETS, BUCKETS_MAX, OverviewWire};
use super::wire::{
    CancelBody, CountWire, DeletedWire, EntityRowWire, InstanceWire, LimiterBody, LimiterPatch, LimiterWire,
    PageWire, PurgeBody, SignalBody, StartBody, StartedWire, UnlockBody,
};
use super::{
    DeliveryWire, ExplanationWire, HubCreatedWire, HubInfo, HubStatsWire, LogLevelWire, OperationWire,
    ScheduleWire, StuckWire, WorkerWire,
};
use crate::audit::{AuditRecord, RECORDS_MAX};
use crate::http::list::PAGE_ROWS;
use crate::http::path::{Command, Ours};
use crate::http::route::{Also, Answer, Captured, Header, Parameter, Reach, RequestBody, Route, Shape, Verb};
use crate::keys::{LinkOperation, Scope};
use dalsegno_engine::hub::STUCK_MAX;

const REASON: Parameter = Parameter::new("reason", Shape::Text, "Why; may be empty.");
const RECURSIVE: Parameter = Parameter::new("recursive", Shape::Flag(false), "Its children too.");
const TOP: Parameter = Parameter::new("top", Shape::PageRows, "Most rows of a page.");
const AFTER: Parameter = Parameter::new("after", Shape::Text, "`next` of the page before.");
const LARGE_VALUES: Parameter = Parameter::new(
    "largeValues",
    Shape::Flag(true),
    "Tell values that are stored apart.",
);
const NAME: Parameter = Parameter::new("name", Shape::Text, "Of this name.");
const TAG: Parameter = Parameter::new("tag", Shape::Tags, "With all of these tags.");
const PREFIX: Parameter = Parameter::new(
    "prefix",
    Shape::Text,
    "How the id begins; may be empty, not begin with `@`.",
);
const PARENT: Parameter = Parameter::new("parent", Shape::InstanceId, "Children of this instance.");
const WAITING_FOR: Parameter = Parameter::new(
    "waitingFor",
    Shape::Text,
    "Whose code waits for an event of this name.",
);
const FAILED_ACTIVITY: Parameter = Parameter::new(
    "failedActivity",
    Shape::Text,
    "Failed, or not finished, and this activity is what failed last or waits for its next attempt.",
);
const CREATED_FROM: Parameter = Parameter::new("createdFrom", Shape::Time, "Created then or later.");
const CREATED_TO: Parameter = Parameter::new("createdTo", Shape::Time, "Created then or earlier.");
const TAKEN: &[Answer] = &[Answer::empty(202, "Taken, and durable.")];
const STREAM: Answer = Answer::text(
    200,
    "Server-sent events, until the client leaves or the host ends.",
    "text/event-stream",
);
const STARTED: &[Answer] = &[Answer::json(
    202,
    "Started.",
    Schemas::subschema_for::<StartedWire>,
)];
const DELETED: &[Answer] = &[Answer::json(
    200,
    "How many were deleted.",
    Schemas::subschema_for::<DeletedWire>,
)];
const INSTANCE: &[Answer] = &[Answer::json(
    200,
    "The instance.",
    Schemas::subschema_for::<InstanceWire>,
)];

const fn get(path: &'static str, to: fn(&Captured<'_>) -> Ours) -> Route<Ours> {
    Route::new(Verb::Get, path, to)
}

const fn command(
    path: &'static str,
    query: &'static [Parameter],
    to: fn(&Captured<'_>) -> Ours,
) -> Route<Ours> {
    Route::new(Verb::Post, path, to)
        .scope(Scope::Control)
        .query(query)
        .refuses(&[404, 409, 410])
        .answers(TAKEN)
}

fn commanded(path: &Captured<'_>, command: Command) -> Ours {
    Ours::Command {
        id: path.text(0),
        command,
    }
}

/// All of them.
pub(crate) static ROUTES: &[Route<Ours>] = &[
    Route::new(Verb::Post, "orchestrators/{orchestrator}", |path| Ours::Start {
        name: path.text(0),
    })
    .told(
        "start",
        "Start an orchestration. With `reuse` as `terminateAndStart` it needs the scope `control` too.",
    )
    .scope(Scope::Start)
    .also(&[Also::member("reuse", "terminateAndStart", Scope::Control)])
    .headers(&[Header::IdempotencyKey, Header::Trace])
    .body(RequestBody::MayBe(Schemas::subschema_for::<StartBody>))
    .refuses(&[409, 507])
    .answers(STARTED),
    get("instances", |_| Ours::List)
        .told("list", "List instances, newest first.")
        .query(&[
            Parameter::new("status", Shape::Statuses, "Any of these."),
            NAME,
            TAG,
            PREFIX,
            PARENT,
            WAITING_FOR,
            FAILED_ACTIVITY,
            CREATED_FROM,
            CREATED_TO,
            TOP,
            AFTER,
            LARGE_VALUES,
        ])
        .answers(&[Answer::json(
            200,
            "A page.",
            Schemas::subschema_for::<PageWire<InstanceWire>>,
        )]),
    get("instances/{instanceId}", |path| Ours::Get { id: path.text(0) })
        .told("get", "One instance, whole.")
        .refuses(&[404])
        .answers(INSTANCE),
    Route::new(Verb::Delete, "instances/{instanceId}", |path| Ours::Delete {
        id: path.text(0),
    })
    .told("delete", "Delete a finished instance.")
    .scope(Scope::Purge)
    .also(&[Also::flag("force", Scope::Control)])
    .query(&[
        RECURSIVE,
        Parameter::new(
            "force",
            Shape::Flag(false),
            "Terminate one that is not finished first: needs the scope `control` too.",
        ),
    ])
    .refuses(&[404, 408, 409, 410])
    .answers(DELETED),
    get("instances/{instanceId}/wait", |path| Ours::Wait { id: path.text(0) })
        .told("wait", "Wait for an instance.")
        .query(&[
            Parameter::new(
                "for",
                Shape::Words(&["completion", "start"]),
                "For its end (the default), or for its first turn.",
            ),
            Parameter::new(
                "timeout",
                Shape::Seconds {
                    most: WAIT_SECONDS_MAX,
                },
                "Seconds to wait: 60 unless said otherwise.",
            ),
        ])
        .refuses(&[404, 408])
        .answers(INSTANCE),
    get("instances/{instanceId}/history", |path| Ours::History {
        id: path.text(0),
    })
    .told("history", "The history of the current execution, in order.")
    .query(&[LARGE_VALUES])
    .refuses(&[404])
    .answers(&[Answer::json(
        200,
        "The events.",
        Schemas::subschema_for::<Vec<EventWire>>,
    )]),
    get("instances/{instanceId}/explain", |path| Ours::Explain {
        id: path.text(0),
    })
    .told("explain", "Why an instance does not move.")
    .refuses(&[404])
    .answers(&[Answer::json(
        200,
        "What holds it, and what would move it.",
        Schemas::subschema_for::<ExplanationWire>,
    )]),
    get("instances/{instanceId}/stream", |path| Ours::Stream {
        id: path.text(0),
    })
    .told("stream", "The changes of an instance as they come.")
    .link(LinkOperation::Status)
    .query(&[
        Parameter::new("after", Shape::Text, "The id of an event: go on behind it."),
        LARGE_VALUES,
    ])
    .headers(&[Header::LastEventId])
    .refuses(&[404])
    .answers(&[STREAM, Answer::empty(204, "It has ended: nothing will follow.")]),
    Route::new(Verb::Post, "instances/{instanceId}/events/{eventName}", |path| {
        Ours::RaiseEvent {
            id: path.text(0),
            event: path.text(1),
        }
    })
    .told("raise", "Raise an event for an instance.")
    .scope(Scope::Signal)
    .headers(&[Header::IdempotencyKey, Header::Trace])
    .body(RequestBody::Value)
    .refuses(&[404, 409, 410, 507])
    .answers(TAKEN),
    command("instances/{instanceId}/terminate", &[REASON, RECURSIVE], |path| {
        commanded(path, Command::Terminate)
    })
    .told("terminate", "End an instance."),
    command("instances/{instanceId}/suspend", &[REASON], |path| {
        commanded(path, Command::Suspend)
    })
    .told("suspend", "Make an instance pause."),
    command("instances/{instanceId}/resume", &[REASON], |path| {
        commanded(path, Command::Resume)
    })
    .told("resume", "Let a suspended instance go on."),
    command("instances/{instanceId}/rewind", &[REASON], |path| {
        commanded(path, Command::Rewind)
    })
    .told("rewind", "Set a failed or parked instance going again."),
    command("instances/{instanceId}/cancel", &[REASON], |path| Ours::Cancel {
        id: path.text(0),
    })
    .told("cancel", "Ask an instance to end by its own code.")
    .body(RequestBody::MayBe(Schemas::subschema_for::<CancelBody>)),
    command(
        "instances/{instanceId}/retry-now",
        &[Parameter::new(
            "task",
            Shape::Task,
            "Of this task alone.",
        )],
        |path| Ours::RetryNow { id: path.text(0) },
    )
    .told("retryNow", "Begin the next attempts that an instance waits for, now."),
    Route::new(Verb::Post, "instances/{instanceId}/restart", |path| Ours::Restart {
        id: path.text(0),
    })
    .told("restart", "Start a finished instance again.")
    .scope(Scope::Control)
    .query(&[Parameter::new(
        "newId",
        Shape::Flag(true),
        "Under a new id, or under its own.",
    )])
    .refuses(&[404, 409, 507])
    .answers(STARTED),
    get("counts", |_| Ours::Counts)
        .told("counts", "How many instances are in each status.")
        .answers(&[Answer::json(
            200,
            "The counts.",
            Schemas::subschema_for::<Vec<CountWire>>,
        )]),
    Route::new(Verb::Post, "purge", |_| Ours::Purge)
        .told("purge", "Delete finished instances by filter.")
        .scope(Scope::Purge)
        .body(RequestBody::Is(Schemas::subschema_for::<PurgeBody>))
        .answers(DELETED),
    get("entities", |_| Ours::Entities)
        .told("entities", "List entities.")
        .query(&[
            NAME,
            Parameter::new("lastOperationFrom", Shape::Time, "Used then or later."),
            Parameter::new("lastOperationTo", Shape::Time, "Used then or earlier."),
            TOP,
            AFTER,
            LARGE_VALUES,
        ])
        .answers(&[Answer::json(
            200,
            "A page.",
            Schemas::subschema_for::<PageWire<EntityRowWire>>,
        )]),
    get("entities/{entityName}/{entityKey}", |path| Ours::Entity {
        name: path.text(0),
        key: path.key(1),
    })
    .told("entity", "An entity.")
    .refuses(&[404])
    .answers(&[Answer::json(
        200,
        "The entity, and what waits for it.",
        Schemas::subschema_for::<EntityWire>,
    )]),
    Route::new(Verb::Post, "entities/{entityName}/{entityKey}/signal", |path| {
        Ours::Signal {
            name: path.text(0),
            key: path.key(1),
        }
    })
    .told("signal", "Signal an entity.")
    .scope(Scope::Entity)
    .headers(&[Header::Trace])
    .body(RequestBody::Is(Schemas::subschema_for::<SignalBody>))
    .refuses(&[507])
    .answers(TAKEN),
    Route::new(Verb::Post, "entities/{entityName}/{entityKey}/unlock", |path| {
        Ours::UnlockEntity {
            name: path.text(0),
            key: path.key(1),
        }
    })
    .told(
        "unlockEntity",
        "Free an entity of a lock whose holder is gone; other entities of the same lock stay locked.",
    )
    .scope(Scope::Entity)
    .body(RequestBody::Is(Schemas::subschema_for::<UnlockBody>))
    .refuses(&[409])
    .answers(TAKEN),
    Route::new(Verb::Delete, "entities/{entityName}/{entityKey}", |path| {
        Ours::DeleteEntity {
            name: path.text(0),
            key: path.key(1),
        }
    })
    .told("removeEntity", "Delete an entity that nobody has locked.")
    .scope(Scope::Entity)
    .refuses(&[409])
    .answers(DELETED),
    get("limiters", |_| Ours::Limiters)
        .told("limiters", "The buckets of all limiters.")
        .answers(&[Answer::json(
            200,
            "The buckets.",
            Schemas::subschema_for::<Vec<LimiterWire>>,
        )]),
    Route::new(Verb::Put, "limiters/{limiter}", |path| Ours::SetLimiter {
        name: path.text(0),
    })
    .told("setLimiter", "Change what a limiter allows.")
    .scope(Scope::Admin)
    .body(RequestBody::Is(Schemas::subschema_for::<LimiterBody>))
    .refuses(&[404])
    .answers(TAKEN),
    Route::new(Verb::Patch, "limiters/{limiter}", |path| Ours::ChangeLimiter {
        name: path.text(0),
    })
    .told(
        "changeLimiter",
        "Change some of what a limiter allows; what is not named stays.",
    )
    .scope(Scope::Admin)
    .body(RequestBody::Is(Schemas::subschema_for::<LimiterPatch>))
    .refuses(&[404])
    .answers(TAKEN),
    get("log-level", |_| Ours::LogLevel)
        .told("logLevel", "What the process logs.")
        .reach(Reach::AnyHub)
        .refuses(&[409])
        .answers(&[Answer::json(
            200,
            "The level, or the filter of levels by targets.",
            Schemas::subschema_for::<LogLevelWire>,
        )]),
    Route::new(Verb::Put, "log-level", |_| Ours::SetLogLevel)
        .told("setLogLevel", "Change what the process logs, until it ends.")
        .scope(Scope::Admin)
        .reach(Reach::Host)
        .body(RequestBody::Is(Schemas::subschema_for::<LogLevelWire>))
        .refuses(&[409])
        .answers(TAKEN),
    get("stream", |_| Ours::Changes)
        .told(
            "changes",
            "The rows of all instances as they change; begins with `reset`.",
        )
        .query(&[NAME, TAG, PREFIX, PARENT, CREATED_FROM, CREATED_TO])
        .answers(&[STREAM]),
    get("overview", |_| Ours::Overview)
        .told("overview", "What was started lately, and the oldest that goes on.")
        .query(&[
            Parameter::new("from", Shape::Time, "Started then or later: an hour before `to`."),
            Parameter::new("to", Shape::Time, "Started then or earlier: now."),
            Parameter::new(
                "buckets",
                Shape::Count {
                    default: BUCKETS,
                    most: BUCKETS_MAX,
                },
                "Into how many pieces the time is cut.",
            ),
            NAME,
            TAG,
            PREFIX,
            PARENT,
            WAITING_FOR,
            FAILED_ACTIVITY,
        ])
        .answers(&[Answer::json(
            200,
            "The counts.",
            Schemas::subschema_for::<OverviewWire>,
        )]),
    get("stuck", |_| Ours::Stuck)
        .told("stuck", "Instances that do not move and should.")
        .query(&[Parameter::new(
            "top",
            Shape::Count {
                default: STUCK_ROWS,
                most: STUCK_MAX,
            },
            "Most rows.",
        )])
        .answers(&[Answer::json(
            200,
            "Why each does not move.",
            Schemas::subschema_for::<StuckWire>,
        )]),
    get("schedules", |_| Ours::Schedules)
        .told("schedules", "The timer triggers of the app.")
        .reach(Reach::DefaultHub)
        .answers(&[Answer::json(
            200,
            "The triggers.",
            Schemas::subschema_for::<Vec<ScheduleWire>>,
        )]),
    Route::new(Verb::Post, "schedules/{schedule}/run", |path| Ours::RunSchedule {
        name: path.text(0),
    })
    .told("runSchedule", "Run a timer trigger now.")
    .scope(Scope::Control)
    .reach(Reach::DefaultHub)
    .refuses(&[404, 409])
    .answers(&[Answer::empty(202, "It runs.")]),
    get("operations", |_| Ours::Operations)
        .told("operations", "Commands to many instances that run, and the last that ran.")
        .answers(&[Answer::json(
            200,
            "Newest first.",
            Schemas::subschema_for::<Vec<OperationWire>>,
        )]),
    Route::new(Verb::Post, "operations", |_| Ours::BeginOperation)
        .told(
            "beginOperation",
            "Command all instances that a filter finds. Needs the scope of its verb too, unless it is a dry run.",
        )
        .also(VERB_SCOPES)
        .headers(&[Header::Trace])
        .body(RequestBody::Is(Schemas::subschema_for::<OperationBody>))
        .answers(&[Answer::json(
            202,
            "It has begun.",
            Schemas::subschema_for::<OperationWire>,
        )]),
    get("operations/{operationId}", |path| Ours::Operation { id: path.text(0) })
        .told("operation", "How far a command to many is.")
        .refuses(&[404])
        .answers(&[Answer::json(
            200,
            "The operation.",
            Schemas::subschema_for::<OperationWire>,
        )]),
    Route::new(Verb::Delete, "operations/{operationId}", |path| {
        Ours::CancelOperation { id: path.text(0) }
    })
    .told(
        "cancelOperation",
        "End a command to many; what it has done stays done. Needs the scope of its verb too.",
    )
    .also(VERB_SCOPES)
    .refuses(&[404])
    .answers(&[Answer::json(
        202,
        "It ends after the commands that are under way.",
        Schemas::subschema_for::<OperationWire>,
    )]),
    get("webhooks", |_| Ours::Webhooks)
        .told("webhooks", "Deliveries that wait or were given up.")
        .answers(&[Answer::json(
            200,
            "The deliveries.",
            Schemas::subschema_for::<Vec<DeliveryWire>>,
        )]),
    get("workers", |_| Ours::Workers)
        .told("workers", "Workers that are connected.")
        .answers(&[Answer::json(
            200,
            "The workers.",
            Schemas::subschema_for::<Vec<WorkerWire>>,
        )]),
    Route::new(Verb::Post, "workers/{worker}/drain", |path| Ours::DrainWorker {
        name: path.text(0),
    })
    .told(
        "drainWorker",
        "Give a worker no more work; it finishes what it has, and gets work again when it connects anew.",
    )
    .scope(Scope::Admin)
    .refuses(&[404])
    .answers(&[Answer::empty(202, "It gets none from now on.")]),
    get("audit", |_| Ours::Audit)
        .told("audit", "Who changed what, newest first.")
        .scope(Scope::Admin)
        .query(&[
            Parameter::new("subject", Shape::Text, "Of this instance, entity, limiter or schedule."),
            Parameter::new(
                "top",
                Shape::Count {
                    default: PAGE_ROWS,
                    most: RECORDS_MAX,
                },
                "Most records.",
            ),
        ])
        .answers(&[Answer::json(
            200,
            "The records.",
            Schemas::subschema_for::<Vec<AuditRecord>>,
        )]),
    get("hub", |_| Ours::Hub)
        .told("hub", "What this host is, and what the caller may do.")
        .answers(&[Answer::json(200, "The host.", Schemas::subschema_for::<HubInfo>)]),
    get("hubs", |_| Ours::Hubs)
        .told("hubs", "Names of the task hubs that the key opens, the default hub first.")
        .reach(Reach::AnyHub)
        .answers(&[Answer::json(
            200,
            "The names.",
            Schemas::subschema_for::<Vec<String>>,
        )]),
    Route::new(Verb::Put, "hubs/{hub}", |path| Ours::CreateHub { name: path.text(0) })
        .told("createHub", "Create a task hub, unless it exists.")
        .scope(Scope::Admin)
        .reach(Reach::NewHub)
        .refuses(&[409])
        .answers(&[
            Answer::json(200, "It was there.", Schemas::subschema_for::<HubCreatedWire>),
            Answer::json(201, "It was made.", Schemas::subschema_for::<HubCreatedWire>),
        ]),
    Route::new(Verb::Delete, "hubs/{hub}", |path| Ours::DeleteHub { name: path.text(0) })
        .told(
            "deleteHub",
            "Delete a task hub with all that is in it: its workers and waits end, its files go.",
        )
        .scope(Scope::Admin)
        .reach(Reach::HubInPath)
        .query(&[Parameter::new("confirm", Shape::Text, "The name of the hub, once more.").required()])
        .refuses(&[404, 409])
        .answers(&[Answer::empty(204, "It is gone.")]),
    get("hubs/{hub}/stats", |path| Ours::HubStats { name: path.text(0) })
        .told("hubStats", "What a task hub takes on disk, and how much is in it.")
        .reach(Reach::HubInPath)
        .refuses(&[404])
        .answers(&[Answer::json(
            200,
            "The numbers.",
            Schemas::subschema_for::<HubStatsWire>,
        )]),
    get("hubs/{hub}/backup", |path| Ours::Backup { name: path.text(0) })
        .told(
            "backup",
            "A copy of a task hub as of one position, while it goes on: the file that `dalsegno restore` reads.",
        )
        .scope(Scope::Admin)
        .reach(Reach::HubInPath)
        .refuses(&[404, 409])
        .answers(&[Answer::text(
            200,
            "The file. One that is cut off is refused when it is read.",
            "application/octet-stream",
        )]),
    Route::new(Verb::Post, "hubs/{hub}/repair", |path| Ours::Repair { name: path.text(0) })
        .told(
            "repair",
            "Move instances and entities whose rows cannot be read to the table `quarantine`, with their bytes.",
        )
        .scope(Scope::Admin)
        .reach(Reach::HubInPath)
        .refuses(&[404])
        .answers(&[Answer::json(
            200,
            "What was moved, and what was left.",
            Schemas::subschema_for::<RepairedWire>,
        )]),
];
