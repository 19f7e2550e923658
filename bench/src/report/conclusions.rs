//! What cannot be concluded from the results, each sentence only where its reason holds.

use super::reading::Source;
use crate::judgement::{BEYOND_MIN, is_floor};
use crate::numbers;
use crate::results::{Kind, Results, Sample};
use crate::statistics::ROUNDS_MIN;

/// Shares of the machine above which the noise is named.
const STOLEN_MAX: f64 = 0.01;
const OTHERS_MAX: f64 = 0.05;

/// Of all results; a sentence that holds for two is written once.
pub fn of(sources: &[Source]) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for source in sources {
        for sentence in of_one(&source.results) {
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
    }
    sentences
}

fn of_one(results: &Results) -> Vec<String> {
    let mut said = Vec::new();
    if results.interrupted {
        said.push("The comparison was interrupted: rows are missing, or have fewer rounds.".into());
    }
    said.extend(about_the_place(results));
    said.extend(about_the_counts(results));
    said.extend(about_the_noise(results));
    if results.rows.iter().flat_map(|row| &row.entries).any(|entry| is_floor(&entry.peer)) {
        said.push(
            "The floor has no timeouts, limits, retries or metrics: its distance is a measure of cost, \
             not of waste."
                .into(),
        );
    }
    said.push(
        "A ratio holds for these versions, these settings and this work, and for nothing else."
            .into(),
    );
    said
}

fn about_the_place(results: &Results) -> Vec<String> {
    let environment = &results.environment;
    let mut said: Vec<String> = Vec::new();
    let loopback = |sample: &Sample| {
        sample.load.as_ref().is_some_and(|load| {
            let host = load.url.split_once("://").map_or(load.url.as_str(), |(_, rest)| rest);
            ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local))
        })
    };
    if samples(results).any(loopback) {
        said.push(
            "Nothing about a network: on a loopback there is no NIC, no interrupt, no segmentation \
             offload and no loss, and the sender's CPU runs the receiver's half of TCP."
                .into(),
        );
    }
    let cpus = environment.cpus.len();
    if (1..=2).contains(&cpus) {
        said.push(format!(
            "Nothing about absolute capacity or scaling: {} carried proxy, client and upstream.",
            numbers::counted(cpus, "CPU")
        ));
    }
    let of = |part: &str| environment.placement.get(part).map_or(&[][..], Vec::as_slice);
    let shared = |one: &str, other: &str| of(one).iter().any(|cpu| of(other).contains(cpu));
    if shared("client", "upstream") {
        said.push(
            "Client and upstream shared a core, and often saturated before the proxy: a quicker proxy \
             is then measured half idle, with smaller batches."
                .into(),
        );
    }
    if shared("proxy", "client") || shared("proxy", "upstream") {
        said.push(
            "The proxy shared its core with the load: throughput and latency are of the three together."
                .into(),
        );
    }
    match environment.smt {
        None => said.push(
            "Whether these CPUs are siblings of one core is not known: half of a core may have been \
             somebody else's."
                .into(),
        ),
        Some(true) => said.push(
            "Siblings of one core were among the CPUs: what runs on one slows the other.".into(),
        ),
        Some(false) => {}
    }
    if let Some(virtualisation) = &environment.virtualisation {
        said.push(format!(
            "Nothing about absolute times: the machine is virtual ({virtualisation}), and times move with \
             its neighbours. Read the ratios and their ranges."
        ));
    }
    if environment.load_engine == "epoll" {
        said.push("The load was driven by epoll, since io_uring was missing.".into());
    }
    said
}

fn about_the_counts(results: &Results) -> Vec<String> {
    let environment = &results.environment;
    let mut said = Vec::new();
    if environment.instruction_clock {
        said.push(
            "Time here is a count of instructions: nothing about latency, throughput, caches or the price \
             of entering the kernel."
                .to_owned(),
        );
    }
    match &environment.no_counters {
        Some(reason) if environment.instruction_clock => said.push(format!(
            "Nothing about cycles, or about which mode instructions ran in: there were no hardware counters \
             ({reason}), and the clock counts all."
        )),
        Some(reason) => said.push(format!(
            "Nothing about instructions or cycles: there were no hardware counters ({reason}). Cost is CPU \
             time, which moves with the machine."
        )),
        None => {}
    }
    if let Some(reason) = &environment.no_syscalls {
        said.push(format!("Nothing about syscalls: they could not be counted ({reason})."));
    }
    said
}

fn about_the_noise(results: &Results) -> Vec<String> {
    let mut said = Vec::new();
    let few = |row: &&crate::results::Row| {
        row.entries.iter().any(|entry| {
            let points = row.points();
            !entry.samples.is_empty()
                && points.iter().any(|point| (1..ROUNDS_MIN).contains(&entry.valid(point).count()))
        })
    };
    let rows = results.rows.iter().filter(few).count();
    if rows > 0 {
        said.push(format!(
            "Nothing is decided by fewer than {ROUNDS_MIN} rounds, which is what a peer has in {}.",
            numbers::counted(rows, "row")
        ));
    }
    let most = |share: fn(&crate::results::Busy) -> f64| {
        let valid = samples(results).filter(|sample| sample.discarded.is_none());
        valid.filter_map(|sample| sample.busy.as_ref()).map(share).fold(0.0, f64::max)
    };
    let (stolen, others) = (most(|busy| busy.stolen), most(|busy| busy.others));
    if stolen > STOLEN_MAX {
        said.push(format!(
            "The host took up to {} of the CPUs of a part while it was measured.",
            numbers::share(stolen)
        ));
    }
    if others > OTHERS_MAX {
        said.push(format!(
            "Other programs used up to {} of the CPUs of a part.",
            numbers::share(others)
        ));
    }
    let latency = results.rows.iter().filter(|row| row.kind == Kind::Latency);
    let loads = latency
        .flat_map(|row| &row.entries)
        .flat_map(|entry| &entry.samples)
        .filter_map(|sample| sample.load.as_ref()?.latency_us.as_ref());
    let counts: Vec<u64> = loads.map(|latency| latency.count).collect();
    if let Some(least) = counts.iter().min() {
        let thin = (*least as f64) * 0.001 < BEYOND_MIN;
        said.push(if thin {
            format!("Nothing about p99.9: some loads have no more than {least} answers.")
        } else {
            "Little about tails: p99.9 of a small loaded machine is mostly its scheduler."
                .to_owned()
        });
    }
    said
}

fn samples(results: &Results) -> impl Iterator<Item = &Sample> {
    results.rows.iter().flat_map(|row| &row.entries).flat_map(|entry| &entry.samples)
}
