//! `dalsegno config`

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use dalsegno_host::config::{Config as HostConfig, Loaded, Program, Sources, template};

use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show every value
    #[command(after_help = "Example: dalsegno config show --origin")]
    Show(Show),
    /// Write a file with every key, its meaning and default, none of them set
    #[command(after_help = "Example: dalsegno config init --config dalsegno.toml")]
    Init(File),
    /// Check the configuration and the files it names, as `serve` does
    #[command(after_help = "Example: dalsegno config check --config /etc/dalsegno.toml")]
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    files: Files,
    /// And where each comes from
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    program: ForApp,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    program: ForApp,
}

#[derive(Debug, Args)]
pub(crate) struct ForApp {
    /// The configuration is of an app, which may serve loopback without keys
    #[arg(long)]
    app: bool,
}

impl ForApp {
    fn program(&self) -> Program {
        match self.app {
            true => Program::App,
            false => Program::Serve,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Files {
    /// The file
    #[arg(long, env = "DALSEGNO_CONFIG", default_value = "dalsegno.toml")]
    config: PathBuf,
    /// A value that wins over file and environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::input::tag)]
    set: Vec<(String, String)>,
}

impl Config {
    pub(crate) fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::Show(show) => {
                let loaded = show.files.load()?;
                let head: &[&str] = if show.origin {
                    &["KEY", "VALUE", "ORIGIN"]
                } else {
                    &["KEY", "VALUE"]
                };
                session.rows(head, &rows(&loaded, head.len()));
                check(&loaded, show.program.program())?;
            }
            Self::Init(file) => {
                file.write()?;
                session.say(&format!("wrote {}", file.config.display()));
            }
            Self::Check(asked) => check(&asked.files.load()?, asked.program.program())?,
        }
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
pub(crate) struct File {
    /// The file
    #[arg(long, env = "DALSEGNO_CONFIG", default_value = "dalsegno.toml")]
    config: PathBuf,
}

impl File {
    /// What is there already stays.
    fn write(&self) -> Result<(), Failure> {
        let made = OpenOptions::new().write(true).create_new(true).open(&self.config);
        let written = made.and_then(|mut file| file.write_all(template().as_bytes()));
        written.map_err(|error| {
            let path = self.config.display();
            match error.kind() {
                io::ErrorKind::AlreadyExists => Failure::in_use(&format_args!("{path} is there already"))
                    .help("choose another with --config"),
                _ => Failure::configuration(&format_args!("{path} cannot be written: {error}")),
            }
        })
    }
}

impl Files {
    fn load(self) -> Result<Loaded, Failure> {
        let read = Sources::of_process(&self.config);
        let mut sources = read.map_err(|error| {
            Failure::configuration(&format!("{} cannot be read: {error}", self.config.display()))
        })?;
        sources.flags = self
            .set
            .into_iter()
            .map(|(key, value)| ("--set".into(), key, value))
            .collect();
        HostConfig::load(&sources).map_err(|refused| Failure::configuration(&refused))
    }
}

/// Fails as the program would at its start. `config show` shows the values first.
fn check(loaded: &Loaded, program: Program) -> Result<(), Failure> {
    let resolved = loaded.config.resolve(program);
    resolved
        .map(drop)
        .map_err(|refused| Failure::configuration(&refused))
}

fn rows(loaded: &Loaded, columns: usize) -> Vec<Row> {
    let row = |(key, value, origin): &(String, String, dalsegno_host::config::Origin)| {
        let mut cells = vec![key.clone(), value.clone(), origin.to_string()];
        cells.truncate(columns);
        let json = serde_json::json!({"key": key, "value": value, "origin": origin.to_string()});
        Row {
            id: key.clone(),
            cells,
            json: json.to_string(),
        }
    };
    loaded.values.iter().map(row).collect()
}
