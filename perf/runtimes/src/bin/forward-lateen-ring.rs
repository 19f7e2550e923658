//! The forwarder on lateen-ring, used as `lateen-proxy` uses it.
//!
//! Clients receive by multishot into leased buffers. An upstream does too once its responses were
//! short; before that, and where bodies are long, one receive at a time, so that the rest stays in
//! the socket and can be spliced. An idle upstream has a receive armed, which tells when it closed.
//! A request is sent as a vector that is given back, should it have to be sent again; a response is
//! sent in the lease it arrived in. Sends are started and waited for only where the next one, or the
//! end, needs them done.

use std::{error::Error, net::TcpListener, rc::Rc};

use lateen_ring::{
    Address, Chunk, Config, EngineChoice, Lease, Listener, Moved, Runtime, Spliced, Stream,
    keep_vector, spare_vector, spawn, splice,
};
use lateen_runtimes::{
    BUFFER_BYTES, Over, SPLICE_FROM_BYTES,
    message::{Request, Response},
    shared,
    start::{Program, Splice, Started, start},
};

const PROGRAM: Program = Program {
    usage: "forward-lateen-ring --listen ADDR --upstream ADDR [--splice true]",
    splice: Splice::Documented,
    has_ring_flags: false,
};

type Shared = shared::Shared<Stream>;

fn main() -> Result<(), Box<dyn Error>> {
    let Started { listener, upstream, splice, .. } = start(&PROGRAM)?;
    let config =
        Config { engine: EngineChoice::Uring, buffer_bytes: BUFFER_BYTES, ..Config::default() };
    let mut runtime = Runtime::new(&config)?;
    Ok(runtime.block_on(accept(listener, Shared::new(upstream, splice)))?)
}

async fn accept(listener: TcpListener, shared: Shared) -> std::io::Result<()> {
    let listener = Listener::from_fd(listener.into())?;
    let shared = Rc::new(shared);
    loop {
        let client = listener.accept().await?;
        let shared = shared.clone();
        spawn(async move {
            let _ended = serve(client, shared).await;
        });
    }
}

async fn serve(client: Stream, shared: Rc<Shared>) -> Result<(), Over> {
    client.set_multishot(true);
    let mut kept = Vec::new();
    loop {
        let Some((request, message)) = receive_request(&client, &mut kept).await? else {
            return Ok(());
        };
        let (upstream, response, answer) =
            ask_someone(&client, &shared, &request, message, &mut kept).await?;
        let is_short = response.body_left == 0;
        send(&client, without_line(&response, answer)).await?;
        if shared.splice && response.body_left >= SPLICE_FROM_BYTES {
            splice_response(&upstream, &client, response.body_left).await?;
        } else {
            pass_response(&upstream, &client, response.body_left).await?;
        }
        if response.reusable {
            upstream.set_multishot(is_short);
            upstream.arm_recv();
            shared.keep_idle(upstream);
        }
        if request.close {
            // Dropping the stream would cancel what is still being sent.
            return Ok(client.flush().await?);
        }
    }
}

/// The next request, and what is to be sent on of it; `None` when the client is gone. What is
/// pipelined behind it is kept.
async fn receive_request(
    client: &Stream,
    kept: &mut Vec<u8>,
) -> Result<Option<(Request, Vec<u8>)>, Over> {
    loop {
        if !kept.is_empty()
            && let Some(request) = Request::parse(kept)?
        {
            let message = message_of(&request, kept);
            kept.drain(..request.end);
            return Ok(Some((request, message)));
        }
        let Some(received) = client.recv().await? else { return Ok(None) };
        // Bytes are parsed where they arrived, unless others are kept before them.
        if kept.is_empty()
            && let Some(request) = Request::parse(&received)?
        {
            let message = message_of(&request, &received);
            kept.extend_from_slice(&received[request.end..]);
            return Ok(Some((request, message)));
        }
        kept.extend_from_slice(&received);
    }
}

fn message_of(request: &Request, bytes: &[u8]) -> Vec<u8> {
    let mut message = spare_vector();
    message.extend_from_slice(&bytes[..request.line.start]);
    message.extend_from_slice(&bytes[request.line.end..request.end]);
    message
}

