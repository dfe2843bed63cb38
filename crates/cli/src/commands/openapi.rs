//! `dalsegno openapi`

use clap::Args;
use dalsegno_host::server::HttpSettings;

use crate::failure::Exit;
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno openapi > openapi.json\nA host has its own at /openapi.json.")]
pub(crate) struct OpenApi;

impl OpenApi {
    pub(crate) fn run(&self) -> Exit {
        let document = dalsegno_host::openapi_document(&HttpSettings::default());
        output::data(&format!("{document:#}"));
        Exit::Ok
    }
}
