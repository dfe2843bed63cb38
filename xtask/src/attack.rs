//! `tests/attack`: the real binary under failing disks, kills, damaged files, replaced locks and forged credentials.

use std::process::Command;

use crate::ci::status;
use crate::sdks::{need, text};

/// Where the hubs are, below the folder of the workspace: those of a failure stay there.
const FOLDER: &str = "target/attack";

/// Installs strace, builds the program and attacks it.
pub(crate) fn all(arguments: &[String]) -> Result<(), String> {
    need("strace", &["--version"], "strace")?;
    crate::ci::build()?;
    let root = std::env::current_dir().map_err(|error| error.to_string())?;
    let mut command = Command::new(root.join("target/debug/attack"));
    command
        .args(["--program", &text(&root.join("target/debug/dalsegno"))])
        .args(["--folder", &text(&root.join(FOLDER))])
        .args(arguments);
    status(command, "the attack")
}
