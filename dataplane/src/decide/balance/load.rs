//! How busy one endpoint is, and how willing, as one worker sees it.
//!
//! Before: a request was given to an endpoint, or refused by it. After: the next choice goes by it.
//! Nothing here reads a clock.

use std::cell::Cell;

use crate::limits;

/// How busy one endpoint is, and how willing, as one worker sees it. Survives snapshots.
///
/// ```text
///  healthy ──refused──► penalised 1 s ──time──► on trial ──refused──► penalised 2 s … 30 s
///     ▲                     │                      │
///     └───────connected─────┴───────connected──────┘
/// ```
#[derive(Debug, Default)]
pub struct Load {
    /// Requests (or tunnels) that were given to it and have not ended.
    in_flight: Cell<u32>,
    /// Refusals in a row, counted once per penalty, up to 32.
    refusals: Cell<u8>,
    /// Why it is out of service, a bit for each [`OutOfService`]; 0: it is not.
    out_of_service: Cell<u8>,
    /// Tried last until then; 0 when it never refused since it last connected.
    penalty_until_ns: Cell<u64>,
}

/// Why an endpoint gets no requests while others can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OutOfService {
    /// It failed too often.
    Ejected = 1,
    /// It does not pass its health checks.
    Unhealthy = 2,
    /// It is being taken away: what it has it may finish.
    Terminating = 4,
    /// An operator ordered it out: it gets no new requests, whatever becomes of the others.
    Ordered = 8,
}

impl Load {
    /// A request was given to the endpoint.
    #[inline]
    pub fn on_start(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// That request ended, however it did; to be called exactly once per
    /// [`on_start`](Self::on_start).
    #[inline]
    pub fn on_end(&self) {
        debug_assert!(self.in_flight.get() > 0, "on_end without on_start");
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    /// A connect was refused or timed out: the endpoint is tried last for 1 s, doubling with each
    /// penalty that is followed by another refusal, to at most 30 s. Refusals within a penalty (many
    /// connects fail at once) do not lengthen it.
    pub fn on_refused(&self, now_ns: u64) {
        const FIRST_NS: u64 = limits::REFUSAL_PENALTY.as_nanos() as u64;
        const MOST_NS: u64 = limits::REFUSAL_PENALTY_MAX.as_nanos() as u64;
        if now_ns < self.penalty_until_ns.get() {
            return;
        }
        // 32 doublings are far past the maximum: the shift cannot overflow 64 bits meaningfully.
        let refusals = self.refusals.get();
        let penalty_ns = FIRST_NS.saturating_mul(1 << refusals.min(32)).min(MOST_NS);
        self.refusals.set(refusals.saturating_add(1).min(32));
        self.penalty_until_ns.set(now_ns.saturating_add(penalty_ns));
    }

    /// A connect succeeded: refusals are forgotten.
    pub fn on_connected(&self) {
        self.refusals.set(0);
        self.penalty_until_ns.set(0);
    }

    /// Requests in flight, as this worker counts them.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Takes the endpoint out of service for a reason, or lets that reason go.
    pub fn set_out_of_service(&self, why: OutOfService, is_out: bool) {
        let others = self.out_of_service.get() & !(why as u8);
        self.out_of_service.set(if is_out { others | why as u8 } else { others });
    }

    /// Whether there is a reason not to give it requests while others can take them.
    #[inline]
    pub fn is_out_of_service(&self) -> bool {
        self.out_of_service.get() != 0
    }

    /// Whether it is out of service for this reason.
    #[inline]
    pub fn is_out_for(&self, why: OutOfService) -> bool {
        self.out_of_service.get() & why as u8 != 0
    }

    /// Until when it is tried last.
    #[inline]
    pub fn penalty_until_ns(&self) -> u64 {
        self.penalty_until_ns.get()
    }
}
