//! The slim binary of a sidecar's image: the proxy's program and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    lateen_proxy::program::run(std::env::args_os())
}
