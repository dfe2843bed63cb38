//! The audit file at the end of a host.

use dalsegno::{App, ExternalEvent, HostSettings, OrchestrationContext, Result, orchestrator};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const GO: ExternalEvent<String> = ExternalEvent::new("Go");

#[orchestrator]
async fn audited(ctx: &OrchestrationContext, _input: ()) -> Result<String> {
    Ok(ctx.wait_for_event(GO).await?)
}

#[tokio::test]
async fn a_caller_that_disconnects_while_the_host_stops_is_in_the_audit_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let mut settings = HostSettings::in_folder(folder.path().join("hub"));
    settings.http.audit_file = Some(path.clone());
    let host = App::new().register(audited).start(settings).await.unwrap();
    let address = host.address().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /runtime/webhooks/durabletask/orchestrators/audited/n?timeout=200 HTTP/1.1\r\n\
         Host: {address}\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    while host.hub().measure().await.unwrap().waiters == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    host.shutdown().await;
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(
        written.contains(r#""action":"start/audited","subject":"n""#),
        "{written:?}"
    );
    assert_eq!(written.lines().count(), 1, "{written:?}");
}
