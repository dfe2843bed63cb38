//! A limiter with a key: every key has tokens and slots of its own, over restarts too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dalsegno::testing::TestHub;
use dalsegno::{
    ActivityContext, App, Client, HOUR, KeyedLimiter, Limiter, MINUTE, OrchestrationContext, Result,
    activity, orchestrator,
};
use tokio::sync::Semaphore;

const SOON: Duration = Duration::from_secs(20);

type Row = (String, u32);

fn row(tenant: &str, number: u32) -> Row {
    (tenant.to_owned(), number)
}

/// How many activities of each key began, run now, and ran at once at most.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<String, [u32; 3]>>>);

impl Seen {
    fn begin(&self, key: &str) -> Ended<'_> {
        let mut seen = self.0.lock().unwrap();
        let [began, running, most] = seen.entry(key.to_owned()).or_default();
        *began += 1;
        *running += 1;
        *most = (*most).max(*running);
        Ended(self, key.to_owned())
    }

    fn begun(&self) -> Vec<(String, u32)> {
        let seen = self.0.lock().unwrap();
        seen.iter()
            .map(|(key, [began, ..])| (key.clone(), *began))
            .collect()
    }

    fn most_at_once(&self) -> u32 {
        let seen = self.0.lock().unwrap();
        seen.values().map(|[.., most]| *most).max().unwrap_or(0)
    }
}

/// An activity under way; also one that is dropped ends.
struct Ended<'s>(&'s Seen, String);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if let Some([_, running, _]) = self.0.0.lock().unwrap().get_mut(&self.1) {
            *running -= 1;
        }
    }
}

fn hourly() -> KeyedLimiter<Row> {
    let limiter = Limiter::new("hourly").rate(1, HOUR).burst(1);
    limiter.keyed(|(tenant, _): &Row| tenant.clone())
}

#[activity(limiter = hourly())]
async fn write(ctx: ActivityContext, (tenant, number): Row) -> u32 {
    ctx.data::<Seen>().begin(&tenant);
    number
}

#[orchestrator]
async fn writer(ctx: &OrchestrationContext, row: Row) -> Result<u32> {
    Ok(ctx.call(write, row).await?)
}

fn counts(wanted: &[(&str, u32)]) -> Vec<(String, u32)> {
    wanted
        .iter()
        .map(|(key, count)| ((*key).to_owned(), *count))
        .collect()
}

#[test]
fn keys_do_not_share_tokens_and_a_crash_gives_none_back() {
    let seen = Seen::default();
    let hub = TestHub::new(App::new().register(write).register(writer).data(seen.clone()));
    let begin = hub.now();
    for (tenant, number) in [("a", 1), ("a", 2), ("b", 1)] {
        hub.start(writer, row(tenant, number));
    }
    hub.run_until(begin + MINUTE);
    assert_eq!(seen.begun(), counts(&[("a", 1), ("b", 1)]));

    hub.crash();
    for (tenant, number) in [("b", 2), ("c", 1)] {
        hub.start(writer, row(tenant, number));
    }
    hub.run_until(begin + 2 * MINUTE);
    assert_eq!(
        seen.begun(),
        counts(&[("a", 1), ("b", 1), ("c", 1)]),
        "spent is spent"
    );
    hub.run_until(begin + 3 * HOUR);
    assert_eq!(seen.begun(), counts(&[("a", 2), ("b", 2), ("c", 1)]));
}

fn one_each() -> KeyedLimiter<Row> {
    let limiter = Limiter::new("slots").concurrency(1);
    limiter.keyed(|(tenant, _): &Row| tenant.clone())
}

/// Activities end when they are let.
#[derive(Clone)]
struct Gate(Arc<Semaphore>);

#[activity(limiter = one_each())]
async fn hold(ctx: ActivityContext, (tenant, number): Row) -> Result<u32> {
    let _ended = ctx.data::<Seen>().begin(&tenant);
    let gate = &ctx.data::<Gate>().0;
    tokio::select! {
        pass = gate.acquire() => pass.expect("it is never closed").forget(),
        reason = ctx.cancelled() => return Err(reason.into()),
    }
    Ok(number)
}

#[orchestrator]
async fn holder(ctx: &OrchestrationContext, row: Row) -> Result<u32> {
    Ok(ctx.call(hold, row).await?)
}

/// Until two keys have one activity each that runs, and the first has one that waits.
async fn until_held(client: &Client) {
    let wanted = [("a".to_owned(), 1, 1), ("b".to_owned(), 1, 0)];
    let held = async {
        loop {
            let all = client.limiters().await.unwrap();
            let slots = all
                .iter()
                .filter(|line| &*line.name == "slots" && !line.key.is_empty());
            let now: Vec<_> = slots
                .map(|line| (line.key.to_string(), line.running, line.waiting))
                .collect();
            if now == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, held)
        .await
        .expect("each key has its slot");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_do_not_share_slots_and_a_restart_keeps_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let (seen, gate) = (Seen::default(), Gate(Arc::new(Semaphore::new(0))));
    let app = || {
        let app = App::new().register(hold).register(holder);
        app.data(seen.clone()).data(gate.clone())
    };
    let host = app().embedded(folder.path()).await.unwrap();
    for (tenant, number) in [("a", 1), ("a", 2), ("b", 1)] {
        let id = format!("{tenant}{number}");
        host.client()
            .start(holder, row(tenant, number))
            .id(id)
            .await
            .unwrap();
    }
    until_held(host.client()).await;
    assert_eq!(seen.begun(), counts(&[("a", 1), ("b", 1)]));
    host.shutdown().await;

    let host = app().embedded(folder.path()).await.unwrap();
    until_held(host.client()).await;
    gate.0.add_permits(3);
    for (id, number) in [("a1", 1), ("a2", 2), ("b1", 1)] {
        let instance = host.client().instance(holder, id).unwrap();
        assert_eq!(instance.wait().await.unwrap(), number);
    }
    assert_eq!(seen.most_at_once(), 1);
    assert_eq!(
        seen.begun(),
        counts(&[("a", 3), ("b", 2)]),
        "what the shutdown cut off ran again"
    );
    host.shutdown().await;
}

#[activity(limiter = one_each())]
async fn pass((_, number): Row) -> u32 {
    number
}

#[orchestrator]
async fn passer(ctx: &OrchestrationContext, row: Row) -> Result<u32> {
    Ok(ctx.call(pass, row).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_that_nobody_uses_are_forgotten() {
    // Keys come from users' data: each left a bucket in memory for as long as the process lived.
    const WAVES: u32 = 20;
    const TENANTS: u32 = 250;
    let folder = tempfile::tempdir().unwrap();
    let app = App::new().register(pass).register(passer);
    let host = app.embedded(folder.path().join("hub")).await.unwrap();
    let client = host.client();
    for wave in 0..WAVES {
        let runs = (0..TENANTS).map(|number| {
            let row = row(&format!("tenant {wave}.{number}"), number);
            async { client.start(passer, row).await.unwrap().wait().await }
        });
        for (number, done) in futures::future::join_all(runs).await.into_iter().enumerate() {
            assert_eq!(done.unwrap() as usize, number);
        }
    }
    // Up to 64 in each of 32 partitions are not looked at.
    let kept = client.limiters().await.unwrap().len();
    assert!(
        kept > 0 && kept <= 32 * 64 + TENANTS as usize,
        "{kept} buckets are kept"
    );
    host.shutdown().await;
}
