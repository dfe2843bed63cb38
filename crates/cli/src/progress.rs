//! How far long work is, on stderr: a bar that is drawn over on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::output;
use crate::session::Session;

/// Between two lines where no line can be drawn over.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Letters between the ends of a bar.
const BAR_LETTERS: u64 = 24;

#[derive(Debug)]
pub(crate) struct Progress {
    is_quiet: bool,
    is_terminal: bool,
    told: Instant,
    is_drawn: bool,
}

impl Progress {
    pub(crate) fn new(session: &Session) -> Self {
        Self {
            is_quiet: session.is_quiet(),
            is_terminal: io::stderr().is_terminal(),
            told: Instant::now(),
            is_drawn: false,
        }
    }

    /// Tells how much of how much is done, if that is known, and what that is.
    pub(crate) fn tell(&mut self, share: Option<(u64, u64)>, text: &str) {
        if self.is_quiet {
            return;
        }
        let line = match share {
            Some((done, all)) => format!("{} {}", bar(done, all), output::shown(text)),
            None => output::shown(text),
        };
        if self.is_terminal {
            let mut out = io::stderr();
            // Nobody to tell when it cannot be told.
            let _ = write!(out, "\r\u{1b}[K{line}").and_then(|()| out.flush());
            self.is_drawn = true;
        } else if self.told.elapsed() >= LINE_EVERY {
            output::talk(&line);
            self.told = Instant::now();
        }
    }

    /// Takes the bar away.
    pub(crate) fn over(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

/// `[########----------------]  33 %`; in letters that every terminal has.
fn bar(done: u64, all: u64) -> String {
    let share = |of: u64| (done.min(all) * of).checked_div(all).unwrap_or(of);
    let filled = usize::try_from(share(BAR_LETTERS)).unwrap_or_default();
    let whole = usize::try_from(BAR_LETTERS).unwrap_or_default();
    format!(
        "[{}{}] {:3} %",
        "#".repeat(filled),
        "-".repeat(whole - filled),
        share(100)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_the_share() {
        for (done, all, wanted) in [
            (0, 9, "[------------------------]   0 %"),
            (3, 9, "[########----------------]  33 %"),
            (9, 9, "[########################] 100 %"),
            // More may be found than was counted before.
            (12, 9, "[########################] 100 %"),
            (0, 0, "[########################] 100 %"),
        ] {
            assert_eq!(bar(done, all), wanted, "{done} of {all}");
        }
    }
}
