//! What one connected proxy has been sent, what it answered, and what is next. Pure.
//!
//! ```text
//!            want                 take                 answer
//!  settled ───────► something next ───► outstanding ─────────────► settled, or the next
//!                     ▲   │ want: the newer one        │ no answer in time
//!                     └───┘ takes its place            ▼
//!                                         unanswered: shown; only something newer is sent
//! ```
//!
//! Before: [`registry`](super::registry) was told what the proxy should run. After: the connection's
//! writer sends what [`take`](Delivery::take) gives. One snapshot is outstanding at a time. Nothing is
//! sent twice on one connection: a proxy that can't answer would not do so the second time.

use std::sync::Arc;
use std::time::Instant;

use lateen_snapshot::model::Epoch;

use super::encodings::Encodings;
use super::limits::UNASKED_ANSWERS_MAX;

/// See the module.
pub(super) struct Delivery {
    running: Option<Epoch>,
    next: Option<Arc<Encodings>>,
    outstanding: Option<Outstanding>,
    unanswered: Option<Epoch>,
    unasked: u32,
}

struct Outstanding {
    epoch: Epoch,
    /// `None` while it is being sent.
    answer_by: Option<Instant>,
}

/// The proxy answers what it was never sent, again and again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unasked;

impl Delivery {
    /// `running`: as the proxy's Hello says.
    pub(super) fn new(running: Option<Epoch>) -> Self {
        Self { running, next: None, outstanding: None, unanswered: None, unasked: 0 }
    }

    /// What the proxy says that it runs.
    pub(super) fn running(&self) -> Option<Epoch> {
        self.running
    }

    /// Whether this was sent and not answered in time.
    pub(super) fn is_unanswered(&self, epoch: Epoch) -> bool {
        self.unanswered == Some(epoch)
    }

    /// Puts something into the place of what is next, unless the proxy runs it. Returns what was
    /// there, which may be large to free.
    pub(super) fn want(&mut self, wanted: Arc<Encodings>) -> Option<Arc<Encodings>> {
        // What it runs may change until the outstanding answer comes.
        if self.outstanding.is_none() && self.running == Some(wanted.epoch) {
            return self.next.take();
        }
        self.next.replace(wanted)
    }

    /// There is nothing to run any more.
    pub(super) fn want_nothing(&mut self) -> Option<Arc<Encodings>> {
        self.next.take()
    }

    /// What to send now, which is outstanding from now on.
    pub(super) fn take(&mut self) -> Option<Arc<Encodings>> {
        if self.outstanding.is_some() {
            return None;
        }
        let next = self.next.take()?;
        self.outstanding = Some(Outstanding { epoch: next.epoch, answer_by: None });
        Some(next)
    }

    /// It has been sent; from now on the proxy's time runs. Its answer may have come already.
    pub(super) fn sent(&mut self, epoch: Epoch, answer_by: Instant) {
        if let Some(outstanding) = &mut self.outstanding
            && outstanding.epoch == epoch
        {
            outstanding.answer_by = Some(answer_by);
        }
    }

    /// When to call [`expire`](Self::expire).
    pub(super) fn answer_by(&self) -> Option<Instant> {
        self.outstanding.as_ref()?.answer_by
    }

