//! The forwarder on tokio: one thread, a `LocalRuntime`, a task for each client.
//!
//! As tokio's own documentation has it: `new_current_thread` with `spawn_local`, buffers that belong
//! to the task and are read into with `read_buf`, so that nobody has to zero them, and `write_all`.
//! Reads and writes are tried at once and wait for readiness only where they would block. Splicing is `try_io` around splice(2), which is what
//! `try_io` is for.

use std::{error::Error, io, net::TcpListener, os::fd::AsRawFd, rc::Rc};

use lateen_floor::splice::Pipe;
use lateen_runtimes::{
    BUFFER_BYTES, Over, SPLICE_FROM_BYTES,
    message::{Request, Response, cut},
    shared,
    start::{Program, Splice, Started, start},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
    runtime::{Builder, LocalOptions},
    task::spawn_local,
};

const PROGRAM: Program = Program {
    usage: "forward-tokio --listen ADDR --upstream ADDR [--splice true]",
    splice: Splice::Documented,
    has_ring_flags: false,
};

type Shared = shared::Shared<TcpStream>;

fn main() -> Result<(), Box<dyn Error>> {
    let Started { listener, upstream, splice, .. } = start(&PROGRAM)?;
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default())?;
    Ok(runtime.block_on(accept(listener, Shared::new(upstream, splice)))?)
}

async fn accept(listener: TcpListener, shared: Shared) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let shared = Rc::new(shared);
    loop {
        let (client, _) = listener.accept().await?;
        spawn_local(serve(client, shared.clone()));
    }
}

async fn serve(mut client: TcpStream, shared: Rc<Shared>) -> Result<(), Over> {
    // A head that fills it is refused, so that it never grows.
    let mut asked = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let request = loop {
            if let Some(request) = Request::parse(&asked)? {
                break request;
            }
            if client.read_buf(&mut asked).await? == 0 {
                return Ok(());
            }
        };
        let spare = shared.take_buffer();
        let mut answer = spare.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
        exchange(&mut client, &shared, &request, &mut asked, &mut answer).await?;
        answer.clear();
        shared.keep_buffer(answer);
        if request.close {
            return Ok(client.shutdown().await?);
        }
        asked.drain(..request.end);
    }
}

/// From the complete head of a request to the last byte of its response.
async fn exchange(
    client: &mut TcpStream,
    shared: &Shared,
    request: &Request,
    asked: &mut [u8],
    answer: &mut Vec<u8>,
) -> Result<(), Over> {
    let start = cut(&mut asked[..request.end], &request.line);
    let (mut upstream, response) = loop {
        let pooled = shared.take_idle();
        let was_pooled = pooled.is_some();
        let mut upstream = match pooled {
            Some(upstream) => upstream,
            None => connect(shared).await?,
        };
        let message = &asked[start..request.end];
        match ask(client, &mut upstream, request, message, answer).await {
            Ok(response) => break (upstream, response),
            Err(Over) if request.may_ask_again(was_pooled, answer.len()) => {}
            Err(Over) => return Err(Over),
        }
    };
    let start = cut(answer, &response.line);
    client.write_all(&answer[start..]).await?;
    if shared.splice && response.body_left >= SPLICE_FROM_BYTES {
        splice(&upstream, client, response.body_left).await?;
    } else {
        pass(&mut upstream, client, response.body_left, answer).await?;
    }
    if response.reusable {
        shared.keep_idle(upstream);
    }
    Ok(())
}

async fn connect(shared: &Shared) -> io::Result<TcpStream> {
    let upstream = TcpStream::connect(shared.upstream).await?;
    upstream.set_nodelay(true)?;
    Ok(upstream)
}

/// Sends the request and reads the response's head, with what comes along of its body.
async fn ask(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    request: &Request,
    message: &[u8],
    answer: &mut Vec<u8>,
) -> Result<Response, Over> {
    upstream.write_all(message).await?;
    pass(client, upstream, request.body_left, answer).await?;
    answer.clear();
    loop {
        if upstream.read_buf(answer).await? == 0 {
            return Err(Over);
        }
        if let Some(response) = Response::parse(answer, request.without_body)? {
            return Ok(response);
        }
    }
}

/// Copies `left` bytes of a body through a buffer whose bytes are not needed any more.
async fn pass(
    source: &mut TcpStream,
    sink: &mut TcpStream,
    mut left: u64,
    buffer: &mut Vec<u8>,
) -> Result<(), Over> {
    while left > 0 {
        buffer.clear();
        let count = (&mut *source).take(left).read_buf(buffer).await?;
        if count == 0 {
            return Err(Over);
        }
        sink.write_all(buffer).await?;
        left -= count as u64;
    }
    Ok(())
}

/// Moves `left` bytes of a body without copying them.
async fn splice(source: &TcpStream, sink: &TcpStream, mut left: u64) -> Result<(), Over> {
    let mut pipe = Pipe::new()?;
    while left > 0 {
        source.readable().await?;
        let fill = || pipe.fill(source.as_raw_fd(), left);
        match source.try_io(Interest::READABLE, fill) {
            Ok(0) => return Err(Over),
            Ok(count) => left -= count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return Err(Over),
        }
        while pipe.held_bytes() > 0 {
            sink.writable().await?;
            match sink.try_io(Interest::WRITABLE, || pipe.drain(sink.as_raw_fd())) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(Over),
                _ => {}
            }
        }
    }
    Ok(())
}
