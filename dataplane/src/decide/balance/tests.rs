//! The balancer's promises: evenness, least load, refusals last.

use lateen_snapshot::model::{ClusterPolicy, Endpoint, HashKey, Hashing};
use proptest::prelude::*;

use super::service::InService;
use super::*;

mod by_turns;
mod ordered_out;

const DRAW: Draw = Draw { random: 1, now_ns: 0, seat: Seat { worker: 0, workers: 1 } };
const SECOND_NS: u64 = 1_000_000_000;

/// Endpoints and what is known of them.
struct World {
    loads: Vec<Loaded>,
    balancer: Balancer,
}

#[derive(Default)]
struct Loaded(Load);

impl AsRef<Load> for Loaded {
    fn as_ref(&self) -> &Load {
        &self.0
    }
}

fn cluster(balancing: Balancing, count: usize, weights: &[u32]) -> Cluster {
    let address = |index: usize| ([10, 0, (index / 250) as u8, (index % 250) as u8], 80).into();
    Cluster {
        name: "c".to_owned(),
        endpoints: (0..count).map(|index| Endpoint { address: address(index) }).collect(),
        weights: weights.to_vec(),
        balancing,
        connect_timeout_ms: None,
        policy: ClusterPolicy::default(),
    }
}

impl World {
    fn new(count: usize) -> Self {
        Self::of(&cluster(Balancing::LeastRequest, count, &[]))
    }

    fn of(cluster: &Cluster) -> Self {
        let loads = cluster.endpoints.iter().map(|_| Loaded::default()).collect();
        let shared = Shared::of(cluster).unwrap_or_default();
        Self { loads, balancer: Balancer::new(cluster, shared, DRAW) }
    }

    fn pick(&self, now_ns: u64, random: u64, tried: &[EndpointIndex]) -> Option<EndpointIndex> {
        self.pick_for(None, now_ns, random, tried)
    }

    fn pick_for(
        &self,
        key: Option<u64>,
        now_ns: u64,
        random: u64,
        tried: &[EndpointIndex],
    ) -> Option<EndpointIndex> {
        let Self { loads, balancer } = self;
        let service = &InService::of(loads.iter().map(AsRef::as_ref), 50);
        let panics = service.is_panicking();
        Choice { endpoints: loads, service, balancer, now_ns, random, key, tried, panics }.pick()
    }

    /// Gives a request to an endpoint.
    fn start(&self, endpoint: EndpointIndex) {
        self.at(endpoint).on_start();
        self.balancer.on_start();
    }

    /// Ends one after that long.
    fn end(&self, endpoint: EndpointIndex, elapsed_ns: u64, now_ns: u64) {
        self.at(endpoint).on_end();
        self.balancer.on_end(endpoint, || Some((elapsed_ns, now_ns)));
    }

    fn at(&self, endpoint: EndpointIndex) -> &Load {
        self.loads[endpoint.as_usize()].as_ref()
    }
}

/// Evenly spread bits from a printed seed.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(mix(self.0))
    }
}

fn index(value: usize) -> EndpointIndex {
    EndpointIndex(value as u32)
}

#[test]
fn equal_endpoints_get_equal_shares() {
    for count in [1_usize, 2, 3, 7, 10, 64] {
        let balancer = World::new(count);
        let mut draws = Draws(42);
        let mut picked = vec![0_u32; count];
        let picks = 20_000;
        for _ in 0..picks {
            picked[balancer.pick(0, draws.next(), &[]).expect("all are healthy").as_usize()] += 1;
        }
        let share = f64::from(picks) / count as f64;
        for (endpoint, times) in picked.iter().enumerate() {
            let off = (f64::from(*times) - share).abs();
            assert!(
                off < 6.0 * share.sqrt(),
                "endpoint {endpoint} of {count}: {times} picks, share {share}"
            );
        }
    }
}

#[test]
fn load_evens_out_when_requests_stay() {
    let balancer = World::new(50);
    let mut draws = Draws(7);
    for _ in 0..5_000 {
        let endpoint = balancer.pick(0, draws.next(), &[]).expect("all are healthy");
        balancer.at(endpoint).on_start();
    }
    // One random choice would leave a spread of about ± 25; two keep it to a few.
    for endpoint in 0..50 {
        let load = balancer.at(index(endpoint)).in_flight();
        assert!((95..=105).contains(&load), "endpoint {endpoint} has {load}");
    }
}

