//! `dalsegno help`: of commands, and of codes of errors.

use clap::{Args, CommandFactory};
use dalsegno_host::{ERROR_CODES, error_code, nearest};

use crate::arguments::Arguments;
use crate::failure::{Exit, Failure};
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno help wrong_state\n         dalsegno help entity signal")]
pub(crate) struct Help {
    /// A command, a code such as wrong_state, or codes for all of these
    words: Vec<String>,
}

impl Help {
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        match self.words.as_slice() {
            [word] if word == "codes" => {
                let width = ERROR_CODES.iter().map(|entry| entry.code.len()).max();
                let width = width.unwrap_or(0);
                for entry in ERROR_CODES {
                    output::data(&format!("{:width$}  {}", entry.code, entry.title));
                }
                Ok(Exit::Ok)
            }
            [word] if error_code(word).is_some() => {
                let page = error_code(word).map(|entry| wrapped(&entry.page()));
                output::data(&page.unwrap_or_default());
                Ok(Exit::Ok)
            }
            words => of_command(words),
        }
    }
}

fn of_command(words: &[String]) -> Result<Exit, Failure> {
    let mut command = Arguments::command();
    command.build();
    let mut found = &mut command;
    for word in words {
        let known: Vec<String> = found
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect();
        let Some(next) = known.iter().position(|name| name == word) else {
            let codes = ERROR_CODES.iter().map(|entry| entry.code);
            let near = nearest(word, known.iter().map(String::as_str).chain(codes));
            let failure = Failure::usage(format!("{word} is neither a command nor a code"));
            return Err(failure.help(match near {
                Some(near) => format!("did you mean {near}?"),
                None => "dalsegno help lists commands, dalsegno help codes the codes".into(),
            }));
        };
        found = found
            .get_subcommands_mut()
            .nth(next)
            .ok_or_else(|| Failure::unexpected(&"a command is gone"))?;
    }
    output::data(found.render_long_help().to_string().trim_end());
    Ok(Exit::Ok)
}

/// In lines of at most 80 columns.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 80;
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_fits_a_terminal() {
        for entry in ERROR_CODES {
            let page = wrapped(&entry.page());
            assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
            assert_eq!(
                page.split_whitespace().count(),
                entry.page().split_whitespace().count()
            );
        }
    }
}
