//! How it was measured, in sentences of which each is there only where the results say so.

use super::reading::Source;
use crate::compare::closed::KEPT;
use crate::judgement::Conditions;
use crate::numbers;
use crate::results::{Kind, Results, Sample};
use crate::statistics::{CLIENT_BUSY_MAX, PROXY_BUSY_MIN, ROUNDS_MIN};

/// Of all results; a sentence that holds for two is written once.
pub fn of(sources: &[Source]) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for sentence in sources.iter().flat_map(|source| of_one(&source.results)) {
        if !sentences.contains(&sentence) {
            sentences.push(sentence);
        }
    }
    sentences
}

fn of_one(results: &Results) -> Vec<String> {
    let conditions = Conditions::of(results);
    let mut said = vec![workers(results), placement(results, conditions)];
    said.push(format!(
        "Every peer gave one right answer before it was measured. The rounds were interleaved (A B C, A B C, \
         …), so that a disturbance hits all peers, and ratios are taken within a round and only then reduced \
         to a median. A ratio is decided where at least {ROUNDS_MIN} rounds agree on its side of 1. \
         Whiskers are the least and the most of the rounds."
    ));
    said.extend(loads(results, conditions));
    said.extend(samples_that_do_not_count(results));
    said
}

fn workers(results: &Results) -> String {
    let two = results.rows.iter().any(|row| row.points().contains(&"2 workers"));
    let but = if two { ", and with two at the points of two workers" } else { "" };
    format!(
        "Each proxy ran with one worker{but}. All processes of a proxy were counted together, a master beside \
         its worker among them."
    )
}

fn placement(results: &Results, conditions: Conditions) -> String {
    let placement = &results.environment.placement;
    let cpus = |part| placement.get(part).map_or(&[][..], Vec::as_slice);
    let [proxy, client, upstream] = ["proxy", "client", "upstream"].map(cpus);
    if proxy.is_empty() {
        return "Which CPUs the parts had is not in the results.".to_owned();
    }
    let elsewhere = results.rows.iter().any(|row| {
        row.points().contains(&"2 workers")
            || row.caveats.iter().any(|caveat| caveat.contains("shared-core"))
    });
    let but = if elsewhere { ", but where a row says otherwise or has two workers" } else { "" };
    if conditions.shared_core {
        return format!("The proxy shared its CPU with client or upstream{but}.");
    }
    let shared = client.iter().any(|cpu| upstream.contains(cpu));
    let rest = if shared { "shared another" } else { "had others" };
    let own = if proxy.len() == 1 { "a CPU of its own" } else { "CPUs of its own" };
    format!("The proxy had {own}{but}; client and upstream {rest}.")
}

fn loads(results: &Results, conditions: Conditions) -> Vec<String> {
    let has = |kind| results.rows.iter().any(|row| row.kind == kind);
    let mut said: Vec<String> = Vec::new();
    if has(Kind::Throughput) && !conditions.instruction_clock {
        said.push(format!(
            "Throughput counts only where the proxy's CPUs were at least {} busy in each round; else \
             something else was the limit, and only cost is compared.",
            numbers::share(PROXY_BUSY_MIN)
        ));
    }
    if has(Kind::Latency) {
        said.push(
            "At a fixed rate nothing is decided where the rates of two peers differ, or one of them did not \
             carry its rate: less than 99 % of it was answered, or requests were never sent."
                .to_owned(),
        );
    }
    if has(Kind::Latency) && !conditions.instruction_clock {
        said.push(format!(
            "Latency counts from the moment a request was due, sent or not, and is undecided where the \
             client's CPUs were more than {} busy.",
            numbers::share(CLIENT_BUSY_MAX)
        ));
    }
    if conditions.instruction_clock {
        said.push("Cost is what the machine's clock counted: instructions.".to_owned());
    }
    if conditions.connecting_apart {
        said.push(
            "A load was a number of requests: what connecting costs was measured apart and taken off the \
             proxy's figures where connections are kept. It was not taken off those of its whole core, which \
             are therefore no cross-check and not shown."
                .to_owned(),
        );
    }
    if samples(results).any(|one| one.cost.as_ref().is_some_and(|cost| cost.syscalls.is_some())) {
        said.push(
            "Syscalls were counted in a load of their own, since counting slows them.".to_owned(),
        );
    }
    said
}

fn samples_that_do_not_count(results: &Results) -> Vec<String> {
    let discarded = samples(results).filter(|sample| sample.discarded.is_some()).count();
    let caveats = results.rows.iter().flat_map(|row| &row.caveats);
    let kept = caveats.filter(|caveat| caveat.contains(KEPT)).count();
    let mut said = Vec::new();
    if discarded > 0 {
        said.push(format!(
            "Discarded, for wrong or missing answers or for what else ran beside: {}, which the rows list.",
            numbers::counted(discarded, "sample")
        ));
    }
    if kept > 0 {
        said.push(format!(
            "Disturbed each time, and counted all the same: {}, which the rows list.",
            numbers::counted(kept, "sample")
        ));
    }
    said
}

fn samples(results: &Results) -> impl Iterator<Item = &Sample> {
    results.rows.iter().flat_map(|row| &row.entries).flat_map(|entry| &entry.samples)
}
