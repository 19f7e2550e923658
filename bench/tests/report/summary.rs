//! What `compare` prints at its end, which must say the same as the report.

use crate::synthetic;
use lateen_bench::compare::outcome;
use lateen_bench::results::Results;

/// Of one row, its lines.
fn row(results: &Results, heading: &str) -> Vec<String> {
    let text = outcome::text(results, "results.json");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(heading));
    lines.by_ref().take_while(|line| !line.is_empty()).map(|line| line.trim().to_owned()).collect()
}

fn line<'a>(lines: &'a [String], peer: &str, point: &str) -> &'a str {
    let of =
        |line: &&String| line.trim_start().starts_with(&format!("{peer} ")) && line.contains(point);
    lines.iter().find(of).expect(peer)
}

#[test]
fn one_round_that_was_client_bound_is_enough() {
    let mut results = synthetic::results(true);
    let envoy = results.rows[0].entries.iter_mut().find(|entry| entry.peer == "envoy");
    let sample = &mut envoy.expect("envoy").samples[0];
    sample.busy.as_mut().expect("busy").proxy_cpu = 0.5;
    let lines = row(&results, "http1-keepalive-64 (bare)");
    assert!(line(&lines, "envoy", "").ends_with("/s (client-bound)"), "{lines:#?}");
    assert!(line(&lines, "nginx", "").ends_with("/s"), "{lines:#?}");
    assert!(line(&lines, "nginx", "").contains(": better"), "{lines:#?}");
    assert!(lines[1].contains("instructions / request") && !lines[1].contains("latency"));
}

#[test]
fn rates_that_differ_and_a_busy_client_are_told() {
    let results = synthetic::results(true);
    let lines = row(&results, "http1-rate (bare)");
    let own = line(&lines, "envoy", "50 % of its own");
    assert!(own.contains("undecided, rates differ"), "{own}");
    let busy = line(&lines, "envoy", "75 % of the slowest");
    assert!(busy.contains("(client 74 % busy)"), "{busy}");
    let fair = line(&lines, "envoy", "25 % of the slowest");
    assert!(fair.contains(": better") && !fair.contains("busy"), "{fair}");
    assert!(!line(&lines, "floor", "25 % of the slowest").contains(": worse"), "no rival");
}

#[test]
fn without_time_no_time_is_printed() {
    let mut results = synthetic::results(true);
    results.environment.instruction_clock = true;
    let text = outcome::text(&results, "results.json");
    for word in ["CPU time", "throughput", "p50 latency", " µs", "/s"] {
        assert!(!text.contains(word), "{word} in\n{text}");
    }
}
