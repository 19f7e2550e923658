//! The command line of `lateen-bench report`.

use clap::Args;
use std::path::PathBuf;

/// Write the report on one or more comparisons
#[derive(Debug, Clone, Args)]
pub struct ReportArguments {
    /// Results of `lateen-bench compare`
    #[arg(required = true, value_name = "RESULTS")]
    pub results: Vec<PathBuf>,
    /// Older results: what changed since beyond the noise is marked
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Where the HTML page goes
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Where the same goes in brief, as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}
