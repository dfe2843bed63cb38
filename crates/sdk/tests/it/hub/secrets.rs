//! What activities read from the app's data stays in memory.

use std::path::Path;

use dalsegno::{
    ActivityContext, App, Error, HostSettings, OrchestrationContext, Result, activity, orchestrator,
};

const CANARY: &str = "canary-9f2c41d7-never-on-disk";

struct Token(String);

#[activity]
async fn signed(ctx: ActivityContext, text: String) -> Result<usize> {
    let token = ctx.data::<Token>();
    if text.is_empty() {
        return Err(Error::with_kind("Empty", "nothing to sign"));
    }
    Ok(text.len() + token.0.len())
}

#[orchestrator]
async fn signing(ctx: &OrchestrationContext) -> Result<usize> {
    assert!(ctx.call(signed, String::new()).await.is_err());
    Ok(ctx.call(signed, "order 7".to_owned()).await?)
}

/// Whether any file below the folder holds these bytes.
fn holds(folder: &Path, wanted: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, wanted),
            false => std::fs::read(&path)
                .unwrap()
                .windows(wanted.len())
                .any(|window| window == wanted.as_bytes()),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_an_activity_uses_is_in_no_file_and_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::new()
        .register(signing)
        .register(signed)
        .data(Token(CANARY.to_owned()));
    let host = app.start(HostSettings::in_folder(folder.path())).await.unwrap();
    let instance = host.client().start(signing, ()).await.unwrap();
    assert_eq!(
        instance.wait_for(super::SOON).await.unwrap(),
        "order 7".len() + CANARY.len()
    );
    let told = format!(
        "{:?} {:?}",
        instance.status().await.unwrap(),
        instance.history().await.unwrap()
    );
    assert!(
        told.contains("nothing to sign") && !told.contains(CANARY),
        "{told}"
    );
    drop(instance);
    host.shutdown().await;
    assert!(
        holds(folder.path(), "nothing to sign"),
        "what is stored can be found so"
    );
    assert!(!holds(folder.path(), CANARY));
}
