//! What may become of a case, and what must not: the judge of a world.
//!
//! Clients and upstreams report what they saw; whatever cannot be is a violation. An honest request
//! in fair weather has exactly one allowed outcome. Everything else that is allowed needs a cause
//! that the world knows of: the case's own flaw or mishap, the weather, a drain, a cap.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::case::{AfterEarly, Arrival, Body, Case, Flaw, Form, Mishap, Outcome};
use crate::topology::{Speech, Topology, Weather, is_too_long};

/// Bytes of a request body beyond which the proxy need not read on after an early answer; then the
/// close may be a reset, which overtakes the answer.
const DISCARDED_FOR_SURE: usize = 30_000;
/// A request sent so shortly before a drain may find its connection closed.
const DRAIN_MARGIN_NS: u64 = 30_000_000;

/// The judge, shared by all tasks of a world.
pub(crate) struct Oracle {
    pub(crate) cases: Vec<Rc<Case>>,
    pub(crate) topology: Topology,
    pub(crate) violations: RefCell<Vec<String>>,
    /// What happened, for the table: by name.
    pub(crate) seen: RefCell<BTreeMap<&'static str, u64>>,
    /// Digest of every outcome, in order.
    pub(crate) digest: Cell<u64>,
    /// When the drain began, in virtual nanoseconds.
    pub(crate) drained_ns: Cell<Option<u64>>,
    pub(crate) tracing: bool,
    /// Cases whose connection the proxy took for TCP: nobody rewrites them.
    pub(crate) opaque: RefCell<Vec<usize>>,
    pub(crate) upstream_connections: Cell<usize>,
    pub(crate) upstream_live: Cell<usize>,
    /// Final responses that clients have read to their end.
    pub(crate) responses_read: Cell<u64>,
    pub(crate) bytes_to_upstreams: Cell<u64>,
}

