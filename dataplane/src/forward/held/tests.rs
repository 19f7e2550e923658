//! Bodies that are held back until their time is over, in simulated time.

use std::net::SocketAddr;
use std::time::Duration;

use lateen_ring::{Address, Listener, Moved};

use super::*;
use crate::codec::body::{BodyEncoding, BodyProgress, Framing};
use crate::forward::transfer::{Timer, transfer_body};
use crate::rate_limit::tests::{byte_limit, flows_of};
use crate::testing::{TestWorker, on_worker};

const BODY_BYTES: u64 = 100_000;
const MINUTE: Duration = Duration::from_secs(60);

/// Two connections through the worker: what it reads from and its peer, what it writes to and its peer.
async fn two_streams() -> [(Stream, Stream); 2] {
    let address = Address::from(SocketAddr::from(([10, 0, 1, 1], 80)));
    let listener = Listener::bind(&address).expect("the virtual address is free");
    let first = Stream::connect(&address).await.expect("it listens");
    let first_peer = listener.accept().await.expect("a connection");
    let second = Stream::connect(&address).await.expect("it listens");
    let second_peer = listener.accept().await.expect("a connection");
    [(first, first_peer), (second, second_peer)]
}

/// How a body of known length ends that has five seconds, whose source sends this much of it.
async fn end_of_body(worker: &TestWorker, held: Held<'_>, sent: u64) -> Result<(), BodyStop> {
    let [(source, server), (sink, client)] = two_streams().await;
    lateen_ring::spawn(async move {
        server.send(vec![7; sent as usize]).await.expect("it is read");
        lateen_ring::sleep(MINUTE).await;
    });
    lateen_ring::spawn(async move { while let Ok(Some(_)) = client.recv().await {} });
    let (deadline, moved, passed) = (Deadline::new(), Moved::default(), Cell::new(0));
    let way = Way {
        source: &source,
        source_counts: worker.shard.upstream_counts(),
        sink: &sink,
        sink_counts: worker.shard.upstream_counts(),
        metrics: worker.shard.metrics(),
        timer: Timer { deadline: &deadline, until: lateen_ring::now() + Duration::from_secs(5) },
        read_limit: MINUTE,
        write_limit: MINUTE,
        moved: &moved,
        held: Some(held),
    };
    let mut body = BodyProgress::new(Framing::Length(BODY_BYTES));
    let (received, encoding) = (&mut Received::default(), BodyEncoding::Plain);
    transfer_body(&way, received, &mut body, encoding, &passed, u64::MAX).await
}

#[test]
fn whose_time_is_over_while_it_is_held_back_is_nobodys_fault() {
    on_worker(&[], async |mut worker| {
        for is_up in [false, true] {
            let flows = flows_of(&mut worker, &[byte_limit("slow", 10_000, 10_000)]);
            let flow = flows.down.as_ref();
            let by_limit = Held { flow, pace: None, is_up };
            assert_eq!(end_of_body(&worker, by_limit, BODY_BYTES).await, Err(BodyStop::Held));
            let pace = Some(Pace::begin(10_000, lateen_ring::now().as_nanos()));
            let by_fault = Held { flow: None, pace, is_up };
            assert_eq!(end_of_body(&worker, by_fault, BODY_BYTES).await, Err(BodyStop::Held));
        }
    });
}

#[test]
fn a_source_that_stalls_is_to_blame_unless_the_limit_has_spent_its_time() {
    on_worker(&[], async |mut worker| {
        let stalled = Err(BodyStop::Source(Stopped::TimedOut));
        let wide = flows_of(&mut worker, &[byte_limit("wide", 1_000_000, 1_000_000)]);
        let held = Held { flow: wide.down.as_ref(), pace: None, is_up: false };
        assert_eq!(end_of_body(&worker, held, 1_000).await, stalled);
        let slow = flows_of(&mut worker, &[byte_limit("slow", 10_000, 10_000)]);
        let held = Held { flow: slow.down.as_ref(), pace: None, is_up: false };
        assert_eq!(end_of_body(&worker, held, 45_000).await, Err(BodyStop::Held));
    });
}
