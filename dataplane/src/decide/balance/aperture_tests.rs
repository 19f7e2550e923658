//! The aperture's promises: even over all workers, wide enough, steady, and no trap.

use std::collections::BTreeSet;

use lateen_snapshot::model::aperture::Aperture as Terms;
use lateen_snapshot::model::{ClusterPolicy, Endpoint, PeakEwma};
use proptest::prelude::*;

use super::*;
use crate::decide::balance::load::{Load, OutOfService};
use crate::decide::balance::service::InService;
use crate::decide::balance::{Balancer, Choice, Draw, EndpointIndex, Shared};

const METHODS: [Balancing; 3] = [
    Balancing::LeastRequest,
    Balancing::RoundRobin,
    Balancing::PeakEwma(PeakEwma { default_rtt_ms: 30, decay_ms: 10_000 }),
];

fn cluster(balancing: Balancing, weights: &[u32], least: u32) -> Cluster {
    let address = |index: usize| ([10, 0, (index / 250) as u8, (index % 250) as u8], 80).into();
    Cluster {
        name: "c".to_owned(),
        endpoints: (0..weights.len()).map(|index| Endpoint { address: address(index) }).collect(),
        weights: weights.to_vec(),
        balancing,
        connect_timeout_ms: None,
        policy: ClusterPolicy {
            aperture: Some(Terms { min_endpoints: least }),
            ..ClusterPolicy::default()
        },
    }
}

/// Who is in each worker's arc, and how much of each.
fn arcs(cluster: &Cluster, workers: u32) -> Vec<(Box<[u32]>, Vec<u32>)> {
    let circle = Circle::of(cluster).expect("it is asked for");
    let least = u64::from(cluster.policy.aperture.expect("it is").min_endpoints);
    let least = least.min(cluster.endpoints.len() as u64);
    let shares = circle.shares(least, workers.into());
    (0..workers).map(|worker| cut(&circle, Seat { worker, workers }, shares)).collect()
}

#[derive(Default)]
struct Known(Load);

impl AsRef<Load> for Known {
    fn as_ref(&self) -> &Load {
        &self.0
    }
}

fn in_service(of: &[Known]) -> InService {
    InService::of(of.iter().map(AsRef::as_ref), 0)
}

/// All workers of a proxy, each with what it knows.
struct Proxy {
    workers: Vec<(Vec<Known>, Balancer)>,
}

impl Proxy {
    fn of(cluster: &Cluster, workers: u32) -> Self {
        let shared = Shared::of(cluster).expect("a circle");
        let worker = |worker| {
            let seat = Seat { worker, workers };
            let draw = Draw { random: mix(u64::from(worker)), now_ns: 0, seat };
            let known = cluster.endpoints.iter().map(|_| Known::default()).collect();
            (known, Balancer::new(cluster, shared.clone(), draw))
        };
        Self { workers: (0..workers).map(worker).collect() }
    }

    /// As a worker does it; whether it had to look beyond its part.
    fn pick(
        &self,
        worker: usize,
        random: u64,
        tried: &[EndpointIndex],
    ) -> (Option<EndpointIndex>, bool) {
        let (endpoints, balancer) = &self.workers[worker];
        let service = &in_service(endpoints);
        let choice = Choice {
            endpoints,
            service,
            balancer,
            now_ns: 0,
            random,
            key: None,
            tried,
            panics: false,
        };
        match choice.pick_near() {
            Some(near) => (Some(near), false),
            None => (choice.pick(), balancer.aperture().is_some()),
        }
    }

    fn members(&self, worker: usize) -> BTreeSet<u32> {
        let aperture = self.workers[worker].1.aperture().expect("it calls a part");
        aperture.members().iter().copied().collect()
    }
}

#[test]
fn a_worker_calls_so_many_and_one_alone_calls_all() {
    for (endpoints, least, workers, members) in [
        (1_000, 12, 1, None),
        (1_000, 12, 2, Some(500..=500)),
        (1_000, 12, 16, Some(63..=64)),
        (100, 12, 16, Some(13..=14)),
        (32, 12, 16, Some(12..=12)),
        (24, 12, 2, Some(12..=12)),
        (4, 2, 2, Some(2..=2)),
        (13, 12, 2, None),
        (12, 12, 16, None),
        (1, 1, 16, None),
        (0, 12, 2, None),
    ] {
        let cluster = cluster(Balancing::LeastRequest, &vec![1; endpoints], least);
        for (_, balancer) in &Proxy::of(&cluster, workers).workers {
            let count = balancer.aperture().map(|aperture| aperture.members().len());
            let is_right = match (&members, count) {
                (None, None) => true,
                (Some(members), Some(count)) => members.contains(&count),
                _ => false,
            };
            assert!(is_right, "{count:?} of {endpoints}, {workers} workers: not {members:?}");
        }
    }
}

