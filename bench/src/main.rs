//! The program `lateen-bench`.

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Measure what a proxy costs, and show it
#[derive(Parser)]
#[command(name = "lateen-bench", version, about)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Report(lateen_bench::report::arguments::Arguments),
}

fn main() -> ExitCode {
    let done = match Program::parse().command {
        Command::Report(arguments) => lateen_bench::report::run::run(&arguments),
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "lateen-bench: {error:#}");
        ExitCode::FAILURE
    })
}
