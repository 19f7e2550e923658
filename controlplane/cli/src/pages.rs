//! Completions for shells, and the manual: made from the same arguments as the help.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::problem::Problem;

pub(crate) fn completions(shell: Shell) -> Result<(), Problem> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "lateen", &mut script);
    io::Write::write_all(&mut io::stdout(), &script).map_err(|error| Problem::of_output(&error))
}

pub(crate) fn man(folder: &Path) -> Result<(), Problem> {
    clap_mangen::generate_to(Arguments::command(), folder).map_err(|error| {
        Problem::new(format_args!("{}: {error}", folder.display()))
            .with_help("the folder must be there, and yours to write to")
    })
}
