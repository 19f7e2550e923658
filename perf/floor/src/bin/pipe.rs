//! A bare TCP pipe: every client gets an upstream connection of its own, bytes go both ways, and
//! nothing is parsed. `--mode copy` receives by multishot on the ring and sends from the buffers;
//! `--mode splice` moves pages by splice(2), called directly when a socket is ready.

use std::{error::Error, net::SocketAddr};

use lateen_floor::{
    args::Args,
    leases::Lease,
    net::{Bytes, Ending, Net, Program, SocketId},
    socket, splice,
};

const USAGE: &str = "pipe --mode copy|splice --listen ADDR --upstream ADDR";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::from_env(USAGE);
    let mode: String = args.required("mode");
    let address = args.required("listen");
    let upstream: SocketAddr = args.required("upstream");
    args.finish();
    socket::raise_descriptor_limit()?;
    match mode.as_str() {
        "copy" => {
            let net = Net::new(Some(upstream))?;
            net.run(&socket::listen(address)?, &mut Copy::default())?;
        }
        "splice" => splice::run(&socket::listen(address)?, upstream)?,
        _ => return Err(format!("--mode {mode:?}: expected copy or splice").into()),
    }
    Ok(())
}

/// By socket: the other end of its pipe.
#[derive(Default)]
struct Copy {
    ends: Vec<End>,
}

#[derive(Clone, Copy, Default)]
struct End {
    other: Option<SocketId>,
    /// This side sent FIN, and it was passed on.
    finished: bool,
}

impl Program for Copy {
    fn accepted(&mut self, net: &mut Net, socket: SocketId) {
        let Ok(upstream) = net.connect() else {
            net.close(socket);
            return;
        };
        *self.end(socket) = End { other: Some(upstream), finished: false };
        *self.end(upstream) = End { other: Some(socket), finished: false };
    }

    fn received(&mut self, net: &mut Net, socket: SocketId, lease: Lease) {
        match self.end(socket).other {
            Some(other) => net.send(other, Bytes::Leased(lease)),
            None => net.give_back(lease),
        }
    }

    fn ended(&mut self, net: &mut Net, socket: SocketId, ending: Ending) {
        let Some(other) = self.end(socket).other else {
            net.close(socket);
            return;
        };
        self.end(socket).finished = true;
        if ending == Ending::Failed || self.end(other).finished {
            for socket in [socket, other] {
                *self.end(socket) = End::default();
                net.close(socket);
            }
        } else {
            net.finish(other);
        }
    }
}

impl Copy {
    fn end(&mut self, socket: SocketId) -> &mut End {
        let index = socket as usize;
        if index >= self.ends.len() {
            self.ends.resize_with(index + 1, End::default);
        }
        &mut self.ends[index]
    }
}
