//! Recorded histories against today's code.

use std::path::{Path, PathBuf};

use dalsegno_core::limits::Limits;
use dalsegno_core::{Event, EventKind, InstanceId};
use dalsegno_engine::executor::{ExecutionInfo, Executor};
use dalsegno_host::v1::{history_from_json, history_json};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::app::App;
use crate::error::{Error, Result};
use crate::registry::Registry;

/// A history in a file. The events are those of the HTTP API.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded<'a> {
    instance_id: String,
    #[serde(borrow)]
    events: &'a RawValue,
}

pub(super) fn to_json(id: &InstanceId, history: &[Event]) -> String {
    let id = serde_json::to_string(id.as_str()).expect("a text is JSON");
    format!(
        "{{\n\"instanceId\": {id},\n\"events\": {}\n}}\n",
        history_json(history)
    )
}

/// Replays every history (`*.json`) in a folder with the code of an app, once for each turn, as if
/// the instance had been evicted after it. Says how many files there were.
///
/// The files are written by [`TestInstance::export_history`](super::TestInstance::export_history).
/// The plain array that the HTTP API answers with is read too; the file's name is then the instance's id.
///
/// # Errors
/// When the folder holds no history, a file cannot be read, no orchestrator of that name and
/// version is registered, or the code no longer does what was recorded. All of them are told.
///
/// # Example
/// ```
/// use dalsegno::testing::{TestHub, replay_all};
/// use dalsegno::{App, OrchestrationContext, Result, SECOND, orchestrator};
///
/// #[orchestrator]
/// async fn nap(ctx: &OrchestrationContext) -> Result<()> {
///     ctx.timer(SECOND).await;
///     Ok(())
/// }
/// fn app() -> App {
///     App::new().register(nap)
/// }
///
/// let folder = std::env::temp_dir().join(format!("histories-{}", std::process::id()));
/// std::fs::create_dir_all(&folder)?;
/// let hub = TestHub::new(app());
/// let instance = hub.start(nap, ());
/// hub.run();
/// instance.export_history(folder.join("nap.json"))?;
///
/// assert_eq!(replay_all(app(), &folder)?, 1);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), dalsegno::Error>(())
/// ```
pub fn replay_all(app: App, folder: impl AsRef<Path>) -> Result<usize> {
    let registry = app.into_registry()?;
    let files = files_in(folder.as_ref())?;
    if files.is_empty() {
        let folder = folder.as_ref().display();
        return Err(Error::msg(format!("{folder} holds no history: no *.json")));
    }
    let mistakes: Vec<String> = files
        .iter()
        .filter_map(|file| {
            let replayed = replay_file(&registry, file);
            let mistake = replayed.err()?;
            Some(format!("{}: {mistake}", file.display()))
        })
        .collect();
    match mistakes.is_empty() {
        true => Ok(files.len()),
        false => Err(Error::msg(mistakes.join("\n"))),
    }
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn replay_file(registry: &Registry, file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let (id, events) = match text.trim_start().starts_with('[') {
        true => (stem.into_owned(), text.as_str()),
        false => {
            let recorded: Recorded<'_> = serde_json::from_str(&text)?;
            (recorded.instance_id, recorded.events.get())
        }
    };
    let history = history_from_json(events).map_err(Error::msg)?;
    replay(registry, InstanceId::parse(&id)?, &history)
}

/// Replays every prefix that ends a turn.
fn replay(registry: &Registry, instance: InstanceId, history: &[Event]) -> Result<()> {
    let info = info_of(instance, history)?;
    let ends = history
        .iter()
        .enumerate()
        .filter(|(_, event)| event.kind == EventKind::OrchestratorCompleted);
    for (end, _) in ends {
        let mut execution = registry
            .execution(&info)
            .ok_or_else(|| Error::msg(format!("orchestrator {}", missing(&info))))?;
        execution
            .replay(&history[..=end])
            .map_err(|fault| Error::msg(format!("up to event {end}: {}", fault.message)))?;
    }
    Ok(())
}

fn info_of(instance: InstanceId, history: &[Event]) -> Result<ExecutionInfo> {
    let started = history.iter().find_map(|event| match &event.kind {
        EventKind::ExecutionStarted(started) => Some(started),
        _ => None,
    });
    let started = started.ok_or_else(|| Error::msg("the history has no ExecutionStarted"))?;
    Ok(ExecutionInfo {
        span: None,
        instance,
        execution_id: started.execution_id,
        name: started.name.clone(),
        version: started.version.clone(),
        trace: started.trace.clone(),
        tags: Vec::new(),
        locked_entities_max: Limits::default().locked_entities_max,
    })
}

fn missing(info: &ExecutionInfo) -> String {
    match &info.version {
        Some(version) => format!("{:?}, version {version:?}, is not registered", &*info.name),
        None => format!("{:?} without a version is not registered", &*info.name),
    }
}
