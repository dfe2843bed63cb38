//! Readers of the changes of an instance: nothing is lost, nothing told twice, wherever they go on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use dalsegno::{
    App, Change, Client, Event, EventKind, ExternalEvent, HostSettings, Instance, NewId,
    OrchestrationContext, Result, Status, Watch, WatchEvent, activity, orchestrator,
};
use tokio::net::{TcpListener, TcpStream};

use super::{SOON, on_all};

const STEP: ExternalEvent<u32> = ExternalEvent::new("Step");

#[activity]
async fn double(number: u32) -> u32 {
    2 * number
}

/// Takes steps until one is 0; shows the last; every 100 begins anew.
#[orchestrator]
async fn steps(ctx: &OrchestrationContext, begin: u32) -> Result<u32> {
    ctx.set_custom_status(begin);
    loop {
        let step = ctx.wait_for_event(STEP).await?;
        match step {
            0 => return Ok(begin),
            100 => return ctx.continue_as_new(steps, begin + 100).await,
            step => {
                let doubled = ctx.call(double, step).await?;
                ctx.set_custom_status(doubled);
            }
        }
    }
}

fn app() -> App {
    App::new().register(steps).register(double)
}

async fn next(watch: &mut Watch) -> Option<Change> {
    let next = tokio::time::timeout(SOON, watch.next()).await;
    next.expect("it comes at last").unwrap()
}

async fn until(watch: &mut Watch, wanted: impl Fn(&WatchEvent) -> bool) -> Vec<Change> {
    let mut told = Vec::new();
    loop {
        let change = next(watch).await.expect("it does not end before");
        told.push(change.clone());
        if wanted(&change.event) {
            return told;
        }
    }
}

async fn rest(watch: &mut Watch) -> Vec<Change> {
    let mut told = Vec::new();
    while let Some(change) = next(watch).await {
        told.push(change);
    }
    told
}

fn shows(wanted: &'static str) -> impl Fn(&WatchEvent) -> bool {
    move |event| match event {
        WatchEvent::Status(status) => status
            .row
            .custom_status
            .as_ref()
            .is_some_and(|shown| shown.as_str() == wanted),
        _ => false,
    }
}

fn events(told: &[Change]) -> Vec<Event> {
    let event = |change: &Change| match &change.event {
        WatchEvent::History(_, event) => Some(event.clone()),
        _ => None,
    };
    told.iter().filter_map(event).collect()
}

fn executions(told: &[Change]) -> usize {
    let is_begin = |change: &&Change| matches!(change.event, WatchEvent::Execution(_));
    told.iter().filter(is_begin).count()
}

fn assert_ends_completed(told: &[Change]) {
    match &told.last().expect("something is told").event {
        WatchEvent::End(status) => assert_eq!(status.row.status, Status::Completed),
        other => panic!("{other:?}"),
    }
}

