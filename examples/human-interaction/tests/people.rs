//! What people do: yes, no, nothing, late, wrong.

use dalsegno::{EventKind, Host, HostSettings, Instance};
use human_interaction::approval::{DECISION, Decision, OnTimeout, Outcome, Request, document_approval};
use human_interaction::phone::{CHALLENGE_RESPONSE, Verification, phone_verification};
use human_interaction::{Letter, Post, app};
use tokio::sync::mpsc::UnboundedReceiver;

/// Longer than any test.
const LONG_MS: u64 = 3_600_000;
const SHORT_MS: u64 = 20;

struct Office {
    host: Host,
    letters: UnboundedReceiver<Letter>,
    _folder: tempfile::TempDir,
}

async fn office() -> Office {
    let folder = tempfile::tempdir().expect("a folder");
    let (post, letters) = Post::open();
    let host = app(post)
        .start(HostSettings::in_folder(&folder))
        .await
        .expect("a host");
    Office {
        host,
        letters,
        _folder: folder,
    }
}

impl Office {
    async fn ask(&self, answer_within_ms: u64, on_timeout: OnTimeout) -> Instance<Outcome> {
        let request = Request {
            title: "budget".into(),
            manager: "manager".into(),
            answer_within_ms,
            on_timeout,
        };
        self.host
            .client()
            .start(document_approval, request)
            .await
            .expect("started")
    }

    async fn letter(&mut self) -> Letter {
        self.letters.recv().await.expect("a letter")
    }

    /// Follows the link in a letter, as a browser would.
    async fn decide(&self, letter: &Letter, approved: bool) {
        let (_, link) = letter.text.split_once(": ").expect("a link");
        let decision = Decision {
            approved,
            by: letter.to.clone(),
        };
        let answer = reqwest::Client::new()
            .post(link)
            .json(&decision)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 202);
    }

    /// All letters but those with links, once the instance has ended.
    async fn end(mut self) -> Vec<String> {
        self.host.shutdown().await;
        let mut told = Vec::new();
        while let Ok(letter) = self.letters.try_recv() {
            told.push(format!("{}: {}", letter.to, letter.text));
        }
        told
    }
}

#[tokio::test]
async fn an_approved_document_is_finalised_announced_and_archived() {
    let mut office = office().await;
    let instance = office.ask(LONG_MS, OnTimeout::Reject).await;
    let letter = office.letter().await;
    assert_eq!(letter.to, "manager");
    office.decide(&letter, true).await;
    let name = "final version of \"budget\"";
    let outcome = Outcome::Archived {
        name: name.into(),
        by: "manager".into(),
    };
    assert_eq!(instance.wait().await.expect("a result"), outcome);
    let told = office.end().await;
    assert_eq!(
        told,
        [
            "everybody: draft of \"budget\" was approved by manager",
            &format!("archive: {name}")
        ]
    );
}

#[tokio::test]
async fn a_rejected_document_is_not_archived() {
    let mut office = office().await;
    let instance = office.ask(LONG_MS, OnTimeout::Reject).await;
    let letter = office.letter().await;
    office.decide(&letter, false).await;
    assert_eq!(
        instance.wait().await.expect("a result"),
        Outcome::Rejected { by: "manager".into() }
    );
    assert_eq!(
        office.end().await,
        ["everybody: draft of \"budget\" was rejected by manager"]
    );
}

#[tokio::test]
async fn silence_means_no() {
    let mut office = office().await;
    let instance = office.ask(SHORT_MS, OnTimeout::Reject).await;
    assert_eq!(instance.wait().await.expect("a result"), Outcome::TimedOut);
    assert_eq!(office.letter().await.to, "manager");
    assert_eq!(
        office.end().await,
        ["everybody: nobody decided on draft of \"budget\""]
    );
}

