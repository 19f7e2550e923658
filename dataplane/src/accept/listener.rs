//! Letting clients in, and ceasing to.
//!
//! Before: the main thread bound an address and gave each worker a socket of it. After: a task per
//! client runs `connection::serve_connection`. At the cap the client that has been idle longest goes
//! first; if none is idle, the new one is refused.

use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use lateen_ring::{Deadline, Instant, Listener, Stream, spawn};
use lateen_snapshot::model::Protocol;

use crate::client::Connection;
use crate::codec::http1::reply::{LocalReply, write_local_reply};
use crate::codec::message::Version;
use crate::connection::serve_connection;
use crate::decide::overload::pressure::Level;
use crate::failure::{Failure, Stage};
use crate::limits;
use crate::loaded::ListenerSlot;
use crate::shard::Shard;

/// Accepts until the task is ended.
pub async fn accept_clients(shard: Rc<Shard>, listener: Rc<Listener>, slot: ListenerSlot) {
    let mut told_at = None;
    loop {
        if let Some(wait) = waits_for(&shard) {
            await_room(&shard, &listener, wait).await;
        }
        match listener.accept().await {
            Ok(stream) => {
                if is_full(&shard) {
                    spare_one(&shard);
                }
                admit(&shard, stream, slot);
            }
            Err(error) => {
                // No descriptor or no memory. The connection waits in the kernel's queue; make room
                // for it if somebody can be spared, else try again in a moment.
                let now = lateen_ring::now();
                if told_at.is_none_or(|at| now.since(at) >= limits::ACCEPT_WARNING_INTERVAL) {
                    told_at = Some(now);
                    tracing::warn!(%error, "accepting connections fails; raise the limit of descriptors");
                }
                if !spare_one(&shard) {
                    lateen_ring::sleep(limits::ACCEPT_RETRY_AFTER).await;
                }
            }
        }
    }
}

/// How long to let nobody in: the worker can't keep up, or the process has next to nothing left and nobody can
/// be spared for who comes. One who is alone is always let in: nothing would be gained by its waiting.
fn waits_for(shard: &Shard) -> Option<Duration> {
    if shard.clients.count() == 0 {
        return None;
    }
    if shard.lag.is_lagging() {
        return Some(limits::ACCEPT_LOOK_LAG);
    }
    let can_spare = shard.pool.count() > 0 || shard.clients.has_idle();
    (is_full(shard) && !can_spare).then_some(limits::ACCEPT_LOOK_PRESSURE)
}

/// Whether the process has next to nothing left of something.
fn is_full(shard: &Shard) -> bool {
    shard.pressure().is_tight() && shard.pressure().levels().worst() == Level::Full
}

/// Ends somebody who is idle, because another one has come. An upstream connection is missed least.
fn spare_one(shard: &Shard) -> bool {
    shard.pool.give_one_up(shard) || shard.clients.end_longest_idle(Instant::NEVER)
}

/// Lets nobody in, as long as there is a reason. Whoever comes waits in the kernel's queue; but one is let in
/// now and then by a worker that lags, for it may be busy with tunnels for ever.
#[cold]
async fn await_room(shard: &Shard, listener: &Listener, mut wait: Duration) {
    listener.pause();
    shard.metrics().overload.accept_paused.increment();
    let lets_one_in = lateen_ring::now() + limits::LAG_HOLD_MAX;
    loop {
        if shard.lag.is_lagging() && lateen_ring::now() >= lets_one_in {
            return;
        }
        lateen_ring::sleep(wait).await;
        match waits_for(shard) {
            Some(longer) => wait = longer,
            None => return,
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use lateen_ring::{Address, sleep};

    use super::*;
    use crate::decide::overload::pressure::Levels;
    use crate::testing::{TestWorker, listening, on_worker};
    use crate::worker::{Accepting, drain};

    const LOOKS: Duration = Duration::from_millis(250);

    /// A worker that accepts at the address.
    fn accepting(worker: &mut TestWorker, address: SocketAddr) -> Accepting {
        let mut snapshot = listening(&[address]);
        snapshot.listeners[0].protocol = Protocol::Http;
        snapshot.listeners[0].tcp = None;
        worker.switch(snapshot);
        let listener = Listener::bind(&Address::from(address)).expect("it is free");
        Accepting::begin(&worker.shard, ListenerSlot(0), Rc::new(listener))
    }

    async fn connect(address: SocketAddr) -> Stream {
        let stream = Stream::connect(&Address::from(address)).await.expect("it listens");
        sleep(LOOKS).await;
        stream
    }

    fn set_lag(shard: &Shard, busy: Duration) {
        let now = lateen_ring::now();
        for nth in 0..=20 {
            shard.lag.turned(busy, now + nth * limits::LAG_TARGET);
        }
    }

    #[test]
    fn a_worker_that_lags_lets_nobody_in_until_it_keeps_up_and_drains_all_the_same() {
        on_worker(&["--drain-timeout=1s"], async |mut worker| {
            let shard = worker.shard.clone();
            let address = SocketAddr::from(([10, 0, 0, 1], 80));
            let accepting = accepting(&mut worker, address);
            set_lag(&shard, 2 * limits::LAG_TARGET);
            let _first = connect(address).await;
            let seen = || (shard.clients.count(), shard.metrics().overload.accept_paused.value());
            assert_eq!(seen(), (1, 1), "one who is alone is let in");
            let (_second, _third) = (connect(address).await, connect(address).await);
            assert_eq!(seen(), (1, 1));
            set_lag(&shard, Duration::ZERO);
            sleep(LOOKS).await;
            assert_eq!(seen(), (3, 1), "who waited is let in");
            set_lag(&shard, 2 * limits::LAG_TARGET);
            let _fourth = connect(address).await;
            assert_eq!(seen(), (4, 2), "that accept was under way");
            let _fifth = connect(address).await;
            assert_eq!(seen(), (4, 2));
            drain(&shard, vec![accepting]).await;
            assert_eq!(shard.clients.count(), 0);
        });
    }

    #[test]
    fn where_nothing_is_left_one_is_spared_for_who_comes() {
        on_worker(&[], async |mut worker| {
            let shard = worker.shard.clone();
            let address = SocketAddr::from(([10, 0, 0, 1], 80));
            let _accepting = accepting(&mut worker, address);
            let idle = connect(address).await;
            idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()).await.expect("it reads");
            sleep(LOOKS).await;
            assert!(shard.clients.has_idle(), "it was answered");
            shard.pressure().set(Levels { memory: Level::Full, ..Levels::default() });
            // Each makes room for the next, once it is known to be idle; until then nobody is let in.
            let mut last = idle;
            for paused in 1..=3 {
                let next = connect(address).await;
                while let Some(_answer) = last.recv().await.expect("it was ended in good order") {}
                assert_eq!(shard.clients.count(), 1);
                assert_eq!(shard.metrics().overload.accept_paused.value(), paused);
                last = next;
            }
            shard.pressure().set(Levels { memory: Level::Tight, ..Levels::default() });
            sleep(LOOKS).await;
            let _another = connect(address).await;
            assert_eq!(shard.clients.count(), 2);
            assert_eq!(shard.metrics().overload.accept_paused.value(), 3);
        });
    }
}
