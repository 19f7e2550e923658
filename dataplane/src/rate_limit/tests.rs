//! Limits of rates as requests meet them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lateen_snapshot::model::Snapshot;
use lateen_snapshot::model::rate_limit::{ByteLimit, LimitKey, SourcePrefix};

use super::*;
use crate::decide::limit_key::PeerHashes;
use crate::rate_limit::flow::Flows;
use crate::testing::{TestWorker, on_worker};

const BY_CLIENT: LimitKey =
    LimitKey::SourceAddress(SourcePrefix { v4_bits: 32, v6_bits: 64, trusted_hops: 0 });
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fn peer(ip: IpAddr, hashed: &PeerHashes) -> Peer<'_> {
    Peer { ip, hashed }
}

fn limit(name: &str, units: u64, span_ms: u32, burst: u64) -> RateLimit {
    let (key, keys_max, dry_run) = (None, 10, false);
    let (label, is_told) = (name.to_owned(), false);
    let name = format!("t/{name}");
    RateLimit { name, label, units, span_ms, burst, key, keys_max, is_told, dry_run }
}

fn limits(worker: &mut TestWorker, of: &[RateLimit]) -> Limits {
    let live = worker.switch(Snapshot::default());
    let limits = RateLimits { requests: of.to_vec(), ..RateLimits::default() };
    Limits::of_requests(&limits, &worker.shard, &live.loaded)
}

pub(crate) fn byte_limit(name: &str, bytes_per_s: u64, burst: u64) -> RateLimit {
    limit(name, bytes_per_s, 1_000, burst)
}

/// What limits the bytes of a message both ways, by a new snapshot.
pub(crate) fn flows_of(worker: &mut TestWorker, of: &[RateLimit]) -> Flows {
    let live = worker.switch(Snapshot::default());
    let direction = ByteDirection::Both;
    let bytes = of.iter().map(|limit| ByteLimit { limit: limit.clone(), direction }).collect();
    let limits = RateLimits { bytes, ..RateLimits::default() };
    let limits = Limits::of_requests(&limits, &worker.shard, &live.loaded);
    limits
        .flows(&worker.shard, None, peer(CLIENT, &PeerHashes::default()), true)
        .expect("there are some")
}

fn admitted(limits: &Limits, worker: &TestWorker, client: IpAddr, asks: u32) -> u32 {
    (0..asks)
        .map(|_| {
            u32::from(
                limits.ask(&worker.shard, None, peer(client, &PeerHashes::default())).is_none(),
            )
        })
        .sum()
}

fn decided(worker: &TestWorker, outcome: LimitOutcome) -> u64 {
    worker.shard.metrics().rate_limit.decided(Limited::Connection, outcome).value()
}

#[test]
fn a_burst_is_let_through_and_then_the_rate() {
    on_worker(&[], async |mut worker| {
        let limits = limits(&mut worker, &[limit("a", 10, 1_000, 5)]);
        assert_eq!(admitted(&limits, &worker, CLIENT, 20), 5);
        let over = limits
            .ask(&worker.shard, None, peer(CLIENT, &PeerHashes::default()))
            .expect("it is over");
        assert_eq!((over.label, over.retry_after_s), ("a", 1));
        assert_eq!(over.quotas, [Quota { label: "a", units: 10, window_s: 1 }]);
        lateen_ring::sleep(Duration::from_millis(200)).await;
        assert_eq!(admitted(&limits, &worker, CLIENT, 20), 2);
        assert_eq!(decided(&worker, LimitOutcome::Admitted), 7);
        assert_eq!(decided(&worker, LimitOutcome::Limited), 34);
    });
}

