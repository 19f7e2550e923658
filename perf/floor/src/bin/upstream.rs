//! The upstream of a measurement: fixed responses, quick enough not to be what is measured.
//!
//! `GET /N` is answered with N bytes of body for N = 100, 65536 and 1048576, any other path with
//! 404. A request is read up to its empty line; it may have no body. With `--close-every N` each
//! N-th response of a connection says `Connection: close`, and the connection ends after it.

use std::{collections::HashMap, error::Error};

use lateen_floor::{
    args::Args,
    leases::Lease,
    net::{Bytes, Ending, Net, Program, SocketId},
    socket,
};

const USAGE: &str = "upstream --listen ADDR [--close-every N]";

/// The body sizes of the measurement's rows, in bytes.
const BODY_SIZES: [usize; 3] = [100, 65_536, 1_048_576];

/// A head without its end is kept up to this many bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::from_env(USAGE);
    let address = args.required("listen");
    let close_every = args.optional("close-every").unwrap_or(u64::MAX);
    args.finish();
    socket::raise_descriptor_limit()?;
    let listener = socket::listen(address)?;
    Net::new(None)?.run(&listener, &mut Upstream::new(close_every))?;
    Ok(())
}

struct Upstream {
    close_every: u64,
    /// By path: the response that keeps the connection, and the one that ends it.
    responses: HashMap<String, [&'static [u8]; 2]>,
    not_found: &'static [u8],
    connections: Vec<Connection>,
}

#[derive(Default)]
struct Connection {
    answered: u64,
    finishing: bool,
    head: Vec<u8>,
}

impl Upstream {
    fn new(close_every: u64) -> Self {
        let responses = BODY_SIZES.map(|size| {
            let keep = response("200 OK", "", &vec![b'x'; size]);
            let close = response("200 OK", "Connection: close\r\n", &vec![b'x'; size]);
            (format!("/{size}"), [keep, close])
        });
        Self {
            close_every,
            responses: responses.into(),
            not_found: response("404 Not Found", "", b""),
            connections: Vec::new(),
        }
    }

    fn answer(&mut self, net: &mut Net, socket: SocketId, head: &[u8]) {
        let connection = &mut self.connections[socket as usize];
        connection.answered += 1;
        connection.finishing = connection.answered.is_multiple_of(self.close_every);
        let path =
            head.split(|&byte| byte == b' ').nth(1).and_then(|path| str::from_utf8(path).ok());
        let response = path
            .and_then(|path| self.responses.get(path))
            .map_or(self.not_found, |pair| pair[usize::from(connection.finishing)]);
        net.send(socket, Bytes::Fixed(response));
        if connection.finishing {
            net.finish(socket);
        }
    }
}

impl Program for Upstream {
    fn accepted(&mut self, _net: &mut Net, socket: SocketId) {
        let index = socket as usize;
        if index >= self.connections.len() {
            self.connections.resize_with(index + 1, Connection::default);
        }
        self.connections[index] = Connection::default();
    }

    fn received(&mut self, net: &mut Net, socket: SocketId, lease: Lease) {
        let mut bytes = std::mem::take(&mut self.connections[socket as usize].head);
        bytes.extend_from_slice(net.bytes(&lease));
        net.give_back(lease);
        let mut rest = &bytes[..];
        while let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
            if self.connections[socket as usize].finishing {
                break;
            }
            self.answer(net, socket, &rest[..end]);
            rest = &rest[end + 4..];
        }
        if rest.len() > HEAD_BYTES_MAX {
            net.close(socket);
            return;
        }
        let consumed = bytes.len() - rest.len();
        bytes.drain(..consumed);
        // The (mostly empty) vector goes back, so that its memory is used again.
        self.connections[socket as usize].head = bytes;
    }

    fn ended(&mut self, net: &mut Net, socket: SocketId, _ending: Ending) {
        net.close(socket);
    }
}

fn response(status: &str, fields: &str, body: &[u8]) -> &'static [u8] {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n{fields}\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes.leak()
}
