//! The balancer's promises: evenness, least load, refusals last.

use proptest::prelude::*;

use super::*;

const SECOND_NS: u64 = 1_000_000_000;

/// Endpoints and what is known of them.
struct Balancer {
    loads: Vec<Loaded>,
    turn: Cell<u32>,
    balancing: Balancing,
}

#[derive(Default)]
struct Loaded(Load);

impl AsRef<Load> for Loaded {
    fn as_ref(&self) -> &Load {
        &self.0
    }
}

impl Balancer {
    fn new(count: usize) -> Self {
        let loads = std::iter::repeat_with(Loaded::default).take(count).collect();
        Self { loads, turn: Cell::new(0), balancing: Balancing::LeastRequest }
    }

    fn pick(&self, now_ns: u64, random: u64, tried: &[EndpointIndex]) -> Option<EndpointIndex> {
        let Self { loads, turn, balancing } = self;
        let balancing = *balancing;
        Choice { endpoints: loads, balancing, now_ns, random, turn, tried }.pick()
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
        let balancer = Balancer::new(count);
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
    let balancer = Balancer::new(50);
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
    let balancer = Balancer::new(2);
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
    let balancer = Balancer::new(2);
    for _ in 0..100 {
        balancer.at(index(0)).on_refused(0);
    }
    assert!((0..64).any(|draw| balancer.pick(SECOND_NS, mix(draw), &[]) == Some(index(0))));
}

#[test]
fn a_connect_forgets_the_refusals() {
    let balancer = Balancer::new(2);
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
    let balancer = Balancer::new(3);
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
    assert_eq!(Balancer::new(0).pick(0, 1, &[]), None);
    assert_eq!(Balancer::new(1).pick(0, 1, &[index(0)]), None);
    assert_eq!(Balancer::new(3).pick(0, 1, &[index(0), index(1), index(2)]), None);
}

#[test]
fn one_healthy_endpoint_among_many_penalised_is_found() {
    let balancer = Balancer::new(1_000);
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
fn round_robin_takes_turns_and_passes_over_the_refuser() {
    let balancer = Balancer { balancing: Balancing::RoundRobin, ..Balancer::new(4) };
    let mut draws = Draws(1);
    let mut turns = |balancer: &Balancer, now_ns| -> Vec<usize> {
        let mut pick = || balancer.pick(now_ns, draws.next(), &[]).expect("one is healthy");
        (0..8).map(|_| pick().as_usize()).collect()
    };
    assert_eq!(turns(&balancer, 0), [1, 2, 3, 0, 1, 2, 3, 0]);
    balancer.at(index(2)).on_refused(0);
    assert_eq!(turns(&balancer, 1), [1, 3, 3, 0, 1, 3, 3, 0]);
}

#[test]
fn round_robin_goes_on_after_its_list_became_shorter() {
    let balancer = Balancer { balancing: Balancing::RoundRobin, ..Balancer::new(3) };
    balancer.turn.set(700);
    assert_eq!(balancer.pick(0, 1, &[]), Some(index(0)));
}

#[test]
fn random_is_even_whatever_the_load() {
    let balancer = Balancer { balancing: Balancing::Random, ..Balancer::new(2) };
    (0..1_000).for_each(|_| balancer.at(index(0)).on_start());
    let mut draws = Draws(9);
    let first = (0..10_000).filter(|_| balancer.pick(0, draws.next(), &[]) == Some(index(0)));
    let share = first.count();
    assert!((4_700..5_300).contains(&share), "{share} of 10,000");
}

proptest! {
    #[test]
    fn the_less_loaded_of_two_wins(loads in (0_u32..50, 0_u32..50), random: u64) {
        let balancer = Balancer::new(2);
        (0..loads.0).for_each(|_| balancer.at(index(0)).on_start());
        (0..loads.1).for_each(|_| balancer.at(index(1)).on_start());
        let picked = balancer.pick(0, random, &[]).expect("both are healthy");
        let other = index(1 - picked.as_usize());
        prop_assert!(balancer.at(picked).in_flight() <= balancer.at(other).in_flight());
    }

    #[test]
    fn the_most_loaded_never_wins_over_another(count in 2_usize..200, random: u64, loaded: prop::sample::Index) {
        let balancer = Balancer::new(count);
        let loaded = index(loaded.index(count));
        balancer.at(loaded).on_start();
        prop_assert_ne!(balancer.pick(0, random, &[]).expect("all are healthy"), loaded);
    }

    #[test]
    fn a_penalised_or_tried_endpoint_is_never_picked_while_another_is_left(
        states in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u32..5), 1..60),
        random: u64,
    ) {
        let balancer = Balancer::new(states.len());
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
        let balancer = Balancer::new(refused_at.len());
        for (endpoint, at_ns) in refused_at.iter().enumerate() {
            balancer.at(index(endpoint)).on_refused(*at_ns);
        }
        let soonest = (0..refused_at.len()).min_by_key(|endpoint| refused_at[*endpoint]).map(index);
        prop_assert_eq!(balancer.pick(950_000_000, random, &[]), soonest);
    }
}
