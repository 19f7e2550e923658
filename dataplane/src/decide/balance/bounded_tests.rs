//! A choice looks at few endpoints, whatever the cluster's size and however many of it can't be had.

use std::cell::Cell;

use lateen_snapshot::model::aperture::Aperture as Terms;
use lateen_snapshot::model::slow_start::SlowStart;
use lateen_snapshot::model::{ClusterPolicy, Endpoint, HashKey, Hashing};

use super::*;
use crate::limits::{APERTURE_STEPS_MAX, EXTRA_PROBES_MAX, KEY_STEPS_MAX, SCAN_STEPS_MAX};

const COUNT: usize = 5_000;
const SURVIVOR: usize = 3_777;

/// What chance, turns and keys look at before the scan: each of them at most once, and two a second time.
const PROBES_MAX: usize = 2 * (2 + EXTRA_PROBES_MAX + 1 + EXTRA_PROBES_MAX) + 4 + KEY_STEPS_MAX;

thread_local! {
    static LOOKS: Cell<usize> = const { Cell::new(0) };
}

/// Counts who looks at it.
#[derive(Default)]
struct Watched(Load);

impl AsRef<Load> for Watched {
    fn as_ref(&self) -> &Load {
        LOOKS.set(LOOKS.get() + 1);
        &self.0
    }
}

fn clusters() -> Vec<(Cluster, Shared)> {
    let hashing = || Box::new(Hashing { keys: vec![HashKey::Path], bound_percent: Some(125) });
    let ewma = PeakEwma { default_rtt_ms: 30, decay_ms: 10_000 };
    let methods = [
        Balancing::LeastRequest,
        Balancing::RoundRobin,
        Balancing::Random,
        Balancing::PeakEwma(ewma),
        Balancing::RingHash(hashing()),
        Balancing::Maglev(hashing()),
    ];
    let slow = SlowStart { window_ms: 10_000, aggression_percent: 100, min_percent: 10 };
    let mut clusters = Vec::new();
    for balancing in methods {
        let chooses_alone =
            !matches!(balancing, Balancing::RingHash(_) | Balancing::Maglev(_) | Balancing::Random);
        for weights in [Vec::new(), (0..COUNT as u32).map(|at| 1 + at % 2).collect()] {
            let apertures = [None, Some(12)];
            for least in &apertures[..1 + usize::from(chooses_alone)] {
                clusters.push(Cluster {
                    name: "c".to_owned(),
                    endpoints: (0..COUNT)
                        .map(|index| Endpoint { address: address(index) })
                        .collect(),
                    weights: weights.clone(),
                    balancing: balancing.clone(),
                    connect_timeout_ms: None,
                    policy: ClusterPolicy {
                        slow_start: chooses_alone.then(|| Box::new(slow)),
                        aperture: least.map(|min_endpoints| Terms { min_endpoints }),
                        ..ClusterPolicy::default()
                    },
                });
            }
        }
    }
    let known = |cluster: Cluster| {
        let shared = Shared::of(&cluster).unwrap_or_default();
        (cluster, shared)
    };
    clusters.into_iter().map(known).collect()
}

fn address(index: usize) -> std::net::SocketAddr {
    ([10, 0, (index / 250) as u8, (index % 250) as u8], 80).into()
}

/// Picks 50 times in each cluster: the most that a pick looked at, and all that were picked.
fn looks(
    (cluster, shared): &(Cluster, Shared),
    spoil: impl Fn(usize, &Load),
    threshold_percent: u8,
) -> (usize, Vec<EndpointIndex>) {
    let endpoints: Vec<Watched> = (0..COUNT).map(|_| Watched::default()).collect();
    endpoints.iter().enumerate().for_each(|(index, endpoint)| spoil(index, &endpoint.0));
    let service = &InService::of(endpoints.iter().map(|of| &of.0), threshold_percent);
    let draw = Draw { random: 3, now_ns: 0, seat: Seat { worker: 1, workers: 4 } };
    let balancer = &Balancer::new(cluster, shared.clone(), draw);
    let mut most = 0;
    let mut picked = Vec::new();
    for random in (0..50).map(mix) {
        let choice = Choice {
            endpoints: &endpoints,
            service,
            balancer,
            now_ns: 1,
            random,
            key: Some(mix(random)),
            tried: &[],
            panics: service.is_panicking(),
        };
        LOOKS.set(0);
        picked.push(choice.pick_near().or_else(|| choice.pick()).expect("there are some"));
        most = most.max(LOOKS.get());
    }
    (most, picked)
}

#[test]
fn one_in_service_among_thousands_that_are_not_is_found_at_once() {
    for known in clusters() {
        let scans = usize::from(known.0.policy.aperture.is_some()) * APERTURE_STEPS_MAX as usize;
        for why in [OutOfService::Ejected, OutOfService::Unhealthy, OutOfService::Terminating] {
            let spoil = |index, load: &Load| load.set_out_of_service(why, index != SURVIVOR);
            let (most, picked) = looks(&known, spoil, 0);
            assert!(picked.iter().all(|index| index.as_usize() == SURVIVOR), "{picked:?}");
            assert!(most <= PROBES_MAX + scans, "{most} looks: {:?}", known.0.balancing);
        }
    }
}

#[test]
fn where_all_are_out_or_all_refuse_few_are_looked_at() {
    for known in clusters() {
        let near = usize::from(known.0.policy.aperture.is_some()) * APERTURE_STEPS_MAX as usize;
        let refuse = |index: usize, load: &Load| load.on_refused(index as u64 % 2);
        let go = |_, load: &Load| load.set_out_of_service(OutOfService::Terminating, true);
        for (most, _) in [looks(&known, refuse, 50), looks(&known, go, 50)] {
            assert!(most <= PROBES_MAX + near + SCAN_STEPS_MAX, "{most}: {:?}", known.0.balancing);
        }
    }
}

#[test]
fn in_a_panic_those_who_leave_hide_nobody() {
    for known in clusters() {
        let near = usize::from(known.0.policy.aperture.is_some()) * APERTURE_STEPS_MAX as usize;
        for why in [OutOfService::Terminating, OutOfService::Ordered] {
            // One in service of four that stay, far behind all that leave.
            let spoil = |index: usize, load: &Load| match index {
                SURVIVOR => {}
                index if index.abs_diff(SURVIVOR) < 3 && index > SURVIVOR - 2 => {
                    load.set_out_of_service(OutOfService::Unhealthy, true);
                }
                _ => load.set_out_of_service(why, true),
            };
            let (most, picked) = looks(&known, spoil, 50);
            let stays =
                |index: &EndpointIndex| (SURVIVOR - 1..SURVIVOR + 3).contains(&index.as_usize());
            assert!(picked.iter().all(stays), "{picked:?}: {:?}", known.0.balancing);
            let most_looks = PROBES_MAX + near + 2 * SCAN_STEPS_MAX;
            assert!(most <= most_looks, "{most}: {:?}", known.0.balancing);
        }
    }
}

#[test]
fn where_all_are_in_service_two_are_looked_at() {
    for known in clusters() {
        let (most, _) = looks(&known, |_, _| (), 50);
        assert!(most <= 4, "{most} looks: {:?}", known.0.balancing);
    }
}
