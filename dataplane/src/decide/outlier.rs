//! Whether an endpoint is ejected, why, and for how long.
//!
//! Before: every worker counts how the tries at an endpoint end, in a row ([`Runs`]) and in sum
//! ([`sweep`]). After: an endpoint that is ejected comes last in every choice until it is back. What is
//! decided here is decided once for the whole process, over what all workers saw; nothing here reads a
//! clock.

pub mod sweep;

use std::collections::HashMap;
use std::hash::Hash;

use lateen_snapshot::model::outlier::OutlierDetection;

/// How a try at an endpoint ended, as far as it tells something of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It answered, below 500.
    Answered,
    /// It answered a 5xx that is not one of a gateway.
    ServerError,
    /// It answered 502, 503 or 504, took too long, or broke the protocol.
    GatewayError,
    /// It closed or reset the connection before its answer was whole.
    Reset,
    /// It could not be connected to.
    ConnectFailed,
}

impl Ending {
    /// Of an answer that was passed on whole.
    pub const fn of_status(status: u16) -> Self {
        match status {
            502..=504 => Self::GatewayError,
            500..=599 => Self::ServerError,
            _ => Self::Answered,
        }
    }

    /// Whether it speaks for the endpoint.
    #[inline]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Answered)
    }
}

/// Failures in a row, of one worker or of all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Connect failures.
    pub refused: u32,
    /// Connect failures and resets.
    pub local: u32,
    /// Those and errors of gateways.
    pub gateway: u32,
    /// Those and any other 5xx.
    pub server: u32,
}

impl Runs {
    /// One more try ended. A failure of one kind ends the runs of those that it is none of.
    pub fn note(&mut self, ending: Ending) {
        let goes_on = |run: u32, does: bool| if does { run.saturating_add(1) } else { 0 };
        let is_refused = matches!(ending, Ending::ConnectFailed);
        let is_local = is_refused || matches!(ending, Ending::Reset);
        let is_gateway = is_local || matches!(ending, Ending::GatewayError);
        self.refused = goes_on(self.refused, is_refused);
        self.local = goes_on(self.local, is_local);
        self.gateway = goes_on(self.gateway, is_gateway);
        self.server = goes_on(self.server, !ending.is_good());
    }

    /// Those of another worker, too.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            refused: self.refused.saturating_add(other.refused),
            local: self.local.saturating_add(other.local),
            gateway: self.gateway.saturating_add(other.gateway),
            server: self.server.saturating_add(other.server),
        }
    }

    /// Why the endpoint should be ejected, if it should. `on_trial`: it is back from an ejection and has not
    /// answered well since; the first failure counts then.
    pub fn cause(&self, detection: &OutlierDetection, on_trial: bool) -> Option<Cause> {
        let is_over = |run: u32, most: u32| most > 0 && run >= if on_trial { 1 } else { most };
        if is_over(self.local, detection.consecutive_local_origin_failures) {
            return Some(Cause::LocalOrigin);
        }
        if is_over(self.gateway, detection.consecutive_gateway_errors) {
            return Some(Cause::GatewayErrors);
        }
        is_over(self.server, detection.consecutive_5xx_errors).then_some(Cause::ServerErrors)
    }

    /// Whether an endpoint that is ejected for `cause` is down rather than wrong: it refuses connections, and
    /// has answered nothing that counts. So it is back as soon as it takes one.
    pub fn is_refused_for(&self, cause: Cause) -> bool {
        let answered = match cause {
            Cause::LocalOrigin => 0,
            Cause::GatewayErrors => self.gateway.saturating_sub(self.local),
            Cause::ServerErrors => self.server.saturating_sub(self.local),
            Cause::SuccessRate | Cause::FailurePercentage | Cause::Latency => return false,
        };
        self.refused > 0 && answered == 0
    }
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Connect failures and resets in a row.
    LocalOrigin,
    /// Errors of a gateway in a row.
    GatewayErrors,
    /// 5xx in a row.
    ServerErrors,
    /// A success rate far below the others'.
    SuccessRate,
    /// Too large a share of failures.
    FailurePercentage,
    /// A latency far above the others'.
    Latency,
}

impl Cause {
    /// Every cause, at its index.
    pub const ALL: [Self; 6] = [
        Self::LocalOrigin,
        Self::GatewayErrors,
        Self::ServerErrors,
        Self::SuccessRate,
        Self::FailurePercentage,
        Self::Latency,
    ];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LocalOrigin => "consecutive_local_origin_failures",
            Self::GatewayErrors => "consecutive_gateway_errors",
            Self::ServerErrors => "consecutive_5xx_errors",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::Latency => "latency",
        }
    }
}

/// What became of the wish to eject an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is ejected from now on.
    Ejected,
    /// Too many others are, or it is the last in service.
    Declined,
    /// It is ejected already.
    Already,
}

/// How many endpoints a cluster has, and how many of them are in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// All of them.
    pub endpoints: usize,
    /// Those that are neither ejected nor fail their health checks.
    pub in_service: usize,
}

