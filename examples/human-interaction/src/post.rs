//! A stand-in for e-mail and text messages: whoever runs the example reads them.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A message to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Address or phone number.
    pub to: String,
    /// What it says.
    pub text: String,
}

/// Takes letters.
#[derive(Clone, Debug)]
pub struct Post(UnboundedSender<Letter>);

impl Post {
    /// A post, and where its letters arrive.
    pub fn open() -> (Self, UnboundedReceiver<Letter>) {
        let (post, letters) = unbounded_channel();
        (Self(post), letters)
    }

    /// Sends a letter. Nobody may be there to read it.
    pub fn send(&self, to: impl Into<String>, text: impl Into<String>) {
        let _ = self.0.send(Letter {
            to: to.into(),
            text: text.into(),
        });
    }
}
