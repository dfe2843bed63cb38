//! How [`App::run`](crate::App::run) ends when it cannot begin.

use crate::error::{Error, Result};

/// `EX_CONFIG` of `sysexits.h`: the configuration is refused, and nothing was touched.
const CONFIGURATION: i32 = 78;
/// `EX_TEMPFAIL` of `sysexits.h`: the disk or the system failed, and a later start may succeed.
const TRANSIENT: i32 = 75;
/// Another process has the hub: the same code as the command line's for a conflict.
const IN_USE: i32 = 4;

/// Ends the process where an exit code says more than the error that `main` would print.
pub(crate) fn or_end(ended: Result<()>) -> Result<()> {
    let Err(error) = ended else { return Ok(()) };
    let (word, code) = match &error {
        error if error.is_in_use() => ("in_use", IN_USE),
        error if error.is_transient() => ("io", TRANSIENT),
        error if error.is_configuration() => ("configuration", CONFIGURATION),
        _ => return Err(error),
    };
    eprintln!("{}", told(word, &error));
    std::process::exit(code)
}

/// In the form of the command line: what and where, each mistake on its line.
fn told(word: &str, error: &Error) -> String {
    let text = format!("{error:?}");
    let mut lines = text.lines();
    let mut told = format!("error[{word}]: {}", lines.next().unwrap_or_default());
    for line in lines {
        told += &format!("\n  {line}");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_has_its_line() {
        let error = Error::configuration("a: unknown\nb: unknown");
        assert_eq!(
            told("configuration", &error),
            "error[configuration]: a: unknown\n  b: unknown"
        );
    }

    #[test]
    fn other_errors_are_left_to_main() {
        assert!(or_end(Err(Error::msg("no luck"))).is_err());
        assert!(or_end(Ok(())).is_ok());
    }
}
