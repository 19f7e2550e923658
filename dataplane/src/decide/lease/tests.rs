//! Leases in simulated time, on one worker and on many.

use proptest::prelude::*;

use super::count::{UnitLease, Units, batch_size};
use super::keyed::{KeyedBuckets, Lender};
use super::rate::{Bucket, Lease, Rate, Spent};

const S: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// Workers that share a limit, and a strict bucket that sees what they admit.
struct World {
    rate: Rate,
    bucket: Bucket,
    leases: Vec<Lease>,
    admitted: u64,
    lends: u64,
    strict: Bucket,
}

impl World {
    fn new(rate: Rate, workers: usize) -> Self {
        let bucket = Bucket::full(&rate, 0);
        let leases = vec![Lease::default(); workers];
        Self { rate, bucket, leases, admitted: 0, lends: 0, strict: bucket }
    }

    fn ask(&mut self, worker: usize, now_ns: u64) -> bool {
        let size = self.rate.lease_size(self.leases.len());
        let lease = &mut self.leases[worker];
        let spent = match lease.spend(now_ns) {
            Spent::Empty => {
                self.lends += 1;
                self.bucket.lend(lease, &self.rate, size, now_ns);
                lease.spend(now_ns)
            }
            other => other,
        };
        assert_ne!(spent, Spent::Empty, "a lend says yes or no");
        let admitted = spent == Spent::Admitted;
        if admitted {
            self.admitted += 1;
            let mut strict = Lease::default();
            self.strict.lend(&mut strict, &self.rate, 1, now_ns);
            assert_eq!(strict.spend(now_ns), Spent::Admitted, "more than the limit at {now_ns}");
        }
        admitted
    }
}

fn per_s(units: u64, burst: u64) -> Rate {
    Rate { units, span_ns: S, burst }
}

fn assert_within_a_percent(admitted: u64, expected: u64, what: &str) {
    let off = admitted.abs_diff(expected);
    assert!(off * 100 <= expected, "{admitted} admitted of {expected}: {what}");
}

#[test]
fn twice_the_rate_is_cut_to_the_rate_however_it_is_spread() {
    let (rate, seconds) = (per_s(1_000, 1_000), 12);
    for workers in [1, 2, 16] {
        for connections in [1_u64, 256] {
            let mut world = World::new(rate, workers);
            for request in 0..2_000 * seconds {
                // Connections belong to workers; each sends when its turn comes.
                let worker = (request % connections) as usize % workers;
                world.ask(worker, request * S / 2_000);
            }
            let what = format!("{workers} workers, {connections} connections");
            assert_within_a_percent(world.admitted, 1_000 + 1_000 * seconds, &what);
        }
    }
}

#[test]
fn all_load_on_one_worker_finds_all_of_the_rate_and_so_it_does_on_the_next() {
    let (rate, seconds) = (per_s(1_000, 500), 12);
    for workers in [2, 16] {
        let mut world = World::new(rate, workers);
        for request in 0..2_000 * seconds {
            let worker = if request < 1_000 * seconds { 0 } else { workers - 1 };
            world.ask(worker, request * S / 2_000);
        }
        assert_within_a_percent(world.admitted, 500 + 1_000 * seconds, "moved");
    }
}

#[test]
fn nothing_is_shared_for_what_is_refused_or_spent_from_a_lease() {
    // A thousand times the rate: refusals are said from memory.
    let mut world = World::new(per_s(1_000, 10), 2);
    for request in 0..2_000_000_u64 {
        world.ask((request % 2) as usize, request * 1_000);
    }
    assert!(world.lends <= 2 * 2 * 2_010, "{} lends", world.lends);
    // A hundredth of a high rate: one lend for many.
    let mut world = World::new(per_s(1_000_000, 1_000_000), 2);
    for request in 0..100_000_u64 {
        assert!(world.ask((request % 2) as usize, request * 10_000));
    }
    assert!(world.lends <= 2 * 201, "{} lends", world.lends);
}

#[test]
fn a_worker_that_does_not_come_again_costs_the_others_next_to_nothing() {
    let rate = per_s(10_000, 10_000);
    let mut world = World::new(rate, 16);
    for worker in 0..15 {
        assert!(world.ask(worker, 0));
    }
    // All of the burst but what they hold is there for one of them, and after a pause all of it.
    for (at_ns, least) in [(0, 10_000 - 15 - 15 * 3), (10 * S, 10_000)] {
        let before = world.admitted;
        while world.ask(15, at_ns) {}
        assert!(world.admitted - before >= least, "{} at {at_ns}", world.admitted - before);
    }
}