#[test]
fn what_one_limit_refuses_takes_nothing_from_the_others() {
    // Of a low rate nothing is at hand beyond what is asked for, of a high one many are.
    let many = limit("wide", 1_000_000, 1_000, 10_000);
    let by_client = RateLimit { key: Some(BY_CLIENT), ..many.clone() };
    for wide in [limit("wide", 1, 3_600_000, 10), many, by_client] {
        on_worker(&[], async |mut worker| {
            let burst = wide.burst as u32;
            let all = [wide, limit("narrow", 1, 1_000, 2)];
            let both = limits(&mut worker, &all);
            assert_eq!(admitted(&both, &worker, CLIENT, 50), 2);
            let over = both
                .ask(&worker.shard, None, peer(CLIENT, &PeerHashes::default()))
                .expect("it is over");
            assert_eq!(over.label, "narrow");
            let wide = limits(&mut worker, &all[..1]);
            assert_eq!(admitted(&wide, &worker, CLIENT, 2 * burst), burst - 2);
        });
    }
}

#[test]
fn a_snapshot_refills_nothing_and_a_changed_rate_counts_at_once() {
    on_worker(&[], async |mut worker| {
        let slow = limit("a", 1, 3_600_000, 4);
        let first = limits(&mut worker, std::slice::from_ref(&slow));
        assert_eq!(admitted(&first, &worker, CLIENT, 9), 4);
        let same = limits(&mut worker, std::slice::from_ref(&slow));
        assert_eq!(admitted(&same, &worker, CLIENT, 9), 0);
        let fast =
            limits(&mut worker, &[RateLimit { units: 1_000, span_ms: 1_000, ..slow.clone() }]);
        // It counts from when somebody asks by it.
        assert_eq!(admitted(&fast, &worker, CLIENT, 1), 0);
        lateen_ring::sleep(Duration::from_millis(2)).await;
        assert_eq!(admitted(&fast, &worker, CLIENT, 9), 2);
        // A view that is older says the older rate, and is not listened to.
        lateen_ring::sleep(Duration::from_millis(2)).await;
        assert_eq!(admitted(&same, &worker, CLIENT, 1), 0, "it was told to wait for an hour");
        assert_eq!(admitted(&fast, &worker, CLIENT, 9), 2);
        let again = limits(&mut worker, &[slow]);
        assert_eq!(admitted(&again, &worker, CLIENT, 1), 0);
        lateen_ring::sleep(Duration::from_secs(2)).await;
        assert_eq!(admitted(&again, &worker, CLIENT, 9), 0);
    });
}

#[test]
fn a_dry_run_lets_all_through_and_counts() {
    on_worker(&[], async |mut worker| {
        let counting = RateLimit { dry_run: true, ..limit("a", 1, 1_000, 3) };
        let limits = limits(&mut worker, &[counting]);
        assert_eq!(admitted(&limits, &worker, CLIENT, 10), 10);
        assert_eq!(decided(&worker, LimitOutcome::DryRun), 7);
        assert_eq!(decided(&worker, LimitOutcome::Limited), 0);
    });
}

#[test]
fn each_client_is_counted_by_itself_until_there_are_too_many() {
    on_worker(&[], async |mut worker| {
        let per_client =
            RateLimit { key: Some(BY_CLIENT), keys_max: 3, ..limit("a", 1, 3_600_000, 2) };
        let limits = limits(&mut worker, &[per_client]);
        let mut by_client = Vec::new();
        for last in 1..=5 {
            let client = IpAddr::from([10, 0, 0, last]);
            by_client.push(admitted(&limits, &worker, client, 4));
        }
        // The last two share one count.
        assert_eq!(by_client, [2, 2, 2, 2, 0]);
        assert!(worker.shard.metrics().rate_limit.overflow.value() >= 2);
    });
}

#[test]
fn windows_are_told_in_whole_seconds() {
    on_worker(&[], async |mut worker| {
        for (units, span_ms, told) in
            [(5, 1_000, (5, 1)), (5, 100, (50, 1)), (5, 60_000, (5, 60)), (3, 1_500, (4, 2))]
        {
            let limits = limits(&mut worker, &[limit("a", units, span_ms, 1)]);
            let quota = limits.enforced[0].quota();
            assert_eq!((quota.units, quota.window_s), told);
        }
    });
}
