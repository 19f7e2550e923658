//! Budgets in simulated time, on one worker and on many.

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
const USUAL: RetryBudget = RetryBudget { percent: 20, min_per_second: 10 };

/// `per_second` requests by turns on `workers`, each of which wants `retries` more tries, for
/// `seconds`. Returns requests and paid tries.
fn storm(workers: usize, per_second: u64, seconds: u64, retries: u32) -> (u64, u64) {
    let mut budget = Budget::default();
    let leases: Vec<BudgetLease> = (0..workers).map(|_| BudgetLease::default()).collect();
    let (mut requests, mut paid) = (0, 0);
    for number in 0..per_second * seconds {
        let now_ns = number * 1_000_000_000 / per_second;
        requests += 1;
        let lease = &leases[number as usize % workers];
        for _ in 0..retries {
            let is_paid = lease.pay(now_ns, |wanted| budget.draw(USUAL, wanted, requests, now_ns));
            if !is_paid {
                break;
            }
            paid += 1;
        }
    }
    (requests, paid)
}

/// Draws until there is nothing left.
fn draw_all(budget: &mut Budget, terms: RetryBudget, requests: u64, now_ns: u64) -> u32 {
    std::iter::repeat_with(|| budget.draw(terms, u32::MAX, requests, now_ns))
        .take_while(|&drawn| drawn > 0)
        .sum()
}

#[test]
fn a_worker_leaves_most_to_others() {
    let mut budget = Budget::default();
    assert_eq!(budget.draw(USUAL, 8, 0, 0), 1);
    assert_eq!(budget.draw(USUAL, 8, 0, 3_600_000 * MS), 8);
}

#[test]
fn where_everything_fails_tries_stay_between_115_and_120_percent_and_ten_a_second() {
    for workers in [1, 2, 16] {
        for (per_second, seconds) in [(500, 10), (2_000, 10), (2_000, 35), (20_000, 10)] {
            let (requests, paid) = storm(workers, per_second, seconds, 3);
            let tries = (requests + paid) as f64;
            let most = 1.2 * requests as f64 + 10.0 * seconds as f64;
            let what = format!("{workers} workers, {per_second}/s for {seconds} s: {tries}");
            assert!(tries <= most, "{what}, at most {most}");
            assert!(tries >= 1.15 * requests as f64, "{what}");
        }
    }
}

#[test]
fn a_quiet_service_has_ten_retries_a_second_and_saves_no_more_than_a_window() {
    let mut budget = Budget::default();
    assert_eq!(draw_all(&mut budget, USUAL, 0, 0), 10);
    // Those of the first second were there at once.
    assert_eq!(draw_all(&mut budget, USUAL, 0, 1_000 * MS), 0);
    assert_eq!(draw_all(&mut budget, USUAL, 0, 2_000 * MS), 10);
    assert_eq!(draw_all(&mut budget, USUAL, 0, 3_600_000 * MS), 100);
    assert_eq!(draw_all(&mut budget, USUAL, 0, 3_600_000 * MS), 0);
}

#[test]
fn what_busy_times_earned_is_gone_after_a_while() {
    let terms = RetryBudget { percent: 20, min_per_second: 0 };
    let mut budget = Budget::default();
    budget.draw(terms, 0, 0, 0);
    // 1,000 a second for 10 s, and nobody retried.
    budget.draw(terms, 0, 10_000, 10_000 * MS);
    let mut soon = Budget { ..budget };
    assert!(draw_all(&mut soon, terms, 10_000, 10_001 * MS) > 1_000);
    assert!(draw_all(&mut budget, terms, 10_000, 60_000 * MS) < 20);
}

#[test]
fn no_budget_pays_for_nothing() {
    let terms = RetryBudget { percent: 0, min_per_second: 0 };
    let mut budget = Budget::default();
    assert_eq!(budget.draw(terms, 5, 1_000_000, 0), 0);
    assert_eq!(budget.draw(terms, 5, 2_000_000, 1_000 * MS), 0);
}

#[test]
fn an_empty_budget_is_not_asked_again_at_once() {
    let lease = BudgetLease::default();
    let asked = Cell::new(0);
    let draw = |_| {
        asked.set(asked.get() + 1);
        0
    };
    for step in 0..100 {
        assert!(!lease.pay(step * MS / 10, draw));
    }
    assert_eq!(asked.get(), 1);
    assert!(!lease.pay(limits::RETRY_BUDGET_LOOK.as_nanos() as u64, draw));
    assert_eq!(asked.get(), 2);
}

#[test]
fn what_is_held_for_too_long_is_not_used() {
    let lease = BudgetLease::default();
    assert!(lease.pay(0, |wanted| wanted));
    let later = limits::RETRY_LEASE.as_nanos() as u64;
    assert!(!lease.pay(later, |_| 0));
}

proptest! {
    /// Whatever comes when: never more than was earned.
    #[test]
    fn pays_no_more_than_was_earned(
        steps in proptest::collection::vec((0..500_u64, 0..2_000_u64, 0..300_u32), 1..60),
        percent in 0..200_u32,
        min_per_second in 0..100_u32,
    ) {
        let terms = RetryBudget { percent, min_per_second };
        let mut budget = Budget::default();
        let (mut now_ms, mut requests, mut paid) = (0, 0, 0_u64);
        for (span_ms, came, wanted) in steps {
            now_ms += span_ms;
            requests += came;
            paid += u64::from(budget.draw(terms, wanted, requests, now_ms * MS));
            let earned = requests as f64 * f64::from(percent) / 100.0
                + f64::from(min_per_second) * (now_ms as f64 / 1_000.0).max(1.0);
            prop_assert!(paid as f64 <= earned + 1e-6, "{paid} of {earned}");
        }
    }
}
