//! Planted bugs: proof that the simulated worlds (`tests/world`) would find real ones.
//!
//! Before: a test of this crate, built with the feature `plant`, asks for one on its thread. After:
//! the room that has it misbehaves, and the worlds must notice. Without the feature, which nothing
//! but this package's own tests turns on, [`has`] is a constant `false` and nothing of a bug is
//! compiled into the proxy.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The pool keeps connections with unread bytes.
    StaleConnectionKept,
    /// A byte of a body is lost when a read brings less than was asked for.
    ByteLostOnShortRead,
    /// A request that is not idempotent is sent again.
    PostReplayed,
    /// A truncated body that only the close delimits ends with a FIN.
    TruncationUnmarked,
    /// The client is told to go on though its request is still coming.
    KeptAliveAfterEarlyAnswer,
    /// A receive buffer is not given back.
    LeaseLeaked,
    /// An idle client's deadline is not set.
    IdleUnbounded,
    /// What a client pipelined is thrown away.
    PipelinedDropped,
    /// A field that `Connection` nominates goes on to the next hop.
    NominatedForwarded,
    /// A request counts as load of its endpoint for ever.
    LoadKept,
}

impl Plant {
    /// Every bug.
    pub const ALL: [Self; 10] = [
        Self::StaleConnectionKept,
        Self::ByteLostOnShortRead,
        Self::PostReplayed,
        Self::TruncationUnmarked,
        Self::KeptAliveAfterEarlyAnswer,
        Self::LeaseLeaked,
        Self::IdleUnbounded,
        Self::PipelinedDropped,
        Self::NominatedForwarded,
        Self::LoadKept,
    ];
}

#[cfg(feature = "plant")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Plant>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug on this thread, or takes it out.
#[cfg(feature = "plant")]
pub fn set(plant: Option<Plant>) {
    PLANTED.set(plant);
}

/// Whether this bug is planted on this thread.
#[cfg(feature = "plant")]
pub(crate) fn has(plant: Plant) -> bool {
    PLANTED.get() == Some(plant)
}

/// Whether this bug is planted: never, in a proxy.
#[cfg(not(feature = "plant"))]
#[inline(always)]
pub(crate) const fn has(_: Plant) -> bool {
    false
}
