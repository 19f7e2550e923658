//! The program `lateen-bench`: arguments in, an exit code out.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lateen_bench::load::arguments::LoadArguments;
use lateen_bench::report::arguments::ReportArguments;
use lateen_bench::upstream::arguments::UpstreamArguments;
use lateen_bench::{load, report, upstream};

/// Measure what a proxy costs: make load, answer it, compare proxies, report.
#[derive(Parser)]
#[command(name = "lateen-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Load(LoadArguments),
    Upstream(UpstreamArguments),
    Report(ReportArguments),
}

fn main() -> ExitCode {
    // Wrong usage ends here, with 2.
    match Arguments::parse().command {
        Command::Load(arguments) => load::run::run(&arguments),
        Command::Upstream(arguments) => upstream::run::run(&arguments),
        Command::Report(arguments) => report::run::run(&arguments).unwrap_or_else(|error| {
            let _ = writeln!(std::io::stderr(), "lateen-bench report: {error:#}");
            ExitCode::FAILURE
        }),
    }
}
