//! **Function chaining.** Functions run one after the other, and what one gives the next one takes.
//!
//! The orchestrator is an ordinary `async fn`. After each `.await` what happened is on disk, so a
//! process that dies between F2 and F3 continues with F3.

use dalsegno::{App, OrchestrationContext, Result, activity, orchestrator};

/// F1: takes the blanks away.
#[activity(name = "F1")]
pub async fn trim(name: String) -> String {
    name.trim().to_owned()
}

/// F2: begins with a capital.
#[activity(name = "F2")]
pub async fn capitalise(name: String) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}

/// F3: greets.
#[activity(name = "F3")]
pub async fn greet(name: String) -> String {
    format!("Hello {name}!")
}

/// F4: counts the letters, for a label of the right size.
#[activity(name = "F4")]
pub async fn label(greeting: String) -> (String, usize) {
    let letters = greeting.chars().count();
    (greeting, letters)
}

/// F1, F2, F3, F4. The compiler checks that each takes what the one before gives.
#[orchestrator(name = "Chain")]
pub async fn chain(ctx: &OrchestrationContext, name: String) -> Result<(String, usize)> {
    let trimmed = ctx.call(trim, name).await?;
    let capitalised = ctx.call(capitalise, trimmed).await?;
    let greeting = ctx.call(greet, capitalised).await?;
    Ok(ctx.call(label, greeting).await?)
}

/// The first orchestration everybody writes.
#[orchestrator(name = "E1_HelloSequence")]
pub async fn hello_sequence(ctx: &OrchestrationContext) -> Result<Vec<String>> {
    let mut greetings = Vec::new();
    for city in ["Tokyo", "Seattle", "London"] {
        greetings.push(ctx.call(greet, city.into()).await?);
    }
    Ok(greetings)
}

/// The app: everything above.
pub fn app() -> App {
    App::new()
        .register(chain)
        .register(hello_sequence)
        .register(trim)
        .register(capitalise)
        .register(greet)
        .register(label)
}