    /// Gives up waiting for an answer that is late; whether there was one.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        if self.answer_by().is_none_or(|at| at > now) {
            return false;
        }
        self.unanswered = self.outstanding.take().map(|outstanding| outstanding.epoch);
        true
    }

    /// Every worker runs this. What a proxy says that it runs is what it runs, asked or not: the
    /// answer may belong to its last connection.
    pub(super) fn applied(&mut self, epoch: Epoch) -> Result<Option<Arc<Encodings>>, Unasked> {
        self.settle(epoch)?;
        self.running = Some(epoch);
        Ok(self.next.take_if(|next| next.epoch == epoch))
    }

    /// No worker runs this.
    pub(super) fn rejected(&mut self, epoch: Epoch) -> Result<(), Unasked> {
        self.settle(epoch)
    }

    fn settle(&mut self, epoch: Epoch) -> Result<(), Unasked> {
        let is_asked = match &self.outstanding {
            Some(outstanding) if outstanding.epoch == epoch => {
                self.outstanding = None;
                true
            }
            _ => self.unanswered == Some(epoch),
        };
        if self.unanswered == Some(epoch) {
            self.unanswered = None;
        }
        self.unasked = if is_asked { 0 } else { self.unasked + 1 };
        if self.unasked > UNASKED_ANSWERS_MAX { Err(Unasked) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn epoch(number: u64) -> Epoch {
        Epoch { store: 7, number }
    }

    fn encodings(number: u64) -> Arc<Encodings> {
        Arc::new(Encodings::new(epoch(number), Arc::default()))
    }

    fn taken(delivery: &mut Delivery) -> Option<u64> {
        delivery.take().map(|encodings| encodings.epoch.number)
    }

    #[test]
    fn what_runs_already_is_not_sent() {
        let mut delivery = Delivery::new(Some(epoch(3)));
        delivery.want(encodings(3));
        assert_eq!(taken(&mut delivery), None);
        // Nor what the proxy got on its last connection and reports on this one.
        delivery.want(encodings(4));
        delivery.applied(epoch(4)).expect("once");
        assert_eq!(taken(&mut delivery), None);
        assert_eq!(delivery.running(), Some(epoch(4)));
    }

    #[test]
    fn another_store_is_replaced_whatever_its_number() {
        let mut delivery = Delivery::new(Some(Epoch { store: 8, number: 900 }));
        delivery.want(encodings(1));
        assert_eq!(taken(&mut delivery), Some(1));
    }

    #[test]
    fn while_one_is_outstanding_only_the_newest_waits() {
        let mut delivery = Delivery::new(None);
        delivery.want(encodings(1));
        assert_eq!(taken(&mut delivery), Some(1));
        for number in 2..=9 {
            delivery.want(encodings(number));
            assert_eq!(taken(&mut delivery), None);
        }
        delivery.rejected(epoch(1)).expect("asked");
        assert_eq!(delivery.running(), None);
        assert_eq!(taken(&mut delivery), Some(9));
        delivery.applied(epoch(9)).expect("asked");
        assert_eq!((delivery.running(), taken(&mut delivery)), (Some(epoch(9)), None));
    }

    #[test]
    fn what_ran_before_is_sent_again_if_something_else_is_outstanding() {
        let mut delivery = Delivery::new(Some(epoch(1)));
        delivery.want(encodings(2));
        assert_eq!(taken(&mut delivery), Some(2));
        delivery.want(encodings(1));
        delivery.applied(epoch(2)).expect("asked");
        assert_eq!(taken(&mut delivery), Some(1));
    }

    #[test]
    fn no_answer_is_noted_and_nothing_is_sent_again() {
        let start = Instant::now();
        let late = start + Duration::from_secs(1);
        let mut delivery = Delivery::new(None);
        delivery.want(encodings(1));
        assert_eq!(taken(&mut delivery), Some(1));
        assert!(!delivery.expire(late), "it is still being sent");
        delivery.sent(epoch(1), late);
        assert!(!delivery.expire(start));
        assert!(delivery.expire(late) && delivery.is_unanswered(epoch(1)));
        assert!(!delivery.expire(late), "once");
        assert_eq!(taken(&mut delivery), None);
        // Something newer is another matter.
        delivery.want(encodings(2));
        assert_eq!(taken(&mut delivery), Some(2));
        // A late answer counts, and is not the one that is outstanding.
        delivery.applied(epoch(1)).expect("asked");
        assert!(!delivery.is_unanswered(epoch(1)));
        assert_eq!((delivery.running(), taken(&mut delivery)), (Some(epoch(1)), None));
    }

    #[test]
    fn an_answer_before_the_end_of_sending_leaves_no_deadline() {
        let mut delivery = Delivery::new(None);
        delivery.want(encodings(1));
        assert_eq!(taken(&mut delivery), Some(1));
        delivery.applied(epoch(1)).expect("asked");
        delivery.sent(epoch(1), Instant::now());
        assert_eq!(delivery.answer_by(), None);
    }

    #[test]
    fn a_flood_of_answers_ends() {
        let mut delivery = Delivery::new(None);
        let mut flood = || (0..100).take_while(|_| delivery.rejected(epoch(5)).is_ok()).count();
        assert_eq!(flood(), UNASKED_ANSWERS_MAX as usize);
    }
}
