//! The listener with a certificate.

use std::path::PathBuf;

use dalsegno_core::limits::Limits;
use dalsegno_engine::request::RequestErrorKind;
use dalsegno_host::RemoteHub;
use dalsegno_host::tls::Tls;
use tempfile::TempDir;

use crate::world::world_with;

/// A certificate for localhost that nobody signed, in files.
fn files() -> (TempDir, String, PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = TempDir::new().unwrap();
    let (certificate, key) = (
        folder.path().join("certificate.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (folder, made.cert.pem(), certificate, key)
}

#[tokio::test]
async fn a_listener_with_a_certificate_speaks_tls_and_nothing_else() {
    let (_folder, pem, certificate, key) = files();
    let tls = Tls::read(&certificate, &key).unwrap();
    let world = world_with(Limits::default(), |server| server.tls(tls)).await;
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes()).unwrap()])
        .resolve("localhost", world.address)
        .build()
        .unwrap();
    let origin = format!("https://localhost:{}", world.address.port());
    let started = client
        .post(format!(
            "{origin}/runtime/webhooks/durabletask/orchestrators/Hello"
        ))
        .send()
        .await
        .unwrap();
    assert_eq!(started.status(), 202);
    let status = started.headers()["location"].to_str().unwrap();
    assert!(status.starts_with(&origin), "{status}");
    let plain = format!("http://localhost:{}/healthz", world.address.port());
    assert!(client.get(plain).send().await.is_err());
}

#[tokio::test]
async fn a_client_trusts_what_it_is_told_to_and_nothing_else() {
    let (_folder, pem, certificate, key) = files();
    let tls = Tls::read(&certificate, &key).unwrap();
    let world = world_with(Limits::default(), |server| server.tls(tls)).await;
    let origin = format!("https://localhost:{}", world.address.port());
    let stranger = RemoteHub::new(&origin).unwrap();
    assert_eq!(
        stranger.counts().await.unwrap_err().kind,
        RequestErrorKind::Unreachable
    );
    let (_other, other_pem, _, _) = files();
    let mistaken = RemoteHub::new(&origin)
        .unwrap()
        .trust(other_pem.as_bytes())
        .unwrap();
    assert_eq!(
        mistaken.counts().await.unwrap_err().kind,
        RequestErrorKind::Unreachable
    );
    let told = RemoteHub::new(&origin).unwrap().trust(pem.as_bytes()).unwrap();
    assert!(!told.counts().await.unwrap().is_empty());
    for nothing in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let error = RemoteHub::new(&origin)
            .unwrap()
            .trust(nothing.as_bytes())
            .unwrap_err();
        assert_eq!(error.kind, RequestErrorKind::Invalid, "{nothing}");
    }
}

#[test]
fn files_that_are_none_are_refused_by_name() {
    let (folder, _, certificate, key) = files();
    let swapped = Tls::read(&key, &certificate).unwrap_err().to_string();
    assert!(swapped.contains("key.pem"), "{swapped}");
    let missing = folder.path().join("missing.pem");
    let missing = Tls::read(&certificate, &missing).unwrap_err().to_string();
    assert!(missing.contains("missing.pem"), "{missing}");
    let (_other, _, _, other_key) = files();
    assert!(Tls::read(&certificate, &other_key).is_err());
}
