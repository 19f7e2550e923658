//! How long the store takes for a commit on this disk.
//!
//! `cargo run --release -p lateen-control --example store_commits -- [FOLDER [OBJECTS [COMMITS]]]`
//! makes a store in FOLDER (the system's folder for temporary files), fills it with OBJECTS objects
//! (10,000) of about 600 bytes, and then makes COMMITS commits (1,000) that change one object each,
//! one after the other, each with an epoch.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lateen_control::store::open::open;
use lateen_control::store::retention::Retention;
use lateen_control::store::revision::{Key, Meta, Objects};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let object_count: usize = arguments.next().map_or(Ok(10_000), |n| n.parse())?;
    let commits: usize = arguments.next().map_or(Ok(1000), |n| n.parse())?;
    let folder = folder.join(format!("store-commits-{}", std::process::id()));
    std::fs::create_dir(&folder)?;

    let path = folder.join("store.db");
    let mut store = open(&path, Retention::default(), 0)?.store;
    let text = |n: usize, round: usize| format!("service {n:6}, round {round:6}\n").repeat(20);
    let mut objects: Objects = (0..object_count)
        .map(|n| (Key::new("Service", "shop", format!("service-{n}")), text(n, 0).into()))
        .collect();
    let meta = Meta { time_ms: 0, author: "a".into(), message: "m".into(), source: "s".into() };
    let began = Instant::now();
    store.accept(Arc::new(objects.clone()), &meta, None)?;
    let first = began.elapsed();

    let mut times = Vec::with_capacity(commits);
    for round in 1..=commits {
        let n = round * 7 % object_count;
        objects.insert(Key::new("Service", "shop", format!("service-{n}")), text(n, round).into());
        let set = Arc::new(objects.clone());
        let began = Instant::now();
        store.accept(set, &meta, None)?;
        store.next_epoch()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let sum: Duration = times.iter().sum();
    let mut out = std::io::stdout().lock();
    writeln!(out, "first commit, {object_count} objects: {first:?}")?;
    writeln!(
        out,
        "{commits} commits of one changed object: {:.0}/s; p50 {:?}, p99 {:?}, most {:?}",
        commits as f64 / sum.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0)
    )?;
    drop(store);
    let began = Instant::now();
    open(&path, Retention::default(), 0)?;
    let bytes = std::fs::metadata(&path)?.len();
    writeln!(out, "open again: {:?}, {bytes} bytes", began.elapsed())?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
