//! **Human interaction.** An orchestration waits for a person: minutes or months, at no cost, over
//! any restart. People do not always answer, so each wait has a time limit and a plan.
//!
//! - [`approval`]: a document needs a manager's approval. Who does not answer is asked again, or
//!   somebody else is, or the answer is taken to be "no".
//! - [`phone`]: a code sent to a phone is typed in again: three tries, ninety seconds.

pub mod approval;
pub mod phone;
mod post;

use dalsegno::App;

pub use post::{Letter, Post};

/// The app: both, with a post that delivers letters.
pub fn app(post: Post) -> App {
    phone::register(approval::register(App::new())).data(post)
}
