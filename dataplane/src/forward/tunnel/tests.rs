//! Tunnels that are held back, in simulated time.

use std::net::SocketAddr;

use lateen_ring::sim::SimConfig;
use lateen_ring::{Address, Listener, spawn};

use super::*;
use crate::rate_limit::tests::{byte_limit, flows_of};
use crate::testing::{on_worker, on_worker_in};

/// The worker's stream and that of its peer.
async fn stream(last: u8) -> (Stream, Stream) {
    let address = Address::from(SocketAddr::from(([10, 0, 1, last], 80)));
    let listener = Listener::bind(&address).expect("the virtual address is free");
    let stream = Stream::connect(&address).await.expect("it listens");
    (stream, listener.accept().await.expect("a connection"))
}

const IDLE: Duration = Duration::from_secs(10);

fn bounds() -> Bounds {
    Bounds { idle_timeout: IDLE, ends: Instant::NEVER }
}

#[test]
fn silence_is_counted_from_when_the_wait_ends_also_after_the_limit_was_raised() {
    on_worker(&[], async |mut worker| {
        let flows = flows_of(&mut worker, &[byte_limit("t", 1, 1)]);
        let ((client, client_peer), (upstream, upstream_peer)) = (stream(1).await, stream(2).await);
        let (counts, shard) = (ConnectionMetrics::default(), worker.shard.clone());
        let ended_at = std::rc::Rc::new(Cell::new(Instant::NEVER));
        let tells = ended_at.clone();
        // A hundred seconds' worth of it.
        client_peer.send(vec![7; 100]).await.expect("it is read");
        spawn(async move {
            let (deadline, passed) = (Deadline::new(), Passed::default());
            let end = |stream| End { stream, counts: &counts, received: Received::default() };
            let (client, upstream) = (end(&client), end(&upstream));
            let metrics = shard.metrics();
            let flows = Some(&flows);
            let ended =
                tunnel(client, upstream, &deadline, bounds(), metrics, &passed, flows).await;
            assert_eq!((ended, passed.up.get()), (TunnelEnd::Idle, 100));
            tells.set(lateen_ring::now());
        });
        lateen_ring::sleep(5 * IDLE).await;
        assert_eq!(ended_at.get(), Instant::NEVER, "it only waits");
        let raised_at = lateen_ring::now();
        let raised = flows_of(&mut worker, &[byte_limit("t", 1_000_000, 1_000_000)]);
        let up = raised.up.as_ref().expect("both ways");
        drop(up.ask(1, &Cell::new(0)));
        lateen_ring::sleep(3 * IDLE).await;
        let took = ended_at.get().since(raised_at);
        assert!(took < 2 * IDLE, "{took:?}");
        drop((client_peer, upstream_peer));
    });
}

#[test]
fn a_large_burst_passes_in_turns() {
    let bytes: usize = 16 * 1024 * 1024;
    let mut world = SimConfig::new(1);
    world.socket_bytes = 32 * 1024 * 1024..=32 * 1024 * 1024;
    (world.latency_us, world.jitter_us_max) = (1..=1, 0);
    on_worker_in(world, &[], async |mut worker| {
        let limit = byte_limit("t", 1_000_000_000, 1_000_000_000);
        let flows = flows_of(&mut worker, &[limit]);
        let ((client, client_peer), (upstream, upstream_peer)) = (stream(1).await, stream(2).await);
        let counts = ConnectionMetrics::default();
        client_peer.send(vec![7; bytes]).await.expect("there is room");
        client_peer.shutdown(Shutdown::Write).expect("it is open");
        upstream_peer.shutdown(Shutdown::Write).expect("it is open");
        lateen_ring::sleep(Duration::from_secs(1)).await;
        let (deadline, passed) = (Deadline::new(), Passed::default());
        let end = |stream| End { stream, counts: &counts, received: Received::default() };
        let (client, upstream) = (end(&client), end(&upstream));
        let flows = Some(&flows);
        let metrics = worker.shard.metrics();
        let mut most = 0;
        let joined = tunnel(client, upstream, &deadline, bounds(), metrics, &passed, flows);
        let mut joined = pin!(joined);
        let ended = poll_fn(|cx| {
            let before = passed.up.get();
            let polled = joined.as_mut().poll(cx);
            most = most.max(passed.up.get() - before);
            polled
        })
        .await;
        assert_eq!((ended, passed.up.get()), (TunnelEnd::Closed, bytes as u64));
        let bound = limits::COPY_BYTES_PER_TURN + limits::FLOW_PIECE_BYTES_MAX;
        assert!(most <= bound, "{most} bytes in one turn");
        drop((client_peer, upstream_peer));
    });
}
