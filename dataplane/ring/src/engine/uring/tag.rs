//! A completion's tag: the kind of operation, the socket's slot, and the slot's generation.

use crate::socket::{GENERATION_MASK, SocketKey};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Recv = 1,
    Send,
    Connect,
    Accept,
    Readable,
    Writable,
    HungUp,
    Cancel,
    Probe,
    Called,
}

impl Kind {
    pub(super) fn from_tag(tag: u64) -> Self {
        match (tag >> 56) as u8 {
            1 => Self::Recv,
            2 => Self::Send,
            3 => Self::Connect,
            4 => Self::Accept,
            5 => Self::Readable,
            6 => Self::Writable,
            7 => Self::HungUp,
            8 => Self::Cancel,
            9 => Self::Probe,
            _ => Self::Called,
        }
    }
}

pub(super) fn tag(kind: Kind, key: SocketKey) -> u64 {
    debug_assert!(key.generation <= GENERATION_MASK, "generations are cut to 24 bits");
    (kind as u64) << 56 | u64::from(key.generation) << 32 | u64::from(key.index)
}

pub(super) fn key_of(tag: u64) -> SocketKey {
    SocketKey { index: tag as u32, generation: (tag >> 32) as u32 & GENERATION_MASK }
}
