//! Bytes that have arrived on a stream and were not used yet.
//!
//! Before: a receive lent a buffer. After: the codec parses, or a transfer sends them on. Bytes are
//! parsed where the kernel put them as long as one buffer holds them all; what must outlive the
//! worker's turn moves to memory of its own, because the worker's receive buffers are few.

use lateen_ring::{Chunk, Lease};

/// Unused bytes: a lent buffer, or kept bytes, or neither.
#[derive(Debug, Default)]
pub struct Received {
    lease: Option<Lease>,
    kept: Vec<u8>,
    /// Bytes of `kept` that were used already.
    used: usize,
}

impl Received {
    /// The bytes, all in one piece.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.lease {
            Some(lease) => lease,
            None => &self.kept[self.used..],
        }
    }

    /// True if there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Appends what a receive lent.
    #[inline]
    pub fn push(&mut self, lease: Lease) {
        if self.is_empty() {
            self.clear();
            self.lease = Some(lease);
        } else {
            self.settle();
            self.kept.extend_from_slice(&lease);
        }
    }

    /// Takes over bytes that were read in bulk, when all others are used.
    pub fn replace(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.is_empty(), "unused bytes come first");
        self.lease = None;
        self.kept = bytes;
        self.used = 0;
    }

    /// Moves the bytes out of the lent buffer: to be called before waiting for more.
    pub fn settle(&mut self) {
        if let Some(lease) = self.lease.take() {
            debug_assert!(self.used == self.kept.len(), "a lease follows used bytes only");
            self.kept.clear();
            self.used = 0;
            self.kept.extend_from_slice(&lease);
        }
    }

    /// The first `count` bytes were used.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        match &mut self.lease {
            Some(lease) => {
                lease.advance(count);
                if lease.is_empty() {
                    self.lease = None;
                }
            }
            None => {
                self.used += count;
                debug_assert!(self.used <= self.kept.len(), "no more is used than there is");
                if self.used == self.kept.len() {
                    self.clear();
                }
            }
        }
    }

    /// Takes the first `count` bytes as something to send, without a copy where they are all there
    /// is in a lent buffer.
    pub fn take(&mut self, count: usize) -> Chunk {
        if let Some(lease) = self.lease.take_if(|lease| lease.len() == count) {
            return Chunk::Lease(lease);
        }
        if self.lease.is_none() && self.used == 0 && self.kept.len() == count {
            return Chunk::Vector(std::mem::take(&mut self.kept));
        }
        let mut bytes = lateen_ring::spare_vector();
        bytes.extend_from_slice(&self.bytes()[..count]);
        self.consume(count);
        Chunk::Vector(bytes)
    }

    fn clear(&mut self) {
        self.lease = None;
        if !self.kept.is_empty() {
            self.kept = Vec::new();
        }
        self.used = 0;
    }
}
