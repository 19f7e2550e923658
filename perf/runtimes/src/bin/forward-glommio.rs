//! The forwarder on glommio: one `LocalExecutor`, not pinned to a CPU, a task for each client.
//!
//! glommio's `TcpStream` tries recv(2) and send(2) at once and submits a poll to its ring where they
//! would block; there is no splice in it. It is read from through `AsyncRead`, into the task's own
//! buffer: `buffered()` would put a second one, and a copy, before it.

use std::{
    error::Error,
    io,
    net::{Shutdown, TcpListener},
    os::fd::{FromRawFd, IntoRawFd},
    rc::Rc,
};

use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
use glommio::{LocalExecutorBuilder, Placement, net::TcpStream, spawn_local};
use lateen_runtimes::{
    Over,
    buffer::Buffer,
    message::{Request, Response, cut},
    shared,
    start::{Program, Splice, Started, start},
};

const PROGRAM: Program = Program {
    usage: "forward-glommio --listen ADDR --upstream ADDR",
    splice: Splice::Missing("glommio's sockets have no splice"),
    has_ring_flags: false,
};

type Shared = shared::Shared<TcpStream, Buffer>;

fn main() -> Result<(), Box<dyn Error>> {
    let Started { listener, upstream, splice, .. } = start(&PROGRAM)?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make()?;
    Ok(executor.run(accept(listener, Shared::new(upstream, splice)))?)
}

async fn accept(listener: TcpListener, shared: Shared) -> io::Result<()> {
    // glommio's own `bind` listens with a backlog of 128, which a row of 512 clients overflows.
    // SAFETY: the descriptor listens, and has no other owner any more.
    let listener = unsafe { glommio::net::TcpListener::from_raw_fd(listener.into_raw_fd()) };
    let shared = Rc::new(shared);
    loop {
        let client = listener.accept().await?;
        spawn_local(serve(client, shared.clone())).detach();
    }
}

async fn serve(mut client: TcpStream, shared: Rc<Shared>) -> Result<(), Over> {
    let mut asked = Buffer::default();
    loop {
        let request = loop {
            if let Some(request) = Request::parse(asked.bytes())? {
                break request;
            }
            match client.read(asked.free()).await? {
                0 => return Ok(()),
                count => asked.fill(count),
            }
        };
        let mut answer = shared.take_buffer().unwrap_or_default();
        exchange(&mut client, &shared, &request, &mut asked, &mut answer).await?;
        answer.consume(answer.len());
        shared.keep_buffer(answer);
        if request.close {
            return client.shutdown(Shutdown::Write).await.map_err(|_| Over);
        }
        asked.consume(request.end);
    }
}

/// From the complete head of a request to the last byte of its response.
async fn exchange(
    client: &mut TcpStream,
    shared: &Shared,
    request: &Request,
    asked: &mut Buffer,
    answer: &mut Buffer,
) -> Result<(), Over> {
    let start = cut(&mut asked.bytes()[..request.end], &request.line);
    let (mut upstream, response) = loop {
        let pooled = shared.take_idle();
        let was_pooled = pooled.is_some();
        let mut upstream = match pooled {
            Some(upstream) => upstream,
            None => connect(shared).await?,
        };
        let message = &asked.bytes()[start..request.end];
        match ask(client, &mut upstream, request, message, answer).await {
            Ok(response) => break (upstream, response),
            Err(Over) if request.may_ask_again(was_pooled, answer.len()) => {}
            Err(Over) => return Err(Over),
        }
    };
    let start = cut(answer.bytes(), &response.line);
    client.write_all(&answer.bytes()[start..]).await?;
    pass(&mut upstream, client, response.body_left, answer).await?;
    if response.reusable {
        shared.keep_idle(upstream);
    }
    Ok(())
}

async fn connect(shared: &Shared) -> Result<TcpStream, Over> {
    let upstream = TcpStream::connect(shared.upstream).await.map_err(|_| Over)?;
    upstream.set_nodelay(true).map_err(|_| Over)?;
    Ok(upstream)
}

/// Sends the request and reads the response's head, with what comes along of its body.
async fn ask(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    request: &Request,
    message: &[u8],
    answer: &mut Buffer,
) -> Result<Response, Over> {
    upstream.write_all(message).await?;
    pass(client, upstream, request.body_left, answer).await?;
    loop {
        match upstream.read(answer.free()).await? {
            0 => return Err(Over),
            count => answer.fill(count),
        }
        if let Some(response) = Response::parse(answer.bytes(), request.without_body)? {
            return Ok(response);
        }
    }
}

/// Copies `left` bytes of a body through a buffer whose bytes are not needed any more.
async fn pass(
    source: &mut TcpStream,
    sink: &mut TcpStream,
    mut left: u64,
    buffer: &mut Buffer,
) -> Result<(), Over> {
    while left > 0 {
        let window = buffer.window(left);
        let count = source.read(window).await?;
        if count == 0 {
            return Err(Over);
        }
        sink.write_all(&window[..count]).await?;
        left -= count as u64;
    }
    Ok(())
}
