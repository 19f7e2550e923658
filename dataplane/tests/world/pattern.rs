//! Bodies that say whose they are: every byte follows from the case, the direction and its offset.
//!
//! Slices of one long random text, each body from a start of its own, so that making and checking
//! cost a copy and a compare, and bytes that are lost, repeated, swapped or another case's differ.

use std::sync::LazyLock;

/// Bytes before the text repeats: a prime, so that no buffer size divides it.
const PERIOD: usize = 65_521;

static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x1234_5678_9abc_def0_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..PERIOD).map(next).collect()
});

/// Which of a case's byte streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The client's request body.
    Request,
    /// The upstream's response body.
    Answer,
    /// A tunnel's bytes, client to upstream.
    Up,
    /// A tunnel's bytes, upstream to client.
    Down,
}

fn start(id: usize, lane: Lane) -> usize {
    (id * 7_919 + lane as usize * 30_011) % PERIOD
}

/// Appends `count` bytes of a body from `offset` on.
pub(crate) fn append(out: &mut Vec<u8>, id: usize, lane: Lane, offset: usize, count: usize) {
    let mut at = (start(id, lane) + offset) % PERIOD;
    let mut left = count;
    while left > 0 {
        let part = left.min(PERIOD - at);
        out.extend_from_slice(&TEXT[at..at + part]);
        left -= part;
        at = 0;
    }
}

/// Whether `bytes` are those of a body from `offset` on.
pub(crate) fn matches(bytes: &[u8], id: usize, lane: Lane, offset: usize) -> bool {
    let mut at = (start(id, lane) + offset) % PERIOD;
    let mut rest = bytes;
    while !rest.is_empty() {
        let part = rest.len().min(PERIOD - at);
        if rest[..part] != TEXT[at..at + part] {
            return false;
        }
        rest = &rest[part..];
        at = 0;
    }
    true
}