#[test]
fn a_refusal_costs_one_second_and_doubles_to_thirty() {
    let balancer = World::new(2);
    let refusing = index(0);
    let mut now_ns = 5 * SECOND_NS;
    for penalty_s in [1, 2, 4, 8, 16, 30, 30] {
        balancer.at(refusing).on_refused(now_ns);
        let ends_ns = now_ns + penalty_s * SECOND_NS;
        for draw in 0..64 {
            assert_eq!(
                balancer.pick(ends_ns - 1, mix(draw), &[]),
                Some(index(1)),
                "penalty of {penalty_s} s"
            );
        }
        let picked_again =
            (0..64).any(|draw| balancer.pick(ends_ns, mix(draw), &[]) == Some(refusing));
        assert!(picked_again, "penalty of {penalty_s} s does not end");
        now_ns = ends_ns;
    }
}

#[test]
fn refusals_within_a_penalty_do_not_lengthen_it() {
    let balancer = World::new(2);
    for _ in 0..100 {
        balancer.at(index(0)).on_refused(0);
    }
    assert!((0..64).any(|draw| balancer.pick(SECOND_NS, mix(draw), &[]) == Some(index(0))));
}

#[test]
fn a_connect_forgets_the_refusals() {
    let balancer = World::new(2);
    balancer.at(index(0)).on_refused(0);
    balancer.at(index(0)).on_refused(SECOND_NS);
    balancer.at(index(0)).on_connected();
    assert!((0..64).any(|draw| balancer.pick(SECOND_NS, mix(draw), &[]) == Some(index(0))));
    balancer.at(index(0)).on_refused(SECOND_NS);
    let after_ns = 2 * SECOND_NS;
    assert!(
        (0..64).any(|draw| balancer.pick(after_ns, mix(draw), &[]) == Some(index(0))),
        "starts at 1 s again"
    );
}

#[test]
fn a_fast_refuser_does_not_look_idle() {
    let balancer = World::new(3);
    let mut draws = Draws(3);
    let mut refusals = 0;
    for tick in 0..10_000_u64 {
        let now_ns = tick * 1_000_000;
        let endpoint = balancer.pick(now_ns, draws.next(), &[]).expect("two are healthy");
        if endpoint == index(0) {
            balancer.at(endpoint).on_refused(now_ns);
            refusals += 1;
        } else {
            balancer.at(endpoint).on_start();
        }
    }
    assert!((1..=5).contains(&refusals), "{refusals} requests in 10 s went to the refuser");
}

#[test]
fn nothing_is_picked_when_all_were_tried_or_none_exists() {
    assert_eq!(World::new(0).pick(0, 1, &[]), None);
    assert_eq!(World::new(1).pick(0, 1, &[index(0)]), None);
    assert_eq!(World::new(3).pick(0, 1, &[index(0), index(1), index(2)]), None);
}

#[test]
fn one_healthy_endpoint_among_many_penalised_is_found() {
    let balancer = World::new(1_000);
    for endpoint in 0..1_000 {
        if endpoint != 777 {
            balancer.at(index(endpoint)).on_refused(0);
        }
    }
    for draw in 0..200 {
        assert_eq!(balancer.pick(1, mix(draw), &[]), Some(index(777)));
    }
}

#[test]
fn random_is_even_whatever_the_load() {
    let balancer = World::of(&cluster(Balancing::Random, 2, &[]));
    (0..1_000).for_each(|_| balancer.at(index(0)).on_start());
    let mut draws = Draws(9);
    let first = (0..10_000).filter(|_| balancer.pick(0, draws.next(), &[]) == Some(index(0)));
    let share = first.count();
    assert!((4_700..5_300).contains(&share), "{share} of 10,000");
}

