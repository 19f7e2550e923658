//! The forwarder on compio: its io_uring driver, a task for each client.
//!
//! Receives take their memory from compio's buffer pool, which is what its documentation offers for
//! sockets that wait: a client's are a multishot stream (`read_multi`), an upstream's are one at a
//! time (`read_managed`), for a stream borrows its socket and could not idle in a pool with it. The
//! ring has the two flags that the documentation says help most programs, or, with `--defer-taskrun
//! true`, those of a newer kernel.

use std::{error::Error, io, net::TcpListener, num::NonZero, pin::pin, rc::Rc};

use compio::{
    buf::{self, BufResult},
    driver::{BufferRef, ProactorBuilder},
    io::{AsyncReadManaged, AsyncReadMulti, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    runtime::{RuntimeBuilder, spawn},
};
use futures_lite::{Stream, StreamExt};
use lateen_runtimes::{
    BUFFER_BYTES, Over,
    message::{Request, Response, cut},
    shared,
    start::{Program, Splice, Started, start},
};

const PROGRAM: Program = Program {
    usage: "forward-compio --listen ADDR --upstream ADDR [--defer-taskrun true]",
    splice: Splice::Missing("compio's sockets have no splice"),
    has_ring_flags: true,
};

/// As many as `lateen-ring` reserves. They are memory once they were received into.
const BUFFERS: NonZero<u16> = NonZero::new(2048).expect("not zero");

type Shared = shared::Shared<TcpStream>;

fn main() -> Result<(), Box<dyn Error>> {
    let Started { listener, upstream, splice, defer_taskrun } = start(&PROGRAM)?;
    let mut driver = ProactorBuilder::new();
    driver.buffer_pool_size(BUFFERS).buffer_pool_buffer_len(BUFFER_BYTES);
    if defer_taskrun {
        driver.single_issuer(true).defer_taskrun(true);
    } else {
        driver.coop_taskrun(true).taskrun_flag(true);
    }
    let runtime = RuntimeBuilder::new().with_proactor(driver).build()?;
    Ok(runtime.block_on(accept(listener, Shared::new(upstream, splice)))?)
}

async fn accept(listener: TcpListener, shared: Shared) -> io::Result<()> {
    let listener = compio::net::TcpListener::from_std(listener)?;
    let shared = Rc::new(shared);
    loop {
        let (client, _) = listener.accept().await?;
        spawn(serve(client, shared.clone())).detach();
    }
}

async fn serve(client: TcpStream, shared: Rc<Shared>) -> Result<(), Over> {
    let mut source = &client;
    let mut incoming = pin!(source.read_multi(0));
    let mut kept = Vec::new();
    loop {
        let Some((request, message)) = receive_request(&mut incoming, &mut kept, &shared).await?
        else {
            return Ok(());
        };
        let (mut upstream, response, bytes) =
            ask_someone(&shared, &request, message, &mut incoming, &mut kept).await?;
        send_answer(&client, &response, bytes).await?;
        pass_response(&mut upstream, &client, response.body_left).await?;
        if response.reusable {
            shared.keep_idle(upstream);
        }
        if request.close {
            return Ok((&client).shutdown().await?);
        }
    }
}

/// The next request, and what is to be sent on of it; `None` when the client is gone. What is
/// pipelined behind it is kept.
async fn receive_request(
    incoming: &mut (impl Stream<Item = io::Result<BufferRef>> + Unpin),
    kept: &mut Vec<u8>,
    shared: &Shared,
) -> Result<Option<(Request, Vec<u8>)>, Over> {
    loop {
        if !kept.is_empty()
            && let Some(request) = Request::parse(kept)?
        {
            let message = message_of(&request, kept, shared);
            kept.drain(..request.end);
            return Ok(Some((request, message)));
        }
        let Some(received) = next_bytes(incoming).await? else { return Ok(None) };
        // Bytes are parsed where they arrived, unless others are kept before them.
        if kept.is_empty()
            && let Some(request) = Request::parse(&received)?
        {
            let message = message_of(&request, &received, shared);
            kept.extend_from_slice(&received[request.end..]);
            return Ok(Some((request, message)));
        }
        kept.extend_from_slice(&received);
    }
}

/// A copy, so that the pool's buffer goes back before anything is waited for, and the request can be
/// sent again.
fn message_of(request: &Request, bytes: &[u8], shared: &Shared) -> Vec<u8> {
    let mut message = shared.take_buffer().unwrap_or_default();
    message.clear();
    message.extend_from_slice(&bytes[..request.line.start]);
    message.extend_from_slice(&bytes[request.line.end..request.end]);
    message
}

/// `None` is the end of the stream.
async fn next_bytes(
    incoming: &mut (impl Stream<Item = io::Result<BufferRef>> + Unpin),
) -> io::Result<Option<BufferRef>> {
    let received = incoming.next().await.transpose()?;
    Ok(received.filter(|bytes| !bytes.is_empty()))
}

/// The response's head, with what came along of its body, from an upstream that answers.
async fn ask_someone(
    shared: &Shared,
    request: &Request,
    mut message: Vec<u8>,
    incoming: &mut (impl Stream<Item = io::Result<BufferRef>> + Unpin),
    kept: &mut Vec<u8>,
) -> Result<(TcpStream, Response, Answer), Over> {
    loop {
        let pooled = shared.take_idle();
        let was_pooled = pooled.is_some();
        let mut upstream = match pooled {
            Some(upstream) => upstream,
            None => connect(shared).await?,
        };
        let mut answered = 0;
        let BufResult(result, buffer) = upstream.write_all(message).await;
        message = buffer;
        let answer = async {
            result?;
            pass_request(incoming, kept, &mut upstream, request.body_left).await?;
            receive_answer(&mut upstream, request, &mut answered).await
        };
        match answer.await {
            Ok((response, answer)) => {
                shared.keep_buffer(message);
                return Ok((upstream, response, answer));
            }
            Err(Over) if request.may_ask_again(was_pooled, answered) => {}
            Err(Over) => return Err(Over),
        }
    }
}

async fn connect(shared: &Shared) -> io::Result<TcpStream> {
    let upstream = TcpStream::connect(shared.upstream).await?;
    upstream.set_nodelay(true)?;
    Ok(upstream)
}

/// Where a response's first bytes are.
enum Answer {
    /// In the buffer that they arrived in.
    Pooled(BufferRef),
    /// Put together, because its head came in pieces.
    Joined(Vec<u8>),
}

async fn receive_answer(
    upstream: &mut TcpStream,
    request: &Request,
    answered: &mut usize,
) -> Result<(Response, Answer), Over> {
    let mut joined = Vec::new();
    loop {
        let buffer = upstream.read_managed(0).await?.ok_or(Over)?;
        *answered += buffer.len();
        if joined.is_empty()
            && let Some(response) = Response::parse(&buffer, request.without_body)?
        {
            return Ok((response, Answer::Pooled(buffer)));
        }
        joined.extend_from_slice(&buffer);
        if let Some(response) = Response::parse(&joined, request.without_body)? {
            return Ok((response, Answer::Joined(joined)));
        }
    }
}

async fn send_answer(
    mut client: &TcpStream,
    response: &Response,
    answer: Answer,
) -> io::Result<()> {
    match answer {
        Answer::Pooled(mut bytes) => {
            let start = cut(&mut bytes, &response.line);
            client.write_all(buf::IoBuf::slice(bytes, start..)).await.0
        }
        Answer::Joined(mut bytes) => {
            let start = cut(&mut bytes, &response.line);
            client.write_all(buf::IoBuf::slice(bytes, start..)).await.0
        }
    }
}

/// Passes on `left` bytes of a request's body; what comes behind it is kept.
async fn pass_request(
    incoming: &mut (impl Stream<Item = io::Result<BufferRef>> + Unpin),
    kept: &mut Vec<u8>,
    upstream: &mut TcpStream,
    mut left: u64,
) -> Result<(), Over> {
    while left > 0 {
        let buffer = next_bytes(incoming).await?.ok_or(Over)?;
        let count = left.min(buffer.len() as u64) as usize;
        kept.extend_from_slice(&buffer[count..]);
        upstream.write_all(buf::IoBuf::slice(buffer, ..count)).await.0?;
        left -= count as u64;
    }
    Ok(())
}

/// Copies `left` bytes of a response's body.
async fn pass_response(
    upstream: &mut TcpStream,
    mut client: &TcpStream,
    mut left: u64,
) -> Result<(), Over> {
    while left > 0 {
        let window = left.min(BUFFER_BYTES as u64) as usize;
        let buffer = upstream.read_managed(window).await?.ok_or(Over)?;
        left -= buffer.len() as u64;
        client.write_all(buffer).await.0?;
    }
    Ok(())
}