impl Oracle {
    pub(crate) fn new(topology: Topology, tracing: bool) -> Self {
        let sessions = topology.clients.iter().flatten();
        let mut cases: Vec<Rc<Case>> =
            sessions.flat_map(|session| session.cases.iter().cloned()).collect();
        cases.sort_by_key(|case| case.id);
        Self {
            cases,
            topology,
            violations: RefCell::default(),
            seen: RefCell::default(),
            digest: Cell::new(0),
            drained_ns: Cell::new(None),
            tracing,
            opaque: RefCell::default(),
            upstream_connections: Cell::new(0),
            upstream_live: Cell::new(0),
            responses_read: Cell::new(0),
            bytes_to_upstreams: Cell::new(0),
        }
    }

    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        if self.tracing {
            let now = lateen_ring::now().as_nanos() / 1_000;
            println!("{:>8}.{:03} ms  {}", now / 1_000, now % 1_000, line());
        }
    }

    pub(crate) fn fail(&self, what: String) {
        self.trace(|| format!("VIOLATION: {what}"));
        self.violations.borrow_mut().push(what);
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.seen.borrow_mut().entry(what).or_default() += 1;
    }

    fn mix(&self, word: u64) {
        let mixed = (self.digest.get() ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.digest.set(mixed.rotate_left(29));
    }

    /// Notes and judges what became of a case; `behind`: what its client pipelined behind it.
    pub(crate) fn conclude(
        &self,
        case: &Case,
        behind: &[Rc<Case>],
        outcome: Outcome,
        detail: &str,
    ) {
        self.trace(|| format!("case {}: {outcome:?} {detail}", case.id));
        self.mix(case.id as u64);
        self.mix(lateen_ring::now().as_nanos());
        self.count(match &outcome {
            Outcome::Answered => "answered",
            Outcome::Reply(_) => "replied by the proxy",
            Outcome::Broken(_) => "broken off",
            Outcome::Unanswered => "closed unanswered",
        });
        let opaque = self.opaque.borrow().contains(&case.id);
        if !opaque && let Err(why) = self.judge(case, behind, &outcome) {
            self.fail(format!("case {} {outcome:?}: {why} ({detail}) in {case:?}", case.id));
        }
        case.run.borrow_mut().concluded_ns = lateen_ring::now().as_nanos();
        let before = case.run.borrow_mut().outcome.replace(outcome);
        if before.is_some() {
            self.fail(format!("case {} came to two ends", case.id));
        }
    }

    /// A request's connection was joined to an upstream, so that nobody looks at what it says: right
    /// for what is no request, or stops in its first line.
    pub(crate) fn taken_for_tcp(&self, id: Option<usize>) {
        let case = id.and_then(|id| self.cases.get(id));
        let honest = |case: &Rc<Case>| {
            case.flaw == Flaw::None && matches!(case.form, Form::Exchange | Form::Upgrade { .. })
        };
        if case.is_some_and(honest) && self.topology.weather != Weather::Stormy {
            self.fail(format!("a request was taken for TCP: {case:?}"));
        }
        self.opaque.borrow_mut().extend(id);
    }

    fn judge(&self, case: &Case, behind: &[Rc<Case>], outcome: &Outcome) -> Result<(), String> {
        match outcome {
            Outcome::Answered => self.judge_answered(case),
            Outcome::Reply(status) => {
                let allowed = self.statuses(case);
                if allowed.contains(status) {
                    return Ok(());
                }
                Err(format!("the proxy may answer {allowed:?}"))
            }
            Outcome::Broken(_) | Outcome::Unanswered if self.may_break(case, behind) => Ok(()),
            Outcome::Broken(_) | Outcome::Unanswered => Err("nothing excuses it".to_owned()),
        }
    }

    fn judge_answered(&self, case: &Case) -> Result<(), String> {
        if matches!(case.form, Form::Refused(_)) {
            return Err("it had to be refused".to_owned());
        }
        let fatal = matches!(
            case.mishap,
            Mishap::ResetAt(_)
                | Mishap::FinAt(_)
                | Mishap::StallAt(_)
                | Mishap::Garbage
                | Mishap::UnaskedUpgrade
                | Mishap::BadChunk
                | Mishap::ManyInterim
                | Mishap::BadLength
        );
        if fatal && case.form == Form::Exchange {
            return Err("no whole answer was given to it".to_owned());
        }
        let run = case.run.borrow();
        if run.arrivals.is_empty() {
            return Err("no upstream has seen it".to_owned());
        }
        if is_too_long(&self.topology.config, case.body) && case.answer.early.is_none() {
            return Err("its body is longer than allowed".to_owned());
        }
        Ok(())
    }

    /// Statuses with which the proxy may answer in the upstream's stead.
    fn statuses(&self, case: &Case) -> Vec<u16> {
        let world = &self.topology;
        let capped = world.idle_cuts && world.speech == Speech::Http;
        if let Form::Refused(malformed) = case.form {
            let mut statuses = vec![malformed.status()];
            statuses.extend(capped.then_some(503));
            return statuses;
        }
        let mut statuses = match case.mishap {
            Mishap::None | Mishap::SilentClose | Mishap::Unasked(_) => vec![],
            Mishap::StallAt(_) => vec![504],
            _ => vec![502],
        };
        match case.flaw {
            Flaw::StallAt(_) => statuses.push(408),
            Flaw::BadChunk => statuses.push(400),
            _ => {}
        }
        if case.answer.early == Some(AfterEarly::Closes) {
            statuses.push(502);
        }
        if world.weather == Weather::Stormy {
            statuses.extend([408, 502, 503, 504]);
        }
        if !world.is_served() || capped {
            statuses.push(503);
        }
        if world.config.timeouts.request.is_some() {
            statuses.push(504);
        }
        if is_too_long(&world.config, case.body) {
            statuses.push(413);
        }
        // A pooled connection may die under a request; what can be sent again is, to a fresh one.
        if world.silent_closes && !(case.is_idempotent() && case.body == Body::None) {
            statuses.push(502);
        }
        if world.unasked {
            statuses.push(502);
        }
        statuses
    }

    /// Whether the client may be left without an answer that it can take for whole.
    fn may_break(&self, case: &Case, behind: &[Rc<Case>]) -> bool {
        let world = &self.topology;
        // Where a connection closes over more than is discarded, the reset overtakes answers.
        let unread =
            case.body.bytes() + behind.iter().map(|case| case.request_bytes().len()).sum::<usize>();
        let may_close = |case: &Case| {
            case.answer.early.is_some()
                || case.mishap != Mishap::None
                || matches!(case.form, Form::Refused(_))
                || !self.statuses(case).is_empty()
        };
        let body_unread = unread > DISCARDED_FOR_SURE
            && (self.drained_ns.get().is_some()
                || may_close(case)
                || behind.iter().any(|case| may_close(case)));
        // Whose protocol is unknown, or not HTTP, can only be told by a reset that there is nobody.
        let wordless = matches!(case.form, Form::Tcp { .. }) || world.speech == Speech::Mixed;
        let unserved =
            wordless && (!world.is_served() || world.upstreams.iter().any(|one| one.black_hole));
        body_unread
            || unserved
            || case.flaw != Flaw::None
            || is_too_long(&world.config, case.body)
            || matches!(
                case.mishap,
                Mishap::ResetAt(_) | Mishap::FinAt(_) | Mishap::StallAt(_) | Mishap::BadChunk
            )
            || case.answer.early == Some(AfterEarly::Closes)
            || world.weather == Weather::Stormy
            || world.config.timeouts.request.is_some()
            || world.idle_cuts
            || self.drain_excuses(case)
    }

    fn drain_excuses(&self, case: &Case) -> bool {
        let Some(drained_ns) = self.drained_ns.get() else { return false };
        let late = case.run.borrow().began_ns + DRAIN_MARGIN_NS > drained_ns;
        late || self.is_cut_short()
    }

    /// Whether the drain ends before what is in flight does.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.topology.drain_at.is_some() && self.topology.config.drain.timeout.as_secs() < 10
    }

    /// Whether no byte may be lost on the way from the proxy to its upstreams.
    pub(crate) fn is_peaceful(&self) -> bool {
        let world = &self.topology;
        let harmless = |case: &Rc<Case>| {
            case.flaw == Flaw::None
                && case.mishap == Mishap::None
                && case.answer.early.is_none()
                && !is_too_long(&world.config, case.body)
        };
        self.is_fair()
            && !world.silent_closes
            && world.config.timeouts.request.is_none()
            && self.cases.iter().all(harmless)
    }

    /// Whether nothing but the rules decides over what becomes of a case that is honest.
    pub(crate) fn is_fair(&self) -> bool {
        let world = &self.topology;
        world.weather != Weather::Stormy && !world.idle_cuts && world.drain_at.is_none()
    }

    /// Notes that a case came to an upstream, and judges whether it may have.
    pub(crate) fn arrives(&self, case: &Case, arrival: Arrival) {
        self.trace(|| format!("case {} arrives: {arrival:?}", case.id));
        if matches!(case.form, Form::Refused(_)) {
            self.fail(format!("case {} {:?} was forwarded", case.id, case.form));
        }
        let mut run = case.run.borrow_mut();
        if let Some(before) = run.arrivals.last() {
            self.count("requests replayed");
            // Connected ahead for a silent client, a connection is pooled without ever being used.
            let fresh = before.earlier == 0 && self.topology.speech == Speech::Http;
            let lost = self.topology.weather == Weather::Stormy || reset_soon(case);
            let why = if !case.is_idempotent() {
                Some("it is not idempotent")
            } else if run.arrivals.len() > 1 {
                Some("it was replayed before")
            } else if fresh {
                Some("its connection was no pooled one")
            } else if before.connection == arrival.connection {
                Some("its connection was still good")
            } else if before.answered && !lost {
                Some("it was being answered")
            } else {
                None
            };
            if let Some(why) = why {
                self.fail(format!("case {} came twice, though {why}: {case:?}", case.id));
            }
        }
        run.arrivals.push(arrival);
    }
}

/// Whether a reset of the upstream's may overtake what it had said.
fn reset_soon(case: &Case) -> bool {
    matches!(case.mishap, Mishap::ResetAt(_)) || case.answer.early == Some(AfterEarly::Closes)
}
