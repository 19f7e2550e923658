//! What is kept, and what is given up for it.

use std::net::SocketAddr;

use lateen_ring::{Address, Listener};
use lateen_snapshot::model::ClusterId;

use super::*;
use crate::testing::{TestWorker, clusters, on_worker};

/// A connection to a listener of the simulated network, and its other end.
async fn connection(shard: &Shard, chosen: &Chosen, listener: &Listener) -> (Upstream, Stream) {
    let address = listener.local_address().expect("it is bound");
    let stream = Stream::connect(&address).await.expect("it listens");
    let unit = chosen.cluster.bulkhead.try_enter().expect("room");
    (Upstream::new(shard, stream, unit), listener.accept().await.expect("a connection"))
}

fn listener() -> Listener {
    let address = Address::from(SocketAddr::from(([10, 0, 1, 1], 80)));
    Listener::bind(&address).expect("the virtual address is free")
}

/// The first endpoints of two clusters.
fn two_clusters(worker: &mut TestWorker) -> [Chosen; 2] {
    let live = worker.switch(clusters(&[("a", &[1]), ("b", &[2])]));
    [0, 1].map(|id| Chosen {
        cluster: live.cluster(&worker.shard, ClusterId(id)).clone(),
        index: EndpointIndex::new(0),
    })
}

async fn turns() {
    for _ in 0..10 {
        lateen_ring::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[test]
fn news_of_a_connection_take_it_away_and_no_other() {
    on_worker(&[], async |mut worker| {
        let (chosen, shard, listener) =
            (two_clusters(&mut worker), worker.shard.clone(), listener());
        let mut peers = Vec::new();
        for chosen in [&chosen[0], &chosen[0], &chosen[1]] {
            let (upstream, peer) = connection(&shard, chosen, &listener).await;
            shard.pool.put(&shard, chosen, upstream);
            peers.push(peer);
        }
        turns().await;
        drop(peers.remove(1));
        turns().await;
        assert_eq!((shard.pool.count(), chosen[0].cluster.idle.count.get()), (2, 1));
        drop(peers);
        turns().await;
        assert_eq!(shard.pool.count(), 0);
        assert!(shard.pool.clusters.borrow().is_empty(), "nobody looks after nothing");
        // And it begins anew.
        let (upstream, _peer) = connection(&shard, &chosen[0], &listener).await;
        shard.pool.put(&shard, &chosen[0], upstream);
        turns().await;
        assert!(shard.pool.take(&shard, &chosen[0]).is_some());
    });
}

#[test]
fn past_the_total_the_longest_idle_is_given_up() {
    // A quarter of the descriptors of the test's machine.
    on_worker(&["--pool-idle-max=200"], async |mut worker| {
        let (chosen, shard, listener) =
            (two_clusters(&mut worker), worker.shard.clone(), listener());
        let mut peers = Vec::new();
        for number in 0..260 {
            let (upstream, peer) =
                connection(&shard, &chosen[usize::from(number >= 100)], &listener).await;
            shard.pool.put(&shard, &chosen[usize::from(number >= 100)], upstream);
            peers.push(peer);
        }
        assert_eq!(shard.pool.count(), 250);
        assert_eq!(chosen[0].cluster.idle.count.get(), 90, "those were idle for longer");
        for _ in 0..250 {
            assert!(shard.pool.give_one_up(&shard));
        }
        assert!(!shard.pool.give_one_up(&shard));
    });
}

#[test]
fn connections_to_a_retired_endpoint_are_closed_some_at_a_time() {
    on_worker(&[], async |mut worker| {
        let (chosen, shard, listener) =
            (two_clusters(&mut worker), worker.shard.clone(), listener());
        let mut peers = Vec::new();
        for _ in 0..100 {
            let (upstream, peer) = connection(&shard, &chosen[0], &listener).await;
            shard.pool.put(&shard, &chosen[0], upstream);
            peers.push(peer);
        }
        turns().await;
        let live = worker.switch(clusters(&[("a", &[3]), ("b", &[2])]));
        live.cluster(&shard, ClusterId(0));
        lateen_ring::yield_now().await;
        lateen_ring::yield_now().await;
        let left = shard.pool.count();
        assert!(left <= 100 - limits::POOL_CLOSED_PER_TURN, "{left}");
        turns().await;
        assert_eq!(shard.pool.count(), 0);
    });
}
