//! Bodies under a limit of bytes, in simulated time, on one worker and on many.

use proptest::prelude::*;

use super::*;
use crate::decide::lease::keyed::{KeyedBuckets, Lender};

const S: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// Bodies that share a limit, each on one of the workers.
struct World {
    rate: Rate,
    bucket: Bucket,
    leases: Vec<Lease>,
    /// When each goes on, with how many bytes.
    bodies: Vec<(Promise, u64)>,
    passed: u64,
    draws: u64,
}

impl World {
    fn new(rate: Rate, workers: usize, bodies: usize) -> Self {
        let none = (Promise { bytes: 0, due_ns: 0 }, 0);
        Self {
            rate,
            bucket: Bucket::full(&rate, 0),
            leases: vec![Lease::default(); workers],
            bodies: vec![none; bodies],
            passed: 0,
            draws: 0,
        }
    }

    fn ask(&mut self, body: usize, most: u64, now_ns: u64) -> Promise {
        let workers = self.leases.len();
        let lease = &mut self.leases[body % workers];
        match lease.take(most.min(self.rate.slice_bytes()), now_ns) {
            0 => {
                self.draws += 1;
                let size = self.rate.byte_lease_size(workers);
                self.bucket.draw(lease, &self.rate, most, size, now_ns)
            }
            bytes => Promise { bytes, due_ns: now_ns },
        }
    }

    /// Lets all bodies pass as much as they may until `end_ns`; each has as much as it is asked for.
    fn run(&mut self, end_ns: u64) {
        loop {
            let next = (0..self.bodies.len()).min_by_key(|body| self.bodies[*body].0.due_ns);
            let body = next.expect("there is one");
            let (promise, passed) = self.bodies[body];
            let now_ns = promise.due_ns;
            if now_ns > end_ns {
                return;
            }
            self.passed += promise.bytes;
            self.assert_not_too_fast(now_ns);
            let next = self.ask(body, 64 * 1024, now_ns);
            self.bodies[body] = (next, passed + promise.bytes);
        }
    }

    fn assert_not_too_fast(&self, now_ns: u64) {
        let Rate { units, span_ns, burst } = self.rate;
        let gained = u128::from(units) * u128::from(now_ns) / u128::from(span_ns);
        let most = u128::from(burst) + gained;
        assert!(u128::from(self.passed) <= most, "{} of {most} at {now_ns}", self.passed);
    }
}

fn per_s(units: u64, burst: u64) -> Rate {
    Rate { units, span_ns: S, burst }
}

#[test]
fn the_total_is_the_burst_and_the_rate_whatever_the_workers_and_bodies() {
    for (units, burst) in [(1_000_000, 1_000_000), (10_000, 10_000), (1_000_000_000, 10_000_000)] {
        for workers in [1, 2, 16] {
            for bodies in [1, 3, 64] {
                let rate = per_s(units, burst);
                let mut world = World::new(rate, workers, bodies);
                world.run(20 * S);
                let expected = burst + 20 * units;
                let off = expected - world.passed;
                let of = format!("{units}/s, {workers} workers, {bodies} bodies");
                assert!(off * 100 <= expected, "{} of {expected}: {of}", world.passed);
            }
        }
    }
}

#[test]
fn all_bodies_go_on_alike() {
    for workers in [1, 2, 16] {
        let mut world = World::new(per_s(1_000_000, 100_000), workers, 50);
        world.run(60 * S);
        let passed = world.bodies.iter().map(|(_, passed)| *passed);
        let (least, most) = (passed.clone().min(), passed.max());
        let (Some(least), Some(most)) = (least, most) else { panic!("there are some") };
        // The first ones found the burst.
        assert!(most - least <= 200_000, "{least} to {most} of 60 MB on {workers} workers");
    }
}

#[test]
fn nobody_waits_for_long_however_many_there_are() {
    let mut world = World::new(per_s(1_000_000, 100_000), 2, 1_000);
    world.run(30 * S);
    let last = world.bodies.iter().map(|(promise, _)| promise.due_ns).max();
    let wait_ns = last.expect("there are some") - 30 * S;
    assert!(wait_ns <= 3 * S, "{} ms", wait_ns / MS);
}

#[test]
fn what_is_under_the_rate_comes_for_more_once_in_a_while() {
    let mut world = World::new(per_s(10_000_000, 10_000_000), 2, 2);
    for message in 0..10_000_u64 {
        let now_ns = message * MS / 10;
        let promise = world.ask((message % 2) as usize, 200, now_ns);
        assert_eq!(promise, Promise { bytes: 200, due_ns: now_ns });
    }
    assert!(world.draws <= 2 * (1 + 2_000_000 / LENT_BYTES), "{} draws", world.draws);
}

