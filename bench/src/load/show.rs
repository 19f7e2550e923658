//! The result of a load as a person reads it on a terminal. Comes last.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::summary::{Latency, LoadReport};
use crate::units::{show_bytes, show_us};

/// Lines of text; `reason` is the first error in words.
pub(crate) fn as_text(report: &LoadReport, reason: Option<&str>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // A String takes everything.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    line("url", report.url.clone());
    line("load", load_of(report));
    line("requests", format!("{} in {:.3} s", report.requests, report.elapsed_s));
    line("requests/s", format!("{:.1}", report.requests_per_s));
    // As with the requests: the share that was there in time.
    let share = match report.requests {
        0 => 1.0,
        requests => report.requests_per_s * report.elapsed_s / requests as f64,
    };
    let per_s = |bytes: u64| show_bytes(bytes as f64 * share / report.elapsed_s.max(1e-9));
    line("received", format!("{}/s", per_s(report.bytes_received)));
    line("sent", format!("{}/s", per_s(report.bytes_sent)));
    line("connects", report.connects.to_string());
    if let Some(latency) = &report.connect_us {
        line("connect", latency_line(latency));
    }
    if let Some(latency) = &report.latency_us {
        line("latency", latency_line(latency));
    }
    if let Some(latency) = &report.right_latency_us {
        line("of right", latency_line(latency));
    }
    if report.open_loop {
        line("late sends", late_of(report));
        line("unsent", report.unsent.to_string());
    }
    for (name, counts) in
        [("statuses", &report.statuses), ("errors", &report.errors), ("wrong", &report.wrong)]
    {
        if !counts.is_empty() {
            line(name, counts_line(counts));
        }
    }
    if let Some(reason) = reason {
        line("first error", reason.to_owned());
    }
    line("own CPU", cpu_of(report));
    text
}

fn load_of(report: &LoadReport) -> String {
    let pace = match report.rate_per_s {
        Some(rate) => format!("open loop, {rate} requests/s"),
        None => "closed loop".to_owned(),
    };
    let (connections, threads) = (report.connections, report.threads);
    format!(
        "{pace}, {connections} connection{}, {threads} thread{}, {}",
        plural(connections),
        plural(threads),
        report.engine
    )
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn latency_line(latency: &Latency) -> String {
    let named = [
        ("mean", latency.mean),
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p99_9),
        ("p99.99", latency.p99_99),
        ("max", latency.max),
    ];
    named.map(|(name, us)| format!("{name} {}", show_us(us))).join(", ")
}

fn late_of(report: &LoadReport) -> String {
    match report.late_sends {
        0 => "0".to_owned(),
        late => format!("{late}, at most {} after they were due", show_us(report.late_max_us)),
    }
}

fn counts_line(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> =
        counts.iter().map(|(name, count)| format!("{name}: {count}")).collect();
    counts.join(", ")
}

fn cpu_of(report: &LoadReport) -> String {
    let used_us = (report.cpu_user_us + report.cpu_system_us) as f64;
    let cores = used_us / 1e6 / report.elapsed_s.max(1e-9);
    let of_each = match report.requests {
        0 => String::new(),
        requests => format!(", {} a request", show_us(used_us / requests as f64)),
    };
    format!(
        "{:.0} % of a core (user {}, system {}{of_each})",
        cores * 100.0,
        show_us(report.cpu_user_us as f64),
        show_us(report.cpu_system_us as f64)
    )
}