/// The response's head, with what came along of its body, from an upstream that answers.
async fn ask_someone(
    client: &Stream,
    shared: &Shared,
    request: &Request,
    mut message: Vec<u8>,
    kept: &mut Vec<u8>,
) -> Result<(Stream, Response, Chunk), Over> {
    loop {
        // One that was closed, or spoke unasked, is no good.
        let pooled = shared.take_idle();
        if pooled.as_ref().is_some_and(Stream::has_news) {
            continue;
        }
        let was_pooled = pooled.is_some();
        let upstream = match pooled {
            Some(upstream) => upstream,
            None => Stream::connect(&Address::from(shared.upstream)).await?,
        };
        let (_, given_back) = upstream.start_send_kept(message);
        message = given_back;
        let mut answered = 0;
        let answer = async {
            pass_request(client, kept, &upstream, request.body_left).await?;
            receive_answer(&upstream, request, &mut answered).await
        };
        match answer.await {
            Ok((response, answer)) => {
                keep_vector(message);
                return Ok((upstream, response, answer));
            }
            Err(Over) if request.may_ask_again(was_pooled, answered) => {}
            Err(Over) => return Err(Over),
        }
    }
}

async fn receive_answer(
    upstream: &Stream,
    request: &Request,
    answered: &mut usize,
) -> Result<(Response, Chunk), Over> {
    let mut joined = Vec::new();
    loop {
        let received = upstream.recv().await?.ok_or(Over)?;
        *answered += received.len();
        if joined.is_empty()
            && let Some(response) = Response::parse(&received, request.without_body)?
        {
            return Ok((response, Chunk::Lease(received)));
        }
        joined.extend_from_slice(&received);
        if let Some(response) = Response::parse(&joined, request.without_body)? {
            return Ok((response, Chunk::Vector(joined)));
        }
    }
}

/// A lease cannot be written to: where a line has to go, what is left is copied.
fn without_line(response: &Response, answer: Chunk) -> Chunk {
    let bytes: &[u8] = match &answer {
        Chunk::Lease(_) if response.line.is_empty() => return answer,
        Chunk::Lease(lease) => lease,
        Chunk::Vector(vector) => vector,
        Chunk::Static(bytes) => bytes,
    };
    let mut message = spare_vector();
    message.extend_from_slice(&bytes[..response.line.start]);
    message.extend_from_slice(&bytes[response.line.end..]);
    Chunk::Vector(message)
}

/// Starts a send, after the one before it is done.
async fn send(stream: &Stream, chunk: Chunk) -> Result<(), Over> {
    if stream.is_sending() {
        stream.flush().await?;
    }
    stream.start_send([Some(chunk), None, None]);
    Ok(())
}

/// Passes on `left` bytes of a request's body; what comes behind it is kept.
async fn pass_request(
    client: &Stream,
    kept: &mut Vec<u8>,
    upstream: &Stream,
    mut left: u64,
) -> Result<(), Over> {
    while left > 0 {
        let mut received: Lease = client.recv().await?.ok_or(Over)?;
        let count = left.min(received.len() as u64) as usize;
        kept.extend_from_slice(&received[count..]);
        received.truncate(count);
        send(upstream, Chunk::Lease(received)).await?;
        left -= count as u64;
    }
    Ok(())
}

/// Copies `left` bytes of a response's body.
async fn pass_response(upstream: &Stream, client: &Stream, mut left: u64) -> Result<(), Over> {
    while left > 0 {
        let received = upstream.recv().await?.ok_or(Over)?;
        left = left.checked_sub(received.len() as u64).ok_or(Over)?;
        send(client, Chunk::Lease(received)).await?;
    }
    Ok(())
}

/// Moves `left` bytes of a response's body without copying them, but for those that were received
/// already.
async fn splice_response(upstream: &Stream, client: &Stream, mut left: u64) -> Result<(), Over> {
    upstream.recv_stop().await;
    while let Some(received) = upstream.try_recv() {
        left = left.checked_sub(received.len() as u64).ok_or(Over)?;
        send(client, Chunk::Lease(received)).await?;
    }
    client.flush().await?;
    let moved = Moved::default();
    match splice(upstream, client, left, false, &moved).await {
        Spliced::Done => Ok(()),
        Spliced::NoPipe => pass_response(upstream, client, left - moved.given()).await,
        _ => Err(Over),
    }
}
