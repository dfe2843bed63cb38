//! `dalsegno history`

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use dalsegno_core::InstanceId;
use dalsegno_core::event::{Event, EventKind};
use dalsegno_core::query::LargeValues;
use dalsegno_engine::hub::WatchEvent;
use dalsegno_engine::request::InstanceStatus;
use dalsegno_host::v1::json;

use crate::complete;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::{Row, cut};
use crate::session::{Session, exit_of};

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno history order-9 --follow")]
pub(crate) struct History {
    /// Id of the instance
    #[arg(add = ArgValueCompleter::new(complete::instances), value_parser = input::id)]
    id: InstanceId,
    /// Go on with what comes until its end; the exit code says how it ended
    #[arg(long, short)]
    follow: bool,
}

const HEAD: [&str; 5] = ["NO", "TIME", "EVENT", "TASK", "WHAT"];

impl History {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        if self.follow {
            return session.follow(Some(&self.id), follow(&self.id, session)).await;
        }
        let events = session.ask(session.hub.history(&self.id)).await?;
        let rows: Vec<Row> = events
            .iter()
            .enumerate()
            .map(|(index, event)| shown(session, index, event))
            .collect();
        session.rows(&HEAD, &rows);
        Ok(Exit::Ok)
    }
}

/// Events on stdout, each in a line of its own as it comes; all else is talk.
async fn follow(id: &InstanceId, session: &Session) -> Result<Exit, Failure> {
    let mut watch = session
        .ask(session.hub.watch(id, None, LargeValues::Read))
        .await?;
    let mut executions = 0;
    let mut is_told = false;
    loop {
        let next = watch.next();
        let change = match is_told {
            true => next.await?,
            false => session.told_why(id, &mut is_told, next).await?,
        };
        let Some(change) = change else {
            return Ok(Exit::Ok);
        };
        match change.event {
            WatchEvent::History(number, event) => {
                session.line(
                    &HEAD,
                    &shown(session, usize::try_from(number).unwrap_or(usize::MAX), &event),
                );
            }
            WatchEvent::Execution(status) => {
                executions += 1;
                if executions > 1 {
                    session.say(&format!("the next execution begins: {}", status.row.execution_id));
                }
            }
            WatchEvent::Status(status) => session.say(&state(&status)),
            WatchEvent::End(status) => return Ok(exit_of(status.row.status)),
        }
    }
}

fn state(status: &InstanceStatus) -> String {
    let row = &status.row;
    let mut text = format!("{} {}", row.id, row.status.as_str());
    if let Some(custom) = &row.custom_status {
        text += &format!(": {}", cut(custom.as_str()));
    }
    if let Some(fault) = &row.parked {
        text += &format!(", parked by {fault}");
    }
    text
}

fn shown(session: &Session, index: usize, event: &Event) -> Row {
    let (task, what) = told(&event.kind);
    let task = task.map(|task| task.to_string()).unwrap_or_default();
    Row {
        id: index.to_string(),
        cells: vec![
            index.to_string(),
            session.time(event.at),
            event.kind.name().to_owned(),
            task,
            what,
        ],
        json: json::event(event),
    }
}

/// The task an event is of, and what there is to know in a few words.
#[expect(clippy::too_many_lines, reason = "one match over all events")]
fn told(kind: &EventKind) -> (Option<dalsegno_core::TaskId>, String) {
    use EventKind as Kind;
    let payload = |payload: &Option<dalsegno_core::Payload>| {
        payload
            .as_ref()
            .map(|payload| cut(payload.as_str()))
            .unwrap_or_default()
    };
    match kind {
        Kind::OrchestratorStarted | Kind::OrchestratorCompleted => (None, String::new()),
        Kind::ExecutionStarted(started) => (None, format!("{}({})", started.name, payload(&started.input))),
        Kind::TaskScheduled {
            task, name, input, ..
        } => (Some(*task), format!("{name}({})", payload(input))),
        Kind::TaskCompleted { task, result, .. }
        | Kind::SubOrchestrationInstanceCompleted { task, result }
        | Kind::EntityOperationCompleted { task, result } => (Some(*task), payload(result)),
        Kind::TaskFailed { task, failure, .. }
        | Kind::SubOrchestrationInstanceFailed { task, failure }
        | Kind::EntityOperationFailed { task, failure } => (Some(*task), cut(&failure.to_string())),
        Kind::TimerCreated { task, fire_at } | Kind::TimerFired { task, fire_at } => {
            (Some(*task), json::time(*fire_at))
        }
        Kind::SubOrchestrationInstanceCreated {
            task,
            name,
            instance,
            input,
            ..
        } => (Some(*task), format!("{instance} {name}({})", payload(input))),
        Kind::EventSent {
            task,
            instance,
            name,
            input,
        } => (Some(*task), format!("{instance} {name} {}", payload(input))),
        Kind::EventRaised { name, input, .. } => (None, format!("{name} {}", payload(input))),
        Kind::EntityOperationCalled {
            task,
            entity,
            operation,
            input,
            ..
        }
        | Kind::EntityOperationSignaled {
            task,
            entity,
            operation,
            input,
            ..
        } => (Some(*task), format!("{entity} {operation}({})", payload(input))),
        Kind::EntityLockRequested { task, entities, .. } => (
            Some(*task),
            entities
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        ),
        Kind::EntityLockGranted { task } | Kind::EntityUnlockSent { lock: task, .. } => {
            (Some(*task), String::new())
        }
        Kind::ExecutionSuspended { reason }
        | Kind::ExecutionResumed { reason }
        | Kind::ExecutionRewound { reason }
        | Kind::CancelRequested { reason }
        | Kind::ExecutionTerminated { reason } => (None, reason.clone().unwrap_or_default()),
        Kind::ExecutionCompleted { result } => (None, payload(result)),
        Kind::ExecutionFailed { failure } | Kind::ExecutionCanceled { failure } => {
            (None, cut(&failure.to_string()))
        }
    }
}
