//! Grants of bytes under limits that change, in simulated time.

use std::time::Duration;

use lateen_snapshot::model::rate_limit::{LimitKey, RateLimit, SourcePrefix};

use super::*;
use crate::rate_limit::tests::{byte_limit, flows_of};
use crate::testing::{TestWorker, on_worker};

fn flow(worker: &mut TestWorker, limits: &[RateLimit]) -> Flow {
    flows_of(worker, limits).up.expect("both ways")
}

/// Somebody asks by the newest words, so that they count.
fn change(worker: &mut TestWorker, limits: &[RateLimit]) {
    drop(flow(worker, limits).ask(1, &Cell::new(0)));
}

fn wait(grant: &Grant<'_>) -> Duration {
    grant.due().since(lateen_ring::now())
}

#[test]
fn after_a_limit_was_lowered_all_who_wait_go_on_by_the_new_one() {
    on_worker(&[], async |mut worker| {
        let fast = [byte_limit("t", 100_000_000, 1_000_000)];
        let passed = Cell::new(0);
        let flows: Vec<_> = (0..400).map(|_| flow(&mut worker, &fast)).collect();
        let grants: Vec<_> = flows.iter().map(|flow| flow.ask(u64::MAX, &passed)).collect();
        let promised: u64 = grants.iter().map(Grant::bytes).sum();
        assert!(promised > 5_000_000, "{promised}");
        change(&mut worker, &[byte_limit("t", 10_000, 10_000)]);
        let mut waits = Vec::new();
        let mut again = Vec::new();
        for (grant, flow) in grants.into_iter().zip(&flows) {
            let has_passed_by_now = grant.due() <= lateen_ring::now();
            if has_passed_by_now {
                continue;
            }
            assert!(grant.is_outdated());
            drop(grant);
            again.push(flow.ask(u64::MAX, &passed));
            waits.extend(again.last().map(wait));
        }
        assert!(waits[0] <= Duration::from_millis(200), "the first waits for {:?}", waits[0]);
        let bytes: u64 = again.iter().map(Grant::bytes).sum();
        let fair = Duration::from_millis(bytes / 10 + 200);
        let last = waits.iter().max().expect("some wait");
        assert!(*last <= fair, "the last waits for {last:?}, {bytes} bytes for {fair:?}");
    });
}

#[test]
fn what_a_limit_promised_is_promised_once_whatever_becomes_of_another() {
    on_worker(&[], async |mut worker| {
        let kept = byte_limit("kept", 10_000, 10_000);
        let other = |nth: u64| byte_limit("other", 1_000_000 + nth, 1_000_000);
        let passed = Cell::new(0);
        let flow = flow(&mut worker, &[kept, other(0)]);
        let mut ahead = Vec::new();
        while ahead.last().is_none_or(|grant| wait(grant) < Duration::from_secs(1)) {
            ahead.push(flow.ask(u64::MAX, &passed));
        }
        let mut grant = flow.ask(u64::MAX, &passed);
        let before = wait(&grant);
        for nth in 1..=50 {
            change(&mut worker, &[other(nth)]);
            assert!(grant.is_outdated());
            drop(grant);
            grant = flow.ask(u64::MAX, &passed);
        }
        assert!(wait(&grant) <= before, "{:?}, and {before:?} before", wait(&grant));
    });
}

#[test]
fn what_was_there_goes_back_after_a_change_unless_it_was_of_other_buckets() {
    on_worker(&[], async |mut worker| {
        let once =
            |name: &str, burst: u64| RateLimit { span_ms: 3_600_000, ..byte_limit(name, 1, burst) };
        let source = SourcePrefix { v4_bits: 32, v6_bits: 64, trusted_hops: 0 };
        let key = Some(LimitKey::SourceAddress(source));
        let by_client = RateLimit { key, ..once("anew", 10_000) };
        let passed = Cell::new(0);
        let take_all = |flow: &Flow| {
            let now_ns = lateen_ring::now().as_nanos();
            let (limiter, key) = flow.enforced().next().expect("there is one");
            limiter.total.take(limiter.asking(key), u64::MAX, now_ns)
        };
        for (first, next, goes_back) in [
            (once("same", 10_000), once("same", 9_000), true),
            (by_client, once("anew", 9_000), false),
        ] {
            let first = flow(&mut worker, &[first]);
            let grant = first.ask(1, &passed);
            assert!(
                wait(&grant).is_zero()
                    && grant.bytes() == 1
                    && matches!(grant.taken, Taken::Drawn(_))
            );
            let lent = first.ask(1, &passed);
            assert!(matches!(lent.taken, Taken::Lent { .. }), "it is of what the worker has");
            let next = flow(&mut worker, &[next]);
            // The rest is spent meanwhile.
            take_all(&next);
            drop(lent);
            assert_eq!(take_all(&next), 0, "nobody knows whether it was of the same");
            drop(grant);
            assert_eq!(take_all(&next), u64::from(goes_back));
        }
    });
}

#[test]
fn what_is_kept_counts_once_it_passes_and_goes_back_if_it_never_does() {
    on_worker(&[], async |mut worker| {
        let limit = [byte_limit("t", 10_000, 10_000)];
        let passed = Cell::new(0);
        let decided = |worker: &TestWorker, outcome| {
            worker.shard.metrics().rate_limit.decided(Limited::Byte, outcome).value()
        };
        // Some of it is there, some is not.
        let keep = async |flow: &Flow| {
            let mut bytes = 0;
            while bytes < 12_000 {
                let grant = flow.ask(12_000 - bytes, &passed);
                lateen_ring::sleep(wait(&grant)).await;
                bytes += grant.bytes();
                grant.keep();
            }
        };
        let refused = flow(&mut worker, &limit);
        keep(&refused).await;
        let next = flow(&mut worker, &limit);
        assert!(!wait(&next.ask(5_000, &passed)).is_zero(), "it is kept");
        drop(refused);
        let (limiter, key) = next.enforced().next().expect("there is one");
        let now_ns = lateen_ring::now().as_nanos();
        assert_eq!(limiter.total.take(limiter.asking(key), u64::MAX, now_ns), 10_000);
        assert_eq!(decided(&worker, LimitOutcome::Admitted), 0);
        assert_eq!(decided(&worker, LimitOutcome::Limited), 0);

        lateen_ring::sleep(Duration::from_secs(1)).await;
        keep(&next).await;
        for _ in 0..2 {
            next.pass_kept();
            let admitted = decided(&worker, LimitOutcome::Admitted);
            let limited = decided(&worker, LimitOutcome::Limited);
            assert_eq!(admitted + limited, 12_000);
            assert!(admitted > 0 && limited > 0, "{admitted}, {limited}");
        }
        drop(next);
        let last = flow(&mut worker, &limit);
        assert!(!wait(&last.ask(5_000, &passed)).is_zero(), "it has passed");
    });
}
