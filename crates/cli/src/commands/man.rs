//! `dalsegno man`

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::arguments::Arguments;
use crate::failure::{Exit, Failure};
use crate::output;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dalsegno man | man -l -\n         dalsegno man --dir /usr/local/share/man/man1"
)]
pub(crate) struct Man {
    /// Write a page of each command into this folder
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        let command = Arguments::command().disable_help_subcommand(true);
        match &self.dir {
            None => {
                let mut page = Vec::new();
                let made = clap_mangen::Man::new(command).render(&mut page);
                made.map_err(|error| Failure::unexpected(&error))?;
                output::data(String::from_utf8_lossy(&page).trim_end());
            }
            Some(folder) => {
                let write = || -> io::Result<()> {
                    std::fs::create_dir_all(folder)?;
                    clap_mangen::generate_to(command, folder)
                };
                write().map_err(|error| {
                    Failure::usage(format!(
                        "{}: the pages cannot be written: {error}",
                        folder.display()
                    ))
                })?;
            }
        }
        Ok(Exit::Ok)
    }
}
