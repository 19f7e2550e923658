//! Lets connections in: a slot and a thread for each.
//!
//! Before: [`socket`](super::socket) listens. After: [`connection`](super::connection) serves. This
//! thread never waits for a peer: it neither reads nor sends more than an empty socket takes.

use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lateen_snapshot::frame::{peer_credentials, split};
use lateen_snapshot::message::ToProxy;

use super::connection::Desk;
use super::limits::{ACCEPT_PAUSE, THREAD_STACK_BYTES};
use super::slots::{NoSlot, Slots};

/// Accepts until the slots close and the listener is shut down.
pub(super) fn accept(listener: &UnixListener, slots: &Arc<Slots>, desk: &Arc<Desk>) {
    while !slots.is_closing() {
        match listener.accept() {
            Ok((stream, _)) => {
                desk.registry.set_trouble(None);
                let_in(stream, slots, desk);
            }
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {
            }
            // Out of descriptors or memory: who waits to be accepted can wait for some to come back.
            Err(error) => {
                desk.registry.set_trouble(Some(format!("no connection can be accepted: {error}")));
                slots.pause(ACCEPT_PAUSE);
            }
        }
    }
}

fn let_in(stream: UnixStream, slots: &Arc<Slots>, desk: &Arc<Desk>) {
    // Fails for no connected Unix socket.
    let Ok(credentials) = peer_credentials(&stream) else { return };
    let slot = match slots.enter(&stream, credentials) {
        Ok(slot) => slot,
        Err(NoSlot::Closing) => return,
        Err(error) => {
            let reason = error.to_string();
            desk.registry.refuse(credentials, None, &reason);
            // Its buffer is empty: this fits, or the peer is gone.
            if let Ok((mut sender, _)) = split(stream) {
                let _ = sender.send(&ToProxy::Refused { reason }.into_frame(), Duration::ZERO);
            }
            return;
        }
    };
    let thread = thread::Builder::new().name("proxy-reader".to_owned());
    let serving = desk.clone();
    let serve = move || serving.serve(&slot, stream);
    // Nobody joins it: its slot says when it is done.
    if let Err(error) = thread.stack_size(THREAD_STACK_BYTES).spawn(serve) {
        let reason = format!("the control plane can't start a thread for it: {error}");
        desk.registry.refuse(credentials, None, &reason);
    }
}