#[test]
fn who_leaves_while_it_waits_gives_its_turn_to_the_next() {
    let rate = per_s(1_000, 1_024);
    let mut world = World::new(rate, 1, 1);
    let slice = rate.slice_bytes();
    assert_eq!(slice, 50);
    while world.ask(0, slice, 0).due_ns == 0 {}
    let before = world.ask(0, slice, 0).due_ns;
    for _ in 0..1_000 {
        let promise = world.ask(0, slice, 0);
        assert!(promise.due_ns > before);
        world.bucket.put_back(&rate, promise.bytes, 0);
    }
    let after = world.ask(0, slice, 0).due_ns;
    assert!(after <= before + 60 * MS, "{} ms", (after - before) / MS);
}

#[test]
fn what_did_not_pass_stays_with_the_worker_or_goes_back() {
    let rate = per_s(1_000_000, 1_000_000);
    let mut world = World::new(rate, 1, 1);
    let first = world.ask(0, 1_000, 0);
    assert_eq!(first.bytes, 1_000);
    let taken = world.leases[0].take(4_096, 0);
    assert_eq!(taken, 4_096);
    assert!(world.leases[0].keep(96, 0));
    assert!(!world.leases[0].keep(4_001, 0), "more than was lent");
    assert!(!world.leases[0].keep(1, S), "too old");
    assert_eq!(world.leases[0].take(1_000_000, 2 * S), 0, "too old");
    world.bucket.put_back(&rate, 1_000_000_000, 2 * S);
    assert!(world.bucket.level(&rate) <= 1_000_000, "never more than the burst");
}

#[test]
fn a_changed_rate_owes_nothing_to_who_asks_again() {
    let (slow, fast) = (per_s(1_000, 1_024), per_s(1_000_000, 1_024));
    let mut bucket = Bucket::full(&slow, 0);
    let mut lease = Lease::default();
    for _ in 0..21 {
        bucket.draw(&mut lease, &slow, 50, 0, 0);
    }
    let owed = bucket.draw(&mut lease, &slow, 50, 0, 0);
    assert_eq!(owed.due_ns, (22 * 50 - 1_024) * MS);
    bucket.change(&slow, &fast, 0);
    // Nothing is there; but the first is the first again.
    let next = bucket.draw(&mut lease, &fast, 24, 0, 0);
    assert_eq!(next.due_ns, 24 * MS / 1_000);
}

#[test]
fn a_key_that_owes_is_not_forgotten_and_those_without_a_place_share_one() {
    let rate = per_s(1_000, 1_024);
    let mut buckets = KeyedBuckets::new(rate, 1, 0);
    let mut draw = |key: u64, most: u64, now_ns: u64| {
        let mut lease = Lease::default();
        buckets.draw(key, &mut lease, most, 0, now_ns)
    };
    for _ in 0..30 {
        draw(1, 50, 0);
    }
    // A second after what it owes is paid it is not full yet.
    let (promise, lender) = draw(2, 50, S);
    assert_eq!((promise.due_ns, lender), (S, Lender::Overflow));
    assert_eq!(draw(1, 50, S).1, Lender::Own);
    let (promise, lender) = draw(2, 50, 3 * S);
    assert_eq!((promise.due_ns, lender), (3 * S, Lender::Own));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Bodies come and go, some leave while they wait; never does more pass than may.
    #[test]
    fn never_more_than_the_limit(
        units in 1_000_u64..100_000_000,
        burst in 1_024_u64..10_000_000,
        workers in prop_oneof![Just(1_usize), Just(2), Just(16)],
        steps in prop::collection::vec((0_u64..50_000_000, 1_u64..200_000, 0_usize..32, any::<bool>()), 1..300),
    ) {
        let mut world = World::new(per_s(units, burst), workers, 32);
        let mut now_ns = 0;
        let mut waiting: Vec<Promise> = Vec::new();
        for (wait_ns, most, body, leaves) in steps {
            now_ns += wait_ns;
            let (due, left): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|promise| promise.due_ns <= now_ns);
            waiting = left;
            for promise in due {
                world.passed += promise.bytes;
                world.assert_not_too_fast(now_ns);
            }
            let promise = world.ask(body, most, now_ns);
            match leaves && promise.due_ns > now_ns {
                true => world.bucket.put_back(&world.rate, promise.bytes, now_ns),
                false => waiting.push(promise),
            }
        }
    }
}
