//! Ejections in simulated time, over what several workers saw.

use super::sweep::*;
use super::*;
use lateen_snapshot::model::outlier::{FailurePercentage, Latency, SuccessRate};
use proptest::prelude::*;

const SECOND_NS: u64 = 1_000_000_000;

fn detection() -> OutlierDetection {
    OutlierDetection {
        consecutive_gateway_errors: 7,
        consecutive_5xx_errors: 9,
        ..OutlierDetection::default()
    }
}

#[test]
fn each_kind_of_failure_goes_on_with_its_own_run_and_the_wider_ones() {
    let mut runs = Runs::default();
    let table = [
        (Ending::ConnectFailed, (1, 1, 1, 1)),
        (Ending::ConnectFailed, (2, 2, 2, 2)),
        (Ending::Reset, (0, 3, 3, 3)),
        (Ending::GatewayError, (0, 0, 4, 4)),
        (Ending::ServerError, (0, 0, 0, 5)),
        (Ending::ConnectFailed, (1, 1, 1, 6)),
        (Ending::Answered, (0, 0, 0, 0)),
    ];
    for (ending, (refused, local, gateway, server)) in table {
        runs.note(ending);
        assert_eq!(runs, Runs { refused, local, gateway, server }, "after {ending:?}");
    }
    for (status, ending) in [
        (200, Ending::Answered),
        (404, Ending::Answered),
        (500, Ending::ServerError),
        (501, Ending::ServerError),
        (502, Ending::GatewayError),
        (504, Ending::GatewayError),
        (505, Ending::ServerError),
        (999, Ending::Answered),
    ] {
        assert_eq!(Ending::of_status(status), ending, "{status}");
    }
}

#[test]
fn the_runs_of_all_workers_count_together() {
    for workers in [1, 2, 16] {
        let mut of_workers = vec![Runs::default(); workers];
        for failure in 0..5 {
            let sum = of_workers.iter().fold(Runs::default(), |sum, of| sum.and(*of));
            assert_eq!(sum.cause(&detection(), false), None, "{failure} failures, {workers}");
            of_workers[failure % workers].note(Ending::Reset);
        }
        let sum = of_workers.iter().fold(Runs::default(), |sum, of| sum.and(*of));
        assert_eq!(sum.cause(&detection(), false), Some(Cause::LocalOrigin));
    }
}

#[test]
fn what_is_not_asked_for_ejects_nobody_and_a_trial_ends_with_one_failure() {
    let runs = |local, gateway, server| Runs { refused: 0, local, gateway, server };
    let defaults = OutlierDetection::default();
    assert_eq!(runs(4, 900, 900).cause(&defaults, false), None);
    assert_eq!(runs(0, 900, 900).cause(&defaults, true), None);
    assert_eq!(runs(1, 1, 1).cause(&defaults, true), Some(Cause::LocalOrigin));
    assert_eq!(runs(0, 7, 7).cause(&detection(), false), Some(Cause::GatewayErrors));
    assert_eq!(runs(0, 6, 9).cause(&detection(), false), Some(Cause::ServerErrors));
    assert_eq!(runs(0, 6, 8).cause(&detection(), false), None);
}

#[test]
fn who_refuses_is_down_whatever_limit_that_meets_first() {
    let runs = |endings: &[Ending]| {
        let mut runs = Runs::default();
        endings.iter().for_each(|ending| runs.note(*ending));
        runs
    };
    let (refused, reset, wrong) = (Ending::ConnectFailed, Ending::Reset, Ending::GatewayError);
    for cause in [Cause::LocalOrigin, Cause::GatewayErrors, Cause::ServerErrors] {
        assert!(runs(&[refused, refused]).is_refused_for(cause));
        assert!(runs(&[reset, refused]).is_refused_for(cause));
        assert!(!runs(&[refused, reset]).is_refused_for(cause), "it took the last");
    }
    assert!(!runs(&[wrong, refused]).is_refused_for(Cause::GatewayErrors), "it has answered");
    assert!(!runs(&[Ending::ServerError, refused]).is_refused_for(Cause::ServerErrors));
    assert!(!runs(&[refused]).is_refused_for(Cause::SuccessRate));
}

