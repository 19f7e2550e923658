//! The result of a load, as it is kept in files: what `compare` and `report` work from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::percentiles::latency_of;
use super::plan::Plan;
use super::tally::{Fault, Tally};
use crate::cpu::ProcessTime;

/// The version of [`LoadReport`] that is written.
pub const FORMAT: u32 = 1;

/// What one load found. All figures are of the measured part, the warm-up is in none.
///
/// Every request that was sent is in exactly one of `requests`, `errors` and `wrong`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// The asked duration, or what of it was over when the user ended the load. Of a number of
    /// requests: from the first moment that counts to the last answer, and without one to the last
    /// error.
    pub elapsed_s: f64,
    /// Right answers, with those to requests that were under way when `elapsed_s` was over.
    pub requests: u64,
    /// Right answers that were there before `elapsed_s` was over, by `elapsed_s`: neither a slow
    /// answer nor an error at the end moves it.
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
    /// The same of right answers alone, where some were wrong: what is refused is answered sooner than
    /// what is served, as a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right_latency_us: Option<Latency>,
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
    pub(crate) cpu: ProcessTime,
}

/// Puts the numbers in order.
pub(crate) fn summarise(plan: &Plan, tally: &Tally, span: Span) -> LoadReport {
    let elapsed_ns = end_of(tally).saturating_sub(span.measure_from_ns);
    let elapsed_s = elapsed_ns as f64 / 1e9;
    let requests_per_s = if elapsed_ns > 0 { tally.in_time as f64 / elapsed_s } else { 0.0 };
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
        right_latency_us: if tally.wrong_latency_ns.is_empty() {
            None
        } else {
            latency_of(&tally.right_latency_ns())
        },
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

/// The end of what is measured. An error can come as late as its timeout, so it moves the end only
/// where there is nothing else.
fn end_of(tally: &Tally) -> u64 {
    match (tally.end_ns, tally.last_answer_ns) {
        (Some(end_ns), _) => end_ns,
        (None, 0) => tally.last_fault_ns,
        (None, last_answer_ns) => last_answer_ns,
    }
}

/// Only what happened.
fn counted(counts: impl IntoIterator<Item = (String, u64)>) -> BTreeMap<String, u64> {
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn end_after(end_ns: Option<u64>, last_answer_ns: u64, last_fault_ns: u64) -> u64 {
        end_of(&Tally { end_ns, last_answer_ns, last_fault_ns, ..Tally::new() })
    }

    #[test]
    fn the_end_is_the_asked_one_or_the_last_answer() {
        assert_eq!(end_after(Some(4 * S), 5 * S, 14 * S), 4 * S, "a time was asked for");
        assert_eq!(end_after(Some(4 * S), 0, 0), 4 * S);
        assert_eq!(end_after(None, 3 * S, 14 * S), 3 * S, "a number of requests");
        assert_eq!(end_after(None, 0, 14 * S), 14 * S, "nothing but errors");
    }

    #[test]
    fn threads_end_with_the_last_of_them() {
        let mut tally = Tally::new();
        for (end_ns, last_answer_ns, last_fault_ns) in [(None, S, 5 * S), (Some(2 * S), 3 * S, 0)] {
            tally.add(Tally { end_ns, last_answer_ns, last_fault_ns, ..Tally::new() });
        }
        assert_eq!(
            (tally.end_ns, tally.last_answer_ns, tally.last_fault_ns),
            (Some(2 * S), 3 * S, 5 * S)
        );
    }
}