#[test]
fn a_long_span_is_counted_to_the_unit() {
    // Seven in an hour, of which none is rounded away.
    let rate = Rate { units: 7, span_ns: 3_600 * S, burst: 1 };
    let mut world = World::new(rate, 2);
    for second in 0..36_000 {
        world.ask((second % 2) as usize, second * S);
    }
    assert!((69..=71).contains(&world.admitted), "{} in ten hours", world.admitted);
}

#[test]
fn a_changed_rate_keeps_the_level() {
    let (slow, fast) = (per_s(10, 10), Rate { units: 100, span_ns: S / 2, burst: 20 });
    let mut bucket = Bucket::full(&slow, 0);
    let mut lease = Lease::default();
    for _ in 0..6 {
        bucket.lend(&mut lease, &slow, 1, 0);
        assert_eq!(lease.spend(0), Spent::Admitted);
    }
    bucket.change(&slow, &fast, 0);
    assert_eq!(bucket.level(&fast), 4);
    bucket.change(&fast, &per_s(1, 2), 0);
    assert_eq!(bucket.level(&per_s(1, 2)), 2, "as far as there is room");
}

#[test]
fn who_was_refused_is_told_when_to_come_again() {
    let rate = per_s(2, 1);
    let mut bucket = Bucket::full(&rate, 0);
    let mut lease = Lease::default();
    bucket.lend(&mut lease, &rate, 1, 0);
    assert_eq!(lease.spend(0), Spent::Admitted);
    bucket.lend(&mut lease, &rate, 1, 0);
    assert_eq!((lease.spend(0), lease.refused_until_ns()), (Spent::Refused, S / 2));
    assert_eq!(lease.spend(S / 2 - 1), Spent::Refused);
    bucket.lend(&mut lease, &rate, 1, S / 2);
    assert_eq!(lease.spend(S / 2), Spent::Admitted);
}

#[test]
fn a_worker_knows_what_is_left_of_a_low_rate_and_about_a_high_one() {
    let rate = per_s(2, 10);
    let (mut world, none_asks) = (World::new(rate, 2), Lease::default());
    for asked in 1..=10 {
        assert!(world.ask(asked % 2, 0));
        let left = world.leases[asked % 2].remaining(&rate, 0);
        assert_eq!((left.units, left.full_in_ns), (10 - asked as u64, asked as u64 * S / 2));
    }
    assert!(!world.ask(0, 0));
    assert_eq!(world.leases[0].remaining(&rate, 0).units, 0);
    let later = world.leases[0].remaining(&rate, 3 * S / 2);
    assert_eq!((later.units, later.full_in_ns), (3, 7 * S / 2));
    assert_eq!(world.leases[0].remaining(&rate, 3_600 * S).units, 10, "never more than the burst");
    assert_eq!(none_asks.remaining(&rate, 0).units, 0);

    let rate = per_s(10_000, 10_000);
    let mut world = World::new(rate, 2);
    for asked in 1..=5_000_u64 {
        assert!(world.ask((asked % 2) as usize, 0));
        let left = world.leases[(asked % 2) as usize].remaining(&rate, 0).units;
        assert!(left.abs_diff(10_000 - asked) <= 100, "{left} after {asked}");
    }
}

fn ask_keyed(buckets: &mut KeyedBuckets, key: u64, now_ns: u64) -> (bool, Lender) {
    let mut lease = Lease::default();
    let lender = buckets.lend(key, &mut lease, 1, now_ns);
    (lease.spend(now_ns) == Spent::Admitted, lender)
}

#[test]
fn keys_have_buckets_of_their_own_until_there_is_no_place() {
    let mut buckets = KeyedBuckets::new(per_s(1, 2), 2, 0);
    for key in [1, 2] {
        let admitted: Vec<bool> = (0..3).map(|_| ask_keyed(&mut buckets, key, 0).0).collect();
        assert_eq!(admitted, [true, true, false]);
    }
    // Two that are new share one bucket, and take nothing from the others.
    assert_eq!(ask_keyed(&mut buckets, 3, 0), (true, Lender::Overflow));
    assert_eq!(ask_keyed(&mut buckets, 4, 0), (true, Lender::Overflow));
    assert_eq!(ask_keyed(&mut buckets, 3, 0), (false, Lender::Overflow));
    // Key 1 is full again after two seconds and gives way; key 2 took one meanwhile and stays.
    assert_eq!(ask_keyed(&mut buckets, 2, S), (true, Lender::Own));
    assert_eq!(ask_keyed(&mut buckets, 3, 2 * S), (true, Lender::Own));
    assert_eq!(ask_keyed(&mut buckets, 2, 2 * S), (true, Lender::Own));
    assert_eq!(ask_keyed(&mut buckets, 2, 2 * S), (false, Lender::Own));
    assert_eq!(ask_keyed(&mut buckets, 1, 2 * S), (true, Lender::Overflow));
    assert_eq!(buckets.count(), 2);
}