/// The endpoints of a cluster that are ejected, and those that were not long ago.
///
/// ```text
///  in service ──verdict──► ejected, n × base ──time, or a connect──► on trial ──answer──► in service
///       ▲                      ▲                                        │
///       │                      └───────────────failure, n + 1───────────┘
///       └── n falls by one with each interval in service
/// ```
#[derive(Debug)]
pub struct Ejections<K> {
    records: HashMap<K, Record>,
    out: usize,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Times in a row.
    count: u32,
    /// `Some`: ejected, and back by itself then.
    until_ns: Option<u64>,
    /// When it was back last.
    back_ns: u64,
}

impl<K> Default for Ejections<K> {
    fn default() -> Self {
        Self { records: HashMap::new(), out: 0 }
    }
}

impl<K: Copy + Eq + Hash + Ord> Ejections<K> {
    /// Ejects an endpoint, if that is allowed. `waits_for_connect`: time alone does not bring it back.
    pub fn eject(
        &mut self,
        detection: &OutlierDetection,
        key: K,
        census: Census,
        waits_for_connect: bool,
        now_ns: u64,
    ) -> Verdict {
        if self.is_out(key) {
            return Verdict::Already;
        }
        let most = census.endpoints * detection.max_ejection_percent as usize / 100;
        if self.out >= most.max(1) || census.in_service < 2 {
            return Verdict::Declined;
        }
        let before = self.records.get(&key).map_or(0, |record| record.count_at(detection, now_ns));
        let count = before.saturating_add(1);
        let lasts_ms = u64::from(detection.base_ejection_ms) * u64::from(count);
        let lasts_ms = lasts_ms.min(detection.max_ejection_ms.into());
        let until_ns = match waits_for_connect {
            true => u64::MAX,
            false => now_ns.saturating_add(lasts_ms * 1_000_000),
        };
        self.records.insert(key, Record { count, until_ns: Some(until_ns), back_ns: 0 });
        self.out += 1;
        Verdict::Ejected
    }

    /// It turned out that an ejected endpoint refuses connections: time alone does not bring it back.
    pub fn wait_for_connect(&mut self, key: K) {
        if let Some(Record { until_ns: Some(until_ns), .. }) = self.records.get_mut(&key) {
            *until_ns = u64::MAX;
        }
    }

    /// Whether a connect is what brings an ejected endpoint back.
    pub fn waits_for_connect(&self, key: K) -> bool {
        self.records.get(&key).is_some_and(|record| record.until_ns == Some(u64::MAX))
    }

    /// Brings an endpoint back. False: it was not ejected.
    pub fn bring_back(&mut self, key: K, now_ns: u64) -> bool {
        match self.records.get_mut(&key) {
            Some(record) if record.until_ns.is_some() => {
                record.until_ns = None;
                record.back_ns = now_ns;
                self.out -= 1;
                true
            }
            _ => false,
        }
    }

    /// Those whose time is over; they are to be brought back.
    pub fn due(&self, now_ns: u64) -> Vec<K> {
        let is_due = |record: &Record| record.until_ns.is_some_and(|until_ns| until_ns <= now_ns);
        let due = self.records.iter().filter(|(_, record)| is_due(record));
        due.map(|(key, _)| *key).collect()
    }

    /// When the next one's time is over.
    pub fn next_ns(&self) -> Option<u64> {
        let until = self.records.values().filter_map(|record| record.until_ns);
        until.filter(|until_ns| *until_ns != u64::MAX).min()
    }

    /// Whether an endpoint is ejected.
    pub fn is_out(&self, key: K) -> bool {
        self.records.get(&key).is_some_and(|record| record.until_ns.is_some())
    }

    /// How many are.
    pub const fn out_count(&self) -> usize {
        self.out
    }

    /// Whether nothing is held of any.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Those that are, in order.
    pub fn out(&self) -> Vec<K> {
        let out = self.records.iter().filter(|(_, record)| record.until_ns.is_some());
        let mut out: Vec<K> = out.map(|(key, _)| *key).collect();
        out.sort_unstable();
        out
    }

    /// Forgets those of which nothing is held any more, and those that `is_there` does not know. Returns
    /// whether one of those was ejected.
    pub fn tidy(
        &mut self,
        detection: &OutlierDetection,
        now_ns: u64,
        is_there: impl Fn(K) -> bool,
    ) -> bool {
        let out_before = self.out;
        let mut out = 0;
        self.records.retain(|key, record| {
            let is_out = record.until_ns.is_some();
            let stays = is_there(*key) && (is_out || record.count_at(detection, now_ns) > 0);
            out += usize::from(stays && is_out);
            stays
        });
        self.out = out;
        out < out_before
    }
}

impl Record {
    /// Ejections in a row that are held against it: fewer with each interval in service.
    const fn count_at(&self, detection: &OutlierDetection, now_ns: u64) -> u32 {
        if self.until_ns.is_some() {
            return self.count;
        }
        let interval_ns = detection.interval_ms as u64 * 1_000_000;
        let forgiven = now_ns.saturating_sub(self.back_ns) / interval_ns;
        if forgiven >= self.count as u64 { 0 } else { self.count - forgiven as u32 }
    }
}

#[cfg(test)]
mod tests;
