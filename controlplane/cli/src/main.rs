//! The mesh's command line: arguments in, an exit code out.
//!
//! 1. [`arguments`]: what can be asked for. [`files`]: what `-f` names.
//! 2. [`check`], [`change`], [`look`], [`policies`], [`overrides`], [`serve`], [`pages`]: the commands.
//! 3. [`demo`]: the mesh at work on one machine.
//! 4. [`client`]: the way to the control plane. [`show`]: words and tables for people.
//! 5. [`problem`]: why a command failed.

mod arguments;
mod files;
mod check;
mod change;
mod look;
mod policies;
mod overrides;
mod serve;
mod pages;
mod demo;
mod client;
mod show;
mod problem;

use std::ffi::OsString;
use std::io::{self, Write};
use std::iter;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::problem::Problem;

fn main() -> ExitCode {
    // Wrong usage ends here, with 2.
    run(Arguments::parse().command).unwrap_or_else(|problem| {
        // Nobody to tell: the code says it.
        let _ = io::stderr().write_all(problem.to_string().as_bytes());
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode, Problem> {
    let ran = match command {
        Command::Demo(demo) => demo::run::run(&demo),
        Command::Serve(serve) => serve::run(serve),
        Command::Check(check) => check::run(&check),
        Command::Apply(apply) => change::apply(apply),
        Command::Delete(delete) => change::delete(delete),
        Command::Rollback(rollback) => change::roll_back(&rollback),
        Command::Resume(resume) => change::resume(&resume),
        Command::Eject(eject) => overrides::eject(eject),
        Command::Readmit(readmit) => overrides::readmit(readmit),
        Command::Breaker(breaker) => overrides::breaker(breaker),
        Command::Get(get) => look::get(&get),
        Command::Diff(diff) => look::diff(&diff),
        Command::Status(status) => look::status(&status),
        Command::History(history) => look::history(&history),
        Command::Show(show) => look::show(&show),
        // It has exit codes of its own.
        Command::Proxy { arguments } => {
            let name = OsString::from("lateen proxy");
            return Ok(lateen_proxy::program::run(iter::once(name).chain(arguments)));
        }
        Command::Completions { shell } => pages::completions(shell),
        Command::Man { folder } => pages::man(&folder),
        Command::DemoApp(app) => demo::app::run(app).map_err(Problem::new),
        Command::DemoPart(part) => {
            demo::process::end_with_stdin().map_err(Problem::new)?;
            return run(demo::process::command_of(part));
        }
    };
    ran.map(|()| ExitCode::SUCCESS)
}
