//! Values beyond `payload_bytes_max` fail the step that made them.

use std::sync::Arc;

use dalsegno_core::query::Status;
use dalsegno_core::{Action, EntityId, TaskId};

use crate::app::{self, SOON, id, start};

#[tokio::test(flavor = "multi_thread")]
async fn what_code_makes_is_bounded_as_what_clients_send_is() {
    let hub = app::hub(&Arc::default());
    for (name, says) in [
        ("large-output", "ends with, a value of"),
        ("large-result", "the activity returned a value of"),
        ("@large", "the operation returned, sent or became a value of"),
    ] {
        hub.start(start(name)).await.expect("it starts");
        let ended = hub.wait_for_completion(&id(name), Some(SOON)).await;
        let row = ended.expect("it ends").row;
        assert_eq!(row.status, Status::Failed, "{name}");
        let failure = row.failure.expect("it failed");
        assert_eq!(&*failure.kind, "PayloadTooLarge");
        assert!(failure.message.contains(says), "{name}: {failure}");
        assert!(
            failure.message.contains("payload_bytes_max is 2097152"),
            "{failure}"
        );
    }
    let entity = EntityId::new("thing", "a").expect("a good name");
    assert_eq!(
        hub.entity(&entity)
            .await
            .expect("it reads")
            .and_then(|row| row.state),
        None
    );
    hub.shutdown(SOON).await;
}

#[test]
fn every_value_of_an_action_is_seen() {
    let action = Action::ScheduleTask {
        task: TaskId(0),
        name: "a".into(),
        input: Some("1".into()),
        options: Default::default(),
    };
    assert_eq!(action.value(), Some(&"1".into()));
}
