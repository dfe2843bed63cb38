//! `dalsegno completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::Exit;
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno completions bash > /etc/bash_completion.d/dalsegno")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Exit {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "dalsegno", &mut script);
        output::data(String::from_utf8_lossy(&script).trim_end());
        Exit::Ok
    }
}
