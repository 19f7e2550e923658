//! What one thread counted. Comes after each answer; the threads' tallies are added up at the end.
//!
//! Nothing here allocates after it was made.

use hdrhistogram::Histogram;

use super::arguments::ExpectedStatus;
use super::plan::Expected;

/// The longest time that is told apart, in ns: an hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// A send this much after it was due is late. Less is how exactly a thread wakes at all.
pub(crate) const LATE_AFTER_NS: u64 = 1_000_000;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody listens, or the machine refuses.
    Connect,
    /// The connection wasn't there in time.
    ConnectTimeout,
    /// The answer wasn't there in time.
    Timeout,
    /// The peer broke the connection off.
    Reset,
    /// The peer ended the connection before the answer was whole.
    ClosedEarly,
    /// What came is no answer.
    Protocol,
    /// The two don't agree on TLS.
    Tls,
}

impl Fault {
    /// All of them, in the order in which a request can meet them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Connect,
        Self::ConnectTimeout,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::ClosedEarly,
        Self::Protocol,
    ];

    /// Its name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect timeout",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::ClosedEarly => "closed early",
            Self::Protocol => "protocol",
            Self::Tls => "tls",
        }
    }
}

/// A whole answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// 0 where the protocol has none.
    pub(crate) status: u16,
    pub(crate) body_bytes: u64,
    /// With heads and framing.
    pub(crate) bytes: u64,
}

pub(crate) struct Tally {
    /// Right answers.
    pub(crate) requests: u64,
    /// Of these the ones that were there before the end of the schedule.
    pub(crate) in_time: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) connects: u64,
    pub(crate) connect_ns: Histogram<u64>,
    pub(crate) latency_ns: Histogram<u64>,
    /// Of these the wrong answers'.
    pub(crate) wrong_latency_ns: Histogram<u64>,
    /// By the first digit.
    pub(crate) statuses: [u64; 10],
    /// By [`Fault`].
    pub(crate) faults: [u64; Fault::ALL.len()],
    pub(crate) wrong_status: u64,
    pub(crate) wrong_bytes: u64,
    pub(crate) late_sends: u64,
    pub(crate) late_max_ns: u64,
    pub(crate) unsent: u64,
    /// When the last answer was there, right or wrong; 0 without one.
    pub(crate) last_answer_ns: u64,
    /// When the last request failed; 0 if none did.
    pub(crate) last_fault_ns: u64,
    /// When the schedule ended, if that was a moment and not a number of requests.
    pub(crate) end_ns: Option<u64>,
    /// The first protocol or connect error, for people.
    pub(crate) first_reason: Option<String>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("the bounds are constants");
        Self {
            requests: 0,
            in_time: 0,
            bytes_received: 0,
            bytes_sent: 0,
            connects: 0,
            connect_ns: histogram(),
            latency_ns: histogram(),
            wrong_latency_ns: histogram(),
            statuses: [0; 10],
            faults: [0; Fault::ALL.len()],
            wrong_status: 0,
            wrong_bytes: 0,
            late_sends: 0,
            late_max_ns: 0,
            unsent: 0,
            last_answer_ns: 0,
            last_fault_ns: 0,
            end_ns: None,
            first_reason: None,
        }
    }

    /// An answer of HTTP; whether it is right.
    #[inline]
    pub(crate) fn answered(&mut self, answer: Answer, expected: &Expected, in_time: bool) -> bool {
        if let Some(count) = self.statuses.get_mut(usize::from(answer.status / 100)) {
            *count += 1;
        }
        let right_status = match expected.statuses.as_slice() {
            [ExpectedStatus::Class(class)] => answer.status / 100 == *class,
            statuses => statuses.iter().any(|status| status.matches(answer.status)),
        };
        if !right_status {
            self.wrong_status += 1;
            false
        } else if expected.body_bytes.is_some_and(|expected| expected != answer.body_bytes) {
            self.wrong_bytes += 1;
            false
        } else {
            self.right(in_time);
            true
        }
    }

    /// A right answer.
    #[inline]
    pub(crate) fn right(&mut self, in_time: bool) {
        self.requests += 1;
        self.in_time += u64::from(in_time);
    }

    /// What every answer adds: its time and its bytes.
    #[inline]
    pub(crate) fn took(&mut self, latency_ns: u64, now_ns: u64, bytes_sent: u64, answer: Answer) {
        self.latency_ns.saturating_record(latency_ns);
        self.bytes_sent += bytes_sent;
        self.bytes_received += answer.bytes;
        self.last_answer_ns = now_ns;
    }

    /// What took that long was a wrong answer.
    #[cold]
    pub(crate) fn took_in_vain(&mut self, latency_ns: u64) {
        self.wrong_latency_ns.saturating_record(latency_ns);
    }

    /// How long the right answers took.
    pub(crate) fn right_latency_ns(&self) -> Histogram<u64> {
        let mut right = self.latency_ns.clone();
        right.subtract(&self.wrong_latency_ns).expect("every wrong answer is among all answers");
        right
    }

    pub(crate) fn connected(&mut self, took_ns: u64) {
        self.connects += 1;
        self.connect_ns.saturating_record(took_ns);
    }

    #[cold]
    pub(crate) fn failed(&mut self, fault: Fault, now_ns: u64, reason: &str) {
        self.faults[fault as usize] += 1;
        self.last_fault_ns = self.last_fault_ns.max(now_ns);
        if self.first_reason.is_none() {
            self.first_reason = Some(format!("{}: {reason}", fault.name()));
        }
    }

    /// A request of the open loop is sent so long after it was due.
    #[inline]
    pub(crate) fn sent_late(&mut self, late_ns: u64) {
        if late_ns > LATE_AFTER_NS {
            self.late_sends += 1;
            self.late_max_ns = self.late_max_ns.max(late_ns);
        }
    }

    /// Adds another thread's.
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.in_time += other.in_time;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.connects += other.connects;
        self.connect_ns.add(&other.connect_ns).expect("both have the same bounds");
        self.latency_ns.add(&other.latency_ns).expect("both have the same bounds");
        let wrong = &other.wrong_latency_ns;
        self.wrong_latency_ns.add(wrong).expect("both have the same bounds");
        for (mine, others) in self.statuses.iter_mut().zip(other.statuses) {
            *mine += others;
        }
        for (mine, others) in self.faults.iter_mut().zip(other.faults) {
            *mine += others;
        }
        self.wrong_status += other.wrong_status;
        self.wrong_bytes += other.wrong_bytes;
        self.late_sends += other.late_sends;
        self.late_max_ns = self.late_max_ns.max(other.late_max_ns);
        self.unsent += other.unsent;
        self.last_answer_ns = self.last_answer_ns.max(other.last_answer_ns);
        self.last_fault_ns = self.last_fault_ns.max(other.last_fault_ns);
        self.end_ns = self.end_ns.max(other.end_ns);
        self.first_reason = self.first_reason.take().or(other.first_reason);
    }
}
