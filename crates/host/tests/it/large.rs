//! Large values over HTTP: everywhere whole, and nowhere where they are not asked for.

use dalsegno_core::limits::Limits;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::world::{P, Reply, World, world_with};

const V1: &str = "/runtime/dalsegno/v1";
/// More than `payload_inline_bytes` of [`limits`].
const LARGE: usize = 40;

fn limits() -> Limits {
    Limits {
        payload_inline_bytes: 32,
        ..Limits::default()
    }
}

async fn small_world() -> World {
    world_with(limits(), |server| server).await
}

fn large() -> String {
    format!("\"{}\"", "x".repeat(LARGE))
}

fn value(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    serde_json::from_str(&reply.body).unwrap()
}

#[tokio::test]
async fn a_list_shows_inputs_unless_told_otherwise() {
    let world = small_world().await;
    world.finished("Echo", "small", "1").await;
    world.finished("Echo", "large", &large()).await;
    let text = Value::from("x".repeat(LARGE));
    for (query, input_shown) in [("", true), ("?showInput=True", true), ("?showInput=false", false)] {
        let rows = value(&world.get(&format!("{P}/instances{query}")).await);
        for (row, wanted) in rows.as_array().unwrap().iter().zip([&text, &Value::from(1)]) {
            let input = if input_shown { wanted } else { &Value::Null };
            assert_eq!((&row["input"], &row["output"]), (input, wanted), "{query}");
        }
        assert_eq!(rows.as_array().unwrap().len(), 2, "{query}");
    }
    for query in [
        "showInput=",
        "showInput=no",
        "showInput=true&showInput=true",
        "showinputs=true",
    ] {
        let refused = world.get(&format!("{P}/instances?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
    }
}

#[tokio::test]
async fn without_large_values_a_list_and_a_history_hold_the_others() {
    let world = small_world().await;
    world.finished("Hello", "small", "\"Ada\"").await;
    world.finished("Hello", "large", &large()).await;
    let list = |query: &str| format!("{V1}/instances{query}");
    let history = |id: &str, query: &str| format!("{V1}/instances/{id}/history{query}");

    for query in ["", "?largeValues=true"] {
        let rows = value(&world.get(&list(query)).await)["rows"].clone();
        assert_eq!(rows[0]["input"], "x".repeat(LARGE), "{query}");
        assert_eq!(
            rows[0]["output"],
            format!("Hello {}!", "x".repeat(LARGE)),
            "{query}"
        );
        let events = value(&world.get(&history("large", query)).await);
        assert_eq!(events[1]["input"], "x".repeat(LARGE), "{query}");
    }
    let rows = value(&world.get(&list("?largeValues=false")).await)["rows"].clone();
    assert_eq!((rows[0].get("input"), rows[0].get("output")), (None, None));
    assert_eq!(
        (&rows[1]["input"], &rows[1]["output"]),
        (&"Ada".into(), &"Hello Ada!".into())
    );

    let kinds = |events: &Value| -> Vec<Value> {
        let events = events.as_array().unwrap();
        events.iter().map(|event| event["kind"].clone()).collect()
    };
    let whole = value(&world.get(&history("large", "")).await);
    let bare = value(&world.get(&history("large", "?largeValues=False")).await);
    assert_eq!(kinds(&bare), kinds(&whole));
    for (event, whole) in bare.as_array().unwrap().iter().zip(whole.as_array().unwrap()) {
        assert_eq!((event.get("input"), event.get("result")), (None, None), "{event}");
        assert_eq!(event["at"], whole["at"]);
        let left_out = [&whole["input"], &whole["result"]]
            .into_iter()
            .find(|value| !value.is_null());
        let told = left_out.map(|value| {
            let text = value.to_string();
            let hash = Sha256::digest(text.as_bytes());
            let sha256: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            serde_json::json!({ "bytes": text.len(), "sha256": sha256 })
        });
        assert_eq!(event.get("leftOut"), told.as_ref(), "{event}");
    }
    let small = world.get(&history("small", "?largeValues=false")).await;
    assert_eq!(small.body, world.get(&history("small", "")).await.body);

    for path in [list("?largeValues=0"), history("large", "?largeValues=")] {
        let refused = world.get(&path).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, "invalid_parameter"),
            "{path}"
        );
    }
    let one = world
        .get(&format!("{V1}/instances/large?largeValues=false"))
        .await;
    assert_eq!((one.status, one.code().as_str()), (400, "unknown_parameter"));
}

#[tokio::test]
async fn a_large_state_is_shown_when_it_is_fetched() {
    let world = small_world().await;
    let said = world
        .post(&format!("{P}/entities/counter/a?op=say"), &large())
        .await;
    assert_eq!(said.status, 202);
    let state = format!("{P}/entities/counter/a");
    while world.get(&state).await.status != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.get(&state).await.body, large());
    let text = Value::from("x".repeat(LARGE));
    for (path, wanted) in [
        (format!("{P}/entities?fetchState=true"), Some(&text)),
        (format!("{P}/entities"), Some(&Value::Null)),
    ] {
        assert_eq!(value(&world.get(&path).await)[0].get("state"), wanted, "{path}");
    }
    for (query, wanted) in [("", Some(&text)), ("?largeValues=false", None)] {
        let rows = value(&world.get(&format!("{V1}/entities{query}")).await);
        assert_eq!(rows["rows"][0].get("state"), wanted, "{query}");
        assert_eq!(rows["rows"].as_array().unwrap().len(), 1, "{query}");
    }
}
