//! A phone verification: a code goes to the phone, and has to come back.

use std::time::Duration;

use dalsegno::{ActivityContext, App, ExternalEvent, OrchestrationContext, Result, activity, orchestrator};
use serde::{Deserialize, Serialize};

use crate::post::Post;

/// What somebody typed in.
pub const CHALLENGE_RESPONSE: ExternalEvent<u32> = ExternalEvent::new("SmsChallengeResponse");

/// Tries somebody has.
const TRIES: u32 = 3;

/// Codes have four digits.
const CODES: std::ops::Range<u32> = 1_000..10_000;

/// Whose phone, and how long they have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verification {
    /// The phone.
    pub number: String,
    /// Time for all tries together; ninety seconds in earnest.
    pub within_ms: u64,
}

/// Does the phone belong to whoever says so? One time limit for all tries.
#[orchestrator(name = "E4_SmsPhoneVerification")]
pub async fn phone_verification(ctx: &OrchestrationContext, verification: Verification) -> Result<bool> {
    let code = ctx.call(send_challenge, verification.number).await?;
    let mut deadline = ctx.timer(Duration::from_millis(verification.within_ms));
    for _ in 0..TRIES {
        let mut response = ctx.wait_for_event(CHALLENGE_RESPONSE);
        let typed = dalsegno::select! {
            typed = response => typed?,
            () = deadline => return Ok(false),
        };
        if typed == code {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Chooses a code and sends it. An activity, because an orchestrator may not throw dice.
#[activity(name = "E4_SendSmsChallenge")]
async fn send_challenge(ctx: ActivityContext, number: String) -> Result<u32> {
    let code = CODES.start + getrandom::u32()? % (CODES.end - CODES.start);
    ctx.data::<Post>()
        .send(number, format!("Your verification code is {code}"));
    Ok(code)
}

/// Everything above.
pub(crate) fn register(app: App) -> App {
    app.register(phone_verification).register(send_challenge)
}
