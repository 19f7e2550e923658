//! The proxy's program: flags → workers → drain. `lateen proxy` is the same in another binary.
//!
//! Before: an argument vector. After: an exit code.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use lateen_snapshot::model::{Epoch, Snapshot};
use lateen_snapshot::validate::patterns::Patterns;

use crate::bootstrap::{self, Command, Quick, Run, host::Host};
use crate::supervise::{Ended, LaunchError, Proxy, Signals, complain};
use crate::{first_try, last_good};

/// Runs the program with `arguments`, its name first, to its end.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    start_log();
    let host = Host::observe();
    match bootstrap::parse(arguments, &host) {
        Ok(Command::Quick(quick)) => {
            let Quick { config, snapshot } = *quick;
            serve(|| Proxy::launch(config, Epoch::default(), snapshot, &mut Patterns::default()))
        }
        Ok(Command::Run(run)) => serve_under_control(*run),
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

fn serve_under_control(run: Run) -> ExitCode {
    let Run { config, name, control, state } = run;
    let mut patterns = Patterns::default();
    let (epoch, snapshot) = begin_with(&state, &mut patterns);
    serve(|| {
        let proxy = match Proxy::launch(config.clone(), epoch, snapshot, &mut patterns) {
            // What could be run once may not be any more: an address has gone, a port is taken. The
            // control plane can mend that only if it hears of this proxy.
            Err(error @ (LaunchError::Listen { .. } | LaunchError::Snapshot(_))) => {
                tracing::warn!(%epoch, %error, "the last good snapshot can't be run: waiting for the control plane");
                Proxy::launch(config, Epoch::default(), Snapshot::default(), &mut patterns)?
            }
            launched => launched?,
        };
        proxy.subscribe(name, control, state, patterns)?;
        Ok(proxy)
    })
}

/// The snapshot that the last run ended on, or none.
fn begin_with(state: &Path, patterns: &mut Patterns) -> (Epoch, Snapshot) {
    match last_good::load(state, patterns) {
        Ok(Some(last)) => last,
        Ok(None) => {
            tracing::info!("no last good snapshot: waiting for the control plane");
            Default::default()
        }
        Err(error) => {
            let state = state.display();
            tracing::warn!(%state, %error, "no last good snapshot: waiting for the control plane");
            Default::default()
        }
    }
}

/// Launches a proxy and runs it until a signal ends it.
fn serve(launch: impl FnOnce() -> Result<Proxy, LaunchError>) -> ExitCode {
    // Signals first: one may come as soon as the proxy accepts.
    let started = Signals::new().map_err(LaunchError::from).and_then(|signals| {
        let proxy = launch()?;
        Ok((signals, proxy))
    });
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
