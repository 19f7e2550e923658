//! How much there may be at a time: a cap that all workers share.
//!
//! Before: [`Units`] is the process's, one for each cap. After: each worker has a [`UnitLease`] of it;
//! what a worker needs no longer it keeps for its own next need, as long as that is little and nobody
//! waits for it. Where the cap is small nothing is kept: a unit that lies about somewhere would be missed.

/// Caps below that, for each worker, are lent unit by unit. Source: issue.
const SINGLE_BELOW: u64 = 16;

/// Workers keep no more than the cap divided by this unused, all of them together: 1.6 %.
const UNUSED_SHARE: u64 = 64;

/// How many units a worker is lent at a time.
pub fn batch_size(cap: u64, workers: usize) -> u64 {
    let workers = workers.max(1) as u64;
    match cap < SINGLE_BELOW * workers {
        true => 1,
        false => (cap / (UNUSED_SHARE * workers)).max(1),
    }
}

/// What of a cap is lent, to all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    lent: u64,
}

impl Units {
    /// Lends up to `wanted`; how many. A cap that is lower now than what is lent lends nothing until
    /// enough came back.
    pub fn lend(&mut self, cap: u64, wanted: u64) -> u64 {
        let granted = cap.saturating_sub(self.lent).min(wanted);
        self.lent += granted;
        granted
    }

    /// So many came back.
    pub fn take_back(&mut self, count: u64) {
        debug_assert!(count <= self.lent, "only what was lent comes back");
        self.lent = self.lent.saturating_sub(count);
    }

    /// How many are lent.
    pub fn lent(&self) -> u64 {
        self.lent
    }
}

/// What a worker has of a cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitLease {
    in_use: u64,
    spare: u64,
}

impl UnitLease {
    /// Takes one into use, if one is spare. `false`: [`Units::lend`], then [`lent`](Self::lent).
    #[inline]
    pub fn take(&mut self) -> bool {
        if self.spare == 0 {
            return false;
        }
        self.spare -= 1;
        self.in_use += 1;
        true
    }

    /// So many were lent.
    pub fn lent(&mut self, count: u64) {
        self.spare += count;
    }

    /// One is in use no longer. Says how many go back: all that are spare if they are lent one by one or
    /// if somebody waits for them, else what is more than a batch.
    #[inline]
    pub fn release(&mut self, batch: u64, is_wanted: bool) -> u64 {
        debug_assert!(self.in_use > 0, "a release without a take");
        self.in_use = self.in_use.saturating_sub(1);
        self.spare += 1;
        if batch > 1 && !is_wanted && self.spare <= batch {
            return 0;
        }
        // Half a batch stays where more than one is lent, so that one more and one less in use by turns
        // lends nothing.
        let kept = if batch > 1 && !is_wanted { batch / 2 } else { 0 };
        let back = self.spare.saturating_sub(kept);
        self.spare -= back;
        back
    }

    /// Gives up what is spare beyond what [`release`](Self::release) would keep, or all of it. How many.
    pub fn give_up(&mut self, batch: u64, all: bool) -> u64 {
        let kept = if batch > 1 && !all { self.spare.min(batch) } else { 0 };
        let back = self.spare - kept;
        self.spare = kept;
        back
    }

    /// How many are in use.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// How many it has beyond that.
    pub fn spare(&self) -> u64 {
        self.spare
    }
}