#[test]
fn all_workers_together_pick_each_endpoint_as_often_and_by_its_weight() {
    let alike = vec![1; 30];
    let mut weighted = vec![1; 30];
    weighted[..5].fill(4);
    for balancing in METHODS {
        for (weights, workers, least) in
            [(&alike, 1, 4), (&alike, 2, 4), (&alike, 16, 4), (&weighted, 2, 4), (&weighted, 16, 4)]
        {
            let proxy = Proxy::of(&cluster(balancing.clone(), weights, least), workers);
            let picks = 120_000;
            let mut picked = vec![0_u32; weights.len()];
            for pick in 0..picks {
                let worker = (pick % u64::from(workers)) as usize;
                let (endpoint, widened) = proxy.pick(worker, mix(mix(pick)), &[]);
                assert!(!widened);
                picked[endpoint.expect("all are healthy").as_usize()] += 1;
            }
            let total = f64::from(weights.iter().sum::<u32>());
            for (times, weight) in picked.iter().zip(weights) {
                let due = picks as f64 * f64::from(*weight) / total;
                let off = (f64::from(*times) - due).abs();
                // Two choices of a few differ from one by weight, as they do without an aperture.
                let allowed = 6.0 * due.sqrt() + if weights == &alike { 0.0 } else { 0.2 * due };
                assert!(off < allowed, "{balancing:?}, {workers} workers: {picked:?} not {due}");
            }
        }
    }
}

#[test]
fn turns_are_exactly_even_over_all_workers() {
    for (endpoints, workers, least) in [(30_u32, 16_u32, 4), (7, 3, 2), (5, 4, 1), (3, 16, 2)] {
        let proxy = Proxy::of(
            &cluster(Balancing::RoundRobin, &vec![1; endpoints as usize], least),
            workers,
        );
        // Until every point of every arc has had its turn.
        let parts =
            arcs(&cluster(Balancing::RoundRobin, &vec![1; endpoints as usize], least), workers);
        let each: u32 = parts[0].1.iter().sum();
        let mut picked = vec![0_u32; endpoints as usize];
        for worker in 0..workers as usize {
            for _ in 0..each {
                let (endpoint, widened) = proxy.pick(worker, 7, &[]);
                assert!(!widened);
                picked[endpoint.expect("all are healthy").as_usize()] += 1;
            }
        }
        let due = each * workers / endpoints;
        assert_eq!(picked, vec![due; endpoints as usize], "{endpoints}, {workers} workers");
    }
}

#[test]
fn where_its_part_is_gone_or_tried_a_worker_calls_any() {
    for balancing in METHODS {
        let cluster = cluster(balancing, &[1; 8], 2);
        let proxy = Proxy::of(&cluster, 4);
        let near = proxy.members(1);
        assert_eq!(near.len(), 2);
        let (known, _) = &proxy.workers[1];
        let mut members = near.iter().copied();
        let (first, second) = (members.next().expect("two"), members.next().expect("two"));
        known[first as usize].0.set_out_of_service(OutOfService::Ejected, true);
        for draw in 0..200 {
            let other = (Some(EndpointIndex(second)), false);
            assert_eq!(proxy.pick(1, mix(draw), &[]), other, "one of the two is left");
            // A second try of the request.
            let (picked, widened) = proxy.pick(1, mix(draw), &[EndpointIndex(second)]);
            assert!(widened && !near.contains(&picked.expect("six are left").0));
        }
        known[second as usize].0.set_out_of_service(OutOfService::Terminating, true);
        let picked: BTreeSet<u32> = (0..400)
            .map(|draw| proxy.pick(1, mix(draw), &[]))
            .map(|(picked, widened)| (picked.expect("six are left").0, widened))
            .map(|(picked, widened)| {
                assert!(widened);
                picked
            })
            .collect();
        assert_eq!(picked.len(), 6, "{picked:?}");
        assert!(picked.is_disjoint(&near));
        // Nobody else saw it.
        assert!((0..50).all(|draw| !proxy.pick(0, mix(draw), &[]).1));
        known[first as usize].0.set_out_of_service(OutOfService::Ejected, false);
        assert_eq!(proxy.pick(1, 3, &[]), (Some(EndpointIndex(first)), false));
    }
}

#[test]
fn what_was_found_bad_is_called_in_a_panic_but_not_what_is_taken_away() {
    for balancing in METHODS {
        let cluster = cluster(balancing, &[1; 8], 2);
        let proxy = Proxy::of(&cluster, 4);
        let members: Vec<u32> = proxy.members(2).into_iter().collect();
        let (endpoints, balancer) = &proxy.workers[2];
        let service = &in_service(endpoints);
        endpoints[members[0] as usize].0.set_out_of_service(OutOfService::Unhealthy, true);
        endpoints[members[1] as usize].0.set_out_of_service(OutOfService::Terminating, true);
        for random in (0..100).map(mix) {
            let choice = Choice {
                endpoints,
                service,
                balancer,
                now_ns: 0,
                random,
                key: None,
                tried: &[],
                panics: true,
            };
            assert_eq!(choice.pick_near(), Some(EndpointIndex(members[0])));
        }
    }
}

