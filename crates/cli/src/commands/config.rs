//! `dalsegno config`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dalsegno_host::config::{Config as HostConfig, Loaded, Sources};

use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show every value
    #[command(after_help = "Example: dalsegno config show --origin")]
    Show(Show),
    /// Say whether the configuration is good, and nothing else
    #[command(after_help = "Example: dalsegno config check --config /etc/dalsegno.toml")]
    Check(Files),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    files: Files,
    /// And where each comes from
    #[arg(long)]
    origin: bool,
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
            }
            Self::Check(files) => drop(files.load()?),
        }
        Ok(Exit::Ok)
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
