//! Few keys lead elsewhere when endpoints come and go, and each has its share of them.

use lateen_snapshot::model::{ClusterPolicy, Endpoint, HashKey, Hashing};

use super::*;

type Make = fn(Box<Hashing>) -> Balancing;

fn cluster(make: Make, last_octets: impl IntoIterator<Item = u8>, weights: &[u32]) -> Cluster {
    let hashing = Hashing { keys: vec![HashKey::Path], bound_percent: None };
    let address = |last| SocketAddr::from(([10, 1, 0, last], 80));
    Cluster {
        name: "c".to_owned(),
        endpoints: last_octets.into_iter().map(|of| Endpoint { address: address(of) }).collect(),
        weights: weights.to_vec(),
        balancing: make(Box::new(hashing)),
        connect_timeout_ms: None,
        policy: ClusterPolicy::default(),
    }
}

/// Where each of some keys leads.
fn addresses(cluster: &Cluster, keys: u64) -> Vec<SocketAddr> {
    let table = Table::of(cluster).expect("it has endpoints");
    let lead = |key| table.walk(mix(key)).next().expect("it never ends");
    (0..keys).map(|key| cluster.endpoints[lead(key) as usize].address).collect()
}

#[test]
fn of_a_hundred_endpoints_one_goes_and_few_keys_move() {
    const KEYS: u64 = 100_000;
    for (make, others_most) in [(Balancing::RingHash as Make, 0.0), (Balancing::Maglev, 0.01)] {
        let before = addresses(&cluster(make, 0..100, &[]), KEYS);
        for gone in [0, 50, 99] {
            let left = (0..100).filter(|last| *last != gone);
            let after = addresses(&cluster(make, left, &[]), KEYS);
            let gone = SocketAddr::from(([10, 1, 0, gone], 80));
            let (mut its_own, mut others) = (0, 0);
            for (from, to) in before.iter().zip(&after) {
                assert_ne!(*to, gone);
                its_own += u32::from(*from == gone);
                others += u32::from(*from != gone && from != to);
            }
            let share = |keys: u32| f64::from(keys) / KEYS as f64;
            assert!(share(others) <= others_most, "{} of others' keys moved", share(others));
            let most = if others_most == 0.0 { 0.015 } else { 0.02 };
            assert!(share(its_own + others) <= most, "{} moved", share(its_own + others));
        }
    }
}

#[test]
fn the_order_of_endpoints_does_not_count() {
    for make in [Balancing::RingHash as Make, Balancing::Maglev] {
        let there = addresses(&cluster(make, 0..30, &[]), 1_000);
        let back = addresses(&cluster(make, (0..30).rev(), &[]), 1_000);
        assert_eq!(there, back);
    }
}

#[test]
fn shares_are_by_weight() {
    for make in [Balancing::RingHash as Make, Balancing::Maglev] {
        let cluster = cluster(make, 0..4, &[1, 1, 2, 6]);
        let keys = addresses(&cluster, 100_000);
        for (endpoint, weight) in cluster.endpoints.iter().zip(&cluster.weights) {
            let count = keys.iter().filter(|address| **address == endpoint.address).count();
            let share = count as f64 / 10_000.0 / f64::from(*weight);
            assert!((0.8..1.2).contains(&share), "{share} of its share for weight {weight}");
        }
    }
}

#[test]
fn a_table_of_maglev_is_a_prime_within_bounds() {
    assert_eq!(maglev_entries(1), 65_537);
    assert_eq!(maglev_entries(512), 65_537);
    assert_eq!(maglev_entries(513), 102_407);
    assert_eq!(maglev_entries(1_000), maglev_entries(513));
    assert_eq!(maglev_entries(50_000), 5_000_011);
    assert_eq!(maglev_entries(1_000_000), 5_000_011);
}

#[test]
fn a_ring_is_bounded_and_every_endpoint_is_on_it() {
    let mut cluster = cluster(Balancing::RingHash, 0..250, &[]);
    cluster.weights = vec![1_000; 250];
    let Some(Table(Kind::Ring(ring))) = Table::of(&cluster) else { panic!("a ring") };
    assert!(ring.hashes.len() <= RING_POINTS_MAX);
    assert!(ring.hashes.is_sorted());
    let on_it: std::collections::HashSet<u32> = ring.endpoints.iter().copied().collect();
    assert_eq!(on_it.len(), 250);
}

#[test]
fn every_key_is_at_the_first_point_that_is_not_before_it() {
    for count in [1, 2, 3, 60] {
        let cluster = cluster(Balancing::RingHash, 0..count, &[]);
        let Some(Table(Kind::Ring(ring))) = Table::of(&cluster) else { panic!("a ring") };
        let keys = (0..10_000).map(mix).chain([0, 1, u64::MAX]).chain(ring.hashes.iter().copied());
        for key in keys {
            let expected = ring.hashes.iter().position(|hash| *hash >= key).unwrap_or(0);
            assert_eq!(ring.position(key), expected, "key {key:x} of {count} endpoints");
        }
    }
}

#[test]
fn a_cluster_without_endpoints_has_no_table() {
    assert!(Table::of(&cluster(Balancing::RingHash, [], &[])).is_none());
    assert!(Table::of(&cluster(Balancing::Maglev, [], &[])).is_none());
}
