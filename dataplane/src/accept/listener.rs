//! Letting clients in, and ceasing to.
//!
//! Before: the main thread bound an address and gave each worker a socket of it. After: a task per
//! client runs `connection::serve_connection`. At the cap the client that has been idle longest goes
//! first; if none is idle, the new one is refused.

use std::net::Shutdown;
use std::rc::Rc;

use lateen_ring::{Deadline, Instant, Listener, Stream, spawn};
use lateen_snapshot::model::Protocol;

use crate::client::Connection;
use crate::codec::http1::reply::{LocalReply, write_local_reply};
use crate::codec::message::Version;
use crate::connection::serve_connection;
use crate::failure::{Failure, Stage};
use crate::limits;
use crate::loaded::ListenerSlot;
use crate::shard::Shard;

/// Accepts until the task is ended.
pub async fn accept_clients(shard: Rc<Shard>, listener: Rc<Listener>, slot: ListenerSlot) {
    let mut told_at = None;
    loop {
        match listener.accept().await {
            Ok(stream) => admit(&shard, stream, slot),
            Err(error) => {
                // No descriptor or no memory. The connection waits in the kernel's queue; make room
                // for it if somebody can be spared, else try again in a moment.
                let now = lateen_ring::now();
                if told_at.is_none_or(|at| now.since(at) >= limits::ACCEPT_WARNING_INTERVAL) {
                    told_at = Some(now);
                    tracing::warn!(%error, "accepting connections fails; raise the limit of descriptors");
                }
                // An idle upstream connection is missed least.
                if !shard.pool.give_one_up(&shard)
                    && !shard.clients.end_longest_idle(Instant::NEVER)
                {
                    lateen_ring::sleep(limits::ACCEPT_RETRY_AFTER).await;
                }
            }
        }
    }
}

/// Lets one client in, or refuses it at the cap.
pub fn admit(shard: &Rc<Shard>, stream: Stream, slot: ListenerSlot) {
    if shard.clients.is_full() && !shard.clients.end_longest_idle(Instant::NEVER) {
        return refuse(shard, stream, slot);
    }
    // A client that reset its connection has no address any more. What it sent can still be read,
    // but nobody may be told that it came from nowhere.
    let peer = stream.peer_address().ok().and_then(|address| address.inet());
    let Some(peer) = peer else { return };
    let client = shard.clients.enter(slot);
    let connection = Connection::new(shard.clone(), stream, peer, client, slot);
    let task = spawn(serve_connection(connection));
    shard.clients.set_task(client, task);
}

/// Turns a client away: with a 503 where it surely speaks HTTP, else with a reset, the only answer
/// that every protocol has.
fn refuse(shard: &Rc<Shard>, stream: Stream, slot: ListenerSlot) {
    let failure = Failure::overflow(Stage::Accept);
    shard.metrics().record_failure(failure);
    let refusing = shard.refusing.get();
    let live = shard.views.of_slot(slot);
    let is_http = live.listener(slot).is_some_and(|at| at.protocol == Protocol::Http);
    if !is_http || refusing >= limits::REFUSALS_MAX {
        return stream.reset();
    }
    shard.refusing.set(refusing + 1);
    let shard = shard.clone();
    spawn(async move {
        let mut reply = Vec::new();
        let local = LocalReply {
            status: failure.outcome().status.unwrap_or(503),
            client_version: Version::Http11,
            keep_alive: false,
            head_only: false,
            allow: None,
            retry_after_s: Some(1),
            date: &shard.date(),
            location: None,
            edits: None,
        };
        write_local_reply(&local, &mut reply);
        let deadline = Deadline::new();
        deadline.set_after(limits::DISCARD_TIMEOUT);
        // Whether it could still be told matters to nobody here.
        let _ = deadline.guard(turn_away(&stream, reply)).await;
        shard.refusing.set(shard.refusing.get() - 1);
    });
}

/// Answers, then reads until the client closes, so that its request does not reset the answer away.
async fn turn_away(stream: &Stream, reply: Vec<u8>) -> std::io::Result<()> {
    stream.send(reply).await?;
    stream.shutdown(Shutdown::Write)?;
    let mut discarded = 0;
    while let Some(lease) = stream.recv().await? {
        discarded += lease.len();
        if discarded > limits::DISCARD_BYTES_MAX {
            break;
        }
    }
    Ok(())
}
