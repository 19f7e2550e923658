//! The proxy's program: flags → workers → drain.

use std::io::{self, Write as _};
use std::process::ExitCode;

use lateen_proxy::bootstrap::{self, Command, Quick, host::Host};
use lateen_proxy::first_try;
use lateen_proxy::supervise::{Ended, LaunchError, Proxy, Signals, complain};
use lateen_snapshot::model::Epoch;

fn main() -> ExitCode {
    start_log();
    let host = Host::observe();
    match bootstrap::parse(std::env::args_os(), &host) {
        Ok(Command::Quick(quick)) => serve(*quick),
        Ok(Command::Run(_run)) => ExitCode::FAILURE,
        Ok(Command::Try) => try_out(&host),
        Ok(Command::Print(text)) => {
            // A reader that is gone has seen enough.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Lifecycle events only, on stderr; `RUST_LOG` chooses the level.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

fn serve(Quick { config, snapshot }: Quick) -> ExitCode {
    let started = Signals::new()
        .map_err(LaunchError::from)
        .and_then(|signals| Ok((signals, Proxy::launch(config, Epoch::default(), snapshot)?)));
    let (signals, proxy) = match started {
        Ok(started) => started,
        Err(error) => {
            complain(&error);
            return ExitCode::from(error.exit_code());
        }
    };
    if proxy.announce(&mut io::stdout()).is_err() {
        tracing::warn!("nobody reads standard output: the bound addresses were not told");
    }
    match proxy.run_until_signal(&signals) {
        Ok(ended) => {
            if let Ended::Cut(cut) = ended {
                complain(&format_args!(
                    "{cut} connection(s) were cut off when the drain's grace ended; \
                     --drain-timeout sets it"
                ));
            }
            ExitCode::from(ended.exit_code())
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn try_out(host: &Host) -> ExitCode {
    match first_try::run(host, &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
