//! The routes of the management API.

use schemars::SchemaGenerator as Schemas;

use super::links::CheckStatus;
use super::path::{Command, Management};
use super::route::{Also, Answer, Captured, Header, Parameter, RequestBody, Route, Shape, Verb};
use super::start::WAIT_SECONDS_MAX;
use super::wire::{EntityWire, PurgedWire, StatusWire};
use crate::keys::{LinkOperation, Scope};

const TIMEOUT: Parameter = Parameter::new(
    "timeout",
    Shape::Seconds {
        most: WAIT_SECONDS_MAX,
    },
    "Seconds to wait for the end; without it nothing waits.",
);
const POLLING_INTERVAL: Parameter = Parameter::new(
    "pollingInterval",
    Shape::Seconds {
        most: WAIT_SECONDS_MAX,
    },
    "At most `timeout`; checked and otherwise unused.",
);
const LOUD: Parameter = Parameter::new(
    "returnInternalServerErrorOnFailure",
    Shape::Flag(false),
    "Answer 500 for an instance that failed.",
);
const SHOW_INPUT: Parameter = Parameter::new("showInput", Shape::Flag(true), "Tell inputs.");
const TOP: Parameter = Parameter::new("top", Shape::PageRows, "Most rows of a page.");
const REASON: &[Parameter] = &[Parameter::new(
    "reason",
    Shape::Text,
    "Why; may be empty. Exactly `{text}`, as links have it, counts as none.",
)];
const CREATED_FROM: Parameter = Parameter::new("createdTimeFrom", Shape::Time, "Created then or later.");
const CREATED_TO: Parameter = Parameter::new("createdTimeTo", Shape::Time, "Created then or earlier.");

const STARTS: &[Parameter] = &[
    TIMEOUT,
    POLLING_INTERVAL,
    Parameter::new("version", Shape::Text, "The version of the instance."),
    LOUD,
];

/// What starts answer with.
const STARTED: &[Answer] = &[
    Answer::json(
        200,
        "It ended within `timeout`: the output itself, or the status of one that did not complete.",
        Schemas::subschema_for::<serde_json::Value>,
    ),
    Answer::json(
        202,
        "It goes on: where to look and what to do.",
        Schemas::subschema_for::<CheckStatus>,
    )
    .with(&["Location", "Retry-After"]),
    FAILED,
];
const FAILED: Answer = Answer::json(
    500,
    "It failed, and `returnInternalServerErrorOnFailure` is true.",
    Schemas::subschema_for::<StatusWire<'static>>,
);
const TAKEN: &[Answer] = &[Answer::empty(202, "Taken, and durable.")];
const PURGED: &[Answer] = &[Answer::json(
    200,
    "How many were deleted: at least one.",
    Schemas::subschema_for::<PurgedWire>,
)];
const OF_ENTITIES: &[Parameter] = &[
    Parameter::new("lastOperationTimeFrom", Shape::Time, "Used then or later."),
    Parameter::new("lastOperationTimeTo", Shape::Time, "Used then or earlier."),
    Parameter::new("fetchState", Shape::Flag(false), "Tell states."),
    TOP,
];
const ENTITIES: &[Answer] =
    &[
        Answer::json(200, "A page.", Schemas::subschema_for::<Vec<EntityWire<'static>>>)
            .with(&["x-ms-continuation-token"]),
    ];
const OPERATION: &[Parameter] = &[Parameter::new("op", Shape::Text, "The operation; may be empty.")];
const COMMAND_REFUSALS: &[u16] = &[404, 409, 410];

const fn start(path: &'static str, to: fn(&Captured<'_>) -> Management) -> Route<Management> {
    Route::new(Verb::Post, path, to)
        .scope(Scope::Start)
        .query(STARTS)
        .headers(&[Header::IdempotencyKey, Header::Trace])
        .body(RequestBody::Value)
        .refuses(&[404, 409, 507])
        .answers(STARTED)
}