#[test]
fn who_comes_by_many_keys_gets_no_more_than_by_as_many_as_there_are_places() {
    let rate = per_s(10, 10);
    let mut buckets = KeyedBuckets::new(rate, 50, 0);
    let mut admitted = 0;
    for request in 0..100_000_u64 {
        // A key is used up before the next: none is ever full when it would have to give way.
        let (was, _) = ask_keyed(&mut buckets, request / 20, request * MS / 10);
        admitted += u64::from(was);
    }
    // Ten seconds of fifty buckets and of the shared one.
    assert!(admitted <= 51 * (10 + 10 * 10), "{admitted}");
}

#[test]
fn a_small_cap_is_lent_one_by_one_and_a_large_one_in_batches() {
    assert_eq!(batch_size(31, 2), 1);
    assert_eq!(batch_size(1_024, 2), 8);
    assert_eq!(batch_size(1_024, 16), 1);
    assert_eq!(batch_size(100_000, 16), 97);
}

#[test]
fn a_worker_whose_use_comes_and_goes_by_one_lends_nothing() {
    let (mut units, mut lease, cap) = (Units::default(), UnitLease::default(), 1_024);
    let batch = batch_size(cap, 2);
    let mut lends = 0;
    for _ in 0..1_000 {
        if !lease.take() {
            lends += 1;
            lease.lent(units.lend(cap, batch));
            assert!(lease.take());
        }
        units.take_back(lease.release(batch, false));
    }
    assert_eq!(lends, 1);
    assert!(lease.spare() <= batch && units.lent() == lease.spare());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The strict bucket in [`World`] sees to it that no more is admitted than may be, whenever one begins
    /// to count.
    #[test]
    fn never_more_than_the_limit(
        units in 1_u64..5_000,
        span_ms in 1_u64..5_000,
        burst in 1_u64..3_000,
        workers in prop_oneof![Just(1_usize), Just(2), Just(16)],
        steps in prop::collection::vec((0_u64..300_000_000, 1_u32..400, 0_usize..16), 1..60),
    ) {
        let rate = Rate { units, span_ns: span_ms * MS, burst };
        let mut world = World::new(rate, workers);
        let mut now_ns = 0;
        for (wait_ns, asks, worker) in steps {
            // Short waits too: the exponent counts.
            now_ns += wait_ns >> (asks % 20);
            for ask in 0..asks {
                world.ask((worker + ask as usize % 2) % workers, now_ns);
            }
        }
    }

    #[test]
    fn never_more_than_the_cap_and_nothing_is_lost(
        cap in 1_u64..3_000,
        workers in prop_oneof![Just(1_usize), Just(2), Just(16)],
        steps in prop::collection::vec((0_usize..16, any::<bool>(), 1_u32..200, any::<bool>()), 1..80),
    ) {
        let batch = batch_size(cap, workers);
        let mut units = Units::default();
        let mut leases = vec![UnitLease::default(); workers];
        for (worker, enters, times, is_wanted) in steps {
            let lease = &mut leases[worker % workers];
            for _ in 0..times {
                if enters {
                    if !lease.take() {
                        lease.lent(units.lend(cap, batch));
                        if !lease.take() {
                            prop_assert_eq!(units.lent(), cap);
                        }
                    }
                } else if lease.in_use() > 0 {
                    units.take_back(lease.release(batch, is_wanted));
                }
            }
            let in_use: u64 = leases.iter().map(UnitLease::in_use).sum();
            let spare: u64 = leases.iter().map(UnitLease::spare).sum();
            prop_assert!(in_use <= cap);
            prop_assert_eq!(in_use + spare, units.lent());
            let unused_max = if batch == 1 { 0 } else { cap / 64 };
            prop_assert!(spare <= unused_max, "{} unused of {}", spare, cap);
        }
    }
}
