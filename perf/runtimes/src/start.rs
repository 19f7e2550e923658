//! The beginning and the end of each program: its command line, its listener, SIGTERM.
//!
//! Never in the way of a request.

use std::{
    error::Error,
    io,
    net::{SocketAddr, TcpListener},
    process,
};

use lateen_floor::{args::Args, socket};

/// What a program was told.
pub struct Started {
    /// Listens already; accepted sockets inherit TCP_NODELAY.
    pub listener: TcpListener,
    /// Where requests go.
    pub upstream: SocketAddr,
    /// Long bodies are spliced.
    pub splice: bool,
    /// The ring is set up with SINGLE_ISSUER and DEFER_TASKRUN.
    pub defer_taskrun: bool,
}

/// What a program takes on its command line, beside `--listen` and `--upstream`.
pub struct Program {
    /// All of it, for who got it wrong.
    pub usage: &'static str,
    /// `--splice true`
    pub splice: Splice,
    /// `--defer-taskrun true`: its runtime lets a caller choose the flags of its ring.
    pub has_ring_flags: bool,
}

/// Whether a runtime has a documented way to splice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Splice {
    /// It has.
    Documented,
    /// It has not, and this is what it lacks.
    Missing(&'static str),
}

/// Reads the command line, binds, says `listening ADDR`, and makes SIGTERM an orderly end.
///
/// Exits with 2 for a command line that the program does not take, with `--splice true` where the
/// runtime cannot.
///
/// # Errors
/// What binding answers, or what stands in the way of the descriptor limit or the signal.
pub fn start(program: &Program) -> Result<Started, Box<dyn Error>> {
    let usage = program.usage;
    let mut args = Args::from_env(usage);
    let address = args.required("listen");
    let upstream = args.required("upstream");
    let splice = args.optional("splice").unwrap_or(false);
    let defer_taskrun = program.has_ring_flags && args.optional("defer-taskrun").unwrap_or(false);
    args.finish();
    if let (true, Splice::Missing(why)) = (splice, program.splice) {
        eprintln!("--splice true: {why}\nusage: {usage}");
        process::exit(2);
    }
    end_on_sigterm()?;
    socket::raise_descriptor_limit()?;
    let listener = socket::listen(address)?;
    Ok(Started { listener, upstream, splice, defer_taskrun })
}

/// SIGTERM ends the process with 0, whatever it waits for. Each runtime has its own way to wait for
/// a signal, or none; this one costs all of them the same, nothing.
fn end_on_sigterm() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = exit_at_once;
    // SAFETY: the handler lives as long as the process and calls only what a handler may.
    let before = unsafe { libc::signal(libc::SIGTERM, handler as libc::sighandler_t) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

extern "C" fn exit_at_once(_signal: libc::c_int) {
    // SAFETY: _exit(2) is async-signal-safe and takes no pointer.
    unsafe { libc::_exit(0) };
}