fn census(endpoints: usize, out: usize) -> Census {
    Census { endpoints, in_service: endpoints - out }
}

#[test]
fn each_ejection_in_a_row_lasts_longer_up_to_the_greatest() {
    let detection = detection();
    let mut ejections = Ejections::<usize>::default();
    let mut now_ns = 0;
    for seconds in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300] {
        assert_eq!(ejections.eject(&detection, 1, census(4, 0), false, now_ns), Verdict::Ejected);
        let until_ns = now_ns + seconds * SECOND_NS;
        assert_eq!(ejections.next_ns(), Some(until_ns));
        assert!(ejections.due(until_ns - 1).is_empty());
        assert_eq!(ejections.due(until_ns), [1]);
        assert!(ejections.bring_back(1, until_ns));
        now_ns = until_ns + SECOND_NS;
    }
    // Twelve are held against it; each interval in service takes one away.
    now_ns += 119 * SECOND_NS;
    assert_eq!(ejections.eject(&detection, 1, census(4, 0), false, now_ns), Verdict::Ejected);
    assert_eq!(ejections.next_ns(), Some(now_ns + 30 * SECOND_NS));
}

#[test]
fn at_most_half_are_ejected_and_never_the_last() {
    let detection = detection();
    for (endpoints, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (100, 50)] {
        let mut ejections = Ejections::<usize>::default();
        let verdicts: Vec<Verdict> = (0..endpoints)
            .map(|key| {
                let census = census(endpoints, ejections.out_count());
                ejections.eject(&detection, key, census, false, 0)
            })
            .collect();
        let ejected = verdicts.iter().filter(|one| **one == Verdict::Ejected).count();
        assert_eq!(ejected, most, "of {endpoints}");
        assert!(verdicts[most..].iter().all(|one| *one == Verdict::Declined));
    }
    let all = OutlierDetection { max_ejection_percent: 100, ..detection };
    let mut ejections = Ejections::<usize>::default();
    for key in 0..10 {
        let census = census(10, ejections.out_count());
        ejections.eject(&all, key, census, false, 0);
    }
    assert_eq!(ejections.out_count(), 9);
    // Those that fail their health checks are no use either.
    let mut ejections = Ejections::<usize>::default();
    let one_left = Census { endpoints: 10, in_service: 1 };
    assert_eq!(ejections.eject(&all, 1, one_left, false, 0), Verdict::Declined);
}

#[test]
fn who_refuses_comes_back_by_a_connect_alone() {
    let detection = detection();
    let mut ejections = Ejections::<usize>::default();
    assert_eq!(ejections.eject(&detection, 1, census(3, 0), true, 0), Verdict::Ejected);
    assert_eq!(ejections.eject(&detection, 1, census(3, 1), true, 0), Verdict::Already);
    assert_eq!(ejections.next_ns(), None);
    assert!(ejections.due(u64::MAX - 1).is_empty());
    assert!(ejections.waits_for_connect(1));
    assert!(ejections.bring_back(1, SECOND_NS));
    assert!(!ejections.bring_back(1, SECOND_NS));
    // One that was reset, and is found to refuse.
    assert_eq!(ejections.eject(&detection, 2, census(3, 0), false, 0), Verdict::Ejected);
    assert!(!ejections.waits_for_connect(2));
    ejections.wait_for_connect(2);
    assert!(ejections.due(u64::MAX - 1).is_empty());
    assert_eq!(ejections.out(), [2]);
}

#[test]
fn what_has_gone_is_forgotten() {
    let detection = detection();
    let mut ejections = Ejections::<usize>::default();
    for key in [1, 2, 3] {
        ejections.eject(&detection, key, census(9, 0), false, 0);
    }
    assert!(ejections.bring_back(3, SECOND_NS));
    assert!(!ejections.tidy(&detection, 2 * SECOND_NS, |_| true));
    assert!(ejections.tidy(&detection, 2 * SECOND_NS, |key| key != 2));
    assert_eq!((ejections.out(), ejections.records.len()), (vec![1], 2));
    assert!(!ejections.tidy(&detection, 11 * SECOND_NS, |_| true));
    assert_eq!(ejections.records.len(), 1, "it is forgiven after an interval");
}

