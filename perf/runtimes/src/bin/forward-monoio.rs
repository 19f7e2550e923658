//! The forwarder on monoio: its io_uring driver, a task for each client.
//!
//! As its documentation has it: buffers are rented to each operation and come back with its result,
//! `IoUringDriver` is named so that nothing falls back. The ring has monoio's own flags, which are
//! none, unless `--defer-taskrun true` asks for what a newer ring would have.
//!
//! monoio's splice is IORING_OP_SPLICE. Its `zero_copy` moves 4 KiB at a time until the stream ends;
//! a body has a length, so that the operations below it are used, with as much as a pipe takes.

use std::{error::Error, io, net::TcpListener, rc::Rc};

use io_uring_of_monoio::IoUring;
use lateen_runtimes::{
    BUFFER_BYTES, Over, SPLICE_FROM_BYTES,
    message::{Request, Response, cut},
    shared,
    start::{Program, Splice, Started, start},
};
use monoio::{
    BufResult, IoUringDriver, RuntimeBuilder,
    buf::{IoBuf, IoBufMut},
    io::{
        AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt,
        splice::{SpliceDestination, SpliceSource},
    },
    net::{TcpStream, unix::new_pipe},
};

const PROGRAM: Program = Program {
    usage: "forward-monoio --listen ADDR --upstream ADDR [--splice true] [--defer-taskrun true]",
    splice: Splice::Documented,
    has_ring_flags: true,
};

/// What a pipe holds when nobody asks for more, and monoio's cannot be asked.
const PIPE_BYTES: u64 = 64 * 1024;

type Shared = shared::Shared<TcpStream>;

fn main() -> Result<(), Box<dyn Error>> {
    let Started { listener, upstream, splice, defer_taskrun } = start(&PROGRAM)?;
    let mut builder = RuntimeBuilder::<IoUringDriver>::new();
    if defer_taskrun {
        let mut flags = IoUring::builder();
        flags.setup_single_issuer().setup_defer_taskrun();
        builder = builder.uring_builder(flags);
    }
    Ok(builder.build()?.block_on(accept(listener, Shared::new(upstream, splice)))?)
}

async fn accept(listener: TcpListener, shared: Shared) -> io::Result<()> {
    let listener = monoio::net::TcpListener::from_std(listener)?;
    let shared = Rc::new(shared);
    loop {
        let (client, _) = listener.accept().await?;
        monoio::spawn(serve(client, shared.clone()));
    }
}

/// A buffer on its way round: operations take it and give it back.
fn empty_buffer(shared: &Shared) -> Vec<u8> {
    let mut buffer = shared.take_buffer().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
    buffer.clear();
    buffer
}

async fn serve(mut client: TcpStream, shared: Rc<Shared>) -> Result<(), Over> {
    let mut asked = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let request = loop {
            if let Some(request) = Request::parse(&asked)? {
                break request;
            }
            let result;
            (result, asked) = read_more(&mut client, asked).await;
            if result? == 0 {
                return Ok(());
            }
        };
        let close = request.close;
        let end = request.end;
        asked = exchange(&mut client, &shared, request, asked).await?;
        if close {
            return Ok(client.shutdown().await?);
        }
        asked.drain(..end);
    }
}

/// From the complete head of a request to the last byte of its response; gives `asked` back.
async fn exchange(
    client: &mut TcpStream,
    shared: &Shared,
    request: Request,
    mut asked: Vec<u8>,
) -> Result<Vec<u8>, Over> {
    let start = cut(&mut asked[..request.end], &request.line);
    let mut answer = empty_buffer(shared);
    let (mut upstream, response) = loop {
        let pooled = shared.take_idle();
        let was_pooled = pooled.is_some();
        let mut upstream = match pooled {
            Some(upstream) => upstream,
            None => connect(shared).await?,
        };
        let sent;
        let message = asked.slice(start..request.end);
        let (result, message) = upstream.write_all(message).await;
        asked = message.into_inner();
        (sent, answer) = if result.is_ok() {
            ask(client, &mut upstream, &request, answer).await
        } else {
            (Err(Over), answer)
        };
        match sent {
            Ok(response) => break (upstream, response),
            Err(Over) if request.may_ask_again(was_pooled, answer.len()) => {}
            Err(Over) => return Err(Over),
        }
    };
    let start = cut(&mut answer, &response.line);
    let (sent, message) = client.write_all(answer.slice(start..)).await;
    answer = message.into_inner();
    sent?;
    if shared.splice && response.body_left >= SPLICE_FROM_BYTES {
        splice(&mut upstream, client, response.body_left).await?;
    } else {
        answer = pass(&mut upstream, client, response.body_left, answer).await?;
    }
    if response.reusable {
        shared.keep_idle(upstream);
    }
    shared.keep_buffer(answer);
    Ok(asked)
}

async fn connect(shared: &Shared) -> io::Result<TcpStream> {
    let upstream = TcpStream::connect_addr(shared.upstream).await?;
    upstream.set_nodelay(true)?;
    Ok(upstream)
}

/// Passes the request's body on and reads the response's head, with what comes along of its body.
async fn ask(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    request: &Request,
    mut answer: Vec<u8>,
) -> (Result<Response, Over>, Vec<u8>) {
    if request.body_left > 0 {
        match pass(client, upstream, request.body_left, answer).await {
            Ok(buffer) => answer = buffer,
            Err(over) => return (Err(over), Vec::new()),
        }
        answer.clear();
    }
    loop {
        let result;
        (result, answer) = read_more(upstream, answer).await;
        if !matches!(result, Ok(1..)) {
            return (Err(Over), answer);
        }
        match Response::parse(&answer, request.without_body) {
            Ok(Some(response)) => return (Ok(response), answer),
            Ok(None) => {}
            Err(over) => return (Err(over), answer),
        }
    }
}

/// Reads behind what `buffer` holds; 0 is the end of the stream.
async fn read_more(stream: &mut TcpStream, buffer: Vec<u8>) -> BufResult<usize, Vec<u8>> {
    let filled = buffer.len();
    let (result, slice) = stream.read(buffer.slice_mut(filled..)).await;
    (result, slice.into_inner())
}

/// Copies `left` bytes of a body through a buffer whose bytes are not needed any more.
async fn pass(
    source: &mut TcpStream,
    sink: &mut TcpStream,
    mut left: u64,
    mut buffer: Vec<u8>,
) -> Result<Vec<u8>, Over> {
    while left > 0 {
        let window = left.min(BUFFER_BYTES as u64) as usize;
        let (result, slice) = source.read(buffer.slice_mut(..window)).await;
        let count = result?;
        if count == 0 {
            return Err(Over);
        }
        let (result, slice) = sink.write_all(slice.into_inner().slice(..count)).await;
        result?;
        buffer = slice.into_inner();
        left -= count as u64;
    }
    Ok(buffer)
}

/// Moves `left` bytes of a body without copying them.
async fn splice(source: &mut TcpStream, sink: &mut TcpStream, mut left: u64) -> Result<(), Over> {
    let (mut reader, mut writer) = new_pipe()?;
    while left > 0 {
        let wanted = left.min(PIPE_BYTES) as u32;
        let mut held = source.splice_to_pipe(&mut writer, wanted).await?;
        if held == 0 {
            return Err(Over);
        }
        left -= u64::from(held);
        while held > 0 {
            held -= sink.splice_from_pipe(&mut reader, held).await?;
        }
    }
    Ok(())
}