const fn command(
    path: &'static str,
    link: LinkOperation,
    to: fn(&Captured<'_>) -> Management,
) -> Route<Management> {
    Route::new(Verb::Post, path, to)
        .scope(Scope::Control)
        .link(link)
        .query(REASON)
        .refuses(COMMAND_REFUSALS)
        .answers(TAKEN)
}

const fn entities(path: &'static str, to: fn(&Captured<'_>) -> Management) -> Route<Management> {
    Route::new(Verb::Get, path, to)
        .query(OF_ENTITIES)
        .headers(&[Header::ContinuationToken])
        .answers(ENTITIES)
}

const fn signal(path: &'static str, to: fn(&Captured<'_>) -> Management) -> Route<Management> {
    Route::new(Verb::Post, path, to)
        .scope(Scope::Entity)
        .query(OPERATION)
        .headers(&[Header::Trace])
        .body(RequestBody::ValueOrText)
        .refuses(&[507])
        .answers(TAKEN)
}

const fn delete_entity(path: &'static str, to: fn(&Captured<'_>) -> Management) -> Route<Management> {
    Route::new(Verb::Delete, path, to)
        .scope(Scope::Entity)
        .headers(&[Header::Trace])
        .refuses(&[507])
        .answers(TAKEN)
}

fn commanded(captured: &Captured<'_>, command: Command) -> Management {
    Management::Command {
        id: captured.text(0),
        command,
    }
}

