//! An approval that is escalated and then answered by its link, and a phone verification at the
//! second try: `cargo run -p human-interaction`.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use dalsegno::{HostSettings, Result};
use human_interaction::approval::{Decision, OnTimeout, Request, document_approval};
use human_interaction::phone::{CHALLENGE_RESPONSE, Verification, phone_verification};
use human_interaction::{Post, app};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (post, mut letters) = Post::open();
    let host = app(post).start(HostSettings::in_folder(&folder)).await?;
    let client = host.client();

    let on_timeout = OnTimeout::Escalate {
        to: "director@example.com".into(),
        answer_within_ms: 60_000,
    };
    let (title, manager) = ("budget".into(), "manager@example.com".into());
    let request = Request {
        title,
        manager,
        answer_within_ms: 1_000,
        on_timeout,
    };
    let instance = client.start(document_approval, request).await?;
    while let Some(letter) = letters.recv().await {
        println!("to {}: {}", letter.to, letter.text);
        if letter.to == "manager@example.com" {
            println!("  (the manager is on holiday)");
        }
        if letter.to == "director@example.com" {
            let (_, link) = letter.text.split_once(": ").unwrap_or_default();
            let decision = Decision {
                approved: true,
                by: "director".into(),
            };
            let answer = reqwest::Client::new().post(link).json(&decision).send().await?;
            println!("  (the director follows the link: {})", answer.status());
        }
        if letter.to == "archive" {
            break;
        }
    }
    println!("{:?}\n", instance.wait().await?);

    let verification = Verification {
        number: "+49 89 1234".into(),
        within_ms: 90_000,
    };
    let instance = client.start(phone_verification, verification).await?;
    let Some(letter) = letters.recv().await else {
        return Ok(());
    };
    println!("to {}: {}", letter.to, letter.text);
    let code = letter.text.rsplit(' ').next().unwrap_or_default().parse()?;
    for typed in [1, code] {
        println!("  (types {typed})");
        instance.raise_event(CHALLENGE_RESPONSE, typed).await?;
    }
    println!("verified: {}", instance.wait().await?);

    host.shutdown().await;
    Ok(())
}
