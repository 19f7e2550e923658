//! The smallest honest HTTP/1 forwarder: parses both heads, pools upstream connections, and sends
//! the bytes on unchanged but for the `Connection` line, which concerns one hop.
//!
//! ```text
//! client bytes ─► request head whole? ─► pooled or new upstream ─► request bytes sent on
//! client ◄─ response bytes sent on ◄─ response framing known ◄─ upstream bytes
//!              └─ last byte: upstream back to the pool, next pipelined request, or FIN
//! ```
//!
//! What it leaves out is what a proxy adds: validation, timeouts, limits, retries, forwarding
//! fields, metrics, logs, chunked bodies. A request that fails is answered by closing.

use std::error::Error;

use lateen_floor::{
    args::Args,
    head::{Head, parse_request, parse_response},
    leases::Lease,
    net::{Bytes, Ending, Net, Program, SocketId},
    socket,
};

const USAGE: &str = "floor --listen ADDR --upstream ADDR";

/// A head without its end, or pipelined bytes, are kept up to this many bytes.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::from_env(USAGE);
    let address = args.required("listen");
    let upstream = args.required("upstream");
    args.finish();
    socket::raise_descriptor_limit()?;
    let listener = socket::listen(address)?;
    Net::new(Some(upstream))?.run(&listener, &mut Floor::default())?;
    Ok(())
}

#[derive(Default)]
struct Floor {
    peers: Vec<Peer>,
    pool: Vec<SocketId>,
}

#[derive(Default)]
enum Peer {
    #[default]
    Gone,
    Client(Client),
    Upstream(Upstream),
}

#[derive(Default)]
struct Client {
    upstream: Option<SocketId>,
    /// Body bytes of the request under way that are still to come.
    request_left: u64,
    /// This request is the connection's last.
    close: bool,
    /// The beginning of a head, or what was pipelined behind a request.
    kept: Vec<u8>,
}

#[derive(Default)]
struct Upstream {
    client: Option<SocketId>,
    /// Body bytes still to come once the head was seen; `u64::MAX` up to the end of the stream.
    response_left: Option<u64>,
    without_body: bool,
    reusable: bool,
    /// The beginning of a response head.
    kept: Vec<u8>,
}

impl Program for Floor {
    fn accepted(&mut self, _net: &mut Net, socket: SocketId) {
        *self.slot(socket) = Peer::Client(Client::default());
    }

    fn received(&mut self, net: &mut Net, socket: SocketId, lease: Lease) {
        match self.slot(socket) {
            Peer::Client(client) if client.upstream.is_some() => {
                self.continue_request(net, socket, lease);
            }
            Peer::Client(client) if client.kept.is_empty() => {
                self.start_request(net, socket, Bytes::Leased(lease));
            }
            Peer::Client(client) => {
                let mut bytes = std::mem::take(&mut client.kept);
                bytes.extend_from_slice(net.bytes(&lease));
                net.give_back(lease);
                self.start_request(net, socket, Bytes::Owned(bytes, 0));
            }
            Peer::Upstream(upstream) if upstream.kept.is_empty() => {
                self.forward_response(net, socket, Bytes::Leased(lease));
            }
            Peer::Upstream(upstream) => {
                let mut bytes = std::mem::take(&mut upstream.kept);
                bytes.extend_from_slice(net.bytes(&lease));
                net.give_back(lease);
                self.forward_response(net, socket, Bytes::Owned(bytes, 0));
            }
            Peer::Gone => net.give_back(lease),
        }
    }

    fn ended(&mut self, net: &mut Net, socket: SocketId, ending: Ending) {
        match self.slot(socket) {
            Peer::Client(_) => self.drop_client(net, socket),
            Peer::Upstream(upstream) => {
                let client = upstream.client.take();
                let whole = ending == Ending::Finished && upstream.response_left == Some(u64::MAX);
                self.drop_upstream(net, socket);
                match client {
                    Some(client) if whole => {
                        self.client(client).upstream = None;
                        net.finish(client);
                    }
                    Some(client) => {
                        self.client(client).upstream = None;
                        self.drop_client(net, client);
                    }
                    None => {}
                }
            }
            Peer::Gone => net.close(socket),
        }
    }
}

