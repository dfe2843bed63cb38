//! Users' text on a terminal: what acts there, or hides or reorders what a reader sees, is escaped.

use std::borrow::Cow;
use std::io;

/// Text of several lines without characters that act on a terminal, or that change what a reader sees
/// of the others: instead of them what JSON writes, so that JSON stays JSON.
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_hidden = |letter: char| letter != '\n' && acts(letter);
    if !text.contains(is_hidden) {
        return text.into();
    }
    let mut seen = String::with_capacity(text.len());
    for letter in text.chars() {
        match is_hidden(letter) {
            false => seen.push(letter),
            true => letter
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| seen += &format!("\\u{unit:04x}")),
        }
    }
    seen.into()
}

/// Whether a character moves the cursor, rings, sets colours, or reorders or hides text: controls,
/// and the format characters of Unicode (category Cf) that do not belong to a script.
pub fn acts(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A terminal's log. Fields come with their controls escaped; what reorders or hides text is left.
pub(crate) struct Log<W>(pub(crate) W);

impl<W: io::Write> io::Write for Log<W> {
    /// One event at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let line_of_text = String::from_utf8_lossy(line);
        let is_hidden = |letter: char| !letter.is_control() && acts(letter);
        let seen: String = match line_of_text.contains(is_hidden) {
            false => return self.0.write_all(line).map(|()| line.len()),
            true => line_of_text
                .chars()
                .map(|letter| match is_hidden(letter) {
                    true => visible(letter.encode_utf8(&mut [0; 4])).into_owned(),
                    false => letter.to_string(),
                })
                .collect(),
        };
        self.0.write_all(seen.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_keeps_its_colours_and_shows_what_reorders_text() {
        for (line, seen) in [
            (
                "\u{1b}[32m INFO\u{1b}[0m ended\n",
                "\u{1b}[32m INFO\u{1b}[0m ended\n",
            ),
            ("instance_id=ab\u{202e}dc ü\n", "instance_id=ab\\u202edc ü\n"),
        ] {
            let mut written = Vec::new();
            Log(&mut written).write_all(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), seen);
        }
    }
}