proptest! {
    #[test]
    fn the_less_loaded_of_two_wins(loads in (0_u32..50, 0_u32..50), random: u64) {
        let balancer = World::new(2);
        (0..loads.0).for_each(|_| balancer.at(index(0)).on_start());
        (0..loads.1).for_each(|_| balancer.at(index(1)).on_start());
        let picked = balancer.pick(0, random, &[]).expect("both are healthy");
        let other = index(1 - picked.as_usize());
        prop_assert!(balancer.at(picked).in_flight() <= balancer.at(other).in_flight());
    }

    #[test]
    fn the_most_loaded_never_wins_over_another(count in 2_usize..200, random: u64, loaded: prop::sample::Index) {
        let balancer = World::new(count);
        let loaded = index(loaded.index(count));
        balancer.at(loaded).on_start();
        prop_assert_ne!(balancer.pick(0, random, &[]).expect("all are healthy"), loaded);
    }

    #[test]
    fn a_penalised_or_tried_endpoint_is_never_picked_while_another_is_left(
        states in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u32..5), 1..60),
        random: u64,
    ) {
        let balancer = World::new(states.len());
        let mut tried = Vec::new();
        for (endpoint, (refused, was_tried, load)) in states.iter().enumerate() {
            if *refused { balancer.at(index(endpoint)).on_refused(10); }
            if *was_tried { tried.push(index(endpoint)); }
            (0..*load).for_each(|_| balancer.at(index(endpoint)).on_start());
        }
        let picked = balancer.pick(11, random, &tried);
        let untried = states.iter().any(|(_, was_tried, _)| !was_tried);
        let healthy = states.iter().any(|(refused, was_tried, _)| !refused && !was_tried);
        prop_assert_eq!(picked.is_some(), untried);
        if let Some(picked) = picked {
            let (refused, was_tried, _) = states[picked.as_usize()];
            prop_assert!(!was_tried);
            prop_assert!(!(refused && healthy), "{:?} is penalised, another is healthy", picked);
        }
    }

    #[test]
    fn when_all_are_penalised_the_first_to_end_is_picked(
        refused_at in prop::collection::hash_set(1_u64..900_000_000, 1..60),
        random: u64,
    ) {
        let refused_at: Vec<u64> = refused_at.into_iter().collect();
        let balancer = World::new(refused_at.len());
        for (endpoint, at_ns) in refused_at.iter().enumerate() {
            balancer.at(index(endpoint)).on_refused(*at_ns);
        }
        let soonest = (0..refused_at.len()).min_by_key(|endpoint| refused_at[*endpoint]).map(index);
        prop_assert_eq!(balancer.pick(950_000_000, random, &[]), soonest);
    }
}

const EWMA: PeakEwma = PeakEwma { default_rtt_ms: 30, decay_ms: 10_000 };
const MS: u64 = 1_000_000;

#[test]
fn an_endpoint_that_refused_says_nothing_of_its_speed() {
    let world = World::of(&cluster(Balancing::PeakEwma(EWMA), 2, &[]));
    world.start(index(0));
    world.at(index(0)).on_end();
    world.balancer.on_end(index(0), || None);
    world.start(index(1));
    world.end(index(1), 20 * MS, 20 * MS);
    assert!((0..64).all(|draw| world.pick(20 * MS, mix(draw), &[]) == Some(index(1))));
}

/// One of ten replicas is 50 times slower than the others, then as fast as they. Each worker sees its
/// own part of 2,000 requests a second.
fn shares_with_a_slow_replica(workers: usize) -> (f64, f64) {
    const SLOW: usize = 3;
    const RATE: u64 = 2_000;
    let cluster = cluster(Balancing::PeakEwma(EWMA), 10, &[]);
    let workers: Vec<World> = (0..workers).map(|_| World::of(&cluster)).collect();
    let mut draws = Draws(11);
    // When each request ends, at which worker and endpoint, and how long it took.
    let mut under_way = std::collections::BinaryHeap::new();
    let (mut slow_share, mut fast_share) = (Tally::default(), Tally::default());
    for request in 0..90 * RATE {
        let now_ns = request * SECOND_NS / RATE;
        while let Some(std::cmp::Reverse((ends_ns, worker, endpoint, took_ns))) =
            under_way.peek().copied()
            && ends_ns <= now_ns
        {
            under_way.pop();
            let world: &World = &workers[worker];
            world.end(index(endpoint), took_ns, ends_ns);
        }
        let worker = (draws.next() % workers.len() as u64) as usize;
        let endpoint = workers[worker].pick(now_ns, draws.next(), &[]).expect("all are healthy");
        workers[worker].start(endpoint);
        let is_slow = endpoint == index(SLOW) && now_ns < 30 * SECOND_NS;
        let took_ns = if is_slow { 100 * MS } else { 2 * MS } + draws.next() % (MS / 5);
        under_way.push(std::cmp::Reverse((now_ns + took_ns, worker, endpoint.as_usize(), took_ns)));
        match now_ns / SECOND_NS {
            10..30 => slow_share.count(endpoint == index(SLOW)),
            85.. => fast_share.count(endpoint == index(SLOW)),
            _ => {}
        }
    }
    (slow_share.share(), fast_share.share())
}

#[derive(Default)]
struct Tally {
    all: u32,
    counted: u32,
}

impl Tally {
    fn count(&mut self, counts: bool) {
        self.all += 1;
        self.counted += u32::from(counts);
    }

