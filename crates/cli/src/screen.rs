//! A picture on a terminal that is drawn again and again.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use dalsegno_host::RemoteChanges;
use tokio::time::{Instant, sleep, sleep_until};

use crate::failure::Failure;

/// Between two pictures, so that a busy hub does not flicker.
const PAUSE: Duration = Duration::from_millis(500);
/// Of a terminal that does not tell.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// A terminal on stdout.
#[derive(Debug)]
pub(crate) struct Screen(());

impl Screen {
    /// `None` when stdout goes elsewhere: no control characters there.
    pub(crate) fn of_terminal() -> Option<Self> {
        io::stdout().is_terminal().then_some(Self(()))
    }

    /// Puts a picture in the place of the last one. A reader that has gone away is no error.
    pub(crate) fn draw(&mut self, picture: &str) {
        let size = rustix::termios::tcgetwinsize(io::stdout());
        let (rows, columns) = size.map_or((0, 0), |size| (size.ws_row, size.ws_col));
        let or = |told: u16, usual| usize::from(if told == 0 { usual } else { told });
        let frame = frame(picture, or(rows, ROWS), or(columns, COLUMNS));
        let mut out = io::stdout().lock();
        let _ = out.write_all(frame.as_bytes()).and_then(|()| out.flush());
    }

    /// Until something changes, or a time has passed; all that comes meanwhile is in the next picture.
    pub(crate) async fn pause(
        &self,
        changes: &mut RemoteChanges,
        most: Option<Duration>,
    ) -> Result<(), Failure> {
        tokio::select! {
            change = changes.next() => drop(change?),
            () = sleep(most.unwrap_or(Duration::MAX)) => return Ok(()),
        }
        let end = Instant::now() + PAUSE;
        loop {
            tokio::select! {
                () = sleep_until(end) => return Ok(()),
                change = changes.next() => drop(change?),
            }
        }
    }
}

/// Home, each line over the old one, and what is left below away: no flicker.
/// What does not fit is cut: a terminal that scrolls has its old home elsewhere.
fn frame(picture: &str, rows: usize, columns: usize) -> String {
    let mut frame = String::from("\u{1b}[H");
    for line in picture.lines().take(rows.saturating_sub(1)) {
        frame.extend(line.chars().take(columns));
        frame += "\u{1b}[K\r\n";
    }
    frame + "\u{1b}[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_covers_the_last_one() {
        assert_eq!(
            frame("abc\nb\nc", 3, 2),
            "\u{1b}[Hab\u{1b}[K\r\nb\u{1b}[K\r\n\u{1b}[J"
        );
    }
}