impl Floor {
    /// Sends the request at the front of `bytes` to an upstream, or keeps an unfinished head.
    fn start_request(&mut self, net: &mut Net, socket: SocketId, bytes: Bytes) {
        let head = match parse_request(view(net, &bytes)) {
            Ok(Some(head)) => head,
            Ok(None) if view(net, &bytes).len() < KEPT_BYTES_MAX => {
                self.client(socket).kept = take_owned(net, bytes);
                return;
            }
            Ok(None) | Err(_) => {
                release(net, bytes);
                self.drop_client(net, socket);
                return;
            }
        };
        let Some(upstream_id) = self.pool.pop().or_else(|| self.connect(net)) else {
            release(net, bytes);
            self.drop_client(net, socket);
            return;
        };
        let upstream = self.upstream(upstream_id);
        upstream.client = Some(socket);
        upstream.response_left = None;
        upstream.without_body = head.is_head_method;

        let present = view(net, &bytes).len() - head.length;
        let body = head.content_length.unwrap_or_default();
        let body_here = body.min(present as u64);
        let client = self.client(socket);
        client.upstream = Some(upstream_id);
        client.request_left = body - body_here;
        client.close = head.close;
        let end = head.length + body_here as usize;
        client.kept.extend_from_slice(&view(net, &bytes)[end..]);
        let bytes = cut(net, bytes, &head, end);
        net.send(upstream_id, bytes);
    }

    /// Bytes of a client whose request is under way: its body, then what it pipelined.
    fn continue_request(&mut self, net: &mut Net, socket: SocketId, mut lease: Lease) {
        let client = self.client(socket);
        let body = client.request_left.min(u64::from(lease.end - lease.start)) as u32;
        client.request_left -= u64::from(body);
        let end = lease.start + body;
        client.kept.extend_from_slice(&net.bytes(&lease)[body as usize..]);
        let too_much = client.kept.len() > KEPT_BYTES_MAX;
        let upstream = client.upstream;
        lease.end = end;
        match upstream {
            Some(upstream) if body > 0 => net.send(upstream, Bytes::Leased(lease)),
            _ => net.give_back(lease),
        }
        if too_much {
            self.drop_client(net, socket);
        }
    }

    /// Sends response bytes to the client and notices the response's last one.
    fn forward_response(&mut self, net: &mut Net, socket: SocketId, bytes: Bytes) {
        let upstream = self.upstream(socket);
        let Some(client) = upstream.client else {
            // Bytes that nobody asked for: this connection cannot be trusted again.
            release(net, bytes);
            self.drop_upstream(net, socket);
            return;
        };
        let length = view(net, &bytes).len() as u64;
        let (bytes, left) = match upstream.response_left {
            Some(left) => (bytes, left.checked_sub(length)),
            None => match parse_response(view(net, &bytes)) {
                Ok(Some(head)) if head.status >= 200 => {
                    let body = body_length(upstream, &head);
                    upstream.reusable = !head.close && body != u64::MAX;
                    let end = length as usize;
                    (cut(net, bytes, &head, end), body.checked_sub(length - head.length as u64))
                }
                Ok(None) if length < KEPT_BYTES_MAX as u64 => {
                    upstream.kept = take_owned(net, bytes);
                    return;
                }
                // An interim response cannot come: no row sends Expect. Else malformed.
                _ => (bytes, None),
            },
        };
        let Some(left) = left else {
            release(net, bytes);
            self.ended(net, socket, Ending::Failed);
            return;
        };
        let until_end = upstream.response_left == Some(u64::MAX) || left > u64::MAX / 2;
        upstream.response_left = Some(if until_end { u64::MAX } else { left });
        net.send(client, bytes);
        if left == 0 {
            self.finish_exchange(net, socket, client);
        }
    }

