//! The barriers of a staged load (`--staged`), where a tool that measures something else around the
//! load does so: a line on stdout says that the load waits, a line on stdin that it may go on.
//!
//! Comes between the stages that [`run`](super::run) goes through.

use std::io::{self, Write};

use anyhow::{Context, bail};

/// All connections stand, and the warm-up is over; the next line begins what is measured.
pub(crate) const READY: &str = "ready";

/// What is measured is over, and the connections stand; the next line ends the load.
pub(crate) const DONE: &str = "done";

/// Says a word and waits for a line.
///
/// # Errors
/// Nobody is there any more.
pub(crate) fn wait_at(word: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{word}").and_then(|()| stdout.flush()).context("stdout")?;
    match io::stdin().read_line(&mut String::new()).context("stdin")? {
        0 => bail!("stdin ended, where --staged waits after `{word}` for a line to go on"),
        _ => Ok(()),
    }
}