/// All of them.
pub(crate) static ROUTES: &[Route<Management>] = &[
    start("orchestrators/{orchestrator}", |path| Management::Start {
        name: path.text(0),
        id: None,
    })
    .told("startOrchestration", "Start an orchestration under a new id."),
    start("orchestrators/{orchestrator}/{instanceId}", |path| {
        Management::Start {
            name: path.text(0),
            id: Some(path.text(1)),
        }
    })
    .told("startOrchestrationById", "Start an orchestration."),
    Route::new(Verb::Get, "instances", |_| Management::List)
        .told("listInstances", "List orchestrations, newest first.")
        .query(&[
            Parameter::new(
                "instanceIdPrefix",
                Shape::Text,
                "How the id begins; may be empty, not begin with `@`.",
            ),
            CREATED_FROM,
            CREATED_TO,
            Parameter::new("runtimeStatus", Shape::Statuses, "Any of these."),
            SHOW_INPUT,
            TOP,
        ])
        .headers(&[Header::ContinuationToken])
        .answers(&[
            Answer::json(200, "A page.", Schemas::subschema_for::<Vec<StatusWire<'static>>>)
                .with(&["x-ms-continuation-token"]),
        ]),
    Route::new(Verb::Delete, "instances", |_| Management::PurgeMany)
        .told("purgeInstances", "Delete finished instances by filter.")
        .scope(Scope::Purge)
        .query(&[
            CREATED_FROM.required(),
            CREATED_TO,
            Parameter::new("runtimeStatus", Shape::FinishedStatuses, "Any of these."),
        ])
        .refuses(&[404])
        .answers(PURGED),
    Route::new(Verb::Get, "instances/{instanceId}", |path| Management::Status {
        id: path.text(0),
    })
    .told("getInstance", "The status of an instance.")
    .link(LinkOperation::Status)
    .query(&[
        SHOW_INPUT,
        Parameter::new("showHistory", Shape::Flag(false), "Tell the history."),
        Parameter::new(
            "showHistoryOutput",
            Shape::Flag(false),
            "Tell results in the history.",
        ),
        LOUD,
    ])
    .refuses(&[404])
    .answers(&[
        Answer::json(
            200,
            "It has ended.",
            Schemas::subschema_for::<StatusWire<'static>>,
        ),
        Answer::json(202, "It goes on.", Schemas::subschema_for::<StatusWire<'static>>)
            .with(&["Location", "Retry-After"]),
        FAILED,
    ]),
    Route::new(Verb::Delete, "instances/{instanceId}", |path| Management::Purge {
        id: path.text(0),
    })
    .told(
        "purgeInstance",
        "Delete a finished instance, or an entity by an id such as `@counter@a`: needs the scope `entity` too.",
    )
    .scope(Scope::Purge)
    .also(&[
        Also::flag("force", Scope::Control),
        Also::entity(Scope::Entity),
    ])
    .link(LinkOperation::Purge)
    .query(&[Parameter::new(
        "force",
        Shape::Flag(false),
        "Terminate one that is not finished first: needs the scope `control` too.",
    )])
    .refuses(&[404, 408, 409, 410])
    .answers(PURGED),
    Route::new(
        Verb::Post,
        "instances/{instanceId}/raiseEvent/{eventName}",
        |path| Management::RaiseEvent {
            id: path.text(0),
            event: path.text(1),
        },
    )
    .told("raiseEvent", "Raise an event for an instance.")
    .scope(Scope::Signal)
    .link(LinkOperation::RaiseEvent)
    .headers(&[Header::IdempotencyKey, Header::Trace])
    .body(RequestBody::Value)
    .refuses(&[404, 409, 410, 507])
    .answers(TAKEN),
    command(
        "instances/{instanceId}/terminate",
        LinkOperation::Terminate,
        |path| commanded(path, Command::Terminate),
    )
    .told("terminateInstance", "End an instance."),
    command("instances/{instanceId}/suspend", LinkOperation::Suspend, |path| {
        commanded(path, Command::Suspend)
    })
    .told("suspendInstance", "Make an instance pause."),
    command("instances/{instanceId}/resume", LinkOperation::Resume, |path| {
        commanded(path, Command::Resume)
    })
    .told("resumeInstance", "Let a suspended instance go on."),
    command("instances/{instanceId}/rewind", LinkOperation::Rewind, |path| {
        commanded(path, Command::Rewind)
    })
    .told("rewindInstance", "Set a failed or parked instance going again."),
    Route::new(Verb::Post, "instances/{instanceId}/restart", |path| {
        Management::Restart { id: path.text(0) }
    })
    .told("restartInstance", "Start a finished instance again.")
    .scope(Scope::Control)
    .link(LinkOperation::Restart)
    .query(&[
        Parameter::new(
            "restartWithNewInstanceId",
            Shape::Flag(true),
            "Under a new id, or under its own.",
        ),
        TIMEOUT,
        POLLING_INTERVAL,
        LOUD,
    ])
    .refuses(&[404, 409, 507])
    .answers(STARTED),
    entities("entities", |_| Management::Entities { name: None }).told("listEntities", "List entities."),
    entities("entities/{entityName}", |path| Management::Entities {
        name: Some(path.text(0)),
    })
    .told("listEntitiesOfName", "List the entities of a name."),
    Route::new(Verb::Get, "entities/{entityName}/{entityKey}", |path| {
        Management::Entity {
            name: path.text(0),
            key: path.key(1),
        }
    })
    .told("getEntity", "The state of an entity.")
    .refuses(&[404])
    .answers(&[Answer::json(
        200,
        "The state itself.",
        Schemas::subschema_for::<serde_json::Value>,
    )]),
    signal("entities/{entityName}", |path| Management::Signal {
        name: path.text(0),
        key: String::new(),
    })
    .told("signalEntity", "Signal the entity whose key is empty."),
    signal("entities/{entityName}/{entityKey}", |path| Management::Signal {
        name: path.text(0),
        key: path.key(1),
    })
    .told("signalEntityByKey", "Signal an entity."),
    delete_entity("entities/{entityName}", |path| Management::DeleteEntity {
        name: path.text(0),
        key: String::new(),
    })
    .told(
        "deleteEntity",
        "Delete the entity whose key is empty, by the signal `delete`.",
    ),
    delete_entity("entities/{entityName}/{entityKey}", |path| {
        Management::DeleteEntity {
            name: path.text(0),
            key: path.key(1),
        }
    })
    .told("deleteEntityByKey", "Delete an entity, by the signal `delete`."),
    Route::new(Verb::Any, "makePrimary", |_| Management::MakePrimary)
        .told("makePrimary", "Has no effect; there for clients that ask for it.")
        .scope(Scope::Control)
        .answers(&[Answer::empty(200, "As asked.")]),
];
