//! What the run found: how many, which are stale, by year.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalogue::Package;
use crate::functions::Month;

/// Stale packages named in the printed report.
const NAMED_MAX: usize = 10;

/// What became of one package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Checked {
    /// The catalogue described it.
    Found(Package),
    /// It could not be asked for; the last failure.
    Failed { name: String, message: String },
}

/// The report of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Packages asked for.
    pub checked: usize,
    /// Packages without a release since `threshold`, oldest first.
    pub stale: Vec<Package>,
    /// Packages that could not be asked for.
    pub failed: Vec<String>,
    /// The month a release has to be in, or after, to be fresh.
    pub threshold: Month,
    /// Packages by the year of their last release.
    pub by_year: BTreeMap<String, usize>,
}

impl Report {
    /// Sums up what was found.
    pub fn new(results: &[Checked], threshold: Month) -> Self {
        let mut report = Self {
            checked: results.len(),
            stale: Vec::new(),
            failed: Vec::new(),
            threshold,
            by_year: BTreeMap::new(),
        };
        for result in results {
            match result {
                Checked::Found(package) => {
                    let year = package.last_release_month.split('-').next().unwrap_or_default();
                    *report.by_year.entry(year.to_owned()).or_default() += 1;
                    if package.last_release_month < report.threshold.0 {
                        report.stale.push(package.clone());
                    }
                }
                Checked::Failed { name, .. } => report.failed.push(name.clone()),
            }
        }
        let age = |package: &Package| (package.last_release_month.clone(), package.name.clone());
        report.stale.sort_by_key(age);
        report.failed.sort();
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "last release by year:")?;
        let most = self.by_year.values().copied().max().unwrap_or(1);
        for (year, count) in &self.by_year {
            let bar = "#".repeat((count * 40).div_ceil(most));
            writeln!(f, "  {year} {count:>4} {bar}")?;
        }
        writeln!(f, "longest without a release:")?;
        for package in self.stale.iter().take(NAMED_MAX) {
            writeln!(
                f,
                "  {} {} ({})",
                package.last_release_month, package.name, package.latest_version
            )?;
        }
        write!(
            f,
            "{} packages checked, {} stale (no release since {}), {} failed",
            self.checked,
            self.stale.len(),
            self.threshold.0,
            self.failed.len()
        )
    }
}
