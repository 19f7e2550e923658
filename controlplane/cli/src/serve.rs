//! `lateen serve`: flags and signals around the control plane.

use std::io;

use lateen_control::serve::run::{Options, run as serve};
use lateen_control::store::retention::Retention;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Serve;
use crate::client::address;
use crate::problem::Problem;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Requests that are being answered when it ends have this long.
const END: std::time::Duration = std::time::Duration::from_secs(1);

pub(crate) fn run(arguments: Serve) -> Result<(), Problem> {
    start_log();
    let options = Options {
        api: address(&arguments.api)?,
        api_token_file: arguments.api.api_token_file,
        folder: arguments.config,
        socket: arguments.socket,
        state: arguments.state,
        allowed_uids: arguments.allow_uid,
        retention: Retention {
            count: arguments.keep_revisions,
            age_ms: arguments.keep_days.map(|days| u64::from(days) * DAY_MS),
            ..Retention::default()
        },
        dns_servers: arguments.dns_server,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Problem::new)?;
    let served = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Problem::new)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Problem::new)?;
        let stop = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        serve(options, stop).await.map_err(Problem::new)
    });
    runtime.shutdown_timeout(END);
    served
}

/// On stderr; `RUST_LOG` chooses the level.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}
