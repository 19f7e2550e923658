//! Tunnels that are held back, in simulated time.

use std::net::SocketAddr;

use lateen_ring::{Address, Listener, spawn};

use super::*;
use crate::rate_limit::tests::{byte_limit, flows_of};
use crate::testing::on_worker;

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
            let flows = Some(&*flows);
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
