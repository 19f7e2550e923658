//! What is given up for who needs its place: connections that idle, and those that were made for a client who
//! has said nothing yet.
//!
//! Before: the cap of connections is reached. After: whoever looks after such a connection, on whatever worker,
//! knows that its place is wanted.

use std::sync::Arc;
use std::task::Waker;

use super::Bulkhead;
use super::total::{Resource, Spare};

impl Bulkhead {
    /// There was no room: what idles of it is to be given up.
    pub(super) fn recall(&self, of: Resource, waits: bool) {
        if of == Resource::Connection {
            self.totals.bulkhead.recall(waits);
            self.totals.bulkhead.recall_spare();
        }
    }

    /// Somebody asked for a connection in vain, who has less need of it than a request and does not wait: one
    /// that idles is given up, so that there is room the next time.
    pub fn recall_idle(&self) {
        self.totals.bulkhead.recall(false);
    }

    /// A connection idles: who asks for one can have it, on whatever worker.
    #[inline]
    pub fn note_idle(&self) {
        self.gate(Resource::Connection).clear_failing();
    }

    /// An idle connection was given up for another worker.
    pub fn note_recalled(&self) {
        self.metrics().recalled.increment();
    }

    /// A connection that can be given up for who needs its place; until [`leave_spare`](Self::leave_spare).
    pub fn enter_spare(&self, keeper: Waker) -> Arc<Spare> {
        self.totals.bulkhead.enter_spare(keeper)
    }

    /// It is none any more.
    pub fn leave_spare(&self, spare: &Arc<Spare>) {
        self.totals.bulkhead.leave_spare(spare);
    }

    /// Who looks after this worker's idle connections to a part of the service.
    pub fn enter_keeper(&self, waker: &Waker) {
        self.totals.bulkhead.enter_keeper(waker);
    }

    /// It does so no more.
    pub fn leave_keeper(&self, waker: &Waker) {
        self.totals.bulkhead.leave_keeper(waker);
    }
}