    /// After a response's last byte: both connections go on, or end.
    fn finish_exchange(&mut self, net: &mut Net, upstream_id: SocketId, client_id: SocketId) {
        let upstream = self.upstream(upstream_id);
        upstream.client = None;
        let client = self.client(client_id);
        client.upstream = None;
        let request_whole = client.request_left == 0;
        let (close, kept) = (client.close, std::mem::take(&mut client.kept));
        if self.upstream(upstream_id).reusable && request_whole {
            self.pool.push(upstream_id);
        } else {
            self.drop_upstream(net, upstream_id);
        }
        if close || !request_whole {
            net.finish(client_id);
        } else if !kept.is_empty() {
            self.start_request(net, client_id, Bytes::Owned(kept, 0));
        }
    }

    fn connect(&mut self, net: &mut Net) -> Option<SocketId> {
        let socket = net.connect().ok()?;
        *self.slot(socket) = Peer::Upstream(Upstream::default());
        Some(socket)
    }

    fn drop_client(&mut self, net: &mut Net, socket: SocketId) {
        let upstream = self.client(socket).upstream.take();
        *self.slot(socket) = Peer::Gone;
        net.close(socket);
        if let Some(upstream) = upstream {
            self.drop_upstream(net, upstream);
        }
    }

    fn drop_upstream(&mut self, net: &mut Net, socket: SocketId) {
        *self.slot(socket) = Peer::Gone;
        self.pool.retain(|&pooled| pooled != socket);
        net.close(socket);
    }

    fn slot(&mut self, socket: SocketId) -> &mut Peer {
        let index = socket as usize;
        if index >= self.peers.len() {
            self.peers.resize_with(index + 1, Peer::default);
        }
        &mut self.peers[index]
    }

    fn client(&mut self, socket: SocketId) -> &mut Client {
        match &mut self.peers[socket as usize] {
            Peer::Client(client) => client,
            _ => unreachable!("a client's id is forgotten when the client is dropped"),
        }
    }

    fn upstream(&mut self, socket: SocketId) -> &mut Upstream {
        match &mut self.peers[socket as usize] {
            Peer::Upstream(upstream) => upstream,
            _ => unreachable!("an upstream's id is forgotten when the upstream is dropped"),
        }
    }
}

/// RFC 9112 §6.3, without the cases that `parse_response` refuses.
fn body_length(upstream: &Upstream, head: &Head) -> u64 {
    if upstream.without_body || matches!(head.status, 204 | 304) {
        return 0;
    }
    head.content_length.unwrap_or(u64::MAX)
}

fn view<'a>(net: &'a mut Net, bytes: &'a Bytes) -> &'a [u8] {
    match bytes {
        Bytes::Leased(lease) => net.bytes(lease),
        Bytes::Owned(vector, start) => &vector[*start..],
        Bytes::Fixed(slice) => slice,
    }
}

/// Shortens `bytes` to `..end` and moves the fields before the `Connection` line over it.
fn cut(net: &mut Net, mut bytes: Bytes, head: &Head, end: usize) -> Bytes {
    let line = head.connection_line.clone().unwrap_or(0..0);
    match &mut bytes {
        Bytes::Leased(lease) => {
            lease.end = lease.start + end as u32;
            net.bytes(lease).copy_within(..line.start, line.len());
            lease.start += line.len() as u32;
        }
        Bytes::Owned(vector, start) => {
            vector.truncate(*start + end);
            vector[*start..].copy_within(..line.start, line.len());
            *start += line.len();
        }
        Bytes::Fixed(_) => {}
    }
    bytes
}

fn take_owned(net: &mut Net, bytes: Bytes) -> Vec<u8> {
    let vector = view(net, &bytes).to_vec();
    release(net, bytes);
    vector
}

fn release(net: &mut Net, bytes: Bytes) {
    if let Bytes::Leased(lease) = bytes {
        net.give_back(lease);
    }
}