fn counts(tries: u64, failures: u64, median_us: u64) -> Counts {
    Counts { tries, failures, median_us: Some(median_us) }
}

#[test]
fn a_success_rate_far_below_the_others_stands_out() {
    let rate = SuccessRate { stdev_factor: 1_900, minimum_hosts: 5, request_volume: 100 };
    let detection = OutlierDetection { success_rate: Some(rate), ..detection() };
    let good = counts(1_000, 10, 1_000);
    let with = |last: Counts| [good, good, good, good, good, last];
    let found = sweep(&detection, &with(counts(1_000, 300, 1_000)));
    assert_eq!(found, [(5, Cause::SuccessRate)]);
    // Far by deviations, but not by five points.
    assert_eq!(sweep(&detection, &with(counts(1_000, 60, 1_000))), []);
    // Too few requests there; too few endpoints with enough.
    assert_eq!(sweep(&detection, &with(counts(99, 99, 1_000))), []);
    assert_eq!(sweep(&detection, &[good, good, good, counts(1_000, 900, 1_000)]), []);
    // All alike: nobody stands out.
    assert_eq!(sweep(&detection, &[counts(1_000, 900, 1_000); 6]), []);
}

#[test]
fn too_large_a_share_of_failures_stands_out_alone() {
    let share = FailurePercentage { threshold: 85, request_volume: 50 };
    let detection = OutlierDetection { failure_percentage: Some(share), ..detection() };
    let all = [counts(50, 43, 1), counts(50, 42, 1), counts(49, 49, 1), counts(100, 99, 1)];
    let cause = Cause::FailurePercentage;
    assert_eq!(sweep(&detection, &all), [(3, cause), (0, cause)]);
}

#[test]
fn a_latency_far_above_the_others_stands_out() {
    let latency = Latency { factor_percent: 300, margin_ms: 10, request_volume: 100 };
    let detection = OutlierDetection { latency: Some(latency), ..detection() };
    let of = |medians: [u64; 4]| medians.map(|median_us| counts(100, 0, median_us));
    let found = sweep(&detection, &of([10_000, 10_000, 12_000, 31_000]));
    assert_eq!(found, [(3, Cause::Latency)]);
    assert_eq!(sweep(&detection, &of([10_000, 10_000, 12_000, 30_000])), []);
    // Three times as slow, but not by ten milliseconds.
    assert_eq!(sweep(&detection, &of([1_000, 1_000, 1_000, 11_000])), []);
    assert_eq!(sweep(&detection, &of([1_000, 1_000, 1_000, 11_001])), [(3, Cause::Latency)]);
    assert_eq!(sweep(&detection, &of([1_000, 1_000, 1_000, 90_000])[2..]), []);
}

proptest! {
    #[test]
    fn a_median_is_off_by_a_fifth_at_most(latency_us in 64_u64..4_000_000) {
        let mut sorts = [0; LATENCY_SORTS];
        sorts[sort_of_latency(latency_us)] = 1;
        let median = median_us(&sorts).expect("there is one") as f64;
        let off = median / latency_us as f64;
        prop_assert!((0.8..1.25).contains(&off), "{latency_us} is told as {median}");
    }

    #[test]
    fn whatever_happens_no_more_are_out_than_may_be(
        steps in proptest::collection::vec((0..8_usize, 0..4_u8, 0..60_u64), 0..200),
        percent in 1..=100_u32,
    ) {
        let detection = OutlierDetection { max_ejection_percent: percent, ..detection() };
        let mut ejections = Ejections::<usize>::default();
        let mut now_ns = 0;
        for (key, what, seconds) in steps {
            now_ns += seconds * SECOND_NS;
            match what {
                0 | 1 => {
                    let census = census(8, ejections.out_count());
                    ejections.eject(&detection, key, census, what == 1, now_ns);
                }
                2 => drop(ejections.bring_back(key, now_ns)),
                _ => for due in ejections.due(now_ns) {
                    prop_assert!(ejections.bring_back(due, now_ns));
                },
            }
            let most = (8 * percent as usize / 100).clamp(1, 7);
            prop_assert!(ejections.out_count() <= most);
            prop_assert_eq!(ejections.out().len(), ejections.out_count());
        }
    }
}
