//! The program `lateen-bench`: arguments in, an exit code out.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lateen_bench::load::arguments::LoadArguments;
use lateen_bench::upstream::arguments::UpstreamArguments;
use lateen_bench::{load, upstream};

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
}

fn main() -> ExitCode {
    // Wrong usage ends here, with 2.
    match Arguments::parse().command {
        Command::Load(arguments) => load::run::run(&arguments),
        Command::Upstream(arguments) => upstream::run::run(&arguments),
    }
}