#[tokio::test]
async fn silence_lets_somebody_else_decide() {
    let mut office = office().await;
    let on_timeout = OnTimeout::Escalate {
        to: "director".into(),
        answer_within_ms: LONG_MS,
    };
    let instance = office.ask(SHORT_MS, on_timeout).await;
    assert_eq!(office.letter().await.to, "manager");
    let letter = office.letter().await;
    assert_eq!(letter.to, "director");
    office.decide(&letter, false).await;
    assert_eq!(
        instance.wait().await.expect("a result"),
        Outcome::Rejected {
            by: "director".into()
        }
    );
    office.host.shutdown().await;
}

#[tokio::test]
async fn two_who_are_silent_mean_no() {
    let mut office = office().await;
    let on_timeout = OnTimeout::Escalate {
        to: "director".into(),
        answer_within_ms: SHORT_MS,
    };
    let instance = office.ask(SHORT_MS, on_timeout).await;
    assert_eq!(instance.wait().await.expect("a result"), Outcome::TimedOut);
    assert_eq!(
        (office.letter().await.to, office.letter().await.to),
        ("manager".into(), "director".into())
    );
    office.host.shutdown().await;
}

#[tokio::test]
async fn silence_is_asked_again_and_then_means_no() {
    let mut office = office().await;
    let instance = office.ask(SHORT_MS, OnTimeout::AskAgain { times: 2 }).await;
    assert_eq!(instance.wait().await.expect("a result"), Outcome::TimedOut);
    for _ in 0..3 {
        assert_eq!(office.letter().await.to, "manager");
    }
    assert_eq!(
        office.end().await,
        ["everybody: nobody decided on draft of \"budget\""]
    );
}

#[tokio::test]
async fn a_decision_that_comes_before_the_question_is_kept() {
    let office = office().await;
    let instance = office.ask(LONG_MS, OnTimeout::Reject).await;
    let decision = Decision {
        approved: false,
        by: "clairvoyant".into(),
    };
    instance.raise_event(DECISION, decision).await.expect("raised");
    assert_eq!(
        instance.wait().await.expect("a result"),
        Outcome::Rejected {
            by: "clairvoyant".into()
        }
    );
    office.host.shutdown().await;
}

async fn verify(office: &mut Office, within_ms: u64) -> (Instance<bool>, u32) {
    let verification = Verification {
        number: "+49 89 1234".into(),
        within_ms,
    };
    let instance = office
        .host
        .client()
        .start(phone_verification, verification)
        .await
        .expect("started");
    let letter = office.letter().await;
    assert_eq!(letter.to, "+49 89 1234");
    let code = letter
        .text
        .rsplit(' ')
        .next()
        .and_then(|code| code.parse().ok())
        .expect("a code");
    (instance, code)
}

#[tokio::test]
async fn the_right_code_verifies_at_any_of_three_tries() {
    let mut office = office().await;
    for wrong in 0..3 {
        let (instance, code) = verify(&mut office, LONG_MS).await;
        for typed in std::iter::repeat_n(0, wrong).chain([code]) {
            instance
                .raise_event(CHALLENGE_RESPONSE, typed)
                .await
                .expect("raised");
        }
        assert!(
            instance.wait().await.expect("a result"),
            "after {wrong} wrong ones"
        );
    }
    office.host.shutdown().await;
}

#[tokio::test]
async fn three_wrong_codes_do_not() {
    let mut office = office().await;
    let (instance, _) = verify(&mut office, LONG_MS).await;
    for typed in [1, 2, 3] {
        instance
            .raise_event(CHALLENGE_RESPONSE, typed)
            .await
            .expect("raised");
    }
    assert!(!instance.wait().await.expect("a result"));
    office.host.shutdown().await;
}

#[tokio::test]
async fn nobody_types_anything_in_time() {
    let mut office = office().await;
    let (instance, _) = verify(&mut office, SHORT_MS).await;
    assert!(!instance.wait().await.expect("a result"));
    let history = instance.history().await.expect("a history");
    assert!(
        history
            .iter()
            .any(|event| matches!(event.kind, EventKind::TimerFired { .. }))
    );
    office.host.shutdown().await;
}