    fn share(&self) -> f64 {
        f64::from(self.counted) / f64::from(self.all)
    }
}

#[test]
fn a_slow_replica_is_left_alone_and_comes_back_once_it_is_fast() {
    for workers in [1, 2, 16] {
        let (slow, fast) = shares_with_a_slow_replica(workers);
        assert!(slow <= 0.005, "{workers} workers: {slow} while it is slow");
        assert!(fast >= 0.05, "{workers} workers: {fast} after it has become fast");
    }
}

#[test]
fn weights_count_in_every_method() {
    let weights = [1, 2, 7];
    for balancing in [
        Balancing::LeastRequest,
        Balancing::Random,
        Balancing::RoundRobin,
        Balancing::PeakEwma(EWMA),
        ring(None),
        maglev(None),
    ] {
        let world = World::of(&cluster(balancing.clone(), 3, &weights));
        let mut draws = Draws(5);
        let mut picked = [0_u32; 3];
        let mut under_way = std::collections::VecDeque::new();
        for _ in 0..30_000 {
            let endpoint = world.pick(0, draws.next(), &[]).expect("all are healthy");
            picked[endpoint.as_usize()] += 1;
            world.start(endpoint);
            under_way.push_back(endpoint);
            if under_way.len() > 100 {
                world.end(under_way.pop_front().expect("there are many"), 30 * MS, 0);
            }
        }
        for (index, weight) in weights.iter().enumerate() {
            let (got, due) = (f64::from(picked[index]), 3_000.0 * f64::from(*weight));
            assert!((got / due - 1.0).abs() < 0.25, "{balancing:?}: {picked:?}");
        }
    }
}

fn hashing(bound_percent: Option<u32>) -> Box<Hashing> {
    Box::new(Hashing { keys: vec![HashKey::SourceAddress], bound_percent })
}

fn ring(bound_percent: Option<u32>) -> Balancing {
    Balancing::RingHash(hashing(bound_percent))
}

fn maglev(bound_percent: Option<u32>) -> Balancing {
    Balancing::Maglev(hashing(bound_percent))
}

#[test]
fn a_key_leads_to_the_same_endpoint_whatever_the_load() {
    for balancing in [ring(None), maglev(None)] {
        let world = World::of(&cluster(balancing, 20, &[]));
        for key in (0..50).map(mix) {
            let first = world.pick_for(Some(key), 0, 1, &[]).expect("all are healthy");
            for random in 0..20 {
                world.start(first);
                assert_eq!(world.pick_for(Some(key), 0, mix(random), &[]), Some(first));
            }
        }
    }
}

#[test]
fn a_second_try_of_a_key_goes_elsewhere_and_always_to_the_same() {
    for balancing in [ring(None), maglev(None)] {
        let world = World::of(&cluster(balancing, 5, &[]));
        for key in (0..50).map(mix) {
            let mut tried = Vec::new();
            while let Some(endpoint) = world.pick_for(Some(key), 0, mix(key), &tried) {
                assert!(!tried.contains(&endpoint));
                assert_eq!(world.pick_for(Some(key), 0, mix(!key), &tried), Some(endpoint));
                tried.push(endpoint);
            }
            assert_eq!(tried.len(), 5);
        }
    }
}

#[test]
fn without_a_key_chance_decides() {
    for balancing in [ring(None), maglev(None)] {
        let world = World::of(&cluster(balancing, 4, &[]));
        let mut draws = Draws(2);
        let mut picked = [0; 4];
        for _ in 0..4_000 {
            picked[world.pick(0, draws.next(), &[]).expect("healthy").as_usize()] += 1;
        }
        assert!(picked.iter().all(|times| (700..1_300).contains(times)), "{picked:?}");
    }
}

#[test]
fn a_bound_keeps_one_hot_key_from_filling_its_endpoint() {
    for balancing in [ring(Some(125)), maglev(Some(125))] {
        let world = World::of(&cluster(balancing, 10, &[]));
        for _ in 0..1_000 {
            let endpoint = world.pick_for(Some(77), 0, 1, &[]).expect("all are healthy");
            world.start(endpoint);
        }
        for endpoint in 0..10 {
            let load = world.at(index(endpoint)).in_flight();
            assert!(load <= 126, "endpoint {endpoint} has {load} of 1,000");
        }
    }
}

