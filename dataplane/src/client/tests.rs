//! How long a client's connection, and a tunnel of it, may last.

use lateen_ring::{Address, Listener};
use lateen_snapshot::model::ClusterId;

use super::*;
use crate::testing::{clusters, on_worker};

#[test]
fn tunnels_that_began_together_end_apart_and_none_outlasts_its_client() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let live = worker.switch(clusters(&[("a", &[1])]));
        let cluster = live.cluster(&shard, ClusterId(0)).clone();
        let address = Address::from(SocketAddr::from(([10, 0, 0, 1], 80)));
        let listener = Listener::bind(&address).expect("the virtual address is free");
        let _peer = Stream::connect(&address).await.expect("it listens");
        let stream = listener.accept().await.expect("a connection");
        let slot = ListenerSlot(0);
        let client = shard.clients.enter(slot);
        let peer = SocketAddr::from(([10, 0, 9, 9], 1));
        let connection = Connection::new(shard.clone(), stream, peer, client, slot);

        let began = Instant::from_nanos(1_000_000_000);
        assert_eq!(connection.tunnel_ends(&cluster, began, None), Instant::NEVER);
        let ends = |after_ns| {
            let opened = began + Duration::from_nanos(after_ns);
            connection.tunnel_ends(&cluster, opened, Some(1_000)).since(began).as_millis()
        };
        let spans: Vec<u128> = (0..1_000).map(ends).collect();
        assert!(spans.iter().all(|ms| (900..=1_000).contains(ms)), "{spans:?}");
        for part in [900..925, 925..950, 950..975, 975..1_000] {
            let within = spans.iter().filter(|ms| part.contains(*ms)).count();
            assert!((180..320).contains(&within), "{within} end in {part:?}");
        }

        let sooner = began + Duration::from_millis(5);
        shard.clients.set_ends(client, sooner);
        assert_eq!(connection.tunnel_ends(&cluster, began, Some(1_000)), sooner);
    });
}
