//! A DNS server that knows one address for every name, or fails.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// Answers until the test ends.
pub(crate) struct FakeDns {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Option<[u8; 4]>>>,
}

impl FakeDns {
    /// `None`: it fails.
    pub(crate) fn start(answer: Option<[u8; 4]>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("there are ports");
        let address = socket.local_addr().expect("it is bound");
        let answer = Arc::new(Mutex::new(answer));
        let says = answer.clone();
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let says = *says.lock().expect("nobody panics with it");
                let _ = socket.send_to(&reply(&query[..length], says), from);
            }
        });
        Self { address, answer }
    }

    pub(crate) fn say(&self, answer: Option<[u8; 4]>) {
        *self.answer.lock().expect("nobody panics with it") = answer;
    }
}

/// RFC 1035, section 4.1: the header, the question as it came, and one A record of a second's TTL.
fn reply(query: &[u8], address: Option<[u8; 4]>) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name ends") + 1;
    let question = &query[12..name_end + 4];
    let is_for_ipv4 = query[name_end..name_end + 2] == [0, 1];
    let code = if address.is_none() { 2 } else { 0 };
    let records = u8::from(address.is_some() && is_for_ipv4);
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, records, 0, 0, 0, 0]);
    reply.extend(question);
    if let Some(address) = address.filter(|_| is_for_ipv4) {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address);
    }
    reply
}
