//! Every branch, with the texts of the article, over real HTTP.

use dalsegno::{CheckStatus, EventKind, Host, HostSettings};
use order_processing::{Business, FAILED, Order, PROCESSED, app, order_workflow, process_order};
use serde_json::Value;

struct Shop {
    host: Host,
    business: Business,
    _folder: tempfile::TempDir,
}

async fn shop() -> Shop {
    let folder = tempfile::tempdir().expect("a folder");
    let business = Business::with_stock([("lamp", 10)]);
    let host = app(business.clone())
        .start(HostSettings::in_folder(&folder))
        .await
        .expect("a host");
    Shop {
        host,
        business,
        _folder: folder,
    }
}

fn order(quantity: u32, cents: u64) -> Order {
    Order {
        article: "lamp".into(),
        quantity,
        cents,
        email: "ada@example.com".into(),
    }
}

impl Shop {
    /// Posts an order; gives what it came to and the activities that ran.
    async fn post(&self, order: &Order) -> (String, Vec<String>) {
        let url = format!("http://{}/api/orders", self.host.address().expect("it listens"));
        let http = reqwest::Client::new();
        let answer = http.post(url).json(order).send().await.expect("an answer");
        assert_eq!(answer.status(), 202);
        assert_eq!(answer.headers()["retry-after"], "10");
        let location = answer.headers()["location"].to_str().expect("a URL").to_owned();
        let links: CheckStatus = answer.json().await.expect("links");
        assert_eq!(links.status_query_get_uri, location);

        let instance = self
            .host
            .client()
            .instance(process_order, &links.id)
            .expect("an id");
        let outcome = instance.wait().await.expect("a result");
        let status: Value = http
            .get(location)
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        assert_eq!(status["runtimeStatus"], "Completed");
        assert_eq!(status["name"], "ProcessOrderOrchestrator");
        assert_eq!(status["output"], outcome.as_str());
        let history = instance.history().await.expect("a history");
        let ran = history.into_iter().filter_map(|event| match event.kind {
            EventKind::TaskScheduled { name, .. } => Some(name.to_string()),
            _ => None,
        });
        (outcome, ran.collect())
    }
}

#[tokio::test]
async fn an_order_takes_all_four_steps() {
    let shop = shop().await;
    let (outcome, ran) = shop.post(&order(2, 4_500)).await;
    assert_eq!(outcome, "Order processed successfully!");
    assert_eq!(outcome, PROCESSED);
    assert_eq!(
        ran,
        [
            "ValidateOrder",
            "CheckInventory",
            "ProcessPayment",
            "SendConfirmationEmail"
        ]
    );
    assert_eq!(shop.business.paid_cents(), 9_000);
    assert_eq!(
        shop.business.outbox(),
        ["ada@example.com: 2 x lamp is on its way"]
    );
    shop.host.shutdown().await;
}

#[tokio::test]
async fn the_first_no_ends_an_order() {
    let shop = shop().await;
    let invalid = Order {
        email: String::new(),
        ..order(2, 4_500)
    };
    let cases = [
        (invalid, vec!["ValidateOrder"]),
        (order(0, 4_500), vec!["ValidateOrder"]),
        (order(11, 4_500), vec!["ValidateOrder", "CheckInventory"]),
        (
            order(10, 4_500_000),
            vec!["ValidateOrder", "CheckInventory", "ProcessPayment"],
        ),
    ];
    for (order, expected) in cases {
        let (outcome, ran) = shop.post(&order).await;
        assert_eq!(outcome, "Order processing failed.");
        assert_eq!(outcome, FAILED);
        assert_eq!(ran, expected);
    }
    assert_eq!((shop.business.paid_cents(), shop.business.outbox().len()), (0, 0));
    shop.host.shutdown().await;
}

#[tokio::test]
async fn an_order_that_is_none_is_refused_before_anything_starts() {
    let shop = shop().await;
    let url = format!("http://{}/api/orders", shop.host.address().expect("it listens"));
    let request = reqwest::Client::new()
        .post(url)
        .json(&serde_json::json!({ "article": 7 }));
    assert_eq!(request.send().await.expect("an answer").status(), 422);
    let started = shop
        .host
        .client()
        .list(dalsegno::InstanceQuery::default())
        .await
        .expect("a page");
    assert_eq!(started.rows.len(), 0);
    shop.host.shutdown().await;
}

#[tokio::test]
async fn each_step_takes_what_the_one_before_gave() {
    let shop = shop().await;
    let instance = shop
        .host
        .client()
        .start(order_workflow, order(3, 100))
        .await
        .expect("started");
    let payment = instance.wait().await.expect("a result");
    assert_eq!(
        (payment.paid, payment.cents, payment.email.as_str()),
        (true, 300, "ada@example.com")
    );
    assert_eq!(shop.business.outbox(), ["ada@example.com: 300 cents paid"]);
    shop.host.shutdown().await;
}