async fn step(instance: &Instance<u32>, number: u32) {
    instance.raise_event(STEP, number).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_on_anywhere_is_told_the_rest_and_nothing_twice() {
    on_all(app, async |client: Client| {
        let instance = client.start(steps, 1).await.unwrap();
        let mut live = instance.watch().await.unwrap();
        let mut told = until(&mut live, shows("1")).await;
        for (number, doubled) in [(2, "4"), (3, "6")] {
            step(&instance, number).await;
            told.extend(until(&mut live, shows(doubled)).await);
        }
        step(&instance, 0).await;
        told.extend(rest(&mut live).await);
        assert_ends_completed(&told);
        assert_eq!(events(&told), instance.history().await.unwrap());
        assert_eq!(executions(&told), 1);
        let all = rest(&mut instance.watch().await.unwrap()).await;
        assert_eq!(events(&all), events(&told));
        for (index, change) in all.iter().enumerate() {
            let mut watch = instance.watch_after(change.seen).await.unwrap();
            assert_eq!(rest(&mut watch).await, all[index + 1..], "after {}", change.seen);
            assert_eq!(watch.seen(), all.last().unwrap().seen);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_execution_is_announced_and_told_from_its_begin() {
    on_all(app, async |client: Client| {
        let instance = client.start(steps, 1).await.unwrap();
        let mut live = instance.watch().await.unwrap();
        let first = until(&mut live, shows("1")).await;
        step(&instance, 100).await;
        let second = until(&mut live, shows("101")).await;
        assert_eq!(executions(&second), 1);
        assert_eq!(events(&second), instance.history().await.unwrap());
        // A reader that was away meanwhile.
        let place = first.last().unwrap().seen;
        let mut late = instance.watch_after(place).await.unwrap();
        let told = until(&mut late, shows("101")).await;
        assert!(matches!(told[0].event, WatchEvent::Execution(_)), "{told:?}");
        assert_eq!(events(&told), events(&second));
        step(&instance, 0).await;
        let end = rest(&mut live).await;
        assert_ends_completed(&end);
        // A new start of the same id is another execution for whoever has seen the end.
        instance.restart(NewId::Same).await.unwrap();
        let mut again = instance.watch_after(end.last().unwrap().seen).await.unwrap();
        assert_eq!(executions(&until(&mut again, shows("101")).await), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_ask_holds_nothing_and_is_told_all_events_later() {
    on_all(app, async |client: Client| {
        let instance = client.start(steps, 1).await.unwrap();
        let mut slow = instance.watch().await.unwrap();
        let mut quick = instance.watch().await.unwrap();
        until(&mut quick, shows("1")).await;
        for number in 1..=50 {
            step(&instance, number).await;
        }
        until(&mut quick, shows("100")).await;
        step(&instance, 0).await;
        let told = rest(&mut slow).await;
        assert_ends_completed(&told);
        assert_eq!(events(&told), instance.history().await.unwrap());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_pages_and_evictions_change_nothing_for_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = HostSettings::in_folder(folder.path());
    settings.limits.futures_bytes_max = 1;
    settings.limits.page_bytes_max = 1;
    let host = app().start(settings).await.unwrap();
    let remote = Client::remote(&format!("http://{}", host.address().unwrap())).unwrap();
    let instance = remote.start(steps, 1).await.unwrap();
    let mut live = instance.watch().await.unwrap();
    let mut told = until(&mut live, shows("1")).await;
    for (number, doubled) in [(2, "4"), (3, "6"), (4, "8")] {
        step(&instance, number).await;
        told.extend(until(&mut live, shows(doubled)).await);
    }
    step(&instance, 0).await;
    told.extend(rest(&mut live).await);
    assert_ends_completed(&told);
    assert_eq!(events(&told), instance.history().await.unwrap());
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_ends_a_reader_with_not_found() {
    on_all(app, async |client: Client| {
        let instance = client.start(steps, 1).await.unwrap();
        let mut live = instance.watch().await.unwrap();
        let place = until(&mut live, shows("1")).await.last().unwrap().seen;
        step(&instance, 0).await;
        instance.wait_for(SOON).await.unwrap();
        instance.purge().await.unwrap();
        assert!(instance.watch_after(place).await.unwrap_err().is_not_found());
        assert!(instance.watch().await.unwrap_err().is_not_found());
    })
    .await;
}

/// Passes connections on to a host that may be replaced; those of the old one break.
struct Door {
    address: SocketAddr,
    behind: Arc<Mutex<SocketAddr>>,
}

impl Door {
    async fn to(address: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Self {
            address: listener.local_addr().unwrap(),
            behind: Arc::new(Mutex::new(address)),
        };
        let behind = Arc::clone(&door.behind);
        tokio::spawn(async move {
            while let Ok((mut outside, _)) = listener.accept().await {
                let address = *behind.lock().unwrap();
                tokio::spawn(async move {
                    if let Ok(mut inside) = TcpStream::connect(address).await {
                        let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                    }
                });
            }
        });
        door
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_host_is_bridged_without_loss_or_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let host = app().start(HostSettings::in_folder(folder.path())).await.unwrap();
    let door = Door::to(host.address().unwrap()).await;
    let client = Client::remote(&format!("http://{}", door.address)).unwrap();
    let instance = client.start(steps, 1).await.unwrap();
    let mut live = instance.watch().await.unwrap();
    let mut told = until(&mut live, shows("1")).await;
    for (number, doubled) in [(2, "4"), (3, "6"), (4, "8")] {
        step(&instance, number).await;
        told.extend(until(&mut live, shows(doubled)).await);
    }
    // The reader learns of the end of its connection by itself.
    host.shutdown().await;
    let host = app().start(HostSettings::in_folder(folder.path())).await.unwrap();
    *door.behind.lock().unwrap() = host.address().unwrap();
    step(&instance, 0).await;
    told.extend(rest(&mut live).await);
    assert_ends_completed(&told);
    assert_eq!(executions(&told), 1);
    let history = instance.history().await.unwrap();
    assert!(
        history
            .iter()
            .any(|event| matches!(event.kind, EventKind::ExecutionCompleted { .. }))
    );
    assert_eq!(events(&told), history);
    host.shutdown().await;
}
