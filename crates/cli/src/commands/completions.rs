//! `dalsegno completions`

use clap::Args;
use clap::builder::PossibleValuesParser;
use clap_complete::env::Shells;

use crate::complete::VARIABLE;
use crate::failure::{Exit, Failure};
use crate::output;

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

/// zsh reads the file when the first word is to be completed, which then is to be completed, too.
const ZSH_AUTOLOADED: &str = "

if [[ \"$funcstack[1]\" == _dalsegno ]]; then
    _clap_dynamic_completer_dalsegno \"$@\"
fi";

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno completions bash > /etc/bash_completion.d/dalsegno")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_parser = PossibleValuesParser::new(SHELLS))]
    shell: String,
}

impl Completions {
    /// What has the shell run this program for each word, which knows flags, and asks the host for ids
    /// and names.
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        let shells = Shells::builtins();
        let shell = shells
            .completer(&self.shell)
            .ok_or_else(|| Failure::usage(format!("{} is no shell that is known here", self.shell)))?;
        let mut script = Vec::new();
        shell
            .write_registration(VARIABLE, "dalsegno", "dalsegno", "dalsegno", &mut script)
            .map_err(|error| Failure::unexpected(&error))?;
        let mut text = String::from_utf8_lossy(&script).trim_end().to_owned();
        if self.shell == "zsh" {
            text += ZSH_AUTOLOADED;
        }
        output::data(&text);
        Ok(Exit::Ok)
    }
}
