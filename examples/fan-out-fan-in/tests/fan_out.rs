//! Order of results, whatever the order of completion; and one failure among many.

use std::sync::Arc;

use dalsegno::{Activity, App, Error, EventKind, Host, Result};
use fan_out_fan_in::{app, best_effort, fan_out_fan_in};
use tokio::sync::watch;

async fn host(app: App) -> (Host, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (app.embedded(&folder).await.expect("a host"), folder)
}

#[tokio::test]
async fn three_tasks_as_in_the_article() {
    let (host, _folder) = host(app()).await;
    let tasks = ["Task1", "Task2", "Task3"].map(String::from).to_vec();
    let instance = host.client().start(fan_out_fan_in, tasks).await.expect("started");
    let results = instance.wait().await.expect("results");
    assert_eq!(results, ["Task1 completed", "Task2 completed", "Task3 completed"]);

    let history = instance.history().await.expect("a history");
    let asked = history
        .iter()
        .take_while(|event| !matches!(event.kind, EventKind::TaskCompleted { .. }));
    let asked = asked
        .filter(|event| matches!(event.kind, EventKind::TaskScheduled { .. }))
        .count();
    assert_eq!(asked, 3, "all are on their way before the first answer");
    host.shutdown().await;
}

/// Lets the last task end first: the one with number N ends when N + 1 have not to.
#[derive(Clone)]
struct Turnstile(Arc<watch::Sender<usize>>);

impl Turnstile {
    fn new(tasks: usize) -> Self {
        Self(Arc::new(watch::Sender::new(tasks)))
    }

    /// Waits for its turn; leaves the next turn to the one before.
    async fn pass(&self, number: usize) {
        let mut turns = self.0.subscribe();
        let _ = turns.wait_for(|turn| *turn == number).await;
        self.0.send_replace(number - 1);
    }
}

/// Stands in for the example's own activity. Number 3 and number 7 fail, 7 of them first.
fn backwards() -> Activity<String, String> {
    Activity::new("ProcessTask", |ctx, task: String| {
        Box::pin(async move {
            let number: usize = task.trim_start_matches("Task").parse()?;
            ctx.data::<Turnstile>().pass(number).await;
            fail(number)?;
            Ok(format!("{task} completed"))
        })
    })
}

fn fail(number: usize) -> Result<()> {
    match number {
        3 | 7 => Err(Error::msg(format!("number {number} fails")).permanent()),
        _ => Ok(()),
    }
}

fn backwards_app(tasks: usize) -> App {
    App::new()
        .register(fan_out_fan_in)
        .register(best_effort)
        .register(backwards)
        .data(Turnstile::new(tasks))
}

#[tokio::test]
async fn results_come_in_the_order_of_the_tasks_though_the_last_ended_first() {
    let (host, _folder) = host(backwards_app(2)).await;
    let tasks = ["Task1", "Task2"].map(String::from).to_vec();
    let instance = host.client().start(fan_out_fan_in, tasks).await.expect("started");
    assert_eq!(
        instance.wait().await.expect("results"),
        ["Task1 completed", "Task2 completed"]
    );
    host.shutdown().await;
}

#[tokio::test]
async fn all_or_nothing_tells_the_first_failure_in_the_order_of_the_tasks() {
    let (host, _folder) = host(backwards_app(10)).await;
    let tasks = (1..=10).map(|number| format!("Task{number}")).collect();
    let instance = host.client().start(fan_out_fan_in, tasks).await.expect("started");
    let error = instance.wait().await.expect_err("two failed");
    assert!(error.to_string().contains("number 3 fails"), "{error}");

    let history = instance.history().await.expect("a history");
    let answers = history.iter().filter(|event| {
        matches!(
            event.kind,
            EventKind::TaskCompleted { .. } | EventKind::TaskFailed { .. }
        )
    });
    assert_eq!(answers.count(), 10, "it waited for all of them");
    host.shutdown().await;
}

#[tokio::test]
async fn one_of_a_thousand_fails_and_999_results_are_there() {
    let (host, _folder) = host(app()).await;
    let mut tasks: Vec<String> = (1..=1_000).map(|number| format!("Task{number}")).collect();
    tasks[499] = "bad apple".into();
    let summary = host
        .client()
        .start(best_effort, tasks.clone())
        .await
        .expect("started")
        .wait()
        .await;
    let summary = summary.expect("it does not fail");
    tasks.remove(499);
    let expected: Vec<String> = tasks.iter().map(|task| format!("{task} completed")).collect();
    assert_eq!(summary.completed, expected);
    assert_eq!(summary.failed, ["bad apple cannot be processed"]);
    host.shutdown().await;
}