#[test]
fn a_refuser_is_left_alone_and_all_refusing_are_left() {
    let cluster = cluster(Balancing::LeastRequest, &[1; 8], 2);
    let proxy = Proxy::of(&cluster, 4);
    let members: Vec<u32> = proxy.members(3).into_iter().collect();
    let known = &proxy.workers[3].0;
    known[members[0] as usize].0.on_refused(0);
    assert!((0..50).all(|draw| proxy.pick(3, mix(draw), &[]).0 == Some(EndpointIndex(members[1]))));
    known[members[1] as usize].0.on_refused(0);
    for draw in 0..50 {
        let (picked, widened) = proxy.pick(3, mix(draw), &[]);
        assert!(widened && !members.contains(&picked.expect("six are left").0));
    }
}

#[test]
fn a_new_endpoint_of_a_part_gets_its_share_little_by_little() {
    use lateen_snapshot::model::slow_start::SlowStart;
    let terms = SlowStart { window_ms: 10_000, aggression_percent: 100, min_percent: 5 };
    for balancing in METHODS {
        let mut cluster = cluster(balancing, &[1; 16], 4);
        cluster.policy.slow_start = Some(Box::new(terms));
        let mut proxy = Proxy::of(&cluster, 4);
        let new = proxy.members(1).into_iter().next().expect("four");
        let stayed: Vec<Option<u32>> = (0..16).map(|at| (at != new).then_some(at)).collect();
        let draw = Draw { random: 1, now_ns: 0, seat: Seat { worker: 1, workers: 4 } };
        let shared = Shared::of(&cluster).expect("a circle");
        let (known, before) = &proxy.workers[1];
        assert_eq!(known.len(), 16);
        let after = before.as_in(&cluster, shared, draw, &stayed);
        proxy.workers[1].1 = after;
        let (endpoints, balancer) = &proxy.workers[1];
        let service = &in_service(endpoints);
        let share_at = |now_ns: u64| {
            let choice = |random| Choice {
                endpoints,
                service,
                balancer,
                now_ns,
                random,
                key: None,
                tried: &[],
                panics: false,
            };
            let picks = (0..20_000).map(|draw| choice(mix(mix(draw))).pick_near());
            picks.filter(|picked| *picked == Some(EndpointIndex(new))).count() as f64 / 5_000.0
        };
        for (second, least, most) in [(0, 0.03, 0.12), (5, 0.35, 0.65), (10, 0.93, 1.07)] {
            let share = share_at(second * 1_000_000_000);
            assert!((least..most).contains(&share), "{second} s: {share}");
        }
    }
}

#[test]
fn one_endpoint_more_moves_each_part_by_two_at_most() {
    for (workers, least) in [(2, 12), (4, 12), (16, 12), (16, 40)] {
        let parts = |count: usize| -> Vec<BTreeSet<u32>> {
            let cluster = cluster(Balancing::LeastRequest, &vec![1; count], least);
            arcs(&cluster, workers)
                .into_iter()
                .map(|(of, _)| of.iter().copied().collect())
                .collect()
        };
        for count in [200, 500] {
            for (before, after) in parts(count).iter().zip(parts(count + 1)) {
                let gone = before.difference(&after).count();
                let came = after.difference(before).count();
                assert!(gone <= 2 && came <= 2, "{workers} workers: {gone} gone, {came} came");
            }
        }
    }
}

proptest! {
    #[test]
    fn each_point_is_in_as_many_arcs_as_any_other(
        weights in prop_oneof![
            (1_usize..120).prop_map(|count| vec![1; count]),
            prop::collection::vec(1_u32..1_000, 1..60),
        ],
        workers in 1_u32..40,
        least in 1_u32..40,
    ) {
        let cluster = cluster(Balancing::LeastRequest, &weights, least);
        let arcs = arcs(&cluster, workers);
        let mut covered = vec![0_u64; weights.len()];
        for (members, parts) in &arcs {
            let distinct: BTreeSet<u32> = members.iter().copied().collect();
            prop_assert_eq!(distinct.len(), members.len(), "a member twice");
            prop_assert!(distinct.len() >= weights.len().min(least as usize));
            for (member, part) in members.iter().zip(parts) {
                prop_assert!(*part > 0);
                prop_assert!(*part <= weights[*member as usize] * workers);
                covered[*member as usize] += u64::from(*part);
            }
        }
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let all: u64 = covered.iter().sum();
        for (covered, weight) in covered.iter().zip(&weights) {
            prop_assert_eq!(covered * total, all * u64::from(*weight));
        }
    }
}
