//! Right order, right values, one turn per step, and nothing lost over a restart.

use dalsegno::EventKind;
use hello_sequence::{app, chain, hello_sequence};

#[tokio::test]
async fn four_functions_run_in_order_and_hand_their_values_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = app().embedded(&folder).await.expect("a host");
    let instance = host
        .client()
        .start(chain, "  ada ".into())
        .await
        .expect("started");
    assert_eq!(
        instance.wait().await.expect("a result"),
        ("Hello Ada!".to_owned(), 10)
    );

    let (mut steps, mut turns) = (Vec::new(), 0);
    for event in instance.history().await.expect("a history") {
        match event.kind {
            EventKind::OrchestratorStarted => turns += 1,
            EventKind::TaskScheduled { name, .. } => steps.push(format!("{name} asked")),
            EventKind::TaskCompleted { result, .. } => {
                steps.push(format!("answered {}", result.expect("a value").as_str()));
            }
            _ => {}
        }
    }
    let expected = [
        "F1 asked",
        "answered \"ada\"",
        "F2 asked",
        "answered \"Ada\"",
        "F3 asked",
        "answered \"Hello Ada!\"",
        "F4 asked",
        "answered [\"Hello Ada!\",10]",
    ];
    assert_eq!(steps, expected);
    assert_eq!(turns, 5, "four functions take five turns, each written once");
    host.shutdown().await;
}

#[tokio::test]
async fn hello_sequence_greets_three_cities_and_a_restart_forgets_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = app().embedded(&folder).await.expect("a host");
    let greetings = ["Hello Tokyo!", "Hello Seattle!", "Hello London!"];
    let instance = host
        .client()
        .start(hello_sequence, ())
        .id("hello")
        .await
        .expect("started");
    assert_eq!(instance.wait().await.expect("a result"), greetings);
    host.shutdown().await;

    let host = app().embedded(&folder).await.expect("a host again");
    let instance = host.client().instance(hello_sequence, "hello").expect("an id");
    assert_eq!(instance.wait().await.expect("the same result"), greetings);
    host.shutdown().await;
}
