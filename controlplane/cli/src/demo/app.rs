//! The demo's service: says who it is, after asking another service through the sidecar beside it.
//!
//! Before: the sidecar's inbound listener forwards a request. After: it gets
//! `hello from service1-2 and service2-1`, by which the client counts who answered.

use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::http1::{Message, write_request, write_response};
use crate::arguments::DemoApp;

/// Connections at a time. A sidecar has no more than a few.
const CONNECTIONS_MAX: usize = 256;

/// How an answer begins; who gave it comes after.
pub(super) const GREETING: &str = "hello from ";

/// Serves until the process ends. Says where on stdout.
///
/// # Errors
/// It cannot listen, or nobody hears where.
pub(crate) fn run(app: DemoApp) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    writeln!(io::stdout(), "listening {}", listener.local_addr()?)?;
    let app = Arc::new(app);
    for stream in listener.incoming().flatten() {
        // Each connection holds one, and this loop one.
        if Arc::strong_count(&app) <= CONNECTIONS_MAX {
            let app = Arc::clone(&app);
            // A thread that can't be had closes the connection; what ends one is the peer's affair.
            let _ = thread::Builder::new().spawn(move || serve(&app, stream));
        }
    }
    Ok(())
}

fn serve(app: &DemoApp, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut onward = None;
    while let Some(request) = Message::read(&mut reader)? {
        let answer = match app.calls {
            None => Ok(app.name.clone()),
            Some(sidecar) => call(&mut onward, sidecar, &app.host)
                .map(|other| format!("{} and {other}", app.name)),
        };
        match answer {
            Ok(who) => {
                write_response(reader.get_ref(), "200 OK", &format!("{GREETING}{who}\n"))?;
            }
            Err(error) => {
                let body = format!("{}: {} does not answer: {error}\n", app.name, app.host);
                write_response(reader.get_ref(), "502 Bad Gateway", &body)?;
            }
        }
        if request.is_last() {
            break;
        }
    }
    Ok(())
}

/// Asks `host` through the sidecar, on the connection that is kept if there is one. Returns who answered.
fn call(
    kept: &mut Option<BufReader<TcpStream>>,
    sidecar: SocketAddr,
    host: &str,
) -> io::Result<String> {
    // The sidecar may have closed one that was idle for long; then a GET is sent again.
    let answer = match kept.take() {
        Some(connection) => ask(connection, host).or_else(|_| ask(connect(sidecar)?, host)),
        None => ask(connect(sidecar)?, host),
    };
    let (answer, connection) = answer?;
    *kept = (!answer.is_last()).then_some(connection);
    match answer.status() {
        Some(200) => Ok(answer.body.trim_end().trim_start_matches(GREETING).to_owned()),
        status => Err(io::Error::other(format!("status {}", status.unwrap_or_default()))),
    }
}

fn connect(sidecar: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(sidecar)?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn ask(
    mut connection: BufReader<TcpStream>,
    host: &str,
) -> io::Result<(Message, BufReader<TcpStream>)> {
    write_request(connection.get_ref(), host, "/")?;
    let answer = Message::read(&mut connection)?;
    Ok((answer.ok_or(io::ErrorKind::UnexpectedEof)?, connection))
}
