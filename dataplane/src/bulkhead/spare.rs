//! Units of caps that a worker has and does not use.
//!
//! Before: a worker was lent more than it took, or something ended here. After: what was of no use for a while,
//! or is more than lower caps let a worker keep, is the process's again.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::Poll;

use lateen_ring::spawn;

use crate::bulkhead::Bulkhead;
use crate::bulkhead::total::Resource;
use crate::decide::lease::count::batch_size;
use crate::limits;

impl Bulkhead {
    /// What is spare here goes back, `all` of it or what is more than a worker keeps of such a cap: others may
    /// ask for it in vain, and nothing may ever end here that would give it back.
    pub(super) fn give_up(&self, of: Resource, all: bool) {
        let lease = &self.leases[of as usize];
        let mut units = lease.get();
        let back = units.give_up(batch_size(self.cap(of), self.workers), all);
        lease.set(units);
        if back > 0 {
            self.gate(of).take_back(back, lateen_ring::now().as_nanos());
        }
    }

    /// Looks after what is spare from now on, unless that is done already.
    pub(super) fn look_after_spare(self: &Rc<Self>) {
        let mut looks_after = self.looks_after.borrow_mut();
        if looks_after.is_none() {
            *looks_after = Some(spawn(give_up_unused(Rc::downgrade(self))));
        }
        self.note_spare();
    }

    /// Something may be spare.
    #[inline]
    pub(super) fn note_spare(&self) {
        if let Some(task) = self.rests.take() {
            task.wake();
        }
    }
}

/// Gives up what nobody takes. Sleeps while nothing is spare.
async fn give_up_unused(of: Weak<Bulkhead>) {
    let leases_of = |bulkhead: &Bulkhead| bulkhead.leases.each_ref().map(Cell::get);
    loop {
        poll_fn(|cx| {
            let Some(bulkhead) = of.upgrade() else { return Poll::Ready(()) };
            if leases_of(&bulkhead).iter().any(|units| units.spare() > 0) {
                return Poll::Ready(());
            }
            bulkhead.rests.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        let Some(before) = of.upgrade().map(|bulkhead| leases_of(&bulkhead)) else { return };
        lateen_ring::sleep(limits::BULKHEAD_UNUSED).await;
        let Some(bulkhead) = of.upgrade() else { return };
        for of in Resource::ALL {
            if before[of as usize] == bulkhead.leases[of as usize].get() {
                bulkhead.give_up(of, true);
            }
        }
    }
}
