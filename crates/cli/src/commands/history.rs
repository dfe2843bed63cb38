//! `dalsegno history`

use clap::Args;
use dalsegno_core::InstanceId;
use dalsegno_core::event::{Event, EventKind};
use dalsegno_host::v1::json;

use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::{Row, cut};
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Id of the instance
    #[arg(value_parser = input::id)]
    id: InstanceId,
}

impl History {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let events = session.ask(session.hub.history(&self.id)).await?;
        let rows: Vec<Row> = events
            .iter()
            .enumerate()
            .map(|(index, event)| shown(index, event))
            .collect();
        session.rows(&["NO", "TIME", "EVENT", "TASK", "WHAT"], &rows);
        Ok(Exit::Ok)
    }
}

fn shown(index: usize, event: &Event) -> Row {
    let (task, what) = told(&event.kind);
    let task = task.map(|task| task.to_string()).unwrap_or_default();
    Row {
        id: index.to_string(),
        cells: vec![
            index.to_string(),
            json::time(event.at),
            event.kind.name().to_owned(),
            task,
            what,
        ],
        json: json::event(event),
    }
}

/// The task an event is of, and what there is to know in a few words.
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
        }
        | Kind::EntityOperationSignaled {
            task,
            entity,
            operation,
            input,
            ..
        } => (Some(*task), format!("{entity} {operation}({})", payload(input))),
        Kind::EntityLockRequested { task, entities } => (
            Some(*task),
            entities
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        ),
        Kind::EntityLockGranted { task } | Kind::EntityUnlockSent { lock: task } => {
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
