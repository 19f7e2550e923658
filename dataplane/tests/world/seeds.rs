//! The tests: many seeds, none of which may come to harm, and the same again for the same seed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use crate::run::{Report, run_seed};

/// Worlds in a run, where `LATEEN_SEEDS` says nothing.
const SEEDS: u64 = 10_000;
/// Failing seeds after which a run stops looking for more.
const FAILURES_MAX: usize = 5;
/// How often each kind of failure must have happened in a run of [`SEEDS`].
const HITS_MIN: u64 = 50;

/// What must happen in a run beside the network's own faults.
const KINDS: [&str; 36] = [
    "100s",
    "103s",
    "TCP tunnels",
    "clients half-closed",
    "clients reset while they waited",
    "clients silent at first",
    "clients that did not read",
    "clients turned away at the cap",
    "connections closed after an answer",
    "drains under load",
    "early answers, then closed",
    "early answers, then read on",
    "floods of interim responses",
    "heads stalled",
    "idle clients ended",
    "malformed requests",
    "pauses within a request",
    "pooled connections that died under a request",
    "request bodies stalled",
    "requests abandoned in the middle",
    "requests cut by a FIN",
    "requests replayed",
    "requests reset in the middle",
    "requests that expected a 100",
    "requests with a bad chunk",
    "responses of two lengths",
    "responses with a bad chunk",
    "servers that spoke first",
    "tunnels that one end harms",
    "unasked 101s",
    "unasked bytes",
    "upgrades",
    "upstreams cut their answer short",
    "upstreams reset",
    "upstreams sent garbage",
    "upstreams stalled",
];

#[test]
fn every_request_is_answered_once_byte_exact_or_fails_cleanly() {
    if let Some(seed) = number("LATEEN_SEED") {
        let report = run_seed(seed, true);
        println!("{report:#?}");
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
        return;
    }
    let seeds = number("LATEEN_SEEDS").unwrap_or(SEEDS);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let base = since.map_or(1, |since| since.as_millis() as u64);
    println!("{seeds} seeds: half from 0 on, half from {base} on");
    let began = Instant::now();
    let sum = run_all(seeds, |index| if index % 2 == 0 { index / 2 } else { base + index / 2 });
    print_table(&sum);
    println!("{} worlds, {} cases, {:.1?}", sum.worlds, sum.cases, began.elapsed());
    for (seed, violations) in &sum.failures {
        println!("seed {seed}: {violations:#?}");
    }
    let failed: Vec<u64> = sum.failures.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "failing seeds: {failed:?}; LATEEN_SEED=n shows one");
    if seeds >= SEEDS {
        for kind in KINDS {
            assert!(sum.seen.contains_key(kind), "{kind} never happened");
        }
        for (what, count) in &sum.seen {
            assert!(*count >= HITS_MIN, "{what} happened only {count} times");
        }
    }
}

#[test]
fn a_seed_gives_the_same_world_each_time() {
    for seed in 0..50 {
        let (first, second) = (run_seed(seed, false), run_seed(seed, false));
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert_eq!(first.seen, second.seen, "seed {seed}");
    }
}

/// What many seeds came to.
#[derive(Default)]
struct Sum {
    worlds: u64,
    cases: u64,
    seen: BTreeMap<&'static str, u64>,
    failures: Vec<(u64, Vec<String>)>,
}

impl Sum {
    fn add(&mut self, seed: u64, report: Report) {
        self.worlds += 1;
        self.cases += report.cases as u64;
        for (what, count) in report.faults.each().into_iter().chain(report.seen) {
            *self.seen.entry(what).or_default() += count;
        }
        if !report.violations.is_empty() {
            self.failures.push((seed, report.violations));
        }
    }
}

/// Runs `count` seeds on two threads.
fn run_all(count: u64, seed_of: impl Fn(u64) -> u64 + Sync) -> Sum {
    let sum = Mutex::new(Sum::default());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let seed = seed_of(index);
                    let report = run_seed(seed, false);
                    let mut sum = sum.lock().expect("no seed panics");
                    sum.add(seed, report);
                    if sum.failures.len() >= FAILURES_MAX {
                        return;
                    }
                }
            });
        }
    });
    sum.into_inner().expect("no seed panics")
}

fn print_table(sum: &Sum) {
    for (what, count) in &sum.seen {
        println!("{count:>10}  {what}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
