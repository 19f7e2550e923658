//! Silent and slow clients of a service that has no room, in simulated time.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use lateen_ring::{Address, Listener, Stream, sleep, spawn};
use lateen_snapshot::model::bulkhead::Caps;
use lateen_snapshot::model::{Balancing, Cluster, ClusterId, Snapshot, TcpBackend};

use super::*;
use crate::loaded::ListenerSlot;
use crate::testing::{TestWorker, clusters, listening, on_worker};

fn address(last: u8) -> SocketAddr {
    ([10, 0, 1, last], 80).into()
}

/// A listener that finds out what its clients speak, before a service of three endpoints with room for one
/// connection.
fn snapshot() -> Snapshot {
    let mut snapshot = clusters(&[("a", &[1, 2, 3])]);
    let cluster: &mut Cluster = Arc::make_mut(&mut snapshot.clusters[0]);
    cluster.balancing = Balancing::RoundRobin;
    cluster.policy.bulkhead = Some(Box::new(Caps {
        connections_max: 1,
        pending_max: 10,
        requests_max: None,
        retries_max: None,
        queue_timeout_ms: 1_000,
    }));
    snapshot.listeners = listening(&[address(100)]).listeners;
    let listener = &mut snapshot.listeners[0];
    listener.protocol = Protocol::Auto;
    let backend = TcpBackend { cluster: Some(ClusterId(0)), weight: 1, rate_limits: None };
    listener.tcp.as_mut().expect("it has a route").backends.push(backend);
    snapshot
}

/// A client that was just accepted, and its own end.
async fn client(worker: &TestWorker) -> (Connection, Stream) {
    let at = Address::from(address(100));
    let listener = Listener::bind(&at).expect("the virtual address is free");
    let peer = Stream::connect(&at).await.expect("it listens");
    let stream = listener.accept().await.expect("a connection");
    let shard = worker.shard.clone();
    let slot = ListenerSlot(0);
    let client = shard.clients.enter(slot);
    (Connection::new(shard, stream, address(200), client, slot), peer)
}

#[test]
fn a_silent_client_asks_for_room_ever_more_rarely_and_takes_nobodys_turn() {
    on_worker(&[], async |mut worker| {
        let live = worker.switch(snapshot());
        let cluster = live.cluster(&worker.shard, ClusterId(0)).clone();
        let accepted = Rc::new(Cell::new(0));
        let endpoints: Vec<_> = (1..=3)
            .map(|last| {
                let listener = Listener::bind(&Address::from(address(last))).expect("it is free");
                let accepted = accepted.clone();
                spawn(async move {
                    let _open = listener.accept().await.expect("a connection");
                    accepted.set(accepted.get() + 1);
                    sleep(Duration::from_secs(100)).await;
                })
            })
            .collect();
        let full = cluster.bulkhead.try_enter::<0>().expect("room");
        let turn = cluster.pick(&worker.shard, None, &[]).expect("one");
        let (connection, _peer) = client(&worker).await;
        let serving = spawn(async move {
            let mut received = Received::default();
            listen_in(&connection, &mut received).await;
        });

        // Looks at 50, 100, 200, 400, 800, 1600, 2600, 3600 and 4600 ms.
        sleep(Duration::from_millis(3_800)).await;
        let next = cluster.pick(&worker.shard, None, &[]).expect("one");
        assert_eq!(next.as_usize(), (turn.as_usize() + 1) % 3, "it moved nobody's turn");
        drop(full);
        sleep(Duration::from_millis(600)).await;
        assert_eq!(accepted.get(), 0, "it asks no more often than each second");
        sleep(Duration::from_millis(600)).await;
        assert_eq!(accepted.get(), 1, "and no more rarely");
        serving.abort();
        endpoints.into_iter().for_each(|endpoint| endpoint.abort());
    });
}

#[test]
fn the_time_for_a_head_runs_from_its_first_byte_whether_there_was_room_or_not() {
    on_worker(&[], async |mut worker| {
        let live = worker.switch(snapshot());
        let cluster = live.cluster(&worker.shard, ClusterId(0)).clone();
        let _full = cluster.bulkhead.try_enter::<0>().expect("room");
        let (connection, peer) = client(&worker).await;
        let began = lateen_ring::now();
        let peer = spawn(async move {
            peer.send(b"GE".to_vec()).await.expect("it is open");
            sleep(Duration::from_secs(3)).await;
            peer.send(b"T / HTTP/1.1\r\n".to_vec()).await.expect("it is open");
            sleep(Duration::from_secs(100)).await;
        });
        let mut received = Received::default();
        let spoken = listen_in(&connection, &mut received).await;
        assert!(matches!(spoken, Spoken::Http1));
        assert!(lateen_ring::now().since(began) >= Duration::from_secs(3));
        let counted_from = connection.take_request_began().since(began);
        assert!(counted_from < Duration::from_millis(100), "{counted_from:?} after its first byte");
        peer.abort();
    });
}

#[test]
fn a_wait_for_room_is_no_part_of_the_time_to_connect() {
    on_worker(&[], async |mut worker| {
        let mut snapshot = snapshot();
        let policy = &mut Arc::make_mut(&mut snapshot.clusters[0]).policy;
        policy.bulkhead.as_mut().expect("it has one").queue_timeout_ms = 10_000;
        let live = worker.switch(snapshot);
        let cluster = live.cluster(&worker.shard, ClusterId(0)).clone();
        let _endpoints =
            [1, 2, 3].map(|last| Listener::bind(&Address::from(address(last))).expect("free"));
        let full = cluster.bulkhead.try_enter::<0>().expect("room");
        let (connection, _peer) = client(&worker).await;
        spawn(async move {
            sleep(Duration::from_secs(5)).await;
            drop(full);
        });
        let line = TcpLine::begin(&connection);
        let began = lateen_ring::now();
        let reached = connect_any(&connection, &line, Haste::Due).await;
        assert!(lateen_ring::now().since(began) >= Duration::from_secs(5), "it waited");
        assert!(matches!(reached, Reached::Endpoint(_)), "{:?}", line.upstream.get());
    });
}
