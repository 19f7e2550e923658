//! Where the process is in its life, as `/ready` tells it.

use std::sync::atomic::{AtomicU8, Ordering};

/// A phase of the process's life; they only ever follow each other in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Not every listener accepts yet.
    Starting,
    /// Every worker accepts.
    Ready,
    /// A drain has begun: load balancers should go elsewhere.
    Draining,
}

/// The phase, shared by the main thread (which sets it), the admin and the workers.
#[derive(Debug)]
pub struct Lifecycle(AtomicU8);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(AtomicU8::new(Phase::Starting as u8))
    }
}

impl Lifecycle {
    /// Enters `phase`; a step back is ignored, so that "ready" cannot undo a drain that began
    /// first.
    pub fn enter(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_go_forward() {
        let lifecycle = Lifecycle::default();
        assert_eq!(lifecycle.phase(), Phase::Starting);
        lifecycle.enter(Phase::Ready);
        assert_eq!(lifecycle.phase(), Phase::Ready);
        lifecycle.enter(Phase::Draining);
        lifecycle.enter(Phase::Ready);
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }
}
