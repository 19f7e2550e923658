//! The result of a load, as it is kept in files: what `compare` and `report` work from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::percentiles::latency_of;
use super::plan::{Amount, Plan};
use super::tally::{Fault, Tally};
use crate::cpu::CpuTime;

/// The version of [`LoadReport`] that is written.
pub const FORMAT: u32 = 1;

/// What one load found. All figures are of the measured part, the warm-up is in none.
///
/// Every request that was sent is in exactly one of `requests`, `errors` and `wrong`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// [`FORMAT`].
    pub format: u32,
    /// As it was asked for.
    pub url: String,
    /// `io_uring` or `epoll`.
    pub engine: String,
    /// Requests were due at a constant rate, and latency counts from there.
    pub open_loop: bool,
    /// Of the open loop: the rate that was asked for.
    pub rate_per_s: Option<f64>,
    /// Over all threads.
    pub connections: u32,
    /// Of the load.
    pub threads: u32,
    /// From the first moment that counts to the last answer, or to the end of the asked duration if
    /// that is later.
    pub elapsed_s: f64,
    /// Right answers.
    pub requests: u64,
    /// Right answers by `elapsed_s`.
    pub requests_per_s: f64,
    /// Of whole answers, with heads; under TLS what was inside.
    pub bytes_received: u64,
    /// Of requests that were answered, with heads; under TLS what was inside.
    pub bytes_sent: u64,
    /// Connections that were established.
    pub connects: u64,
    /// How long that took, with the handshake of TLS.
    pub connect_us: Option<Latency>,
    /// How long whole answers took, right or wrong; from the first byte sent to the last received,
    /// in the open loop from when the request was due.
    pub latency_us: Option<Latency>,
    /// Answers by class, as `2xx`.
    pub statuses: BTreeMap<String, u64>,
    /// Requests without a whole answer, by what went wrong: `connect`, `connect timeout`, `tls`,
    /// `timeout`, `reset`, `closed early`, `protocol`.
    pub errors: BTreeMap<String, u64>,
    /// Answers that are not what was expected: `status`, `bytes`.
    pub wrong: BTreeMap<String, u64>,
    /// Of the open loop: sent more than 1 ms after they were due.
    pub late_sends: u64,
    /// Of these the latest.
    pub late_max_us: f64,
    /// Of the open loop: due before the end, and never sent.
    pub unsent: u64,
    /// CPU time of the load's own process.
    pub cpu_user_us: u64,
    /// CPU time of the load's own process, in the kernel.
    pub cpu_system_us: u64,
}

/// Times in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Values.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 90 % took no longer.
    pub p90: f64,
    /// 99 % took no longer.
    pub p99: f64,
    /// 99.9 % took no longer.
    pub p99_9: f64,
    /// 99.99 % took no longer.
    pub p99_99: f64,
    /// The longest.
    pub max: f64,
    /// Percentile (0 to 100) and microseconds, denser towards 100.
    pub curve: Vec<(f64, f64)>,
}

/// The measured part, and what it cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) measure_from_ns: u64,
    /// When the last thread was done.
    pub(crate) until_ns: u64,
    pub(crate) cpu: CpuTime,
}

/// Puts the numbers in order.
pub(crate) fn summarise(plan: &Plan, tally: &Tally, span: Span) -> LoadReport {
    let end_ns = match plan.amount {
        // Not past now: the user may have ended it early.
        Amount::Time(duration) => {
            (span.measure_from_ns + duration.as_nanos() as u64).min(span.until_ns)
        }
        Amount::Requests(_) => 0,
    };
    let elapsed_ns = tally.last_ns.max(end_ns).saturating_sub(span.measure_from_ns);
    let elapsed_s = elapsed_ns as f64 / 1e9;
    let requests_per_s = if elapsed_ns > 0 { tally.requests as f64 / elapsed_s } else { 0.0 };
    let statuses =
        (1..tally.statuses.len()).map(|class| (format!("{class}xx"), tally.statuses[class]));
    let errors = Fault::ALL.map(|fault| (fault.name().to_owned(), tally.faults[fault as usize]));
    let wrong = [("status", tally.wrong_status), ("bytes", tally.wrong_bytes)];
    LoadReport {
        format: FORMAT,
        url: plan.url.clone(),
        engine: plan.engine.to_string(),
        open_loop: plan.rate_per_s.is_some(),
        rate_per_s: plan.rate_per_s,
        connections: plan.connections,
        threads: plan.threads,
        elapsed_s,
        requests: tally.requests,
        requests_per_s,
        bytes_received: tally.bytes_received,
        bytes_sent: tally.bytes_sent,
        connects: tally.connects,
        connect_us: latency_of(&tally.connect_ns),
        latency_us: latency_of(&tally.latency_ns),
        statuses: counted(statuses),
        errors: counted(errors),
        wrong: counted(wrong.map(|(name, count)| (name.to_owned(), count))),
        late_sends: tally.late_sends,
        late_max_us: tally.late_max_ns as f64 / 1e3,
        unsent: tally.unsent,
        cpu_user_us: span.cpu.user_us(),
        cpu_system_us: span.cpu.system_us(),
    }
}

/// Only what happened.
fn counted(counts: impl IntoIterator<Item = (String, u64)>) -> BTreeMap<String, u64> {
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}