#[test]
fn what_is_known_of_an_endpoint_survives_a_snapshot() {
    let before = World::of(&cluster(Balancing::PeakEwma(EWMA), 2, &[]));
    before.start(index(1));
    let after = cluster(Balancing::PeakEwma(EWMA), 2, &[]);
    let balancer = before.balancer.as_in(&after, Shared::default(), DRAW, &[Some(1), None]);
    // It ends after the snapshot came, and is known to both.
    before.end(index(1), MS, MS);
    let after = World { balancer, ..World::of(&after) };
    assert!((0..64).all(|draw| after.pick(MS, mix(draw), &[]) == Some(index(0))));
}

#[test]
fn most_are_out_of_service_and_all_get_requests_but_those_that_are_taken_away() {
    let methods = [Balancing::LeastRequest, Balancing::RoundRobin, Balancing::Random];
    for balancing in methods {
        let world = World::of(&cluster(balancing, 10, &[]));
        let picked = |draws: &mut Draws| {
            let mut picked = [0_u32; 10];
            for _ in 0..5_000 {
                let endpoint = world.pick(0, draws.next(), &[]).expect("there are some");
                picked[endpoint.as_usize()] += 1;
            }
            picked
        };
        let mut draws = Draws(7);
        world.at(index(9)).set_out_of_service(OutOfService::Terminating, true);
        // Five of nine are in service: what is out counts.
        for at in 0..4 {
            world.at(index(at)).set_out_of_service(OutOfService::Ejected, true);
        }
        let before = picked(&mut draws);
        assert!(before[..4].iter().all(|times| *times == 0) && before[9] == 0, "{before:?}");
        // Four of nine.
        world.at(index(4)).set_out_of_service(OutOfService::Unhealthy, true);
        let after = picked(&mut draws);
        assert!(after[..9].iter().all(|times| *times > 300), "{after:?}");
        assert_eq!(after[9], 0, "{after:?}");
    }
}

#[test]
fn a_new_endpoint_gets_its_share_little_by_little_whatever_the_workers() {
    use lateen_snapshot::model::slow_start::SlowStart as Terms;
    let terms = Terms { window_ms: 10_000, aggression_percent: 100, min_percent: 5 };
    let methods = [
        Balancing::LeastRequest,
        Balancing::RoundRobin,
        Balancing::Random,
        Balancing::PeakEwma(PeakEwma { default_rtt_ms: 30, decay_ms: 10_000 }),
    ];
    for (balancing, workers) in
        methods.into_iter().flat_map(|of| [1, 2, 16].map(|n| (of.clone(), n)))
    {
        let slow = |count| {
            let mut cluster = cluster(balancing.clone(), count, &[]);
            cluster.policy.slow_start = Some(Box::new(terms));
            cluster
        };
        let stayed: Vec<Option<u32>> = (0..9).map(Some).chain([None]).collect();
        let mut worlds: Vec<World> = Vec::new();
        for _ in 0..workers {
            let mut world = World::of(&slow(10));
            let before = Balancer::new(&slow(9), Shared::default(), DRAW);
            world.balancer = before.as_in(&slow(10), Shared::default(), DRAW, &stayed);
            worlds.push(world);
        }
        let mut draws = Draws(11);
        let mut share_at = |now_ns: u64| {
            let mut new = 0;
            for request in 0..20_000 {
                let world = &worlds[request % workers];
                let picked = world.pick(now_ns, draws.next(), &[]).expect("there are some");
                new += u32::from(picked == index(9));
            }
            // Beside the tenth that it has in the end.
            f64::from(new) / 2_000.0
        };
        for (second, least, most) in [(0, 0.03, 0.08), (5, 0.42, 0.62), (10, 0.93, 1.07)] {
            let share = share_at(second * SECOND_NS);
            assert!((least..most).contains(&share), "{balancing:?} at {second} s: {share}");
        }
    }
}

#[test]
fn where_all_are_new_none_is_passed_over_in_the_end() {
    use lateen_snapshot::model::slow_start::SlowStart as Terms;
    let mut cluster = cluster(Balancing::RoundRobin, 3, &[]);
    cluster.policy.slow_start =
        Some(Box::new(Terms { window_ms: 10_000, aggression_percent: 100, min_percent: 1 }));
    let before = Balancer::new(&cluster, Shared::default(), DRAW);
    let mut world = World::of(&cluster);
    world.balancer = before.as_in(&cluster, Shared::default(), DRAW, &[None, None, None]);
    let mut draws = Draws(3);
    let mut picked = [0_u32; 3];
    for _ in 0..3_000 {
        picked[world.pick(0, draws.next(), &[]).expect("some").as_usize()] += 1;
    }
    assert!(picked.iter().all(|times| *times > 800), "{picked:?}");
}
