//! Which packages have had no release for long?
//!
//! The scenario of "orchestrate by scraping APIs": list a catalogue page by page, ask for every
//! package, stay below the catalogue's rate limit, save what was found, report. Two pipelines run
//! in parallel as sub-orchestrations, and each fans out one activity per package. There is no
//! queue, no broker and no table of progress: the code below is all there is.

pub mod catalogue;
pub mod database;
pub mod demo;
mod functions;
pub mod report;

pub use functions::{
    CATALOGUE_LIMITER, CatalogueClient, Month, Progress, Request, main_download_orchestrator, parts,
    pipeline, register,
};
